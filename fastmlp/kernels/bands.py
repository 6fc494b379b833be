"""The first layer where samples are wide: its features are cut into bands.

z_1 = b_1 + the sum over bands of X[:, band] W_1[band]. If there are as many threads as bands, or fewer, whoever makes the product
of a band has gathered its features, and computes the gradient of its weights and updates them: nobody else reads either. What
threads exchange is sums as wide as the layer, instead of samples and weights that are many times as many numbers. (Of more threads,
some share a band, a part of its rows and of its weights each.) Bands follow from the sizes, and their sums are added in order, so
who takes which changes nothing in the result.

Where the layers above are small beside that, each thread goes through them with all rows of a batch: with a copy of its own of
their weights, of which each makes the same step. That is sooner done than waiting for another thread and fetching what it has
computed: threads then meet once in a batch, to exchange the sums of their bands.
"""

from __future__ import annotations

from fastmlp.kernels.forward import rounded
from fastmlp.kernels.gather import gather_inputs
from fastmlp.kernels.jit import device, part
from fastmlp.kernels.plan import LINE_BYTES, NO, ONE, PANEL_ROWS, ZERO
from fastmlp.kernels.product import product
from fastmlp.kernels.simd import copy, index


@device
def first_feature(features, bands, band, itemsize):
    """Where a band begins; that of the next one is its end. Bands are of whole cache lines."""
    line = LINE_BYTES // itemsize
    return min((features + line - 1) // line * band // bands * line, features)


@device
def band_inputs(job, layer, band, itemsize):
    """Where the first layer's inputs would begin if the rows of a band, which hold its own features alone, had all of them.

    Each band has rows of its own: in one row, what a processor fetches ahead at the end of a thread's features would be another's.
    """
    return layer.inputs + band * job.band_rows * layer.input_width - first_feature(job.features, job.bands, band, itemsize)


@device
def band_of(job, feature, itemsize):
    """The band that a feature belongs to."""
    band = ZERO
    while band + 1 < job.bands and feature >= first_feature(job.features, job.bands, band + 1, itemsize):
        band += 1
    return band


@device
def block_inputs(job, layer, block, base, itemsize):
    """Where the inputs (rows, input_width) of a block's layer begin; base: the chunk's first row, but of samples in bands."""
    if block.layer == 0 and job.bands > 0:
        return band_inputs(job, layer, band_of(job, block.row, itemsize), itemsize)
    return layer.inputs + base * layer.input_width


@device
def my_features(job, worker, itemsize):
    """First and last feature of those bands of which a thread has some rows, or all."""
    thread, n_threads = worker.thread, worker.n_threads
    first, last = job.bands * thread // n_threads, (job.bands * (thread + 1) + n_threads - 1) // n_threads
    return first_feature(job.features, job.bands, first, itemsize), first_feature(job.features, job.bands, last, itemsize)


@part
def multiply_band(job, layers, band, left, right, first, rows, sums_row, parameters, space):
    """The product of a band, features left .. right, for rows first .. first + rows of the workspace; the last has the bias in it.

    It is put to ``job.band_sums`` in ``activations``: (bands, rows of the workspace, width), ``sums_row`` rows further down.
    """
    layer = layers[0]
    activations = space.activations
    inputs = band_inputs(job, layer, band, activations.itemsize) + first * layer.input_width
    initial, i0 = space.constants, ZERO
    if band == job.bands - 1:  # who has its weights has the bias, too
        initial, i0 = parameters, layer.bias
    product(
        rows, layer.width, right - left, activations, inputs + left, layer.input_width, ONE,
        parameters, layer.weights + left * layer.width, layer.width, initial, i0, ZERO,
        activations, job.band_sums + (band * job.band_rows + sums_row + first) * layer.width, layer.width, NO, NO,
    )  # fmt: skip


@part
def multiply_bands(worker, job, layers, samples, position, rows, sums_row, parameters, space):
    """One thread's share of the inputs and products of all bands, for ``rows`` rows from ``position`` on.

    What is shared out are the panels of the first band, then those of the second.
    """
    n_panels = (rows + PANEL_ROWS - 1) // PANEL_ROWS
    n_tasks = job.bands * n_panels
    first_task = n_tasks * worker.thread // worker.n_threads
    last_task = n_tasks * (worker.thread + 1) // worker.n_threads
    for task in range(first_task, last_task):
        band = task // n_panels
        first = (task - band * n_panels) * PANEL_ROWS
        n = min(PANEL_ROWS, rows - first)
        left = first_feature(job.features, job.bands, band, samples.x.itemsize)
        right = first_feature(job.features, job.bands, band + 1, samples.x.itemsize)
        inputs = band_inputs(job, layers[0], band, samples.x.itemsize) + first * layers[0].input_width
        gather_inputs(job, layers, samples, position + first, inputs, n, left, right, space.activations)
        multiply_band(job, layers, band, left, right, first, n, sums_row, parameters, space)


@device
def _add(out, o0, more, m0, count):
    """out (count,) at o0 += more (count,) at m0."""
    for q in range(count):
        out[index(o0 + q)] += more[index(m0 + q)]


@part
def join_bands(job, layers, sums_row, first, rows, activations):
    """z_1 of rows first .. first + rows of the workspace, from the products of all bands in their rows from ``sums_row`` on."""
    layer = layers[0]
    s0, z0 = job.band_sums + sums_row * layer.width, layer.outputs + first * layer.width
    count = rounded(rows * layer.width)
    copy(activations, s0, activations, z0, count)
    for band in range(1, job.bands):
        _add(activations, z0, activations, s0 + band * job.band_rows * layer.width, count)


@device
def copy_upper(first, model, mine):
    """What the model has from element ``first`` on, and each of its states that there is, for a thread's own copy of it."""
    count = len(model.parameters) - first
    copy(model.parameters, first, mine.parameters, first, count)
    if len(model.state1) == len(model.parameters):
        copy(model.state1, first, mine.state1, first, count)
    if len(model.state2) == len(model.parameters):
        copy(model.state2, first, mine.state2, first, count)
