"""Online learning: one sample a step, by plain gradient descent. No panels, and outer products instead of gradients."""

from __future__ import annotations

from fastmlp.kernels.delta import delta_panel
from fastmlp.kernels.forward import activate_panel
from fastmlp.kernels.gather import gather_target_rows, prefetch_samples, sample
from fastmlp.kernels.gradient import transpose_weights
from fastmlp.kernels.jit import kernel, part
from fastmlp.kernels.operands import Model, Samples, Space
from fastmlp.kernels.output import block_elements, output_panel, output_row
from fastmlp.kernels.plan import FIRST_CHUNK, LAST_CHUNK, LOSS_SUM, ONE, WEIGHT_SUM, ZERO
from fastmlp.kernels.simd import SINGLE_ROW_VECTORS, copy, flush_denormals, index, lanes, outer, restore_denormals, row_product

AHEAD = 8
"""So many samples ahead, the one to come is asked for."""


@part
def _affine_row(layer, parameters, activations, out, o0):
    """out (width,) at o0 = the layer's input times its weights, plus its bias."""
    vectors = layer.width // lanes(parameters)
    for v in range(0, vectors, SINGLE_ROW_VECTORS):
        j = v * lanes(parameters)
        row_product(
            min(SINGLE_ROW_VECTORS, vectors - v), activations, layer.inputs, layer.fan_in,
            parameters, layer.weights + j, layer.width, parameters, layer.bias + j, out, o0 + j,
        )  # fmt: skip


@part
def _add_outer(values, first, count, d, d0, width, weights, w0):
    """weights (count, width) at w0 += values (count,) at ``first``, times d (width,) at d0."""
    vectors = width // lanes(weights)
    for v in range(0, vectors, SINGLE_ROW_VECTORS):
        j = v * lanes(weights)
        outer(min(SINGLE_ROW_VECTORS, vectors - v), values, first, count, d, d0 + j, weights, w0 + j, width)


@part
def _train_rows(job, layers, samples, first, last, model, transposed, space, sums):
    """Steps first .. last of an epoch; their losses and weights are added to ``sums``.

    The model's coefficients are those of these steps, ``job.step_columns`` apart. The bias of a layer is the row after its last
    one: it is the weight of one more input, which is always 1.
    """
    parameters, activations, deltas, scratch = model.parameters, space.activations, space.deltas, space.scratch
    bottom, top = layers[0], layers[job.n_layers - 1]
    zero, one = type(parameters[0])(0), type(parameters[0])(1)
    for position in range(first, last):
        row = sample(job, samples.order, position)
        if job.prefetches and position + AHEAD < last:
            prefetch_samples(job, samples, position + AHEAD, ONE, ZERO, job.features)
        weight = 1.0
        rate = model.coefficients[index((position - first) * job.step_columns)]
        scale = -rate * job.loss_scale  # the rate is in the deltas already, as they go into the weights
        if job.weighted:
            weight = float(samples.weights[index(row)])
            if job.averages:
                scale = scale / weight if weight > 0 else 0.0
        copy(samples.x, row * job.features, activations, bottom.inputs, job.features)
        if not top.by_row:  # so early that it has come when it is needed
            gather_target_rows(job, samples, position, ONE, scratch, block_elements(job.outputs), top.width)
        for number in range(job.n_layers - 1):
            _affine_row(layers[number], parameters, activations, activations, layers[number].outputs)
            activate_panel(job, layers, number, position, ZERO, ONE, activations, deltas)
        if top.by_row:
            _affine_row(top, parameters, activations, activations, top.outputs)
            loss = output_panel(job, layers, samples, position, ZERO, ONE, scale, space)
        else:
            _affine_row(top, parameters, activations, scratch, ZERO)
            loss = output_row(job, top, weight, scale, deltas, scratch)
        delta_panel(layers, job.n_layers, ZERO, ONE, transposed, space.constants, deltas)
        for number in range(job.n_layers):
            layer = layers[number]
            constant = index(layer.inputs + layer.fan_in)
            if number > 0:
                if (
                    activations[constant] != 0 or layers[number - 1].dropout > 0
                ):  # padding is f(0), but has to be zero in the weights
                    for j in range(layer.fan_in, layer.transposed_width):
                        activations[index(layer.inputs + j)] = zero
                _add_outer(
                    deltas, layer.deltas, layer.fan_out, activations, layer.inputs, layer.transposed_width,
                    transposed, layer.transposed,
                )  # fmt: skip
            activations[constant] = one
            _add_outer(activations, layer.inputs, layer.fan_in + 1, deltas, layer.deltas, layer.width, parameters, layer.weights)
        sums[LOSS_SUM] += loss
        sums[WEIGHT_SUM] += weight


@kernel
def run_rows(thread, n_threads, sync, calls, jobs, layers, blocks, bounds, x, indices, starts, y, labels, weights, order,
             parameters, transposed, packed, state1, state2, gradient, constants, activations, deltas, scratch, panel_losses, norms,
             coefficients, sums):  # fmt: skip
    """Some steps of an epoch where each batch is one dense sample; by one thread.

    Takes what :func:`~fastmlp.kernels.epoch.run_chunks` takes; to compile it into that would make everybody wait for it.
    """
    mode = flush_denormals()
    for b in range(len(blocks)):
        transpose_weights(layers, blocks[b], parameters, transposed)
    samples = Samples(x, y, labels, weights, order)
    model = Model(parameters, state1, state2, gradient, coefficients)
    space = Space(constants, activations, deltas, scratch, ZERO, panel_losses, norms)
    _train_rows(jobs[0], layers, samples, calls[FIRST_CHUNK], calls[LAST_CHUNK], model, transposed, space, sums)
    restore_denormals(mode)
