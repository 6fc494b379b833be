"""What a training is to an engine: a recipe for the steps, their rates, and a trainer that goes through the rows.

:class:`fastmlp.network.Network` runs the epochs; what happens in one is the trainer's.
"""

from __future__ import annotations

import reprlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from fastmlp.optimizers import OPTIMIZERS, Optimizer
from fastmlp.schedules import Constant, Schedule
from fastmlp.shuffle import Order
from fastmlp.validation import Data

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Recipe:
    """How parameters are updated: the optimizer and what is common to all optimizers.

    Parameters
    ----------
    optimizer : Optimizer
    weight_decay : float
        Each step multiplies weights by 1 - rate * weight_decay (decoupled; not biases).
    l2 : float
        Adds l2 * w to the gradient of each weight (not of biases): the penalty l2 / 2 * sum of w^2.
    max_grad_norm : float
        Gradients of a larger Euclidean norm, over all parameters, are scaled down to it; 0 for no limit.
    l2_by_weight : bool, default False
        Whether l2 is divided by the weight of each minibatch.
    loss_scale : float, default 1.0
        What the loss is multiplied by.
    dropout : tuple of float, default ()
        Probability that an output is left out, for each hidden layer; empty for none. See :mod:`fastmlp.dropout`.
    """

    optimizer: Optimizer
    weight_decay: float = 0.0
    l2: float = 0.0
    max_grad_norm: float = 0.0
    l2_by_weight: bool = False
    loss_scale: float = 1.0
    dropout: tuple[float, ...] = ()


PLAIN_DESCENT = Recipe(OPTIMIZERS["sgd"])


class Totals(NamedTuple):
    """What a trainer reports between minibatches, of the epoch so far."""

    rows: int
    loss_sum: float
    weight_sum: float


class Rates(Protocol):
    """Learning rates of the steps of an epoch: an array, or what is sliced like one."""

    def __len__(self) -> int: ...

    def __getitem__(self, steps: slice, /) -> Array: ...


@dataclass(frozen=True)
class ConstantRates:
    """The same learning rate for each of some steps."""

    rate: float
    steps: int = 1

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, steps: slice, /) -> Array:
        start, stop, _ = steps.indices(self.steps)
        return np.full(stop - start, self.rate)


@dataclass(frozen=True)
class ScheduledRates:
    """Learning rates by a schedule, computed for those steps that are asked for: an epoch may have millions.

    Parameters
    ----------
    rate : float
    schedule : Schedule
    first_step, steps : int
        The epoch's first step, and how many there are in an epoch.
    total_steps : int
        Of the whole training.
    """

    rate: float
    schedule: Schedule
    first_step: int
    steps: int
    total_steps: int

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, steps: slice, /) -> Array:
        start, stop, _ = steps.indices(self.steps)
        step = np.arange(self.first_step + start, self.first_step + stop, dtype=np.float64)
        factor = np.asarray(self.schedule.factor(step, self.total_steps, self.steps))
        if factor.shape != step.shape or factor.dtype.kind not in "iuf" or not ((factor >= 0) & (factor < np.inf)).all():
            raise ValueError(
                f"The schedule {self.schedule.name} must return an array with a finite number, at least 0, for each of {len(step)} "
                f"steps; it returned {reprlib.repr(factor.tolist())}."
            )
        return self.rate * factor


def scheduled(rate: float, schedule: Schedule, first_step: int, steps: int, total_steps: int) -> Rates:
    """The rates of an epoch; see :class:`ScheduledRates`."""
    if type(schedule) is Constant:
        return ConstantRates(rate, steps)
    return ScheduledRates(rate, schedule, first_step, steps, total_steps)


class Trainer(ABC):
    """A training in an engine: the data, the optimizer's state and the number of steps made; a context manager."""

    steps: int

    @abstractmethod
    def state(self) -> list[Array]:
        """The optimizer's state: flat arrays laid out as ``theta``, copies."""

    @abstractmethod
    def load_state(self, steps: int, arrays: Sequence[Array]) -> None:
        """Go on where another training was after ``steps`` steps."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:  # noqa: B027  # an engine may have nothing to release
        pass

    @abstractmethod
    def take(self, data: Data) -> None:
        """Go on with other rows, of the same kind and in any number."""

    def leave_room(self, somebody_works: Callable[[], bool]) -> None:  # noqa: B027  # an engine may have one thread only
        """Leave a processor to somebody else whenever this says so."""

    @abstractmethod
    def epoch(self, order: Order | None, rates: Rates, dropout_key: int = 0) -> Iterator[Totals]:
        """Train on all rows once, a step for each minibatch, pausing several times a second.

        Parameters
        ----------
        order : Order or None
            The order of rows; None for the order of the data.
        rates : Rates
            Learning rate of each step, as slices and a length.
        dropout_key : int, default 0
            Decides what is left out in this epoch.
        """
