"""Layers that outgrow the caches: one layer at a time for all rows of a chunk, some columns after others by each thread.

A panel of rows that goes through all layers reads all weights, and has too few rows to make up for it when they come
from far away. Here a block of columns of the right-hand matrix, as wide as one register tile or a few, is packed once into memory
that follows on itself, stays in the second-level cache, and meets all rows of the chunk. No transposed copy of the weights
is kept: delta's block is transposed while it is packed. For the gradients, inputs are kept a second time, in strips of columns.
"""

from __future__ import annotations

from fastmlp.kernels.forward import clear_padding, leave_out, rounded
from fastmlp.kernels.gather import gather_inputs
from fastmlp.kernels.jit import device, part
from fastmlp.kernels.loops import activate_and_slope
from fastmlp.kernels.plan import LINE_BYTES, LOSS_ONLY, NO, NOBODY, ONE, PANEL_ROWS, STRIP_ROWS, TRANSPOSE, YES, ZERO
from fastmlp.kernels.product import product
from fastmlp.kernels.simd import TILE_VECTORS, copy, index, lanes, prefetch_to_write, transpose_block
from fastmlp.kernels.team import return_tickets, take_ticket


@device
def n_column_blocks(width, array):
    """How many blocks of columns, each at most as wide as the register tile, there are in ``width``."""
    vectors = width // lanes(array)
    return (vectors + TILE_VECTORS - 1) // TILE_VECTORS


@device
def column_block(width, array, block):
    """First column of a block; that of the next block is its end."""
    return width // lanes(array) * block // n_column_blocks(width, array) * lanes(array)


@device
def pack_columns(source, s0, ld, depth, columns, out, o0):
    """out (depth, columns) at o0 = source (depth, columns) at s0, whose rows are ``ld`` apart."""
    for k in range(depth):
        copy(source, s0 + k * ld, out, o0 + k * columns, columns)


@device
def pack_transposed(source, s0, ld, rows, depth, columns, out, o0):
    """out (depth, columns) at o0 = source (rows, depth) at s0 transposed; columns from ``rows`` on are zero.

    There is room for the depth rounded up to a multiple of TRANSPOSE.
    """
    whole = rows // TRANSPOSE * TRANSPOSE
    for k in range(0, depth, TRANSPOSE):
        for j in range(0, whole, TRANSPOSE):
            transpose_block(source, s0 + j * ld + k, ld, out, o0 + k * columns + j, columns)
    for j in range(whole, columns):
        for k in range(depth):
            out[index(o0 + k * columns + j)] = source[index(s0 + j * ld + k)] if j < rows else 0


@device
def copy_strips(job, source, s0, ld, first, rows, column, columns, activations, inputs):
    """Rows first .. first + rows of columns from ``column`` on, source (rows, columns) at s0, in strips of STRIP_ROWS columns.

    A strip has the rows of a chunk, one after the other; that of the first columns is at ``inputs`` in the copies of the
    activations. The gradient goes down the columns, where each row would otherwise be on another page.
    """
    some = min(STRIP_ROWS, lanes(source))  # columns come in whole vectors, which may be shorter than a strip is wide
    for j in range(column, column + columns, some):
        in_strip = j % STRIP_ROWS
        strip = job.strips + inputs + (j - in_strip) * job.chunk_rows + in_strip
        for i in range(rows):
            copy(source, s0 + i * ld + j - column, activations, strip + (first + i) * STRIP_ROWS, some)


@device
def _prefetch_rows_to_write(array, a0, ld, rows, columns):
    """Ask for (rows, columns) at a0, which a product writes at its end: by then, they have come from beyond the caches."""
    for i in range(rows):
        for j in range(0, columns, LINE_BYTES // array.itemsize):
            prefetch_to_write(array, a0 + i * ld + j)


@device
def _prefetch_strips_to_write(job, first, rows, column, columns, activations, inputs):
    """The same for rows first .. first + rows of the strips that columns from ``column`` on are in; see ``copy_strips``."""
    for j in range(column - column % STRIP_ROWS, column + columns, STRIP_ROWS):
        strip = job.strips + inputs + j * job.chunk_rows + first * STRIP_ROWS
        for k in range(0, rows * STRIP_ROWS, LINE_BYTES // activations.itemsize):
            prefetch_to_write(activations, strip + k)


@part
def gather_columns(job, layers, samples, position, first, rows, activations):
    """Inputs of rows first .. first + rows of the workspace, and strips of them: of the samples at positions ``position`` ...."""
    bottom = layers[0]
    i0, width = bottom.inputs + first * bottom.input_width, bottom.input_width
    gather_inputs(job, layers, samples, position, i0, rows, ZERO, job.features, activations)
    if job.mode != LOSS_ONLY:
        copy_strips(job, activations, i0, width, first, rows, ZERO, width, activations, bottom.inputs)


@part
def forward_columns(worker, job, layers, number, position, rows, parameters, space):
    """Columns of a layer that no other thread has taken, for all rows: a_l, and of a hidden layer its strips.

    Of a hidden layer, f'_l(z_l) is left in ``deltas``. ``position`` is that of the first row in the epoch. The thread's scratch
    memory has room for two panels as wide as the tile, and then for a packed block of columns.
    """
    activations, deltas, scratch, p0 = space.activations, space.deltas, space.scratch, space.scratch0
    layer = layers[number]
    hidden = number < job.n_layers - 1
    n_blocks = n_column_blocks(layer.width, parameters)
    block = take_ticket(worker, NOBODY)
    while block < n_blocks:
        first = column_block(layer.width, parameters, block)
        columns = column_block(layer.width, parameters, block + 1) - first
        slope0 = p0 + rounded(PANEL_ROWS * columns)
        pack0 = slope0 + rounded(PANEL_ROWS * columns)
        pack_columns(parameters, layer.weights + first, layer.width, layer.fan_in, columns, scratch, pack0)
        for i in range(0, rows, PANEL_ROWS):
            n = min(PANEL_ROWS, rows - i)
            o0 = i * layer.width + first
            _prefetch_rows_to_write(activations, layer.outputs + o0, layer.width, n, columns)
            if hidden:
                _prefetch_rows_to_write(deltas, layer.deltas + o0, layer.width, n, columns)
                if job.mode != LOSS_ONLY:
                    _prefetch_strips_to_write(job, i, n, first, columns, activations, layer.outputs)
            product(
                n, columns, layer.fan_in, activations, layer.inputs + i * layer.input_width, layer.input_width, ONE,
                scratch, pack0, columns, parameters, layer.bias + first, ZERO, scratch, p0, columns, NO, NO,
            )  # fmt: skip
            if hidden:
                activate_and_slope(layer.activate_and_slope, (scratch, p0, scratch, slope0, rounded(n * columns), layer.parameter))
                clear_padding(scratch, slope0, columns, n, max(0, layer.fan_out - first), columns)
            for q in range(n):
                row = (i + q) * layer.width + first
                if hidden and layer.dropout > 0:
                    leave_out(
                        job.dropout_key, layer, number, position + i + q, first, columns,
                        scratch, p0 + q * columns, scratch, slope0 + q * columns,
                    )  # fmt: skip
                copy(scratch, p0 + q * columns, activations, layer.outputs + row, columns)
                if hidden:
                    copy(scratch, slope0 + q * columns, deltas, layer.deltas + row, columns)
            if hidden and job.mode != LOSS_ONLY:
                copy_strips(job, scratch, p0, columns, i, n, first, columns, activations, layer.outputs)
        block = take_ticket(worker, block)
    return_tickets(worker, n_blocks)


@part
def delta_columns(worker, layers, number, rows, parameters, space):
    """Columns of the deltas below layer ``number`` that no other thread has taken, for all rows; f'(z) stands there before."""
    deltas, scratch, p0 = space.deltas, space.scratch, space.scratch0
    layer, below = layers[number], layers[number - 1]
    n_blocks = n_column_blocks(below.width, parameters)
    block = take_ticket(worker, NOBODY)
    while block < n_blocks:
        first = column_block(below.width, parameters, block)
        columns = column_block(below.width, parameters, block + 1) - first
        here = max(0, min(columns, layer.fan_in - first))
        pack_transposed(parameters, layer.weights + first * layer.width, layer.width, here, layer.fan_out, columns, scratch, p0)
        for i in range(0, rows, PANEL_ROWS):
            n = min(PANEL_ROWS, rows - i)
            d0 = below.deltas + i * below.width + first
            _prefetch_rows_to_write(deltas, d0, below.width, n, columns)
            product(
                n, columns, layer.fan_out, deltas, layer.deltas + i * layer.width, layer.width, ONE, scratch, p0, columns,
                space.constants, ZERO, ZERO, deltas, d0, below.width, NO, YES,
            )  # fmt: skip
        block = take_ticket(worker, block)
    return_tickets(worker, n_blocks)
