"""Batches of wide samples where each thread has a copy of the layers above its bands (see :mod:`fastmlp.kernels.bands`)."""

from __future__ import annotations

import numpy as np

from fastmlp.kernels.bands import copy_upper, multiply_bands
from fastmlp.kernels.chunk import begin_batch, forward_and_delta, gradient_and_step, prefetch_share
from fastmlp.kernels.gradient import transpose_weights
from fastmlp.kernels.jit import part
from fastmlp.kernels.operands import Model
from fastmlp.kernels.plan import LOSS_SUM, NO, PANEL_ROWS, WEIGHT_SUM, YES
from fastmlp.kernels.simd import array_at
from fastmlp.kernels.team import barrier


@part
def run_copies(worker, meeting, job, layers, blocks, bounds, samples, model, transposed, space, first_batch, first_chunk,
               last_chunk, sums):  # fmt: skip
    """Batches of one chunk each, where each thread goes through the layers above its bands by itself, with all rows.

    Blocks bounds[thread] .. bounds[thread + 1] are those of a thread's bands, and the blocks after all bands everybody's. Threads
    meet once a batch: sums of bands are written where those of the batch before are not, which others may still be reading.
    """
    if meeting < 0:
        return
    thread = worker.thread
    base = thread * job.own_rows
    first_block, last_block = bounds[thread], bounds[thread + 1]
    first_upper, n_blocks = bounds[worker.n_threads], np.int64(len(blocks))
    mine, my_transposed = model, transposed
    if thread > 0 and job.n_layers > 1:
        # Elements of an own copy have the same numbers as in the model, so its arrays begin where they would if they were whole.
        first = layers[1].weights
        size = transposed.itemsize
        place, count = job.copies + (thread - 1) * job.copy_bytes, len(model.parameters) - first
        upper = place + (len(transposed) - first) * size
        my_transposed = array_at(place, transposed)
        mine = Model(
            array_at(upper, model.parameters), array_at(upper + count * size, model.state1),
            array_at(upper + 2 * count * size, model.state2), model.gradient, model.coefficients,
        )  # fmt: skip
        copy_upper(first, model, mine)
    for b in range(first_upper, n_blocks):
        transpose_weights(layers, blocks[b], mine.parameters, my_transposed)
    for number in range(first_chunk, last_chunk):
        batch = begin_batch(job, samples, model, number, first_batch, first_chunk, last_chunk)
        position, rows = batch.start, batch.rows
        sums_row = number % 2 * job.own_rows
        multiply_bands(worker, job, layers, samples, position, rows, sums_row, model.parameters, space)
        meeting = barrier(worker, meeting)
        if meeting < 0:
            return
        n_panels = (rows + PANEL_ROWS - 1) // PANEL_ROWS
        n_shares = n_panels + last_block - first_block + n_blocks - first_upper
        for panel in range(n_panels):
            if job.prefetches:
                prefetch_share(worker, job, samples, position + rows, panel, n_shares)
            first = panel * PANEL_ROWS
            n = min(PANEL_ROWS, rows - first)
            loss = forward_and_delta(
                job, layers, samples, None, position + first, sums_row + first, base + first, n, batch.scale,
                mine.parameters, my_transposed, space,
            )  # fmt: skip
            if thread == 0:
                sums[LOSS_SUM] += loss
        if thread == 0:
            sums[WEIGHT_SUM] += batch.weight
        first, last, chosen, chosen_transposed, before = first_block, last_block, model, transposed, n_panels
        for _ in range(2):  # the thread's bands, then the layers above; one call, because to compile it twice takes half a second
            meeting = gradient_and_step(
                worker, meeting, job, layers, blocks, first, last, samples, None, None, position, base, rows, YES, YES, NO,
                batch.l2, batch.c0, chosen, chosen_transposed, None, space, before, n_shares,
            )  # fmt: skip
            before += last - first
            first, last, chosen, chosen_transposed = first_upper, n_blocks, mine, my_transposed
