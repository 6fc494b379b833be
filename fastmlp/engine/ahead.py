"""Kernels compiled before anybody needs them: for an image of a container, or a service that must answer at once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastmlp.activations import ACTIVATIONS
from fastmlp.engine import limits
from fastmlp.engine.engine import Engine
from fastmlp.engine.loops import all_loops
from fastmlp.engine.training import CompiledTrainer
from fastmlp.kernels import plan
from fastmlp.kernels.columns import rows_of_columns
from fastmlp.kernels.loops import compile_loop
from fastmlp.kernels.shuffle import draw_order, fill_order
from fastmlp.kernels.team import signal_helpers
from fastmlp.losses import LOSSES
from fastmlp.memory import aligned_zeros
from fastmlp.optimizers import OPTIMIZERS
from fastmlp.shuffle import DRAWN_ROWS, Order
from fastmlp.trainer import Recipe
from fastmlp.validation import Data


def compile_kernels(dtype: np.dtype[Any]) -> None:
    """Compile what networks of a dtype may need, or load it from the cache; but for the kernels of narrow ones."""
    from scipy.sparse import csr_matrix

    for loop in all_loops():
        compile_loop(loop, dtype)
    size = math.isqrt(limits.LAYERED_BYTES)  # with bytes for weights, a layer would be that large; they take more
    small, wide = _linear(1, dtype), _linear(size, dtype)
    buffer, zero = aligned_zeros(small.shape.layout.length, dtype), np.zeros((1, 1), dtype)
    zeros = np.zeros((limits.LEAST_LAYERED_ROWS, size), dtype)
    small.sums(buffer, Data(zero, zero, None, None), gradient=True)
    small.sums(buffer, Data(csr_matrix(zero), zero, None, None), gradient=True)
    wide.sums(aligned_zeros(wide.shape.layout.length, dtype), Data(zeros, zeros, None, None), gradient=True)
    weighted = Data(zero, zero, None, np.ones(1, dtype))
    with CompiledTrainer(small, buffer, weighted, 1, Recipe(OPTIMIZERS["sgd"]), mean=True) as online:
        list(online.epoch(None, np.zeros(1)))
    small.outputs(buffer, zero)
    rows_of_columns(np.zeros(1, np.int64), 0, zero.ravel(), zero.ravel()[:0])
    draw_order(Order(1, np.random.default_rng(0)).keys, np.zeros(1, np.int64))
    order = Order(DRAWN_ROWS + 1, np.random.default_rng(0))
    fill_order(order.keys, order.bits, order.radix, order.rows, 0, np.zeros(1, np.int64))
    signal_helpers(np.zeros(plan.STATES + plan.THREAD_STRIDE, np.int64), 1, plan.LEAVING, np.zeros(1, np.bool_))


def _linear(size: int, dtype: np.dtype[Any]) -> Engine:
    """The engine of a network of one layer: each kernel is the same for all networks, whatever their layers."""
    return Engine((size, size), dtype, [ACTIVATIONS["identity"]], LOSSES["squared_error"], True, 1)
