"""Analytic against numerical gradients, for every activation, loss and output width."""

from __future__ import annotations

import numpy as np
import pytest

from fastmlp import ACTIVATIONS, LOSSES, MLP, ReferenceMLP

STEP = 1e-6


def targets_for(loss, rng, shape):
    """Random targets that the loss allows."""
    low, high = LOSSES[loss].targets
    return rng.uniform(max(low, -1.5), min(high, 1.5), shape)


def numerical_gradient(net, theta, *data):
    gradient = np.empty_like(theta)
    for i in range(theta.size):
        ahead, behind = theta.copy(), theta.copy()
        ahead[i] += STEP
        behind[i] -= STEP
        gradient[i] = (net.loss_and_grad(ahead, *data)[0] - net.loss_and_grad(behind, *data)[0]) / (2 * STEP)
    return gradient


@pytest.mark.parametrize("outputs", [1, 2, 5])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradient_is_the_slope_of_the_loss(kind, activation, loss, outputs):
    rng = np.random.default_rng([list(ACTIVATIONS).index(activation), list(LOSSES).index(loss), outputs])
    hidden = "tanh" if ACTIVATIONS[activation].by_row else activation
    net = kind((3, 4, 4, outputs), (hidden, hidden, activation), loss, dtype="float64", random_state=0)
    deviation = 0.2 if activation == "exponential" else 0.6  # exp of exp of exp has no slope that differences could find
    net.theta = rng.normal(0, deviation, net.theta.size)
    for b in net.b:
        b += 0.3  # so that no layer of rectifiers is dead
    theta = net.theta
    x, y, weight = rng.normal(size=(3, 3)), targets_for(loss, rng, (3, outputs)), rng.random(3) + 0.5
    total, gradient, _ = net.loss_and_grad(theta, x, y, weight)
    expected = numerical_gradient(net, theta, x, y, weight)
    assert np.isfinite(total)
    scale = np.abs(expected).max()
    # One kind of softmax has nothing to learn: its only output is always 1. And a clipped prediction has no slope.
    assert scale > 0 or outputs == 1 or LOSSES[loss].targets != (-np.inf, np.inf)
    rounding = (
        4 * np.finfo(float).eps * abs(total) / STEP
    )  # of the differences, where a loss is huge because predictions are clipped
    np.testing.assert_allclose(gradient, expected, rtol=2e-6, atol=1e-8 + 2e-7 * scale + rounding)


def test_the_check_would_see_a_wrong_derivative(monkeypatch):
    """A derivative that is off by a thousandth is found by the test above."""
    import dataclasses

    from fastmlp import ReferenceMLP

    tanh = ACTIVATIONS["tanh"]
    wrong = dataclasses.replace(tanh, derivative=lambda z, a, p: 1.001 * (1 - a * a))
    monkeypatch.setitem(ACTIVATIONS._entries, "tanh", wrong)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        test_gradient_is_the_slope_of_the_loss(ReferenceMLP, "tanh", "squared_error", 2)


@pytest.mark.parametrize(
    "pair",
    [("softmax", "cross_entropy"), ("sigmoid", "binary_cross_entropy"), ("exponential", "poisson"), ("identity", "squared_error")],
)
def test_canonical_pairs_equal_the_general_path(pair):
    """The fused delta a - y is dLoss/da * f'(z), where neither clips."""
    activation, loss = pair
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(40, 3)), targets_for(loss, rng, (40, 4))
    fused = MLP((3, 4), activation, loss, dtype="float64", random_state=0)
    general = MLP((3, 4), activation, loss, dtype="float64", random_state=0)
    general.engine.records.job["canonical"] = general.engine.records.job["logits"] = 0
    assert fused.engine.records.job["canonical"] == 1
    np.testing.assert_allclose(general.eval_loss(x, y), fused.eval_loss(x, y), rtol=1e-12)
    np.testing.assert_allclose(general.backprop(x, y)[0][0], fused.backprop(x, y)[0][0], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("kind", [MLP, ReferenceMLP])
@pytest.mark.parametrize("outputs", [1, 2, 5])
@pytest.mark.parametrize(
    ("loss", "output"), [("cross_entropy", "softmax"), ("binary_cross_entropy", "sigmoid"), ("cross_entropy", "sigmoid")]
)
def test_class_labels(kind, loss, output, outputs):
    """A label is the one-hot target that it stands for; of a single output, 0 or 1."""
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(7, 3)), rng.integers(0, max(outputs, 2), 7)
    targets = np.eye(outputs)[labels] if outputs > 1 else labels[:, None].astype(float)
    net = kind((3, 4, outputs), ("tanh", output), loss, dtype="float64", random_state=0)
    if outputs == 1 and loss == "cross_entropy":
        with pytest.raises(ValueError, match="with one output cross_entropy has nothing to tell them apart by"):
            net.backprop(x, labels)
        return
    for ours, expected in zip(net.backprop(x, labels), net.backprop(x, targets), strict=True):
        for one, other in zip(ours, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-15)
    assert net.eval_loss(x, labels) == pytest.approx(net.eval_loss(x, targets), rel=1e-12)
