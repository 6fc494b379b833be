"""Loss functions: one table, each with its formula, its derivative and the compiled pair beside it.

A loss is defined for one sample, as a sum over its outputs; an objective is the weighted mean of it over samples (or
the sum). To add one, write a :class:`Loss` into :data:`LOSSES`. ``a`` is the prediction (what the output activation
gave), ``y`` the target.

Some pairs of a loss and an output activation belong together (the loss's *canonical* activation): the derivative by the
logits is then simply ``a - y``, and the value can be computed from the logits without overflow or cancellation. Those
pairs are always computed that way; every other combination takes the general path through dLoss/da * f'(z).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastmlp.activations import Activation
from fastmlp.kernels import elementary
from fastmlp.kernels.jit import Kernel, formula
from fastmlp.table import Entry, Table, check_parameter

Array = np.ndarray[Any, np.dtype[Any]]

LOG_2 = math.log(2)


@dataclass(frozen=True)
class Loss(Entry):
    """A loss of predictions a for targets y.

    Parameters
    ----------
    name : str
    formula : str
        The loss of one sample, for people.
    value : callable
        ``value(a, y, parameter)``: the terms of the sum, an array like a.
    derivative : callable
        ``derivative(a, y, parameter)``: their derivatives by a.
    compiled_value, compiled_derivative : Kernel
        The same two for one number, compiled.
    canonical : str
        The output activation with which the derivative by the logits is a - y; "" for none.
    logits_value : callable or None
        ``logits_value(z, y)``: the terms of the sum from the logits of the canonical activation; None where ``value`` is as good.
    compiled_logits_value : Kernel or None
        The same for one number, compiled.
    classification : bool
        Whether integer class labels are accepted as targets.
    parameter : float, default 0.0
        Threshold or quantile; change it with ``LOSSES["huber"](1.5)``.
    parameter_range : tuple of float
        Open interval of allowed parameters.
    targets : tuple of float
        Closed interval of allowed targets.
    source : tuple of callable, optional
        The functions that it was made of by :func:`fastmlp.make_loss`.
    """

    name: str
    formula: str
    value: Callable[[Array, Array, float], Array]
    derivative: Callable[[Array, Array, float], Array]
    compiled_value: Kernel[..., Any]
    compiled_derivative: Kernel[..., Any]
    canonical: str = ""
    logits_value: Callable[[Array, Array], Array] | None = None
    compiled_logits_value: Kernel[..., Any] | None = None
    classification: bool = False
    parameter: float = 0.0
    parameter_range: tuple[float, float] = (-math.inf, math.inf)
    targets: tuple[float, float] = (-math.inf, math.inf)
    source: tuple[Callable[..., float], Callable[..., float] | None] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        if self.source is None:
            return _restore, (self.name, self.parameter)
        return _restore_own, (*self.source, self.name, self.classification)

    def belongs_to(self, activation: Activation) -> bool:
        """Whether this is the canonical activation; a person's own function of that name is another."""
        return self.canonical == activation.name and activation.source is None

    def __call__(self, parameter: float) -> Loss:
        """The same loss with another threshold or quantile.

        Parameters
        ----------
        parameter : float
            What ``parameter`` stands for in ``formula``; within ``parameter_range``, whose ends do not belong to it.

        Returns
        -------
        Loss

        Raises
        ------
        TypeError
            For a loss that has no parameter.
        ValueError
            For what is no finite number, or not within the range.
        """
        if self.source is not None:
            raise TypeError(f"{self.name} is a function of its own, without a parameter.")
        if parameter != 0 and LOSSES[self.name].parameter == 0:
            raise TypeError(f"{self.name} has no parameter; give it by its name, {self.name!r}.")
        return replace(self, parameter=check_parameter(parameter, self.name, *self.parameter_range))


SMALLEST_PROBABILITY = 1e-7
"""Predictions are clipped to at least this (and to at most one minus it, where they are probabilities) before a
logarithm. A clipped prediction has no influence on the loss, so its derivative is 0. The canonical pairs need no
clipping."""


# --- the compiled pairs, in the order of the table -----------------------------------------------------------------------------


@formula
def _squared_error(a, y, parameter):
    return type(a)(0.5) * (a - y) * (a - y)


@formula
def _d_squared_error(a, y, parameter):
    return a - y


@formula
def _absolute_error(a, y, parameter):
    return abs(a - y)


@formula
def _d_absolute_error(a, y, parameter):
    e = a - y
    sign = type(a)(1) if e > type(a)(0) else type(a)(-1)
    return type(a)(0) if e == type(a)(0) else sign


@formula
def _huber(a, y, parameter):
    e = abs(a - y)
    outside = parameter * (e - type(a)(0.5) * parameter)
    return outside if e > parameter else type(a)(0.5) * e * e


@formula
def _d_huber(a, y, parameter):
    e = a - y
    e = parameter if e > parameter else e
    return -parameter if e < -parameter else e


@formula
def _pinball(a, y, parameter):
    e = y - a
    return (parameter - type(a)(1)) * e if e < type(a)(0) else parameter * e


@formula
def _d_pinball(a, y, parameter):
    e = y - a
    slope = type(a)(1) - parameter if e < type(a)(0) else -parameter
    return type(a)(0) if e == type(a)(0) else slope


@formula
def _clip(a, highest):
    """a, at least SMALLEST_PROBABILITY and at most ``highest``; nan stays nan."""
    lowest = type(a)(SMALLEST_PROBABILITY)
    a = lowest if a < lowest else a
    return highest if a > highest else a


@formula
def _binary_cross_entropy(a, y, parameter):
    one = type(a)(1)
    return elementary.cross_entropy(_clip(a, one - type(a)(SMALLEST_PROBABILITY)), y)


@formula
def _d_binary_cross_entropy(a, y, parameter):
    one = type(a)(1)
    p = _clip(a, one - type(a)(SMALLEST_PROBABILITY))
    slope = (p - y) / (p * (one - p))
    return slope if p == a else a - a  # 0, but nan for nan


@formula
def _binary_cross_entropy_logits(z, y):
    return elementary.log_loss(z, y)


@formula
def _cross_entropy(a, y, parameter):
    return -y * elementary.log(_clip(a, type(a)(1)))


@formula
def _d_cross_entropy(a, y, parameter):
    p = _clip(a, type(a)(1))
    return -y / p if p == a else a - a


@formula
def _poisson(a, y, parameter):
    rate = _clip(a, type(a)(np.inf))
    return rate - y * elementary.log(rate)


@formula
def _d_poisson(a, y, parameter):
    rate = _clip(a, type(a)(np.inf))
    return type(a)(1) - y / rate if rate == a else a - a


@formula
def _poisson_logits(z, y):
    return elementary.exp(z) - z * y


@formula
def _gamma(a, y, parameter):
    mean = _clip(a, type(a)(np.inf))
    return y / mean + elementary.log(mean)


@formula
def _d_gamma(a, y, parameter):
    mean = _clip(a, type(a)(np.inf))
    inverse = type(a)(1) / mean
    return inverse * (type(a)(1) - y * inverse) if mean == a else a - a


_NEAR = 0.6
"""Up to here, log(cosh(e)) is 1/2 log(1 + sinh(e)^2): the terms of what does not overflow where e is large would cancel."""


@formula
def _log_cosh(a, y, parameter):
    e, limit = abs(a - y), type(a)(_NEAR)
    t = elementary.tanh(e if e < limit else limit)
    near = type(a)(0.5) * elementary.log1p(t * t / (type(a)(1) - t * t))
    far = e + elementary.softplus(type(a)(-2) * e) - type(a)(LOG_2)
    return near if e < limit else far


@formula
def _d_log_cosh(a, y, parameter):
    return elementary.tanh(a - y)


# --- the NumPy formulas --------------------------------------------------------------------------------------------------------


def _where_clipped(a: Array, derivative: Array, highest: float) -> Array:
    """The derivative where a prediction is inside its range, 0 where it is clipped."""
    is_clipped = (a < SMALLEST_PROBABILITY) | (a > highest)  # which nan is not
    return np.where(is_clipped, 0, derivative).astype(a.dtype)


def _binary_cross_entropy_array(a: Array, y: Array, parameter: float) -> Array:
    p = np.clip(a, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    terms: Array = -(y * np.log(p) + (1 - y) * np.log(1 - p))
    return terms


def _d_binary_cross_entropy_array(a: Array, y: Array, parameter: float) -> Array:
    p = np.clip(a, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    return _where_clipped(a, (p - y) / (p * (1 - p)), 1 - SMALLEST_PROBABILITY)


def _d_cross_entropy_array(a: Array, y: Array, parameter: float) -> Array:
    return _where_clipped(a, -y / np.clip(a, SMALLEST_PROBABILITY, 1), 1)


def _poisson_array(a: Array, y: Array, parameter: float) -> Array:
    rate = np.maximum(a, SMALLEST_PROBABILITY)
    terms: Array = rate - y * np.log(rate)
    return terms


def _d_poisson_array(a: Array, y: Array, parameter: float) -> Array:
    return _where_clipped(a, 1 - y / np.maximum(a, SMALLEST_PROBABILITY), math.inf)


def _gamma_array(a: Array, y: Array, parameter: float) -> Array:
    mean = np.maximum(a, SMALLEST_PROBABILITY)
    terms: Array = y / mean + np.log(mean)
    return terms


def _d_gamma_array(a: Array, y: Array, parameter: float) -> Array:
    inverse = 1 / np.maximum(a, SMALLEST_PROBABILITY)
    return _where_clipped(a, inverse * (1 - y * inverse), math.inf)


def _log_cosh_array(a: Array, y: Array, parameter: float) -> Array:
    e = np.abs(a - y)
    near = 0.5 * np.log1p(np.sinh(np.minimum(e, _NEAR)) ** 2)
    terms: Array = np.where(e < _NEAR, near, e + np.log1p(np.exp(-2 * e)) - a.dtype.type(LOG_2))
    return terms


def _softmax_cross_entropy_array(z: Array, y: Array) -> Array:
    shifted = z - z.max(axis=-1, keepdims=True)
    terms: Array = y * (np.log(np.exp(shifted).sum(axis=-1, keepdims=True)) - shifted)
    return terms


def _sigmoid_cross_entropy_array(z: Array, y: Array) -> Array:
    terms: Array = np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z)))
    return terms


LOSSES: Table[Loss] = Table(
    "loss",
    [
        Loss(
            "squared_error",
            "1/2 * sum of (a - y)^2",
            lambda a, y, p: 0.5 * (a - y) ** 2,
            lambda a, y, p: a - y,
            _squared_error,
            _d_squared_error,
            canonical="identity",
        ),
        Loss(
            "absolute_error",
            "sum of |a - y|",
            lambda a, y, p: np.abs(a - y),
            lambda a, y, p: np.sign(a - y),
            _absolute_error,
            _d_absolute_error,
        ),
        # Huber, Robust estimation of a location parameter, 1964.
        Loss(
            "huber",
            "sum of 1/2 * (a - y)^2 where |a - y| <= parameter, else parameter * (|a - y| - parameter / 2)",
            lambda a, y, p: np.where(np.abs(a - y) > p, p * (np.abs(a - y) - 0.5 * p), 0.5 * (a - y) ** 2),
            lambda a, y, p: np.clip(a - y, -p, p),
            _huber,
            _d_huber,
            parameter=1.0,
            parameter_range=(0.0, math.inf),
        ),
        # Koenker and Bassett, Regression quantiles, 1978.
        Loss(
            "pinball",
            "sum of parameter * (y - a) where y >= a, else (1 - parameter) * (a - y)",
            lambda a, y, p: np.where(y < a, (1 - p) * (a - y), p * (y - a)),
            lambda a, y, p: np.where(y == a, 0, np.where(y < a, 1 - p, -p)).astype(a.dtype),
            _pinball,
            _d_pinball,
            parameter=0.5,
            parameter_range=(0.0, 1.0),
        ),
        Loss(
            "binary_cross_entropy",
            "-sum of y * log(a) + (1 - y) * log(1 - a)",
            _binary_cross_entropy_array,
            _d_binary_cross_entropy_array,
            _binary_cross_entropy,
            _d_binary_cross_entropy,
            canonical="sigmoid",
            logits_value=_sigmoid_cross_entropy_array,
            compiled_logits_value=_binary_cross_entropy_logits,
            classification=True,
            targets=(0.0, 1.0),
        ),
        Loss(
            "cross_entropy",
            "-sum of y * log(a)",
            lambda a, y, p: -y * np.log(np.clip(a, SMALLEST_PROBABILITY, 1)),
            _d_cross_entropy_array,
            _cross_entropy,
            _d_cross_entropy,
            canonical="softmax",
            logits_value=_softmax_cross_entropy_array,  # needs the row: compiled in kernels/output.py
            classification=True,
            targets=(0.0, 1.0),
        ),
        Loss(
            "poisson",
            "sum of a - y * log(a)",
            _poisson_array,
            _d_poisson_array,
            _poisson,
            _d_poisson,
            canonical="exponential",
            logits_value=lambda z, y: np.exp(z) - z * y,
            compiled_logits_value=_poisson_logits,
            targets=(0.0, math.inf),
        ),
        Loss(  # half of the deviance of a gamma distribution, but for what does not depend on the prediction; see McCullagh and
            # Nelder, Generalized Linear Models, 1989, section 8.3
            "gamma",
            "sum of y / a + log(a)",
            _gamma_array,
            _d_gamma_array,
            _gamma,
            _d_gamma,
            targets=(float(np.finfo(np.float32).tiny), math.inf),
        ),
        Loss(
            "log_cosh",
            "sum of log(cosh(a - y))",
            _log_cosh_array,
            lambda a, y, p: np.tanh(a - y),
            _log_cosh,
            _d_log_cosh,
        ),
    ],
    aliases={"mse": "squared_error", "log_loss": "binary_cross_entropy", "quantile": "pinball"},
    make=lambda function: _restore_own(function, None, None, False),
)
"""Every loss, by name."""


def _restore(name: str, parameter: float) -> Loss:
    loss = LOSSES[name]
    return loss if parameter == loss.parameter else loss(parameter)


def _restore_own(function: Any, derivative: Any, name: str | None, classification: bool) -> Loss:
    from fastmlp.own import make_loss

    return make_loss(function, derivative, name=name, classification=classification)
