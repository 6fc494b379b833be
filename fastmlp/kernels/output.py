"""The last layer: its activation, the loss and d_L = dLoss/da_L * f'_L(z_L).

Outputs are often few, so everything here works on the transposed panel: (fan_out, panel_rows) with one sample per
column. Loops then run across samples, in whole vectors, whether there is one output or a thousand.
"""

from __future__ import annotations

from fastmlp.kernels.elementary import exp, log
from fastmlp.kernels.jit import device, part
from fastmlp.kernels.ladders import activate, activate_and_slope, logit_terms, loss_slope, loss_terms
from fastmlp.kernels.simd import TRANSPOSE, index, transpose_block


@device
def transpose_panel(source, s0, ld_source, rows, columns, target, t0, ld_target):
    """target (columns, rows) = source (rows, columns) transposed, both rounded up to multiples of TRANSPOSE."""
    for j in range(0, columns, TRANSPOSE):
        for i in range(0, rows, TRANSPOSE):
            transpose_block(source, s0 + i * ld_source + j, ld_source, target, t0 + j * ld_target + i, ld_target)


@device
def softmax_columns(z, z0, outputs, ld, sums, s0):
    """z (outputs, ld): z = z - its column's maximum; sums (ld,) = sum of exp(z) of each column."""
    for i in range(ld):
        sums[index(s0 + i)] = z[index(z0 + i)]
    for j in range(1, outputs):
        for i in range(ld):
            x, highest = z[index(z0 + j * ld + i)], sums[index(s0 + i)]
            sums[index(s0 + i)] = highest if x < highest else x  # nan wins
    for j in range(outputs):
        for i in range(ld):
            z[index(z0 + j * ld + i)] -= sums[index(s0 + i)]
    for i in range(ld):
        sums[index(s0 + i)] = exp(z[index(z0 + i)])
    for j in range(1, outputs):
        for i in range(ld):
            sums[index(s0 + i)] += exp(z[index(z0 + j * ld + i)])


@device
def normalize_columns(z, z0, outputs, ld, sums, s0):
    """z (outputs, ld), after softmax_columns: z = exp(z) / sums."""
    one = type(z[index(z0)])(1)
    for j in range(outputs):
        for i in range(ld):
            z[index(z0 + j * ld + i)] = exp(z[index(z0 + j * ld + i)]) * (one / sums[index(s0 + i)])


@part
def activate_output(layer, z, z0, ld, sums, s0):
    """z (fan_out, ld) = f(z) of the last layer."""
    if layer.by_row:
        softmax_columns(z, z0, layer.fan_out, ld, sums, s0)
        normalize_columns(z, z0, layer.fan_out, ld, sums, s0)
    else:
        activate(layer.activation, (z, z0, layer.fan_out * ld, layer.parameter))


@part
def softmax_cross_entropy(z, z0, y, y0, terms, t0, outputs, ld, sums, s0):
    """z (outputs, ld) = softmax; terms = y * (log(sum of exp) - logit), each from logits less their maximum.

    Leaves the sum of y of each column in ``sums``: 1 for one-hot targets.
    """
    softmax_columns(z, z0, outputs, ld, sums, s0)
    for j in range(outputs):
        for i in range(ld):
            q = index(j * ld + i)
            terms[index(t0) + q] = y[index(y0) + q] * (log(sums[index(s0 + i)]) - z[index(z0) + q])
    normalize_columns(z, z0, outputs, ld, sums, s0)
    for i in range(ld):
        sums[index(s0 + i)] = y[index(y0 + i)]
    for j in range(1, outputs):
        for i in range(ld):
            sums[index(s0 + i)] += y[index(y0 + j * ld + i)]


@device
def _softmax_delta(a, a0, slope, d0, outputs, ld, sums, s0):
    """slope (outputs, ld) = a * (slope - sum over outputs of slope * a): the product with the Jacobian of softmax."""
    for i in range(ld):
        sums[index(s0 + i)] = slope[index(d0 + i)] * a[index(a0 + i)]
    for j in range(1, outputs):
        for i in range(ld):
            sums[index(s0 + i)] += slope[index(d0 + j * ld + i)] * a[index(a0 + j * ld + i)]
    for j in range(outputs):
        for i in range(ld):
            q = index(j * ld + i)
            slope[index(d0) + q] = a[index(a0) + q] * (slope[index(d0) + q] - sums[index(s0 + i)])


@part
def output_loss_and_delta(job, layer, scratch, z0, y0, d0, t0, s0, ld):
    """Loss terms at t0 and delta at d0 from logits at z0 and targets at y0.

    All are (fan_out, ld) in ``scratch``, and any of them may be overwritten. There is room for (ld,) at s0.
    """
    outputs = layer.fan_out
    count = outputs * ld
    if job.canonical:
        if layer.by_row:
            softmax_cross_entropy(scratch, z0, scratch, y0, scratch, t0, outputs, ld, scratch, s0)
            for j in range(outputs):
                for i in range(ld):
                    q = index(j * ld + i)
                    scratch[index(d0) + q] = scratch[index(z0) + q] * scratch[index(s0 + i)] - scratch[index(y0) + q]
            return
        if job.logits:
            logit_terms(job.loss, (scratch, z0, scratch, y0, scratch, t0, count))
        activate(layer.activation, (scratch, z0, count, layer.parameter))
        if not job.logits:
            loss_terms(job.loss, (scratch, z0, scratch, y0, scratch, t0, count, job.parameter))
        for k in range(count):
            scratch[index(d0 + k)] = scratch[index(z0 + k)] - scratch[index(y0 + k)]
    elif layer.by_row:
        activate_output(layer, scratch, z0, ld, scratch, s0)
        loss_slope(job.loss, (scratch, z0, scratch, y0, scratch, d0, count, job.parameter))
        _softmax_delta(scratch, z0, scratch, d0, outputs, ld, scratch, s0)
        loss_terms(job.loss, (scratch, z0, scratch, y0, scratch, t0, count, job.parameter))
    else:
        activate_and_slope(layer.activation, (scratch, z0, scratch, d0, count, layer.parameter))
        loss_slope(job.loss, (scratch, z0, scratch, y0, scratch, t0, count, job.parameter))
        for k in range(count):
            scratch[index(d0 + k)] *= scratch[index(t0 + k)]
        loss_terms(job.loss, (scratch, z0, scratch, y0, scratch, t0, count, job.parameter))


@device
def gather_targets(job, y, labels, row, scratch, y0, ld, i):
    """Column i of the targets (outputs, ld) at y0 = targets of sample ``row``, one-hot where there are labels."""
    if not job.labelled:
        for j in range(job.outputs):
            scratch[index(y0 + j * ld + i)] = y[index(row * job.outputs + j)]
    elif job.outputs == 1:
        scratch[index(y0 + i)] = labels[index(row)]
    else:
        for j in range(job.outputs):
            scratch[index(y0 + j * ld + i)] = 0
        scratch[index(y0 + labels[index(row)] * ld + i)] = 1


@device
def weigh_columns(scratch, d0, t0, w0, outputs, ld, rows, scale):
    """delta (outputs, ld) *= weight * scale; returns the sum over the first ``rows`` columns of weight * terms, in float64."""
    factor = type(scratch[index(d0)])(scale)
    total = 0.0
    for j in range(outputs):
        for i in range(ld):
            scratch[index(d0 + j * ld + i)] *= scratch[index(w0 + i)] * factor
        for i in range(rows):
            total += scratch[index(w0 + i)] * scratch[index(t0 + j * ld + i)]
    return total


@part
def scatter_deltas(scratch, d0, outputs, ld, rows, deltas, o0, width):
    """deltas (rows, width) = delta (outputs, ld) transposed.

    Padding is zero: up to the next multiple of TRANSPOSE it is written here, and beyond nothing is ever written.
    """
    zero = type(scratch[index(d0)])(0)
    rounded = (outputs + TRANSPOSE - 1) // TRANSPOSE * TRANSPOSE
    for q in range(outputs * ld, rounded * ld):
        scratch[index(d0 + q)] = zero
    transpose_panel(scratch, d0, ld, rounded, rows, deltas, o0, width)
