"""Training that goes on from an earlier fit, by ``warm_start`` or ``partial_fit``: what of it stays, and what changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fastmlp.estimators import early_stopping

if TYPE_CHECKING:
    from fastmlp.estimators.base import MLPBase


class Beginning:
    """Whether a training has begun: what is refused before leaves an estimator as it was, an error after it what is learned."""

    is_past = False


_OF_CALLBACKS = ("_callback_fit_ctx", "_skl_callbacks_to_teardown")
"""What scikit-learn looks for when a fit has ended, in whatever way, to tear its callbacks down."""


@contextmanager
def unchanged_on_error(estimator: MLPBase) -> Iterator[Beginning]:
    """Until the training begins: what is refused leaves the estimator as it was."""
    before, beginning = estimator.__dict__.copy(), Beginning()
    # Weights that early stopping has put aside come back before a training goes on.
    theta = estimator._network.theta if before.get("_last_theta") is not None else None
    try:
        yield beginning
    except BaseException:
        if not beginning.is_past:
            to_tear_down = {name: vars(estimator)[name] for name in _OF_CALLBACKS if name in vars(estimator)}
            estimator.__dict__ = before | to_tear_down
            if theta is not None:
                estimator._network.theta = theta
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
