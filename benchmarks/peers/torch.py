"""PyTorch, eager and compiled, with its fused optimizers."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

from benchmarks.peers.peer import Peer, Training
from benchmarks.peers.process import in_process
from benchmarks.problems import Task


def _network(task: Task) -> Any:
    import torch
    from torch import nn

    modules = {
        "identity": nn.Identity, "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh,
        "softmax": nn.Identity,  # cross_entropy takes logits
    }  # fmt: skip
    layers: list[Any] = []
    for (fan_in, fan_out), activation in zip(pairwise(task.problem.sizes), task.problem.activation, strict=True):
        layers += [nn.Linear(fan_in, fan_out), modules[activation]()]
    with torch.no_grad():
        for linear, (w, b) in zip(layers[::2], task.layers(), strict=True):
            linear.weight.copy_(torch.from_numpy(w).T)
            linear.bias.copy_(torch.from_numpy(b))
    return nn.Sequential(*layers)


def _prepare(task: Task, compiled: bool = False) -> Training:
    import torch
    from torch.nn import functional

    problem = task.problem
    torch.set_default_dtype(getattr(torch, problem.dtype))
    network = _network(task)
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[problem.optimizer]
    optimizer = kind(network.parameters(), lr=problem.learning_rate, fused=True)

    def loss(x: Any, y: Any) -> Any:
        outputs = network(x)
        if problem.loss == "cross_entropy":
            return functional.cross_entropy(outputs, y)
        return 0.5 * ((outputs - y) ** 2).sum(dim=1).mean()

    batch_loss = torch.compile(loss, dynamic=False) if compiled else loss
    x, y = torch.from_numpy(task.x), torch.from_numpy(task.y)
    orders = task.orders()

    def step(x: Any, y: Any) -> None:
        optimizer.zero_grad(set_to_none=True)
        batch_loss(x, y).backward()
        optimizer.step()

    def epoch() -> None:
        order = next(orders)
        if order is None:
            step(x, y)
        else:
            for rows in torch.from_numpy(order).split(problem.batch_size):
                step(x[rows], y[rows])

    def theta() -> Any:
        return task.flat((linear.weight.detach().numpy().T, linear.bias.detach().numpy()) for linear in network[::2])

    return Training(epoch, theta)


_compiled = partial(_prepare, compiled=True)

PEER = Peer("torch", "PyTorch, eager, fused optimizer, all cores", in_process(_prepare), requires=("torch",))
ONE_THREAD = Peer("torch-1", "the same on one core", in_process(_prepare, processors=1), requires=("torch",))
COMPILED = Peer("torch-compile", "PyTorch, torch.compile, all cores", in_process(_compiled), requires=("torch",))
COMPILED_ONE_THREAD = Peer("torch-compile-1", "the same on one core", in_process(_compiled, processors=1), requires=("torch",))
