"""What a peer is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.problems import Task

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
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
    """

    name: str
    description: str
    prepare: Callable[[Task], Training]
    trains: bool = True
