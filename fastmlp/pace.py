"""How many threads are fastest: trials while they work, and how long their winner is used."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Hashable, Sequence

from fastmlp.pool import Pool

_TRIAL_SECONDS = 0.002
"""A call takes at most this long while a number of threads is tried."""
_TRIAL_CALLS = 5
"""Each number is tried for so many calls, of which the median counts: one may be disturbed, or too short for starting threads."""
_LONG_SECONDS = 0.02
"""A number has been tried for long enough after this, with fewer calls, too: little disturbs calls that long."""
_MUCH_SLOWER = 1.5
"""Where a number takes so many times as long as the fastest so far, those after it, which are smaller, are not tried."""
_FIRST_HOLD_SECONDS, _HOLD_SECONDS = 0.1, 2.0
"""So long the fastest is used before the next trial: the first where it is another than before, as it is in the beginning, when
much else is still being set up, or because a trial was disturbed all along; else the second, or longer."""
_TRIAL_COST = 0.01
"""Longer, so that the time that a trial has lost on slower numbers is at most this share..."""
_LONGER = 10
"""...but at most so many times the last hold, or the trial: what one trial has lost may have been a disturbance."""
_CLEARLY_SLOWER = 1.1
"""The number from before counts as the fastest, too, unless it takes more than so many times as long."""
_SLOWER, _SLOW_SECONDS, _SLOW_CALLS = 1.2, 0.1, 2
"""The next trial comes at once where calls have taken so many times as long as the best since the last one, for so long and so
many in a row."""
_BREAK_SECONDS, _SETTLE_SECONDS, _MOST_SETTLE_SECONDS = 0.02, 0.01, 0.05
"""After a break this long, or in the beginning, threads, caches and clocks have to come back: that takes so long, which does
not count on trial; of a trial no more than that. (A BLAS that was called before keeps processors busy for a while, too.)"""


class Pace:
    """How many threads are fastest, found out while they work.

    How long two processors take to exchange what they share depends on where they are, and, on a virtual machine, on where they are
    just now: the same training has been seen to gain a factor of 1.6 from a second thread, and to lose as much, minutes later. The
    results do not depend on the number of threads, so it may change at any time.

    Parameters
    ----------
    candidates : sequence of int
        Numbers of threads, the most likely one first.
    """

    def __init__(self, candidates: Sequence[int]) -> None:
        self._candidates = list(candidates)
        self._tried: dict[int, float] = {}  # seconds of a part, in the last trial...
        self._parts_tried: dict[int, int] = {}  # ...and how many there were
        self._fastest = self._candidates[0]  # in the last trial
        self._to_try = self._candidates.copy() if len(self._candidates) > 1 else []
        self.n_threads = self._candidates[0]
        self._parts, self._seconds, self._calls = 0, 0.0, list[float]()
        self._hold_seconds = min(_FIRST_HOLD_SECONDS, _HOLD_SECONDS)
        self._ended = -math.inf  # the last call
        self._settling = 0.0  # seconds of work since the last break
        self._ignored = 0.0  # seconds of this trial
        self._best = math.inf  # seconds of a part, since the last trial
        self._slow_seconds, self._slow_calls = 0.0, 0  # of the last calls, which took longer

    def limit(self, seconds: float) -> float:
        """How long the next call may take, if ``seconds`` is what all calls may."""
        return min(seconds, _TRIAL_SECONDS) if self._to_try else seconds

    def record(self, parts: int, seconds: float) -> None:
        """Take note of what a call with :attr:`n_threads` took for so many equal parts of the work, and choose for the next one."""
        if len(self._candidates) == 1 or self._is_settling(seconds):
            return
        self._parts += parts
        self._seconds += seconds
        if self._to_try:
            self._calls.append(seconds / parts)
            is_enough = len(self._calls) >= _TRIAL_CALLS and self._seconds >= _TRIAL_SECONDS / 2
            if not is_enough and self._seconds < _LONG_SECONDS:
                return
            self._note(statistics.median(self._calls))
        else:
            self._best = min(self._best, seconds / parts)
            is_slow = seconds / parts > _SLOWER * self._best
            self._slow_seconds, self._slow_calls = (self._slow_seconds + seconds, self._slow_calls + 1) if is_slow else (0.0, 0)
            is_slower = self._slow_seconds >= _SLOW_SECONDS and self._slow_calls >= _SLOW_CALLS
            if self._seconds < self._hold_seconds and not is_slower:
                return
            self._to_try = self._candidates.copy()
            self._tried, self._parts_tried, self._ignored = {}, {}, 0.0
        self._parts, self._seconds, self._calls = 0, 0.0, []
        self._slow_seconds, self._slow_calls, self._best = 0.0, 0, math.inf
        if self._to_try:
            self.n_threads = self._to_try[0]
        else:
            self._choose()

    def _is_settling(self, seconds: float) -> bool:
        """Whether a call that has just ended is one of the first after a break, and there is a trial."""
        now = time.perf_counter()
        if now - seconds - self._ended > _BREAK_SECONDS:
            self._settling = 0.0
        self._ended, before, self._settling = now, self._settling, self._settling + seconds
        if not self._to_try or before >= _SETTLE_SECONDS or self._ignored >= _MOST_SETTLE_SECONDS:
            return False
        self._ignored += seconds
        return True

    def _note(self, seconds: float) -> None:
        """A part has taken so long with the number that is tried."""
        self._tried[self.n_threads] = seconds
        self._parts_tried[self.n_threads] = self._parts
        del self._to_try[0]
        if seconds > _MUCH_SLOWER * min(self._tried.values()):
            self._to_try.clear()

    def _choose(self) -> None:
        """A trial is over."""
        before, fastest = self._fastest, min(self._tried, key=lambda n: self._tried[n])
        best = self._tried[fastest]
        self._fastest = self.n_threads = fastest
        if before not in self._tried or self._tried[before] > _CLEARLY_SLOWER * best:
            self._hold_seconds = min(_FIRST_HOLD_SECONDS, _HOLD_SECONDS)
        else:
            lost = sum((seconds - best) * self._parts_tried[n] for n, seconds in self._tried.items())
            spent = sum(seconds * self._parts_tried[n] for n, seconds in self._tried.items())
            self._hold_seconds = min(max(_HOLD_SECONDS, lost / _TRIAL_COST), _LONGER * max(self._hold_seconds, spent))


_paces = Pool[Hashable, Pace](64)


def take_pace(work: Hashable, candidates: Sequence[int]) -> Pace:
    """What this process has found out for work of a kind, for one user at a time: a training may be shorter than a trial."""
    return _paces.take((work, *candidates)) or Pace(candidates)


def give_back_pace(work: Hashable, candidates: Sequence[int], pace: Pace) -> None:
    """Keep it for whoever does such work next."""
    if len(candidates) > 1:
        _paces.give_back((work, *candidates), pace)


def thread_candidates(n_threads: int, requested: int | None) -> list[int]:
    """Numbers of threads that are worth trying, if a model of the costs has chosen ``n_threads``: it, and the halves of it."""
    if requested is not None:
        return [n_threads]
    candidates = [n_threads]
    while candidates[-1] > 1:
        candidates.append(candidates[-1] // 2)
    return candidates
