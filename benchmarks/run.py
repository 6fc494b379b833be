"""Measure peers on a problem, turn by turn, and compare where they end."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.peers import BASELINE
from benchmarks.peers.peer import Peer, Training
from benchmarks.problems import Problem, Task, make_task
from fastmlp import ReferenceMLP

Array = np.ndarray[Any, np.dtype[Any]]

WARM_UP_EPOCHS = 2
"""The first compiles; the second is for what adapts to measured speed, which was wrong while compiling."""

PAUSE = 0.1
"""Seconds. The threads of a BLAS go on spinning for some 25 ms after each product, in case there is another; a peer that comes
next would share its processors with them."""

JUDGED_ROWS = 10_000
"""Rows from which the final losses are computed; any difference of the parameters shows in them."""

TOLERANCE = {"float32": 1e-3, "float64": 1e-6}
"""Relative difference of two final losses that rounding in another order may explain."""


MOST_WAITING = 0.1
"""Share of a round that threads may wait for a processor before the time is marked. Threads that wait for each other suffer out of
all proportion: with one of two processors taken, a BLAS with two threads was seen to need a hundred times as long, and just as long
in every round, so that the spread of the rounds does not show it."""


@dataclass(frozen=True)
class Timing:
    """What one peer took, and where it ended.

    Parameters
    ----------
    seconds : tuple of float
        Of each round.
    steps_per_round : int
    final_loss : float or None
        None for a peer that does not train.
    waited : tuple of (float or None)
        Of each round, the seconds that threads waited for a processor; None where the system does not count them.
    """

    seconds: tuple[float, ...]
    steps_per_round: int
    final_loss: float | None
    waited: tuple[float | None, ...] = ()

    @property
    def waiting(self) -> float | None:
        """Share of the time spent waiting for a processor, the median over the rounds."""
        shares = [waited / seconds for waited, seconds in zip(self.waited, self.seconds, strict=False) if waited is not None]
        return float(np.median(shares)) if shares else None

    def microseconds_per_step(self) -> dict[str, float]:
        """Median, minimum and quartiles over the rounds."""
        steps = np.array(self.seconds) * 1e6 / self.steps_per_round
        low, q1, median, q3 = np.percentile(steps, [0, 25, 50, 75]).tolist()
        return {"median": median, "min": low, "q1": q1, "q3": q3}

    @property
    def median(self) -> float:
        """Microseconds per step."""
        return self.microseconds_per_step()["median"]


@dataclass(frozen=True)
class Result:
    """All peers on one problem."""

    problem: Problem
    rows: int
    initial_loss: float
    timings: dict[str, Timing]

    @property
    def disturbed(self) -> dict[str, float]:
        """Peers that waited for processors so long that their times say little, and for which share of the time."""
        shares = {name: timing.waiting for name, timing in self.timings.items() if name in self.losses}
        return {name: share for name, share in shares.items() if share is not None and share > MOST_WAITING}

    @property
    def losses(self) -> dict[str, float]:
        """Final losses of the peers that train."""
        return {name: timing.final_loss for name, timing in self.timings.items() if timing.final_loss is not None}

    @property
    def disagreeing(self) -> list[str]:
        """Peers that end elsewhere than the baseline (the first, if there is none), or at no finite number."""
        losses = self.losses
        expected = losses.get(BASELINE, next(iter(losses.values()), 0.0))
        tolerance = self.problem.loss_tolerance or TOLERANCE[self.problem.dtype]
        return [
            name for name, loss in losses.items() if not (math.isfinite(loss) and math.isclose(loss, expected, rel_tol=tolerance))
        ]

    def ratio(self, name: str) -> float | None:
        """How many times as fast as the baseline; of medians, which one slow round does not move."""
        if BASELINE not in self.timings or name == BASELINE or name not in self.losses:
            return None
        return self.timings[BASELINE].median / self.timings[name].median

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        problem = self.problem
        return {
            "problem": problem.name,
            "sizes": list(problem.sizes),
            "dtype": problem.dtype,
            "optimizer": problem.optimizer,
            "batch_size": problem.batch_size,
            "rows": self.rows,
            "steps_per_epoch": problem.steps(self.rows),
            "epochs_per_round": problem.epochs_per_round,
            "initial_loss": self.initial_loss,
            "disagreeing": self.disagreeing,
            "disturbed": self.disturbed,
            "peers": {
                name: {
                    "seconds": list(timing.seconds),
                    "seconds_waited": list(timing.waited),
                    "microseconds_per_step": timing.microseconds_per_step(),
                    "ratio": self.ratio(name),
                    "final_loss": timing.final_loss,
                }
                for name, timing in self.timings.items()
            },
        }


def judged_loss(task: Task, theta: Array) -> float:
    """Mean loss at given parameters, by the reference whoever found them."""
    judge = task.problem.network(ReferenceMLP)
    judge.theta = theta
    return judge.eval_loss(task.x[:JUDGED_ROWS], task.y[:JUDGED_ROWS])


def measure(trainings: dict[str, Training], epochs: int, rounds: int) -> dict[str, list[tuple[float, float | None]]]:
    """What each training's ``timed`` says of each round.

    The peers take turns: what slows the machine down for a while slows all of them.
    """
    measured: dict[str, list[tuple[float, float | None]]] = {name: [] for name in trainings}
    for _ in range(rounds):
        for name, training in trainings.items():
            time.sleep(PAUSE)
            measured[name].append(training.timed(epochs))
    return measured


def run_problem(problem: Problem, peers: Sequence[Peer], *, rows: int, rounds: int) -> Result:
    """Prepare, warm up and measure the peers on one problem."""
    task = make_task(problem, rows)
    with ExitStack() as resources:
        trainings = {peer.name: resources.enter_context(closing(peer.prepare(task))) for peer in peers}
        for training in trainings.values():
            for _ in range(WARM_UP_EPOCHS):
                training.epoch()
        measured = measure(trainings, problem.epochs_per_round, rounds)
        losses = {
            peer.name: judged_loss(task, trainings[peer.name].theta()) if peer.trains and not peer.nearest(problem) else None
            for peer in peers
        }
    steps = problem.epochs_per_round * task.steps
    timings = {}
    for name, rounds_of_peer in measured.items():
        seconds, waited = zip(*rounds_of_peer, strict=True)
        timings[name] = Timing(seconds, steps, losses[name], waited)
    return Result(problem, task.rows, judged_loss(task, task.theta), timings)
