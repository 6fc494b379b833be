"""The same network in plain NumPy: what all others are compared with."""

from __future__ import annotations

from collections.abc import Callable

from fastmlp import ReferenceMLP

from ..problems import Array, Task
from .networks import network_training
from .peer import Peer, Training


def _prepare(task: Task, threads: int | None) -> Training:
    # The order of many rows is computed in kernels while they train, but in NumPy it would take a fifth of some steps.
    return network_training(task.problem.network(ReferenceMLP), task, drawn=True)


def _predictor(task: Task, threads: int | None) -> Callable[[Array], Array]:
    return task.problem.network(ReferenceMLP).predict


PEER = Peer(
    "reference",
    "fastmlp.ReferenceMLP, plain NumPy",
    "What a careful person writes by hand: whole batches in matrix products, threads of NumPy's BLAS.",
    _prepare,
    predictor=_predictor,
)
