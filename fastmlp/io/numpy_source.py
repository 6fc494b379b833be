"""A network as a Python file that needs nothing but NumPy."""

from __future__ import annotations

import base64
import os
import textwrap
from typing import Any

from fastmlp.activations import SELU_ALPHA, SELU_SCALE
from fastmlp.files import replace_file
from fastmlp.io.models import Array, layers_of

_FORMULAS = {
    "identity": "return z",
    "sigmoid": "return 1 / (1 + np.exp(np.minimum(-z, 80 if z.dtype.itemsize == 4 else 700)))",
    "tanh": "return np.tanh(z)",
    "relu": "return np.maximum(z, 0)",
    "leaky_relu": "return np.where(z < 0, parameter * z, z)",
    "elu": "return np.where(z < 0, parameter * np.expm1(np.minimum(z, 0)), z)",
    "selu": f"return {SELU_SCALE} * np.where(z < 0, {SELU_ALPHA} * np.expm1(np.minimum(z, 0)), z)",
    "softplus": "return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))",
    "gelu": "return z * (0.5 + 0.5 * np.vectorize(math.erf, otypes=[float])(z / math.sqrt(2)))",
    "silu": "return z / (1 + np.exp(np.minimum(-z, 80 if z.dtype.itemsize == 4 else 700)))",
    "mish": "return z * np.tanh(np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))))",
    "exponential": "return np.exp(z)",
    "softmax": "e = np.exp(z - z.max(axis=1, keepdims=True))\nreturn e / e.sum(axis=1, keepdims=True)",
}
"""Bodies of functions of z (rows, outputs) and parameter."""

_HEAD = '''\
"""A multilayer perceptron, {sizes}, trained by fastmlp. Needs NumPy only: ``predict(x)``."""

import base64
import math

import numpy as np


def _array(text, shape):
    """An array (fan_in, fan_out) or (fan_out,), from its bytes."""
    return np.frombuffer(base64.b64decode(text), "{dtype}").reshape(shape)

'''

_TAIL = '''

def predict(x):
    """Outputs (rows, {n_outputs}) of the network for samples x (rows, {n_features})."""
    a = np.atleast_2d(np.asarray(x, "{dtype}"))
    if a.shape[1] != {n_features}:
        raise ValueError(f"x must have {n_features} features, got {{a.shape[1]}}.")
    for weight, bias, activation, parameter in LAYERS:
        a = activation(a @ weight + bias, parameter).astype("{dtype}")
    return a
'''


def to_numpy_source(model: Any, path: str | os.PathLike[str]) -> None:
    """Write a network as a Python file that predicts the same with NumPy alone.

    Parameters
    ----------
    model : MLP, ReferenceMLP, MLPClassifier or MLPRegressor
        An estimator's network is written: for two classes its one output is the probability of the second.
    path : str or path-like
        Replaced if it is there. The file has a function ``predict(x)``, from samples (rows, features) to outputs (rows, outputs),
        and the layers as ``LAYERS``: weight (fan_in, fan_out), bias (fan_out,), activation and its parameter.

    Raises
    ------
    ValueError
        If an activation is a function of your own, or a parameter is not finite; what was there before stays.
    """
    layers = layers_of(model, "a file of NumPy")
    dtype = layers[0].weight.dtype.newbyteorder("<").str
    sizes = [layers[0].weight.shape[0], *(layer.weight.shape[1] for layer in layers)]
    parts = [_HEAD.format(sizes="-".join(map(str, sizes)), dtype=dtype)]
    names = dict.fromkeys(layer.activation for layer in layers)
    parts += [f"\ndef {name}(z, parameter):\n{textwrap.indent(_FORMULAS[name], '    ')}\n" for name in names]
    parts.append("\nLAYERS = [")
    for layer in layers:
        items = [_literal(layer.weight), _literal(layer.bias), f"        {layer.activation}", f"        {layer.parameter!r}"]
        parts.append("    (\n" + "".join(f"{item},\n" for item in items) + "    ),")
    parts.append("]\n" + _TAIL.format(n_features=sizes[0], n_outputs=sizes[-1], dtype=dtype))
    replace_file(path, "\n".join(parts).encode())


def _literal(array: Array) -> str:
    """An expression that makes the array."""
    text = base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()
    parts = (text[at : at + 100] for at in range(0, len(text), 100))  # textwrap's time grows with the square of the length
    lines = "\n".join(f'            "{part}"' for part in parts)
    return f"        _array(\n{lines},\n            {array.shape},\n        )"
