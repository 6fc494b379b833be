"""The classifier."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d, compute_class_weight, compute_sample_weight
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, check_classification_targets, type_of_target, unique_labels
from sklearn.utils.validation import validate_data

from fastmlp.data.sources import Piece, Source, labels_of
from fastmlp.estimators.base import MLPBase
from fastmlp.estimators.hyperparameters import with_shared_documentation
from fastmlp.estimators.samples import Weighting, check_in_memory
from fastmlp.losses import Loss
from fastmlp.validation import Data, check_count, check_real

Array = np.ndarray[Any, np.dtype[Any]]


@with_shared_documentation(score="the accuracy")
class MLPClassifier(ClassifierMixin, MLPBase):
    """Multi-layer perceptron classifier, scikit-learn's own in compiled kernels.

    It minimises the log-loss by stochastic gradient descent, Adam or L-BFGS. Parameters up to ``max_fun`` are those of
    :class:`sklearn.neural_network.MLPClassifier`, with the same defaults; those after it are keyword-only additions.

    Parameters
    ----------
    {parameters}
    class_weight : dict, list of dict or 'balanced', default=None
        Weights of the classes; a list where there are several labels, a dict for each. With 'balanced', all classes count
        alike, by the sample weights of their rows.
    label_smoothing : float, default=0.0
        Share of each target that is spread evenly over all classes.
    {added_parameters}

    Attributes
    ----------
    classes_ : ndarray or list of ndarray of shape (n_classes,)
        Class labels.
    {attributes}

    Examples
    --------
    >>> from fastmlp import MLPClassifier
    >>> from sklearn.datasets import make_classification
    >>> from sklearn.model_selection import train_test_split
    >>> X, y = make_classification(n_samples=100, random_state=1)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=1)
    >>> clf = MLPClassifier(random_state=1, max_iter=300).fit(X_train, y_train)
    >>> clf.predict(X_test[:5, :])
    array([1, 0, 1, 0, 1])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **MLPBase._parameter_constraints,
        "class_weight": [None, dict, list, StrOptions({"balanced"})],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
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
        class_weight: Any = None,
        label_smoothing: float = 0.0,
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
        self.class_weight = class_weight
        self.label_smoothing = label_smoothing

    # --- targets ------------------------------------------------------------------------------------------------------------

    def _validate(self, X: Any, y: Any, *, incremental: bool, reset: bool) -> tuple[Any, Any]:
        X, y = validate_data(
            self, X, y, accept_sparse=["csr", "csc", "coo"], multi_output=True, dtype=(np.float64, np.float32), reset=reset
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        elif y.ndim == 2 and type_of_target(y).startswith("multilabel"):
            y = (y != 0).astype(np.int64)  # a label is there by any number but 0, as scikit-learn has it
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
            return X, y
        is_multilabel = self._label_binarizer.y_type_.startswith("multilabel")
        if incremental and not is_multilabel and _are_known(y, self.classes_):
            return X, y
        kind = type_of_target(y)
        if kind.startswith("multilabel") != is_multilabel:
            known = "an indicator for each label" if is_multilabel else "one class for each sample"
            raise ValueError(f"y must be {known}, as in the first fit; got targets of the kind {kind!r}, with the shape {y.shape}.")
        classes = unique_labels(y)
        if self.warm_start and not incremental:
            if set(classes) != set(self.classes_):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                    f"Previously got {self.classes_}, `y` has {classes}"
                )
        elif len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
            raise ValueError(f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has {classes}.")
        return X, y

    def _learn_targets(self, source: Source) -> Any:
        classes = source.classes
        classes = np.sort(source.distinct_targets() if classes is None else classes)
        if hasattr(self, "classes_") and self.warm_start and not np.array_equal(classes, self.classes_):
            raise ValueError(f"warm_start needs the classes of the last fit, {self.classes_}; the source has {classes}.")
        check_classification_targets(classes)
        self._label_binarizer = LabelBinarizer().fit(classes)
        self.classes_ = self._label_binarizer.classes_
        return classes

    def _targets_of(self, source: Source, piece: Piece) -> Array:
        y: Array = np.asarray(piece.y)
        if source.classes is not None:
            y = source.classes[y]
            if np.array_equal(np.sort(source.classes), self.classes_):  # those of another source, of validation rows, may differ
                return y
        return np.asarray(self.classes_[labels_of(y, self.classes_, piece.where)])

    def _placeholder_targets(self, n_outputs: int) -> Array:
        if n_outputs < 2:
            raise ValueError(f"n_outputs must be at least 2 classes, got {n_outputs}.")
        y = np.arange(n_outputs)
        self._label_binarizer = LabelBinarizer().fit(y)
        self.classes_ = self._label_binarizer.classes_
        return y

    @property
    def _is_multiclass(self) -> bool:
        return bool(self._label_binarizer.y_type_ == "multiclass")

    def _n_outputs(self, y: Any) -> int:
        return len(self.classes_) if self._is_multiclass or self._label_binarizer.y_type_.startswith("multilabel") else 1

    def _loss_and_output(self) -> tuple[str | Loss, str, str]:
        if self._is_multiclass:
            return "cross_entropy", "softmax", "softmax"
        return "binary_cross_entropy", "sigmoid", "logistic"

    def _targets(self, y: Any, dtype: np.dtype[Any]) -> tuple[Array | None, Array | None]:
        is_multilabel = self._label_binarizer.y_type_.startswith("multilabel")
        if self.label_smoothing == 0 and not is_multilabel:
            return None, np.searchsorted(self.classes_, y).astype(np.int64)
        targets = np.ascontiguousarray(self._label_binarizer.transform(y), dtype=dtype)
        share = self.label_smoothing
        n_classes = len(self.classes_) if self._is_multiclass else 2
        return targets * dtype.type(1 - share) + dtype.type(share / n_classes), None

    def _sample_weights(self, y: Any, sample_weight: Array | None, *, incremental: bool) -> Array | None:
        if self.class_weight is None:
            return sample_weight
        self._check_class_weight()
        if incremental and self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' needs all rows at once; for partial_fit, compute the weights with "
                "sklearn.utils.compute_class_weight('balanced', classes=classes, y=y) and give them as a dict."
            )
        if y.ndim == 2:
            by_row = self._weights_by_labels(y, sample_weight)
            return by_row if sample_weight is None else by_row * sample_weight
        if self.class_weight == "balanced":
            return self._weighted(_balanced(self.classes_, [(y, sample_weight)]), y, sample_weight)
        return self._weighted(compute_class_weight(self.class_weight, classes=self.classes_, y=y), y, sample_weight)

    def _weights_by_labels(self, y: Any, sample_weight: Array | None) -> Array:
        """Weights of rows that have several labels: the product of those by each of them."""
        if self.class_weight != "balanced":
            return np.asarray(compute_sample_weight(self.class_weight, y))
        has_label = self._label_binarizer.transform(y)
        return np.asarray(np.prod([_balanced(np.arange(2), [(one, sample_weight)])[one] for one in has_label.T], axis=0))

    def _check_class_weight(self) -> None:
        given = self.class_weight
        is_multilabel = self._label_binarizer.y_type_.startswith("multilabel")
        if isinstance(given, list) and not (is_multilabel and all(isinstance(by_class, dict) for by_class in given)):
            raise ValueError(
                "class_weight must be a dict or 'balanced', or, where there are several labels, a list with a dict for each, got "
                f"{given!r}."
            )
        for by_class in (given,) if isinstance(given, dict) else given if isinstance(given, list) else ():
            for name, weight in by_class.items():
                check_real(weight, f"class_weight of {name!r}")

    def _weighted(self, by_class: Array, y: Array, sample_weight: Array | None) -> Array:
        """Weights of rows by the weights of their classes."""
        by_row: Array = by_class[np.searchsorted(self.classes_, y)]
        return by_row if sample_weight is None else by_row * sample_weight

    def _weighting(self, source: Source) -> Weighting:
        if self.class_weight is None:
            return super()._weighting(source)
        self._check_class_weight()
        if self.class_weight == "balanced":
            pieces = (piece for block in range(source.n_blocks) for piece in source.pieces(block))
            targets = ((self._targets_of(source, piece), piece.weight) for piece in pieces)
            return partial(self._weighted, _balanced(self.classes_, targets))
        return partial(self._weighted, compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_))

    # --- results ------------------------------------------------------------------------------------------------------------

    def _given_targets(self, data: Data) -> Array:
        return super()._given_targets(data) if data.labels is None else np.asarray(self.classes_[data.labels])

    def _predictions(self, outputs: Array) -> Array:
        if self._is_multiclass:
            return np.asarray(self.classes_[outputs.argmax(axis=1)])
        if self.n_outputs_ == 1:
            outputs = outputs.ravel()
        decided: Array = self._label_binarizer.inverse_transform(outputs)
        return decided

    def _score(self, y: Any, outputs: Array, sample_weight: Array | None) -> float:
        if not np.isfinite(outputs).all():
            return float("nan")
        decided = self._predictions(outputs)
        if isinstance(y, np.ndarray) and y.shape == decided.shape == (len(outputs),):
            return float(np.average(y == decided, weights=sample_weight))  # accuracy_score's checks take as long as ten epochs
        return float(accuracy_score(y, decided, sample_weight=sample_weight))

    def predict_proba(self, X: Any) -> Array:
        """Probability estimates.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        outputs = self._network_outputs(X)
        return np.hstack([1 - outputs, outputs]) if self.n_outputs_ == 1 else outputs

    def predict_log_proba(self, X: Any) -> Array:
        """Logarithms of the probability estimates.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        probabilities = self.predict_proba(X)
        with np.errstate(divide="ignore"):
            return np.log(probabilities, out=probabilities)

    @available_if(lambda self: self._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None, *,
        epochs: int = 1, X_val: Any = None, y_val: Any = None, sample_weight_val: Any = None,
    ) -> Self:  # fmt: skip
        """Go on training: ``epochs`` epochs over the given rows, with the optimizer, schedule and order of rows where they were.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
        sample_weight : array-like of shape (n_samples,), default=None
        classes : array of shape (n_classes,), default=None
            All classes that will ever come; needed at the first call.
        epochs : int, default=1
        X_val, y_val, sample_weight_val : array-like, default=None
            Validation data; see :meth:`fit`.

        Returns
        -------
        self : object
        """
        check_in_memory(X)
        before = self.__dict__.copy()
        try:
            if _check_partial_fit_first_call(self, classes):
                self._label_binarizer = LabelBinarizer().fit(y if type_of_target(y).startswith("multilabel") else classes)
            return self._fit(X, y, sample_weight, (X_val, y_val, sample_weight_val), check_count(epochs, "epochs"))
        except BaseException:
            if not hasattr(self, "_network"):  # it was refused, and the next call is the first one again
                self.__dict__ = before
            raise

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def _are_known(y: Array, classes: Array) -> bool:
    """Whether targets are some of the classes, where that is soon seen: of numbers, one for each row."""
    if y.ndim != 1 or y.dtype.kind not in "iu" or classes.dtype.kind not in "iu":
        return False
    places = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
    return bool((classes[places] == y).all())


def _balanced(classes: Array, parts: Iterable[tuple[Any, Any]]) -> Array:
    """Weight of each class, by the weights of its rows, so that all classes count alike.

    Parameters
    ----------
    classes : ndarray (n_classes,)
        Sorted; they need not all occur.
    parts : iterable of tuple
        Targets (rows,) and weights (rows,), or None for equal ones, of all rows.
    """
    sums = np.zeros(len(classes))
    for y, weight in parts:
        # One row after another: the sums are then the same, to the bit, however the rows are divided.
        np.add.at(sums, np.searchsorted(classes, y), 1.0 if weight is None else weight)
    weights, there = np.ones(len(classes)), sums > 0
    weights[there] = sums.sum() / (np.count_nonzero(there) * sums[there])
    return weights
