"""The rows to look at after each epoch: those that a person gives, or a share of the rows to train on."""

from __future__ import annotations

import sys
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import _check_sample_weight

from fastmlp.estimators.samples import Samples, as_given, open_source, samples_of, source_of
from fastmlp.validation import Data

if TYPE_CHECKING:
    from fastmlp.data.sources import Source
    from fastmlp.estimators.base import MLPBase

Array = np.ndarray[Any, np.dtype[Any]]
Given = tuple[Any, Any, Any]
"""X_val, y_val and sample_weight_val, as a person gives them."""


def check_complete(X_val: Any, y_val: Any, sample_weight_val: Any) -> None:
    """Refuse a part of the validation data without its samples."""
    for name, value in (("y_val", y_val), ("sample_weight_val", sample_weight_val)):
        if value is not None and X_val is None:
            raise ValueError(f"{name} was given without X_val; both are needed for validation.")


def _check_alike(source: Source, X_val: Source) -> None:
    """Refuse a source of validation rows whose columns have become features in another way than those of the rows to train on."""
    mine, other = source.preparation, X_val.preparation
    if (mine is None) != (other is None) and (source.feature_names or X_val.feature_names):
        raise ValueError(
            "Of X and X_val, one has been prepared, and the other has not; prepare X_val as X: prepared(X.preparation)."
        )
    if mine is not None and other is not None and not mine.makes_the_same_as(other):
        raise ValueError("X_val has been prepared by what its own rows are like; prepare it as X: prepared(X.preparation).")


def _check_names(estimator: MLPBase, X_val: Source) -> None:
    """Refuse a source of validation rows whose columns are others than those of the rows to train on, a table or a source."""
    names, others = getattr(estimator, "feature_names_in_", None), X_val.feature_names
    if names is not None and others is not None and names.tolist() != others:
        raise ValueError(f"X_val has the columns {', '.join(others)}, but X has {', '.join(names)}; give the same, in this order.")


def split(
    estimator: MLPBase, X: Any, y: Any, sample_weight: Array | None, validation: Given, *, holds_out: bool
) -> tuple[Samples, Samples | None]:
    """Rows to train on, and rows to validate on; ``holds_out``: whether these are a share of the former where none are given."""
    if validation[0] is not None or not holds_out:
        return samples_of(estimator, X, y, sample_weight), given_samples(estimator, *validation)
    stratify = y if is_classifier(estimator) and estimator.n_outputs_ == 1 else None
    arrays = [X, y] if sample_weight is None else [X, y, sample_weight]
    X_train, X_val, y_train, y_val, *weights = train_test_split(
        *arrays,
        random_state=deepcopy(estimator._split_random_state),
        test_size=estimator.validation_fraction,
        stratify=stratify,
    )
    if X_val.shape[0] < 2:
        raise ValueError("The validation set is too small. Increase 'validation_fraction' or the size of your dataset.")
    weight, weight_val = weights or (None, None)
    for one, what in ((weight, "to train on"), (weight_val, "to validate on")):
        if one is not None and not one.any():
            raise ValueError(
                f"Of rows that have a weight above 0, the split leaves none {what}; give X_val and y_val, or another "
                "validation_fraction or random_state."
            )
    try:
        return samples_of(estimator, X_train, y_train, weight), samples_of(estimator, X_val, y_val, weight_val)
    except ValueError:
        samples_of(estimator, X, y, sample_weight)  # the same error, with the number that the row has in what was given
        raise


def given_samples(
    estimator: MLPBase, X_val: Any, y_val: Any, sample_weight_val: Any, *, train: Source | None = None
) -> Samples | None:
    """A person's own validation rows, if there are any; ``train``: the rows to train on, where these are a source."""
    if X_val is None:
        return None
    source = source_of(X_val, y_val, sample_weight_val, "_val")
    if source is not None:
        if train is not None:
            _check_alike(train, source)
        _check_names(estimator, source)
        data = open_source(estimator, source, "X_val", as_given, sys.maxsize).data
        return Samples(data.x, estimator._given_targets(data), data)
    if y_val is None:
        raise ValueError("X_val was given without y_val; both are needed for validation.")
    try:
        X_val, y_val = estimator._validate(X_val, y_val, incremental=True, reset=False)
        weight = None if sample_weight_val is None else _check_sample_weight(sample_weight_val, X_val)
        return samples_of(estimator, X_val, y_val, weight)
    except ValueError as error:
        raise ValueError(f"X_val, y_val: {error}") from None


def validation_loss(estimator: MLPBase, data: Data) -> float:
    """Mean loss, without the penalty."""
    network = estimator._network
    total, _ = network._sums(network._buffer, data, gradient=False)
    return (estimator._loss_scale() * total + estimator._loss_offset(data)) / network._weight(data)
