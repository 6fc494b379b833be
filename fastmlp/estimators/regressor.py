"""The regressor."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from scipy.special import xlogy
from sklearn.base import RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import column_or_1d, validate_data

from fastmlp.data.sources import Piece, Source, first_piece
from fastmlp.estimators.base import MLPBase
from fastmlp.estimators.hyperparameters import is_entry, with_shared_documentation
from fastmlp.estimators.samples import check_in_memory
from fastmlp.losses import LOSSES, Loss
from fastmlp.validation import Data, as_numbers, check_count, check_target_range

Array = np.ndarray[Any, np.dtype[Any]]

REGRESSION_LOSSES = ("squared_error", "absolute_error", "huber", "log_cosh", "pinball", "poisson", "gamma")
POSITIVE = ("poisson", "gamma")
"""Losses of predictions above 0: the model is exp of the last layer."""


@with_shared_documentation(score="R^2")
class MLPRegressor(RegressorMixin, MLPBase):
    """Multi-layer perceptron regressor, scikit-learn's own in compiled kernels.

    It minimises the loss by stochastic gradient descent, Adam or L-BFGS. Parameters up to ``max_fun`` are those of
    :class:`sklearn.neural_network.MLPRegressor`, with the same defaults; those after it are keyword-only additions.

    Parameters
    ----------
    loss : str, Loss or callable, default='squared_error'
        'squared_error' (half of it, the mean over the outputs), 'poisson' (half the deviance; the model is then exp of the last
        layer, and targets must not be negative), 'gamma' (likewise, and targets must be above 0), 'absolute_error', 'huber',
        'log_cosh', 'pinball', any other :class:`fastmlp.Loss`, or a function of your own (:func:`fastmlp.make_loss`).
    {parameters}
    quantile : float, default=None
        Of loss='pinball'; None for the median.
    {added_parameters}

    Attributes
    ----------
    {attributes}

    Notes
    -----
    With several outputs, the squared error is a mean over them, and the gradient is that of this mean. scikit-learn 1.9
    computes the gradient of the sum there, which is not that of the loss that it reports.

    Examples
    --------
    >>> from fastmlp import MLPRegressor
    >>> from sklearn.datasets import make_regression
    >>> X, y = make_regression(n_samples=200, n_features=20, random_state=1)
    >>> reg = MLPRegressor(random_state=1, max_iter=2000, learning_rate_init=0.01).fit(X, y)
    >>> reg.predict(X[:2]).shape
    (2,)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **MLPBase._parameter_constraints,
        "loss": [StrOptions(set(REGRESSION_LOSSES)), Loss, callable],
        "quantile": [None, Interval(Real, 0, 1, closed="neither")],
    }

    def __init__(
        self,
        loss: Any = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        quantile: float | None = None,
        optimizer: Any = None,
        learning_rate_schedule: Any = "constant",
        weight_decay: float | None = None,
        max_grad_norm: float | None = None,
        dropout: Any = 0.0,
        scoring: Any = None,
        max_time: float | None = None,
        callbacks: Any = (),
        n_threads: int | None = None,
    ) -> None:
        super().__init__(
            hidden_layer_sizes=hidden_layer_sizes, activation=activation, solver=solver, alpha=alpha, batch_size=batch_size,
            learning_rate=learning_rate, learning_rate_init=learning_rate_init, power_t=power_t, max_iter=max_iter, shuffle=shuffle,
            random_state=random_state, tol=tol, verbose=verbose, warm_start=warm_start, momentum=momentum,
            nesterovs_momentum=nesterovs_momentum, early_stopping=early_stopping, validation_fraction=validation_fraction,
            beta_1=beta_1, beta_2=beta_2, epsilon=epsilon, n_iter_no_change=n_iter_no_change, max_fun=max_fun,
            optimizer=optimizer, learning_rate_schedule=learning_rate_schedule, weight_decay=weight_decay,
            max_grad_norm=max_grad_norm, dropout=dropout, scoring=scoring, max_time=max_time,
            callbacks=callbacks, n_threads=n_threads,
        )  # fmt: skip
        self.loss = loss
        self.quantile = quantile

    # --- targets ------------------------------------------------------------------------------------------------------------

    def _validate(self, X: Any, y: Any, *, incremental: bool, reset: bool) -> tuple[Any, Any]:
        X, y = validate_data(
            self, X, y, accept_sparse=["csr", "csc", "coo"], multi_output=True, y_numeric=True,
            dtype=(np.float64, np.float32), reset=reset,
        )  # fmt: skip
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        y = as_numbers(y, "y", None)  # no dates, no text that could be read as numbers, no sparse matrix
        self._check_range(y)
        return X, y

    def _check_range(self, y: Array) -> None:
        """Refuse targets that the loss is not for."""
        if is_entry(self._loss, "poisson") and np.min(y) < 0:
            raise ValueError("Some value(s) of y are out of the valid range of the loss 'HalfPoissonLoss'.")
        if is_entry(self._loss, "gamma") and np.min(y) < self._loss.targets[0]:
            raise ValueError(f"y must be above 0 for loss='gamma', got {np.min(y):g}.")
        check_target_range(y, self._loss)

    def _learn_targets(self, source: Source) -> Any:
        if source.classes is not None:
            raise ValueError(f"The source has the classes {source.classes[:5].tolist()} as targets, but a regressor needs numbers.")
        prepared = source.preparation
        if is_entry(self._loss, *POSITIVE) and prepared is not None and prepared.target.is_scaled:
            raise ValueError(
                f"loss={self._loss.name!r} is for targets as they are, but {source!r} scales them; "
                "make it with prepared(scale=False)."
            )
        return np.asarray(first_piece(source).y)

    def _targets_of(self, source: Source, piece: Piece) -> Array:
        y = as_numbers(super()._targets_of(source, piece), "y", None)  # as in memory: no dates
        self._check_range(y)
        return y

    def _placeholder_targets(self, n_outputs: int) -> Array:
        return np.zeros((1, n_outputs))

    @property
    def _loss(self) -> Loss:
        loss = LOSSES.find(self.loss, "loss")
        if self.quantile is None:
            return loss
        if loss.name != "pinball":
            raise ValueError(
                f"quantile={self.quantile!r} is of loss='pinball', but loss is {loss.name!r}; set loss, or quantile=None."
            )
        return loss(self.quantile)

    def _n_outputs(self, y: Any) -> int:
        return 1 if y.ndim == 1 else int(y.shape[1])

    def _loss_and_output(self) -> tuple[str | Loss, str, str]:
        if is_entry(self._loss, *POSITIVE):
            return self._loss, "exponential", "exp"
        if is_entry(self._loss, "binary_cross_entropy"):
            return self._loss, "sigmoid", "logistic"
        return self._loss, "identity", "identity"

    def _loss_scale(self) -> float:
        return 1.0 / self.n_outputs_ if is_entry(self._loss, "squared_error") else 1.0

    def _targets(self, y: Any, dtype: np.dtype[Any]) -> tuple[Array | None, Array | None]:
        with np.errstate(over="ignore"):  # what overflows is found and reported as infinity
            return np.ascontiguousarray(y, dtype=dtype).reshape(len(y), -1), None

    def _sample_weights(self, y: Any, sample_weight: Array | None, *, incremental: bool) -> Array | None:
        return sample_weight

    def _loss_offset(self, data: Data) -> float:
        if not is_entry(self._loss, *POSITIVE) or data.y is None:
            return 0.0
        # What makes it half of the deviance, which is 0 for a perfect prediction.
        y = data.y.astype(np.float64)
        terms = (xlogy(y, y) - y if self._loss.name == "poisson" else -np.log(y) - 1).sum(axis=1)
        return float(terms.sum() if data.weight is None else data.weight @ terms)

    # --- results ------------------------------------------------------------------------------------------------------------

    def _predictions(self, outputs: Array) -> Array:
        return outputs.ravel() if outputs.shape[1] == 1 else outputs

    def _score(self, y: Any, outputs: Array, sample_weight: Array | None) -> float:
        if not np.isfinite(outputs).all():
            return float("nan")
        predicted = self._predictions(outputs)
        if isinstance(y, np.ndarray) and y.shape == predicted.shape == (len(outputs),):
            # r2_score's checks take longer than an epoch of a few hundred rows; it decides where targets are all the same.
            y = y.astype(np.float64)  # squares of numbers of 16 or 32 bits overflow early
            spread = np.average((y - np.average(y, weights=sample_weight)) ** 2, weights=sample_weight)
            if spread > 0:
                return float(1 - np.average((y - predicted) ** 2, weights=sample_weight) / spread)
        return float(r2_score(y, predicted, sample_weight=sample_weight))

    @available_if(lambda self: self._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: Any, y: Any, sample_weight: Any = None, *,
        epochs: int = 1, X_val: Any = None, y_val: Any = None, sample_weight_val: Any = None,
    ) -> Self:  # fmt: skip
        """Go on training: ``epochs`` epochs over the given rows, with the optimizer, schedule and order of rows where they were.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None
        epochs : int, default=1
        X_val, y_val, sample_weight_val : array-like, default=None
            Validation data; see :meth:`fit`.

        Returns
        -------
        self : object
        """
        check_in_memory(X)
        return self._fit(X, y, sample_weight, (X_val, y_val, sample_weight_val), check_count(epochs, "epochs"))
