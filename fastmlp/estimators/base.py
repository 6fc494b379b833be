"""What the two estimators share: a network that is made, fitted and used by the conventions of scikit-learn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, _fit_context
from sklearn.metrics import check_scoring
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from fastmlp.activations import Activation
from fastmlp.data.sources import Piece, Source
from fastmlp.estimators import early_stopping, validation_set
from fastmlp.estimators.callbacks import CallbackSupportMixin, FitCallbacks
from fastmlp.estimators.hyperparameters import PARAMETER_CONSTRAINTS, check_hidden_activations, check_hidden_layer_sizes
from fastmlp.estimators.initialization import initial_weights
from fastmlp.estimators.lbfgs import check_parameters, fit_lbfgs
from fastmlp.estimators.samples import Samples, Weighting, as_given, open_source, source_of
from fastmlp.estimators.solvers import recipe_of
from fastmlp.estimators.stochastic import fit_stochastic
from fastmlp.estimators.warm_start import Beginning, follow_parameters, unchanged_on_error
from fastmlp.feed import BUFFER_BYTES, Feed, InMemory, Reading
from fastmlp.losses import LOSSES, Loss
from fastmlp.mlp import MLP
from fastmlp.validation import FEW, Data, check_activations, check_count, check_dtype, is_finite

Array = np.ndarray[Any, np.dtype[Any]]

_NO_WEIGHTS: dict[str, Any] = {"random_state": 0, "initializer": "zeros"}
"""For networks that are given weights at once: to draw others takes longer than many a prediction."""


class MLPBase(CallbackSupportMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator, ABC):
    """Base of the estimators; see :class:`MLPClassifier` and :class:`MLPRegressor`."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = PARAMETER_CONSTRAINTS

    # Early stopping keeps account of these.
    validation_scores_: list[float] | None
    best_validation_score_: float | None
    best_loss_: float | None
    _scored_by: Any = None  # the ``scoring`` that best_validation_score_ is of
    _no_improvement_count: int
    _checked_rows: Any = None  # what the scorer is given

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
    def _learn_targets(self, source: Source) -> Any:
        """Learn what there is to learn of the targets of a source; some of them."""

    def _targets_of(self, source: Source, piece: Piece) -> Array:
        """Targets of some rows of a source, as a person would give them."""
        return np.asarray(piece.y)

    @abstractmethod
    def _targets(self, y: Any, dtype: np.dtype[Any]) -> tuple[Array | None, Array | None]:
        """Targets (n, n_outputs) or class labels (n,) for the network."""

    @abstractmethod
    def _sample_weights(self, y: Any, sample_weight: Array | None, *, incremental: bool) -> Array | None:
        """Weight of each sample."""

    def _weighting(self, source: Source) -> Weighting:
        """How rows of a source are weighted, which may take a pass over it."""
        return as_given

    @abstractmethod
    def _placeholder_targets(self, n_outputs: int) -> Array:
        """Targets with so many outputs, and all that is remembered of them."""

    @abstractmethod
    def _n_outputs(self, y: Any) -> int:
        """Units of the last layer."""

    @abstractmethod
    def _loss_and_output(self) -> tuple[str | Loss, str, str]:
        """Loss, activation of the last layer, and what scikit-learn calls that."""

    @abstractmethod
    def _predictions(self, outputs: Array) -> Array:
        """What ``predict`` returns for the network's outputs."""

    @abstractmethod
    def _score(self, y: Any, outputs: Array, sample_weight: Array | None) -> float:
        """What early stopping looks at unless ``scoring`` is given."""

    def _loss_scale(self) -> float:
        """What the network's loss is multiplied by."""
        return 1.0

    def _loss_offset(self, data: Data) -> float:
        """What is added to the network's summed loss of some rows for the one that is reported: a constant of their targets."""
        return 0.0

    def _given_targets(self, data: Data) -> Array:
        """Targets as a person would give them."""
        assert data.y is not None
        return self._predictions(data.y)

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
        source = source_of(X, y, sample_weight, "")
        if source is not None:
            return self._fit_source(source, (X_val, y_val, sample_weight_val), check_count(buffer_bytes, "buffer_bytes"))
        return self._fit(X, y, sample_weight, (X_val, y_val, sample_weight_val), epochs=None)

    def _fit(self, X: Any, y: Any, sample_weight: Any, validation: validation_set.Given, epochs: int | None) -> Self:
        """``epochs``: how many of them go on from the last call; None to fit until the end."""
        validation_set.check_complete(*validation)
        incremental = epochs is not None
        with unchanged_on_error(self) as beginning:
            hidden_sizes = check_hidden_layer_sizes(self.hidden_layer_sizes)
            anew = self._begins_anew(incremental=incremental)
            X, y = self._validate(X, y, incremental=incremental, reset=anew)
            if sample_weight is not None:
                sample_weight = _check_sample_weight(sample_weight, X)
            if anew:
                self._begin([X.shape[1], *hidden_sizes, self._n_outputs(y)], X.dtype)
            else:
                follow_parameters(self, hidden_sizes)
            self._check_training()
            weight = self._sample_weights(y, sample_weight, incremental=incremental)
            if weight is not None and weight is not sample_weight and not weight.any():
                raise ValueError(
                    "All rows have the weight 0, by their class_weight or together with sample_weight; leave out such a call, or "
                    "give some rows of other classes."
                )
            train, held_out = validation_set.split(self, X, y, weight, validation, holds_out=self._stops_early)
            feed = InMemory(train.data, self.shuffle, self._loss_offset)
            return self._train(feed, (train.x, train.y), held_out, epochs, beginning)

    def _fit_source(self, source: Source, validation: validation_set.Given, buffer_bytes: int) -> Self:
        """Fit to rows that need not fit into memory."""
        validation_set.check_complete(*validation)
        if self._stops_early and validation[0] is None:
            raise ValueError(
                "early_stopping on a source needs validation rows: fit(source, X_val=..., y_val=...), or another source as X_val."
            )
        with unchanged_on_error(self) as beginning:
            hidden_sizes = check_hidden_layer_sizes(self.hidden_layer_sizes)
            y = self._learn_targets(source)
            if self._begins_anew(incremental=False):
                self._set_n_features(source.n_features, source.feature_names)
                dtype = np.dtype(np.float32 if source.dtype == np.float32 else np.float64)
                self._begin([source.n_features, *hidden_sizes, self._n_outputs(y)], dtype)
            else:
                self._check_feature_names_of(source)
                follow_parameters(self, hidden_sizes)
            self._check_training()
            feed = open_source(self, source, "X", self._weighting(source), buffer_bytes)
            held_out = validation_set.given_samples(self, *validation, train=source)
            return self._train(feed, (None, None), held_out, None, beginning)

    def _train(
        self, feed: Feed, in_memory: tuple[Any, Any], held_out: Samples | None, epochs: int | None, beginning: Beginning
    ) -> Self:
        """``in_memory``: samples and targets, or twice None for those of a source."""
        if self._uses_lbfgs:
            fit_lbfgs(self, feed, in_memory, held_out, beginning)
        else:
            fit_stochastic(self, feed, in_memory, held_out, epochs, beginning)
        if not all(np.isfinite(array).all() for array in [*self.coefs_, *self.intercepts_]):
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed."
            )
        return self

    def _begins_anew(self, *, incremental: bool) -> bool:
        return not hasattr(self, "coefs_") or not (self.warm_start or incremental)

    def _check_training(self) -> None:
        """Refuse what the training has no use for, while the estimator can still be left as it was."""
        if self._uses_lbfgs:
            check_parameters(self)
        else:
            recipe_of(self)
        FitCallbacks(self)
        if self._stops_early and self.scoring:
            check_scoring(self, self.scoring)

    @property
    def _uses_lbfgs(self) -> bool:
        return self.solver == "lbfgs" and self.optimizer is None

    @property
    def _stops_early(self) -> bool:
        """Whether validation rows decide when to stop; L-BFGS does not ask them."""
        return self.early_stopping and not self._uses_lbfgs

    def _check_solver(self) -> bool:
        """Whether there is ``partial_fit``, for scikit-learn's ``available_if``."""
        if self._uses_lbfgs:
            raise AttributeError(f"partial_fit is only available for stochastic optimizers. {self.solver} is not stochastic.")
        return True

    # --- the network --------------------------------------------------------------------------------------------------------

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
        with unchanged_on_error(self):
            n_features, n_outputs = check_count(n_features, "n_features"), check_count(n_outputs, "n_outputs")
            self._set_n_features(n_features)
            units = self._n_outputs(self._placeholder_targets(n_outputs))
            self._begin([n_features, *check_hidden_layer_sizes(self.hidden_layer_sizes), units], check_dtype(dtype))
        return self

    def _set_n_features(self, n_features: int, names: list[str] | None = None) -> None:
        """So many features, with or without names."""
        self.n_features_in_ = n_features
        if names is not None:
            self.feature_names_in_ = np.array(names, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    def _check_feature_names_of(self, source: Source) -> None:
        """Refuse a source whose columns are not those of the last fit, in their order."""
        names, known = source.feature_names, getattr(self, "feature_names_in_", None)
        if names is not None and known is not None and names != known.tolist():
            raise ValueError(
                f"X has the columns {', '.join(names)}, but the last fit had {', '.join(known)}; give the same, in this order."
            )

    def _begin(self, sizes: list[int], dtype: np.dtype[Any]) -> None:
        """New weights and an empty history."""
        random_state = check_random_state(self.random_state)
        self.n_iter_, self.t_ = 0, 0
        self.n_layers_, self.n_outputs_ = len(sizes), sizes[-1]
        self.out_activation_ = self._loss_and_output()[2]
        hidden = check_hidden_activations(self.activation, len(sizes) - 2)
        # The last layer's are drawn as the hidden layer's before it, whatever its own activation is.
        drawn_as = [*hidden, *(hidden or [self.activation])[-1:]]
        self._adopt(*initial_weights(sizes, drawn_as, random_state, dtype))
        # Of each call: rows to look at are never rows to train on, in the same data. A copy, for others may draw from the original.
        split = self._split_random_state = deepcopy(random_state)
        # The first split of validation rows, which comes next, is that of scikit-learn: as if nothing had been drawn for the order.
        before = split.get_state(legacy=False)
        self._generator = np.random.default_rng(split.randint(np.iinfo(np.int32).max))
        split.set_state(before)
        self._optimizer_state: dict[str, Any] = {}
        self.loss_curve_: list[float] = []
        self.validation_loss_curve_: list[float] = []
        early_stopping.begin_to_count(self)
        self._best_theta: Array = self._network.theta
        self._last_theta: Array | None = None
        self.reading_: Reading | None = None

    def _architecture(self, n_layers: int) -> tuple[Loss, list[Activation]]:
        """Loss, and an activation for each layer of weights, by the parameters."""
        loss, output, _ = self._loss_and_output()
        activations = [*check_hidden_activations(self.activation, n_layers - 1), output]
        return LOSSES.find(loss, "loss"), list(check_activations(activations, n_layers))

    def _adopt(
        self, coefs: Sequence[Array], intercepts: Sequence[Array], loss: Loss | None = None, activations: Any = None
    ) -> None:
        """Make a network of weights and biases, whose arrays are then ``coefs_`` and ``intercepts_``."""
        sizes = (coefs[0].shape[0], *(coef.shape[1] for coef in coefs))
        if loss is None:
            loss, activations = self._architecture(len(coefs))
        network = MLP(sizes, activations, loss, dtype=coefs[0].dtype, n_threads=self.n_threads, **_NO_WEIGHTS)
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

    # --- use ----------------------------------------------------------------------------------------------------------------

    def _network_outputs(self, X: Any) -> Array:
        """The network's outputs."""
        if not hasattr(self, "coefs_"):
            check_is_fitted(self)  # says so; else it takes longer than many a prediction to find nothing
        if X is None or X is not self._checked_rows:
            X = self._checked_to_predict(X)
        return self._synchronized().predict(X)

    def _checked_to_predict(self, X: Any) -> Any:
        """Rows as scikit-learn checks them, which takes longer than a few rows do; these are looked at sooner where they can be."""
        if isinstance(X, Source):
            raise TypeError(f"Predictions are made of arrays and tables, got {X!r}; give the X of its rows, some at a time.")
        is_plain = (
            type(X) is np.ndarray
            and X.dtype in (np.float32, np.float64)
            and X.shape[1:] == (self.n_features_in_,)
            and 0 < X.size <= FEW
            and not hasattr(self, "feature_names_in_")
            and is_finite(X)
        )
        if is_plain:
            return X
        return validate_data(self, X, accept_sparse=["csr", "csc", "coo"], dtype=(np.float64, np.float32), reset=False)

    def predict(self, X: Any) -> Array:
        """Predict.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
        """
        return self._predictions(self._network_outputs(X))

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
        n_hidden = self._count_hidden()
        if not isinstance(layer, Integral) or isinstance(layer, bool) or not -n_hidden <= layer < n_hidden:
            raise ValueError(f"layer must be from {-n_hidden} to {n_hidden - 1}, one of the hidden layers, got {layer!r}.")
        output = getattr(self, "_sklearn_output_config", {}).get("transform", get_config()["transform_output"])
        if output != "default" and layer % n_hidden != n_hidden - 1:
            raise ValueError(
                f"transform gives a table of {output} with the names of get_feature_names_out, which are those of the last hidden "
                f"layer; for layer={layer}, ask for an array first: set_output(transform='default')."
            )
        X = self._checked_to_predict(X)
        whole = self._synchronized()
        depth = layer % n_hidden + 1
        part = MLP(whole.sizes[: depth + 1], whole._activations[:depth], dtype=whole.dtype, n_threads=self.n_threads, **_NO_WEIGHTS)
        part.w, part.b = whole.w[:depth], whole.b[:depth]
        return part.predict(X)

    def _count_hidden(self) -> int:
        """How many hidden layers there are for ``transform``."""
        n_hidden = self.n_layers_ - 2
        if n_hidden == 0:
            raise ValueError("transform returns what a hidden layer makes of X, but this network has none.")
        return n_hidden

    # --- scikit-learn's protocols -------------------------------------------------------------------------------------------

    @property
    def _n_features_out(self) -> int:
        return int(self.coefs_[self._count_hidden() - 1].shape[1])

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
