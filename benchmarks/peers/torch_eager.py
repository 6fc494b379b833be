"""PyTorch, operation by operation, with its fused optimizers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from ..problems import Array, Task
from .peer import Peer, Training


def use_threads(threads: int | None) -> None:
    """Of PyTorch's own pool; without a number it takes as many as the process may use."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)


def _network(task: Task) -> Any:
    import torch
    from torch import nn

    torch.set_default_dtype(getattr(torch, task.problem.dtype))

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


def prepare(task: Task, threads: int | None, compile_: Callable[[Any], Any] = lambda loss: loss) -> Training:
    """A training; ``compile_`` is applied to the function that computes a batch's loss."""
    import torch
    from torch.nn import functional

    use_threads(threads)
    problem = task.problem
    network = _network(task)
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[problem.optimizer]
    optimizer = kind(network.parameters(), lr=problem.learning_rate, fused=True)

    def loss(x: Any, y: Any) -> Any:
        outputs = network(x)
        if problem.loss == "cross_entropy":
            return functional.cross_entropy(outputs, y)
        return 0.5 * ((outputs - y) ** 2).sum(dim=1).mean()

    batch_loss = compile_(loss)
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
                step(x.index_select(0, rows), y.index_select(0, rows))

    def theta() -> Any:
        return task.flat((linear.weight.detach().numpy().T, linear.bias.detach().numpy()) for linear in network[::2])

    return Training(epoch, theta)


def predictor(
    task: Task, threads: int | None, compile_: Callable[[Any], Any] = lambda network: network
) -> Callable[[Array], Array]:
    """A function that predicts; ``compile_`` is applied to the network."""
    import torch

    use_threads(threads)
    network = _network(task)
    if task.problem.loss == "cross_entropy":
        network.append(torch.nn.Softmax(dim=1))
    network = compile_(network)

    def predict(x: Array) -> Array:
        with torch.inference_mode():
            outputs: Array = network(torch.from_numpy(x)).numpy()
            return outputs

    return predict


PEER = Peer(
    "torch_eager",
    "PyTorch, eager",
    "fused=True in the optimizer (one kernel for all parameters), zero_grad(set_to_none=True), batches by index_select, which "
    "takes half as long as indexing and much less than a DataLoader; prediction in inference_mode.",
    prepare,
    packages=("torch",),
    predictor=predictor,
)
