"""Peers in processes of their own: libraries that take their number of threads from where they start."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.peers.peer import Training
from benchmarks.problems import Task

Prepare = Callable[[Task], Training]


class _Remote:
    """The other process, at the end of a pipe."""

    def __init__(self, prepare: Prepare, processors: int | None, task: Task) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would inherit the locks of threads that it does not have
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, prepare, processors), daemon=True)
        self._process.start()
        other.close()
        self._connection.send(task)  # not an argument: starting a process that fails at once would wait for ever to hand it over
        self._answer()

    def _answer(self) -> Any:
        try:
            done, value = self._connection.recv()
        except EOFError:
            raise RuntimeError("the process of a peer ended unexpectedly") from None
        if not done:
            raise RuntimeError(f"a peer failed:\n{value}")
        return value

    def ask(self, question: str, *arguments: Any) -> Any:
        """What a method of the training there returns."""
        self._connection.send((question, arguments))
        return self._answer()

    def close(self) -> None:
        """Hang up, which ends the process."""
        self._connection.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()


class _RemoteTraining(Training):
    """A training in another process, which also does the timing."""

    def __init__(self, remote: _Remote) -> None:
        super().__init__(lambda: remote.ask("epoch"), lambda: remote.ask("theta"), remote.close)
        self._remote = remote

    def timed(self, epochs: int) -> tuple[float, float | None]:
        result: tuple[float, float | None] = self._remote.ask("timed", epochs)
        return result


def _prepare_remote(prepare: Prepare, processors: int | None, task: Task) -> Training:
    return _RemoteTraining(_Remote(prepare, processors, task))


def in_process(prepare: Prepare, processors: int | None = None) -> Prepare:
    """The same preparation in a process of its own, which may use only so many processors."""
    return partial(_prepare_remote, prepare, processors)


def _serve(connection: Connection, prepare: Prepare, processors: int | None) -> None:
    """Answer questions until the other side hangs up."""
    try:
        if processors is not None:
            _use_only(processors)
        training = prepare(connection.recv())
        connection.send((True, None))
        while True:
            question, arguments = connection.recv()
            connection.send((True, getattr(training, question)(*arguments)))
    except EOFError:
        return
    except Exception:
        connection.send((False, traceback.format_exc()))


def _use_only(processors: int) -> None:
    """Bind this process to some processors; what is imported later starts as many threads."""
    os.environ["OMP_NUM_THREADS"] = str(processors)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:processors])
