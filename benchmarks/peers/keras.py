"""Keras on JAX."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from ..problems import Problem, Task
from .peer import Peer, Training

_MOST_STEPS_AT_ONCE = 32


def _nearest(problem: Problem) -> str | None:
    """Its Adam adds epsilon before the bias is corrected, which can be seen in float64."""
    return "Adam with another epsilon" if problem.optimizer == "adam" and problem.dtype == "float64" else None


def _prepare(task: Task, threads: int | None) -> Training:
    import keras

    problem = task.problem
    if problem.dtype == "float64" and keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    keras.config.set_floatx(problem.dtype)
    activations = {"softmax": "linear", "identity": "linear"}  # the loss takes logits
    layers: list[Any] = [keras.Input((problem.sizes[0],))]
    for (_, width), activation in zip(pairwise(problem.sizes), problem.activation, strict=True):
        if activation == "leaky_relu":
            layers += [keras.layers.Dense(width), keras.layers.LeakyReLU(negative_slope=0.01)]
        else:
            layers.append(keras.layers.Dense(width, activations.get(activation, activation)))
    network = keras.Sequential(layers)
    dense = [layer for layer in network.layers if layer.weights]
    for layer, (w, b) in zip(dense, task.layers(), strict=True):
        layer.set_weights([w, b])

    def squared_error(y: Any, outputs: Any) -> Any:
        return 0.5 * keras.ops.sum((y - outputs) ** 2, axis=-1)

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True) if problem.loss == "cross_entropy" else squared_error
    rate = problem.learning_rate
    optimizer = keras.optimizers.Adam(rate, epsilon=1e-8) if problem.optimizer == "adam" else keras.optimizers.SGD(rate)
    network.compile(optimizer, loss, jit_compile=True, steps_per_execution=min(task.steps, _MOST_STEPS_AT_ONCE))
    orders = task.orders()

    def epoch() -> None:
        order = next(orders)
        x, y = (task.x, task.y) if order is None else (task.x[order], task.y[order])
        network.fit(x, y, batch_size=problem.batch_size, epochs=1, shuffle=False, verbose=0)

    def theta() -> Any:
        return task.flat([tuple(np.asarray(values) for values in layer.get_weights()) for layer in dense])

    return Training(epoch, theta)


PEER = Peer(
    "keras",
    "Keras 3 on JAX",
    "jit_compile=True; up to 32 steps for each call from Python (steps_per_execution); rows are put in order by one fancy index, "
    "and fit() takes them without shuffling again.",
    _prepare,
    keeps_kernels=True,
    packages=("keras", "jax"),
    nearest=_nearest,
)
