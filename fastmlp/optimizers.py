"""Optimizers: one table; each is a pure step over a parameter, its gradient and at most two numbers of state.

The same formula runs on whole arrays in :class:`~fastmlp.ReferenceMLP` and, compiled, on one element after another in
the kernels. What depends only on the number of the step (the learning rate, bias corrections) is computed ahead, in
float64, by ``coefficients``. To add one, write an :class:`Optimizer` into :data:`OPTIMIZERS`.

Weight decay, the L2 penalty and clipping are the same for all of them, and not part of these formulas.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np

from fastmlp.kernels.jit import Kernel, formula
from fastmlp.table import Entry, Table

Array = np.ndarray[Any, np.dtype[Any]]
Options = Mapping[str, float]

N_COEFFICIENTS = 8
"""How many numbers a step formula is given beside the parameter, gradient and state."""


@dataclass(frozen=True)
class Optimizer(Entry):
    """An update rule.

    Parameters
    ----------
    name : str
    formula : str
        The step, for people: w parameter, g gradient, r learning rate, t the number of the step from 1.
    step : Kernel
        ``step(w, g, s1, s2, c0, ..., c7) -> (w, s1, s2)``, on numbers and on arrays alike.
    n_states : int
        How many of s1, s2 it uses; both start at 0.
    coefficients : callable
        ``coefficients(t, rate, options)`` -> list of the c's, each an array like ``t`` or a number.
    options : mapping of str to float
        Its constants and their defaults; change them with ``OPTIMIZERS["adam"](beta1=0.95)``.
    weight_decay : float, default 0.0
        The decoupled weight decay that it has unless given.
    """

    name: str
    formula: str
    step: Kernel[..., Any]
    n_states: int
    coefficients: Callable[[Array, Array, Options], list[Any]]
    options: Options = field(default_factory=dict)
    weight_decay: float = 0.0

    def __reduce__(self) -> tuple[Any, ...]:
        is_known = self.coefficients is OPTIMIZERS[self.name].coefficients
        return _restore, (self.name, dict(self.options), None if is_known else self.coefficients, self.weight_decay)

    def __call__(self, **options: float) -> Optimizer:
        """The same optimizer with other constants.

        Parameters
        ----------
        **options : float
            Some of ``options``, by name; the others stay as they are.

        Returns
        -------
        Optimizer

        Raises
        ------
        ValueError
            For an option that it does not have, or a value out of its range.
        """
        for option, value in options.items():
            if option not in self.options:
                known = ", ".join(self.options) or "none"
                raise ValueError(f"{self.name} has no option {option!r}. Its options: {known}.")
            highest = 1.0 if option in _BELOW_ONE else math.inf
            if not isinstance(value, Real) or not 0 <= value < highest:
                raise ValueError(f"{self.name}: {option} must be at least 0 and below {highest:g}, got {value!r}.")
            if option == "epsilon" and value == 0:
                raise ValueError(f"{self.name}: epsilon must be above 0, or a weight without any gradient would be 0 / 0.")
        given = {option: float(value) for option, value in options.items()}  # no numbers of NumPy's, which no file can hold
        return replace(self, options={**self.options, **given})

    def check_for(self, dtype: np.dtype[Any]) -> None:
        """Refuse an epsilon that is 0 in this dtype, in which kernels know no denormal numbers."""
        epsilon, least = self.options.get("epsilon", 1.0), float(np.finfo(dtype).tiny)
        if epsilon < least:
            raise ValueError(
                f"{self.name}: epsilon={epsilon:g} is 0 in {dtype}, and a weight without any gradient would be 0 / 0; give at "
                f"least {least:.2g}, or use float64."
            )

    @cached_property
    def still(self) -> bool:
        """Whether a gradient of zero changes neither a weight nor the state, so that weights without one can be left out; tried."""
        before = (2.0, 3.0, 5.0)
        w, s1, s2 = before
        return tuple(map(float, self.step.py_func(w, 0.0, s1, s2, *self.coefficient_table(7, np.array([0.5]))[0]))) == before

    @cached_property
    def plain(self) -> bool:
        """Whether a step is w - c0 * g, so that parts of a gradient may be subtracted one after the other; tried."""
        w, g, c0 = 2.0, 3.0, 0.25
        return self.n_states == 0 and float(self.step.py_func(w, g, 0.0, 0.0, c0, *[0.0] * (N_COEFFICIENTS - 1))[0]) == w - c0 * g

    @cached_property
    def steady(self) -> bool:
        """Whether the coefficients depend on the rate only, not on the number of steps made; tried."""
        first, later = (self.coefficient_table(step, np.array([0.5])) for step in (1, 1000))
        return bool((first == later).all())

    def coefficient_table(self, first_step: int, rates: Array) -> Array:
        """The coefficients of the steps ``first_step``, ``first_step`` + 1, ...; shape (len(rates), N_COEFFICIENTS), float64."""
        t = np.arange(first_step, first_step + len(rates), dtype=np.float64)
        table = np.zeros((len(rates), N_COEFFICIENTS))
        with np.errstate(under="ignore"):  # powers of a decay become zero after many steps
            for column, values in enumerate(self.coefficients(t, rates, self.options)):
                table[:, column] = values
        return table


_BELOW_ONE = ("momentum", "beta1", "beta2", "rho")

# --- the steps; coefficients that a rule does not use have names that begin with c ----------------------------------------------


@formula
def _sgd(w, g, s1, s2, rate, c1, c2, c3, c4, c5, c6, c7):
    return w - rate * g, s1, s2


@formula
def _momentum(w, g, velocity, s2, rate, momentum, c2, c3, c4, c5, c6, c7):
    velocity = momentum * velocity + g
    return w - rate * velocity, velocity, s2


@formula
def _nesterov(w, g, velocity, s2, rate, momentum, c2, c3, c4, c5, c6, c7):
    velocity = momentum * velocity + g
    return w - rate * (g + momentum * velocity), velocity, s2


@formula
def _rmsprop(w, g, square, s2, rate, rho, one_minus_rho, epsilon, c4, c5, c6, c7):
    square = rho * square + one_minus_rho * (g * g)
    return w - rate * g / (np.sqrt(square) + epsilon), square, s2


@formula
def _adagrad(w, g, total, s2, rate, epsilon, c2, c3, c4, c5, c6, c7):
    total = total + g * g
    return w - rate * g / (np.sqrt(total) + epsilon), total, s2


@formula
def _adam(w, g, m, v, rate, beta1, one_minus_beta1, beta2, one_minus_beta2, root_scale, epsilon, c7):
    m = beta1 * m + one_minus_beta1 * g
    v = beta2 * v + one_minus_beta2 * (g * g)
    return w - rate * m / (np.sqrt(v) * root_scale + epsilon), m, v


@formula
def _nadam(w, g, m, v, rate_g, rate_m, beta1, one_minus_beta1, beta2, one_minus_beta2, root_scale, epsilon):
    m = beta1 * m + one_minus_beta1 * g
    v = beta2 * v + one_minus_beta2 * (g * g)
    return w - (rate_g * g + rate_m * m) / (np.sqrt(v) * root_scale + epsilon), m, v


# --- what depends on the number of the step only -------------------------------------------------------------------------------


def _adam_coefficients(t: Array, rate: Array, o: Options) -> list[Any]:
    beta1, beta2 = o["beta1"], o["beta2"]
    return [
        rate / (1 - beta1**t),
        beta1,
        1 - beta1,
        beta2,
        1 - beta2,
        1 / np.sqrt(1 - beta2**t),
        o["epsilon"],
    ]


_NADAM_TERMS = 4096
"""The product of so many of NAdam's momenta is computed; those that follow are taken to be the last of them."""


def _nadam_momentum(t: Array, o: Options) -> Array:
    momentum: Array = o["beta1"] * (1 - 0.5 * 0.96 ** (t * o["momentum_decay"]))
    return momentum


def _nadam_coefficients(t: Array, rate: Array, o: Options) -> list[Any]:
    beta1, beta2 = o["beta1"], o["beta2"]
    momenta = _nadam_momentum(np.arange(1, _NADAM_TERMS + 1), o)
    product = np.cumprod(momenta)[np.minimum(t.astype(np.int64), _NADAM_TERMS) - 1]
    product *= momenta[-1] ** np.maximum(t - _NADAM_TERMS, 0)
    now, following = _nadam_momentum(t, o), _nadam_momentum(t + 1, o)
    return [
        rate * (1 - now) / (1 - product),
        rate * following / (1 - product * following),
        beta1,
        1 - beta1,
        beta2,
        1 - beta2,
        1 / np.sqrt(1 - beta2**t),
        o["epsilon"],
    ]


_ADAM_OPTIONS = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}

OPTIMIZERS: Table[Optimizer] = Table(
    "optimizer",
    [
        Optimizer("sgd", "w - r * g", _sgd, 0, lambda t, rate, o: [rate]),
        # Polyak, Some methods of speeding up the convergence of iteration methods, 1964.
        Optimizer(
            "momentum",
            "v = momentum * v + g; w - r * v",
            _momentum,
            1,
            lambda t, rate, o: [rate, o["momentum"]],
            {"momentum": 0.9},
        ),
        # Sutskever et al., On the importance of initialization and momentum in deep learning, 2013, with the parameters taken where
        # their gradient is computed, and the rate outside the velocity.
        Optimizer(
            "nesterov",
            "v = momentum * v + g; w - r * (g + momentum * v)",
            _nesterov,
            1,
            lambda t, rate, o: [rate, o["momentum"]],
            {"momentum": 0.9},
        ),
        # Tieleman and Hinton, Neural networks for machine learning, 2012, lecture 6.5.
        Optimizer(
            "rmsprop",
            "v = rho * v + (1 - rho) * g^2; w - r * g / (sqrt(v) + epsilon)",
            _rmsprop,
            1,
            lambda t, rate, o: [rate, o["rho"], 1 - o["rho"], o["epsilon"]],
            {"rho": 0.99, "epsilon": 1e-8},
        ),
        # Duchi, Hazan and Singer, Adaptive subgradient methods, 2011, with a diagonal matrix.
        Optimizer(
            "adagrad",
            "v = v + g^2; w - r * g / (sqrt(v) + epsilon)",
            _adagrad,
            1,
            lambda t, rate, o: [rate, o["epsilon"]],
            {"epsilon": 1e-10},
        ),
        # Kingma and Ba, Adam, 2015, algorithm 1 with epsilon outside the root as printed there.
        Optimizer(
            "adam",
            "m = beta1 * m + (1 - beta1) * g; v = beta2 * v + (1 - beta2) * g^2; "
            "w - r * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)",
            _adam,
            2,
            _adam_coefficients,
            _ADAM_OPTIONS,
        ),
        # Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019: Adam with another default of weight_decay.
        Optimizer("adamw", "adam, with weight decay 0.01", _adam, 2, _adam_coefficients, _ADAM_OPTIONS, weight_decay=0.01),
        # Dozat, Incorporating Nesterov Momentum into Adam, 2016, with the momentum schedule of its algorithm 2.
        Optimizer(
            "nadam",
            "adam with Nesterov momentum mu_t = beta1 * (1 - 0.96^(t * momentum_decay) / 2)",
            _nadam,
            2,
            _nadam_coefficients,
            {**_ADAM_OPTIONS, "momentum_decay": 0.004},
        ),
    ],
)
"""Every optimizer, by name."""


def _restore(name: str, options: dict[str, float], coefficients: Any = None, weight_decay: float | None = None) -> Optimizer:
    restored = OPTIMIZERS[name](**options)
    if coefficients is not None:
        restored = replace(restored, coefficients=coefficients)
    return restored if weight_decay is None else replace(restored, weight_decay=weight_decay)
