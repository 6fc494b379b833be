"""Forward only: rows in, outputs out, nothing kept."""

from __future__ import annotations

from fastmlp.kernels.forward import affine, gather_row, hidden_layer
from fastmlp.kernels.jit import kernel
from fastmlp.kernels.output import activate_output, transpose_panel
from fastmlp.kernels.simd import TRANSPOSE, flush_denormals, index, restore_denormals


@kernel
def predict_rows(thread, n_threads, sync, jobs, layers, x, parameters, scratch, out, first_row, last_row):
    """out (rows, outputs) = outputs of the network for rows first_row .. last_row of x (rows, features).

    Each thread takes its own panels of rows through all layers, between two buffers in its scratch memory.
    """
    mode = flush_denormals()
    job = jobs[0]
    ld = job.panel_rows
    block = (job.outputs + TRANSPOSE - 1) // TRANSPOSE * TRANSPOSE * ld
    p0 = thread * job.scratch_stride
    half = (job.scratch_stride - block - ld) // 2
    z0 = p0 + 2 * half
    s0 = z0 + block
    n_panels = (last_row - first_row + ld - 1) // ld
    for panel in range(n_panels * thread // n_threads, n_panels * (thread + 1) // n_threads):
        start = first_row + panel * ld
        rows = min(ld, last_row - start)
        inputs, outputs = p0, p0 + half
        for i in range(rows):
            gather_row(x, job.features, start + i, scratch, inputs + i * layers[0].input_width)
        for number in range(job.n_layers - 1):
            hidden_layer(layers, number, rows, scratch, inputs, layers[number].input_width, parameters, scratch, outputs)
            inputs, outputs = outputs, inputs
        last = layers[job.n_layers - 1]
        affine(layers, job.n_layers - 1, rows, scratch, inputs, last.input_width, parameters, scratch, outputs)
        transpose_panel(scratch, outputs, last.width, rows, job.outputs, scratch, z0, ld)
        activate_output(last, scratch, z0, ld, scratch, s0)
        for i in range(rows):
            for j in range(job.outputs):
                out[index((start + i) * job.outputs + j)] = scratch[index(z0 + j * ld + i)]
    restore_denormals(mode)
