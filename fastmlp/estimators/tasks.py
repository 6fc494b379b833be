"""scikit-learn's callbacks: what happens in a fit is told to them as a tree of tasks, a fit with its epochs.

See "Callbacks" in the user guide of scikit-learn 1.9; before it there were none, and nothing is told.
"""

from __future__ import annotations

from typing import Any

from fastmlp.callbacks import Callback

try:
    from sklearn.callback import CallbackSupportMixin as CallbackSupportMixin
    from sklearn.callback._base import AutoPropagatedCallback, FitCallback
except ImportError:  # before scikit-learn 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Nothing to support."""

    AutoPropagatedCallback = FitCallback = ()  # nothing is an instance of it


def of_scikit_learn(callbacks: Any) -> list[Any]:
    """Those callbacks that follow scikit-learn's protocol."""
    return [one for one in callbacks if not isinstance(one, type | Callback) and isinstance(one, FitCallback)]


class Tasks:
    """A fit, and its epochs or iterations, as tasks of scikit-learn's callbacks.

    Parameters
    ----------
    estimator : estimator
        Within its ``fit``.
    callbacks : iterable
        Callbacks beside those of ``set_callbacks``.
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
        if not hasattr(estimator, "_init_callback_context"):
            return
        mine = of_scikit_learn(callbacks)
        if hasattr(estimator, "_parent_callback_ctx") and any(isinstance(one, AutoPropagatedCallback) for one in mine):
            raise TypeError(
                f"callbacks of a {type(estimator).__name__} within another estimator cannot include one that is passed on to inner "
                "estimators, such as a ProgressBar; set it on the outermost one with set_callbacks."
            )
        there = estimator.__dict__.get("_skl_callbacks")
        try:
            estimator._skl_callbacks = [*(there or ()), *mine]
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
