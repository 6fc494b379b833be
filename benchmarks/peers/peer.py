"""What a peer is."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.machine import seconds_waited
from benchmarks.problems import Problem, Task

Array = np.ndarray[Any, np.dtype[Any]]


def _the_same(problem: Problem) -> None:
    """Most peers do just what the problem asks for."""


@dataclass
class Training:
    """A training that is ready to go.

    Parameters
    ----------
    epoch : callable
        ``epoch()`` trains on all rows once, from where the last call ended. Only this is timed.
    theta : callable
        ``theta()``: the parameters now, laid out as :attr:`benchmarks.problems.Task.theta`. The loss is computed from them, by the
        same code for all, so that no peer has to be believed.
    close : callable
        ``close()`` gives back what the training holds, such as threads.
    """

    epoch: Callable[[], object]
    theta: Callable[[], Array]
    close: Callable[[], object] = lambda: None

    def timed(self, epochs: int) -> tuple[float, float | None]:
        """Seconds for some epochs, and how many of them threads waited for a processor."""
        waited = seconds_waited()
        began = time.perf_counter()
        for _ in range(epochs):
            self.epoch()
        seconds = time.perf_counter() - began
        after = seconds_waited()
        return seconds, None if waited is None or after is None else max(0.0, after - waited)


@dataclass(frozen=True)
class Peer:
    """Something that can train a network.

    Parameters
    ----------
    name : str
    description : str
        A few words for the report.
    prepare : callable
        ``prepare(task)`` does everything that comes before the first epoch.
    trains : bool
        Whether it learns anything, so that its loss is compared with the others'.
    requires : tuple of str
        Packages without which it cannot take part.
    nearest : callable
        ``nearest(problem)``: in a few words, what it does otherwise because it cannot do just this; its loss is then not compared.
        None where it does the same.
    """

    name: str
    description: str
    prepare: Callable[[Task], Training]
    trains: bool = True
    requires: tuple[str, ...] = ()
    nearest: Callable[[Problem], str | None] = _the_same

    @property
    def missing(self) -> list[str]:
        """Those of the packages that are not installed."""
        return [name for name in self.requires if importlib.util.find_spec(name) is None]
