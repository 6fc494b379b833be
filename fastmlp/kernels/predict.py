"""Forward only: rows in, outputs out, nothing kept."""

from __future__ import annotations

from fastmlp.kernels.forward import affine, few_outputs, hidden_layer, rounded
from fastmlp.kernels.jit import device, kernel, part
from fastmlp.kernels.loops import activate
from fastmlp.kernels.operands import Worker
from fastmlp.kernels.output import block_elements, softmax, transpose_panel
from fastmlp.kernels.plan import (
    AHEAD_LINES,
    FEW_OUTPUTS,
    FIRST_ROW,
    INDICES_ADDRESS,
    LAST_ROW,
    LINE_BYTES,
    NOBODY,
    OUT_ADDRESS,
    PAGE_BYTES,
    PANEL_ROWS,
    PIECE_PANELS,
    RUN,
    STARTS_ADDRESS,
    WORKING,
    X_ADDRESS,
    ZERO,
)
from fastmlp.kernels.processors import take_place
from fastmlp.kernels.simd import array_at, as_type_of, copy, flush_denormals, index, lanes, prefetch, restore_denormals
from fastmlp.kernels.sparse import sparse_affine
from fastmlp.kernels.team import next_call, take_ticket, wait_while


@device
def zero_if_finite(x, x0, count):
    """0 if all of x (count,) at x0 is finite, else nan."""
    zero = type(x[0])(0)
    seen = zero
    for q in range(count):
        seen += x[index(x0 + q)] * zero
    return seen


@device
def zero_if_column_finite(x, x0, ld, rows):
    """The same of the first column of x (rows, ld) at x0.

    Of weighted sums it tells whether their features are finite: whatever a weight is, one that is not leaves no sum finite.
    """
    zero = type(x[0])(0)
    seen = zero
    for i in range(rows):
        seen += x[index(x0 + i * ld)] * zero
    return seen


@part
def prefetch_run(x, x0, count):
    """Ask for x (count,) at x0, by the beginnings of pieces as long as a page."""
    line = LINE_BYTES // x.itemsize
    page = PAGE_BYTES // x.itemsize
    for q in range(0, count, page):
        for k in range(AHEAD_LINES):
            prefetch(x, x0 + q + k * line)


@device
def compact_rows(source, s0, ld, rows, columns, out, o0):
    """out (rows, columns) at o0 = the first columns of source (rows, ld) at s0, of which ld is a multiple of a vector's length.

    A short row is written as a whole vector, which the rows after it overwrite, except where there are none.
    """
    for i in range(rows):
        count = max(columns, min(lanes(source), (rows - i) * columns))
        copy(source, s0 + i * ld, out, o0 + i * columns, count if count >= lanes(source) else columns)


@device
def transpose_few(layer, parameters, out, o0):
    """out (fan_out, input_width) at o0 = the weights of a layer, transposed; zeros beyond them."""
    zero = type(out[index(o0)])(0)
    for j in range(layer.fan_out):
        row = o0 + j * layer.input_width
        for i in range(layer.input_width):
            out[index(row + i)] = parameters[index(layer.weights + i * layer.width + j)] if i < layer.fan_in else zero


@part
def _first_layer(job, layers, x, indices, starts, start, rows, parameters, scratch, inputs, outputs):
    """The first layer of rows from ``start`` on, where they can be read where they are: sparse ones and whole panels.

    Leaves its outputs at ``outputs``. Other samples, and those of a network of one dense layer, are copied to ``inputs``. Returns
    the layer that comes next, and 0 if all numbers that were read are finite, and so are their weighted sums, else nan.
    """
    bottom = layers[0]
    seen = type(parameters[0])(0)
    if job.sparse:
        sparse_affine(job, bottom, x, indices, starts, starts, start, rows, parameters, scratch, outputs, ZERO, bottom.width)
    elif job.n_layers > 1 and rows == PANEL_ROWS:
        samples = as_type_of(x, scratch)
        affine(layers, ZERO, rows, samples, start * job.features, job.features, parameters, scratch, outputs)
        seen += zero_if_column_finite(scratch, outputs, bottom.width, rows)
    else:
        seen += zero_if_finite(x, start * job.features, rows * job.features)
        for i in range(rows):
            copy(x, (start + i) * job.features, scratch, inputs + i * bottom.input_width, job.features)
        return 0, seen
    if job.n_layers > 1:
        activate(bottom.activate, (scratch, outputs, rounded(rows * bottom.width), bottom.parameter))
    return 1, seen


@part
def _activate_outputs(job, layer, rows, scratch, outputs, z0):
    """The last layer's activation of its logits (rows, width) at ``outputs``; at z0 is room for three blocks and two rows."""
    if layer.by_row:
        block = block_elements(job.outputs)
        transpose_panel(scratch, outputs, layer.width, rows, job.outputs, scratch, z0, PANEL_ROWS)
        softmax(job.outputs, scratch, z0, z0 + block, z0 + 2 * block, z0 + 3 * block)
        transpose_panel(scratch, z0, PANEL_ROWS, job.outputs, rows, scratch, outputs, layer.width)
    else:
        activate(layer.activate, (scratch, outputs, rounded(rows * layer.width), layer.parameter))


@part
def _predict(worker, job, layers, x, indices, starts, parameters, scratch, out, first_row, last_row, piece_panels, finite):
    """One thread's share of :func:`predict_rows`: some panels of rows through all layers, between two buffers in its scratch.

    Threads take ``piece_panels`` panels that follow one another whenever they are done with others.

    Writes 0 to element 8 * thread of ``finite`` if all numbers it has read are finite, and so are their weighted sums, else nan.
    """
    mode = flush_denormals()
    z0 = worker.thread * job.scratch_stride
    p0 = z0 + 3 * block_elements(job.outputs) + 2 * RUN
    last = layers[job.n_layers - 1]
    has_few = job.n_layers > 1 and last.fan_out <= FEW_OUTPUTS
    t0 = z0 + job.scratch_stride - FEW_OUTPUTS * last.input_width
    half = (t0 - p0) // 2
    if has_few:
        transpose_few(last, parameters, scratch, t0)
    seen = type(parameters[0])(0)
    n_panels = (last_row - first_row + PANEL_ROWS - 1) // PANEL_ROWS
    panel, last_panel, piece = 0, 0, NOBODY
    while True:
        if panel == last_panel:
            piece = take_ticket(worker, piece)
            panel, last_panel = piece * piece_panels, min(n_panels, (piece + 1) * piece_panels)
            if panel >= n_panels:
                break
        start = first_row + panel * PANEL_ROWS
        rows = min(PANEL_ROWS, last_row - start)
        inputs, outputs = p0, p0 + half
        if not job.sparse and panel + 1 < last_panel:
            prefetch_run(x, (start + rows) * job.features, rows * job.features)
        first_layer, not_finite = _first_layer(
            job, layers, x, indices, starts, start, rows, parameters, scratch, inputs, outputs
        )  # fmt: skip
        seen += not_finite
        if first_layer == 1 and job.n_layers > 1:
            inputs, outputs = outputs, inputs
        for number in range(first_layer, job.n_layers - 1):
            hidden_layer(layers, number, rows, scratch, inputs, layers[number].input_width, parameters, scratch, outputs)
            inputs, outputs = outputs, inputs
        if has_few:
            few_outputs(last, rows, scratch, inputs, scratch, t0, parameters, scratch, outputs)
        elif first_layer < job.n_layers:
            affine(layers, job.n_layers - 1, rows, scratch, inputs, last.input_width, parameters, scratch, outputs)
        _activate_outputs(job, last, rows, scratch, outputs, z0)
        compact_rows(scratch, outputs, last.width, rows, job.outputs, out, start * job.outputs)
        panel += 1
    finite[index(8 * worker.thread)] = seen
    restore_denormals(mode)


@kernel
def predict_rows(thread, n_threads, sync, calls, jobs, layers, x, indices, starts, parameters, scratch, out, finite):
    """out (rows, outputs) = outputs of the network for some rows of x (rows, features).

    calls: the first row and the one after the last; how many panels a thread takes at once; and the addresses of x, indices, starts
    and out, at which threads find them that have stayed in the kernel from a call with other ones. finite: room of
    (n_threads * 8,). Returns 0 in thread 0 if all numbers that were read are finite, and so are their weighted sums, else nan.
    """
    job = jobs[0]
    worker = Worker(thread, n_threads, sync)
    if n_threads == 1:
        _predict(
            worker, job, layers, x, indices, starts, parameters, scratch, out, calls[FIRST_ROW], calls[LAST_ROW],
            calls[PIECE_PANELS], finite,
        )  # fmt: skip
        return finite[ZERO]
    while True:
        take_place(worker)
        _predict(
            worker, job, layers, array_at(calls[X_ADDRESS], x), array_at(calls[INDICES_ADDRESS], indices),
            array_at(calls[STARTS_ADDRESS], starts), parameters, scratch, array_at(calls[OUT_ADDRESS], out),
            calls[FIRST_ROW], calls[LAST_ROW], calls[PIECE_PANELS], finite,
        )  # fmt: skip
        if thread == 0:
            wait_while(sync, n_threads, WORKING)
            seen = finite[ZERO]  # added up here: numba's sum of an array would have its array functions, and SciPy, imported first
            for other in range(1, n_threads):
                seen += finite[8 * other]
            return seen
        if not next_call(worker):
            return finite[ZERO]
