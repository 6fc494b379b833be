"""``python -m benchmarks.roofline``: how near each problem comes to the rate of the register tile, and where the time goes."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

import numpy as np

from benchmarks.__main__ import count, names_from
from benchmarks.lab import PARTS, Tile, flop_per_step, seconds_of, step_of
from benchmarks.machine import machine, machine_line
from benchmarks.peers import fastmlp
from benchmarks.problems import PROBLEMS, Problem, make_task
from benchmarks.report import aligned, number
from benchmarks.run import WARM_UP_EPOCHS
from fastmlp.threads import available_threads

ROUNDS = 5

WARM_UP_STEPS = 1000
"""At least so many, in which the network finds out how many threads are fastest."""


@dataclass(frozen=True)
class Roofline:
    """A problem's training beside the tile, all measured in turns.

    Parameters
    ----------
    problem : Problem
    tile : float
        FLOP per second of one core.
    seconds_one, seconds : float
        Of a step with one thread, and with as many as the network chooses.
    parts : dict of str to float
        Seconds of the parts of a step with one thread, on data that is in the cache.
    """

    problem: Problem
    tile: float
    seconds_one: float
    seconds: float
    parts: dict[str, float]

    def share(self, seconds: float, cores: int) -> float:
        """Of what the tile could do on so many cores."""
        return flop_per_step(self.problem) / seconds / (self.tile * cores)


def measure(problem: Problem, rows: int, rounds: int) -> Roofline:
    """Medians over rounds in which the tile, the parts and the two trainings take turns."""
    task = make_task(problem, rows)
    tile = Tile(np.dtype(problem.dtype))
    names = {} if problem.batch_size == 1 else PARTS  # one sample a step is not taken apart
    tiles: list[float] = []
    parts: dict[str, list[float]] = {name: [] for name in names}
    trained: list[list[float]] = [[], []]
    with ExitStack() as resources:
        step = resources.enter_context(step_of(task))
        trainings = [resources.enter_context(closing(peer.prepare(task))) for peer in (fastmlp.ONE_THREAD, fastmlp.PEER)]
        for training in trainings:
            training.timed(max(WARM_UP_EPOCHS, math.ceil(WARM_UP_STEPS / task.steps)))
        for _ in range(rounds):
            tiles.append(tile.flop_per_second())
            for name, bits in names.items():
                parts[name].append(seconds_of(step.repeat(bits)))
            for training, seconds in zip(trainings, trained, strict=True):
                seconds.append(training.timed(problem.epochs_per_round)[0] / (problem.epochs_per_round * task.steps))
    one, chosen = (float(np.median(seconds)) for seconds in trained)
    return Roofline(problem, float(np.median(tiles)), one, chosen, {name: float(np.median(all_)) for name, all_ in parts.items()})


def table(lines: Sequence[Roofline], cores: int) -> str:
    """A row for each problem."""
    header = [
        "problem", "tile GFLOP/s", "us, 1 thread", "GFLOP/s", "of the tile", f"us, up to {cores}", "GFLOP/s", f"of {cores} tiles",
        *PARTS, "rest",
    ]  # fmt: skip
    rows = []
    for line in lines:
        flop = flop_per_step(line.problem)
        shares = [line.parts[name] / line.seconds_one for name in PARTS if name in line.parts]
        rows.append([
            line.problem.name, number(line.tile / 1e9),
            number(1e6 * line.seconds_one), number(flop / line.seconds_one / 1e9), f"{line.share(line.seconds_one, 1):.0%}",
            number(1e6 * line.seconds), number(flop / line.seconds / 1e9), f"{line.share(line.seconds, cores):.0%}",
            *([f"{share:.0%}" for share in shares] or ["-"] * len(PARTS)), f"{1 - sum(shares):.0%}" if shares else "-",
        ])  # fmt: skip
    return aligned([header, *rows])


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser("python -m benchmarks.roofline", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the same networks on fewer rows")
    parser.add_argument("--problems", type=names_from(PROBLEMS), default=list(PROBLEMS), metavar="NAMES")
    parser.add_argument("--rounds", type=count, default=ROUNDS, metavar="N", help=f"default: {ROUNDS}")
    options = parser.parse_args(argv)
    lines = []
    for name in options.problems:
        print(f"{name} ...", file=sys.stderr, flush=True)
        problem = PROBLEMS[name]
        lines.append(measure(problem, problem.quick_rows if options.quick else problem.rows, options.rounds))
    print(machine_line(machine()))
    print("Floating-point operations are those of the products. Parts: shares of a step with one thread; the rest is what waits")
    print("for memory when a training reads data that is not in a cache, and what is between the parts.\n")
    print(table(lines, available_threads()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
