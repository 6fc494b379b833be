"""Stage two: from what was measured to the figures of the report. Nothing is measured here, and nothing is formatted."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .peers import BASELINE, OURS
from .sections.scaling import THREADS

Document = Mapping[str, Any]

UNSTABLE = 0.15
"""Distance of the quartiles, as a share of the median, beyond which a time is marked."""

MOST_WAITING = 0.25
"""Share of a round that threads may wait for a processor, all added up, before the time is marked. Threads that wait for each other
suffer out of all proportion: with one of two processors taken, a BLAS with two threads was seen to need a hundred times as long,
and just as long in every round, so that the spread of the rounds does not show it. A library whose own threads outnumber the
processors by one, as JAX's do, waits for a sixth of its time on an idle machine."""

NEARLY = 0.9
"""A peer that needs less than 1 / NEARLY times our time is listed where we lose."""


def section(document: Document, name: str) -> list[dict[str, Any]]:
    """Units of a section."""
    return [unit for key, unit in document["units"].items() if key.partition("/")[0] == name]


@dataclass(frozen=True)
class Timing:
    """Microseconds per step of a contestant on a problem.

    Parameters
    ----------
    name, peer : str
    threads : int or None
    rounds : tuple of float
        Of each round.
    loss : float or None
        After the epochs that all train; None for what does not train.
    nearest : str or None
        What it does otherwise than the problem asks for.
    waiting : float or None
        Share of the time that threads waited for a processor, all of them added up: several may wait for more than all of it.
    peak_bytes : int or None
    comparable : bool
        Whether it did the same work as the baseline.
    """

    name: str
    peer: str
    threads: int | None
    rounds: tuple[float, ...]
    loss: float | None
    nearest: str | None
    waiting: float | None
    peak_bytes: int | None
    comparable: bool

    @property
    def quartiles(self) -> tuple[float, float, float, float]:
        """Minimum, first quartile, median and third quartile."""
        low, q1, median, q3 = np.percentile(self.rounds, [0, 25, 50, 75]).tolist()
        return low, q1, median, q3

    @property
    def median(self) -> float:
        return self.quartiles[2]

    @property
    def unstable(self) -> bool:
        """Whether the rounds differ so much that the median says little."""
        _, q1, median, q3 = self.quartiles
        return (q3 - q1) / median > UNSTABLE

    @property
    def disturbed(self) -> bool:
        """Whether threads had to wait for processors."""
        return self.waiting is not None and self.waiting > MOST_WAITING


@dataclass(frozen=True)
class Comparison:
    """All contestants on a problem.

    Parameters
    ----------
    unit : dict
        As measured.
    timings : dict of str to Timing
    failed : dict of str to str
        What could not take part, and why.
    """

    unit: dict[str, Any]
    timings: dict[str, Timing]
    failed: dict[str, str]

    @property
    def problem(self) -> str:
        return str(self.unit["problem"])

    @property
    def training(self) -> dict[str, Timing]:
        """Those that do train."""
        return {name: timing for name, timing in self.timings.items() if self.unit["contestants"][name]["trains"]}

    @property
    def disagreeing(self) -> list[str]:
        """Those that did other work although they should do the same."""
        return [name for name, timing in self.training.items() if not timing.comparable and timing.nearest is None]

    def best(self, peer: str) -> Timing | None:
        """A peer with the fastest number of threads of those measured; ours with the number that it chooses itself."""
        timings = [timing for timing in self.timings.values() if timing.peer == peer and (timing.comparable or timing.nearest)]
        if peer == OURS:
            timings = [timing for timing in timings if timing.threads is None] or timings
        return min(timings, key=lambda timing: timing.median, default=None)

    @property
    def ours(self) -> Timing | None:
        return self.best(OURS)

    @property
    def rivals(self) -> dict[str, Timing]:
        """The best of each peer but ours and those that do not train, fastest first."""
        names = dict.fromkeys(timing.peer for timing in self.training.values() if timing.peer != OURS)
        found = [timing for timing in map(self.best, names) if timing is not None]
        return {timing.peer: timing for timing in sorted(found, key=lambda timing: timing.median)}

    @property
    def fastest_rival(self) -> Timing | None:
        """The fastest one that is not the baseline, if there is one."""
        return next((timing for name, timing in self.rivals.items() if name != BASELINE), None)

    def ratio(self, rival: Timing | None) -> float | None:
        """How many times as fast as a rival we are."""
        ours = self.ours
        return None if ours is None or rival is None else rival.median / ours.median


def _agreeing(contestants: Mapping[str, Any], which: str, tolerance: float) -> set[str]:
    """Those that can be compared and have the loss of the baseline, or of the first where there is none."""
    losses = {
        name: one[which] for name, one in contestants.items() if one["trains"] and one[which] is not None and one["nearest"] is None
    }
    baseline = [loss for name, loss in losses.items() if contestants[name]["peer"] == BASELINE]
    expected = (baseline or list(losses.values()) or [math.nan])[0]
    return {name for name, loss in losses.items() if math.isfinite(loss) and math.isclose(loss, expected, rel_tol=tolerance)}


def comparison(unit: dict[str, Any]) -> Comparison:
    """The figures of one problem."""
    contestants = unit["contestants"]
    agreeing = _agreeing(contestants, "loss", unit["tolerance"])
    if "first_tolerance" in unit:  # documents of before have no losses of the first steps
        agreeing &= _agreeing(contestants, "first_loss", unit["first_tolerance"])
    timings, failed = {}, {}
    for name, one in contestants.items():
        if one["error"] or not one["seconds"]:
            failed[name] = one["error"] or "nothing was measured"
            continue
        shares = [waited / seconds for waited, seconds in zip(one["waited"], one["seconds"], strict=True) if waited is not None]
        timings[name] = Timing(
            name, one["peer"], one["threads"],
            tuple(seconds * 1e6 / one["epochs"] / unit["steps"] for seconds in one["seconds"]),
            one["loss"], one["nearest"], float(np.median(shares)) if shares else None, one["peak_bytes"], name in agreeing,
        )  # fmt: skip
    return Comparison(unit, timings, failed)


def comparisons(document: Document, name: str = "training") -> list[Comparison]:
    """Of a section whose contestants all do the same, a comparison for each problem; of ``estimators``, for each case."""
    return [comparison(unit) for unit in section(document, name)]


CALLS = {"one_row": "predict of one row", "all_rows": "predict of all rows", "partial_fit": "partial_fit"}
"""What is measured of estimators beside ``fit``."""


def fastest_calls(case: Comparison, call: str) -> dict[str, float]:
    """Microseconds of a call of each peer, with the fastest of the numbers of threads measured; one of :data:`CALLS`."""
    found: dict[str, float] = {}
    for name, timing in case.timings.items():
        rounds = case.unit["contestants"][name][call]
        if rounds and timing.comparable:
            found[timing.peer] = min(1e6 * float(np.median(rounds)), found.get(timing.peer, math.inf))
    return found


def _trainings(document: Document) -> list[Comparison]:
    """Of training, of the estimators and of the points of all curves: wherever somebody may turn out to have done other work."""
    return [*comparisons(document), *comparisons(document, "estimators"), *map(comparison, section(document, "scaling"))]


@dataclass(frozen=True)
class Curve:
    """How steps of one peer grow along an axis: microseconds per step, or of a whole epoch where rows grow."""

    peer: str
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Scaling:
    """Curves along one axis.

    Parameters
    ----------
    axis, title : str
    curves : tuple of Curve
    floor : tuple of (int, float)
        Microseconds in which the register tile would do the same products on all cores: the roof, seen as a time.
    comparisons : dict of int to Comparison
    """

    axis: str
    title: str
    curves: tuple[Curve, ...]
    floor: tuple[tuple[int, float], ...]
    comparisons: dict[int, Comparison]


def scalings(document: Document) -> list[Scaling]:
    """One for each axis."""
    points: dict[str, dict[int, Comparison]] = {}
    titles: dict[str, str] = {}
    for unit in section(document, "scaling"):
        points.setdefault(unit["axis"], {})[unit["value"]] = comparison(unit)
        titles[unit["axis"]] = unit["title"]
    found = []
    for axis, of_axis in points.items():
        by_peer: dict[str, list[tuple[int, float]]] = {}
        floor = []
        for value, point in sorted(of_axis.items()):
            unit = point.unit
            per = unit["steps"] if axis == "rows" else 1  # an epoch, or a step
            for timing in point.timings.values():
                if timing.comparable:
                    by_peer.setdefault(timing.peer, []).append((value, timing.median * per))
            rows = unit["rows"] if axis == "rows" else unit["batch_size"]
            cores = min(value, unit["cores"]) if axis.startswith(THREADS) else unit["cores"]
            floor.append((value, unit["flop_per_row"] * rows / (tile_rate(unit) * cores) * 1e6))
        curves = tuple(Curve(peer, tuple(line)) for peer, line in by_peer.items())
        found.append(Scaling(axis, titles[axis], curves, tuple(floor), dict(sorted(of_axis.items()))))
    return found


def tile_rate(unit: dict[str, Any]) -> float:
    """FLOP per second of one core, before and after the unit."""
    return float(np.mean([moment["tile"][unit["dtype"]] for moment in unit["conditions"]]))


@dataclass(frozen=True)
class Prediction:
    """A contestant that predicts: microseconds."""

    name: str
    peer: str
    median: float
    p99: float
    many: float
    comparable: bool
    trains: bool


def predictions(unit: dict[str, Any]) -> list[Prediction]:
    """All contestants on one network."""
    found = []
    for name, one in unit["contestants"].items():
        if one["error"] is None:
            same = one["difference"] is not None and one["difference"] <= unit["tolerance"]
            many = float(np.median(one["many_rows"]))
            found.append(
                Prediction(
                    name, one["peer"], 1e6 * one["one_row"]["median"], 1e6 * one["one_row"]["p99"], 1e6 * many, same, one["trains"]
                )
            )
    return found


def fastest_predictions(everyone: Sequence[Prediction], figure: str) -> dict[str, float]:
    """``median``, ``p99`` or ``many`` of each peer with the best number of threads measured; of ours with its own choice."""
    found = {}
    for peer in dict.fromkeys(one.peer for one in everyone):
        of_peer = [one for one in everyone if one.peer == peer]
        if peer == OURS:
            of_peer = [one for one in of_peer if one.name == OURS] or of_peer
        found[peer] = min(getattr(one, figure) for one in of_peer)
    return found


@dataclass(frozen=True)
class Start:
    """A peer from nothing: seconds, and bytes."""

    peer: str
    import_: float
    first_cold: float
    first_warm: float
    epoch: float
    peak: int | None


def starts(document: Document) -> list[Start]:
    """Those that could be started."""
    found = []
    for unit in section(document, "cold"):
        warm = [one for one in unit["warm"] if not one["error"]]
        if unit["cold"]["error"] or not warm:
            continue
        medians = {key: float(np.median([one[key] for one in warm])) for key in ("import", "first_fit", "epoch")}
        peaks = [one["peak"] for one in warm if one["peak"] is not None]
        found.append(
            Start(
                unit["peer"], medians["import"], unit["cold"]["first_fit"], medians["first_fit"], medians["epoch"],
                int(np.median(peaks)) if peaks else None,
            )
        )  # fmt: skip
    return found


@dataclass(frozen=True)
class Way:
    """A contestant's way to a goal.

    Parameters
    ----------
    peer : str
    ready : float
        Seconds before the training can go on at its own pace: import of the peer, preparation, and what the first epoch takes
        longer than the others.
    training : float
        Seconds of all epochs, had the first been like the others.
    epochs : int
    reached : bool
    points : tuple of (float, float)
        Seconds from the start, and the metric there.
    nearest : str or None
    """

    peer: str
    ready: float
    training: float
    epochs: int
    reached: bool
    points: tuple[tuple[float, float], ...]
    nearest: str | None


def ways(unit: dict[str, Any]) -> list[Way]:
    """The run of each contestant whose total time is the median."""
    found = []
    for one in unit["contestants"].values():
        runs = sorted(one["runs"], key=lambda run: run["ready"] + sum(run["epochs"]))
        if one["error"] or not runs:
            continue
        run = runs[len(runs) // 2]
        epochs = run["epochs"]
        typical = float(np.median(epochs[1:])) if len(epochs) > 1 else epochs[0]
        extra = max(0.0, epochs[0] - typical)
        elapsed = run["ready"] + np.cumsum(epochs)
        points = tuple(zip(elapsed.tolist(), run["values"], strict=True))
        found.append(
            Way(one["peer"], run["ready"] + extra, sum(epochs) - extra, len(epochs), run["reached"], points, one["nearest"])
        )
    return found


@dataclass(frozen=True)
class Loss:
    """A place where a peer is faster than we are, or nearly as fast.

    Parameters
    ----------
    where : str
    peer : str
    ours, theirs : float
        In the same unit.
    unit : str
    """

    where: str
    peer: str
    ours: float
    theirs: float
    unit: str

    @property
    def ratio(self) -> float:
        """How many times as fast as the peer we are; below 1, it is faster."""
        return self.theirs / self.ours


def _all_pairs(document: Document) -> Iterator[Loss]:
    """Everything that has been measured of us, beside every peer that does the same."""
    for one in comparisons(document):
        for rival in one.rivals.values():
            if one.ours is not None and rival.comparable:
                yield Loss(f"training {one.problem}", _with_threads(rival), one.ours.median, rival.median, "us/step")
    for case in comparisons(document, "estimators"):
        for rival in case.rivals.values():
            if case.ours is not None and rival.comparable:
                where = f"{case.problem}, fit"
                yield Loss(where, _with_threads(rival), case.ours.median, rival.median, f"us/{case.unit['step']}")
        for call, what in CALLS.items():
            fastest = fastest_calls(case, call)
            for peer, theirs in fastest.items():
                if peer != OURS and OURS in fastest:
                    yield Loss(f"{case.problem}, {what}", peer, fastest[OURS], theirs, "us")
    for scaling in scalings(document):
        for value, point in scaling.comparisons.items():
            ours = min((t for t in point.timings.values() if t.peer == OURS), key=lambda t: t.median, default=None)
            for name, rival in point.rivals.items():
                if ours is not None and rival.comparable:
                    yield Loss(f"scaling, {scaling.axis} = {value}", name, ours.median, rival.median, "us/step")
    for unit in section(document, "inference"):
        everyone = [one for one in predictions(unit) if one.comparable and one.trains]
        words = {"median": "one row", "p99": "one row, p99", "many": f"{unit['rows']} rows"}
        for figure, what in words.items():
            fastest = fastest_predictions(everyone, figure)
            for peer, theirs in fastest.items():
                if peer != OURS and OURS in fastest:
                    yield Loss(f"inference {unit['problem']}, {what}", peer, fastest[OURS], theirs, "us")
    begun = {one.peer: one for one in starts(document)}
    if OURS in begun:
        for peer, one in begun.items():
            if peer not in (OURS, "null"):
                ours_ = begun[OURS]
                yield Loss("import", peer, ours_.import_, one.import_, "s")
                yield Loss(
                    "import and first fit, empty cache", peer, ours_.import_ + ours_.first_cold, one.import_ + one.first_cold, "s"
                )
                yield Loss(
                    "import and first fit, full cache", peer, ours_.import_ + ours_.first_warm, one.import_ + one.first_warm, "s"
                )
                if ours_.peak and one.peak:
                    yield Loss("peak memory", peer, ours_.peak / 2**20, one.peak / 2**20, "MiB")
    for unit in section(document, "quality"):
        all_ways = {way.peer: way for way in ways(unit)}
        own = all_ways.get(OURS)
        for peer, way in all_ways.items():
            if own is not None and own.reached and peer != OURS and way.reached:
                yield Loss(f"{unit['metric']} {unit['target']:g} on {unit['goal']}", peer, own.training, way.training, "s")
                where = f"{unit['metric']} {unit['target']:g} on {unit['goal']}, from the import on"
                yield Loss(where, peer, own.ready + own.training, way.ready + way.training, "s")


def _with_threads(timing: Timing) -> str:
    return timing.peer if timing.threads is None else f"{timing.peer} ({timing.threads} thread{'s' * (timing.threads > 1)})"


def losses(document: Document) -> list[Loss]:
    """Where we lose: every figure that a peer has better than we have, or within 10%, the worst first."""
    return sorted((pair for pair in _all_pairs(document) if pair.ratio < 1 / NEARLY), key=lambda pair: pair.ratio)


def disagreements(document: Document) -> list[str]:
    """Who did not do the same work, and how it is seen, in sentences."""
    found = []
    for one in _trainings(document):
        contestants = one.unit["contestants"]
        in_the_end = _agreeing(contestants, "loss", one.unit["tolerance"])
        for name in one.disagreeing:
            which, when = ("first_loss", " after the first steps") if name in in_the_end else ("loss", "")
            found.append(
                f"NOT COMPARABLE: {name} on {one.problem} did not do the same work: its loss{when} is "
                f"{contestants[name][which]:.5g}, not that of the others."
            )
    for unit in section(document, "inference"):
        found += [
            f"NOT COMPARABLE: {one.name}, inference on {unit['problem']}: its outputs are not those of the reference."
            for one in predictions(unit)
            if one.trains and not one.comparable and unit["contestants"][one.name].get("nearest") is None
        ]
    return found


def marks(document: Document) -> list[str]:
    """What to make of marked figures, in sentences."""
    found = disagreements(document)
    for one in _trainings(document):
        for name, error in one.failed.items():
            found.append(f"FAILED: {name} on {one.problem}: {error.strip().splitlines()[-1]}")
        disturbed = [f"{name} {timing.waiting:.0%}" for name, timing in one.training.items() if timing.disturbed]
        if disturbed:
            found.append(
                f"WARNING: on {one.problem} threads waited for a processor ({', '.join(disturbed)} of the time, all threads added "
                "up), because other processes used the machine or threads shared a processor: these times are not to be relied on."
            )
        unstable = [name for name, timing in one.training.items() if timing.unstable]
        if unstable:
            found.append(f"UNSTABLE: on {one.problem} the rounds of {', '.join(unstable)} differ by more than {UNSTABLE:.0%}.")
    return [*found, *_failures(document)]


def _failures(document: Document) -> Iterator[str]:
    """Of the other sections."""
    for name, what in (("quality", "goal"), ("inference", "problem")):
        for unit in section(document, name):
            for contestant, one in unit["contestants"].items():
                if one["error"]:
                    yield f"FAILED: {contestant}, {name} on {unit[what]}: {one['error'].strip().splitlines()[-1]}"
    for unit in section(document, "cold"):
        errors = [one["error"] for one in (unit["cold"], *unit["warm"]) if one["error"]]
        if errors:
            yield f"FAILED: {unit['peer']}, cold start: {errors[0].strip().splitlines()[-1]}"
