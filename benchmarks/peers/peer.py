"""What a peer is."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

from ..problems import Array, Problem, Task


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
    outputs : callable or None
        ``outputs(x)``: what it predicts, (rows, outputs), where its parameters are not those of the problem's network.
    """

    epoch: Callable[[], object]
    theta: Callable[[], Array]
    close: Callable[[], object] = lambda: None
    outputs: Callable[[Array], Array] | None = None


@dataclass(frozen=True)
class Peer:
    """Something that can train a network, or predict with one.

    All functions are called in a process of the peer's own, which may use ``threads`` processors, or all where that is None.

    Parameters
    ----------
    name : str
    description : str
        A few words for the report.
    tuned : str
        What was done so that it is at its best, and why.
    prepare : callable or None
        ``prepare(task, threads)`` does everything that comes before the first epoch. None for what only predicts.
    packages : tuple of str
        What it needs, as it is imported; all in ``pip install 'fastmlp[bench]'``.
    trains : bool
        Whether it learns anything, so that its loss is compared with the others'.
    threaded : bool
        Whether it can use more than one thread.
    keeps_kernels : bool
        Whether it keeps compiled kernels on disk, so that a first fit depends on whether they are there.
    nearest : callable
        ``nearest(problem)``: in a few words, what it does otherwise because it cannot do just this; its loss is then not compared.
        None where it does the same.
    predictor : callable or None
        ``predictor(task, threads)``: a function of samples (rows, features) that returns outputs (rows, outputs) of the network
        with the initial parameters.
    """

    name: str
    description: str
    tuned: str
    prepare: Callable[[Task, int | None], Training] | None
    packages: tuple[str, ...] = ()
    trains: bool = True
    threaded: bool = True
    keeps_kernels: bool = False
    nearest: Callable[[Problem], str | None] = _the_same
    predictor: Callable[[Task, int | None], Callable[[Array], Array]] | None = None

    @property
    def missing(self) -> list[str]:
        """Those of the packages that are not installed."""
        return [name for name in self.packages if importlib.util.find_spec(name) is None]


@dataclass(frozen=True)
class Contestant:
    """A peer with a number of threads.

    Parameters
    ----------
    peer : Peer
    threads : int or None
        None: all that the process may use, or as many of them as the peer chooses.
    """

    peer: Peer
    threads: int | None

    @property
    def name(self) -> str:
        """The peer's, with the number of threads where it is given."""
        return self.peer.name if self.threads is None else f"{self.peer.name}-{self.threads}"

    @property
    def description(self) -> str:
        threads = "" if not self.peer.threaded else "; all threads" if self.threads is None else f"; threads: {self.threads}"
        return f"{self.peer.description}{threads}"
