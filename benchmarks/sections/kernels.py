"""Where the time of a step goes, and how near it comes to the rate of the register tile."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import cache
from typing import Any

import numpy as np

from fastmlp.threads import available_threads

from ..lab import PARTS, Tile, seconds_of, seconds_of_step, step_of
from ..peers.fastmlp import prepare
from ..peers.peer import Training
from ..problems import Problem, make_task
from ..process import Remote
from .unit import Size, Unit

WARM_UP_STEPS, WARM_UP_SECONDS = 1000, 3.0
"""So many steps, or for so long if they are long ones: meanwhile the network finds out how many threads are fastest."""


def _warm_up(training: Training, steps: int) -> None:
    """Train for two epochs, or more if they are short."""
    began = time.perf_counter()
    for epoch in range(2 + WARM_UP_STEPS // steps):
        if epoch >= 2 and time.perf_counter() - began > WARM_UP_SECONDS:
            break
        training.epoch()


class Profiler:
    """Measures in one process for all problems: compiling what takes a step apart takes longer than measuring it."""

    def measure(self, problem: Problem, rows: int, rounds: int) -> dict[str, Any]:
        """Medians over rounds in which the tile, the parts of a step, and whole steps take turns.

        In seconds; FLOP per second of one core for the tile. Whole steps with one thread, and with as many as the network chooses.
        """
        task = make_task(problem, rows)
        tile = Tile(np.dtype(problem.dtype))
        names = {} if problem.batch_size == 1 else PARTS  # one sample a step is not taken apart
        tiles: list[float] = []
        parts: dict[str, list[float]] = {name: [] for name in names}
        trained: dict[str, list[float]] = {"one_thread": [], "chosen": []}
        with ExitStack() as resources:
            step = resources.enter_context(step_of(task))
            one, chosen = (resources.enter_context(closing(prepare(task, threads))) for threads in (1, None))
            for training in (one, chosen):
                _warm_up(training, task.steps)
            for _ in range(rounds):
                tiles.append(tile.flop_per_second())
                for name, bits in names.items():
                    parts[name].append(seconds_of(step.repeat(bits)))
                for training, seconds in zip((one, chosen), trained.values(), strict=True):
                    seconds.append(seconds_of_step(task, training))
        return {
            "problem": problem.name,
            "network": problem.network_name,
            "dtype": problem.dtype,
            "batch_size": problem.batch_size,
            "cores": available_threads(),  # a container may have less than the processors that it sees
            "flop_per_step": problem.flop_per_row * problem.batch_size,
            "tile": float(np.median(tiles)),
            "parts": {name: float(np.median(seconds)) for name, seconds in parts.items()},
            **{name: float(np.median(seconds)) for name, seconds in trained.items()},
        }


def units(problems: Sequence[Problem], size: Size, start: Callable[[], Any] = lambda: Remote(Profiler)) -> list[Unit]:
    """A unit for each problem."""
    started = cache(start)

    def unit(problem: Problem) -> Unit:
        rows = problem.quick_rows if size.quick else problem.rows

        def measure() -> dict[str, Any]:
            measured: dict[str, Any] = started().ask("measure", problem, rows, size.rounds)
            if problem is problems[-1]:
                started().close()
            return measured

        return Unit(f"kernels/{problem.name}", 2.0, measure)

    return [unit(problem) for problem in problems]
