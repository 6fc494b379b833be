"""Activation functions: one table, each with its formula, its derivative and the compiled pair beside it.

To add one, write an :class:`Activation` into :data:`ACTIVATIONS`; validation, the reference, the kernels, the tests and
the documentation read the table. ``value`` and ``derivative`` work on NumPy arrays and are what
:class:`~fastmlp.ReferenceMLP` computes; ``compiled_value`` and ``compiled_derivative`` work on one number in the
network's dtype and are what the kernels loop over. Both derivatives are given z and a = f(z), and use whichever is
cheaper. ``parameter`` is the slope or scale of those that have one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastmlp.kernels import elementary
from fastmlp.kernels.jit import Kernel, formula
from fastmlp.table import Entry, Table, check_parameter

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Activation(Entry):
    """An activation function f.

    Parameters
    ----------
    name : str
    formula : str
        f(z), for people.
    value : callable
        ``value(z, parameter)``: f on an array.
    derivative : callable
        ``derivative(z, a, parameter)``: f' on arrays, where a = f(z). For ``softmax``, whose outputs depend on the
        whole row, this is the derivative of each output by its own logit; the products with the rest are done by
        whoever knows the row.
    compiled_value, compiled_derivative : Kernel
        The same two for one number, compiled.
    initializer : str
        The initialiser that keeps the variance of signals through many layers, by name.
    parameter : float, default 0.0
        Slope or scale; change it with ``ACTIVATIONS["leaky_relu"](0.2)``.
    by_row : bool, default False
        Whether an output depends on all of its row; allowed in the last layer only.
    source : tuple of callable, optional
        The functions that it was made of by :func:`fastmlp.make_activation`.
    """

    name: str
    formula: str
    value: Callable[[Array, float], Array]
    derivative: Callable[[Array, Array, float], Array]
    compiled_value: Kernel[..., Any]
    compiled_derivative: Kernel[..., Any]
    initializer: str = "glorot"
    parameter: float = 0.0
    by_row: bool = False
    source: tuple[Callable[..., float], Callable[..., float] | None] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        if self.source is None:
            return _restore, (self.name, self.parameter)
        return _restore_own, (*self.source, self.name, self.initializer)

    def __call__(self, parameter: float) -> Activation:
        """The same function with another slope or scale.

        Parameters
        ----------
        parameter : float
            What ``parameter`` stands for in ``formula``.

        Returns
        -------
        Activation

        Raises
        ------
        TypeError
            For a function that has no parameter.
        ValueError
            For what is no finite number.
        """
        if self.source is not None:
            raise TypeError(f"{self.name} is a function of its own, without a parameter.")
        if parameter != 0 and ACTIVATIONS[self.name].parameter == 0:
            raise TypeError(f"{self.name} has no parameter; give it by its name, {self.name!r}.")
        return replace(self, parameter=check_parameter(parameter, self.name))


# --- the compiled pairs, in the order of the table -----------------------------------------------------------------------------
# `type(z)` keeps constants in the dtype of the network: a bare 0.5 is a float64 and would widen float32.


@formula
def _identity(z, parameter):
    return z


@formula
def _d_identity(z, a, parameter):
    return type(z)(1)


@formula
def _sigmoid(z, parameter):
    return elementary.sigmoid(z)


@formula
def _d_sigmoid(z, a, parameter):
    return a * (type(z)(1) - a)


@formula
def _tanh(z, parameter):
    return elementary.tanh(z)


@formula
def _d_tanh(z, a, parameter):
    return type(z)(1) - a * a


@formula
def _relu(z, parameter):
    return type(z)(0) if z < type(z)(0) else z  # in this order, nan stays nan


@formula
def _d_relu(z, a, parameter):
    return type(z)(1) if z > type(z)(0) else type(z)(0)


@formula
def _leaky_relu(z, parameter):
    return parameter * z if z < type(z)(0) else z


@formula
def _d_leaky_relu(z, a, parameter):
    return type(z)(1) if z > type(z)(0) else parameter


@formula
def _exp_minus_one(z):
    """exp(z) - 1 for z < 0, without cancellation: 2 t / (1 - t) with t = tanh(z / 2)."""
    t = elementary.tanh(z * type(z)(0.5))
    return (t + t) / (type(z)(1) - t)


@formula
def _elu(z, parameter):
    below = parameter * _exp_minus_one(z)
    return below if z < type(z)(0) else z


@formula
def _d_elu(z, a, parameter):
    return type(z)(1) if z > type(z)(0) else a + parameter


SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
"""Klambauer et al., Self-Normalizing Neural Networks, 2017, equation 14."""


@formula
def _selu(z, parameter):
    below = type(z)(SELU_SCALE * SELU_ALPHA) * _exp_minus_one(z)
    return below if z < type(z)(0) else type(z)(SELU_SCALE) * z


@formula
def _d_selu(z, a, parameter):
    return type(z)(SELU_SCALE) if z > type(z)(0) else a + type(z)(SELU_SCALE * SELU_ALPHA)


@formula
def _softplus(z, parameter):
    return elementary.softplus(z)


@formula
def _d_softplus(z, a, parameter):
    return elementary.sigmoid(z)


_INVERSE_SQRT_2 = 1 / math.sqrt(2)
_INVERSE_SQRT_2_PI = 1 / math.sqrt(2 * math.pi)


@formula
def _gelu(z, parameter):
    return type(z)(0.5) * z * (type(z)(1) + elementary.erf(z * type(z)(_INVERSE_SQRT_2)))


@formula
def _d_gelu(z, a, parameter):
    distribution = type(z)(0.5) * (type(z)(1) + elementary.erf(z * type(z)(_INVERSE_SQRT_2)))
    density = type(z)(_INVERSE_SQRT_2_PI) * elementary.exp(type(z)(-0.5) * z * z)
    return distribution + z * density


@formula
def _silu(z, parameter):
    return z * elementary.sigmoid(z)


@formula
def _d_silu(z, a, parameter):
    s = elementary.sigmoid(z)
    return s * (type(z)(1) + z * (type(z)(1) - s))


@formula
def _mish(z, parameter):
    return z * elementary.tanh(elementary.softplus(z))


@formula
def _d_mish(z, a, parameter):
    t = elementary.tanh(elementary.softplus(z))
    return t + z * elementary.sigmoid(z) * (type(z)(1) - t * t)


@formula
def _exponential(z, parameter):
    return elementary.exp(z)


@formula
def _d_exponential(z, a, parameter):
    return a


# --- the NumPy formulas that do not fit on a line ---------------------------------------------------------------------------


def _softmax_rows(z: Array, parameter: float) -> Array:
    e: Array = np.exp(z - z.max(axis=-1, keepdims=True))
    e /= e.sum(axis=-1, keepdims=True)
    return e


def _sigmoid_array(z: Array) -> Array:
    e: Array = np.exp(np.minimum(-z, 80 if z.dtype.itemsize == 4 else 700))  # no overflow
    e += 1
    return np.reciprocal(e, out=e)


_erf_array = np.vectorize(math.erf, otypes=[float])


def _normal_distribution(z: Array) -> Array:
    distribution: Array = 0.5 * (1 + _erf_array(z * _INVERSE_SQRT_2))
    return distribution.astype(z.dtype)


def _d_gelu_array(z: Array, a: Array, parameter: float) -> Array:
    density: Array = _INVERSE_SQRT_2_PI * np.exp(-0.5 * z * z)
    derivative: Array = _normal_distribution(z) + z * density
    return derivative


def _d_silu_array(z: Array, a: Array, parameter: float) -> Array:
    s = _sigmoid_array(z)
    derivative: Array = s * (1 + z * (1 - s))
    return derivative


def _softplus_array(z: Array) -> Array:
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


def _d_mish_array(z: Array, a: Array, parameter: float) -> Array:
    t = np.tanh(_softplus_array(z))
    derivative: Array = t + z * _sigmoid_array(z) * (1 - t * t)
    return derivative


ACTIVATIONS: Table[Activation] = Table(
    "activation",
    [
        Activation("identity", "z", lambda z, p: z, lambda z, a, p: np.ones_like(z), _identity, _d_identity),
        Activation(
            "sigmoid", "1 / (1 + exp(-z))", lambda z, p: _sigmoid_array(z), lambda z, a, p: a * (1 - a), _sigmoid, _d_sigmoid
        ),
        Activation("tanh", "tanh(z)", lambda z, p: np.tanh(z), lambda z, a, p: 1 - a * a, _tanh, _d_tanh),
        Activation(
            "relu",
            "max(z, 0)",
            lambda z, p: np.maximum(z, 0),
            lambda z, a, p: (z > 0).astype(z.dtype),
            _relu,
            _d_relu,
            initializer="he",
        ),
        # Maas, Hannun and Ng, Rectifier nonlinearities improve neural network acoustic models, 2013.
        Activation(
            "leaky_relu",
            "z if z > 0 else parameter * z",
            lambda z, p: np.where(z < 0, p * z, z),
            lambda z, a, p: np.where(z > 0, 1, p).astype(z.dtype),
            _leaky_relu,
            _d_leaky_relu,
            initializer="he",
            parameter=0.01,
        ),
        # Clevert, Unterthiner and Hochreiter, Fast and accurate deep network learning by exponential linear units, 2016.
        Activation(
            "elu",
            "z if z > 0 else parameter * (exp(z) - 1)",
            lambda z, p: np.where(z < 0, p * np.expm1(np.minimum(z, 0)), z),
            lambda z, a, p: np.where(z > 0, 1, p * np.exp(np.minimum(z, 0))).astype(z.dtype),
            _elu,
            _d_elu,
            initializer="he",
            parameter=1.0,
        ),
        Activation(
            "selu",
            "1.0507 * (z if z > 0 else 1.6733 * (exp(z) - 1))",
            lambda z, p: SELU_SCALE * np.where(z < 0, SELU_ALPHA * np.expm1(np.minimum(z, 0)), z),
            lambda z, a, p: (SELU_SCALE * np.where(z > 0, 1, SELU_ALPHA * np.exp(np.minimum(z, 0)))).astype(z.dtype),
            _selu,
            _d_selu,
            initializer="lecun",
        ),
        Activation(
            "softplus",
            "log(1 + exp(z))",
            lambda z, p: _softplus_array(z),
            lambda z, a, p: _sigmoid_array(z),
            _softplus,
            _d_softplus,
            initializer="he",
        ),
        # Hendrycks and Gimpel, Gaussian error linear units, 2016: the exact one, not its approximation by tanh.
        Activation(
            "gelu",
            "z * Phi(z), Phi the normal distribution function",
            lambda z, p: z * _normal_distribution(z),
            _d_gelu_array,
            _gelu,
            _d_gelu,
            initializer="he",
        ),
        # Elfwing, Uchibe and Doya, Sigmoid-weighted linear units, 2018.
        Activation("silu", "z * sigmoid(z)", lambda z, p: z * _sigmoid_array(z), _d_silu_array, _silu, _d_silu, initializer="he"),
        # Misra, Mish: a self regularized non-monotonic activation function, 2019.
        Activation(
            "mish",
            "z * tanh(softplus(z))",
            lambda z, p: z * np.tanh(_softplus_array(z)),
            _d_mish_array,
            _mish,
            _d_mish,
            initializer="he",
        ),
        Activation("exponential", "exp(z)", lambda z, p: np.exp(z), lambda z, a, p: a, _exponential, _d_exponential),
        Activation(
            "softmax",
            "exp(z_j) / sum over k of exp(z_k)",
            _softmax_rows,
            lambda z, a, p: a * (1 - a),
            _exponential,  # row maximum and normalisation are done around it, in kernels/output.py
            _d_sigmoid,
            by_row=True,
        ),
    ],
    aliases={"logistic": "sigmoid", "linear": "identity", "swish": "silu", "exp": "exponential"},
    make=lambda function: _restore_own(function, None, None, "glorot"),
)
"""Every activation function, by name."""


def _restore(name: str, parameter: float) -> Activation:
    return ACTIVATIONS[name](parameter)


def _restore_own(function: Any, derivative: Any, name: str | None, initializer: str) -> Activation:
    from fastmlp.own import make_activation

    return make_activation(function, derivative, name=name, initializer=initializer)
