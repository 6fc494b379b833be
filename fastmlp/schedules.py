"""Learning-rate schedules: what the rate is multiplied by at each step. One table, by name, and the classes for other settings.

A schedule sees the number of the step (from 0), how many steps the whole training has and how many an epoch has; it
knows nothing of optimizers. To add one, write a class with a ``factor`` and put an instance of it into
:data:`fastmlp.SCHEDULES`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np

from fastmlp.table import Table

Array = np.ndarray[Any, np.dtype[np.float64]]


_TRIED_STEPS = 1000


def _is_plain(value: Any) -> bool:
    """Whether repr shows the same of it in each process."""
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return isinstance(value, Real | str | Schedule)


@dataclass(frozen=True)
class Schedule(ABC):
    """The factor of the learning rate as a function of the step."""

    name: ClassVar[str]

    def __init_subclass__(cls) -> None:
        if "name" not in vars(cls):
            cls.name = cls.__name__

    def __repr__(self) -> str:
        """With the constants, by which a checkpoint tells trainings apart; dataclasses made from this have their own."""
        constants = {name: value for name, value in sorted(vars(self).items()) if name[0] != "_" and _is_plain(value)}
        return f"{type(self).__qualname__}({', '.join(f'{name}={value!r}' for name, value in constants.items())})"

    def is_the_same(self, total_steps: int, other_steps: int, steps_per_epoch: int) -> bool:
        """Whether a training of so many steps begins as one of another length; tried at up to a thousand steps of the shorter."""
        shorter = min(total_steps, other_steps)
        step = np.unique(np.linspace(0, shorter - 1, min(shorter, _TRIED_STEPS)).round())
        return np.array_equal(self.factor(step, total_steps, steps_per_epoch), self.factor(step, other_steps, steps_per_epoch))

    @abstractmethod
    def factor(self, step: Array, total_steps: int, steps_per_epoch: int) -> Array:
        """The factors of the given steps.

        Parameters
        ----------
        step : ndarray of float64
            Numbers of steps, from 0.
        total_steps, steps_per_epoch : int
            Length of the whole training and of one epoch, in steps.

        Returns
        -------
        ndarray of float64, like ``step``
        """


def _in_range(schedule: Schedule, option: str, high: float, *, above: bool = True) -> None:
    """A number that is above 0, or at least that, and at most ``high``; made one of Python's own."""
    value: Any = getattr(schedule, option)
    is_number = isinstance(value, Real)
    if not is_number or not 0 <= value <= high or (above and value == 0):
        relation = "above" if above else "at least"
        raise ValueError(f"{schedule.name} schedule: {option} must be a number {relation} 0 and at most {high:g}, got {value!r}.")
    # A checkpoint has what repr shows, which is something else of NumPy's numbers; the class is frozen.
    object.__setattr__(schedule, option, int(value) if isinstance(value, Integral) else float(value))


@dataclass(frozen=True)
class Constant(Schedule):
    """Always 1."""

    name = "constant"

    def factor(self, step: Array, total_steps: int, steps_per_epoch: int) -> Array:
        return np.ones_like(step)


@dataclass(frozen=True)
class Step(Schedule):
    """``gamma`` to the power of the number of whole ``epochs`` passed."""

    epochs: int = 10
    gamma: float = 0.5
    name = "step"

    def __post_init__(self) -> None:
        _in_range(self, "epochs", np.inf)
        _in_range(self, "gamma", 1)

    def factor(self, step: Array, total_steps: int, steps_per_epoch: int) -> Array:
        return np.asarray(self.gamma ** np.floor(step / (self.epochs * steps_per_epoch)))


@dataclass(frozen=True)
class Exponential(Schedule):
    """``gamma`` to the power of the number of epochs passed, step by step."""

    gamma: float = 0.95
    name = "exponential"

    def __post_init__(self) -> None:
        _in_range(self, "gamma", 1)

    def factor(self, step: Array, total_steps: int, steps_per_epoch: int) -> Array:
        return np.asarray(self.gamma ** (step / steps_per_epoch))


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from 1 to ``final`` (Loshchilov and Hutter, SGDR, 2017, equation 5, without restarts)."""

    final: float = 0.0
    name = "cosine"

    def __post_init__(self) -> None:
        _in_range(self, "final", 1, above=False)

    def factor(self, step: Array, total_steps: int, steps_per_epoch: int) -> Array:
        done = np.minimum(step / max(total_steps, 1), 1)
        return np.asarray(self.final + (1 - self.final) * 0.5 * (1 + np.cos(np.pi * done)))


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up from ``start`` to 1 in the first ``rise`` of the training, then down to ``final``, as cosines (Smith and Topin, 2018)."""

    rise: float = 0.3
    start: float = 0.04
    final: float = 4e-6
    name = "one_cycle"

    def __post_init__(self) -> None:
        _in_range(self, "rise", 1)
        _in_range(self, "start", 1, above=False)
        _in_range(self, "final", 1, above=False)

    def factor(self, step: Array, total_steps: int, steps_per_epoch: int) -> Array:
        top = max(self.rise * total_steps, 1)
        up = np.minimum(step / top, 1)
        down = np.clip((step - top) / max(total_steps - top, 1), 0, 1)
        rising = self.start + (1 - self.start) * 0.5 * (1 - np.cos(np.pi * up))
        falling = self.final + (1 - self.final) * 0.5 * (1 + np.cos(np.pi * down))
        return np.where(step < top, rising, falling)


@dataclass(frozen=True)
class WarmUp(Schedule):
    """A straight line up to 1 over the first ``fraction`` of the training, then ``then``."""

    fraction: float = 0.05
    then: Schedule = Constant()
    name = "warm_up"

    def __post_init__(self) -> None:
        _in_range(self, "fraction", 1)
        if not isinstance(self.then, Schedule):
            object.__setattr__(self, "then", SCHEDULES.find(self.then, "then"))  # by its name; the class is frozen

    def factor(self, step: Array, total_steps: int, steps_per_epoch: int) -> Array:
        length = max(self.fraction * total_steps, 1)
        return np.minimum((step + 1) / length, 1) * self.then.factor(step, total_steps, steps_per_epoch)


@dataclass(frozen=True)
class InverseScaling(Schedule):
    """1 / (number of the epoch from 1, step by step) to the power ``power``."""

    power: float = 0.5
    name = "inverse_scaling"

    def __post_init__(self) -> None:
        _in_range(self, "power", np.inf)

    def factor(self, step: Array, total_steps: int, steps_per_epoch: int) -> Array:
        return np.asarray((1 + step / steps_per_epoch) ** -self.power)


SCHEDULES: Table[Schedule] = Table(
    "schedule",
    [Constant(), Step(), Exponential(), Cosine(), OneCycle(), WarmUp(), InverseScaling()],
    aliases={"warmup": "warm_up", "onecycle": "one_cycle", "invscaling": "inverse_scaling"},
    base=Schedule,
)
"""Every schedule with its default settings, by name."""
