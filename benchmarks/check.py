"""``python -m benchmarks.check``: whether anything has become slower than the repository says.

What is compared is not time but what the register tile could have done meanwhile: the cost of a case is its time multiplied by
the tile's floating-point operations per second, measured in the same moment. That takes out most of what differs between two
days of one machine, and some of what differs between two machines; between processors with other vectors it is a rough guide.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from fastmlp import MLP

from .lab import PARTS, Tile, seconds_of, seconds_of_step, step_of
from .machine import machine, machine_line
from .options import count, names_from
from .peers.fastmlp import prepare
from .problems import PROBLEMS, SEED, make_task
from .tables import aligned, number

STORED = Path(__file__).parent / "costs.json"
TOLERANCE = 1.25
ROUNDS = 5
ATTEMPTS = 3
"""How often a case is measured that seems to have become slower; what really has is slower each time."""

TAKEN_APART = ("mnist", "higgs")
"""Problems whose parts are cases, too."""


@dataclass(frozen=True)
class Case:
    """Something to measure.

    Parameters
    ----------
    tile : Tile
        What to compare it with.
    seconds : callable
        ``seconds()``: how long it takes now.
    """

    tile: Tile
    seconds: Callable[[], float]


def repeated(call: Callable[..., object], *arguments: object) -> Callable[[], float]:
    """A function that measures a call."""
    return lambda: seconds_of(lambda times: [call(*arguments) for _ in range(times)])


@contextmanager
def cases(names: Sequence[str]) -> Iterator[dict[str, Case]]:
    """All cases of some problems, on one thread; those that belong to no problem of the table go with the one that is nearest."""
    rng = np.random.default_rng(SEED)
    with ExitStack() as resources:
        found: dict[str, Case] = {}
        for name in names:
            problem = PROBLEMS[name]
            task = make_task(problem, problem.quick_rows)
            tile = Tile(np.dtype(problem.dtype))
            training = resources.enter_context(closing(prepare(task, 1)))
            training.epoch()
            found[f"{name}: step"] = Case(tile, partial(seconds_of_step, task, training))
            if name in TAKEN_APART:
                step = resources.enter_context(step_of(task))
                for part, bits in PARTS.items():
                    found[f"{name}: {part}"] = Case(tile, partial(seconds_of, step.repeat(bits)))
                network = problem.network(MLP, n_threads=1)
                for rows in (1, 4096):
                    x = rng.standard_normal((rows, problem.sizes[0]), dtype=np.float32)
                    found[f"{name}: predict {rows}"] = Case(tile, repeated(network.predict, x))
            if name == "float64":
                small = MLP((24, 8, 2), "tanh", dtype="float64", random_state=SEED, n_threads=1)
                x, y = rng.standard_normal((200, 24)), rng.standard_normal((200, 2))
                found["24-8-2: loss_and_grad 200"] = Case(tile, repeated(small.loss_and_grad, small.theta, x, y))
        yield found


def measure(chosen: dict[str, Case], rounds: int) -> dict[str, float]:
    """Cost of each case, in FLOP of the tile: the median over rounds in which all take turns."""
    costs: dict[str, list[float]] = {name: [] for name in chosen}
    for _ in range(rounds):
        for name, case in chosen.items():
            costs[name].append(case.seconds() * case.tile.flop_per_second())
    return {name: float(np.median(values)) for name, values in costs.items()}


def slower(costs: dict[str, float], stored: dict[str, float]) -> list[str]:
    """Cases that cost more than the repository says, beyond the tolerance, or what is no number."""
    return [name for name, cost in costs.items() if name in stored and not cost <= TOLERANCE * stored[name]]


def uncompared(costs: dict[str, float], stored: dict[str, float], problems: Sequence[str]) -> list[str]:
    """Cases that are only measured, or, of all problems, only stored: whether they have become slower, nobody knows."""
    alone = costs.keys() ^ stored.keys() if set(problems) == set(PROBLEMS) else costs.keys() - stored.keys()
    return sorted(alone)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, compare and print; returns 1 if something has become slower, or cannot be compared."""
    parser = argparse.ArgumentParser("python -m benchmarks.check", description=__doc__)
    parser.add_argument("--problems", type=names_from(PROBLEMS), default=list(PROBLEMS), metavar="NAMES")
    parser.add_argument("--rounds", type=count, default=ROUNDS, metavar="N", help=f"default: {ROUNDS}")
    parser.add_argument("--store", action="store_true", help="write what is measured into the repository instead")
    options = parser.parse_args(argv)
    document = json.loads(STORED.read_text())
    stored: dict[str, float] = document["costs"]
    with cases(options.problems) as chosen:
        costs = measure(chosen, options.rounds)
        if options.store:
            kept = {} if options.problems == list(PROBLEMS) else stored
            content = {"machine": machine(), "unit": "FLOP of the register tile on one core", "costs": kept | costs}
            aside = STORED.with_suffix(".new")
            aside.write_text(json.dumps(content, indent=2) + "\n")
            os.replace(aside, STORED)
            return 0
        for _ in range(ATTEMPTS - 1):
            again = {name: chosen[name] for name in slower(costs, stored)}
            if not again:
                break
            costs |= {name: min(cost, costs[name]) for name, cost in measure(again, options.rounds).items()}
    rows = [["case", "stored kFLOP", "now", "now / stored"]]
    for name, cost in costs.items():
        before = stored.get(name)
        rows.append([name, number(before and before / 1e3), number(cost / 1e3), number(before and cost / before)])
    about, then = machine(), document.get("machine")
    print(f"{machine_line(about)}\n\n{aligned(rows)}\n")
    if then and then["architecture"] != about["architecture"]:
        print(f"Stored on another processor, {then['cpu']} ({then['architecture']}): for this one a rough guide, see --help.")
    failed, alone = slower(costs, stored), uncompared(costs, stored, options.problems)
    if failed:
        print(f"SLOWER than {TOLERANCE:g} times what is stored: {', '.join(failed)}")
    if alone:
        print(f"NOT COMPARED: {', '.join(alone)}; `python -m benchmarks.check --store` writes the costs of all cases anew.")
    if not failed and not alone:
        print("ok")
    return 1 if failed or alone else 0


if __name__ == "__main__":
    sys.exit(main())
