"""What all exports begin with: the network in a model, as plain arrays and names."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastmlp.network import Network

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Layer:
    """One layer of weights.

    Parameters
    ----------
    weight : ndarray (fan_in, fan_out)
    bias : ndarray (fan_out,)
    activation : str
        A name of :data:`fastmlp.ACTIVATIONS`.
    parameter : float
        Slope or scale of those activations that have one.
    """

    weight: Array
    bias: Array
    activation: str
    parameter: float


def network_of(model: Any) -> Network:
    """The network itself, or that of a fitted estimator.

    Raises
    ------
    TypeError
        For anything else.
    sklearn.exceptions.NotFittedError
        For an estimator without a network.
    """
    if isinstance(model, Network):
        return model
    estimators = sys.modules.get("fastmlp.estimators.base")  # whoever has an estimator has imported it
    if estimators is not None and isinstance(model, estimators.MLPBase):
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(model)
        network: Network = model._synchronized()
        return network
    raise TypeError(f"model must be an MLP, a ReferenceMLP or a fitted estimator of fastmlp, got {type(model).__name__}.")


def layers_of(model: Any, what: str) -> list[Layer]:
    """Copies of the parameters of all layers, with the names of their activations.

    ``what`` is made of them, for the sentences that say that a function of one's own, or nan, cannot be in it.
    """
    network = network_of(model)
    found = []
    for number, (weight, bias, entry) in enumerate(zip(network.w, network.b, network._activations, strict=True)):
        if entry.source is not None:
            raise ValueError(
                f"{entry.name!r} is a function of your own, which {what} cannot hold; use one of the activations that fastmlp "
                "knows."
            )
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise ValueError(
                f"Layer {number} has parameters that are nan or infinite, which {what} should not hold; assign others first."
            )
        found.append(Layer(weight.copy(), bias[0].copy(), entry.name, entry.parameter))
    return found
