"""The compiled network, with one thread and with as many as it chooses."""

from __future__ import annotations

from benchmarks.peers.networks import network_training
from benchmarks.peers.peer import Peer, Training
from benchmarks.problems import Task
from fastmlp import MLP


def _prepare(task: Task, n_threads: int | None = None) -> Training:
    return network_training(task.problem.network(MLP, n_threads=n_threads), task)


def _prepare_one_thread(task: Task) -> Training:
    return _prepare(task, n_threads=1)


PEER = Peer("fastmlp", "fastmlp.MLP, threads as it chooses", _prepare)
ONE_THREAD = Peer("fastmlp-1", "fastmlp.MLP, n_threads=1", _prepare_one_thread)
