"""Forward: z_l = a_{l-1} W_l + b_l, a_l = f_l(z_l), for a panel of rows that stays in the first-level cache."""

from __future__ import annotations

from fastmlp.kernels.jit import device, part
from fastmlp.kernels.ladders import activate, activate_and_slope
from fastmlp.kernels.plan import NO, ONE, RUN, ZERO
from fastmlp.kernels.product import product


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
def forward_panel(layers, n_layers, first_layer, first, rows, parameters, activations, deltas):
    """Layers from ``first_layer`` for rows first .. first + rows of the workspace; that one's inputs are there.

    Leaves a_l of each hidden layer in ``activations`` and f'_l(z_l) in ``deltas``; of the last layer, only its logits.
    """
    for number in range(first_layer, n_layers):
        layer = layers[number]
        affine(
            layers, number, rows, activations, layer.inputs + first * layer.input_width, layer.input_width,
            parameters, activations, layer.outputs + first * layer.width,
        )  # fmt: skip
        if number < n_layers - 1:
            activate_panel(layer, first, rows, activations, deltas)


@part
def activate_panel(layer, first, rows, activations, deltas):
    """a_l = f(z_l) in ``activations``, f'(z_l) in ``deltas``, of rows first .. first + rows of the workspace."""
    o0, d0 = layer.outputs + first * layer.width, layer.deltas + first * layer.width
    activate_and_slope(layer.activation, (activations, o0, deltas, d0, rounded(rows * layer.width), layer.parameter))


@part
def hidden_layer(layers, number, rows, inputs, i0, input_width, parameters, outputs, o0):
    """outputs = f(inputs W + b) of one layer that is not the last; nothing is kept for a gradient."""
    layer = layers[number]
    affine(layers, number, rows, inputs, i0, input_width, parameters, outputs, o0)
    activate(layer.activation, (outputs, o0, rounded(rows * layer.width), layer.parameter))
