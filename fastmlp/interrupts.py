"""Ctrl-C, and what it must not interrupt."""

from __future__ import annotations

import threading
from collections.abc import Callable
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
    if threading.current_thread() is not threading.main_thread():
        return function(*args, **kwargs)
    results: list[R] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function(*args, **kwargs))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="fastmlp-undisturbed")
    try:
        thread.start()
    except RuntimeError:  # there can be no thread
        return function(*args, **kwargs)
    while thread.is_alive():
        thread.join(LOOK_SECONDS)
    if errors:
        raise errors[0]
    return results[0]
