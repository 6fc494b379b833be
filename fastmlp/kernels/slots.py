"""Batches of which each thread takes whole chunks, and adds to partial gradients of its own: slots."""

from __future__ import annotations

import numpy as np

from fastmlp.kernels.chunk import batches_of, begin_batch, clip_factor, forward_and_delta
from fastmlp.kernels.gather import prefetch_samples
from fastmlp.kernels.gradient import add_slots, first_weight, gradient_block, squared_norms, transpose_weights, update_block
from fastmlp.kernels.jit import part
from fastmlp.kernels.plan import LOSS_ONLY, LOSS_STRIDE, LOSS_SUM, NOBODY, ONE, PANEL_ROWS, TRAINS, WEIGHT_SUM, YES, ZERO
from fastmlp.kernels.simd import index
from fastmlp.kernels.team import barrier


@part
def _slot_chunk(worker, job, layers, blocks, samples, position, rows, next_position, next_rows, scale, model, transposed, space, g0,
                is_first):  # fmt: skip
    """Loss and gradient of the rows of a chunk, by one thread in its own rows of the workspace; returns the loss.

    The gradient is added to what is at g0, unless it is the slot's first. The rows of the chunk to come are asked for meanwhile.
    """
    base = worker.thread * job.own_rows
    loss = 0.0
    for first in range(0, rows, PANEL_ROWS):
        loss += forward_and_delta(
            job, layers, samples, None, position + first, ZERO, base + first, min(PANEL_ROWS, rows - first), scale,
            model.parameters, transposed, space,
        )  # fmt: skip
    if job.mode != LOSS_ONLY:
        n_blocks = len(blocks)
        for b in range(n_blocks):
            block = blocks[b]
            layer = layers[block.layer]
            if job.prefetches:
                start, stop = next_rows * b // n_blocks, next_rows * (b + 1) // n_blocks
                prefetch_samples(job, samples, next_position + start, stop - start, ZERO, job.features)
            d0 = layer.deltas + base * layer.width + block.column
            w0 = first_weight(layer, block)
            gradient_block(
                job, layers, block, layer.inputs + base * layer.input_width, rows, is_first, None, space.deltas, d0, layer.width,
                model.gradient, g0 + w0, layer.width, YES, space,
            )  # fmt: skip
    return loss


@part
def _step_of_slots(worker, meeting, job, layers, blocks, bounds, batch, model, transposed, space, sums):
    """Sum of the gradients and losses of a batch's slots, and its step; returns the next meeting."""
    thread, n_threads, gradient = worker.thread, worker.n_threads, model.gradient
    slots, stride = min(job.slots, batch.last_chunk), job.slot_stride
    if n_threads > 1 and job.mode != LOSS_ONLY:
        add_slots(gradient, ZERO, ZERO, ONE, np.int64(len(model.parameters)), slots, stride, job.slots, n_threads, thread)
    meeting = barrier(worker, meeting)
    if meeting < 0:
        return meeting
    if thread == 0:
        for slot in range(slots):
            sums[LOSS_SUM] += space.panel_losses[index(slot * LOSS_STRIDE)]
        sums[WEIGHT_SUM] += batch.weight
    if job.mode != LOSS_ONLY:
        for b in range(bounds[thread], bounds[thread + 1]):
            block = blocks[b]
            layer = layers[block.layer]
            g0 = first_weight(layer, block)
            rows = block.rows + block.bias
            add_slots(gradient, g0, layer.width, rows, block.columns, slots, stride, job.slots, n_threads, NOBODY)
            if job.max_norm > 0:
                squared_norms(block, gradient, g0, layer.width, space.norms)
    if job.mode == TRAINS:
        clip = 1.0
        if job.max_norm > 0:
            meeting = barrier(worker, meeting)
            if meeting < 0:
                return meeting
            clip = clip_factor(space.norms, job.max_norm)
        for b in range(bounds[thread], bounds[thread + 1]):
            block = blocks[b]
            layer = layers[block.layer]
            update_block(job, layers, block, model, gradient, first_weight(layer, block), layer.width, clip, batch.l2, batch.c0)
            transpose_weights(layers, block, model.parameters, transposed)
    return barrier(worker, meeting)


@part
def run_slots(worker, meeting, job, layers, blocks, bounds, samples, model, transposed, space, first_batch, first_chunk,
               last_chunk, sums):  # fmt: skip
    """Chunks first_chunk .. last_chunk of an epoch, where each thread takes whole ones.

    So threads share neither activations nor deltas, and meet twice a batch. Chunk number c of a batch adds to slot c % job.slots,
    in order; slots have a gradient each, and a loss in ``panel_losses``, and are summed when the batch is complete, which may be
    in a later call. How many there are follows from the sizes, so who takes which changes nothing in the result.
    """
    if meeting < 0:
        return
    thread, n_threads, losses = worker.thread, worker.n_threads, space.panel_losses
    first_slot, last_slot = job.slots * thread // n_threads, job.slots * (thread + 1) // n_threads
    start_batch, stop_batch = batches_of(job, first_chunk, last_chunk)
    for number in range(start_batch, stop_batch):
        batch = begin_batch(job, samples, model, number, first_batch, first_chunk, last_chunk)
        if batch.first_chunk >= batch.last_chunk:  # the last batch of an epoch has fewer
            continue
        for chunk in range(batch.first_chunk, batch.last_chunk):
            slot = chunk % job.slots
            if slot < first_slot or slot >= last_slot:
                continue
            start = chunk * job.chunk_rows
            # What this thread takes next: another slot's chunk, the first of its slots' again, or its first one of the next batch.
            ahead = chunk + 1 if slot + 1 < last_slot else chunk + 1 + job.slots - (last_slot - first_slot)
            next_start, next_stop = batch.start + ahead * job.chunk_rows, batch.start + batch.rows
            if next_start >= next_stop:
                next_start, next_stop = next_stop + first_slot * job.chunk_rows, min(next_stop + job.batch_size, job.rows)
            loss = _slot_chunk(
                worker, job, layers, blocks, samples, batch.start + start, min(job.chunk_rows, batch.rows - start),
                next_start, max(0, min(job.chunk_rows, next_stop - next_start)), batch.scale, model, transposed, space,
                slot * job.slot_stride, chunk < job.slots,
            )  # fmt: skip
            place = slot * LOSS_STRIDE
            losses[index(place)] = loss if chunk < job.slots else losses[index(place)] + loss
        if not batch.ends:
            continue
        meeting = _step_of_slots(worker, meeting, job, layers, blocks, bounds, batch, model, transposed, space, sums)
        if meeting < 0:
            return
