"""The weights that a fit begins with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastmlp.activations import Activation
from fastmlp.estimators.hyperparameters import is_entry

Array = np.ndarray[Any, np.dtype[Any]]


def initial_weights(
    sizes: Sequence[int], activations: Sequence[str | Activation], random_state: np.random.RandomState, dtype: np.dtype[Any]
) -> tuple[list[Array], list[Array]]:
    """Weights and biases between layers of these sizes, drawn as scikit-learn draws them: by Glorot and Bengio (2010), equation 16.

    ``activations``: one for each pair of layers. The slope of the logistic function asks for smaller numbers.
    """
    coefs, intercepts = [], []
    for fan_in, fan_out, activation in zip(sizes, sizes[1:], activations, strict=False):
        bound = math.sqrt((2.0 if is_entry(activation, "logistic", "sigmoid") else 6.0) / (fan_in + fan_out))
        coefs.append(random_state.uniform(-bound, bound, (fan_in, fan_out)).astype(dtype))
        intercepts.append(random_state.uniform(-bound, bound, fan_out).astype(dtype))
    return coefs, intercepts
