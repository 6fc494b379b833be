"""Time to quality: seconds until a network predicts held-out rows as well as is asked for, with one stopping rule for all."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastmlp import ReferenceMLP

from ..peers import Contestant, lightgbm
from ..problems import Array, Problem, Task, make_task, sklearn_digits_labels, teacher_labels
from ..process import PeerError, Remote, environment_for
from .unit import Size, Unit


@dataclass(frozen=True)
class Goal:
    """What is to be reached.

    Parameters
    ----------
    problem : Problem
        Its rows are those to train on and those held out together; the last of them are held out.
    held_out : float
        Their share.
    metric : {"accuracy", "log loss"}
        Of the held-out rows, measured after each epoch; the time that this takes does not count.
    target : float
        Training ends when it is reached...
    most_epochs : int
        ...or after so many.
    quick : bool
        Whether a quick run has it, too.
    """

    problem: Problem
    held_out: float
    metric: str
    target: float
    most_epochs: int
    quick: bool

    def reached(self, value: float) -> bool:
        """Whether that is good enough."""
        return value >= self.target if self.metric == "accuracy" else value <= self.target

    def value(self, outputs: Array, labels: Array) -> float:
        """The metric of probabilities (rows, classes)."""
        if self.metric == "accuracy":
            return float((outputs.argmax(axis=1) == labels).mean())
        return float(-np.log(np.maximum(outputs[np.arange(len(labels)), labels], 1e-12)).mean())


_TABLE = (
    Goal(
        Problem(
            "digits-97", (64, 64, 10), ("relu", "softmax"), "cross_entropy",
            batch_size=32, optimizer="adam", learning_rate=1e-3, rows=1797, quick_rows=1797, data=sklearn_digits_labels,
        ),
        held_out=0.2, metric="accuracy", target=0.97, most_epochs=200, quick=True,
    ),
    Goal(
        Problem(
            "teacher-1M", (28, 64, 64, 2), ("relu", "relu", "softmax"), "cross_entropy",
            batch_size=256, optimizer="adam", learning_rate=1e-3, rows=1_000_000, quick_rows=1_000_000, data=teacher_labels,
        ),
        held_out=0.1, metric="log loss", target=0.433, most_epochs=20, quick=False,
    ),
)  # fmt: skip

GOALS: dict[str, Goal] = {goal.problem.name: goal for goal in _TABLE}


class Learner:
    """A contestant on its way to a goal, in the process where it trains.

    Parameters
    ----------
    contestant : Contestant
    goal : Goal
    whole : Task
        Made elsewhere: some data are made by packages whose import counts here.
    """

    def __init__(self, contestant: Contestant, goal: Goal, whole: Task) -> None:
        self._first = int(whole.rows * (1 - goal.held_out))
        self._task = Task(goal.problem, whole.x[: self._first], whole.y[: self._first], whole.theta)
        self._x, self._y = whole.x[self._first :], whole.y[self._first :]
        self._contestant, self._goal = contestant, goal

    def learn(self) -> dict[str, Any]:
        """Train until the goal is reached.

        Seconds begin before the peer's packages are imported; NumPy and fastmlp's reference, which judges, are there for all, and
        with it what fastmlp imports before numba.
        """
        prepare = self._contestant.peer.prepare
        assert prepare is not None
        judge = self._goal.problem.network(ReferenceMLP)
        began = time.perf_counter()
        training = prepare(self._task, self._contestant.threads)
        ready = time.perf_counter() - began
        epochs: list[float] = []
        values: list[float] = []
        while len(epochs) < self._goal.most_epochs and not (values and self._goal.reached(values[-1])):
            began = time.perf_counter()
            training.epoch()
            epochs.append(time.perf_counter() - began)
            if training.outputs is None:
                judge.theta = training.theta()
            values.append(self._goal.value((training.outputs or judge.predict)(self._x), self._y))
        training.close()
        return {"ready": ready, "epochs": epochs, "values": values, "reached": self._goal.reached(values[-1])}


class Booster:
    """The same interface for boosted trees, which are not a network and need no epochs."""

    def __init__(self, contestant: Contestant, goal: Goal, whole: Task) -> None:
        self._learner = Learner(contestant, goal, whole)
        self._goal, self._threads = goal, contestant.threads

    def learn(self) -> dict[str, Any]:
        """Add trees until the goal is reached."""
        task, x, y = self._learner._task, self._learner._x, self._learner._y
        return lightgbm.learn(task, x, y, self._goal.value, self._goal.reached, self._threads)


def start(contestant: Contestant, goal: Goal, whole: Task) -> Remote:
    """A contestant in a process of its own."""
    made = Booster if contestant.peer.name == lightgbm.PEER.name else Learner
    return Remote(made, contestant, goal, whole, threads=contestant.threads)


@contextmanager
def jax_keeps_kernels() -> Iterator[None]:
    """Have JAX, and Keras on it, keep compiled code on the disk, which it does only if it is told where."""
    with (
        tempfile.TemporaryDirectory(prefix="fastmlp-quality-") as folder,
        environment_for(None, JAX_COMPILATION_CACHE_DIR=folder, JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0"),
    ):
        yield


def measure_goal(
    goal: Goal, contestants: Sequence[Contestant], size: Size, start: Callable[[Contestant, Goal, Task], Any] = start
) -> dict[str, Any]:
    """One after the other: what is waited for is seconds. Who keeps compiled code finds that of an epoch that does not count."""
    measured = {}
    problem = goal.problem
    whole = make_task(problem, problem.rows)
    runs = 1 if size.quick or problem.rows > 100_000 else 3
    for one in contestants:
        nearest = one.peer.nearest(problem)
        figures: dict[str, Any] = {
            "peer": one.peer.name, "threads": one.threads, "description": one.description, "nearest": nearest, "error": None,
            "runs": [],
        }  # fmt: skip
        try:
            with jax_keeps_kernels():
                if one.peer.keeps_kernels:
                    with closing(start(one, replace(goal, most_epochs=1), whole)) as remote:
                        remote.ask("learn")
                for _ in range(runs):
                    with closing(start(one, goal, whole)) as remote:
                        figures["runs"].append(remote.ask("learn"))
        except PeerError as error:
            figures["error"] = str(error)
        measured[one.name] = figures
    return {
        "goal": problem.name, "network": problem.network_name, "rows": problem.rows, "held_out": goal.held_out,
        "batch_size": problem.batch_size, "optimizer": problem.optimizer, "metric": goal.metric, "target": goal.target,
        "most_epochs": goal.most_epochs, "contestants": measured, "kernels_are_kept": True,
    }  # fmt: skip


def units(contestants: Sequence[Contestant], size: Size) -> list[Unit]:
    """A unit for each goal; each peer with all threads, which is how a person runs it."""
    able = [
        one for one in contestants if one.threads is None and ((one.peer.prepare and one.peer.trains) or one.peer is lightgbm.PEER)
    ]

    def unit(goal: Goal) -> Unit:
        return Unit(f"quality/{goal.problem.name}", 4.0 * len(able), lambda: measure_goal(goal, able, size))

    return [unit(goal) for goal in GOALS.values() if goal.quick or not size.quick]
