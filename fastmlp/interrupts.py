"""Ctrl-C, and what it must not interrupt."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

LOOK_SECONDS = 0.2
"""A wait is cut into these, for Ctrl-C on every system."""


def undisturbed(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function that would be left in a state nobody can go on from if a signal handler interrupted it.

    Python runs signal handlers in the main thread only, and between any two of its instructions: among them those of numba while it
    compiles, and those that LLVM calls back. So the function runs in a thread of its own. This one waits, and if it is interrupted,
    it is at once; the function then comes to its end behind its back, or before the process ends.
    """
    if threading.current_thread() is not threading.main_thread() or _is_importing():
        return function(*args, **kwargs)
    results: list[R] = []
    errors: list[BaseException] = []
    ended = threading.Event()  # a thread whose join is interrupted counts as ended in Python 3.11, and no exit waits for it

    def run() -> None:
        try:
            results.append(function(*args, **kwargs))
        except BaseException as error:
            errors.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=run, name="fastmlp-undisturbed")
    try:
        thread.start()
    except RuntimeError:  # there can be no thread
        return function(*args, **kwargs)
    while not ended.wait(LOOK_SECONDS):
        pass
    if errors:
        raise errors[0]
    return results[0]


def _is_importing() -> bool:
    """Whether this thread imports a module, and holds its lock: numba, in another thread, would wait for that for ever."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False
