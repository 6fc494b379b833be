"""A peer that does nothing: what it seems to take is what the harness costs."""

from __future__ import annotations

import numpy as np

from ..problems import Array, Task
from .peer import Peer, Training


def _prepare(task: Task, threads: int | None) -> Training:
    return Training(lambda: None, lambda: task.theta)


class _Nothing:
    """Zeros, made before they are asked for."""

    def __init__(self, task: Task, threads: int | None) -> None:
        self._outputs: dict[int, Array] = {}
        self._width = task.problem.sizes[-1]

    def __call__(self, x: Array) -> Array:
        outputs = self._outputs.get(len(x))
        if outputs is None:
            outputs = self._outputs[len(x)] = np.zeros((len(x), self._width), x.dtype)
        return outputs


PEER = Peer(
    "null",
    "nothing: what the harness costs",
    "It calls a function that returns at once.",
    _prepare,
    trains=False,
    threaded=False,
    predictor=_Nothing,
)
