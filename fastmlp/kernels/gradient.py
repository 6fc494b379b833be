"""Gradient: dW_l = a_{l-1}^T d_l and db_l = sum over rows of d_l, block by block, each block updated while it is in the cache."""

from __future__ import annotations

from fastmlp.kernels.jit import device, part
from fastmlp.kernels.ladders import update
from fastmlp.kernels.plan import ONE, SHRINK, ZERO
from fastmlp.kernels.product import product
from fastmlp.kernels.simd import TRANSPOSE, index, transpose_block


@part
def gradient_block(layers, unit, rows, first_chunk, activations, deltas, constants, out, out0, ld, exact):
    """out (unit.rows, unit.columns) = gradient of a block over ``rows`` rows of the workspace.

    It is added to what out holds, unless these are the first rows of a batch. The bias is a weight whose input is
    always 1. With ``exact``, nothing beyond the block is written.
    """
    layer = layers[unit.layer]
    inputs, a0, a_row, a_column = activations, layer.inputs + unit.row, ONE, layer.input_width
    if unit.row == layer.fan_in:
        inputs, a0, a_row, a_column = constants, len(constants) - 1, ZERO, ZERO
    initial, i0, ld_i = out, out0, ld
    if first_chunk:
        initial, i0, ld_i = constants, ZERO, ZERO
    product(
        unit.rows, unit.columns, rows, inputs, a0, a_row, a_column, deltas, layer.deltas + unit.column, layer.width,
        initial, i0, ld_i, out, out0, ld, exact,
    )  # fmt: skip


@device
def transpose_weights(layers, unit, parameters, transposed):
    """Bring the transposed copy of a block of weights up to date; the first layer and biases have none."""
    layer = layers[unit.layer]
    if unit.layer == 0 or unit.row == layer.fan_in:
        return
    columns = min(unit.columns, layer.fan_out - unit.column)
    w0 = layer.weights + unit.row * layer.width + unit.column
    t0 = layer.transposed + unit.column * layer.transposed_width + unit.row
    whole_rows = unit.rows // TRANSPOSE * TRANSPOSE
    whole_columns = columns // TRANSPOSE * TRANSPOSE
    for i in range(0, whole_rows, TRANSPOSE):
        for j in range(0, whole_columns, TRANSPOSE):
            transpose_block(
                parameters, w0 + i * layer.width + j, layer.width,
                transposed, t0 + j * layer.transposed_width + i, layer.transposed_width,
            )  # fmt: skip
    for i in range(unit.rows):
        start = whole_columns if i < whole_rows else 0
        for j in range(start, columns):
            transposed[index(t0 + j * layer.transposed_width + i)] = parameters[index(w0 + i * layer.width + j)]


@part
def update_block(job, layers, unit, parameters, gradient, g0, ld, state1, state2, scale, coefficients, c0):
    """One optimizer step of a block of parameters from its gradient (unit.rows, unit.columns) at g0, times ``scale``.

    ``coefficients`` at c0: those of the step formula, then the factor that weight decay multiplies weights with.
    """
    layer = layers[unit.layer]
    real = type(gradient[index(g0)])
    shrink, l2 = real(coefficients[index(c0 + SHRINK)]), real(job.l2)
    if unit.row == layer.fan_in:  # penalties are for weights, not for biases
        shrink, l2 = real(1), real(0)
    if scale != 1.0:
        for i in range(unit.rows):
            for j in range(unit.columns):
                gradient[index(g0 + i * ld + j)] *= real(scale)
    runs, count = unit.rows, unit.columns
    if unit.columns == layer.width and ld == layer.width:  # the rows of the block follow one another
        runs, count = 1, unit.rows * unit.columns
    for i in range(runs):
        w0 = layer.weights + (unit.row + i) * layer.width + unit.column
        update(
            job.optimizer,
            (
                parameters, w0, gradient, g0 + i * ld, state1, state2, count, shrink, l2,
                real(coefficients[index(c0)]), real(coefficients[index(c0 + 1)]),
                real(coefficients[index(c0 + 2)]), real(coefficients[index(c0 + 3)]),
                real(coefficients[index(c0 + 4)]), real(coefficients[index(c0 + 5)]),
                real(coefficients[index(c0 + 6)]), real(coefficients[index(c0 + 7)]),
            ),
        )  # fmt: skip


@device
def squared_norm(unit, gradient, g0, ld):
    """Sum of squares of a block of gradients, in float64."""
    total = 0.0
    for i in range(unit.rows):
        for j in range(unit.columns):
            g = float(gradient[index(g0 + i * ld + j)])
            total += g * g
    return total
