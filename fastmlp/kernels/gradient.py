"""Gradient: dW_l = a_{l-1}^T d_l and db_l = sum over rows of d_l, block by block, each block updated while it is in the cache."""

from __future__ import annotations

from fastmlp.kernels.jit import device, part
from fastmlp.kernels.loops import update
from fastmlp.kernels.plan import (
    AHEAD_LINES,
    FEW_OUTPUTS,
    FEW_SCRATCH,
    LINE_BYTES,
    NO,
    NOBODY,
    ONE,
    SHRINK,
    STRIP_ROWS,
    TRANSPOSE,
    YES,
    ZERO,
)
from fastmlp.kernels.product import product
from fastmlp.kernels.simd import column_sums, index, prefetch, prefetch_to_write, transpose_block


@device
def first_weight(layer, block):
    """Where a block begins in parameters, gradient and states: the element of its first row and column."""
    return layer.weights + block.row * layer.width + block.column


@device
def spread_columns(source, s0, ld_source, count, rows, columns, out, o0, ld):
    """out (rows, columns) at o0 = the transpose of source (count, rows) at s0, and zeros beyond its columns."""
    zero = type(out[index(o0)])(0)
    for i in range(rows):
        for j in range(columns):
            out[index(o0 + i * ld + j)] = zero
        for j in range(count):
            out[index(o0 + i * ld + j)] = source[index(s0 + j * ld_source + i)]


@part
def _few_outputs_block(layer, block, i0, rows, d, d0, ld_d, out, out0, ld, space):
    """The same sums as a product of the transposes: out^T = d^T a, with vectors along the inputs, which are many."""
    scratch, s0 = space.scratch, space.scratch0 + FEW_SCRATCH
    line = LINE_BYTES // d.itemsize
    width = (block.rows + line - 1) // line * line
    product(
        layer.fan_out, width, rows, d, d0, ONE, ld_d, space.activations, i0, layer.input_width, space.constants, ZERO, ZERO,
        scratch, s0, width, YES, NO,
    )  # fmt: skip
    spread_columns(scratch, s0, width, layer.fan_out, block.rows, block.columns, out, out0, ld)


@part
def gradient_block(job, layers, block, inputs, rows, is_first, packed, d, d0, ld_d, out, out0, ld, exact, space):
    """out (block.rows + block.bias, block.columns) = gradient of a block over rows with inputs (rows, input_width) at ``inputs``.

    It is added to what out holds, unless these are the first rows of a batch. The bias is a weight whose input is
    always 1. d (rows, block.columns) at d0: the deltas, or a packed copy. With ``exact``, nothing beyond the block is written.
    Where ``packed`` is not None, inputs are read in strips.
    """
    activations, constants = space.activations, space.constants
    layer = layers[block.layer]
    initial, i0, ld_i = out, out0, ld
    if is_first:
        initial, i0, ld_i = constants, ZERO, ZERO
    inputs += block.row
    if is_first and layer.fan_out <= FEW_OUTPUTS and block.rows > 0:
        _few_outputs_block(layer, block, inputs, rows, d, d0, ld_d, out, out0, ld, space)
    elif packed is not None:
        for i in range(0, block.rows, STRIP_ROWS):
            strip = job.strips + layer.inputs + (block.row + i) * job.chunk_rows
            product(
                min(STRIP_ROWS, block.rows - i), block.columns, rows, activations, strip, ONE, STRIP_ROWS, d, d0, ld_d,
                initial, i0 + i * ld_i, ld_i, out, out0 + i * ld, ld, exact, NO,
            )  # fmt: skip
    else:
        product(
            block.rows, block.columns, rows, activations, inputs, ONE, layer.input_width, d, d0, ld_d,
            initial, i0, ld_i, out, out0, ld, exact, NO,
        )  # fmt: skip
    if block.bias:
        column_sums(block.columns, d, d0, ld_d, rows, initial, i0 + block.rows * ld_i, out, out0 + block.rows * ld)


@part
def prefetch_weights(layers, block, parameters, transposed):
    """Ask for a block that another thread has just updated."""
    layer = layers[block.layer]
    line = LINE_BYTES // parameters.itemsize
    w0 = first_weight(layer, block)
    for i in range(block.rows + block.bias):
        for j in range(0, block.columns, line):
            prefetch(parameters, w0 + i * layer.width + j)
    if block.layer > 0:
        t0 = layer.transposed + block.column * layer.transposed_width + block.row
        for j in range(min(block.columns, layer.fan_out - block.column)):
            prefetch(transposed, t0 + j * layer.transposed_width)


@part
def prefetch_to_update(layers, block, model, transposed):
    """Ask for what the step of a block reads and writes, where it begins anew, so that it comes while the gradient is computed."""
    parameters, state1, state2 = model.parameters, model.state1, model.state2
    layer = layers[block.layer]
    line = LINE_BYTES // parameters.itemsize
    w0 = first_weight(layer, block)
    runs, count = block.rows + block.bias, block.columns
    if block.columns == layer.width:  # the rows of the block follow one another
        runs, count = 1, runs * block.columns
    for i in range(runs):
        for j in range(0, min(count, AHEAD_LINES * line), line):
            prefetch_to_write(parameters, w0 + i * layer.width + j)
            if len(state1) > 1:
                prefetch_to_write(state1, w0 + i * layer.width + j)
            if len(state2) > 1:
                prefetch_to_write(state2, w0 + i * layer.width + j)
    if transposed is not None and block.layer > 0:
        t0 = layer.transposed + block.column * layer.transposed_width + block.row
        for j in range(min(block.columns, layer.fan_out - block.column)):
            for i in range(0, block.rows, line):
                prefetch_to_write(transposed, t0 + j * layer.transposed_width + i)


@device
def transpose_weights(layers, block, parameters, transposed):
    """Bring the transposed copy of a block of weights up to date; the first layer has none."""
    if block.layer == 0:
        return
    layer = layers[block.layer]
    columns = min(block.columns, layer.fan_out - block.column)
    w0 = first_weight(layer, block)
    t0 = layer.transposed + block.column * layer.transposed_width + block.row
    whole_rows = block.rows // TRANSPOSE * TRANSPOSE
    whole_columns = columns // TRANSPOSE * TRANSPOSE
    for i in range(0, whole_rows, TRANSPOSE):
        for j in range(0, whole_columns, TRANSPOSE):
            transpose_block(
                parameters, w0 + i * layer.width + j, layer.width,
                transposed, t0 + j * layer.transposed_width + i, layer.transposed_width,
            )  # fmt: skip
    for i in range(block.rows):
        start = whole_columns if i < whole_rows else 0
        for j in range(start, columns):
            transposed[index(t0 + j * layer.transposed_width + i)] = parameters[index(w0 + i * layer.width + j)]


@part
def _update_rows(job, layer, block, first, n_rows, model, gradient, g0, ld, shrink, l2, c0):
    """One optimizer step of rows first .. first + n_rows of a block."""
    runs, count = n_rows, block.columns
    if block.columns == layer.width and ld == layer.width:  # the rows of the block follow one another
        runs, count = 1, n_rows * block.columns
    for i in range(first, first + runs):
        w0 = layer.weights + (block.row + i) * layer.width + block.column
        where = (model.parameters, w0, gradient, g0 + i * ld, model.state1, w0, model.state2, w0)
        update(job.update, (*where, model.coefficients, c0, count, shrink, l2))


@device
def scale_block(gradient, g0, ld, rows, columns, factor):
    """Gradient (rows, columns) at g0, times ``factor``."""
    for i in range(rows):
        for j in range(columns):
            gradient[index(g0 + i * ld + j)] *= factor


@part
def update_block(job, layers, block, model, gradient, g0, ld, scale, l2, c0):
    """One optimizer step of a block from its gradient (block.rows + block.bias, block.columns) at g0, times ``scale``.

    ``coefficients`` at c0: those of the step formula, then the factor that weight decay multiplies weights with.
    """
    layer = layers[block.layer]
    shrink = model.coefficients[index(c0 + SHRINK)]
    n_rows = block.rows + block.bias
    if scale != 1.0:
        scale_block(gradient, g0, ld, n_rows, block.columns, type(gradient[index(g0)])(scale))
    penalized = n_rows
    if block.bias and (shrink != 1.0 or l2 != 0.0):  # penalties are for weights, not for biases
        penalized = block.rows
        _update_rows(job, layer, block, block.rows, ONE, model, gradient, g0, ld, 1.0, 0.0, c0)
    _update_rows(job, layer, block, ZERO, penalized, model, gradient, g0, ld, shrink, l2, c0)


@device
def add_slots(gradient, g0, ld, rows, columns, count, stride, slots, n_threads, thread):
    """Sum of the gradients (rows, columns) at g0 of the first ``count`` of all slots, ``stride`` apart; it is left in the first.

    Slots are added in pairs, then pairs of pairs: the same sums, whoever makes them. With the number of a ``thread``, only those
    sums are made of which it has written all slots; with NOBODY, only those that no thread can make so (of one thread, all).
    """
    span = 1
    while span < count:
        for left in range(0, count - span, 2 * span):
            last = min(left + 2 * span, count) - 1
            # The slots of thread t are slots * t // n_threads and those after it, up to those of the next thread.
            owner = ((left + 1) * n_threads - 1) // slots
            is_owned = n_threads > 1 and owner == ((last + 1) * n_threads - 1) // slots
            if (is_owned and owner == thread) or (thread == NOBODY and not is_owned):
                a0 = g0 + left * stride
                b0 = a0 + span * stride
                for i in range(rows):
                    for j in range(columns):
                        gradient[index(a0 + i * ld + j)] += gradient[index(b0 + i * ld + j)]
        span *= 2


@device
def squared_norms(block, gradient, g0, ld, norms):
    """Sum of squares of each row of a block of gradients, in float64."""
    for i in range(block.rows + block.bias):
        total = 0.0
        for j in range(block.columns):
            g = float(gradient[index(g0 + i * ld + j)])
            total += g * g
        norms[index(block.norms + i)] = total


@device
def clear_block(block, gradient, g0, ld):
    """Make a block of gradients zero again."""
    zero = type(gradient[index(g0)])(0)
    for i in range(block.rows):
        for j in range(block.columns):
            gradient[index(g0 + i * ld + j)] = zero
