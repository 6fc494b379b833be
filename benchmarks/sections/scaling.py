"""How the time of a step grows with rows, width, batch, depth and threads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastmlp.threads import available_threads

from ..machine import available_processors
from ..options import thread_values
from ..peers import BASELINE, OURS, Contestant, Peer
from ..problems import PROBLEMS, Problem
from .training import measure_problem
from .unit import Size, Unit

PEERS = (BASELINE, OURS, "jax_scan", "torch_eager")
"""Those that take part: the baseline, ours, and the two that are nearest to it on most problems."""

THREADS = "threads"
"""The name of an axis begins with it if threads are counted along it."""

_FLOP, _QUICK_FLOP = 6e9, 1e9
"""Of an epoch, if its rows do not matter; at least two batches."""
_MOST_STEPS = 1000


@dataclass(frozen=True)
class Axis:
    """A curve.

    Parameters
    ----------
    name : str
    title : str
    base : str
        Problem of which those of the points are variants.
    values, quick_values : tuple of int
    """

    name: str
    title: str
    base: str
    values: tuple[int, ...] = ()
    quick_values: tuple[int, ...] = ()

    def problem(self, value: int) -> Problem:
        """The problem of a point."""
        base = PROBLEMS[self.base]
        name = f"{self.name}={value}"
        if self.name == "width":
            return replace(base, name=name, sizes=(base.sizes[0], value, value, base.sizes[-1]))
        if self.name == "batch":
            return replace(base, name=name, batch_size=value)
        if self.name == "depth":
            hidden = (base.sizes[1],) * value
            return replace(
                base, name=name, sizes=(base.sizes[0], *hidden, base.sizes[-1]), activation=("relu",) * value + ("softmax",)
            )
        return replace(base, name=name)

    def rows(self, value: int, quick: bool) -> int:
        """Of the data: enough for many steps, but not more work than can be waited for."""
        if self.name == "rows":
            return value
        problem = self.problem(value)
        if self.name.startswith(THREADS):
            return problem.quick_rows if quick else problem.rows
        most = (_QUICK_FLOP if quick else _FLOP) / problem.flop_per_row / problem.batch_size
        return problem.batch_size * max(2, min(_MOST_STEPS // (4 if quick else 1), int(most)))


SHARED = ("higgs", "mnist", "deep", "wide", "float64", "matexp")
"""Problems with steps that are large enough for several threads."""


def _of_threads(name: str) -> Axis:
    problem = PROBLEMS[name]
    title = f"threads, {problem.network_name}, batch {problem.batch_size:,}"
    # On two processors all of it is in the section on training; the first one is the example that stands beside the other axes.
    return Axis(THREADS if name == SHARED[0] else f"{THREADS} of {name}", title, name)


_TABLE = (
    Axis("rows", "rows, 28-64-64-2, batch 256", "higgs", (1_000, 10_000, 100_000, 1_000_000, 10_000_000), (1_000, 30_000)),
    Axis("width", "width of two hidden layers, batch 256", "higgs", (4, 16, 64, 256, 1024, 4096), (16, 256)),
    Axis("batch", "rows in a batch, 28-64-64-2", "higgs", (1, 4, 16, 64, 256, 1024, 4096), (1, 64)),
    Axis("depth", "hidden layers of 32, batch 64", "deep", (1, 2, 4, 8, 16)),
    *(_of_threads(name) for name in SHARED),
)

AXES: dict[str, Axis] = {axis.name: axis for axis in _TABLE}


def units(peers: Iterable[Peer], size: Size) -> list[Unit]:
    """A unit for each point of each curve."""
    taking_part = [peer for peer in peers if peer.name in PEERS]
    cores = len(available_processors())
    small = Size(size.quick, min(size.rounds, 3), size.round_seconds / 2)

    def unit(axis: Axis, value: int, contestants: Sequence[Contestant]) -> Unit:
        problem, rows = axis.problem(value), axis.rows(value, size.quick)

        def measure() -> dict[str, Any]:
            point = measure_problem(problem, contestants, rows, small)
            # A container may have less than the processors that it sees.
            return {"axis": axis.name, "title": axis.title, "value": value, "cores": available_threads(), **point}

        return Unit(f"scaling/{axis.name}={value}", 5.0 if size.quick else 12.0 + rows / 1e5, measure)

    found = []
    for axis in AXES.values():
        if axis.name.startswith(THREADS):
            values = [] if size.quick or (cores <= 2 and axis.name != THREADS) else thread_values(cores)
            one_each = {value: [Contestant(peer, value) for peer in taking_part] for value in values}
            found += [unit(axis, value, contestants) for value, contestants in one_each.items()]
        else:
            every = [Contestant(peer, None) for peer in taking_part]
            # A Python loop over ten million single rows is not a comparison any more, but it is over steps of 256.
            found += [unit(axis, value, every) for value in (axis.quick_values if size.quick else axis.values)]
    return found
