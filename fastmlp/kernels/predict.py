"""Forward only: rows in, outputs out, nothing kept."""

from __future__ import annotations

from fastmlp.kernels.forward import affine, hidden_layer
from fastmlp.kernels.jit import kernel
from fastmlp.kernels.output import activate_output, transpose_panel
from fastmlp.kernels.plan import PANEL_ROWS, RUN
from fastmlp.kernels.simd import TRANSPOSE, copy, flush_denormals, index, restore_denormals


@kernel
def predict_rows(thread, n_threads, sync, jobs, layers, x, parameters, scratch, out, first_row, last_row):
    """out (rows, outputs) = outputs of the network for rows first_row .. last_row of x (rows, features).

    Each thread takes its own panels of rows through all layers, between two buffers in its scratch memory.
    """
    mode = flush_denormals()
    job = jobs[0]
    block = (job.outputs + TRANSPOSE - 1) // TRANSPOSE * TRANSPOSE * PANEL_ROWS
    z0 = thread * job.scratch_stride
    s0 = z0 + 3 * block
    p0 = s0 + 2 * RUN
    half = (job.scratch_stride - 3 * block - 2 * RUN) // 2
    n_panels = (last_row - first_row + PANEL_ROWS - 1) // PANEL_ROWS
    for panel in range(n_panels * thread // n_threads, n_panels * (thread + 1) // n_threads):
        start = first_row + panel * PANEL_ROWS
        rows = min(PANEL_ROWS, last_row - start)
        inputs, outputs = p0, p0 + half
        for i in range(rows):
            copy(x, (start + i) * job.features, scratch, inputs + i * layers[0].input_width, job.features)
        for number in range(job.n_layers - 1):
            hidden_layer(layers, number, rows, scratch, inputs, layers[number].input_width, parameters, scratch, outputs)
            inputs, outputs = outputs, inputs
        last = layers[job.n_layers - 1]
        affine(layers, job.n_layers - 1, rows, scratch, inputs, last.input_width, parameters, scratch, outputs)
        transpose_panel(scratch, outputs, last.width, rows, job.outputs, scratch, z0, PANEL_ROWS)
        activate_output(last, scratch, z0, z0 + block, z0 + 2 * block, s0)
        for i in range(rows):
            for j in range(job.outputs):
                out[index((start + i) * job.outputs + j)] = scratch[index(z0 + j * PANEL_ROWS + i)]
    restore_denormals(mode)
