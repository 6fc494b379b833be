"""Threads that run one kernel together.

Inside: a barrier on an atomic counter, for threads that spin a little and then yield. Outside: :class:`Team`, Python threads that
call the same kernel, each with its own number. numba's own threads are not used: they cannot be entered by two Python threads at
once, do not survive a fork, and leave no choice of who computes what, on which the bits of a result may not depend.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import TracebackType
from typing import Any

import numpy as np

from fastmlp.kernels.jit import device
from fastmlp.kernels.plan import ABORT, ARRIVED, SYNC_LENGTH
from fastmlp.kernels.simd import atomic_add, atomic_load, index, pause, yield_processor

_SPINS = 2000
"""Looks at the counter before a waiting thread begins to give its processor away: some ten microseconds."""


@device
def barrier(sync, n_threads, target):
    """Wait until ``n_threads`` have arrived; returns the next target, or -1 when the team has been told to give up."""
    if n_threads == 1:
        return target
    atomic_add(sync, ARRIVED, 1)
    spins = 0
    while atomic_load(sync, ARRIVED) < target:
        spins += 1
        if spins < _SPINS:
            pause()
        elif sync[index(ABORT)] != 0:
            return -1
        else:
            yield_processor()
    return target + n_threads


class Team:
    """A number of threads, this one included, that run kernels together; a context manager.

    The threads live as long as the team, so two teams at once, in one process or in several, never wait for each other's threads.

    Parameters
    ----------
    n_threads : int
    """

    def __init__(self, n_threads: int) -> None:
        self.n_threads = n_threads
        self._sync = np.zeros(SYNC_LENGTH, dtype=np.int64)
        self._tasks: list[SimpleQueue[Any]] = []
        self._done: SimpleQueue[BaseException | None] = SimpleQueue()

    def __enter__(self) -> Team:
        for number in range(1, self.n_threads):
            tasks: SimpleQueue[Any] = SimpleQueue()
            self._tasks.append(tasks)
            threading.Thread(target=self._work, args=(number, tasks), name=f"fastmlp-{number}", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for tasks in self._tasks:
            tasks.put(None)
        self._tasks = []

    def _work(self, number: int, tasks: SimpleQueue[Any]) -> None:
        while (task := tasks.get()) is not None:
            kernel, arguments = task
            try:
                kernel(number, self.n_threads, self._sync, *arguments)
            except BaseException as error:
                self._sync[ABORT] = 1
                self._done.put(error)
            else:
                self._done.put(None)
            del task, arguments

    def run(self, kernel: Callable[..., Any], *arguments: Any) -> None:
        """Call ``kernel(thread, n_threads, sync, *arguments)`` in every thread and wait for all of them.

        An interrupt of this thread makes the others give up at their next barrier, and is raised when they have.
        """
        self._sync[:] = 0
        try:
            for tasks in self._tasks:
                tasks.put((kernel, arguments))
            kernel(0, self.n_threads, self._sync, *arguments)
        except BaseException:
            self._sync[ABORT] = 1
            raise
        finally:
            errors = [self._done.get() for _ in self._tasks]
        for error in errors:
            if error is not None:
                raise error
