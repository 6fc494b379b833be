"""Prediction: how long one row takes, and how many rows a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from typing import Any

import numpy as np

from fastmlp import ReferenceMLP

from ..peers import Contestant
from ..problems import SEED, Problem, make_task
from ..process import PeerError, Remote
from .unit import Size, Unit

PROBLEMS, QUICK_PROBLEMS = ("digits", "higgs", "mnist"), ("higgs",)
LATENCY_CALLS, QUICK_LATENCY_CALLS = 10_000, 1_000
"""Of one row, in all rounds together."""
MANY_ROWS = 4096
TOLERANCE = 1e-3
"""Difference of two outputs that rounding in float32 may explain; they are probabilities and the like."""


class Server:
    """A contestant that predicts, in the process where it does.

    Parameters
    ----------
    contestant : Contestant
    problem : Problem
    """

    def __init__(self, contestant: Contestant, problem: Problem) -> None:
        # Not random numbers of a size that saturates the outputs: one wrong would look like another.
        self._x = np.random.default_rng(SEED).standard_normal((MANY_ROWS, problem.sizes[0])).astype(problem.dtype)
        task = make_task(problem, max(problem.batch_size, 100))
        assert contestant.peer.predictor is not None
        self._predict = contestant.peer.predictor(task, contestant.threads)
        judge = task.problem.network(ReferenceMLP)
        judge.theta = task.theta
        self._expected = judge.predict(self._x)
        self._one = self._x[:1].copy()

    def difference(self) -> float:
        """Greatest difference from the reference's outputs; of one row and of many. It warms up, too."""
        seen = 0.0
        for x in (self._one, self._x):
            outputs = self._predict(x)
            expected = self._expected[: len(x)]
            if outputs.shape == (len(x),):
                outputs = outputs[:, None]
            seen = max(seen, float(np.abs(outputs - expected).max())) if outputs.shape == expected.shape else float("inf")
        return seen

    def latencies(self, calls: int) -> list[float]:
        """Seconds of calls with one row, each by itself."""
        clock, predict, one = time.perf_counter, self._predict, self._one
        seconds = []
        for _ in range(calls):
            began = clock()
            predict(one)
            seconds.append(clock() - began)
        return seconds

    def throughput(self, least: float) -> float:
        """Seconds of a call with many rows, as an average over at least so many seconds."""
        calls, began = 0, time.perf_counter()
        while True:
            self._predict(self._x)
            calls += 1
            seconds = time.perf_counter() - began
            if seconds >= least:
                return seconds / calls


def start(contestant: Contestant, problem: Problem) -> Remote:
    """A contestant in a process of its own."""
    return Remote(Server, contestant, problem, threads=contestant.threads)


def measure_problem(
    problem: Problem, contestants: Sequence[Contestant], size: Size, start: Callable[[Contestant, Problem], Any] = start
) -> dict[str, Any]:
    """All contestants in turns."""
    measured: dict[str, dict[str, Any]] = {}
    running: dict[str, Any] = {}
    calls = (QUICK_LATENCY_CALLS if size.quick else LATENCY_CALLS) // size.rounds
    with ExitStack() as resources:
        started = [(one, resources.enter_context(closing(start(one, problem)))) for one in contestants]
        for one, remote in started:
            figures = measured[one.name] = {
                "peer": one.peer.name, "threads": one.threads, "description": one.description, "error": None, "difference": None,
                "nearest": one.peer.nearest(problem), "trains": one.peer.trains, "one_row": [], "many_rows": [],
            }  # fmt: skip
            try:
                figures["difference"] = remote.ask("difference")
                running[one.name] = remote
                remote.rest()
            except PeerError as error:
                figures["error"] = str(error)
        latencies: dict[str, list[float]] = {name: [] for name in running}
        for _ in range(size.rounds):
            for name, remote in list(running.items()):
                try:
                    latencies[name] += remote.ask("latencies", calls)
                    measured[name]["many_rows"].append(remote.ask("throughput", size.round_seconds / 2))
                    remote.rest()
                except PeerError as error:
                    measured[name]["error"] = str(error)
                    del running[name], latencies[name]
    for name, seconds in latencies.items():
        measured[name]["one_row"] = dict(zip(("min", "median", "p99"), np.percentile(seconds, [0, 50, 99]).tolist(), strict=True))
    return {
        "problem": problem.name, "network": problem.network_name, "dtype": problem.dtype, "rows": MANY_ROWS,
        "calls": calls * size.rounds, "tolerance": TOLERANCE, "contestants": measured,
    }  # fmt: skip


def units(problems: Sequence[Problem], contestants: Sequence[Contestant], size: Size) -> list[Unit]:
    """A unit for each of some problems' networks."""
    able = [one for one in contestants if one.peer.predictor]

    def unit(problem: Problem) -> Unit:
        return Unit(
            f"inference/{problem.name}", (0.9 if size.quick else 3.0) * len(able), lambda: measure_problem(problem, able, size)
        )

    return [unit(problem) for problem in problems if problem.name in (QUICK_PROBLEMS if size.quick else PROBLEMS)]
