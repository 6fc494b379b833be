"""The first layer where samples are sparse: its product and its gradient go from one number that is not zero to the next.

Samples are in compressed rows (CSR): row i has the numbers values[starts[i]] .. values[starts[i + 1]], the last not among them, in
those columns (features) that ``indices`` has at the same places.

In training, threads share out the columns of the layer (its units), each for all rows of a chunk, in the product as in the
gradient. A sum is in one column only, so who has which changes nothing in the result.
"""

from __future__ import annotations

from fastmlp.kernels.gather import sample
from fastmlp.kernels.jit import device, part
from fastmlp.kernels.loops import update
from fastmlp.kernels.plan import LINE_BYTES
from fastmlp.kernels.simd import SINGLE_ROW_VECTORS, index, lanes, prefetch, sparse_outer, sparse_product


@device
def my_columns(layer, worker, array):
    """First and last column of a thread's part of a layer, and its share of the rows of a product: (share, shares).

    Parts are whole cache lines, so that no two threads write to the same one. Where a step touches only the weights that samples
    have, nobody else reads a thread's part, and it stays in its cache; other steps go by blocks, or :mod:`fastmlp.kernels.bins`,
    which cut across the parts. Where there are more threads than lines, some have the same part, and share the rows.
    """
    columns = LINE_BYTES // array.itemsize
    lines = layer.width // columns
    parts = min(lines, worker.n_threads)
    part_of_mine, share = worker.thread % parts, worker.thread // parts
    shares = (worker.n_threads - part_of_mine + parts - 1) // parts
    return lines * part_of_mine // parts * columns, lines * (part_of_mine + 1) // parts * columns, share, shares


@device
def _prefetch_sample(job, x, indices, starts, order, position):
    """Ask for the numbers of the sample at ``position``, and their columns: few cache lines, at a random place."""
    row = sample(job, order, position)
    first, last = starts[index(row)], starts[index(row + 1)]
    for k in range(first, last, LINE_BYTES // x.itemsize):
        prefetch(x, k)
    for k in range(first, last, LINE_BYTES // indices.itemsize):
        prefetch(indices, k)


@part
def sparse_affine(job, layer, x, indices, starts, order, position, rows, parameters, out, o0, first_column, last_column):
    """out (rows, width) at o0 = the samples at positions ``position`` .. times the layer's weights, plus its bias; some columns."""
    step = SINGLE_ROW_VECTORS * lanes(parameters)
    for i in range(rows):
        if i + 1 < rows:
            _prefetch_sample(job, x, indices, starts, order, position + i + 1)
        row = sample(job, order, position + i)
        first = starts[index(row)]
        count = starts[index(row + 1)] - first
        for j in range(first_column, last_column, step):
            sparse_product(
                min(SINGLE_ROW_VECTORS, (last_column - j) // lanes(parameters)), x, indices, first, count,
                parameters, layer.weights + j, layer.width, parameters, layer.bias + j, out, o0 + i * layer.width + j,
            )  # fmt: skip


@part
def multiply_sparse(worker, job, layers, samples, indices, starts, position, rows, parameters, activations):
    """One thread's part of the first layer's product, for ``rows`` rows from ``position`` on."""
    layer = layers[0]
    first_column, last_column, share, shares = my_columns(layer, worker, parameters)
    first, last = rows * share // shares, rows * (share + 1) // shares
    sparse_affine(
        job, layer, samples.x, indices, starts, samples.order, position + first, last - first, parameters,
        activations, layer.outputs + first * layer.width, first_column, last_column,
    )  # fmt: skip


@part
def sparse_gradient(job, layer, x, indices, starts, order, position, rows, deltas, gradient, first_column, last_column):
    """gradient (fan_in, width) += samples at positions ``position`` .. transposed, times their deltas; some columns of it.

    With the weights in the place of the gradient, and -rate in the deltas, that is a step of plain gradient descent.
    """
    step = SINGLE_ROW_VECTORS * lanes(gradient)
    for i in range(rows):
        if i + 1 < rows:
            _prefetch_sample(job, x, indices, starts, order, position + i + 1)
        row = sample(job, order, position + i)
        first = starts[index(row)]
        count = starts[index(row + 1)] - first
        for j in range(first_column, last_column, step):
            sparse_outer(
                min(SINGLE_ROW_VECTORS, (last_column - j) // lanes(gradient)), x, indices, first, count,
                deltas, layer.deltas + i * layer.width + j, gradient, layer.weights + j, layer.width,
            )  # fmt: skip


@device
def clear(x, x0, count):
    """x (count,) at x0 = 0."""
    zero = type(x[index(x0)])(0)
    for q in range(count):
        x[index(x0 + q)] = zero


@part
def sparse_update(job, layer, indices, starts, order, position, rows, model, c0, first_column, last_column):
    """One optimizer step of those weights that the samples have touched, some columns of them; leaves their gradient zero.

    Only for optimizers that a gradient of zero does not move (``Optimizer.still``): a weight that several samples have touched is
    updated by the first of them, which leaves its gradient zero, and comes up again with each of the others.
    """
    for i in range(rows):
        row = sample(job, order, position + i)
        for k in range(starts[index(row)], starts[index(row + 1)]):
            w0 = layer.weights + indices[index(k)] * layer.width + first_column
            update(
                job.update,
                (
                    model.parameters, w0, model.gradient, w0, model.state1, w0, model.state2, w0, model.coefficients, c0,
                    last_column - first_column, 1.0, 0.0,
                ),
            )  # fmt: skip
            clear(model.gradient, w0, last_column - first_column)
