"""Every measurement in a process of its own, on processors of its own choosing, with as many threads as it may use."""

from __future__ import annotations

import multiprocessing
import os
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

from .machine import one_of_each_core_first, rest

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_environment_lock = threading.RLock()


class PeerError(RuntimeError):
    """Something failed in the process of a peer."""


@contextmanager
def environment_for(threads: int | None, **more: str) -> Iterator[None]:
    """Variables that libraries read when they are loaded, for processes that start meanwhile; and ``more`` of them."""
    # Inductor's pool of compiling processes would run beside whoever is measured.
    wanted = {"TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    wanted["KERAS_BACKEND"] = os.environ.get("KERAS_BACKEND", "jax")  # which has to be known when it is imported
    if threads is not None:
        wanted |= dict.fromkeys(_THREAD_VARIABLES, str(threads))
    wanted |= more
    with _environment_lock:
        before = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def use_only(threads: int | None) -> None:
    """Bind this process to so many processors, of different cores if it can; libraries that are loaded later start no more."""
    if threads is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, one_of_each_core_first()[:threads])


class Remote:
    """An object in a process of its own, at the end of a pipe.

    Parameters
    ----------
    make : callable
        ``make(*arguments)`` makes the object there; a function or class of a module.
    threads : int or None
        How many processors the process may use; None for all.

    Notes
    -----
    The constructor does not wait for the object to be made, so that several processes can start at the same time; :meth:`ready`
    does.
    """

    def __init__(self, make: Callable[..., Any], *arguments: Any, threads: int | None = None) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would inherit the locks of threads that it does not have
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, threads), daemon=True)
        with environment_for(threads):
            self._process.start()
        other.close()
        # Not arguments of the process: starting one that fails at once would wait for ever to hand them over.
        self._tell(make, arguments)
        self._is_ready = False

    def ready(self) -> None:
        """Wait until the object has been made."""
        if not self._is_ready:
            self._answer()
            self._is_ready = True

    def _tell(self, *message: Any) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # who has ended, killed for its memory, say, will give no answer
            self._connection.send(message)

    def _answer(self) -> Any:
        try:
            done, value = self._connection.recv()
        except (EOFError, ConnectionResetError):
            raise PeerError("the process of a peer ended unexpectedly") from None
        if not done:
            raise PeerError(f"a peer failed:\n{value}")
        return value

    def ask(self, method: str, *arguments: Any) -> Any:
        """What a method of the object returns."""
        self.ready()
        self._tell(method, arguments)
        return self._answer()

    def rest(self) -> None:
        """Wait until its threads do nothing any more."""
        if self._process.pid is not None:
            rest(self._process.pid)

    def close(self) -> None:
        """Hang up, which ends the process."""
        self._connection.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()


class Here:
    """The same for an object in this process: for what cannot be sent to another one, as in tests."""

    def __init__(self, make: Callable[..., Any], *arguments: Any, threads: int | None = None) -> None:
        self._served = make(*arguments)

    def ready(self) -> None:
        """It is."""

    def ask(self, method: str, *arguments: Any) -> Any:
        """What a method of the object returns."""
        return getattr(self._served, method)(*arguments)

    def rest(self) -> None:
        """It is not waited for: it shares this process."""

    def close(self) -> None:
        """Forget the object."""
        if hasattr(self._served, "close"):
            self._served.close()


def _serve(connection: Connection, threads: int | None) -> None:
    """Answer questions until the other side hangs up."""
    warnings.simplefilter("ignore")  # of the peers, about their own affairs
    try:
        use_only(threads)
        make, arguments = connection.recv()
        served = make(*arguments)
        connection.send((True, None))
        while True:
            method, arguments = connection.recv()
            connection.send((True, getattr(served, method)(*arguments)))
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        return
    except Exception:
        connection.send((False, traceback.format_exc()))
