"""One call, many minibatches: gather -> forward -> loss and delta -> gradient -> update."""

from __future__ import annotations

import numpy as np

from fastmlp.kernels.bands import copy_upper, join_bands, multiply_bands, my_features, unit_inputs
from fastmlp.kernels.delta import delta_panel
from fastmlp.kernels.forward import activate_panel, forward_panel
from fastmlp.kernels.gather import gather_inputs, prefetch_samples, total_weight
from fastmlp.kernels.gradient import (
    add_slots,
    clear_block,
    gradient_block,
    prefetch_to_update,
    prefetch_weights,
    squared_norms,
    transpose_weights,
    update_block,
)
from fastmlp.kernels.jit import device, kernel, part
from fastmlp.kernels.layered import delta_columns, forward_columns, gather_columns, pack_columns
from fastmlp.kernels.operands import Model, Samples, Space, Worker
from fastmlp.kernels.output import output_panel
from fastmlp.kernels.plan import (
    FEWEST_UNITS,
    FIRST_BATCH,
    FIRST_CHUNK,
    GRADIENT_ONLY,
    LAST_CHUNK,
    LOSS_ONLY,
    LOSS_STRIDE,
    LOSS_SUM,
    MOST_UNITS,
    NO,
    NOBODY,
    ONE,
    PANEL_ROWS,
    TRAINS,
    UNIT_SCRATCH,
    WEIGHT_SUM,
    WORKING,
    YES,
    ZERO,
)
from fastmlp.kernels.processors import take_place
from fastmlp.kernels.simd import array_at, flush_denormals, index, restore_denormals
from fastmlp.kernels.sparse import my_columns, sparse_affine, sparse_gradient, sparse_update
from fastmlp.kernels.team import barrier, next_call, return_tickets, take_ticket, wait_while


@device
def _clip_factor(norms, max_norm):
    """What to multiply all gradients by, so that their norm is at most max_norm; norms: sums of squares."""
    total = 0.0
    for i in range(len(norms)):
        total += norms[index(i)]
    factor = max_norm / (total**0.5 + 1e-6)
    return factor if factor < 1.0 else 1.0  # nan, too, leaves the gradient as it is


@device
def _my_panels(worker, rows):
    """First panel of a thread's share of so many rows, and the one after its last."""
    n_panels = (rows + PANEL_ROWS - 1) // PANEL_ROWS
    return n_panels * worker.thread // worker.n_threads, n_panels * (worker.thread + 1) // worker.n_threads


@part
def _panel(job, layers, samples, indices, starts, position, sums, first, rows, scale, parameters, transposed, space):
    """All that comes before the gradients, for rows first .. first + rows of the workspace; returns their loss.

    ``position`` is that of the first of them in the epoch, ``sums`` its row in the sums of the bands, if there are any.
    """
    activations, deltas = space.activations, space.deltas
    first_layer = 1
    if indices is not None:
        bottom = layers[0]
        o0 = bottom.outputs + first * bottom.width
        sparse_affine(job, bottom, samples.x, indices, starts, samples.order, position, rows, parameters, activations, o0)
    elif job.bands > 0:
        join_bands(job, layers, sums, first, rows, activations)
    else:
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
def _layered_chunk(worker, meeting, job, layers, samples, position, rows, scale, parameters, space):
    """All that comes before the gradients, one layer at a time; returns the number of the next meeting."""
    first_panel, last_panel = _my_panels(worker, rows)
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


@part
def _prefetch_share(worker, job, samples, position, share, n_shares):
    """Ask for one of ``n_shares`` parts of the samples that this thread will gather next, when a chunk begins at ``position``.

    Spread over panels and units, so that they are on their way while there is something else to do: a processor can wait for
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
def _slot_chunk(worker, job, layers, units, samples, position, rows, next_position, next_rows, scale, model, transposed, space, g0,
                is_first):  # fmt: skip
    """Loss and gradient of the rows of a chunk, by one thread in its own rows of the workspace; returns the loss.

    The gradient is added to what is at g0, unless it is the slot's first. The rows of the chunk to come are asked for meanwhile.
    """
    base = worker.thread * job.own_rows
    loss = 0.0
    for first in range(0, rows, PANEL_ROWS):
        loss += _panel(
            job, layers, samples, None, None, position + first, ZERO, base + first, min(PANEL_ROWS, rows - first), scale,
            model.parameters, transposed, space,
        )  # fmt: skip
    if job.mode != LOSS_ONLY:
        n_units = len(units)
        for u in range(n_units):
            unit = units[u]
            layer = layers[unit.layer]
            if job.prefetches:
                start, stop = next_rows * u // n_units, next_rows * (u + 1) // n_units
                prefetch_samples(job, samples, next_position + start, stop - start, ZERO, job.features)
            d0 = layer.deltas + base * layer.width + unit.column
            w0 = layer.weights + unit.row * layer.width + unit.column
            gradient_block(
                job, layers, unit, layer.inputs + base * layer.input_width, rows, is_first, None, space.deltas, d0, layer.width,
                model.gradient, g0 + w0, layer.width, YES, space,
            )  # fmt: skip
    return loss


@part
def _run_slots(worker, meeting, job, layers, units, bounds, samples, model, transposed, space, first_batch, first_chunk, last_chunk,
               sums):  # fmt: skip
    """The same where each thread takes whole chunks of a batch.

    So threads share neither activations nor deltas, and meet twice a batch. Chunk number c of a batch adds to slot c % job.slots,
    in order; slots have a gradient each, and a loss in ``panel_losses``, and are summed when the batch is complete, which may be
    in a later call. How many there are follows from the sizes, so who takes which changes nothing in the result.
    """
    if meeting < 0:
        return
    thread, n_threads, gradient, losses = worker.thread, worker.n_threads, model.gradient, space.panel_losses
    chunks_per_batch = (job.batch_size + job.chunk_rows - 1) // job.chunk_rows
    first_slot, last_slot = job.slots * thread // n_threads, job.slots * (thread + 1) // n_threads
    length, stride = len(model.parameters), job.slot_length
    for batch in range(first_chunk // chunks_per_batch, (last_chunk + chunks_per_batch - 1) // chunks_per_batch):
        batch_start = batch * job.batch_size
        batch_rows = min(job.batch_size, job.rows - batch_start)
        n_chunks = (batch_rows + job.chunk_rows - 1) // job.chunk_rows
        first = max(first_chunk - batch * chunks_per_batch, 0)
        last = min(last_chunk - batch * chunks_per_batch, n_chunks)
        if first >= last:
            continue
        weight = _weight_of_batch(job, samples, batch_start, batch_rows, last == n_chunks)
        scale, l2 = _scales(job, weight)
        for number in range(first, last):
            slot = number % job.slots
            if slot < first_slot or slot >= last_slot:
                continue
            start = number * job.chunk_rows
            # What this thread takes next: another slot's chunk, the first of its slots' again, or its first one of the next batch.
            ahead = number + 1 if slot + 1 < last_slot else number + 1 + job.slots - (last_slot - first_slot)
            next_start, next_stop = batch_start + ahead * job.chunk_rows, batch_start + batch_rows
            if next_start >= next_stop:
                next_start, next_stop = next_stop + first_slot * job.chunk_rows, min(next_stop + job.batch_size, job.rows)
            loss = _slot_chunk(
                worker, job, layers, units, samples, batch_start + start, min(job.chunk_rows, batch_rows - start),
                next_start, max(0, min(job.chunk_rows, next_stop - next_start)), scale, model, transposed, space, slot * stride,
                number < job.slots,
            )  # fmt: skip
            place = slot * LOSS_STRIDE
            losses[index(place)] = loss if number < job.slots else losses[index(place)] + loss
        if last < n_chunks:
            continue
        slots = min(job.slots, n_chunks)
        if n_threads > 1 and job.mode != LOSS_ONLY:
            add_slots(gradient, ZERO, ZERO, ONE, length, slots, stride, job.slots, n_threads, thread)
        meeting = barrier(worker, meeting)
        if meeting < 0:
            return
        if thread == 0:
            for slot in range(slots):
                sums[LOSS_SUM] += losses[index(slot * LOSS_STRIDE)]
            sums[WEIGHT_SUM] += weight
        if job.mode != LOSS_ONLY:
            for u in range(bounds[thread], bounds[thread + 1]):
                unit = units[u]
                layer = layers[unit.layer]
                g0 = layer.weights + unit.row * layer.width + unit.column
                rows = unit.rows + unit.bias
                add_slots(gradient, g0, layer.width, rows, unit.columns, slots, stride, job.slots, n_threads, NOBODY)
                if job.max_norm > 0:
                    squared_norms(unit, gradient, g0, layer.width, space.norms)
        if job.mode == TRAINS:
            clip = 1.0
            if job.max_norm > 0:
                meeting = barrier(worker, meeting)
                if meeting < 0:
                    return
                clip = _clip_factor(space.norms, job.max_norm)
            c0 = (batch - first_batch) * job.step_columns
            for u in range(bounds[thread], bounds[thread + 1]):
                unit = units[u]
                layer = layers[unit.layer]
                g0 = layer.weights + unit.row * layer.width + unit.column
                update_block(job, layers, unit, model, gradient, g0, layer.width, clip, l2, c0)
                transpose_weights(layers, unit, model.parameters, transposed)
        meeting = barrier(worker, meeting)
        if meeting < 0:
            return


@device
def _weight_of_batch(job, samples, position, rows, is_last):
    """Sum of the weights of a batch where it matters: to its deltas and penalty, and, once, to the sums. A batch may be long."""
    if job.mean or job.l2_by_weight or is_last:
        return total_weight(job, samples, position, rows)
    return 0.0


@device
def units_at_once(n_units, n_threads):
    """How many units, of so many, a thread takes at once; 0 where shares are better fixed beforehand."""
    at_once = min(MOST_UNITS, n_units // (4 * n_threads))
    return at_once if n_threads > 1 and at_once >= FEWEST_UNITS else 0


@device
def _scales(job, weight):
    """What the deltas of a batch are multiplied by, and its l2, if the sum of its weights is ``weight``."""
    scale, l2 = job.loss_scale, job.l2
    if job.mean:
        scale = scale / weight if weight > 0 else 0.0
    if job.l2_by_weight and weight > 0:
        l2 /= weight
    return scale, l2


@part
def _units(worker, meeting, job, layers, units, first_unit, last_unit, samples, indices, starts, position, base, rows, is_first,
           steps_now, keep_gradient, l2, c0, model, transposed, packed, space, shares_before, n_shares):  # fmt: skip
    """Gradients by the weights of units first_unit .. last_unit of the rows of a chunk, and their step; returns the next meeting.

    base: the chunk's first row in the workspace; where it is not 0 there are bands, whose samples begin at the first row.
    is_first: whether the chunk is the first of its batch, whose gradient is added to nothing. steps_now: whether it is the last.
    ``shares_before`` of ``n_shares`` parts of the samples that come next have been asked for.
    """
    parameters, gradient = model.parameters, model.gradient
    clips = job.max_norm > 0
    clip = 1.0
    touched_only = False
    if indices is not None:
        first_column, last_column = my_columns(layers[0], worker, gradient)
        touched_only = steps_now and job.still
        sparse_gradient(
            job, layers[0], samples.x, indices, starts, samples.order, position, rows, space.deltas,
            parameters if job.plain else gradient, first_column, last_column,
        )  # fmt: skip
        if touched_only:
            if not job.plain:
                sparse_update(job, layers[0], indices, starts, samples.order, position, rows, model, c0, first_column, last_column)
        else:
            meeting = barrier(worker, meeting)
            if meeting < 0:
                return meeting
    # Clipping needs the norm of the whole gradient before the first update: two rounds over the units instead of one.
    for turn in range(2 if clips and steps_now else 1):
        if turn == 1:
            meeting = barrier(worker, meeting)
            if meeting < 0:
                return meeting
            clip = _clip_factor(space.norms, job.max_norm)
        for u in range(first_unit, last_unit):
            unit = units[u]
            layer = layers[unit.layer]
            if turn == 0 and job.prefetches and shares_before + u - first_unit < n_shares:
                _prefetch_share(worker, job, samples, position + rows, shares_before + u - first_unit, n_shares)
            gradient_is_there = indices is not None and unit.layer == 0 and not unit.bias
            if gradient_is_there and touched_only:
                continue
            out, out0, ld = space.scratch, space.scratch0, unit.columns
            if job.plain or keep_gradient or gradient_is_there:
                out = parameters if job.plain else gradient
                out0, ld = layer.weights + unit.row * layer.width + unit.column, layer.width
            if turn == 0:
                inputs = unit_inputs(job, layer, unit, base, space.deltas.itemsize)
                d, d0, ld_d = space.deltas, layer.deltas + base * layer.width + unit.column, layer.width
                if packed is not None:
                    d, d0, ld_d = packed, space.scratch0 + UNIT_SCRATCH, unit.columns
                    if u == first_unit or unit.row == 0:  # the units of a block of columns follow one another
                        pack_columns(space.deltas, layer.deltas + unit.column, layer.width, rows, unit.columns, d, d0)
                if steps_now and (worker.n_threads > 1 or not job.shares_weights):
                    prefetch_to_update(layers, unit, model, transposed)
                if not gradient_is_there:
                    gradient_block(
                        job, layers, unit, inputs, rows, is_first and not job.plain, packed, d, d0, ld_d,
                        out, out0, ld, keep_gradient or job.plain == 1, space,
                    )  # fmt: skip
                if clips:
                    squared_norms(unit, out, out0, ld, space.norms)
            if steps_now and (turn == 1 or not clips):
                if not job.plain:
                    update_block(job, layers, unit, model, out, out0, ld, clip, l2, c0)
                if indices is not None and gradient_is_there:
                    clear_block(unit, out, out0, ld)
                if transposed is not None:
                    transpose_weights(layers, unit, parameters, transposed)
    return meeting


@part
def _run_copies(worker, meeting, job, layers, units, bounds, samples, model, transposed, space, first_batch, first_chunk,
                last_chunk, sums):  # fmt: skip
    """Batches of one chunk each, where each thread goes through the layers above its bands by itself, with all rows.

    Units bounds[thread] .. bounds[thread + 1] are those of a thread's bands, and the units after all bands everybody's. Threads
    meet once a batch: sums of bands are written where those of the batch before are not, which others may still be reading.
    """
    if meeting < 0:
        return
    thread = worker.thread
    base = thread * job.own_rows
    first_unit, last_unit, first_upper, n_units = bounds[thread], bounds[thread + 1], bounds[worker.n_threads], np.int64(len(units))
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
    for u in range(first_upper, n_units):
        transpose_weights(layers, units[u], mine.parameters, my_transposed)
    for batch in range(first_chunk, last_chunk):
        position = batch * job.batch_size
        rows = min(job.batch_size, job.rows - position)
        weight = _weight_of_batch(job, samples, position, rows, True)
        scale, l2 = _scales(job, weight)
        c0 = (batch - first_batch) * job.step_columns
        if job.plain:
            scale *= -model.coefficients[index(c0)]
        turn = batch % 2 * job.own_rows
        multiply_bands(worker, job, layers, samples, position, rows, turn, model.parameters, space)
        meeting = barrier(worker, meeting)
        if meeting < 0:
            return
        n_panels = (rows + PANEL_ROWS - 1) // PANEL_ROWS
        n_shares = n_panels + last_unit - first_unit + n_units - first_upper
        for panel in range(n_panels):
            if job.prefetches:
                _prefetch_share(worker, job, samples, position + rows, panel, n_shares)
            first = panel * PANEL_ROWS
            n = min(PANEL_ROWS, rows - first)
            loss = _panel(
                job, layers, samples, None, None, position + first, turn + first, base + first, n, scale,
                mine.parameters, my_transposed, space,
            )  # fmt: skip
            if thread == 0:
                sums[LOSS_SUM] += loss
        if thread == 0:
            sums[WEIGHT_SUM] += weight
        first, last, chosen, chosen_transposed, before = first_unit, last_unit, model, transposed, n_panels
        for _ in range(2):  # the thread's bands, then the layers above; one call, because to compile it twice takes half a second
            meeting = _units(
                worker, meeting, job, layers, units, first, last, samples, None, None, position, base, rows, YES, YES, NO, l2, c0,
                chosen, chosen_transposed, None, space, before, n_shares,
            )  # fmt: skip
            before += last - first
            first, last, chosen, chosen_transposed = first_upper, n_units, mine, my_transposed


@part
def _run(worker, job, layers, units, bounds, samples, indices, starts, model, transposed, packed, space, first_batch, first_chunk,
         last_chunk, sums):  # fmt: skip
    """Chunks first_chunk .. last_chunk of an epoch.

    A chunk is at most job.chunk_rows rows of one batch; the last of a batch updates the parameters. A worker
    computes its share of the panels of rows (where samples are wide, behind a barrier that follows the products of its bands of
    features, see :mod:`fastmlp.kernels.bands`), then (behind a barrier) the gradient of units bounds[thread] ..
    bounds[thread + 1], or, of weights that outgrow the caches, of any units that are left. Who computes what changes nothing in
    the result: panels, bands and units are the same for any number of threads, and sums over them are made in order.
    Slots (:func:`_run_slots`) and copies of the layers above bands (:func:`_run_copies`) have loops of their own.

    What is None is not compiled, so the first training of all need not wait for it: ``indices`` and ``starts`` are None unless
    samples are compressed rows (then x has their values, see :mod:`fastmlp.kernels.sparse`, and the gradient of the first layer is
    zero before and after). ``packed`` is ``scratch`` where a chunk goes layer by layer (:mod:`fastmlp.kernels.layered`), and
    ``transposed`` is None there; everywhere else it is the other way round.

    The coefficients of the model are of batch first_batch and those after it, or of any batch if there is one row. sums: the
    weighted loss and the weight are added to it.
    """
    mode = flush_denormals()
    thread, n_threads, parameters = worker.thread, worker.n_threads, model.parameters
    meeting = ONE
    chunks_per_batch = (job.batch_size + job.chunk_rows - 1) // job.chunk_rows
    clips = job.max_norm > 0
    keep_gradient = chunks_per_batch > 1 or clips or job.mode == GRADIENT_ONLY
    # With bands that are all a thread's own, a chunk may begin while other threads are still busy with the one before: until the
    # next meeting, a thread reads and writes what nobody else does. It writes the inputs and the sums of its own bands: of the
    # inputs, only the gradients of its own units read these (partition.py keeps them together), and the sums were read before the
    # last meeting. It reads the weights of its own bands, with the bias in the last one.
    has_own_bands = transposed is not None and job.bands > 0 and job.bands % n_threads == 0
    if transposed is not None:
        for u in range(bounds[thread], bounds[thread + 1]):  # somebody may have changed the weights since the last call
            transpose_weights(layers, units[u], parameters, transposed)
        meeting = barrier(worker, meeting)
        if indices is None and job.slots > 0:
            _run_slots(
                worker, meeting, job, layers, units, bounds, samples, model, transposed, space, first_batch, first_chunk,
                last_chunk, sums,
            )  # fmt: skip
            last_chunk = first_chunk
        if indices is None and job.copies != 0 and n_threads <= job.bands:
            _run_copies(
                worker, meeting, job, layers, units, bounds, samples, model, transposed, space, first_batch, first_chunk,
                last_chunk, sums,
            )  # fmt: skip
            last_chunk = first_chunk
    weight = 0.0
    for chunk in range(first_chunk, last_chunk):
        if meeting < 0:
            break
        batch = chunk // chunks_per_batch
        number = chunk - batch * chunks_per_batch
        batch_start = batch * job.batch_size
        batch_rows = min(job.batch_size, job.rows - batch_start)
        chunk_start = number * job.chunk_rows
        rows = min(job.chunk_rows, batch_rows - chunk_start)
        if rows <= 0:
            continue
        is_last = chunk_start + rows == batch_rows
        if number == 0 or chunk == first_chunk or is_last:
            weight = _weight_of_batch(job, samples, batch_start, batch_rows, is_last)
        scale, l2 = _scales(job, weight)
        c0 = (batch - first_batch) * job.step_columns
        # Plain gradient descent, w - rate * gradient: with -rate in the deltas, the product that gives the gradient gives the
        # new weights if it begins with the old ones.
        if job.plain:
            scale *= -model.coefficients[index(c0)]

        if transposed is not None and n_threads > 1 and number == 0 and job.shares_weights:
            for u in range(len(units)):
                is_needed = units[u].layer > 0 or not has_own_bands
                if is_needed and (u < bounds[thread] or u >= bounds[thread + 1]):
                    prefetch_weights(layers, units[u], parameters, transposed)
        n_panels = (rows + PANEL_ROWS - 1) // PANEL_ROWS
        first_panel, last_panel = _my_panels(worker, rows)
        first_unit, last_unit = bounds[thread], bounds[thread + 1]
        shares_before = 0 if transposed is None else last_panel - first_panel  # of the samples that are asked for
        n_shares = shares_before + last_unit - first_unit
        position = batch_start + chunk_start
        if packed is not None:
            meeting = _layered_chunk(worker, meeting, job, layers, samples, position, rows, scale, parameters, space)
            if meeting < 0:
                break
        if transposed is not None:
            if indices is None and job.bands > 0:
                multiply_bands(worker, job, layers, samples, position, rows, ZERO, parameters, space)
                meeting = barrier(worker, meeting)
                if meeting < 0:
                    break
            for panel in range(first_panel, last_panel):
                if job.prefetches:
                    _prefetch_share(worker, job, samples, position + rows, panel - first_panel, n_shares)
                first = panel * PANEL_ROWS
                n = min(PANEL_ROWS, rows - first)
                space.panel_losses[index(panel)] = _panel(
                    job, layers, samples, indices, starts, position + first, first, first, n, scale, parameters, transposed, space
                )
        meeting = barrier(worker, meeting)
        if meeting < 0:
            break

        if thread == 0:
            for panel in range(n_panels):
                sums[LOSS_SUM] += space.panel_losses[index(panel)]
            if is_last:
                sums[WEIGHT_SUM] += weight
        if job.mode != LOSS_ONLY:
            is_first = number == 0
            steps_now = is_last and job.mode != GRADIENT_ONLY
            # Weights that outgrow the caches are in nobody's, so whoever is free takes the next ones; unless all meet in between.
            at_once = units_at_once(len(units), n_threads) if packed is not None and not clips else 0
            takes_any = at_once > 0
            n_turns = (len(units) + at_once - 1) // at_once if takes_any else 1
            turn = take_ticket(worker, NOBODY) if takes_any else 0
            while turn < n_turns:
                if takes_any:
                    first_unit, last_unit = turn * at_once, min(len(units), (turn + 1) * at_once)
                meeting = _units(
                    worker, meeting, job, layers, units, first_unit, last_unit, samples, indices, starts, position, ZERO, rows,
                    is_first, steps_now, keep_gradient, l2, c0, model, transposed, packed, space, shares_before, n_shares,
                )  # fmt: skip
                shares_before += last_unit - first_unit
                turn = take_ticket(worker, turn) if takes_any else n_turns
            if meeting < 0:
                break
            if takes_any:
                return_tickets(worker, n_turns)
        if not has_own_bands:
            meeting = barrier(worker, meeting)
    restore_denormals(mode)


@kernel
def run_chunks(thread, n_threads, sync, calls, jobs, layers, units, bounds, x, indices, starts, y, labels, weights, order,
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
            worker, job, layers, units, bounds, samples, indices, starts, model, transposed, packed, space,
            calls[FIRST_BATCH], calls[FIRST_CHUNK], calls[LAST_CHUNK], sums,
        )  # fmt: skip
        if n_threads == 1:
            return
        if thread == 0:
            wait_while(sync, n_threads, WORKING)
            return
        if not next_call(worker):
            return
