"""Gather: samples, targets and weights, in the order of the epoch, from the data into the workspace."""

from __future__ import annotations

from fastmlp.kernels.jit import device, part
from fastmlp.kernels.plan import AHEAD_LINES, LINE_BYTES, PANEL_ROWS
from fastmlp.kernels.simd import copy, index, prefetch


@device
def sample(job, order, position):
    """The row of the data that stands at a position of the epoch."""
    return order[index(position - job.order_start)] if job.shuffled else position


@device
def gather_inputs(job, layers, samples, position, inputs, rows, left, right, activations):
    """activations (rows, input_width) at ``inputs``: features left .. right of the samples at positions ``position`` ...."""
    input_width = layers[0].input_width
    for i in range(rows):
        source = sample(job, samples.order, position + i) * job.features + left
        copy(samples.x, source, activations, inputs + i * input_width + left, right - left)


@device
def gather_targets(job, samples, position, rows, out, o0):
    """out (outputs, PANEL_ROWS) at o0 = targets of the samples at positions ``position`` ..., one sample per column.

    Class labels become one-hot columns.
    """
    outputs = job.outputs
    if not job.labelled:
        for i in range(rows):
            first = sample(job, samples.order, position + i) * outputs
            for j in range(outputs):
                out[index(o0 + j * PANEL_ROWS + i)] = samples.y[index(first + j)]
    elif outputs == 1:
        for i in range(rows):
            out[index(o0 + i)] = samples.labels[index(sample(job, samples.order, position + i))]
    else:
        for q in range(outputs * PANEL_ROWS):
            out[index(o0 + q)] = 0
        for i in range(rows):
            out[index(o0 + samples.labels[index(sample(job, samples.order, position + i))] * PANEL_ROWS + i)] = 1


@device
def gather_target_rows(job, samples, position, rows, out, o0, ld):
    """out (rows, ld) at o0 = targets of the samples at positions ``position`` ....

    What stands beyond them, in a padded row, may change or not.
    """
    outputs = job.outputs
    if not job.labelled:
        for i in range(rows):
            copy(samples.y, sample(job, samples.order, position + i) * outputs, out, o0 + i * ld, outputs)
    elif outputs == 1:
        for i in range(rows):
            out[index(o0 + i * ld)] = samples.labels[index(sample(job, samples.order, position + i))]
    else:
        for q in range(rows * ld):
            out[index(o0 + q)] = 0
        for i in range(rows):
            out[index(o0 + i * ld + samples.labels[index(sample(job, samples.order, position + i))])] = 1


@device
def gather_weights(job, samples, position, rows, out, o0):
    """out (PANEL_ROWS,) at o0 = weights of the samples at positions ``position`` ...."""
    for i in range(rows):
        out[index(o0 + i)] = samples.weights[index(sample(job, samples.order, position + i))]


@device
def total_weight(job, samples, position, rows):
    """Sum of the weights of the samples at positions ``position`` .. position + rows."""
    if not job.weighted:
        return float(rows)
    total = 0.0
    for i in range(rows):
        total += samples.weights[index(sample(job, samples.order, position + i))]
    return total


@part
def prefetch_samples(job, samples, position, rows, first, last):
    """Ask for the beginning of features first .. last, and for the targets, of the samples at positions ``position`` ....

    Read in random order, nearly every row is a cache miss.
    """
    line = LINE_BYTES // samples.x.itemsize
    most = AHEAD_LINES * line
    end = last + line - 1 if last - first <= most else first + most  # a short row may lie on one line more
    for i in range(rows):
        row = sample(job, samples.order, position + i)
        for k in range(first, end, line):
            prefetch(samples.x, row * job.features + min(k, last - 1))
        if job.labelled:
            prefetch(samples.labels, row)
        else:
            prefetch(samples.y, row * job.outputs)
