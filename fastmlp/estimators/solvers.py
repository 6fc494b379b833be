"""From scikit-learn's names of solvers to the optimizers of this package.

The rules are theirs, as described in the user guide of scikit-learn, "Neural network models (supervised)"; two details differ
from the usual ones: Adam's epsilon stands beside a root that is not corrected for its start at zero, and the learning rate of
a momentum step goes into the velocity, so that a change of the rate acts on later gradients only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp.optimizers import OPTIMIZERS, Optimizer, Options
from fastmlp.trainer import Recipe
from fastmlp.validation import check_dropout

if TYPE_CHECKING:
    from fastmlp.estimators.base import MLPBase

Array = np.ndarray[Any, np.dtype[Any]]

LEAST_RATE = 1e-6
"""An adaptive learning rate that has come down to this ends the training."""

ADAPTIVE_DIVISOR = 5.0

WITH_VELOCITY = ("momentum", "nesterov")
"""Optimizers whose state is a velocity: scikit-learn's, divided by the learning rate."""


def _adam_coefficients(t: Array, rate: Array, o: Options) -> list[Any]:
    beta1, beta2 = o["beta1"], o["beta2"]
    return [rate * np.sqrt(1 - beta2**t) / (1 - beta1**t), beta1, 1 - beta1, beta2, 1 - beta2, 1.0, o["epsilon"]]


def adam(beta_1: float, beta_2: float, epsilon: float) -> Optimizer:
    """Adam as in the last paragraph of section 2 of Kingma and Ba (2015): the step's rate is corrected, the root is not."""
    options = {"beta1": float(beta_1), "beta2": float(beta_2), "epsilon": float(epsilon)}
    return replace(OPTIMIZERS["adam"], coefficients=_adam_coefficients, options=options)


def sgd(momentum: float, nesterov: bool) -> Optimizer:
    """Gradient descent, with momentum unless that is 0."""
    if momentum == 0:
        return OPTIMIZERS["sgd"]
    return replace(OPTIMIZERS["nesterov" if nesterov else "momentum"], options={"momentum": float(momentum)})


def recipe_of(estimator: MLPBase) -> Recipe:
    """How an estimator's parameters say that weights are updated."""
    if estimator.optimizer is not None:
        optimizer = OPTIMIZERS.find(estimator.optimizer, "optimizer")
    elif estimator.solver == "adam":
        optimizer = adam(estimator.beta_1, estimator.beta_2, estimator.epsilon)
    else:
        optimizer = sgd(estimator.momentum, estimator.nesterovs_momentum)
    optimizer.check_for(estimator._network.dtype)
    return Recipe(
        optimizer,
        optimizer.weight_decay if estimator.weight_decay is None else estimator.weight_decay,
        estimator.alpha,
        estimator.max_grad_norm or 0.0,
        l2_by_weight=True,
        loss_scale=estimator._loss_scale(),
        dropout=check_dropout(estimator.dropout, estimator.n_layers_ - 2),
    )


@dataclass
class LearningRate:
    """scikit-learn's learning rate of an epoch.

    Parameters
    ----------
    initial : float
    kind : {"constant", "invscaling", "adaptive"}
    power : float
        Exponent of "invscaling".
    now : float
    """

    initial: float
    kind: str
    power: float
    now: float = math.nan

    def __post_init__(self) -> None:
        if math.isnan(self.now):
            self.now = self.initial

    def after_epoch(self, rows_seen: int) -> None:
        """Follow the number of rows that have been trained on in all."""
        if self.kind == "invscaling":
            self.now = self.initial / (rows_seen + 1) ** self.power

    def falls(self) -> bool:
        """Whether training goes on at a lower rate where the loss has stopped falling."""
        if self.kind != "adaptive" or self.now <= LEAST_RATE:
            return False
        self.now /= ADAPTIVE_DIVISOR
        return True
