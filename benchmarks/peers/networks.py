"""What the networks of this package have in common as peers."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import cycle

from fastmlp.network import Network
from fastmlp.optimizers import OPTIMIZERS
from fastmlp.safeguard import Safeguard
from fastmlp.shuffle import Order
from fastmlp.trainer import ConstantRates, Recipe

from ..problems import Task
from .peer import Training


def network_training(network: Network, task: Task, *, drawn: bool = False) -> Training:
    """Train a network epoch by epoch; ``drawn``: with orders of rows that are arrays, made beforehand.

    This is the loop of :meth:`fastmlp.network.Network.fit`, one epoch for each call: ``fit`` itself would begin by checking the
    data and clearing the optimizer's state each time. A test holds the two together, to the bit.
    """
    rate = task.problem.learning_rate
    network.theta = task.theta
    data = network._check_data(task.x, task.y, None)
    recipe = Recipe(OPTIMIZERS[task.problem.optimizer])
    resources = ExitStack()
    trainer = resources.enter_context(network._trainer(data, min(task.problem.batch_size, task.rows), recipe))
    rates = ConstantRates(rate, task.steps)
    shuffles = task.shuffles()
    if drawn:
        shuffles = [None if order is None else Order.given(order[0 : task.rows]) for order in shuffles]
    orders = cycle(shuffles)
    safeguard = Safeguard(network._buffer)

    def epoch() -> None:
        for progress in trainer.epoch(next(orders), rates):
            network._check_totals(progress, safeguard, 1, 1, rate, ends=progress.rows == task.rows)

    return Training(epoch, lambda: network.theta, resources.close)
