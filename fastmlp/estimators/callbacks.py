"""The callbacks of a fit: those of this package, and scikit-learn's, told of the same things.

To scikit-learn's, a fit is a tree of tasks, a fit with its epochs; see "Callbacks" in the user guide of scikit-learn 1.9. Before it
there were none, and nothing is told.
"""

from __future__ import annotations

from typing import Any

from fastmlp.callbacks import Callback, Callbacks, Run, TimeLimit

try:
    from sklearn.callback import CallbackSupportMixin as CallbackSupportMixin
    from sklearn.callback._base import AutoPropagatedCallback, FitCallback
except ImportError:  # before scikit-learn 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Nothing to support."""

    AutoPropagatedCallback = FitCallback = ()  # nothing is an instance of it


class FitCallbacks:
    """All callbacks of a fit, as one.

    Parameters
    ----------
    estimator : estimator
        Within its ``fit``. With L-BFGS, an epoch is an iteration.
    """

    def __init__(self, estimator: Any) -> None:
        self._estimator = estimator
        self._theirs = [one for one in estimator.callbacks if not isinstance(one, type | Callback) and isinstance(one, FitCallback)]
        if hasattr(estimator, "_parent_callback_ctx") and any(isinstance(one, AutoPropagatedCallback) for one in self._theirs):
            raise TypeError(
                f"callbacks of a {type(estimator).__name__} within another estimator cannot include one that is passed on to inner "
                "estimators, such as a ProgressBar; set it on the outermost one with set_callbacks."
            )
        ours = [one for one in estimator.callbacks if one not in self._theirs]
        time_limit = [] if estimator.max_time is None else [TimeLimit(estimator.max_time)]
        self._ours = Callbacks.of([*ours, *time_limit], verbose=False)

    def fit_begins(self, run: Run, x: Any, y: Any, weight: Any) -> None:
        """Tell scikit-learn's of a fit to these samples; None for those of a source."""
        self._run = run
        self._tasks = _Tasks(self._estimator, self._theirs, run.epochs, x, y, weight)

    def training_begins(self) -> None:
        """Tell ours that the first epoch comes next."""
        self._ours.on_train_begin(self._run)

    def epoch_begins(self) -> None:
        """Tell scikit-learn's of the beginning of an epoch."""
        self._tasks.epoch_begins()

    def rows_done(self) -> None:
        """Tell ours of progress within an epoch."""
        self._ours.on_rows(self._run)

    def epoch_ends(self) -> None:
        """Tell all of them of the end of an epoch; each may ask for a stop."""
        self._ours.on_epoch_end(self._run)
        self._run.stop = self._tasks.epoch_ends() or self._run.stop

    def training_ends(self) -> None:
        """Tell ours of the end, whether all went well or not."""
        self._ours.on_train_end(self._run)

    def fit_ends(self) -> None:
        """Tell scikit-learn's of the end of a fit that has not failed."""
        self._tasks.fit_ends()


class _Tasks:
    """A fit, and its epochs, as tasks of scikit-learn's callbacks.

    Parameters
    ----------
    estimator : estimator
        Within its ``fit``.
    callbacks : list
        Those that follow scikit-learn's protocol, beside the ones of ``set_callbacks``.
    epochs : int
        Most epochs that there may be.
    x, y, weight
        What it is trained on.
    """

    def __init__(self, estimator: Any, callbacks: Any, epochs: int, x: Any, y: Any, weight: Any) -> None:
        self._estimator = estimator
        self._data = {"X": x, "y": y, "metadata": None if weight is None else {"sample_weight": weight}}
        self._fit: Any = None
        self._epoch: Any = None
        there = estimator.__dict__.get("_skl_callbacks")
        is_told = callbacks or there or hasattr(estimator, "_parent_callback_ctx")
        if not is_told or not hasattr(estimator, "_init_callback_context"):
            return
        try:
            estimator._skl_callbacks = [*(there or ()), *callbacks]
            self._fit = estimator._init_callback_context(max_subtasks=epochs)
        finally:
            if there is None:
                del estimator._skl_callbacks
            else:
                estimator._skl_callbacks = there
        self._fit.call_on_fit_task_begin(estimator=estimator, **self._data)

    def epoch_begins(self) -> None:
        """Tell of the beginning of an epoch."""
        if self._fit is not None:
            self._epoch = self._fit.subcontext(task_name="epoch")
            self._epoch.call_on_fit_task_begin(estimator=self._estimator, **self._data)

    def epoch_ends(self) -> bool:
        """Tell of the end of an epoch; whether a callback wants no more of them."""
        return self._epoch is not None and self._end(self._epoch)

    def fit_ends(self) -> None:
        """Tell of the end of the fit."""
        if self._fit is not None:
            self._end(self._fit)

    def _end(self, task: Any) -> bool:
        # A copy of this estimator is one that is fitted as far as it has come.
        return bool(task.call_on_fit_task_end(estimator=self._estimator, reconstruction_attributes=dict, **self._data))
