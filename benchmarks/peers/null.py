"""A peer that does nothing: what it seems to take is what the harness costs."""

from __future__ import annotations

from benchmarks.peers.peer import Peer, Training
from benchmarks.problems import Task


def _prepare(task: Task) -> Training:
    return Training(lambda: None, lambda: task.theta)


PEER = Peer("null", "nothing: what the harness costs", _prepare, trains=False)
