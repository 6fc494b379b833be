"""Threads that run one kernel together.

Inside: a barrier, for threads that spin a little and then yield, and tickets for pieces of work. Outside: :class:`Team`, Python
threads that call the same kernel, each with its own number, and wait inside it for its next call.
numba's own threads are not used: they cannot be entered by two Python threads at once, do not survive a fork, and leave no choice
of who computes what, on which the bits of a result may not depend.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import numpy as np

from fastmlp.kernels.jit import Kernel, device, kernel
from fastmlp.kernels.plan import (
    ABORT,
    ABSENT,
    FIRST_TICKET,
    FLAGS,
    LEAVING,
    PLACE,
    PLACES_LOCK,
    STATES,
    THREAD_STRIDE,
    TICKETS,
    WAITING,
    WORKING,
)
from fastmlp.kernels.simd import atomic_add, atomic_load, atomic_store, compare_exchange, index, pause, yield_processor
from fastmlp.memory import aligned_zeros

R = TypeVar("R")

_SPINS = 2000
"""Looks at a flag or a state before a waiting thread begins to give its processor away: some ten microseconds."""


@device
def barrier(worker, meeting):
    """Wait until all threads have come to meeting number ``meeting`` (1, 2, ...); returns the next number, or -1 to give up.

    Each tells the one 1, then 2, 4, ... places further that it, and whoever has told it so far, is there (the dissemination barrier
    of Hensgen, Finkel and Manber, 1988): each number has one writer and one reader, so threads need not queue for a counter.
    """
    thread, n_threads, sync = worker
    distance, told = 1, FLAGS
    while distance < n_threads:
        other = thread + distance
        if other >= n_threads:
            other -= n_threads
        atomic_store(sync, STATES + THREAD_STRIDE * other + told, meeting)
        mine = STATES + THREAD_STRIDE * thread + told
        spins = 0
        while atomic_load(sync, mine) < meeting:
            spins += 1
            if spins < _SPINS:
                pause()
            elif sync[index(ABORT)] != 0:
                return -1
            else:
                yield_processor()
        distance *= 2
        told += 1
    return meeting + 1


@device
def take_ticket(worker, last):
    """Number of a piece of work that no other thread has taken: 0, 1, ...; ``last``: the thread's last one, -1 at first.

    Threads that take a piece when they are done with another are done at the same time, even if one of them is slower or has been
    interrupted. A thread stops when it is given a number that is too large.
    """
    if worker.n_threads == 1:
        return last + 1
    return atomic_add(worker.sync, TICKETS, 1) - worker.sync[index(STATES + THREAD_STRIDE * worker.thread + FIRST_TICKET)]


@device
def return_tickets(worker, pieces):
    """Be ready for other work, behind the next barrier, when this thread was given a number too large for so many pieces."""
    if worker.n_threads > 1:  # each thread was
        worker.sync[index(STATES + THREAD_STRIDE * worker.thread + FIRST_TICKET)] += pieces + worker.n_threads


_LINGER = 1000
"""How often a helper that has nothing to do gives its processor away before it leaves: some hundred microseconds."""


@device
def next_call(worker):
    """Whether there is another call for a helper that has done its part of one; waits for a while."""
    sync, state = worker.sync, STATES + THREAD_STRIDE * worker.thread
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
        while atomic_load(sync, STATES + THREAD_STRIDE * thread) == state:
            spins += 1
            if spins < _SPINS:
                pause()
            else:
                yield_processor()


@kernel
def signal_helpers(sync, n_threads, state, reached):
    """Give helpers that wait another state, and wait for those that are told to leave; reached (n_threads,): who was there.

    Flags and tickets of the last call are taken back before.
    """
    sync[index(TICKETS)] = 0
    for thread in range(n_threads):
        sync[index(STATES + THREAD_STRIDE * thread + FIRST_TICKET)] = 0
        for flag in range(STATES + THREAD_STRIDE * thread + FLAGS, STATES + THREAD_STRIDE * (thread + 1)):
            sync[index(flag)] = 0
    for thread in range(1, n_threads):
        reached[thread] = compare_exchange(sync, STATES + THREAD_STRIDE * thread, WAITING, state)
    wait_while(sync, n_threads, LEAVING)


class NoThreadError(RuntimeError):
    """The system does not give all threads. One can do it alone: what helpers may have written, it writes again."""


class Team:
    """A number of threads, this one included, that run a kernel together; the others, the helpers, stay in it for a while.

    Helpers are started when they are needed: two teams at once, in one process or in several, share nothing.

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
        self._sync = aligned_zeros(STATES + THREAD_STRIDE * n_threads, np.dtype(np.int64))
        self._reached = np.zeros(n_threads, np.bool_)
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._errors: list[BaseException] = []  # of helpers, in the last call: some are there since an earlier one

    def runner(self, kernel: Callable[..., R]) -> Callable[..., R]:
        """``runner(kernel)(*arguments)`` is ``run(kernel, *arguments)``; one thread is sooner at work so."""
        return partial(kernel, 0, 1, self._sync) if self.n_threads == 1 else partial(self.run, kernel)

    def compiled(self, kernel: Kernel[..., R], *examples: Any) -> Callable[..., R]:
        """The machine code of a kernel for arguments as these."""
        return kernel.compiled_for(0, 1, self._sync, *examples)

    def run(self, kernel: Callable[..., R], *arguments: Any) -> R:
        """Call ``kernel(thread, n_threads, sync, *arguments)`` in this thread and, where no helper waits, in new ones.

        Returns what it returns in this thread.

        An error in one thread, or an interrupt of this one, makes the others give up at their next barrier, and is raised when they
        have.

        Raises
        ------
        NoThreadError
            Where not all helpers can be had; what those that began may have written is written again by whoever does it alone.
        """
        if self.n_threads == 1:
            return kernel(0, 1, self._sync, *arguments)
        sync = self._sync
        if self._process != os.getpid():  # a fork leaves the helpers behind
            self._process, self._lock = os.getpid(), threading.Lock()
            sync[STATES:] = ABSENT
            sync[PLACES_LOCK] = 0
        sync[ABORT] = 0
        errors = self._errors
        errors.clear()
        absent: list[int] = []
        decided = set[int]()  # threads that have begun, or may not any more

        def help_(thread: int) -> None:
            with self._lock:  # an interrupt of start() leaves open whether the thread will run
                if thread in decided:
                    return
                decided.add(thread)
            try:
                kernel(thread, self.n_threads, sync, *arguments)
            except BaseException as error:
                errors.append(error)
                sync[ABORT] = 1
                sync[STATES + THREAD_STRIDE * thread] = ABSENT

        try:
            signal_helpers(sync, self.n_threads, WORKING, self._reached)
            absent = [thread for thread in range(1, self.n_threads) if not self._reached[thread]]
            for thread in absent:
                sync[STATES + THREAD_STRIDE * thread] = WORKING
                sync[STATES + THREAD_STRIDE * thread + PLACE] = 0
                _start(threading.Thread(target=help_, args=(thread,), name=f"fastmlp-{thread}", daemon=True))
            result = kernel(0, self.n_threads, sync, *arguments)
        except BaseException as error:
            interrupt: BaseException | None = None
            sync[ABORT] = 1
            with self._lock:
                for thread in set(absent) - decided:
                    sync[STATES + THREAD_STRIDE * thread] = ABSENT
                decided.update(absent)
            while True:
                try:
                    time.sleep(0)
                    if not (sync[STATES::THREAD_STRIDE] == WORKING).any():
                        break
                except BaseException as another:  # of a signal handler: but who works writes to arrays that would soon be gone
                    interrupt = another
            if isinstance(error, NoThreadError) and interrupt is not None:
                raise interrupt from None
            raise
        if errors:
            raise errors[0]
        return result

    def dismiss(self) -> None:
        """Have helpers leave the kernel, and wait until they have."""
        if self.n_threads > 1 and self._process == os.getpid() and (self._sync[STATES::THREAD_STRIDE] != ABSENT).any():
            signal_helpers(self._sync, self.n_threads, LEAVING, self._reached)


def _start(thread: threading.Thread) -> None:
    """Start a thread; what a signal handler raises meanwhile, such as a timeout, comes out as what it is."""
    try:
        thread.start()
    except KeyError as error:  # of threading, which tidies up after any other error, even if the thread has begun
        raise error.__context__ or error from None
    except RuntimeError as error:
        raise NoThreadError(str(error)) from error
