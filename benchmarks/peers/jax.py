"""JAX with optax: a whole epoch in one compiled ``lax.scan``, gather included."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from benchmarks.peers.peer import Peer, Training
from benchmarks.peers.process import in_process
from benchmarks.problems import Task


def _prepare(task: Task) -> Training:
    import jax
    import jax.numpy as jnp
    import optax

    problem = task.problem
    jax.config.update("jax_enable_x64", problem.dtype == "float64")
    functions = {
        "identity": lambda z: z,
        "relu": jax.nn.relu,
        "leaky_relu": jax.nn.leaky_relu,
        "sigmoid": jax.nn.sigmoid,
        "tanh": jnp.tanh,
    }
    optimizer = {"sgd": optax.sgd, "adam": optax.adam}[problem.optimizer](problem.learning_rate)

    def mean_loss(parameters: Any, x: Any, y: Any) -> Any:
        for (w, b), activation in zip(parameters[:-1], problem.activation[:-1], strict=True):
            x = functions[activation](x @ w + b)
        w, b = parameters[-1]
        z = x @ w + b
        if problem.loss == "cross_entropy":
            return optax.softmax_cross_entropy_with_integer_labels(z, y).mean()
        return 0.5 * ((functions[problem.activation[-1]](z) - y) ** 2).sum(axis=1).mean()

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
        state, _ = jax.lax.scan(lambda s, rows: step(s, rows, x, y), state, order[:whole].reshape(-1, batch_size))
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


PEER = Peer("jax", "JAX and optax, an epoch in one lax.scan, all cores", in_process(_prepare), requires=("jax", "optax"))
ONE_THREAD = Peer("jax-1", "the same on one core", in_process(_prepare, processors=1), requires=("jax", "optax"))
