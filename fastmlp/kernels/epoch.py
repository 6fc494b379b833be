"""One call, many minibatches: gather -> forward -> loss and delta -> gradient -> update."""

from __future__ import annotations

from fastmlp.kernels.bands import multiply_bands
from fastmlp.kernels.bins import sort_by_bins
from fastmlp.kernels.chunk import (
    batches_of,
    begin_batch,
    chunks_per_batch,
    forward_and_delta,
    gradient_and_step,
    my_panels,
    prefetch_share,
)
from fastmlp.kernels.copies import run_copies
from fastmlp.kernels.gradient import prefetch_weights, transpose_weights
from fastmlp.kernels.jit import device, kernel, part
from fastmlp.kernels.layered import delta_columns, forward_columns, gather_columns
from fastmlp.kernels.operands import Model, Samples, Space, Worker
from fastmlp.kernels.output import output_panel
from fastmlp.kernels.plan import (
    FEWEST_BLOCKS,
    FIRST_BATCH,
    FIRST_CHUNK,
    GRADIENT_ONLY,
    LAST_CHUNK,
    LOSS_ONLY,
    LOSS_SUM,
    MOST_BLOCKS,
    NOBODY,
    ONE,
    PANEL_ROWS,
    WEIGHT_SUM,
    WORKING,
    ZERO,
)
from fastmlp.kernels.processors import take_place
from fastmlp.kernels.simd import flush_denormals, index, restore_denormals
from fastmlp.kernels.slots import run_slots
from fastmlp.kernels.sparse import multiply_sparse
from fastmlp.kernels.team import barrier, next_call, return_tickets, take_ticket, wait_while


@part
def _forward_and_delta_by_layer(worker, meeting, job, layers, samples, position, rows, scale, parameters, space):
    """All that comes before the gradients, one layer at a time; returns the number of the next meeting."""
    first_panel, last_panel = my_panels(worker, rows)
    for panel in range(first_panel, last_panel):
        first = panel * PANEL_ROWS
        n = min(PANEL_ROWS, rows - first)
        gather_columns(job, layers, samples, position + first, first, n, space.activations)
    for number in range(job.n_layers):
        meeting = barrier(worker, meeting)
        if meeting < 0:
            return meeting
        forward_columns(worker, job, layers, number, position, rows, parameters, space)
    meeting = barrier(worker, meeting)
    if meeting < 0:
        return meeting
    for panel in range(first_panel, last_panel):
        first = panel * PANEL_ROWS
        n = min(PANEL_ROWS, rows - first)
        space.panel_losses[index(panel)] = output_panel(job, layers, samples, position + first, first, n, scale, space)
    if job.mode != LOSS_ONLY:
        for number in range(job.n_layers - 1, 0, -1):
            meeting = barrier(worker, meeting)
            if meeting < 0:
                return meeting
            delta_columns(worker, layers, number, rows, parameters, space)
    return meeting


@device
def blocks_at_once(n_blocks, n_threads):
    """How many blocks, of so many, a thread takes at once; 0 where shares are better fixed beforehand."""
    at_once = min(MOST_BLOCKS, n_blocks // (4 * n_threads))
    return at_once if n_threads > 1 and at_once >= FEWEST_BLOCKS else 0


@part
def _shared_chunk(worker, meeting, job, layers, blocks, bounds, samples, indices, starts, batch, chunk, has_own_bands, model,
                  transposed, packed, space, sums):  # fmt: skip
    """One chunk of a batch, of which each thread has a share of the rows, and then of the weights; returns the next meeting."""
    thread, n_threads, parameters = worker.thread, worker.n_threads, model.parameters
    rows = min(job.chunk_rows, batch.rows - chunk * job.chunk_rows)
    position = batch.start + chunk * job.chunk_rows
    is_first, is_last = chunk == 0, (chunk + 1) * job.chunk_rows >= batch.rows
    if transposed is not None and n_threads > 1 and is_first and job.shares_weights:
        for b in range(len(blocks)):
            is_needed = blocks[b].layer > 0 or (indices is None and not has_own_bands)
            if is_needed and (b < bounds[thread] or b >= bounds[thread + 1]):
                prefetch_weights(layers, blocks[b], parameters, transposed)

    first_panel, last_panel = my_panels(worker, rows)
    first_block, last_block = bounds[thread], bounds[thread + 1]
    shares_before = 0 if transposed is None else last_panel - first_panel  # of the samples that are asked for
    n_shares = shares_before + last_block - first_block
    if packed is not None:
        meeting = _forward_and_delta_by_layer(
            worker, meeting, job, layers, samples, position, rows, batch.scale, parameters, space
        )  # fmt: skip
        if meeting < 0:
            return meeting
    if transposed is not None:
        if indices is not None:
            multiply_sparse(worker, job, layers, samples, indices, starts, position, rows, parameters, space.activations)
            if job.bins != 0:
                sort_by_bins(worker, job, layers, samples, indices, starts, position, rows, parameters)
        elif job.bands > 0:
            multiply_bands(worker, job, layers, samples, position, rows, ZERO, parameters, space)
        if indices is not None or job.bands > 0:
            meeting = barrier(worker, meeting)
            if meeting < 0:
                return meeting
        for panel in range(first_panel, last_panel):
            if job.prefetches:
                prefetch_share(worker, job, samples, position + rows, panel - first_panel, n_shares)
            first = panel * PANEL_ROWS
            n = min(PANEL_ROWS, rows - first)
            space.panel_losses[index(panel)] = forward_and_delta(
                job, layers, samples, indices, position + first, first, first, n, batch.scale, parameters, transposed, space,
            )  # fmt: skip
    meeting = barrier(worker, meeting)
    if meeting < 0:
        return meeting

    if thread == 0:
        for panel in range((rows + PANEL_ROWS - 1) // PANEL_ROWS):
            sums[LOSS_SUM] += space.panel_losses[index(panel)]
        if is_last:
            sums[WEIGHT_SUM] += batch.weight
    if job.mode != LOSS_ONLY:
        clips = job.max_norm > 0
        steps_now = is_last and job.mode != GRADIENT_ONLY
        keep_gradient = chunks_per_batch(job) > 1 or clips or job.mode == GRADIENT_ONLY
        # Weights that outgrow the caches are in nobody's, so whoever is free takes the next ones; unless all meet in between.
        at_once = blocks_at_once(len(blocks), n_threads) if packed is not None and not clips else 0
        takes_any = at_once > 0
        n_turns = (len(blocks) + at_once - 1) // at_once if takes_any else 1
        turn = take_ticket(worker, NOBODY) if takes_any else 0
        while turn < n_turns:
            if takes_any:
                first_block, last_block = turn * at_once, min(len(blocks), (turn + 1) * at_once)
            meeting = gradient_and_step(
                worker, meeting, job, layers, blocks, first_block, last_block, samples, indices, starts, position, ZERO, rows,
                is_first, steps_now, keep_gradient, batch.l2, batch.c0, model, transposed, packed, space, shares_before, n_shares,
            )  # fmt: skip
            shares_before += last_block - first_block
            turn = take_ticket(worker, turn) if takes_any else n_turns
        if meeting < 0:
            return meeting
        if takes_any:
            return_tickets(worker, n_turns)
    return meeting if has_own_bands else barrier(worker, meeting)


@part
def _run_shared(worker, meeting, job, layers, blocks, bounds, samples, indices, starts, model, transposed, packed, space,
                first_batch, first_chunk, last_chunk, sums):  # fmt: skip
    """Chunks first_chunk .. last_chunk of an epoch, where threads share each.

    A thread computes its share of the panels of rows (where samples are wide or sparse, behind a barrier that follows the first
    layer's products: of its bands of features, see :mod:`fastmlp.kernels.bands`, or of its columns, see
    :mod:`fastmlp.kernels.sparse`), then (behind a barrier) the gradient of blocks bounds[thread] .. bounds[thread + 1] (of sparse
    samples, first that of its columns), or, of weights that outgrow the caches, of any blocks that are left. Who computes what
    changes nothing in the result: panels, bands and blocks are the same for any number of threads, and so is the order of each sum.
    """
    # With bands that are all a thread's own, a chunk may begin while other threads are still busy with the one before: until the
    # next meeting, a thread reads and writes what nobody else does. It writes the inputs and the sums of its own bands: of the
    # inputs, only the gradients of its own blocks read these (partition.py keeps them together), and the sums were read before the
    # last meeting. It reads the weights of its own bands, with the bias in the last one.
    has_own_bands = transposed is not None and job.bands > 0 and job.bands % worker.n_threads == 0
    start_batch, stop_batch = batches_of(job, first_chunk, last_chunk)
    for number in range(start_batch, stop_batch):
        batch = begin_batch(job, samples, model, number, first_batch, first_chunk, last_chunk)
        for chunk in range(batch.first_chunk, batch.last_chunk):
            if meeting < 0:
                return
            meeting = _shared_chunk(
                worker, meeting, job, layers, blocks, bounds, samples, indices, starts, batch, chunk, has_own_bands, model,
                transposed, packed, space, sums,
            )  # fmt: skip


@part
def _run(worker, job, layers, blocks, bounds, samples, indices, starts, model, transposed, packed, space, first_batch, first_chunk,
         last_chunk, sums):  # fmt: skip
    """Chunks first_chunk .. last_chunk of an epoch, in one of three ways.

    A chunk is at most job.chunk_rows rows of one batch; the last of a batch updates the parameters. Threads share each chunk
    (:func:`_run_shared`), or take whole ones (:mod:`fastmlp.kernels.slots`), or have a copy each of the layers above bands
    (:mod:`fastmlp.kernels.copies`).

    What is None is not compiled, so the first training of all need not wait for it: ``indices`` and ``starts`` are None unless
    samples are compressed rows (then x has their values, see :mod:`fastmlp.kernels.sparse`, and the gradient of the first layer is
    zero before and after). ``packed`` is ``scratch`` where a chunk goes layer by layer (:mod:`fastmlp.kernels.layered`), and
    ``transposed`` is None there; everywhere else it is the other way round.

    The coefficients of the model are of batch first_batch and those after it, or of any batch if there is one row. sums: the
    weighted loss and the weight are added to it.
    """
    mode = flush_denormals()
    meeting = ONE
    is_shared = True
    if transposed is not None:
        # Somebody may have changed the weights since the last call.
        for b in range(bounds[worker.thread], bounds[worker.thread + 1]):
            transpose_weights(layers, blocks[b], model.parameters, transposed)
        meeting = barrier(worker, meeting)
        if indices is None and job.slots > 0:
            is_shared = False
            run_slots(
                worker, meeting, job, layers, blocks, bounds, samples, model, transposed, space, first_batch, first_chunk,
                last_chunk, sums,
            )  # fmt: skip
        if indices is None and job.copies != 0:
            is_shared = False
            run_copies(
                worker, meeting, job, layers, blocks, bounds, samples, model, transposed, space, first_batch, first_chunk,
                last_chunk, sums,
            )  # fmt: skip
    if is_shared:
        _run_shared(
            worker, meeting, job, layers, blocks, bounds, samples, indices, starts, model, transposed, packed, space, first_batch,
            first_chunk, last_chunk, sums,
        )  # fmt: skip
    restore_denormals(mode)


@kernel
def run_chunks(thread, n_threads, sync, calls, jobs, layers, blocks, bounds, x, indices, starts, y, labels, weights, order,
               parameters, transposed, packed, state1, state2, gradient, constants, activations, deltas, scratch, panel_losses,
               norms, coefficients, sums):  # fmt: skip
    """Some chunks of an epoch, run by ``n_threads`` threads at once, of which all but the first stay for the next call.

    calls: number of the first batch, first chunk and the one after the last.
    The other arguments: see :func:`_run`.
    """
    job = jobs[0]
    worker = Worker(thread, n_threads, sync)
    samples = Samples(x, y, labels, weights, order)
    model = Model(parameters, state1, state2, gradient, coefficients)
    space = Space(constants, activations, deltas, scratch, thread * job.scratch_stride, panel_losses, norms)
    while True:
        if n_threads > 1:
            take_place(worker)
        _run(
            worker, job, layers, blocks, bounds, samples, indices, starts, model, transposed, packed, space,
            calls[FIRST_BATCH], calls[FIRST_CHUNK], calls[LAST_CHUNK], sums,
        )  # fmt: skip
        if n_threads == 1:
            return
        if thread == 0:
            wait_while(sync, n_threads, WORKING)
            return
        if not next_call(worker):
            return
