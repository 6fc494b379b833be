"""Training in the steady state: seconds of whole epochs, in turns, of peers that are seen to do the same work."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from typing import Any

from fastmlp import ReferenceMLP

from ..machine import peak_memory, seconds_waited
from ..peers import Contestant
from ..problems import TOLERANCE, Array, Problem, Task, make_task
from ..process import PeerError, Remote
from .unit import Size, Unit

CHECKED_EPOCHS = 3
"""After so many, from the same weights and in the same order of rows, all peers must be at the same loss. They are the warm-up,
too: the first compiles, the second is for what adapts to measured speed."""

FIRST_STEPS = 20
"""After so many on a part of the rows, before rounding has grown, all peers must be at the same loss much more nearly."""

MOST_EPOCHS = 2000
"""In a round."""

LEAD_IN = 0.03
"""Seconds of epochs before each round that do not count. When threads wake up, a scheduler may have put two of them on one
processor, and takes some 20 ms to see it. An epoch that takes longer than this needs no lead-in."""

JUDGED_ROWS = 10_000
"""Rows from which the losses are computed; any difference of the parameters shows in them."""


def judged_loss(task: Task, theta: Array) -> float:
    """Mean loss at given parameters, by the reference whoever found them."""
    judge = task.problem.network(ReferenceMLP)
    judge.theta = theta
    return judge.eval_loss(task.x[:JUDGED_ROWS], task.y[:JUDGED_ROWS])


def timed(work: Callable[[], object], times: int, before: int = 0) -> tuple[float, float | None]:
    """Seconds of some calls, after others that do not count; and how many of them threads waited for a processor."""
    for _ in range(before):
        work()
    waited = seconds_waited()
    began = time.perf_counter()
    for _ in range(times):
        work()
    seconds = time.perf_counter() - began
    after = seconds_waited()
    return seconds, None if waited is None or after is None else max(0.0, after - waited)


class Trainee:
    """A contestant on a problem, in the process where it trains.

    Parameters
    ----------
    contestant : Contestant
    problem : Problem
    rows : int
    """

    def __init__(self, contestant: Contestant, problem: Problem, rows: int) -> None:
        self._task = make_task(problem, rows)
        assert contestant.peer.prepare is not None
        self._contestant = contestant
        peer = contestant.peer
        self._is_judged = peer.trains and peer.nearest(problem) is None
        self._training = contestant.peer.prepare(self._task, contestant.threads)
        self.close = self._training.close

    def initial_loss(self) -> float:
        """Of the weights that all begin with."""
        return judged_loss(self._task, self._task.theta)

    def first_loss(self) -> float | None:
        """After :data:`FIRST_STEPS`, in a training of its own; None for what is not compared."""
        prepare, problem = self._contestant.peer.prepare, self._task.problem
        if not self._is_judged or prepare is None:
            return None
        few = make_task(problem, min(self._task.rows, FIRST_STEPS * problem.batch_size))
        with closing(prepare(few, self._contestant.threads)) as training:
            training.epoch()
            return judged_loss(few, training.theta())

    def check(self) -> tuple[float | None, float]:
        """Train for the epochs after which losses are compared; returns the loss, if it can be, and seconds of the last epoch."""
        for _ in range(CHECKED_EPOCHS):
            seconds, _ = self.timed(1)
        return judged_loss(self._task, self._training.theta()) if self._is_judged else None, seconds

    def timed(self, epochs: int, before: int = 0) -> tuple[float, float | None]:
        """Seconds of some epochs, after others that do not count; and how many of them threads waited for a processor."""
        return timed(self._training.epoch, epochs, before)

    def peak_memory(self) -> int | None:
        """Bytes."""
        return peak_memory()


def start(contestant: Contestant, problem: Problem, rows: int) -> Remote:
    """A contestant in a process of its own."""
    return Remote(Trainee, contestant, problem, rows, threads=contestant.threads)


def measure_problem(
    problem: Problem,
    contestants: Sequence[Contestant],
    rows: int,
    size: Size,
    start: Callable[[Contestant, Problem, int], Any] = start,
) -> dict[str, Any]:
    """Start all contestants, let each of them train until they can be compared, then measure them in turns."""
    initial_loss = None
    measured: dict[str, dict[str, Any]] = {}
    running: dict[str, Any] = {}
    lead_in: dict[str, int] = {}
    with ExitStack() as resources:
        # They start at the same time, which takes most of them seconds.
        started = [(one, resources.enter_context(closing(start(one, problem, rows)))) for one in contestants]
        for one, remote in started:
            figures = measured[one.name] = {
                "peer": one.peer.name, "threads": one.threads, "description": one.description, "nearest": one.peer.nearest(problem),
                "trains": one.peer.trains, "first_loss": None, "loss": None, "epochs": 1, "seconds": [], "waited": [],
                "peak_bytes": None,
                "error": None,
            }  # fmt: skip
            try:
                remote.ready()
                running[one.name] = remote
            except PeerError as error:
                figures["error"] = str(error)
        for name, remote in list(running.items()):
            figures = measured[name]
            try:
                if initial_loss is None:
                    initial_loss = remote.ask("initial_loss")
                    remote.rest()
                figures["first_loss"] = remote.ask("first_loss")
                remote.rest()
                figures["loss"], seconds = remote.ask("check")
                remote.rest()
            except PeerError as error:
                figures["error"] = str(error)
                del running[name]
                continue
            lead_in[name] = math.floor(LEAD_IN / max(seconds, LEAD_IN / MOST_EPOCHS))
            figures["epochs"] = min(MOST_EPOCHS, max(1, math.ceil(size.round_seconds / max(seconds, 1e-9))))
        for _ in range(size.rounds):
            # In turns: what slows the machine down for a while slows all of them.
            for name, remote in list(running.items()):
                try:
                    seconds, waited = remote.ask("timed", measured[name]["epochs"], lead_in[name])
                    remote.rest()
                except PeerError as error:
                    measured[name]["error"] = str(error)
                    del running[name]
                    continue
                measured[name]["seconds"].append(seconds)
                measured[name]["waited"].append(waited)
        for name, remote in running.items():
            with suppress(PeerError):  # what it has measured is there
                measured[name]["peak_bytes"] = remote.ask("peak_memory")
    return {
        "problem": problem.name,
        "network": problem.network_name,
        "sizes": list(problem.sizes),
        "activation": list(problem.activation),
        "loss": problem.loss,
        "dtype": problem.dtype,
        "optimizer": problem.optimizer,
        "batch_size": problem.batch_size,
        "rows": rows,
        "steps": problem.steps(rows),
        "flop_per_row": problem.flop_per_row,
        "tolerance": problem.tolerance,
        "first_tolerance": TOLERANCE[problem.dtype],
        "initial_loss": initial_loss,
        "contestants": measured,
    }


def units(problems: Sequence[Problem], contestants: Sequence[Contestant], size: Size) -> list[Unit]:
    """A unit for each problem."""

    def unit(problem: Problem) -> Unit:
        rows = problem.quick_rows if size.quick else problem.rows
        weight = (1.2 if size.quick else 8.0) * len(contestants)
        able = [one for one in contestants if one.peer.prepare]
        return Unit(f"training/{problem.name}", weight, lambda: measure_problem(problem, able, rows, size))

    return [unit(problem) for problem in problems]
