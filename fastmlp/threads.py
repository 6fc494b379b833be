"""How many threads at most: what the machine and its owner allow, and what a network is large enough for.

Which number of them is fastest is found out in :mod:`fastmlp.pace`.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

_CGROUP_LIMITS = (
    (Path("/sys/fs/cgroup/cpu.max"), None),
    (Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")),
)

_FLOP_PER_THREAD = 1.0e6
"""Least work between two barriers that is worth another thread: some ten microseconds, ten times what a barrier costs."""


@lru_cache(maxsize=1)
def _cgroup_limit(files: Sequence[tuple[Path, Path | None]], second: int) -> float:
    """Processors' worth of time that the container may use. Reading it takes longer than many a prediction: once a second."""
    for quota_file, period_file in files:
        with contextlib.suppress(OSError, ValueError):
            words = quota_file.read_text().split()
            period = float(period_file.read_text()) if period_file else float(words[1])
            quota = float(words[0])
            if quota > 0 and period > 0:
                return quota / period
    return math.inf


def available_threads() -> int:
    """Threads that may run at once: the processors this process may use, within its container's share and ``NUMBA_NUM_THREADS``."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = _cgroup_limit(_CGROUP_LIMITS, int(time.monotonic()))
    if limit < count:
        count = math.ceil(limit)
    with contextlib.suppress(KeyError, ValueError):  # joblib sets it for its workers, so that they share the machine
        count = min(count, int(os.environ["NUMBA_NUM_THREADS"]))
    return max(count, 1)


FLOP_OF_TWO = 2 * _FLOP_PER_THREAD
"""Work of which less is never shared."""
FLOP_OF_TEAM = 3e7
"""Least work in all that may be worth starting threads for: 150 microseconds at least; starting one takes about 100, and more if
its processor is asleep."""

_TOGETHER_SECONDS = 1e-4
"""Helpers stay for longer than this between two calls."""
_ALONE_SECONDS = 0.1
"""Whoever has called at the same time as somebody else will do so again, for so long."""


class Succession:
    """Counts calls that follow each other so closely that helpers need not be started anew for each.

    Calls that overlap do not count: whoever calls from several threads needs no more of them.
    """

    def __init__(self) -> None:
        self._callers: set[int] = set()
        self._calls, self._ended, self._overlapped = 0, -math.inf, -math.inf

    def begin(self) -> int:
        """How many there have been without a break, with the one that begins."""
        now = time.perf_counter()
        self._callers.add(threading.get_ident())
        if len(self._callers) > 1:
            self._overlapped = now
        closely = now - self._ended < _TOGETHER_SECONDS and now - self._overlapped > _ALONE_SECONDS
        self._calls = self._calls + 1 if closely else 1
        return self._calls

    def forget_callers(self) -> None:
        """In a process that was forked: the other threads of the one before are not in it, and will not end their calls."""
        self._callers.clear()

    def end(self) -> None:
        """The call of this thread has ended."""
        self._callers.discard(threading.get_ident())
        self._ended = time.perf_counter()


def choose_threads(flop: float, rounds: int, shares: int, requested: int | None) -> int:
    """How many threads are worth it.

    Parameters
    ----------
    flop : float
        Floating-point operations between two barriers.
    rounds : int
        How often that is done by the same threads.
    shares : int
        Parts that the work can be cut into.
    requested : int or None
        What the caller asks for; that is then the answer, up to the number of shares.
    """
    if requested is not None:
        return max(1, min(requested, shares))
    worth = min(shares, int(flop // _FLOP_PER_THREAD))
    if worth < 2 or flop * rounds < FLOP_OF_TEAM:
        return 1
    return min(available_threads(), worth)
