"""One call, many minibatches: gather -> forward -> loss and delta -> gradient -> update."""

from __future__ import annotations

from fastmlp.kernels.delta import delta_panel
from fastmlp.kernels.forward import forward_panel, gather_row
from fastmlp.kernels.gradient import gradient_block, squared_norm, transpose_weights, update_block
from fastmlp.kernels.jit import device, kernel, part
from fastmlp.kernels.output import (
    gather_targets,
    output_loss_and_delta,
    scatter_deltas,
    transpose_panel,
    weigh_columns,
)
from fastmlp.kernels.plan import GRADIENT_ONLY, LOSS_ONLY, LOSS_SUM, STEP_COLUMNS, WEIGHT_SUM
from fastmlp.kernels.simd import TRANSPOSE, flush_denormals, index, restore_denormals
from fastmlp.kernels.team import barrier


@device
def _sample(job, order, position):
    """The row of the data that stands at a position of the epoch."""
    return order[index(position)] if job.shuffled else position


@device
def _batch_weight(job, weights, order, first, rows):
    """Sum of the sample weights of positions first .. first + rows."""
    if not job.weighted:
        return float(rows)
    total = 0.0
    for i in range(rows):
        total += weights[index(_sample(job, order, first + i))]
    return total


@device
def _clip_factor(block_norms, n_units, max_norm):
    """What to multiply all gradients by, so that their norm is at most max_norm; block_norms (n_units,): sums of squares."""
    total = 0.0
    for u in range(n_units):
        total += block_norms[index(u)]
    factor = max_norm / (total**0.5 + 1e-6)
    return factor if factor < 1.0 else 1.0  # nan, too, leaves the gradient as it is


@part
def _panel(job, layers, x, y, labels, weights, order, position, first, rows, scale, parameters, transposed, constants,
           activations, deltas, scratch, p0):  # fmt: skip
    """All that is local to rows first .. first + rows of the workspace; returns their weighted loss.

    ``position`` is that of the first of them in the epoch; ``p0`` is where this thread's scratch memory begins: room for the
    panel at the widest layer, then four transposed panels of the outputs (logits, targets, deltas, loss terms), weights and sums.
    """
    ld = job.panel_rows
    last = layers[job.n_layers - 1]
    block = (job.outputs + TRANSPOSE - 1) // TRANSPOSE * TRANSPOSE * ld
    z0 = p0 + job.scratch_stride - 4 * block - 2 * ld
    y0, d0, t0 = z0 + block, z0 + 2 * block, z0 + 3 * block
    w0 = z0 + 4 * block
    s0 = w0 + ld
    bottom = layers[0]
    for i in range(rows):
        row = _sample(job, order, position + i)
        gather_row(x, job.features, row, activations, bottom.inputs + (first + i) * bottom.input_width)
        gather_targets(job, y, labels, row, scratch, y0, ld, i)
        scratch[index(w0 + i)] = weights[index(row)] if job.weighted else 1
    forward_panel(layers, job.n_layers, first, rows, parameters, activations, deltas)
    transpose_panel(activations, last.outputs + first * last.width, last.width, rows, job.outputs, scratch, z0, ld)
    output_loss_and_delta(job, last, scratch, z0, y0, d0, t0, s0, ld)
    loss = weigh_columns(scratch, d0, t0, w0, job.outputs, ld, rows, scale)
    if job.optimizer != LOSS_ONLY:
        scatter_deltas(scratch, d0, job.outputs, ld, rows, deltas, last.deltas + first * last.width, last.width)
        delta_panel(layers, job.n_layers, first, rows, transposed, constants, deltas, scratch, p0)
    return loss


@kernel
def run_chunks(thread, n_threads, sync, jobs, layers, units, bounds, x, y, labels, weights, order, parameters, transposed,
               refresh, state1, state2, gradient, constants, activations, deltas, scratch, panel_losses, block_norms,
               coefficients, first_batch, first_chunk, last_chunk, sums):  # fmt: skip
    """Chunks first_chunk .. last_chunk of an epoch, run by ``n_threads`` threads at once.

    A chunk is at most job.chunk_rows rows of one batch; the last of a batch updates the parameters. Thread ``thread``
    computes its share of the panels of rows, then (behind a barrier) the gradient of units bounds[thread] ..
    bounds[thread + 1]. Who computes what changes nothing in the result: panels and units are the same for any number of
    threads, and sums over them are made in order.

    x (rows, features), y (rows, outputs) or labels (rows,), weights (rows,), order (rows,): flat, contiguous, read
    only; those that the job does not use have any length. parameters, state1, state2, gradient: laid out as ``layers``
    says. constants: a row of zeros, then a one. coefficients (batches, STEP_COLUMNS): of batch first_batch and those
    after it. sums: the weighted loss and the weight are added to it.
    """
    mode = flush_denormals()
    job = jobs[0]
    target = n_threads
    chunks_per_batch = (job.batch_size + job.chunk_rows - 1) // job.chunk_rows
    clips = job.max_norm > 0
    keep_gradient = chunks_per_batch > 1 or clips or job.optimizer == GRADIENT_ONLY
    p0 = thread * job.scratch_stride
    if refresh:
        for u in range(bounds[thread], bounds[thread + 1]):
            transpose_weights(layers, units[u], parameters, transposed)
        target = barrier(sync, n_threads, target)

    for chunk in range(first_chunk, last_chunk):
        if target < 0:
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
        weight = _batch_weight(job, weights, order, batch_start, batch_rows)
        scale = 1.0
        if job.mean:
            scale = 1.0 / weight if weight > 0 else 0.0

        n_panels = (rows + job.panel_rows - 1) // job.panel_rows
        for panel in range(n_panels * thread // n_threads, n_panels * (thread + 1) // n_threads):
            first = panel * job.panel_rows
            panel_losses[index(panel)] = _panel(
                job, layers, x, y, labels, weights, order, batch_start + chunk_start + first, first,
                min(job.panel_rows, rows - first), scale, parameters, transposed, constants, activations, deltas, scratch, p0,
            )  # fmt: skip
        target = barrier(sync, n_threads, target)
        if target < 0:
            break

        if thread == 0:
            for panel in range(n_panels):
                sums[LOSS_SUM] += panel_losses[index(panel)]
            if is_last:
                sums[WEIGHT_SUM] += weight
        if job.optimizer != LOSS_ONLY:
            c0 = (batch - first_batch) * STEP_COLUMNS
            steps_now = is_last and job.optimizer != GRADIENT_ONLY
            clip = 1.0
            # Clipping needs the norm of the whole gradient before the first update: two rounds over the units instead of one.
            for turn in range(2 if clips and steps_now else 1):
                if turn == 1:
                    target = barrier(sync, n_threads, target)
                    if target < 0:
                        break
                    clip = _clip_factor(block_norms, job.n_units, job.max_norm)
                for u in range(bounds[thread], bounds[thread + 1]):
                    unit = units[u]
                    layer = layers[unit.layer]
                    out, out0, ld = scratch, p0, unit.columns
                    if keep_gradient:
                        out, out0, ld = gradient, layer.weights + unit.row * layer.width + unit.column, layer.width
                    if turn == 0:
                        gradient_block(
                            layers, unit, rows, number == 0, activations, deltas, constants, out, out0, ld, keep_gradient
                        )
                        if clips:
                            block_norms[index(u)] = squared_norm(unit, out, out0, ld)
                    if steps_now and (turn == 1 or not clips):
                        update_block(job, layers, unit, parameters, out, out0, ld, state1, state2, clip, coefficients, c0)
                        transpose_weights(layers, unit, parameters, transposed)
        target = barrier(sync, n_threads, target)
    restore_denormals(mode)
