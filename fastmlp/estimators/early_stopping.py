"""When training has stopped improving: epochs are counted, by the training loss or by the score of validation rows.

With ``early_stopping=True`` it is the score, and a fit ends at the weights of the best one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import check_scoring

from fastmlp.estimators.samples import Samples
from fastmlp.estimators.solvers import LearningRate

if TYPE_CHECKING:
    from fastmlp.estimators.base import MLPBase


def begin_to_count(estimator: MLPBase) -> None:
    """Nothing has been seen yet of what ``early_stopping`` says is looked at."""
    by_score = estimator.early_stopping
    estimator.validation_scores_ = [] if by_score else None
    estimator.best_validation_score_ = -np.inf if by_score else None
    estimator._scored_by = estimator.scoring if by_score else None
    estimator.best_loss_ = None if by_score else np.inf
    estimator._no_improvement_count = 0


def follow_parameters(estimator: MLPBase, *, has_other_loss: bool) -> None:
    """Go on counting, unless the parameters have changed what is looked at."""
    if has_other_loss:  # what was best by the one says nothing about the other
        estimator._no_improvement_count = 0
        estimator.best_loss_ = None if estimator.best_loss_ is None else np.inf
    was_by_score = estimator.best_loss_ is None
    is_switched = estimator.early_stopping != was_by_score
    if is_switched or (estimator.early_stopping and estimator.scoring != estimator._scored_by):
        begin_to_count(estimator)
    if is_switched:  # the last weights of an early stopping before this one are older than those that there are now
        estimator._best_theta, estimator._last_theta = estimator._synchronized().theta, None


def restore_last_weights(estimator: MLPBase, held_out: Samples | None, *, goes_on: bool) -> None:
    """Before the first epoch: go on from the last weights of ``partial_fit``, not from the best, unless a person has set others."""
    network = estimator._network
    if not np.array_equal(network.theta, estimator._best_theta):
        estimator._best_theta, estimator.best_validation_score_ = network.theta, -np.inf
    else:
        _compare_on(estimator, held_out)
        if goes_on and estimator._last_theta is not None:
            network.theta = estimator._last_theta  # with which the optimizer's state goes together
    estimator._last_theta = None  # older, from now on, than the weights that there are


def _compare_on(estimator: MLPBase, held_out: Samples | None) -> None:
    """Let the best weights have the score that they have on these rows: one of other rows would be compared with theirs."""
    if estimator.best_validation_score_ == -np.inf:
        return
    assert held_out is not None
    score = _validation_score(estimator, held_out)
    if score != estimator.best_validation_score_:
        estimator.best_validation_score_, estimator._no_improvement_count = score, 0


def restore_best_weights(estimator: MLPBase, *, goes_on: bool) -> None:
    """After the last epoch; the last weights are kept, except after ``fit``: what goes on from there is what it has found."""
    network = estimator._network
    estimator._last_theta = network.theta if goes_on else None
    network.theta = estimator._best_theta


def update_no_improvement_count(estimator: MLPBase, held_out: Samples | None) -> None:
    """Count the epoch that has ended, and remember its weights if its score is the best."""
    if not estimator.early_stopping:
        assert estimator.best_loss_ is not None
        has_stagnated = estimator.loss_ > estimator.best_loss_ - estimator.tol
        estimator.best_loss_ = min(estimator.best_loss_, estimator.loss_)
    else:
        assert held_out is not None
        assert estimator.validation_scores_ is not None
        assert estimator.best_validation_score_ is not None
        score = _validation_score(estimator, held_out)
        estimator.validation_scores_.append(score)
        if estimator.verbose:
            print(f"Validation score: {score:f}")
        has_stagnated = score < estimator.best_validation_score_ + estimator.tol
        if score > estimator.best_validation_score_:
            estimator.best_validation_score_ = score
            estimator._best_theta = estimator._network.theta
    estimator._no_improvement_count = estimator._no_improvement_count + 1 if has_stagnated else 0


def should_stop(estimator: MLPBase, rate: LearningRate) -> bool:
    """Whether there have been too many epochs without improvement; an adaptive learning rate falls first, as far as it can."""
    if estimator._no_improvement_count <= estimator.n_iter_no_change:
        return False
    what = "Validation score" if estimator.early_stopping else "Training loss"
    message = f"{what} did not improve more than tol={estimator.tol:f} for {estimator.n_iter_no_change} consecutive epochs."
    if rate.falls():
        if estimator.verbose:
            print(f"{message} Setting learning rate to {rate.now:f}")
        estimator._no_improvement_count = 0
        return False
    if estimator.verbose:
        print(f"{message} Learning rate too small. Stopping." if rate.kind == "adaptive" else f"{message} Stopping.")
    return True


def _validation_score(estimator: MLPBase, held_out: Samples) -> float:
    """A finite score of the validation rows."""
    if estimator.scoring:
        score = _score_by_scoring(estimator, held_out)
    else:
        outputs = estimator._network._outputs(held_out.data.x)
        score = estimator._score(held_out.y, outputs, held_out.data.weight)
    if not math.isfinite(score):
        raise ValueError(
            f"The validation score is {score} after epoch {estimator.n_iter_}: it cannot be computed from these "
            f"{held_out.data.rows} validation rows; give others (X_val, validation_fraction), or another scoring."
        )
    return score


def _score_by_scoring(estimator: MLPBase, held_out: Samples) -> float:
    weight = held_out.data.weight
    weighted = {} if weight is None else {"sample_weight": weight}
    scorer = check_scoring(estimator, estimator.scoring)
    estimator._checked_rows = held_out.x  # whose names of columns have been compared
    try:
        return float(scorer(estimator, held_out.x, held_out.y, **weighted))
    except TypeError as error:
        if not weighted or "sample_weight" not in str(error):
            raise
        raise ValueError(
            f"scoring={estimator.scoring!r} takes no sample weights, but the validation rows have some; give another scoring, or "
            "X_val and y_val without weights."
        ) from None
    finally:
        del estimator._checked_rows
