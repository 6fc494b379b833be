"""The loops over formulas that a network needs, of entries of the tables."""

from __future__ import annotations

from collections.abc import Iterator

from fastmlp.activations import ACTIVATIONS, Activation
from fastmlp.kernels.loops import Loop, activate_and_slope_loop, activate_loop, logit_terms_loop, loss_and_slope_loop, update_loop
from fastmlp.losses import LOSSES, Loss
from fastmlp.optimizers import OPTIMIZERS, Optimizer


def _kept_as(entry: Activation | Loss) -> str | None:
    """The name under which compiled loops over an entry of the tables are kept; None for a person's own."""
    return entry.name if entry.source is None else None


def activation_loop(activation: Activation, *, slopes: bool) -> Loop:
    """The loop over an activation, with its slope or without."""
    if slopes:
        return Loop(activate_and_slope_loop, (activation.compiled_value, activation.compiled_derivative), _kept_as(activation))
    return Loop(activate_loop, (activation.compiled_value,), _kept_as(activation))


def loss_loop(loss: Loss, *, logits: bool) -> Loop:
    """The loop over a loss, of logits or of outputs."""
    if logits:
        return Loop(logit_terms_loop, (loss.compiled_logits_value,), _kept_as(loss))
    return Loop(loss_and_slope_loop, (loss.compiled_value, loss.compiled_derivative), _kept_as(loss))


def optimizer_loop(optimizer: Optimizer) -> Loop:
    """The loop over an optimizer's step."""
    return Loop(update_loop, (optimizer.step, optimizer.n_states), optimizer.name)


def all_loops() -> Iterator[Loop]:
    """All loops over entries of the tables."""
    for activation in ACTIVATIONS.values():
        yield from (activation_loop(activation, slopes=slopes) for slopes in (False, True) if not activation.by_row)
    for loss in LOSSES.values():
        yield from (loss_loop(loss, logits=logits) for logits in (False, True) if loss.compiled_logits_value or not logits)
    yield from map(optimizer_loop, OPTIMIZERS.values())
