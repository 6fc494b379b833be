"""The solver that looks at all rows in each step: SciPy's L-BFGS-B."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from fastmlp.callbacks import Run
from fastmlp.estimators.callbacks import FitCallbacks
from fastmlp.estimators.samples import Samples
from fastmlp.estimators.validation_set import validation_loss
from fastmlp.feed import Feed
from fastmlp.schedules import SCHEDULES

if TYPE_CHECKING:
    from fastmlp.estimators.base import MLPBase
    from fastmlp.estimators.warm_start import Beginning

Array = np.ndarray[Any, np.dtype[Any]]


def fit_lbfgs(estimator: MLPBase, feed: Feed, in_memory: tuple[Any, Any], held_out: Samples | None, beginning: Beginning) -> None:
    """Minimise the loss and the penalty until the gradient is small.

    ``in_memory``: samples and targets, or twice None for those of a source.
    """
    from scipy.optimize import minimize

    network = estimator._synchronized_to_train()
    callbacks = FitCallbacks(estimator)
    run = Run(network, feed.rows, estimator.max_iter)
    callbacks.fit_begins(run, *in_memory, feed.data.weight)
    objective = _Objective(estimator, feed)
    best = network.theta.astype(np.float64)
    estimator.n_iter_, estimator.loss_, network.loss_curve_ = 0, math.nan, []

    def keep_account(iterations: int, loss: float) -> None:
        estimator.n_iter_, estimator.loss_ = iterations, loss
        estimator.best_loss_ = None if estimator.best_loss_ is None else min(estimator.best_loss_, loss)

    def after_iteration(intermediate_result: Any) -> None:
        beginning.is_past = True
        estimator.loss_curve_.append(float(intermediate_result.fun))
        network.loss_curve_.append(estimator.loss_curve_[-1])
        if estimator.verbose:
            print(f"Iteration {len(estimator.loss_curve_)}, loss = {intermediate_result.fun:.8f}")
        best[:] = intermediate_result.x
        objective.move_to(best)
        run.epoch = run.epochs_done = run.epoch + 1
        run.rows_done, run.loss = feed.rows, estimator.loss_curve_[-1]
        keep_account(run.epoch, run.loss)
        if held_out is not None:
            estimator.validation_loss_curve_.append(validation_loss(estimator, held_out.data))
        callbacks.epoch_begins()
        callbacks.epoch_ends()
        if run.stop:
            raise StopIteration

    try:
        callbacks.training_begins()
        found = minimize(
            objective, best.copy(), method="L-BFGS-B", jac=True, callback=after_iteration,
            options={"maxfun": estimator.max_fun, "maxiter": estimator.max_iter, "gtol": estimator.tol},
        )  # fmt: skip
        objective.move_to(found.x)
        keep_account(min(int(found.nit), estimator.max_iter), float(found.fun))
    except BaseException as error:
        network.theta = best  # those that were tried last may be worse, and loss_ is not theirs
        if not isinstance(error, KeyboardInterrupt):
            raise
        warnings.warn("Training interrupted by user.", stacklevel=6)
        callbacks.fit_ends()
        return
    finally:
        callbacks.training_ends()
    if not math.isfinite(estimator.loss_):
        raise ValueError(
            f"The loss is {estimator.loss_} after {estimator.n_iter_} iterations: features or targets are too large; scale them "
            "first."
        )
    if found.status != 0 and not run.stop:
        advice = f"Increase the number of iterations to improve the convergence (max_iter={estimator.max_iter}).\n"
        warnings.warn(
            f"lbfgs failed to converge after {estimator.n_iter_} iteration(s) (status={found.status}):\n{found.message}\n\n"
            f"{advice if estimator.n_iter_ == estimator.max_iter else ''}"
            "You might also want to scale the data as shown in:\n"
            "    https://scikit-learn.org/stable/modules/preprocessing.html",
            ConvergenceWarning, stacklevel=6,
        )  # fmt: skip
    callbacks.fit_ends()


def check_parameters(estimator: MLPBase) -> None:
    """Refuse what L-BFGS has no use for."""
    for name, is_given in (
        ("dropout", np.any(estimator.dropout)),
        ("weight_decay", estimator.weight_decay),
        ("max_grad_norm", estimator.max_grad_norm),
        ("learning_rate_schedule", estimator.learning_rate_schedule not in ("constant", SCHEDULES["constant"])),
    ):
        if is_given:
            raise ValueError(
                f"{name}={getattr(estimator, name)!r} needs solver='adam', solver='sgd' or an optimizer; L-BFGS has no use for it."
            )


class _Objective:
    """The mean loss and the penalty, and their gradient, as a function of all parameters in one flat vector.

    Parameters
    ----------
    estimator : MLPBase
        Whose network is left with the parameters that were last asked for.
    feed : Feed
        Rows to train on; all of them are read for each evaluation.
    """

    def __init__(self, estimator: MLPBase, feed: Feed) -> None:
        network = self._network = estimator._network
        self._feed, self._alpha, self._loss_scale = feed, estimator.alpha, estimator._loss_scale()
        parts = [(network._weight(data), estimator._loss_offset(data)) for data in feed.parts()]
        self._weight, self._loss_offset = np.sum(parts, axis=0).tolist()
        self._is_coef = np.concatenate([
            np.full(array.size, array is coef)
            for coef, intercept in zip(network.w, network.b, strict=True) for array in (coef, intercept)
        ])  # fmt: skip

    def move_to(self, theta: Array) -> None:
        """Give the network these parameters."""
        with np.errstate(over="ignore"):  # infinite parameters have no finite loss, and are not kept
            self._network.theta = theta

    def __call__(self, theta: Array) -> tuple[float, Array]:
        self.move_to(theta)
        network, loss_sum, gradient_sum = self._network, 0.0, np.zeros(theta.shape)
        for data in self._feed.parts():
            loss, gradient = network._sums(network._buffer, data, gradient=True)
            assert gradient is not None
            loss_sum += loss
            gradient_sum += network._layout().take(gradient).astype(np.float64)
        coefs = theta * self._is_coef
        value = (self._loss_scale * loss_sum + self._loss_offset + 0.5 * self._alpha * float(coefs @ coefs)) / self._weight
        return value, (self._loss_scale * gradient_sum + self._alpha * coefs) / self._weight
