"""What is done with the rows of a chunk, whoever has them: forward, loss and delta; then gradients and a step of some blocks."""

from __future__ import annotations

from fastmlp.kernels.bands import block_inputs, join_bands, my_features
from fastmlp.kernels.bins import are_sorted, step_by_bins
from fastmlp.kernels.delta import delta_panel
from fastmlp.kernels.forward import activate_panel, forward_panel
from fastmlp.kernels.gather import gather_inputs, prefetch_samples, total_weight
from fastmlp.kernels.gradient import (
    clear_block,
    first_weight,
    gradient_block,
    prefetch_to_update,
    squared_norms,
    transpose_weights,
    update_block,
)
from fastmlp.kernels.jit import device, part
from fastmlp.kernels.layered import pack_columns
from fastmlp.kernels.operands import Batch
from fastmlp.kernels.output import output_panel
from fastmlp.kernels.plan import BLOCK_SCRATCH, LOSS_ONLY, PANEL_ROWS, ZERO
from fastmlp.kernels.simd import index
from fastmlp.kernels.sparse import my_columns, sparse_gradient, sparse_update
from fastmlp.kernels.team import barrier


@device
def chunks_per_batch(job):
    """Chunks of a whole batch; the last one of an epoch may have fewer, but they are counted as if it had as many."""
    return (job.batch_size + job.chunk_rows - 1) // job.chunk_rows


@device
def batches_of(job, first_chunk, last_chunk):
    """The first batch that has some of these chunks of the epoch, and the one after the last."""
    chunks = chunks_per_batch(job)
    return first_chunk // chunks, (last_chunk + chunks - 1) // chunks


@device
def begin_batch(job, samples, model, number, first_batch, first_chunk, last_chunk):
    """Batch ``number`` of the epoch, with those of its chunks that are among chunks first_chunk .. last_chunk of the epoch."""
    start = number * job.batch_size
    rows = min(job.batch_size, job.rows - start)
    chunks_before = number * chunks_per_batch(job)
    n_chunks = (rows + job.chunk_rows - 1) // job.chunk_rows
    last = min(last_chunk - chunks_before, n_chunks)
    ends = last == n_chunks
    # A batch may be long, so its weight is computed only where it matters: to the deltas, the penalty and, once, the sums.
    weight = total_weight(job, samples, start, rows) if job.averages or job.l2_by_weight or ends else 0.0
    scale, l2 = job.loss_scale, job.l2
    if job.averages:
        scale = scale / weight if weight > 0 else 0.0
    if job.l2_by_weight and weight > 0:
        l2 /= weight
    c0 = (number - first_batch) * job.step_columns
    # Plain gradient descent, w - rate * gradient: with -rate in the deltas, the product that gives the gradient gives the new
    # weights if it begins with the old ones.
    if job.plain:
        scale *= -model.coefficients[index(c0)]
    return Batch(start, rows, max(first_chunk - chunks_before, 0), last, ends, weight, scale, l2, c0)


@device
def clip_factor(norms, max_norm):
    """What to multiply all gradients by, so that their norm is at most max_norm; norms: sums of squares.

    Pascanu, Mikolov and Bengio, *On the difficulty of training recurrent neural networks* (2013), algorithm 1.
    """
    total = 0.0
    for i in range(len(norms)):
        total += norms[index(i)]
    factor = max_norm / (total**0.5 + 1e-6)
    return factor if factor < 1.0 else 1.0  # nan, too, leaves the gradient as it is


@device
def my_panels(worker, rows):
    """First panel of a thread's share of so many rows, and the one after its last."""
    n_panels = (rows + PANEL_ROWS - 1) // PANEL_ROWS
    return n_panels * worker.thread // worker.n_threads, n_panels * (worker.thread + 1) // worker.n_threads


@part
def forward_and_delta(job, layers, samples, indices, position, sums_row, first, rows, scale, parameters, transposed, space):
    """All that comes before the gradients, for rows first .. first + rows of the workspace; returns their loss.

    ``position`` is that of the first of them in the epoch, ``sums_row`` its row in the sums of the bands, if there are any. Of
    sparse samples the first layer's product is there already (:func:`fastmlp.kernels.sparse.multiply_sparse`).
    """
    activations, deltas = space.activations, space.deltas
    first_layer = 1
    if indices is None and job.bands > 0:
        join_bands(job, layers, sums_row, first, rows, activations)
    elif indices is None:
        first_layer = 0
        inputs = layers[0].inputs + first * layers[0].input_width
        gather_inputs(job, layers, samples, position, inputs, rows, ZERO, job.features, activations)
    if first_layer == 1 and job.n_layers > 1:
        activate_panel(job, layers, ZERO, position, first, rows, activations, deltas)
    forward_panel(job, layers, first_layer, position, first, rows, parameters, transposed, activations, deltas)
    loss = output_panel(job, layers, samples, position, first, rows, scale, space)
    if job.mode != LOSS_ONLY:
        delta_panel(layers, job.n_layers, first, rows, transposed, space.constants, deltas)
    return loss


@part
def prefetch_share(worker, job, samples, position, share, n_shares):
    """Ask for one of ``n_shares`` parts of the samples that this thread will gather next, when a chunk begins at ``position``.

    Spread over panels and blocks, so that they are on their way while there is something else to do: a processor can wait for
    a few dozen cache lines at once, and asking for more keeps it waiting.
    """
    rows = min(job.chunk_rows, job.rows - position)
    n_panels = (rows + PANEL_ROWS - 1) // PANEL_ROWS
    left, right, place, n_places = ZERO, job.features, worker.thread, worker.n_threads
    if job.bands > 0:  # threads share out the panels of a band only if there are more of them than bands
        left, right = my_features(job, worker, samples.x.itemsize)
        n_places = max(1, worker.n_threads // job.bands)
        place = worker.thread % n_places
    first = n_panels * place // n_places * PANEL_ROWS
    last = min(rows, n_panels * (place + 1) // n_places * PANEL_ROWS)
    mine = max(0, last - first)
    start, stop = mine * share // n_shares, mine * (share + 1) // n_shares
    prefetch_samples(job, samples, position + first + start, stop - start, left, right)


@part
def gradient_and_step(worker, meeting, job, layers, blocks, first_block, last_block, samples, indices, starts, position, base,
                       rows, is_first, steps_now, keep_gradient, l2, c0, model, transposed, packed, space, shares_before,
                       n_shares):  # fmt: skip
    """Gradients of blocks first_block .. last_block of weights from the rows of a chunk, and their step; returns the next meeting.

    base: the chunk's first row in the workspace; where it is not 0 there are bands, whose samples begin at the first row.
    is_first: whether the chunk is the first of its batch, whose gradient is added to nothing. steps_now: whether it is the last.
    ``shares_before`` of ``n_shares`` parts of the samples that come next have been asked for.

    Of sparse samples, first the gradient and step of the thread's bins of features (:mod:`fastmlp.kernels.bins`), if they are
    sorted; else the gradient of its columns of the first layer (:mod:`fastmlp.kernels.sparse`), and their step, if that touches
    only what the samples have; else, behind a barrier, its blocks make it like the others.
    """
    parameters, gradient = model.parameters, model.gradient
    clips = job.max_norm > 0
    clip = 1.0
    is_done = False  # the first layer's step
    if indices is not None and are_sorted(worker, job, layers):
        is_done = True
        step_by_bins(worker, job, layers, space.deltas, model, l2, c0, space.scratch, space.scratch0)
    elif indices is not None:
        first_column, last_column, share, _ = my_columns(layers[0], worker, gradient)
        if share > 0:  # the weights are another thread's
            last_column = first_column
        is_done = steps_now and job.still
        sparse_gradient(
            job, layers[0], samples.x, indices, starts, samples.order, position, rows, space.deltas,
            parameters if job.plain else gradient, first_column, last_column,
        )  # fmt: skip
        if is_done:
            if not job.plain:
                sparse_update(job, layers[0], indices, starts, samples.order, position, rows, model, c0, first_column, last_column)
        else:
            meeting = barrier(worker, meeting)
            if meeting < 0:
                return meeting
    # Clipping needs the norm of the whole gradient before the first update: two rounds over the blocks instead of one.
    for turn in range(2 if clips and steps_now else 1):
        if turn == 1:
            meeting = barrier(worker, meeting)
            if meeting < 0:
                return meeting
            clip = clip_factor(space.norms, job.max_norm)
        for b in range(first_block, last_block):
            block = blocks[b]
            layer = layers[block.layer]
            if turn == 0 and job.prefetches and shares_before + b - first_block < n_shares:
                prefetch_share(worker, job, samples, position + rows, shares_before + b - first_block, n_shares)
            gradient_is_there = indices is not None and block.layer == 0 and not block.bias
            if gradient_is_there and is_done:
                continue
            out, out0, ld = space.scratch, space.scratch0, block.columns
            if job.plain or keep_gradient or gradient_is_there:
                out = parameters if job.plain else gradient
                out0, ld = first_weight(layer, block), layer.width
            if turn == 0:
                inputs = block_inputs(job, layer, block, base, space.deltas.itemsize)
                d, d0, ld_d = space.deltas, layer.deltas + base * layer.width + block.column, layer.width
                if packed is not None:
                    d, d0, ld_d = packed, space.scratch0 + BLOCK_SCRATCH, block.columns
                    if b == first_block or block.row == 0:  # the blocks of a block of columns follow one another
                        pack_columns(space.deltas, layer.deltas + block.column, layer.width, rows, block.columns, d, d0)
                if steps_now and (worker.n_threads > 1 or not job.shares_weights):
                    prefetch_to_update(layers, block, model, transposed)
                if not gradient_is_there:
                    gradient_block(
                        job, layers, block, inputs, rows, is_first and not job.plain, packed, d, d0, ld_d,
                        out, out0, ld, keep_gradient or job.plain == 1, space,
                    )  # fmt: skip
                if clips:
                    squared_norms(block, out, out0, ld, space.norms)
            if steps_now and (turn == 1 or not clips):
                if not job.plain:
                    update_block(job, layers, block, model, out, out0, ld, clip, l2, c0)
                if indices is not None and gradient_is_there:
                    clear_block(block, out, out0, ld)
                if transposed is not None:
                    transpose_weights(layers, block, parameters, transposed)
    return meeting
