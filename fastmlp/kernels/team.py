"""Threads that run one kernel together.

Inside: a barrier on an atomic counter, for threads that spin a little and then yield. Outside: :class:`Team`, Python threads that
call the same kernel, each with its own number, and wait inside it for its next call.
numba's own threads are not used: they cannot be entered by two Python threads at once, do not survive a fork, and leave no choice
of who computes what, on which the bits of a result may not depend.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fastmlp.kernels.jit import device, kernel
from fastmlp.kernels.plan import ABORT, ABSENT, ARRIVED, LEAVING, LINE, STATES, WAITING, WORKING
from fastmlp.kernels.simd import atomic_add, atomic_load, atomic_store, compare_exchange, index, pause, yield_processor
from fastmlp.parameters import aligned_zeros

_CURRENT_PROCESSOR: Callable[[], int] | None = (
    getattr(ctypes.CDLL(None), "sched_getcpu", None) if hasattr(os, "sched_setaffinity") else None
)

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


_LINGER = 1000
"""How often a helper that has nothing to do gives its processor away before it leaves: some hundred microseconds."""


@device
def next_call(sync, thread):
    """Whether there is another call for a helper that has done its part of one; waits for a while."""
    state = STATES + LINE * thread
    atomic_store(sync, state, WAITING)
    spins = 0
    while True:
        now = atomic_load(sync, state)
        if now == WORKING:
            return True
        if now == LEAVING:
            atomic_store(sync, state, ABSENT)
            return False
        spins += 1
        if spins < _SPINS:
            pause()
        elif spins < _SPINS + _LINGER:
            yield_processor()
        elif compare_exchange(sync, state, WAITING, ABSENT):
            return False


@device
def wait_while(sync, n_threads, state):
    """Wait until no helper is in a state."""
    for thread in range(1, n_threads):
        spins = 0
        while atomic_load(sync, STATES + LINE * thread) == state:
            spins += 1
            if spins < _SPINS:
                pause()
            else:
                yield_processor()


@kernel
def signal_helpers(sync, n_threads, state, reached):
    """Give helpers that wait another state, and wait for those that are told to leave; reached (n_threads,): who was there."""
    for thread in range(1, n_threads):
        reached[thread] = compare_exchange(sync, STATES + LINE * thread, WAITING, state)
    wait_while(sync, n_threads, LEAVING)


class Places:
    """Sees to it that the threads of a team run on different processors, where the system lets a thread say where it runs.

    A scheduler may put two of them on one processor, while another is busy for a moment (with the threads of a BLAS, which
    spin for some time after each product), and leave them there: for tens of milliseconds, all of a short training, each
    then waits for the other. A thread that finds its processor taken moves to one that is not. It is not bound to it.
    """

    def __init__(self) -> None:
        self._allowed = os.sched_getaffinity(0) if _CURRENT_PROCESSOR is not None else set()
        self._taken: set[int] = set()
        self._lock = threading.Lock()

    def take(self) -> None:
        """Called by each thread of the team before it enters the kernel."""
        if _CURRENT_PROCESSOR is None:
            return
        with self._lock:
            place = _CURRENT_PROCESSOR()
            free = self._allowed - self._taken
            if place in self._taken and free:
                place = min(free)
                os.sched_setaffinity(0, {place})  # 0: this thread
                os.sched_setaffinity(0, self._allowed)
            self._taken.add(place)


class Team:
    """A number of threads, this one included, that run a kernel together; the others, the helpers, stay in it for a while.

    Helpers are started when they are needed, which buys their places: every scheduler puts a new thread on an idle processor, but a
    thread that waited and is woken often on that of the one that wakes it, where two threads that wait for each other take more
    than twice as long as one. Two teams at once, in one process or in several, share nothing.

    Starting a thread takes a hundred microseconds or more, which is as long as a short epoch. So a helper waits inside the kernel,
    in case it is called again with the same arrays: it is then there at once, and needs neither the system's scheduler nor
    Python's lock. It leaves by itself when no call comes, and there are no threads for a fork to lose.

    The kernel's first argument after ``sync`` is an array with what changes from call to call. Before any other array changes its
    place in memory, :meth:`dismiss`.

    Parameters
    ----------
    n_threads : int
    """

    def __init__(self, n_threads: int) -> None:
        self.n_threads = n_threads
        self._sync = aligned_zeros(STATES + LINE * n_threads, np.dtype(np.int64))
        self._reached = np.zeros(n_threads, np.bool_)
        self._process = os.getpid()

    def run(self, kernel: Callable[..., Any], *arguments: Any) -> None:
        """Call ``kernel(thread, n_threads, sync, *arguments)`` in this thread and, where no helper waits, in new ones.

        An error in one thread, or an interrupt of this one, makes the others give up at their next barrier, and is raised when they
        have.
        """
        if self.n_threads == 1:
            kernel(0, 1, self._sync, *arguments)
            return
        sync = self._sync
        if self._process != os.getpid():  # a fork leaves the helpers behind
            self._process = os.getpid()
            sync[STATES:] = ABSENT
        sync[ARRIVED] = sync[ABORT] = 0
        signal_helpers(sync, self.n_threads, WORKING, self._reached)
        errors: list[BaseException] = []
        absent = [thread for thread in range(1, self.n_threads) if not self._reached[thread]]
        places = Places() if absent else None

        def help_(thread: int) -> None:
            try:
                assert places is not None
                places.take()
                kernel(thread, self.n_threads, sync, *arguments)
            except BaseException as error:
                errors.append(error)
                sync[ABORT] = 1
                sync[STATES + LINE * thread] = ABSENT

        try:
            for thread in absent:
                sync[STATES + LINE * thread] = WORKING
                try:
                    threading.Thread(target=help_, args=(thread,), name=f"fastmlp-{thread}", daemon=True).start()
                except BaseException:
                    sync[STATES + LINE * thread] = ABSENT
                    raise
            if places is not None:
                places.take()
            kernel(0, self.n_threads, sync, *arguments)
        except BaseException:
            sync[ABORT] = 1
            while (sync[STATES::LINE] == WORKING).any():
                time.sleep(0)
            raise
        if errors:
            raise errors[0]

    def dismiss(self) -> None:
        """Have helpers leave the kernel, and wait until they have."""
        if self.n_threads > 1 and self._process == os.getpid() and (self._sync[STATES::LINE] != ABSENT).any():
            signal_helpers(self._sync, self.n_threads, LEAVING, self._reached)
