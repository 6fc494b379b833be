"""JAX with optax: a whole epoch in one compiled ``lax.scan``, gather included."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..problems import Array, Problem, Task
from .peer import Peer, Training


def _logits(problem: Problem) -> Callable[[Any, Any], Any]:
    """``f(parameters, x)``: what the last layer gives to the loss, before a softmax but after any other activation."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", problem.dtype == "float64")
    functions = {
        "identity": lambda z: z,
        "softmax": lambda z: z,
        "relu": jax.nn.relu,
        "leaky_relu": jax.nn.leaky_relu,
        "sigmoid": jax.nn.sigmoid,
        "tanh": jnp.tanh,
    }

    def logits(parameters: Any, x: Any) -> Any:
        for (w, b), activation in zip(parameters, problem.activation, strict=True):
            x = functions[activation](x @ w + b)
        return x

    return logits


_UNROLLED = 4
"""Steps in each round of the loop: 5 to 15% less with Adam and narrow layers, no difference to others, and five times as much for
steps of one row."""


def _prepare(task: Task, threads: int | None) -> Training:
    import jax
    import jax.numpy as jnp
    import optax

    problem = task.problem
    logits = _logits(problem)
    optimizer = {"sgd": optax.sgd, "adam": optax.adam}[problem.optimizer](problem.learning_rate)
    unroll = _UNROLLED if problem.optimizer == "adam" else 1

    def mean_loss(parameters: Any, x: Any, y: Any) -> Any:
        outputs = logits(parameters, x)
        if problem.loss == "cross_entropy":
            return optax.softmax_cross_entropy_with_integer_labels(outputs, y).mean()
        return 0.5 * ((outputs - y) ** 2).sum(axis=1).mean()

    def step(state: Any, rows: Any, x: Any, y: Any) -> tuple[Any, None]:
        parameters, memory = state
        if rows is not None:
            x, y = (values.at[rows].get(mode="promise_in_bounds") for values in (x, y))
        gradient = jax.grad(mean_loss)(parameters, x, y)
        updates, memory = optimizer.update(gradient, memory, parameters)
        return (optax.apply_updates(parameters, updates), memory), None

    @partial(jax.jit, donate_argnums=0)
    def epoch(state: Any, order: Any, x: Any, y: Any) -> Any:
        if order is None:
            return step(state, None, x, y)[0]
        batch_size = min(problem.batch_size, len(order))
        whole = len(order) // batch_size * batch_size
        batches = order[:whole].reshape(-1, batch_size)
        state, _ = jax.lax.scan(lambda s, rows: step(s, rows, x, y), state, batches, unroll=unroll)
        return step(state, order[whole:], x, y)[0] if whole < len(order) else state

    x, y = jnp.asarray(task.x), jnp.asarray(task.y if task.y.ndim == 2 else task.y.astype(np.int32))
    parameters = [(jnp.array(w), jnp.array(b)) for w, b in task.layers()]
    state = (parameters, optimizer.init(parameters))
    orders = task.orders()

    def one_epoch() -> None:
        nonlocal state
        order = next(orders)
        state = jax.block_until_ready(epoch(state, None if order is None else order.astype(np.int32), x, y))

    return Training(one_epoch, lambda: task.flat([(np.asarray(w), np.asarray(b)) for w, b in state[0]]))


def _predictor(task: Task, threads: int | None) -> Callable[[Array], Array]:
    import jax

    logits = _logits(task.problem)
    softmax = jax.nn.softmax if task.problem.loss == "cross_entropy" else lambda z: z
    outputs = jax.jit(lambda parameters, x: softmax(logits(parameters, x)))
    parameters = jax.device_put(task.layers())
    return lambda x: np.asarray(outputs(parameters, x))


PEER = Peer(
    "jax_scan",
    "JAX and optax, an epoch in one lax.scan",
    "The whole epoch is one compiled call, gather included, so that Python is not in the loop, which is unrolled where that "
    "helps; buffers are donated; indices are promised to be in bounds. XLA takes its threads from the processors that the process "
    "may use.",
    _prepare,
    keeps_kernels=True,
    packages=("jax", "optax"),
    predictor=_predictor,
)
