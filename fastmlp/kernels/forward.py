"""Forward: z_l = a_{l-1} W_l + b_l, a_l = f_l(z_l), for a panel of rows that stays in the first-level cache."""

from __future__ import annotations

import numpy as np

from fastmlp.kernels.hashes import row_key, unit_hash
from fastmlp.kernels.jit import device, part
from fastmlp.kernels.loops import activate, activate_and_slope
from fastmlp.kernels.plan import FEW_OUTPUTS, NO, ONE, RUN, ZERO
from fastmlp.kernels.product import product
from fastmlp.kernels.simd import dot_products, index


@device
def rounded(count):
    """A number of elements of a panel, rounded up to whole runs of vectors; a panel is always a whole number of them."""
    return (count + RUN - 1) // RUN * RUN


@part
def affine(layers, layer_number, rows, inputs, i0, input_width, parameters, outputs, o0):
    """outputs (rows, width) at o0 = inputs (rows, fan_in) at i0, times the layer's weights, plus its bias."""
    layer = layers[layer_number]
    product(
        rows, layer.width, layer.fan_in, inputs, i0, input_width, ONE, parameters, layer.weights, layer.width,
        parameters, layer.bias, ZERO, outputs, o0, layer.width, NO, NO,
    )  # fmt: skip


@part
def few_outputs(layer, rows, inputs, i0, transposed, t0, parameters, outputs, o0):
    """The same for a layer of few outputs: sums along the inputs; transposed (fan_out, input_width) at t0: its weights."""
    dot_products(
        layer.fan_out, rows, layer.fan_in, inputs, i0, layer.input_width, transposed, t0, layer.input_width,
        parameters, layer.bias, outputs, o0, layer.width,
    )  # fmt: skip


@part
def forward_panel(job, layers, first_layer, position, first, rows, parameters, transposed, activations, deltas):
    """Layers from ``first_layer`` for rows first .. first + rows of the workspace; that one's inputs are there.

    ``position`` is that of the first of them in the epoch.
    Leaves a_l of each hidden layer in ``activations`` and f'_l(z_l) in ``deltas``; of the last layer, only its logits.
    """
    for number in range(first_layer, job.n_layers):
        layer = layers[number]
        i0, o0 = layer.inputs + first * layer.input_width, layer.outputs + first * layer.width
        if number > 0 and layer.fan_out <= FEW_OUTPUTS:
            few_outputs(layer, rows, activations, i0, transposed, layer.transposed, parameters, activations, o0)
        else:
            affine(layers, number, rows, activations, i0, layer.input_width, parameters, activations, o0)
        if number < job.n_layers - 1:
            activate_panel(job, layers, number, position, first, rows, activations, deltas)


@device
def clear_padding(slopes, s0, ld, rows, first, last):
    """Slopes (rows, ld) at s0: columns first .. last, which are padding, become zero if f'(0) is infinite.

    What comes back to them is zero, and zero times infinity would be nan in the weights.
    """
    if first >= last:
        return
    slope = slopes[index(s0 + first)]
    if slope - slope == 0:
        return
    for i in range(rows):
        for j in range(first, last):
            slopes[index(s0 + i * ld + j)] = type(slope)(0)


@part
def activate_panel(job, layers, number, position, first, rows, activations, deltas):
    """a_l = f(z_l) in ``activations``, f'(z_l) in ``deltas``, of rows first .. first + rows of the workspace."""
    layer = layers[number]
    o0, d0 = layer.outputs + first * layer.width, layer.deltas + first * layer.width
    count = layer.width if rows == 1 else rounded(rows * layer.width)
    activate_and_slope(layer.activate_and_slope, (activations, o0, deltas, d0, count, layer.parameter))
    clear_padding(deltas, d0, layer.width, rows, layer.fan_out, layer.width)
    if layer.dropout > 0:
        for i in range(rows):
            leave_out(
                job.dropout_key, layer, number, position + i, ZERO, layer.width,
                activations, o0 + i * layer.width, deltas, d0 + i * layer.width,
            )  # fmt: skip


@device
def leave_out(key, layer, number, position, first_unit, units, outputs, o0, slopes, s0):
    """Dropout for one sample, from ``first_unit`` on: outputs (units,) at o0 and slopes at s0, times 0 or ``kept_scale``.

    As delta is a product with the slope, it needs nothing else. Formulas and sources: :mod:`fastmlp.dropout`.
    """
    whole = row_key(np.uint64(key), np.uint64(number), np.uint64(position))
    low, high = np.uint32(whole), np.uint32(whole >> np.uint64(32))
    threshold = np.uint32(layer.dropout)
    zero, scale = type(outputs[index(o0)])(0), type(outputs[index(o0)])(layer.kept_scale)
    for j in range(units):
        factor = zero if unit_hash(low, high, np.uint32(first_unit + j)) < threshold else scale
        outputs[index(o0 + j)] *= factor
        slopes[index(s0 + j)] *= factor


@part
def hidden_layer(layers, number, rows, inputs, i0, input_width, parameters, outputs, o0):
    """outputs = f(inputs W + b) of one layer that is not the last; nothing is kept for a gradient."""
    layer = layers[number]
    affine(layers, number, rows, inputs, i0, input_width, parameters, outputs, o0)
    activate(layer.activate, (outputs, o0, rounded(rows * layer.width), layer.parameter))
