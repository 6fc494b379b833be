"""LightGBM: boosted trees, for the question whether it should be a network at all."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ..problems import Array, Problem, Task
from .peer import Peer

_MOST_TREES = 500
_TREES_AT_ONCE = 10


def learn(
    task: Task,
    x: Array,
    y: Array,
    value: Callable[[Array, Array], float],
    reached: Callable[[float], bool],
    threads: int | None,
) -> dict[str, Any]:
    """Boost until held-out rows are predicted well enough; in the form of :class:`benchmarks.sections.quality.Learner`."""
    began = time.perf_counter()
    import lightgbm
    import numpy as np

    classes = task.problem.sizes[-1]
    options: dict[str, Any] = {"verbosity": -1, "num_threads": threads or 0, "learning_rate": 0.1, "num_leaves": 31}
    options |= {"objective": "binary"} if classes == 2 else {"objective": "multiclass", "num_class": classes}
    booster = lightgbm.Booster(options, lightgbm.Dataset(task.x, task.y))
    ready = time.perf_counter() - began
    epochs: list[float] = []
    values: list[float] = []
    while len(epochs) * _TREES_AT_ONCE < _MOST_TREES and not (values and reached(values[-1])):
        began = time.perf_counter()
        for _ in range(_TREES_AT_ONCE):
            booster.update()
        epochs.append(time.perf_counter() - began)
        outputs = booster.predict(x)
        values.append(value(np.stack([1 - outputs, outputs], axis=1) if classes == 2 else outputs, y))
    return {"ready": ready, "epochs": epochs, "values": values, "reached": reached(values[-1])}


def _not_a_network(problem: Problem) -> str:
    return "trees, not a network"


PEER = Peer(
    "lightgbm",
    "LightGBM, boosted trees",
    "Its defaults with all threads; the held-out rows are looked at after every ten rounds of boosting.",
    None,
    packages=("lightgbm",),
    nearest=_not_a_network,
)
