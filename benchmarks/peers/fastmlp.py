"""The compiled network."""

from __future__ import annotations

from collections.abc import Callable

from fastmlp import MLP

from ..problems import Array, Task
from .networks import network_training
from .peer import Peer, Training


def prepare(task: Task, threads: int | None) -> Training:
    """A training, ready for its first epoch."""
    return network_training(task.problem.network(MLP, n_threads=threads), task)


def _predictor(task: Task, threads: int | None) -> Callable[[Array], Array]:
    return task.problem.network(MLP, n_threads=threads).predict


PEER = Peer(
    "fastmlp",
    "fastmlp.MLP",
    "No option is set. What is timed is the loop inside fit: the data are checked once, before, as PyTorch's and JAX's are "
    "converted. The others count with the fastest of the numbers of threads that are measured, found afterwards; this one has to "
    "choose itself.",
    prepare,
    keeps_kernels=True,
    predictor=_predictor,
)
