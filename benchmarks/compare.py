"""Two documents: whether what is ours has become faster or slower, with an interval that says how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .analyse import Document, comparison, section, tile_rate
from .peers import OURS

RESAMPLES = 2000
CONFIDENCE = 0.99
FEWEST_ROUNDS = 3
"""Of fewer, no verdict."""
FEWEST_DRAWN = 5
"""Drawn from fewer rounds, an interval of 99% is hardly more than the range of the ratios, and holds the truth less often: of three
rounds, in nine cases of ten. There it is the range, and called so."""
SMALLEST = 0.05
"""A change that is smaller than this is no difference, however sure it is: machines differ by as much from hour to hour."""


@dataclass(frozen=True)
class Change:
    """Of one contestant on one problem.

    Parameters
    ----------
    where, name : str
    before, after : float
        Microseconds per step.
    rounds : int
        Of the document that has fewer.
    ratio, low, high : float
        Cost after / cost before, and its interval, or the range of few rounds. A cost is what the register tile could have done
        meanwhile, so that a machine that computes more slowly today is no change.
    """

    where: str
    name: str
    before: float
    after: float
    rounds: int
    ratio: float
    low: float
    high: float

    @property
    def between(self) -> str:
        """What the ratio is said to be between."""
        return "range" if self.rounds < FEWEST_DRAWN else f"{CONFIDENCE:.0%} interval"

    @property
    def verdict(self) -> str:
        """In a word or two."""
        if self.rounds < FEWEST_ROUNDS:
            return "too few rounds to tell"
        if self.low > 1 + SMALLEST:
            return "slower"
        return "faster" if self.high < 1 - SMALLEST else "no difference"


def interval(before: Sequence[float], after: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Ratio of the medians, after / before, and its bootstrap interval (percentiles, rounds drawn with replacement).

    Of few rounds, the least and the greatest ratio that any two of them have.

    The percentile bootstrap: B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    old, new = np.asarray(before), np.asarray(after)
    ratio = float(np.median(new) / np.median(old))
    if min(len(old), len(new)) < FEWEST_DRAWN:
        return ratio, float(new.min() / old.max()), float(new.max() / old.min())
    rng = np.random.default_rng(seed)
    drawn = [np.median(rng.choice(values, (RESAMPLES, len(values))), axis=1) for values in (new, old)]
    low, high = np.quantile(drawn[0] / drawn[1], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
    return ratio, low, high


def changes(old: Document, new: Document, peer: str = OURS) -> list[Change]:
    """Of all that both have measured of a peer in training."""
    before = {unit["problem"]: unit for unit in section(old, "training")}
    found = []
    for unit in section(new, "training"):
        earlier = before.get(unit["problem"])
        if earlier is None or earlier["rows"] != unit["rows"]:
            continue
        first, second = comparison(earlier), comparison(unit)
        for name, timing in second.timings.items():
            if timing.peer == peer and name in first.timings:
                rounds = first.timings[name].rounds
                costs = [np.array(r) * tile_rate(u) for r, u in ((rounds, earlier), (timing.rounds, unit))]
                ratio, low, high = interval(costs[0].tolist(), costs[1].tolist())
                fewer = min(len(rounds), len(timing.rounds))
                found.append(Change(unit["problem"], name, first.timings[name].median, timing.median, fewer, ratio, low, high))
    return found
