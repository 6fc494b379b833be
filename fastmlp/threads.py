"""How many threads: what the machine and its owner allow, and what a network is large enough for."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path

_CGROUP_LIMITS = (
    (Path("/sys/fs/cgroup/cpu.max"), None),
    (Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")),
)

_FLOP_PER_THREAD = 1.0e6
"""Least work between two barriers that is worth another thread: some ten microseconds, ten times what a barrier costs."""


def _cgroup_limit() -> float:
    """Processors' worth of time that the container may use."""
    for quota_file, period_file in _CGROUP_LIMITS:
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
    limit = _cgroup_limit()
    if limit < count:
        count = math.ceil(limit)
    with contextlib.suppress(KeyError, ValueError):  # joblib sets it for its workers, so that they share the machine
        count = min(count, int(os.environ["NUMBA_NUM_THREADS"]))
    return max(count, 1)


_FLOP_PER_TEAM = 3e7
"""Least work in all that is worth starting threads for: some 150 microseconds."""


def choose_threads(flop: float, rounds: int, shares: int, wish: int | None) -> int:
    """How many threads are worth it.

    Parameters
    ----------
    flop : float
        Floating-point operations between two barriers.
    rounds : int
        How often that is done by the same threads.
    shares : int
        Parts that the work can be cut into.
    wish : int or None
        What the caller wants; that is then the answer.
    """
    if wish is not None:
        return wish
    if flop * rounds < _FLOP_PER_TEAM:
        return 1
    return int(max(1, min(available_threads(), shares, flop // _FLOP_PER_THREAD)))
