"""The first layer where samples are wide: its features are cut into bands, and a thread works on whole bands.

z_1 = b_1 + the sum over bands of X[:, band] W_1[band]. Whoever makes the product of a band has gathered its features, and computes
the gradient of its weights and updates them: nobody else reads either. What threads exchange is sums as wide as the layer, instead
of samples and weights that are many times as many numbers. Bands follow from the sizes, and their sums are added in order, so who
takes which changes nothing in the result.
"""

from __future__ import annotations

from fastmlp.kernels.forward import rounded
from fastmlp.kernels.gather import sample
from fastmlp.kernels.jit import device, part
from fastmlp.kernels.plan import NO, ONE, PANEL_ROWS, ZERO
from fastmlp.kernels.product import product
from fastmlp.kernels.simd import LINE_BYTES, copy, index, prefetch


@device
def first_feature(features, bands, band, itemsize):
    """Where a band begins; that of the next one is its end. Bands are of whole cache lines."""
    line = LINE_BYTES // itemsize
    return min((features + line - 1) // line * band // bands * line, features)


@device
def gather_band(job, layers, band, x, order, position, first, rows, activations):
    """Inputs of one band, rows first .. first + rows of the workspace; ``position`` is that of the first of them in the epoch."""
    layer = layers[0]
    left = first_feature(job.features, job.bands, band, x.itemsize)
    count = first_feature(job.features, job.bands, band + 1, x.itemsize) - left
    for i in range(rows):
        source = sample(job, order, position + i) * job.features + left
        copy(x, source, activations, layer.inputs + (first + i) * layer.input_width + left, count)


@part
def multiply_band(job, layers, band, first, rows, parameters, constants, activations):
    """The product of one band for rows first .. first + rows of the workspace; that of the last band has the bias in it.

    It is put to ``job.band_sums`` in ``activations``: (bands, rows of the workspace, width).
    """
    layer = layers[0]
    left = first_feature(job.features, job.bands, band, parameters.itemsize)
    depth = first_feature(job.features, job.bands, band + 1, parameters.itemsize) - left
    initial, i0 = constants, ZERO
    if band == job.bands - 1:  # who has its weights has the bias, too
        initial, i0 = parameters, layer.bias
    product(
        rows, layer.width, depth, activations, layer.inputs + first * layer.input_width + left, layer.input_width, ONE,
        parameters, layer.weights + left * layer.width, layer.width, initial, i0, ZERO,
        activations, job.band_sums + band * job.band_length + first * layer.width, layer.width, NO, NO,
    )  # fmt: skip


@part
def multiply_bands(job, layers, x, order, position, rows, thread, n_threads, parameters, constants, activations):
    """One thread's share of the inputs and products of all bands, for ``rows`` rows from ``position`` on.

    What is shared out are the panels of the first band, then those of the second.
    """
    n_panels = (rows + PANEL_ROWS - 1) // PANEL_ROWS
    n_tasks = job.bands * n_panels
    for task in range(n_tasks * thread // n_threads, n_tasks * (thread + 1) // n_threads):
        band = task // n_panels
        first = (task - band * n_panels) * PANEL_ROWS
        n = min(PANEL_ROWS, rows - first)
        gather_band(job, layers, band, x, order, position + first, first, n, activations)
        multiply_band(job, layers, band, first, n, parameters, constants, activations)


@device
def _add_bands(bands, sums, s0, length, count, out, o0):
    """out (count,) at o0 = sum of the first ``count`` numbers of each band at s0, which are ``length`` apart."""
    for q in range(count):
        out[index(o0 + q)] = sums[index(s0 + q)] + sums[index(s0 + length + q)]
    for band in range(2, bands):
        b0 = s0 + band * length
        for q in range(count):
            out[index(o0 + q)] += sums[index(b0 + q)]


@part
def join_bands(job, layers, first, rows, activations):
    """z_1 of rows first .. first + rows of the workspace, from the products of all bands."""
    layer = layers[0]
    row0 = first * layer.width
    _add_bands(
        job.bands,
        activations,
        job.band_sums + row0,
        job.band_length,
        rounded(rows * layer.width),
        activations,
        layer.outputs + row0,
    )


@part
def prefetch_bands(job, x, y, labels, order, position, rows, thread, n_threads, share, n_shares):
    """Ask for one of ``n_shares`` parts of what this thread will gather of the samples at positions ``position`` ...."""
    line = LINE_BYTES // x.itemsize
    n_panels = (rows + PANEL_ROWS - 1) // PANEL_ROWS
    n_tasks = job.bands * n_panels
    first, last = n_tasks * thread // n_threads * PANEL_ROWS, n_tasks * (thread + 1) // n_threads * PANEL_ROWS
    mine = last - first
    for place in range(first + mine * share // n_shares, first + mine * (share + 1) // n_shares):
        task = place // PANEL_ROWS
        band = task // n_panels
        i = place - band * n_panels * PANEL_ROWS
        if i < rows:
            row = sample(job, order, position + i)
            right = first_feature(job.features, job.bands, band + 1, x.itemsize)
            for k in range(first_feature(job.features, job.bands, band, x.itemsize), right, line):
                prefetch(x, row * job.features + k)
            if job.labelled:
                prefetch(labels, row)
            else:
                prefetch(y, row * job.outputs)
