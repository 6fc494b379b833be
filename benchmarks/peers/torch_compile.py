"""PyTorch through torch.compile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..problems import Array, Task
from . import torch_eager
from .peer import Peer, Training


def _compile(function: Any) -> Any:
    import torch

    return torch.compile(function, dynamic=False)


def _prepare(task: Task, threads: int | None) -> Training:
    return torch_eager.prepare(task, threads, _compile)


def _predictor(task: Task, threads: int | None) -> Callable[[Array], Array]:
    return torch_eager.predictor(task, threads, _compile)


PEER = Peer(
    "torch_compile",
    "PyTorch, torch.compile",
    "As eager, with forward, loss and backward compiled by inductor for fixed shapes (dynamic=False), which gives the shorter "
    "steps; the optimizer stays fused, which is faster than compiled.",
    _prepare,
    keeps_kernels=True,
    packages=("torch",),
    predictor=_predictor,
)
