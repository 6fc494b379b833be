"""The last layer: its activation, the loss and d_L = dLoss/da_L * f'_L(z_L).

Outputs are often few, so nearly everything here works on transposed panels, called blocks: (fan_out, PANEL_ROWS), one sample
per column. Loops run over a whole block, rounded up to whole runs of vectors, whether there is one output or a thousand.
What belongs to a column (a maximum, a sum, a weight) is a row of PANEL_ROWS, repeated in a block where a loop needs it.
All blocks and rows are in ``scratch``, at the offsets that the arguments say: z0 (logits, then outputs), y0 (targets), d0
(deltas), t0 (loss terms), s0 (two rows, each with room for RUN).
"""

from __future__ import annotations

from fastmlp.kernels.elementary import exp, log
from fastmlp.kernels.forward import rounded
from fastmlp.kernels.gather import gather_target_rows, gather_targets, gather_weights
from fastmlp.kernels.jit import device, formula, part
from fastmlp.kernels.loops import activate_and_slope, logit_terms, loss_and_slope
from fastmlp.kernels.plan import LOSS_ONLY, PANEL_ROWS, RUN, TRANSPOSE, ZERO
from fastmlp.kernels.simd import copy, fold_max, fold_sum, index, repeat_row, transpose_block


@formula
def block_elements(outputs):
    """Elements of a block, its rows rounded up to whole squares of :func:`transpose_block`."""
    return (outputs + TRANSPOSE - 1) // TRANSPOSE * TRANSPOSE * PANEL_ROWS


@device
def transpose_panel(source, s0, ld_source, rows, columns, target, t0, ld_target):
    """target (columns, rows) = source (rows, columns) transposed, both rounded up to multiples of TRANSPOSE."""
    for j in range(0, columns, TRANSPOSE):
        for i in range(0, rows, TRANSPOSE):
            transpose_block(source, s0 + i * ld_source + j, ld_source, target, t0 + j * ld_target + i, ld_target)


@device
def softmax(outputs, scratch, z0, d0, t0, s0):
    """z = softmax of each column; leaves logits less their column's maximum at t0 and the column's sum of exp at s0."""
    count = rounded(outputs * PANEL_ROWS)
    fold_max(scratch, z0, outputs, scratch, s0)
    repeat_row(scratch, s0, count // PANEL_ROWS, scratch, d0)
    for q in range(count):
        x = scratch[index(z0 + q)] - scratch[index(d0 + q)]
        scratch[index(t0 + q)] = x
        scratch[index(z0 + q)] = exp(x)
    fold_sum(scratch, z0, outputs, scratch, s0)
    repeat_row(scratch, s0, count // PANEL_ROWS, scratch, d0)
    for q in range(count):
        scratch[index(z0 + q)] /= scratch[index(d0 + q)]


@device
def softmax_cross_entropy(job, outputs, scratch, z0, y0, d0, t0, s0):
    """z = softmax; terms = y * (log(sum of exp) - logit); delta = a * (sum of y) - y, where one-hot targets have the sum 1."""
    count = rounded(outputs * PANEL_ROWS)
    softmax(outputs, scratch, z0, d0, t0, s0)
    for i in range(RUN):
        scratch[index(s0 + RUN + i)] = log(scratch[index(s0 + i)])
    repeat_row(scratch, s0 + RUN, count // PANEL_ROWS, scratch, d0)
    for q in range(count):
        scratch[index(t0 + q)] = scratch[index(y0 + q)] * (scratch[index(d0 + q)] - scratch[index(t0 + q)])
    if job.labelled and outputs > 1:  # the label 0 of a single output is a target of 0
        for q in range(count):
            scratch[index(d0 + q)] = scratch[index(z0 + q)] - scratch[index(y0 + q)]
    else:
        fold_sum(scratch, y0, outputs, scratch, s0)
        repeat_row(scratch, s0, count // PANEL_ROWS, scratch, d0)
        for q in range(count):
            scratch[index(d0 + q)] = scratch[index(z0 + q)] * scratch[index(d0 + q)] - scratch[index(y0 + q)]


@device
def softmax_delta(outputs, scratch, z0, y0, d0, s0):
    """delta = a * (slope - sum over outputs of slope * a): the product of the slope at y0 with the Jacobian of softmax."""
    count = rounded(outputs * PANEL_ROWS)
    for q in range(count):
        scratch[index(d0 + q)] = scratch[index(y0 + q)] * scratch[index(z0 + q)]
    fold_sum(scratch, d0, outputs, scratch, s0)
    repeat_row(scratch, s0, count // PANEL_ROWS, scratch, d0)
    for q in range(count):
        scratch[index(d0 + q)] = scratch[index(z0 + q)] * (scratch[index(y0 + q)] - scratch[index(d0 + q)])


@device
def subtract(x, d0, z0, y0, count):
    """d = z - y."""
    for q in range(count):
        x[index(d0 + q)] = x[index(z0 + q)] - x[index(y0 + q)]


@device
def multiply(x, d0, y0, count):
    """d *= y."""
    for q in range(count):
        x[index(d0 + q)] *= x[index(y0 + q)]


@part
def elementwise_loss_and_delta(job, layer, count, scratch, z0, y0, d0, t0):
    """Loss terms and delta of outputs that do not depend on each other, ``count`` in all. Targets are overwritten."""
    if job.logits:
        logit_terms(job.loss, (scratch, z0, scratch, y0, scratch, t0, count, job.parameter))
    activate_and_slope(layer.activate_and_slope, (scratch, z0, scratch, d0, count, layer.parameter))
    if job.canonical:
        subtract(scratch, d0, z0, y0, count)
    if not job.logits:
        loss_and_slope(job.loss, (scratch, z0, scratch, y0, scratch, t0, count, job.parameter))
    if not job.canonical:
        multiply(scratch, d0, y0, count)


@part
def loss_and_delta(job, layer, scratch, z0, y0, d0, t0, s0):
    """Loss terms and delta of the last layer, from logits and targets. Targets are overwritten."""
    outputs = layer.fan_out
    count = rounded(outputs * PANEL_ROWS)
    if not layer.by_row:
        elementwise_loss_and_delta(job, layer, count, scratch, z0, y0, d0, t0)
    elif job.canonical:
        softmax_cross_entropy(job, outputs, scratch, z0, y0, d0, t0, s0)
    else:
        softmax(outputs, scratch, z0, d0, t0, s0)
        loss_and_slope(job.loss, (scratch, z0, scratch, y0, scratch, t0, count, job.parameter))
        softmax_delta(outputs, scratch, z0, y0, d0, s0)


@device
def weigh(job, outputs, rows, scale, scratch, y0, d0, t0, s0):
    """delta *= weight * scale; returns the sum over the first ``rows`` columns of weight * terms, in float64.

    The weights are the row at s0, if the job has any. Targets are overwritten.
    """
    count = outputs * PANEL_ROWS
    factor = type(scratch[index(d0)])(scale)
    zero = type(factor)(0)
    if job.weighted:
        repeat_row(scratch, s0, outputs, scratch, y0)
        for q in range(count):
            scratch[index(t0 + q)] *= scratch[index(y0 + q)]
            scratch[index(d0 + q)] *= scratch[index(y0 + q)] * factor
    else:
        for q in range(count):
            scratch[index(d0 + q)] *= factor
    for i in range(rows, PANEL_ROWS):  # what stands in columns of no sample may not even be finite
        for j in range(outputs):
            scratch[index(t0 + j * PANEL_ROWS + i)] = zero
    total = 0.0
    for q in range(count):
        total += scratch[index(t0 + q)]
    return total


@part
def scatter_deltas(scratch, d0, outputs, rows, deltas, o0, width):
    """deltas (rows, width) = delta (outputs, PANEL_ROWS) transposed.

    Padding is zero: up to the next multiple of TRANSPOSE it is written here, and beyond nothing is ever written.
    """
    zero = type(scratch[index(d0)])(0)
    padded = block_elements(outputs)
    for q in range(outputs * PANEL_ROWS, padded):
        scratch[index(d0 + q)] = zero
    transpose_panel(scratch, d0, PANEL_ROWS, padded // PANEL_ROWS, rows, deltas, o0, width)


@device
def weigh_rows(count, scale, constants, c0, scratch, d0, t0, deltas, o0):
    """deltas = delta * scale where there is an output, else 0; returns the sum of the terms there, in float64.

    All are rows of the layer's width, ``count`` elements in all, rounded up: where constants at c0 are 0, a row is padded.
    """
    factor = type(scratch[index(d0)])(scale)
    zero = type(factor)(0)
    total = 0.0
    for q in range(rounded(count)):
        is_output = constants[index(c0 + q)] != zero
        deltas[index(o0 + q)] = scratch[index(d0 + q)] * factor if is_output else zero
        total += scratch[index(t0 + q)] if is_output & (q < count) else zero
    return total


@part
def _output_rows(job, layer, samples, position, rows, scale, space, z0, o0):
    """The same for outputs that do not depend on each other, of samples without weights: as the rows that they are.

    Logits and deltas, (rows, layer.width), at z0 and o0; four blocks of PANEL_ROWS such rows in the thread's scratch memory.
    """
    scratch, p0 = space.scratch, space.scratch0
    block = PANEL_ROWS * layer.width
    y0, d0, t0 = p0 + block, p0 + 2 * block, p0 + 3 * block
    count = rows * layer.width
    gather_target_rows(job, samples, position, rows, scratch, y0, layer.width)
    copy(space.activations, z0, scratch, p0, count)
    elementwise_loss_and_delta(job, layer, rounded(count), scratch, p0, y0, d0, t0)
    return weigh_rows(count, scale, space.constants, job.output_mask, scratch, d0, t0, space.deltas, o0)


@part
def output_panel(job, layers, samples, position, first, rows, scale, space):
    """Loss of rows first .. first + rows of the workspace, whose logits are there, and their deltas of the last layer.

    ``position`` is that of the first of them in the epoch. The thread's scratch memory has room for four blocks and two rows.
    """
    last = layers[job.n_layers - 1]
    if not last.by_row and not job.weighted and 2 * job.outputs > last.width:  # of rows, less than half is padding
        return _output_rows(
            job, last, samples, position, rows, scale, space, last.outputs + first * last.width, last.deltas + first * last.width
        )
    scratch, z0 = space.scratch, space.scratch0
    block = block_elements(job.outputs)
    y0, d0, t0, s0 = z0 + block, z0 + 2 * block, z0 + 3 * block, z0 + 4 * block
    gather_targets(job, samples, position, rows, scratch, y0)
    transpose_panel(space.activations, last.outputs + first * last.width, last.width, rows, job.outputs, scratch, z0, PANEL_ROWS)
    loss_and_delta(job, last, scratch, z0, y0, d0, t0, s0)
    if job.weighted:
        gather_weights(job, samples, position, rows, scratch, s0)
    loss = weigh(job, job.outputs, rows, scale, scratch, y0, d0, t0, s0)
    if job.mode != LOSS_ONLY:
        scatter_deltas(scratch, d0, job.outputs, rows, space.deltas, last.deltas + first * last.width, last.width)
    return loss


@part
def output_row(job, layer, weight, scale, deltas, scratch):
    """The same for one sample, whose logits and target begin their blocks, and outputs that do not depend on each other.

    The blocks are the first of the scratch memory: logits, targets, deltas and loss terms.
    """
    block = block_elements(job.outputs)
    d0, t0 = 2 * block, 3 * block
    elementwise_loss_and_delta(job, layer, layer.width, scratch, ZERO, block, d0, t0)
    factor = type(scratch[0])(weight * scale)
    loss = 0.0
    for j in range(job.outputs):
        loss += scratch[index(t0 + j)]
        deltas[index(layer.deltas + j)] = scratch[index(d0 + j)] * factor
    return weight * loss
