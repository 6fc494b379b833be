"""The same network in plain NumPy: what all others are compared with."""

from __future__ import annotations

from benchmarks.peers.networks import network_training
from benchmarks.peers.peer import Peer, Training
from benchmarks.problems import Task
from fastmlp import ReferenceMLP


def _prepare(task: Task) -> Training:
    return network_training(task.problem.network(ReferenceMLP), task)


PEER = Peer("reference", "fastmlp.ReferenceMLP: plain NumPy, threads as its BLAS likes", _prepare)
