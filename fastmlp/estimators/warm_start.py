"""Training that goes on from an earlier fit, by ``warm_start`` or ``partial_fit``: what of it stays, and what changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fastmlp.estimators import early_stopping

if TYPE_CHECKING:
    from fastmlp.estimators.base import MLPBase


@contextmanager
def unchanged_on_error(estimator: MLPBase) -> Iterator[None]:
    """Until the training begins: what is refused leaves the estimator as it was."""
    before = estimator.__dict__.copy()
    try:
        yield
    except BaseException:
        estimator.__dict__ = before
        raise


def follow_parameters(estimator: MLPBase, hidden_sizes: list[int]) -> None:
    """Keep the weights that are there, with the activations, the loss and the early stopping that the parameters say now.

    Raises
    ------
    ValueError
        If they say other sizes.
    """
    network = estimator._network
    sizes_there = [*network.sizes[1:-1]]
    if sizes_there != hidden_sizes:
        raise ValueError(
            f"hidden_layer_sizes is {hidden_sizes}, but the network to go on with has {sizes_there}; its sizes cannot be "
            "changed: set them as they were, or begin anew, with warm_start=False or a clone."
        )
    loss, activations = estimator._architecture(len(hidden_sizes) + 1)
    has_other_loss = loss != network._loss
    if has_other_loss or activations != list(network._activations):
        coefs, intercepts = estimator._weights_now()
        estimator._adopt(coefs, intercepts, loss, activations)
        estimator.out_activation_ = estimator._loss_and_output()[2]
    early_stopping.follow_parameters(estimator, has_other_loss=has_other_loss)
