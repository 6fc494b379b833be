"""PyTorch through torch.compile."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..problems import Task
from . import torch_eager
from .peer import Peer, Training


def _prepare(task: Task, threads: int | None) -> Training:
    import torch

    compile_: Any = partial(torch.compile, dynamic=False)
    return torch_eager.prepare(task, threads, compile_)


PEER = Peer(
    "torch_compile",
    "PyTorch, torch.compile",
    "As eager, with forward, loss and backward compiled by inductor for fixed shapes (dynamic=False), which gives the "
    "shorter steps; "
    "the optimizer stays fused, which is faster than compiled.",
    _prepare,
    keeps_kernels=True,
    packages=("torch",),
)
