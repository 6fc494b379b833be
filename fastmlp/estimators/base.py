"""What the two estimators share: from scikit-learn's parameters and data to a network, epochs, and back."""

from __future__ import annotations

import inspect
import math
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, _fit_context, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import check_scoring
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from fastmlp.activations import ACTIVATIONS, Activation
from fastmlp.callbacks import Callbacks, Run, TimeLimit
from fastmlp.data.sources import Piece, Source, as_source
from fastmlp.data.stream import open_feed
from fastmlp.estimators import solvers
from fastmlp.estimators.tasks import CallbackSupportMixin, Tasks, of_scikit_learn
from fastmlp.feed import BUFFER_BYTES, Feed, InMemory, Reading
from fastmlp.losses import LOSSES, Loss
from fastmlp.mlp import MLP
from fastmlp.optimizers import OPTIMIZERS, Optimizer
from fastmlp.schedules import SCHEDULES, Schedule
from fastmlp.trainer import Recipe, scheduled
from fastmlp.validation import (
    Data,
    check_activations,
    check_count,
    check_dropout,
    check_dtype,
    check_finite,
    check_target_columns,
    check_weight,
    check_x,
)

Array = np.ndarray[Any, np.dtype[Any]]
T = TypeVar("T")

BATCH_SIZE = 200
"""Of ``batch_size="auto"``, or all rows if they are fewer."""

_PARAMETERS = """\
hidden_layer_sizes : array-like of shape (n_layers - 2,), default=(100,)
    Numbers of units of the hidden layers.
activation : str, Activation, callable or a list of them, default='relu'
    Of the hidden layers: any name of :data:`fastmlp.ACTIVATIONS`, among them 'identity', 'logistic', 'tanh' and 'relu', or a
    function of your own (:func:`fastmlp.make_activation`); one for all, or one for each.
solver : {'lbfgs', 'sgd', 'adam'}, default='adam'
    How the weights are found; 'lbfgs' suits small data. It knows no early stopping, and to its callbacks an iteration is an epoch.
alpha : float, default=0.0001
    Strength of the L2 penalty: each minibatch adds alpha / (2 * its weight) * (sum of squared weights) to the loss.
batch_size : int, default='auto'
    Rows of a minibatch; 'auto' is min(200, n_samples). L-BFGS has none.
learning_rate : {'constant', 'invscaling', 'adaptive'}, default='constant'
    For solver='sgd': 'invscaling' is ``learning_rate_init / (t_ + 1) ** power_t`` after each epoch, 'adaptive' divides the rate
    by 5 whenever training has stopped improving.
learning_rate_init : float, default=0.001
    The learning rate at the beginning.
power_t : float, default=0.5
    Exponent of 'invscaling'.
max_iter : int, default=200
    Most epochs, or iterations of L-BFGS.
shuffle : bool, default=True
    Whether each epoch has its own order of rows.
random_state : int, RandomState instance, default=None
    For the initial weights, the validation split and the order of rows.
tol : float, default=1e-4
    Improvements smaller than this do not count.
verbose : bool, default=False
    Whether to print the loss of each epoch.
warm_start : bool, default=False
    Whether ``fit`` goes on from the last solution, the state of its optimizer included.
momentum : float, default=0.9
    For solver='sgd'.
nesterovs_momentum : bool, default=True
    Whether the momentum is Nesterov's.
early_stopping : bool, default=False
    Whether to stop when the score on held-out rows has stopped improving, and to return to the weights of the best score.
validation_fraction : float, default=0.1
    Share of the rows to hold out.
beta_1, beta_2, epsilon : float, default=0.9, 0.999, 1e-8
    For solver='adam'.
n_iter_no_change : int, default=10
    Epochs without improvement that are allowed.
max_fun : int, default=15000
    Most evaluations by L-BFGS.
"""

_ADDED_PARAMETERS = """\
optimizer : str or Optimizer, default=None
    Any of :data:`fastmlp.OPTIMIZERS`, in the place of ``solver``.
learning_rate_schedule : str or Schedule, default='constant'
    Any of :data:`fastmlp.SCHEDULES`; multiplies the learning rate, with any optimizer.
weight_decay : float, default=None
    Decoupled weight decay; None for the optimizer's own.
max_grad_norm : float, default=None
    Gradients are scaled down to this Euclidean norm.
dropout : float or array-like of shape (n_layers - 2,), default=0.0
    Probability with which a step of training leaves out an output of a hidden layer; one for all, or one for each. The others are
    divided by 1 - dropout.
scoring : str or callable, default=None
    What early stopping looks at; None for {score}.
max_time : float, default=None
    Seconds after which no further epoch begins.
callbacks : sequence of callbacks, default=()
    Those of :mod:`fastmlp.callbacks`, and those of :mod:`sklearn.callback`, which ``set_callbacks`` takes as well.
n_threads : int, default=None
    Threads; None for as many as are fastest.
"""

_ATTRIBUTES = """\
coefs_, intercepts_ : list of ndarray
    Weights (fan_in, fan_out) and biases (fan_out,) of each layer.
loss_ : float
    Of the last epoch.
best_loss_ : float or None
    Lowest of ``loss_curve_``; None with early stopping.
loss_curve_ : list of float
    Loss of each epoch, or of each iteration of L-BFGS.
validation_scores_ : list of float or None
    With early stopping.
validation_loss_curve_ : list of float
    Loss of the validation rows after each epoch, if there are any.
best_validation_score_ : float or None
t_ : int
    Rows that have been trained on in all.
n_iter_ : int
    Epochs or iterations of the last call.
reading_ : fastmlp.feed.Reading or None
    What has been waited for while rows of a source were read; None where all were in memory, and with L-BFGS.
n_layers_, n_outputs_, n_features_in_ : int
feature_names_in_ : ndarray of shape (n_features,)
out_activation_ : str
"""


def with_shared_documentation(score: str) -> Callable[[type[T]], type[T]]:
    """Put what both estimators have into their docstrings; ``score``: what early stopping looks at."""

    def document(estimator: type[T]) -> type[T]:
        if estimator.__doc__:  # not with python -OO
            text = inspect.cleandoc(estimator.__doc__)
            shared = {"parameters": _PARAMETERS, "added_parameters": _ADDED_PARAMETERS, "attributes": _ATTRIBUTES}
            for name, lines in shared.items():
                text = text.replace(f"{{{name}}}\n", lines.replace("{score}", score))
            estimator.__doc__ = text
        return estimator

    return document


Weigh = Callable[[Any, Any], Any]
"""Weights of rows, or None, by their targets and the weights that they came with."""


def _as_given(y: Any, weight: Any) -> Any:
    return weight


def _source_in(x: Any, y: Any, weight: Any, ending: str) -> Source | None:
    """What a person has given in the place of samples, targets and weights, if it is a source.

    Raises
    ------
    ValueError
        For targets or weights beside a source; ``ending`` is that of the arguments' names.
    """
    source = as_source(x) if y is None or isinstance(x, Source) else None
    for name, other in (("y", y), ("sample_weight", weight)):
        if source is not None and other is not None:
            raise ValueError(
                f"{name}{ending} must be None where X{ending} is a source, which brings targets and weights of its own."
            )
    return source


def _check_validation(X_val: Any, y_val: Any, weight_val: Any) -> None:
    """Refuse a part of the validation data without its samples."""
    for name, value in (("y_val", y_val), ("sample_weight_val", weight_val)):
        if value is not None and X_val is None:
            raise ValueError(f"{name} was given without X_val; both are needed for validation.")


@dataclass
class Samples:
    """Rows with what is known of them.

    Parameters
    ----------
    x : ndarray or sparse matrix (n, n_features)
    y : ndarray
        As the person gave it.
    data : Data
        As the network takes them.
    """

    x: Any
    y: Any
    data: Data


class MLPBase(CallbackSupportMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator, ABC):
    """Base of the estimators; see :class:`MLPClassifier` and :class:`MLPRegressor`."""

    _checked_rows: Any = None  # what the scorer of early stopping is given

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions({*ACTIVATIONS, *ACTIVATIONS.aliases}), Activation, callable, list, tuple],
        "solver": [StrOptions({"lbfgs", "sgd", "adam"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "optimizer": [None, StrOptions(set(OPTIMIZERS)), Optimizer],
        "learning_rate_schedule": [StrOptions(set(SCHEDULES)), Schedule],
        "weight_decay": [None, Interval(Real, 0, None, closed="left")],
        "max_grad_norm": [None, Interval(Real, 0, None, closed="neither")],
        "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
        "scoring": [None, str, callable],
        "max_time": [None, Interval(Real, 0, None, closed="neither")],
        "callbacks": ["array-like"],
        "n_threads": [None, Interval(Integral, 1, None, closed="left")],
    }

    @abstractmethod
    def __init__(
        self,
        *,
        hidden_layer_sizes: Any,
        activation: Any,
        solver: str,
        alpha: float,
        batch_size: Any,
        learning_rate: str,
        learning_rate_init: float,
        power_t: float,
        max_iter: int,
        shuffle: bool,
        random_state: Any,
        tol: float,
        verbose: Any,
        warm_start: bool,
        momentum: float,
        nesterovs_momentum: bool,
        early_stopping: bool,
        validation_fraction: float,
        beta_1: float,
        beta_2: float,
        epsilon: float,
        n_iter_no_change: float,
        max_fun: int,
        optimizer: Any,
        learning_rate_schedule: Any,
        weight_decay: float | None,
        max_grad_norm: float | None,
        dropout: Any,
        scoring: Any,
        max_time: float | None,
        callbacks: Any,
        n_threads: int | None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.optimizer = optimizer
        self.learning_rate_schedule = learning_rate_schedule
        self.weight_decay = weight_decay
        self.max_grad_norm = max_grad_norm
        self.dropout = dropout
        self.scoring = scoring
        self.max_time = max_time
        self.callbacks = callbacks
        self.n_threads = n_threads

    # --- what the two differ in ---------------------------------------------------------------------------------------------

    @abstractmethod
    def _validate(self, X: Any, y: Any, *, incremental: bool, reset: bool) -> tuple[Any, Any]:
        """Check samples and targets."""

    @abstractmethod
    def _look_at_targets(self, source: Source) -> Any:
        """Learn what there is to learn of the targets of a source; some of them."""

    def _targets_of(self, source: Source, piece: Piece) -> Array:
        """Targets of some rows of a source, as a person would give them."""
        return np.asarray(piece.y)

    @abstractmethod
    def _targets(self, y: Any, dtype: np.dtype[Any]) -> tuple[Array | None, Array | None]:
        """Targets (n, n_outputs) or class labels (n,) for the network."""

    @abstractmethod
    def _weights(self, y: Any, sample_weight: Array | None, *, incremental: bool) -> Array | None:
        """Weight of each sample."""

    def _weigh(self, source: Source) -> Weigh:
        """How rows of a source are weighted, which may take a pass over it."""
        return _as_given

    @abstractmethod
    def _imagined(self, n_outputs: int) -> Array:
        """Targets with so many outputs, and all that is remembered of them."""

    @abstractmethod
    def _n_outputs(self, y: Any) -> int:
        """Units of the last layer."""

    @abstractmethod
    def _loss_and_output(self) -> tuple[str | Loss, str, str]:
        """Loss, activation of the last layer, and what scikit-learn calls that."""

    @abstractmethod
    def _decide(self, outputs: Array) -> Array:
        """What ``predict`` returns for the network's outputs."""

    @abstractmethod
    def _score(self, y: Any, outputs: Array, sample_weight: Array | None) -> float:
        """What early stopping looks at unless ``scoring`` is given."""

    def _beside(self, data: Data) -> float:
        """What the summed loss has beside that of the network."""
        return 0.0

    def _given_targets(self, data: Data) -> Array:
        """Targets as a person would give them."""
        assert data.y is not None
        return self._decide(data.y)

    # --- fit ----------------------------------------------------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> Self:
        """Fit the model to data.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or a source of :mod:`fastmlp.data`
            The input data. A source brings its targets and weights, and need not fit into memory.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Class labels, or target values; None for a source.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each sample counts; a sample of weight 2 is one that is there twice.
        X_val, y_val, sample_weight_val : array-like, default=None
            Validation data; in the place of a part of X where ``early_stopping`` is on. X_val may be a source, too, whose rows are
            held in memory.
        buffer_bytes : int, default=256 MiB
            Memory for rows of a source; see :meth:`fastmlp.MLP.fit`. L-BFGS reads them again for each evaluation where they do not
            fit.

        Returns
        -------
        self : object
        """
        source = _source_in(X, y, sample_weight, "")
        if source is not None:
            return self._fit_source(source, (X_val, y_val, sample_weight_val), check_count(buffer_bytes, "buffer_bytes"))
        return self._fit(X, y, sample_weight, (X_val, y_val, sample_weight_val), epochs=None)

    @contextmanager
    def _as_it_was_on_error(self) -> Iterator[None]:
        """Until the training begins: what is refused changes nothing."""
        before = self.__dict__.copy()
        try:
            yield
        except BaseException:
            self.__dict__ = before
            raise

    def _fit(self, X: Any, y: Any, sample_weight: Any, validation: tuple[Any, Any, Any], epochs: int | None) -> Self:
        """``epochs``: how many of them go on from the last call; None to fit until the end."""
        _check_validation(*validation)
        incremental = epochs is not None
        held_out: Samples | None
        with self._as_it_was_on_error():
            hidden = self._hidden_sizes()
            first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
            X, y = self._validate(X, y, incremental=incremental, reset=first)
            if sample_weight is not None:
                sample_weight = _check_sample_weight(sample_weight, X)
            if first:
                self._begin([X.shape[1], *hidden, self._n_outputs(y)], X.dtype)
            else:
                self._go_on_from(hidden)
            weight = self._weights(y, sample_weight, incremental=incremental)
            if self._uses_lbfgs:
                train, held_out = self._samples(X, y, weight), self._held_out(*validation)
            else:
                train, held_out = self._split(X, y, weight, validation)
        if self._uses_lbfgs:
            self._fit_lbfgs(InMemory(train.data, self.shuffle), (X, y), held_out)
        else:
            self._fit_epochs(InMemory(train.data, self.shuffle, self._beside), (train.x, train.y), held_out, epochs)
        return self._checked()

    @property
    def _uses_lbfgs(self) -> bool:
        return self.solver == "lbfgs" and self.optimizer is None

    def _fit_source(self, source: Source, validation: tuple[Any, Any, Any], buffer_bytes: int) -> Self:
        """Fit to rows that need not fit into memory."""
        _check_validation(*validation)
        if self.early_stopping and validation[0] is None and not self._uses_lbfgs:
            raise ValueError(
                "early_stopping on a source needs validation rows: fit(source, X_val=..., y_val=...), or another source as X_val."
            )
        with self._as_it_was_on_error():
            hidden = self._hidden_sizes()
            y = self._look_at_targets(source)
            if not hasattr(self, "coefs_") or not self.warm_start:
                self.n_features_in_ = source.n_features
                if hasattr(self, "feature_names_in_"):
                    del self.feature_names_in_
                dtype = np.dtype(np.float32 if source.dtype == np.float32 else np.float64)
                self._begin([source.n_features, *hidden, self._n_outputs(y)], dtype)
            else:
                self._go_on_from(hidden)
            feed = self._open(source, "X", self._weigh(source), buffer_bytes)
            held_out = self._held_out(*validation)
        if self._uses_lbfgs:
            self._fit_lbfgs(feed, (None, None), held_out)
        else:
            self._fit_epochs(feed, (None, None), held_out, None)
        return self._checked()

    def _open(self, source: Source, argument: str, weigh: Weigh, buffer_bytes: int) -> Feed:
        return open_feed(
            source, lambda piece: self._data_of(source, argument, piece, weigh), shuffle=self.shuffle, beside=self._beside,
            batch_size=BATCH_SIZE if self.batch_size == "auto" else self.batch_size, buffer_bytes=buffer_bytes,
        )  # fmt: skip

    def _data_of(self, source: Source, argument: str, piece: Piece, weigh: Weigh) -> Data:
        """Rows of a source as the network takes them."""
        y = self._targets_of(source, piece)
        weight = weigh(y, piece.weight)
        network = self._network
        targets, labels = self._targets(y, network.dtype)
        if targets is not None:
            check_finite(targets, "y")
            check_target_columns(targets, network.sizes[-1])
        rows = check_x(piece.x, network.sizes[0], network.dtype, argument)
        if len(y) != len(rows):
            raise ValueError(f"y has {len(y)} rows, but {argument} has {len(rows)}; each sample needs one.")
        return Data(rows, targets, labels, None if weight is None else check_weight(weight, len(rows), network.dtype, part=True))

    def _checked(self) -> Self:
        if not all(np.isfinite(array).all() for array in [*self.coefs_, *self.intercepts_]):
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed."
            )
        return self

    def _hidden_sizes(self) -> list[int]:
        sizes = np.atleast_1d(np.asarray(self.hidden_layer_sizes, dtype=object)).tolist()
        if any(not isinstance(size, Integral) or isinstance(size, bool) or size <= 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, and whole numbers, got {sizes}.")
        return [int(size) for size in sizes]

    @_fit_context(prefer_skip_nested_validation=True)
    def build(self, n_features: int, n_outputs: int, *, dtype: Any = "float64") -> Self:
        """Make the network before there is any data: with initial weights, to look at, to set, to ``partial_fit``.

        Parameters
        ----------
        n_features : int
        n_outputs : int
            Target values of a regressor; classes of a classifier, which are then 0, 1, ...
        dtype : {"float32", "float64"}, default="float64"

        Returns
        -------
        self : object
        """
        n_features, n_outputs = check_count(n_features, "n_features"), check_count(n_outputs, "n_outputs")
        self.n_features_in_ = n_features
        if hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        units = self._n_outputs(self._imagined(n_outputs))
        self._begin([n_features, *self._hidden_sizes(), units], check_dtype(dtype))
        return self

    def _begin(self, sizes: list[int], dtype: np.dtype[Any]) -> None:
        """New weights and an empty history."""
        random_state = check_random_state(self.random_state)
        self.n_iter_, self.t_ = 0, 0
        self.n_layers_, self.n_outputs_ = len(sizes), sizes[-1]
        self.out_activation_ = self._loss_and_output()[2]
        coefs, intercepts = [], []
        hidden = self._layer_activations(len(sizes) - 1)[:-1]
        # The last layer's are drawn as the hidden layer's before it, whatever its own activation is.
        for fan_in, fan_out, activation in zip(sizes, sizes[1:], [*hidden, *(hidden or [self.activation])[-1:]], strict=False):
            # Glorot and Bengio (2010), equation 16; the slope of the logistic function asks for less.
            is_logistic = getattr(activation, "name", activation) in ("logistic", "sigmoid")
            bound = math.sqrt((2.0 if is_logistic else 6.0) / (fan_in + fan_out))
            coefs.append(random_state.uniform(-bound, bound, (fan_in, fan_out)).astype(dtype))
            intercepts.append(random_state.uniform(-bound, bound, fan_out).astype(dtype))
        self._adopt(coefs, intercepts)
        self._split_random_state = random_state  # of each call: rows to look at are never rows to train on, in the same data
        # A copy: the split of validation rows, which comes next from the original, is then that of scikit-learn.
        self._generator = np.random.default_rng(deepcopy(random_state).randint(np.iinfo(np.int32).max))
        self._optimizer_state: dict[str, Any] = {}
        self.loss_curve_: list[float] = []
        self.validation_scores_: list[float] | None = [] if self.early_stopping else None
        self.validation_loss_curve_: list[float] = []
        self.best_validation_score_ = -np.inf if self.early_stopping else None
        self.best_loss_ = None if self.early_stopping else np.inf
        self._no_improvement_count = 0
        self._best_theta = self._network.theta
        self._last_theta: Array | None = None
        self.reading_: Reading | None = None

    def _layer_activations(self, n_layers: int) -> list[str | Activation]:
        """An activation for each layer of weights; the last is the loss's."""
        given = self.activation
        hidden = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given] * (n_layers - 1)
        if len(hidden) != n_layers - 1:
            raise ValueError(
                f"activation must be one name, or one for each of the {n_layers - 1} hidden layers, got {len(hidden)}: {given!r}."
            )
        for one in hidden:
            if getattr(one, "name", one) == "softmax":
                raise ValueError(
                    "activation is of the hidden layers, for which there is no softmax; a classifier's outputs have it."
                )
        return [*hidden, self._loss_and_output()[1]]

    def _go_on_from(self, hidden: list[int]) -> None:
        """Use the weights that are there, with the activations and the loss that the parameters say now."""
        network = self._network
        if [*network.sizes[1:-1]] != hidden:
            raise ValueError(
                f"hidden_layer_sizes is {hidden}, but the network to go on with has {[*network.sizes[1:-1]]}; its sizes cannot be "
                "changed: set them as they were, or begin anew, with warm_start=False or a clone."
            )
        loss, activations = self._architecture(len(hidden) + 1)
        has_other_loss = loss != network._loss
        if has_other_loss or activations != list(network._activations):
            coefs, intercepts = self._weights_now()
            self._adopt(coefs, intercepts, loss, activations)
            self.out_activation_ = self._loss_and_output()[2]
        if has_other_loss:  # what was best by the one says nothing about the other
            self._no_improvement_count = 0
            self.best_loss_ = None if self.best_loss_ is None else np.inf
        if self.early_stopping and self.validation_scores_ is None:
            self.validation_scores_, self.best_validation_score_, self.best_loss_ = [], -np.inf, None
            self._best_theta, self._no_improvement_count = self._synchronized().theta, 0
        elif not self.early_stopping and self.best_loss_ is None:
            self.best_loss_, self.best_validation_score_, self.validation_scores_ = np.inf, None, None
            self._no_improvement_count = 0

    def _architecture(self, n_layers: int) -> tuple[Loss, list[Activation]]:
        """Loss and activations, by the parameters."""
        return LOSSES.find(self._loss_and_output()[0], "loss"), list(check_activations(self._layer_activations(n_layers), n_layers))

    def _adopt(
        self, coefs: Sequence[Array], intercepts: Sequence[Array], loss: Loss | None = None, activations: Any = None
    ) -> None:
        """Make a network of weights and biases, whose arrays are then ``coefs_`` and ``intercepts_``."""
        sizes = (coefs[0].shape[0], *(coef.shape[1] for coef in coefs))
        if loss is None:
            loss, activations = self._architecture(len(coefs))
        network = MLP(sizes, activations, loss, dtype=coefs[0].dtype, random_state=0, n_threads=self.n_threads)
        network.w, network.b = coefs, [intercept.reshape(1, -1) for intercept in intercepts]
        self._network = network
        self.coefs_, self.intercepts_ = list(network.w), [array[0] for array in network.b]
        self._own_intercepts = self.intercepts_.copy()

    def _weights_now(self) -> tuple[list[Array], list[Array]]:
        """Copies of weights and biases."""
        network = self._synchronized()
        return [coef.copy() for coef in network.w], [intercept[0].copy() for intercept in network.b]

    def _synchronized(self) -> MLP:
        """The network, with what a person may have put into ``coefs_`` and ``intercepts_``."""
        network = self._network
        network.n_threads = self.n_threads
        # Copies, in case they are the network's own in other places.
        coefs = [(layer, np.array(one)) for layer, one in enumerate(self.coefs_) if one is not network.w[layer]]
        own = self._own_intercepts
        intercepts = [(layer, np.array(one)) for layer, one in enumerate(self.intercepts_) if one is not own[layer]]
        for layer, array in coefs:
            network.w[layer] = array
        for layer, array in intercepts:
            network.b[layer] = array.reshape(1, -1)
        return network

    def _synchronized_to_train(self) -> MLP:
        """The same; ``coefs_`` and ``intercepts_`` are the network's own from now on, or they would undo what is learned."""
        network = self._synchronized()
        self.coefs_, self.intercepts_ = list(network.w), self._own_intercepts.copy()
        return network

    def _samples(self, X: Any, y: Any, weight: Array | None) -> Samples:
        """Data of the network's dtype."""
        network = self._network
        targets, labels = self._targets(y, network.dtype)
        if targets is not None:
            check_finite(targets, "y")
            check_target_columns(targets, network.sizes[-1])
        checked = None if weight is None else check_weight(weight, X.shape[0], network.dtype)
        return Samples(X, y, Data(check_x(X, network.sizes[0], network.dtype, "X"), targets, labels, checked))

    def _split(self, X: Any, y: Any, weight: Array | None, validation: tuple[Any, Any, Any]) -> tuple[Samples, Samples | None]:
        """Rows to train on, and rows to look at after each epoch."""
        X_val, y_val, weight_val = validation
        if X_val is not None:
            return self._samples(X, y, weight), self._held_out(*validation)
        if self.early_stopping:
            stratify = y if is_classifier(self) and self.n_outputs_ == 1 else None
            arrays = [X, y] if weight is None else [X, y, weight]
            parts = train_test_split(
                *arrays, random_state=deepcopy(self._split_random_state), test_size=self.validation_fraction, stratify=stratify
            )
            X, X_val, y, y_val = parts[:4]
            if weight is not None:
                weight, weight_val = parts[4:]
            if X_val.shape[0] < 2:
                raise ValueError("The validation set is too small. Increase 'validation_fraction' or the size of your dataset.")
        train = self._samples(X, y, weight)
        return train, None if X_val is None else self._samples(X_val, y_val, weight_val)

    def _held_out(self, X_val: Any, y_val: Any, weight_val: Any) -> Samples | None:
        """A person's own validation rows."""
        if X_val is None:
            return None
        source = _source_in(X_val, y_val, weight_val, "_val")
        if source is not None:
            data = self._open(source, "X_val", _as_given, sys.maxsize).data
            return Samples(data.x, self._given_targets(data), data)
        if y_val is None:
            raise ValueError("X_val was given without y_val; both are needed for validation.")
        try:
            X_val, y_val = self._validate(X_val, y_val, incremental=True, reset=False)
        except ValueError as error:
            raise ValueError(f"X_val, y_val: {error}") from None
        return self._samples(X_val, y_val, None if weight_val is None else _check_sample_weight(weight_val, X_val))

    def _batch_size(self, rows: int) -> int:
        if self.batch_size == "auto":
            return min(BATCH_SIZE, rows)
        if self.batch_size > rows:
            warnings.warn("Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=5)
        return int(min(self.batch_size, rows))

    def _recipe(self) -> Recipe:
        """Optimizer and penalties."""
        if self.optimizer is not None:
            optimizer = OPTIMIZERS.find(self.optimizer, "optimizer")
        elif self.solver == "adam":
            optimizer = solvers.adam(self.beta_1, self.beta_2, self.epsilon)
        else:
            optimizer = solvers.sgd(self.momentum, self.nesterovs_momentum)
        return Recipe(
            optimizer,
            optimizer.weight_decay if self.weight_decay is None else self.weight_decay,
            self.alpha,
            self.max_grad_norm or 0.0,
            l2_by_weight=True,
            loss_scale=self._loss_scale(),
            dropout=check_dropout(self.dropout, self.n_layers_ - 2),
        )

    def _loss_scale(self) -> float:
        return 1.0

    def _penalty(self) -> float:
        """alpha / 2 * sum of squared weights."""
        return 0.5 * self.alpha * float(sum(np.vdot(coef, coef) for coef in self._network.w))

    def _fit_epochs(self, feed: Feed, given: tuple[Any, Any], held_out: Samples | None, epochs: int | None) -> None:
        """``given``: samples and targets, where they are in memory."""
        batch_size = self._batch_size(feed.rows)
        network = self._synchronized_to_train()
        if self.early_stopping:
            if not np.array_equal(network.theta, self._best_theta):  # a person has set others
                self._best_theta, self.best_validation_score_ = network.theta, -np.inf
            elif epochs is not None and self._last_theta is not None:
                network.theta = self._last_theta  # with which the optimizer's state goes together
        listeners, theirs = self._listeners()
        self.reading_ = feed.reading
        run = Run(network, feed.rows, self.max_iter if epochs is None else epochs, reading=feed.reading)
        good = network._buffer.copy()
        tasks = Tasks(self, theirs, run.epochs, *given, feed.data.weight)
        try:
            listeners.on_train_begin(run)
            self._epochs(feed, held_out, batch_size, run, listeners, tasks, good, epochs)
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=4)
        finally:
            listeners.on_train_end(run)
        if self.early_stopping:
            self._last_theta = None if epochs is None else network.theta  # after fit, what goes on is what it has found
            network.theta = self._best_theta
        tasks.fit_ends()

    def _listeners(self) -> tuple[Callbacks, list[Any]]:
        """Our callbacks, and those that follow scikit-learn's protocol."""
        theirs = of_scikit_learn(self.callbacks)
        ours = [one for one in self.callbacks if one not in theirs]
        return Callbacks.of([*ours, *([] if self.max_time is None else [TimeLimit(self.max_time)])], verbose=False), theirs

    def _epochs(
        self,
        feed: Feed,
        held_out: Samples | None,
        batch_size: int,
        run: Run,
        listeners: Callbacks,
        tasks: Tasks,
        good: Array,
        epochs: int | None,
    ) -> None:
        network, recipe = self._network, self._recipe()
        steps = -(-feed.rows // batch_size)
        state = self._optimizer_state
        kind = self.learning_rate if recipe.optimizer.name in ("sgd", "momentum", "nesterov") else "constant"
        rate_of = [self.learning_rate_init, kind, recipe.optimizer.name]
        goes_on = epochs is not None and state.get("rate_of") == rate_of
        rate = solvers.LearningRate(self.learning_rate_init, kind, self.power_t, state["rate"] if goes_on else math.nan)
        schedule = SCHEDULES.find(self.learning_rate_schedule, "learning_rate_schedule")
        in_memory = isinstance(feed, InMemory)
        self.n_iter_ = 0
        with feed, network._trainer(feed.data, batch_size, recipe) as trainer:
            if state.get("optimizer") == recipe.optimizer.name:
                trainer.load_state(state["steps"], state["arrays"])
            # The schedule is that of all calls of partial_fit together, or of this fit.
            begun = 0 if epochs is not None else trainer.steps
            try:
                for _ in range(run.epochs):
                    run.epoch, run.rows_done = run.epoch + 1, 0
                    made = trainer.steps - begun
                    rates = scheduled(rate.now, schedule, made, steps, max(made + steps, self.max_iter * steps))
                    penalty = self._penalty()
                    tasks.epoch_begins()
                    for done in feed.epoch(trainer, rates, recipe.dropout, self._generator, last=run.epoch == run.epochs):
                        network._check_totals(done, good, run.epoch, run.epochs, rate.now)
                        run.rows_done = done.rows
                        run.loss = done.loss_sum / done.weight_sum if done.weight_sum else math.nan
                        listeners.on_rows(run)
                    self.n_iter_ += 1
                    self.t_ += feed.rows
                    weight = network._weight(feed.data) if in_memory else done.weight_sum
                    # The penalty is that of a typical step, between the epoch's first and last.
                    penalty = (penalty + self._penalty()) / 2 * steps / weight
                    self.loss_ = (recipe.loss_scale * done.loss_sum + feed.beside) / done.weight_sum + penalty
                    self.loss_curve_.append(self.loss_)
                    if self.verbose:
                        print(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
                    self._look_at(held_out)
                    run.epochs_done = run.epoch
                    listeners.on_epoch_end(run)
                    run.stop = tasks.epoch_ends() or run.stop
                    before = rate.now
                    rate.after_epoch(self.t_)
                    if not self._goes_on(rate) or run.stop:
                        break
                    if rate.now != before and recipe.optimizer.n_states:
                        trainer.scale_state(before / rate.now)  # their velocity has the rate in it
                    if epochs is None and self.n_iter_ == self.max_iter:
                        warnings.warn(
                            f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization hasn't "
                            "converged yet.", ConvergenceWarning, stacklevel=6,
                        )  # fmt: skip
            finally:
                self._optimizer_state = {
                    "optimizer": recipe.optimizer.name, "steps": trainer.steps, "arrays": trainer.state(), "rate": rate.now,
                    "rate_of": rate_of,
                }  # fmt: skip

    def _look_at(self, held_out: Samples | None) -> None:
        """Keep account of improvement, by validation data or by the training loss."""
        if held_out is not None:
            outputs = self._network._outputs(held_out.data.x)
            self.validation_loss_curve_.append(self._held_out_loss(held_out.data))
        if not self.early_stopping:
            assert self.best_loss_ is not None
            self._no_improvement_count = self._no_improvement_count + 1 if self.loss_ > self.best_loss_ - self.tol else 0
            self.best_loss_ = min(self.best_loss_, self.loss_)
            return
        assert held_out is not None
        assert self.validation_scores_ is not None
        assert self.best_validation_score_ is not None
        score = self._score_by_scoring(held_out) if self.scoring else self._score(held_out.y, outputs, held_out.data.weight)
        if not math.isfinite(score):
            raise ValueError(
                f"The validation score is {score} after epoch {self.n_iter_}: it cannot be computed from these "
                f"{held_out.data.rows} validation rows; give others (X_val, validation_fraction), or another scoring."
            )
        self.validation_scores_.append(score)
        if self.verbose:
            print(f"Validation score: {score:f}")
        self._no_improvement_count = self._no_improvement_count + 1 if score < self.best_validation_score_ + self.tol else 0
        if score > self.best_validation_score_:
            self.best_validation_score_ = score
            self._best_theta = self._network.theta

    def _score_by_scoring(self, held_out: Samples) -> float:
        weight = held_out.data.weight
        weighted = {} if weight is None else {"sample_weight": weight}
        scorer = check_scoring(self, self.scoring)
        self._checked_rows = held_out.x  # whose names of columns have been compared
        try:
            return float(scorer(self, held_out.x, held_out.y, **weighted))
        except TypeError as error:
            if not weighted or "sample_weight" not in str(error):
                raise
            raise ValueError(
                f"scoring={self.scoring!r} takes no sample weights, but the validation rows have some; give another scoring, or "
                "X_val and y_val without weights."
            ) from None
        finally:
            del self._checked_rows

    def _held_out_loss(self, data: Data) -> float:
        network = self._network
        total, _ = network._sums(network._buffer, data, gradient=False)
        return (self._loss_scale() * total + self._beside(data)) / network._weight(data)

    def _goes_on(self, rate: solvers.LearningRate) -> bool:
        """Whether there is still hope."""
        if self._no_improvement_count <= self.n_iter_no_change:
            return True
        what = "Validation score" if self.early_stopping else "Training loss"
        message = f"{what} did not improve more than tol={self.tol:f} for {self.n_iter_no_change} consecutive epochs."
        if rate.falls():
            if self.verbose:
                print(f"{message} Setting learning rate to {rate.now:f}")
            self._no_improvement_count = 0
            return True
        if self.verbose:
            print(f"{message} Learning rate too small. Stopping." if rate.kind == "adaptive" else f"{message} Stopping.")
        return False

    def _fit_lbfgs(self, feed: Feed, given: tuple[Any, Any], held_out: Samples | None) -> None:
        """SciPy's L-BFGS-B over the sum of the loss and the penalty; ``given``: samples and targets, where they are in memory."""
        from scipy.optimize import minimize

        network = self._synchronized_to_train()
        for name, is_given in (
            ("dropout", np.any(self.dropout)), ("weight_decay", self.weight_decay), ("max_grad_norm", self.max_grad_norm),
            ("learning_rate_schedule", self.learning_rate_schedule != "constant"),
        ):  # fmt: skip
            if is_given:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} needs solver='adam', solver='sgd' or an optimizer; L-BFGS has no use for it."
                )
        listeners, theirs = self._listeners()
        run = Run(network, feed.rows, self.max_iter)
        tasks = Tasks(self, theirs, self.max_iter, *given, feed.data.weight)
        scale = self._loss_scale()
        weight, beside = np.sum([(network._weight(data), self._beside(data)) for data in feed.parts()], axis=0).tolist()
        is_coef = np.concatenate([
            np.full(array.size, array is coef)
            for coef, intercept in zip(network.w, network.b, strict=True) for array in (coef, intercept)
        ])  # fmt: skip
        layout = network._layout()

        def move_to(theta: Array) -> None:
            with np.errstate(over="ignore"):  # infinite parameters have no finite loss, and are not kept
                network.theta = theta

        def objective(theta: Array) -> tuple[float, Array]:
            move_to(theta)
            total, flat = 0.0, np.zeros(theta.shape)
            for data in feed.parts():
                loss_sum, gradient = network._sums(network._buffer, data, gradient=True)
                total += loss_sum
                flat += network_gradient(gradient)
            penalized = theta * is_coef
            value = (scale * total + beside + 0.5 * self.alpha * float(penalized @ penalized)) / weight
            return value, (scale * flat + self.alpha * penalized) / weight

        def network_gradient(gradient: Any) -> Array:
            from fastmlp.parameters import pack

            return pack(*layout.views(gradient)).astype(np.float64)

        def after(intermediate_result: Any) -> None:
            self.loss_curve_.append(float(intermediate_result.fun))
            if self.verbose:
                print(f"Iteration {len(self.loss_curve_)}, loss = {intermediate_result.fun:.8f}")
            best[:] = intermediate_result.x
            move_to(best)
            run.epoch = run.epochs_done = run.epoch + 1
            run.rows_done, run.loss = feed.rows, self.loss_curve_[-1]
            if held_out is not None:
                self.validation_loss_curve_.append(self._held_out_loss(held_out.data))
            tasks.epoch_begins()
            listeners.on_epoch_end(run)
            run.stop = tasks.epoch_ends() or run.stop
            if run.stop:
                raise StopIteration

        best = network.theta.astype(np.float64)
        try:
            listeners.on_train_begin(run)
            found = minimize(
                objective, best.copy(), method="L-BFGS-B", jac=True, callback=after,
                options={"maxfun": self.max_fun, "maxiter": self.max_iter, "gtol": self.tol},
            )  # fmt: skip
            move_to(found.x)
            self.n_iter_, self.loss_ = min(int(found.nit), self.max_iter), float(found.fun)
            self.best_loss_ = None if self.best_loss_ is None else min(self.best_loss_, self.loss_)
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=4)
            network.theta = best
            self.n_iter_, self.loss_ = run.epochs_done, run.loss
            tasks.fit_ends()
            return
        finally:
            listeners.on_train_end(run)
        if not math.isfinite(self.loss_):
            raise ValueError(
                f"The loss is {self.loss_} after {self.n_iter_} iterations: features or targets are too large; scale them first."
            )
        if found.status != 0 and not run.stop:
            warnings.warn(
                f"lbfgs failed to converge after {found.nit} iteration(s) (status={found.status}):\n{found.message}\n\n"
                "You might also want to scale the data as shown in:\n"
                "    https://scikit-learn.org/stable/modules/preprocessing.html",
                ConvergenceWarning, stacklevel=4,
            )  # fmt: skip
        tasks.fit_ends()

    def _can_go_on(self) -> bool:
        if self.solver == "lbfgs" and self.optimizer is None:
            raise AttributeError(f"partial_fit is only available for stochastic optimizers. {self.solver} is not stochastic.")
        return True

    # --- use ----------------------------------------------------------------------------------------------------------------

    def _raw(self, X: Any) -> Array:
        """The network's outputs."""
        check_is_fitted(self)
        if isinstance(X, Source):
            raise TypeError(f"Predictions are made of arrays and tables, got {X!r}; give the X of its rows, some at a time.")
        if X is not self._checked_rows:
            X = validate_data(self, X, accept_sparse=["csr", "csc", "coo"], dtype=(np.float64, np.float32), reset=False)
        return self._synchronized().predict(X)

    def predict(self, X: Any) -> Array:
        """Predict.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
        """
        return self._decide(self._raw(X))

    def transform(self, X: Any, layer: int = -1) -> Array:
        """Activations of a hidden layer, as features for another model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        layer : int, default=-1
            Number of the hidden layer, from 0, or from -1 for the last.

        Returns
        -------
        ndarray of shape (n_samples, hidden_layer_sizes[layer])
        """
        check_is_fitted(self)
        n_hidden = self.n_layers_ - 2
        if n_hidden == 0:
            raise ValueError("transform returns what a hidden layer makes of X, but this network has none.")
        if not isinstance(layer, Integral) or isinstance(layer, bool) or not -n_hidden <= layer < n_hidden:
            raise ValueError(f"layer must be from {-n_hidden} to {n_hidden - 1}, one of the hidden layers, got {layer!r}.")
        output = getattr(self, "_sklearn_output_config", {}).get("transform", get_config()["transform_output"])
        if output != "default" and layer % n_hidden != n_hidden - 1:
            raise ValueError(
                f"transform gives a table of {output} with the names of get_feature_names_out, which are those of the last hidden "
                f"layer; for layer={layer}, ask for an array first: set_output(transform='default')."
            )
        X = validate_data(self, X, accept_sparse=["csr", "csc", "coo"], dtype=(np.float64, np.float32), reset=False)
        whole = self._synchronized()
        depth = layer % n_hidden + 1
        part = MLP(
            whole.sizes[: depth + 1], whole._activations[:depth], dtype=whole.dtype, random_state=0, n_threads=self.n_threads
        )
        part.w, part.b = whole.w[:depth], whole.b[:depth]
        return part.predict(X)

    # --- scikit-learn's protocols -------------------------------------------------------------------------------------------

    @property
    def _n_features_out(self) -> int:
        return int(self.coefs_[-2].shape[1])

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(super().__getstate__())
        network = state.pop("_network", None)
        if network is not None:
            state["coefs_"], state["intercepts_"] = self._weights_now()
            state["_fitted_with"] = network._loss, list(network._activations)  # parameters may have been set since
            del state["_own_intercepts"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "coefs_" in state:
            self._adopt(self.coefs_, self.intercepts_, *self.__dict__.pop("_fitted_with", ()))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
