"""Online learning of narrow networks: one sample a step, and so few units that to call a function takes longer than what it does.

So a step is one function, with the formulas of its activations and its loss in it: a kernel for each choice of these, compiled when
it is first needed. What one layer hands to the next is on the stack, where the compiler knows that nothing else points.

Rows on the stack are NARROW_WIDTH elements apart, one for each layer, and loops over them are as long as a vector register: ``v``
counts vectors, ``j`` the lanes of one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from fastmlp.kernels import elementary
from fastmlp.kernels.gather import prefetch_samples, sample
from fastmlp.kernels.gradient import transpose_weights
from fastmlp.kernels.jit import Kernel, formula, rolled_kernel, rolled_part
from fastmlp.kernels.online import AHEAD
from fastmlp.kernels.operands import Samples
from fastmlp.kernels.plan import FIRST_CHUNK, LAST_CHUNK, LOSS_SUM, NARROW_WIDTH, ONE, WEIGHT_SUM, ZERO
from fastmlp.kernels.simd import (
    flush_denormals,
    index,
    lanes,
    max_of_lanes,
    outer,
    restore_denormals,
    room_on_stack,
    row_product,
    sum_of_lanes,
)

Formula = Kernel[..., Any]


# All of these become a part of the kernel.


@rolled_part
def _affine(layer, number, v, x, x0, outputs, parameters, z, z0):
    """A vector of z: the layer's input, which is x (fan_in,) at x0 or a row of outputs, times its weights, plus its bias."""
    i0, w0, b0 = (number - 1) * NARROW_WIDTH, layer.weights + v, layer.bias + v
    if number == 0:
        row_product(1, x, x0, layer.fan_in, parameters, w0, layer.width, parameters, b0, z, z0)
    else:
        row_product(1, outputs, i0, layer.fan_in, parameters, w0, layer.width, parameters, b0, z, z0)


@rolled_part
def _update(layer, number, x, x0, outputs, delta_of, constants, one0, parameters, transposed):
    """A step: weights += inputs * deltas, in which -rate is already, and bias += deltas, as its input is 1: constants at one0."""
    d0 = number * NARROW_WIDTH
    i0 = d0 - NARROW_WIDTH
    for v in range(0, layer.width, lanes(delta_of)):
        if number == 0:
            outer(1, x, x0, layer.fan_in, delta_of, d0 + v, parameters, layer.weights + v, layer.width)
        else:
            outer(1, outputs, i0, layer.fan_in, delta_of, d0 + v, parameters, layer.weights + v, layer.width)
        outer(1, constants, one0, ONE, delta_of, d0 + v, parameters, layer.bias + v, layer.width)
    if number > 0:
        width = layer.transposed_width
        for v in range(0, width, lanes(delta_of)):
            outer(1, delta_of, d0, layer.fan_out, outputs, i0 + v, transposed, layer.transposed + v, width)


@rolled_part
def _put_target(job, top, row, v, y, labels, target, t0):
    """A vector of the target of a sample; zeros beyond the outputs."""
    zero, one = type(target[0])(0), type(target[0])(1)
    y0 = row * job.outputs + v
    if not job.labelled:
        for j in range(lanes(target)):
            target[index(t0 + j)] = y[index(y0 + j)] if v + j < top.fan_out else zero
    elif top.fan_out == 1:
        label = type(zero)(labels[index(row)])
        for j in range(lanes(target)):
            target[index(t0 + j)] = label if v + j == 0 else zero
    else:
        label = labels[index(row)]
        for j in range(lanes(target)):
            target[index(t0 + j)] = one if v + j == label else zero


def _end_of_elements(loss_and_delta: Formula) -> Formula:
    """The last layer, of outputs that do not depend on each other."""

    @rolled_part
    def end(job, top, number, row, x, y, labels, outputs, parameters, z, target, terms, delta_of, scale):
        """Writes the terms of the loss of a sample (width,), and delta * scale to its row of delta_of."""
        zero = type(z[0])(0)
        p, q, d0 = type(zero)(top.parameter), type(zero)(job.parameter), number * NARROW_WIDTH
        for v in range(0, top.width, lanes(z)):
            _affine(top, number, v, x, row * job.features, outputs, parameters, z, ZERO)
            _put_target(job, top, row, v, y, labels, target, ZERO)
            for j in range(lanes(z)):
                term, delta = loss_and_delta(z[index(j)], target[index(j)], p, q)
                terms[index(v + j)] = term
                delta_of[index(d0 + v + j)] = delta * scale if v + j < top.fan_out else zero

    return end


@rolled_part
def _end_of_softmax(job, top, number, row, x, y, labels, outputs, parameters, z, target, terms, delta_of, scale):
    """The same of softmax and cross-entropy."""
    zero, d0 = type(z[0])(0), number * NARROW_WIDTH
    for v in range(0, top.width, lanes(z)):
        _affine(top, number, v, x, row * job.features, outputs, parameters, z, v)
        _put_target(job, top, row, v, y, labels, target, v)
    highest = z[0]
    for v in range(0, top.width, lanes(z)):
        for j in range(lanes(z)):
            z[index(v + j)] = z[index(v + j)] if v + j < top.fan_out else highest
        highest = max(highest, max_of_lanes(z, v))
    total, mass = zero, zero
    for v in range(0, top.width, lanes(z)):
        for j in range(lanes(z)):
            shifted = z[index(v + j)] - highest
            z[index(v + j)] = shifted
            delta_of[index(d0 + v + j)] = elementary.exp(shifted) if v + j < top.fan_out else zero
        total += sum_of_lanes(delta_of, d0 + v)
        mass += sum_of_lanes(target, v)
    log_total, share = elementary.log(total), mass * scale / total
    for v in range(0, top.width, lanes(z)):
        for j in range(lanes(z)):
            wanted = target[index(v + j)]
            term, delta = wanted * (log_total - z[index(v + j)]), delta_of[index(d0 + v + j)] * share - wanted * scale
            terms[index(v + j)] = term
            delta_of[index(d0 + v + j)] = delta if v + j < top.fan_out else zero


def _loss_and_delta(
    output: tuple[Formula, Formula], loss: tuple[Formula, Formula], canonical: bool, from_logits: Formula | None
) -> Formula:
    """(logit, target, parameters of the activation and the loss) -> the term of the loss and the derivative by the logit."""
    value, slope = output
    loss_value, loss_slope = loss

    if not canonical:

        @formula
        def general(z, y, p, q):
            a = value(z, p)
            return loss_value(a, y, q), loss_slope(a, y, q) * slope(z, a, p)

        return general
    if from_logits is None:

        @formula
        def of_a_pair(z, y, p, q):
            a = value(z, p)
            return loss_value(a, y, q), a - y

        return of_a_pair
    logits_value = from_logits

    @formula
    def of_logits(z, y, p, q):
        return logits_value(z, y), value(z, p) - y

    return of_logits


@lru_cache(maxsize=256)
def narrow_rows(
    hidden: tuple[Formula, Formula], output: tuple[Formula, Formula] | None, loss: tuple[Formula, Formula], canonical: bool,
    from_logits: Formula | None, name: str,
) -> Kernel[..., None]:  # fmt: skip
    """The kernel for a choice of formulas.

    It takes what :func:`~fastmlp.kernels.epoch.run_chunks` takes, of batches of one dense sample without weights or dropout, and at
    most :data:`~fastmlp.kernels.plan.NARROW_LAYERS` layers of at most :data:`~fastmlp.kernels.plan.NARROW_WIDTH` units; one thread
    runs it.

    Parameters
    ----------
    hidden, output : tuple of Kernel
        Value and derivative of the activation of all hidden layers, and of that of the last; None for softmax, with cross-entropy.
    loss : tuple of Kernel
        Value and derivative.
    canonical : bool
        Whether delta of the last layer is a - y.
    from_logits : Kernel or None
        The loss from the logits, where it is computed from these.
    name : str
        Under which the kernel is kept on disk.
    """
    value, derivative = hidden
    end = _end_of_softmax if output is None else _end_of_elements(_loss_and_delta(output, loss, canonical, from_logits))

    def rows(thread, n_threads, sync, calls, jobs, layers, blocks, bounds, x, indices, starts, y, labels, weights, order,
             parameters, transposed, packed, state1, state2, gradient, constants, activations, deltas, scratch, panel_losses, norms,
             coefficients, sums):  # fmt: skip
        """Some steps of an epoch. Padding of outputs and deltas is zero."""
        mode = flush_denormals()
        job = jobs[0]
        samples = Samples(x, y, labels, weights, order)
        last = job.n_layers - 1
        top = layers[last]
        outputs, slopes, delta_of = room_on_stack(parameters), room_on_stack(parameters), room_on_stack(parameters)
        z, target, terms = room_on_stack(parameters), room_on_stack(parameters), room_on_stack(parameters)
        zero = type(z[0])(0)
        for b in range(len(blocks)):
            transpose_weights(layers, blocks[b], parameters, transposed)
        for position in range(calls[FIRST_CHUNK], calls[LAST_CHUNK]):
            row = sample(job, order, position)
            x0 = row * job.features
            if job.prefetches and position + AHEAD < calls[LAST_CHUNK]:
                prefetch_samples(job, samples, position + AHEAD, ONE, ZERO, job.features)
            rate = coefficients[index((position - calls[FIRST_CHUNK]) * job.step_columns)]

            for number in range(last):
                layer = layers[number]
                o0, p = number * NARROW_WIDTH, type(zero)(layer.parameter)
                for v in range(0, layer.width, lanes(z)):
                    _affine(layer, number, v, x, x0, outputs, parameters, z, ZERO)
                    for j in range(lanes(z)):
                        a = value(z[index(j)], p)
                        slopes[index(o0 + v + j)] = derivative(z[index(j)], a, p) if v + j < layer.fan_out else zero
                        outputs[index(o0 + v + j)] = a if v + j < layer.fan_out else zero
            scale = type(zero)(-rate * job.loss_scale)
            end(job, top, last, row, x, y, labels, outputs, parameters, z, target, terms, delta_of, scale)
            loss = 0.0
            for j in range(top.fan_out):
                loss += terms[index(j)]
            sums[LOSS_SUM] += loss

            for number in range(last, 0, -1):
                layer = layers[number]
                width, d0 = layer.transposed_width, number * NARROW_WIDTH
                for v in range(0, width, lanes(z)):
                    row_product(
                        1, delta_of, d0, layer.fan_out, transposed, layer.transposed + v, width, constants, ZERO, z, ZERO
                    )  # fmt: skip
                    for j in range(lanes(z)):
                        delta_of[index(d0 - NARROW_WIDTH + v + j)] = z[index(j)] * slopes[index(d0 - NARROW_WIDTH + v + j)]
            for number in range(job.n_layers):
                _update(layers[number], number, x, x0, outputs, delta_of, constants, job.output_mask, parameters, transposed)
        sums[WEIGHT_SUM] += calls[LAST_CHUNK] - calls[FIRST_CHUNK]
        restore_denormals(mode)

    rows.__name__ = rows.__qualname__ = name
    return rolled_kernel(rows)
