"""Delta: d_l = (d_{l+1} W_{l+1}^T) * f'_l(z_l), for a panel of rows that stays in the first-level cache."""

from __future__ import annotations

from fastmlp.kernels.jit import part
from fastmlp.kernels.plan import NO, ONE, YES, ZERO
from fastmlp.kernels.product import product


@part
def delta_panel(layers, n_layers, first, rows, transposed, constants, deltas):
    """Deltas of all layers but the last, for rows first .. first + rows of the workspace.

    ``deltas`` holds d_L and f'_l(z_l) before, d_l after. ``constants`` begins with a row of zeros as wide as the widest layer.
    """
    for number in range(n_layers - 1, 0, -1):
        layer = layers[number]
        below = layers[number - 1]
        product(
            rows, layer.transposed_width, layer.fan_out, deltas, layer.deltas + first * layer.width, layer.width, ONE,
            transposed, layer.transposed, layer.transposed_width, constants, ZERO, ZERO,
            deltas, below.deltas + first * below.width, below.width, NO, YES,
        )  # fmt: skip
