"""The solvers that go through minibatches, epoch by epoch: Adam, gradient descent, and any optimizer of this package."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from fastmlp.callbacks import Run
from fastmlp.estimators import early_stopping
from fastmlp.estimators.callbacks import FitCallbacks
from fastmlp.estimators.samples import BATCH_SIZE, Samples
from fastmlp.estimators.solvers import WITH_VELOCITY, LearningRate, recipe_of
from fastmlp.estimators.validation_set import validation_loss
from fastmlp.exceptions import DivergenceError
from fastmlp.feed import Feed, InMemory
from fastmlp.safeguard import Safeguard
from fastmlp.schedules import SCHEDULES
from fastmlp.trainer import Rates, Recipe, Trainer, scheduled

if TYPE_CHECKING:
    from fastmlp.engine import CompiledTrainer
    from fastmlp.estimators.base import MLPBase
    from fastmlp.estimators.warm_start import Beginning


def fit_stochastic(
    estimator: MLPBase, feed: Feed, in_memory: tuple[Any, Any], held_out: Samples | None, epochs: int | None, beginning: Beginning
) -> None:
    """Train until there is no improvement, or as many epochs as ``partial_fit`` asks for.

    ``in_memory``: samples and targets, or twice None for those of a source.
    """
    batch_size = _batch_size(estimator, feed.rows)
    goes_on = epochs is not None
    network = estimator._synchronized_to_train()
    if estimator.early_stopping:
        early_stopping.restore_last_weights(estimator, held_out, goes_on=goes_on)
    callbacks = FitCallbacks(estimator)
    estimator.reading_ = feed.reading
    network.loss_curve_ = estimator.loss_curve_ if goes_on else []  # as callbacks know it from an MLP
    run = Run(network, feed.rows, estimator.max_iter if epochs is None else epochs, reading=feed.reading)
    training = _Training(estimator, feed, held_out, run, callbacks, goes_on=goes_on)
    callbacks.fit_begins(run, *in_memory, feed.data.weight)
    try:
        callbacks.training_begins()
        training.run_epochs(batch_size, beginning)
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=6)
    finally:
        callbacks.training_ends()
    if estimator.early_stopping:
        early_stopping.restore_best_weights(estimator, goes_on=goes_on)
    callbacks.fit_ends()


def _batch_size(estimator: MLPBase, rows: int) -> int:
    if estimator.batch_size == "auto":
        return min(BATCH_SIZE, rows)
    if estimator.batch_size > rows:
        warnings.warn("Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=7)
    return int(min(estimator.batch_size, rows))


class _Training:
    """What the epochs of a fit have in common.

    Parameters
    ----------
    estimator : MLPBase
    feed : Feed
        Rows to train on.
    held_out : Samples or None
        Rows to validate on.
    run : Run
    callbacks : FitCallbacks
    goes_on : bool
        Whether the epochs are those of ``partial_fit``, after those of its last call.
    """

    def __init__(
        self, estimator: MLPBase, feed: Feed, held_out: Samples | None, run: Run, callbacks: FitCallbacks, *, goes_on: bool
    ) -> None:
        self._estimator, self._feed, self._held_out = estimator, feed, held_out
        self._run, self._callbacks, self._goes_on = run, callbacks, goes_on
        self._safeguard = Safeguard(estimator._network._buffer)

    def run_epochs(self, batch_size: int, beginning: Beginning) -> None:
        """Train epoch by epoch, until the last or until there is no hope of improvement, or a callback asks for a stop."""
        estimator, feed, run = self._estimator, self._feed, self._run
        recipe = recipe_of(estimator)
        optimizer, state = recipe.optimizer, estimator._optimizer_state
        rate = self._learning_rate(optimizer.name)
        schedule = SCHEDULES.find(estimator.learning_rate_schedule, "learning_rate_schedule")
        steps = -(-feed.rows // batch_size)
        estimator.n_iter_ = 0
        with feed, estimator._network._trainer(feed.data, batch_size, recipe) as trainer:
            if state.get("optimizer") == optimizer.name:
                trainer.load_state(state["steps"], state["arrays"])
                _keep_velocity(trainer, optimizer.name, state["rate"], rate.now)
            # The schedule is that of all calls of partial_fit together, or of this fit.
            first_step = 0 if self._goes_on else trainer.steps
            begins_anew = False
            beginning.is_past = True
            try:
                for _ in range(run.epochs):
                    run.epoch, run.rows_done = run.epoch + 1, 0
                    made = trainer.steps - first_step
                    rates = scheduled(rate.now, schedule, made, steps, max(made + steps, estimator.max_iter * steps))
                    self._run_epoch(trainer, recipe, rates, rate.now)
                    before = rate.now
                    rate.after_epoch(estimator.t_)
                    stops = early_stopping.should_stop(estimator, rate) or run.stop
                    _keep_velocity(trainer, optimizer.name, before, rate.now)
                    if stops:
                        break
                    if not self._goes_on and estimator.n_iter_ == estimator.max_iter:
                        warnings.warn(
                            f"Stochastic Optimizer: Maximum iterations ({estimator.max_iter}) reached and the optimization hasn't "
                            "converged yet.", ConvergenceWarning, stacklevel=7,
                        )  # fmt: skip
            except BaseException as error:  # the state has seen what the parameters were brought back from
                begins_anew = self._safeguard.settle() or isinstance(error, DivergenceError)
                raise
            finally:
                estimator._optimizer_state = {} if begins_anew else {
                    "optimizer": optimizer.name, "steps": trainer.steps, "arrays": trainer.state(), "rate": rate.now,
                    "rate_of": [rate.initial, rate.kind, optimizer.name],
                }  # fmt: skip

    def _learning_rate(self, optimizer: str) -> LearningRate:
        """Where ``partial_fit`` has left it, unless the parameters are others now; else that of the parameters."""
        estimator, state = self._estimator, self._estimator._optimizer_state
        kind = estimator.learning_rate if optimizer in ("sgd", *WITH_VELOCITY) else "constant"
        is_as_before = state.get("rate_of") == [estimator.learning_rate_init, kind, optimizer]
        now = state["rate"] if self._goes_on and is_as_before else math.nan
        return LearningRate(estimator.learning_rate_init, kind, estimator.power_t, now)

    def _run_epoch(self, trainer: Trainer, recipe: Recipe, rates: Rates, rate: float) -> None:
        """Go through all rows once, and keep account of it."""
        estimator, feed, run, network = self._estimator, self._feed, self._run, self._estimator._network
        penalty_before = _penalty(estimator)
        self._callbacks.epoch_begins()
        for done in feed.epoch(trainer, rates, recipe.dropout, estimator._generator, last=run.epoch == run.epochs):
            network._check_totals(done, self._safeguard, run.epoch, run.epochs, rate, ends=done.rows == feed.rows)
            run.rows_done = done.rows
            run.loss = recipe.loss_scale * done.loss_sum / done.weight_sum if done.weight_sum else math.nan
            self._callbacks.rows_done()
        estimator.n_iter_ += 1
        estimator.t_ += feed.rows
        weight = network._weight(feed.data) if isinstance(feed, InMemory) else done.weight_sum
        # A step's penalty is that of the weights before it, as scikit-learn has it: exact for one step, a line for several.
        steps = len(rates)
        penalty = ((steps + 1) * penalty_before + (steps - 1) * _penalty(estimator)) / (2 * weight)
        estimator.loss_ = (recipe.loss_scale * done.loss_sum + feed.loss_offset) / done.weight_sum + penalty
        estimator.loss_curve_.append(estimator.loss_)
        if not self._goes_on:
            network.loss_curve_.append(estimator.loss_)
        if estimator.verbose:
            print(f"Iteration {estimator.n_iter_}, loss = {estimator.loss_:.8f}")
        if self._held_out is not None:
            estimator.validation_loss_curve_.append(validation_loss(estimator, self._held_out.data))
        early_stopping.update_no_improvement_count(estimator, self._held_out)
        run.epochs_done, run.loss = run.epoch, estimator.loss_
        self._callbacks.epoch_ends()


def _keep_velocity(trainer: CompiledTrainer, optimizer: str, before: float, now: float) -> None:
    """Let a change of the learning rate act on later gradients only."""
    if optimizer in WITH_VELOCITY and now != before:
        trainer.scale_state(before / now)


def _penalty(estimator: MLPBase) -> float:
    """alpha / 2 * sum of squared weights."""
    return 0.5 * estimator.alpha * float(sum(np.vdot(coef, coef) for coef in estimator._network.w))
