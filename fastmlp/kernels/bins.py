"""The first layer where samples are sparse and a step moves every weight: gradient and step of some features after others.

Momentum, Adam and the like, weight decay and penalties change all weights in each step, so all of them and their states come
through the caches. With the gradient of the whole layer kept in between, that would come, too, to be written, read and cleared.
So the numbers of a batch are sorted by bins of features first: the gradient of a bin fits a first-level cache, and its step
follows at once.

Each thread sorts the numbers of some rows, and makes the steps of some bins. A bin's numbers are added in the order of their
rows, as everywhere, so the bits do not depend on who has sorted which.

``bins`` has, for each thread, where each bin ends, and then for each number its feature and its row as one; ``values`` has the
numbers themselves. Both are found by addresses: as arguments, they would be some for every network.
"""

from __future__ import annotations

import numpy as np

from fastmlp.kernels.gather import sample
from fastmlp.kernels.jit import device, part
from fastmlp.kernels.loops import update
from fastmlp.kernels.plan import SHRINK
from fastmlp.kernels.simd import SINGLE_ROW_VECTORS, array_at, index, lanes, outer
from fastmlp.kernels.sparse import clear

_ROW_BITS = 32
_ROW_MASK = (1 << _ROW_BITS) - 1
OVERFLOWN = np.int64(-1)
"""In the place of the end of the first bin: a thread has had no room for the numbers of its rows."""


@device
def n_bins(job, layer):
    """How many bins of features there are."""
    return (layer.fan_in + (1 << job.bin_shift) - 1) >> job.bin_shift


@device
def _place(job, layer, thread, n_threads):
    """Where a thread's ends of bins begin in ``bins``, where the numbers of all threads do, and where its own do among these."""
    stride = n_bins(job, layer)
    return thread * stride, n_threads * stride, job.bin_room // n_threads * thread


@device
def _sort(job, layer, x, indices, starts, order, position, first, last, thread, n_threads, bins, values):
    """Sort the numbers of rows first .. last of the samples from ``position`` on, by bins and then by rows."""
    ends, numbers, mine = _place(job, layer, thread, n_threads)
    n = n_bins(job, layer)
    for b in range(n):
        bins[index(ends + b)] = 0
    count = 0
    for i in range(first, last):
        row = sample(job, order, position + i)
        count += starts[index(row + 1)] - starts[index(row)]
        for k in range(starts[index(row)], starts[index(row + 1)]):
            bins[index(ends + (indices[index(k)] >> job.bin_shift))] += 1
    if count > job.bin_room // n_threads:
        bins[index(ends)] = OVERFLOWN
        return
    place = mine
    for b in range(n):
        end = place + bins[index(ends + b)]
        bins[index(ends + b)] = place  # of the bin's next number; at last, its end
        place = end
    for i in range(first, last):
        row = sample(job, order, position + i)
        for k in range(starts[index(row)], starts[index(row + 1)]):
            feature = np.int64(indices[index(k)])
            b = ends + (feature >> job.bin_shift)
            place = bins[index(b)]
            bins[index(b)] = place + 1
            bins[index(numbers + place)] = (feature << _ROW_BITS) | i
            values[index(place)] = x[index(k)]


@part
def sort_by_bins(worker, job, layers, samples, indices, starts, position, rows, parameters):
    """One thread's share of the ``rows`` samples from ``position`` on."""
    thread, n_threads = worker.thread, worker.n_threads
    _sort(
        job, layers[0], samples.x, indices, starts, samples.order, position, rows * thread // n_threads,
        rows * (thread + 1) // n_threads, thread, n_threads, array_at(job.bins, worker.sync), array_at(job.bin_values, parameters),
    )  # fmt: skip


@part
def are_sorted(worker, job, layers):
    """Whether there are bins, and all threads have had room for their numbers."""
    if job.bins == 0:
        return False
    bins, n_overflown = array_at(job.bins, worker.sync), 0
    for thread in range(worker.n_threads):
        n_overflown += bins[index(_place(job, layers[0], thread, worker.n_threads)[0])] == OVERFLOWN
    return n_overflown == 0


@device
def _add_numbers(layer, feature, first, last, numbers, bins, values, deltas, gradient, g0):
    """Add numbers first .. last, times the deltas of their rows, to the gradient (features, width) at g0 of ``feature`` and on."""
    step = SINGLE_ROW_VECTORS * lanes(gradient)
    for place in range(first, last):
        number = bins[index(numbers + place)]
        d0 = layer.deltas + (number & _ROW_MASK) * layer.width
        row = g0 + ((number >> _ROW_BITS) - feature) * layer.width
        for j in range(0, layer.width, step):
            vectors = min(SINGLE_ROW_VECTORS, (layer.width - j) // lanes(gradient))
            outer(vectors, values, place, 1, deltas, d0 + j, gradient, row + j, layer.width)


@part
def step_by_bins(worker, job, layers, deltas, model, l2, c0, scratch, g0):
    """Gradient and step of one thread's share of the bins; the gradient of one at a time is at g0 in its scratch memory."""
    layer, thread, n_threads = layers[0], worker.thread, worker.n_threads
    bins, values = array_at(job.bins, worker.sync), array_at(job.bin_values, model.parameters)
    shrink = model.coefficients[index(c0 + SHRINK)]
    n = n_bins(job, layer)
    for b in range(n * thread // n_threads, n * (thread + 1) // n_threads):
        feature = b << job.bin_shift
        count = min(1 << job.bin_shift, layer.fan_in - feature) * layer.width
        clear(scratch, g0, count)
        for other in range(n_threads):
            ends, numbers, first = _place(job, layer, other, n_threads)
            if b > 0:
                first = bins[index(ends + b - 1)]
            _add_numbers(layer, feature, first, bins[index(ends + b)], numbers, bins, values, deltas, scratch, g0)
        w0 = layer.weights + feature * layer.width
        where = (model.parameters, w0, scratch, g0, model.state1, w0, model.state2, w0)
        update(job.update, (*where, model.coefficients, c0, count, shrink, l2))
