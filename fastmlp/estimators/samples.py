"""From samples, targets and weights, or a source of them, as a person gives them, to rows as a network takes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp.data.sources import Piece, Source, as_source
from fastmlp.data.stream import open_feed
from fastmlp.feed import Feed
from fastmlp.validation import Data, check_finite, check_target_columns, check_weight, check_x

if TYPE_CHECKING:
    from fastmlp.estimators.base import MLPBase

Array = np.ndarray[Any, np.dtype[Any]]

BATCH_SIZE = 200
"""Of ``batch_size="auto"``, or all rows if they are fewer."""

Weighting = Callable[[Any, Any], Any]
"""Weights of rows, or None, by their targets and the weights that they came with."""


def as_given(y: Any, sample_weight: Any) -> Any:
    """Weigh rows as a source says."""
    return sample_weight


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


def source_of(x: Any, y: Any, sample_weight: Any, ending: str) -> Source | None:
    """What a person has given in the place of samples, targets and weights, if it is a source; None for rows in memory.

    Raises
    ------
    ValueError
        For targets or weights beside a source; ``ending`` is that of the arguments' names.
    """
    source = as_source(x, f"X{ending}") if y is None or isinstance(x, Source) else None
    for name, other in (("y", y), ("sample_weight", sample_weight)):
        if source is not None and other is not None:
            raise ValueError(
                f"{name}{ending} must be None where X{ending} is a source, which brings targets and weights of its own."
            )
    return source


def check_in_memory(x: Any) -> None:
    """Refuse a source where it is a person who gives rows part by part."""
    if isinstance(x, Source):
        raise TypeError(
            f"partial_fit takes arrays and tables, got {x!r}; give fit the source (with warm_start=True it goes on), or "
            "partial_fit the X and y of its rows, some at a time."
        )


def samples_of(estimator: MLPBase, X: Any, y: Any, sample_weight: Array | None) -> Samples:
    """Samples in memory, in the network's dtype."""
    network = estimator._network
    targets, labels = _checked_targets(estimator, y)
    weight = None if sample_weight is None else check_weight(sample_weight, X.shape[0], network.dtype)
    return Samples(X, y, Data(check_x(X, network.sizes[0], network.dtype, "X"), targets, labels, weight))


def open_source(estimator: MLPBase, source: Source, argument: str, weighting: Weighting, buffer_bytes: int) -> Feed:
    """Rows of a source, read while the network trains; ``argument`` is what errors call them."""
    return open_feed(
        source, lambda piece: _data_of(estimator, source, argument, piece, weighting), shuffle=estimator.shuffle,
        loss_offset=estimator._loss_offset, batch_size=BATCH_SIZE if estimator.batch_size == "auto" else estimator.batch_size,
        buffer_bytes=buffer_bytes,
    )  # fmt: skip


def _data_of(estimator: MLPBase, source: Source, argument: str, piece: Piece, weighting: Weighting) -> Data:
    """Some rows of a source."""
    y = estimator._targets_of(source, piece)
    weight = weighting(y, piece.weight)
    network = estimator._network
    targets, labels = _checked_targets(estimator, y)
    rows = check_x(piece.x, network.sizes[0], network.dtype, argument)
    if len(y) != len(rows):
        raise ValueError(f"y has {len(y)} rows, but {argument} has {len(rows)}; each sample needs one.")
    return Data(rows, targets, labels, None if weight is None else check_weight(weight, len(rows), network.dtype, part=True))


def _checked_targets(estimator: MLPBase, y: Any) -> tuple[Array | None, Array | None]:
    """Targets or class labels, the other being None."""
    network = estimator._network
    targets, labels = estimator._targets(y, network.dtype)
    if targets is not None:
        check_finite(targets, "y")
        check_target_columns(targets, network.sizes[-1])
    return targets, labels
