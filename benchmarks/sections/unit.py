"""What a section consists of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Unit:
    """Something to measure, after which what has been measured so far is kept.

    Parameters
    ----------
    name : str
        ``section/what``.
    weight : float
        About how many seconds it takes; for the progress bar.
    measure : callable
        ``measure()``: raw figures, as JSON knows them.
    """

    name: str
    weight: float
    measure: Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Parameters
    ----------
    quick : bool
    rounds : int
    round_seconds : float
        A round goes on for at least so long, and at least an epoch.
    """

    quick: bool
    rounds: int
    round_seconds: float
