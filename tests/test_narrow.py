"""Online learning of narrow networks, which has kernels of its own: against ReferenceMLP, and against other ways of cutting it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastmlp import ACTIVATIONS, LOSSES, MLP, DivergenceError, ReferenceMLP, make_activation
from fastmlp.engine import limits
from fastmlp.kernels.online import run_rows
from tests.test_gradients import targets_for

TOLERANCE = {"float64": 1e-10, "float32": 1e-4}

dtypes = pytest.mark.parametrize("dtype", ["float64", "float32"])


def names_of_kernels(net):
    return {kernel.__name__ for kernel, *_ in net.engine.compiled}


def assert_padding_is_zero(net):
    padding = np.ones(len(net._buffer), bool)
    net._layout().fill(padding, np.zeros(net.theta.shape, bool))
    assert not net._buffer[padding].any()


def assert_as_the_reference(sizes, activation, loss, y=None, *, dtype="float64", rows=150, scale=1.0):
    rng = np.random.default_rng(sum(sizes))
    x = scale * rng.normal(size=(rows, sizes[0]))
    y = targets_for(loss, rng, (rows, sizes[-1])) if y is None else y(rng, rows)
    nets = [kind(sizes, activation, loss, dtype=dtype, random_state=3) for kind in (MLP, ReferenceMLP)]
    for net in nets:
        net.fit(x, y, epochs=3, batch_size=1, learning_rate=0.02)
    ours, theirs = nets
    assert_padding_is_zero(ours)
    narrow = ours.engine.records.narrow_kernel()
    assert narrow is not None or sum(sizes) > 20  # where vectors are short, few networks are narrow
    assert names_of_kernels(ours) == {(narrow or run_rows).__name__}
    np.testing.assert_allclose(ours.theta, theirs.theta, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * np.abs(theirs.theta).max())
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=TOLERANCE[dtype])


@dtypes
@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "softmax"])
def test_activations(name, dtype):
    assert_as_the_reference((3, 5, 2), name, "squared_error", dtype=dtype, scale=0.3)


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name):
    assert_as_the_reference((4, 6, 3), ("tanh", LOSSES[name].canonical or "sigmoid"), name)


@pytest.mark.parametrize(
    ("output", "loss"),
    [("sigmoid", "cross_entropy"), ("softplus", "poisson"), ("identity", "huber"), ("sigmoid", "absolute_error")],
)
def test_a_loss_and_an_activation_that_do_not_belong_together(output, loss):
    assert_as_the_reference((4, 6, 3), ("tanh", output), loss)


@dtypes
@pytest.mark.parametrize(
    "sizes", [(2, 1), (1, 1, 1), (7, 16, 3), (5, 17, 2), (4, 8, 20), (6, 3, 9, 2, 5, 4), (2, *[3] * 7, 2), (40, 4, 1)]
)
def test_sizes(sizes, dtype):
    assert_as_the_reference(sizes, ["silu"] * (len(sizes) - 2) + ["identity"], "squared_error", dtype=dtype)


@dtypes
@pytest.mark.parametrize("outputs", [1, 2, 3, 8, 20])
def test_softmax(outputs, dtype):
    assert_as_the_reference((4, 6, outputs), ("tanh", "softmax"), "cross_entropy", dtype=dtype)  # of targets between 0 and 1


@dtypes
@pytest.mark.parametrize(
    ("sizes", "output", "loss"),
    [((4, 6, 3), "softmax", "cross_entropy"), ((4, 6, 20), "softmax", "cross_entropy"), ((4, 3), "softmax", "cross_entropy"),
     ((4, 6, 1), "sigmoid", "binary_cross_entropy"), ((4, 6, 3), "sigmoid", "binary_cross_entropy")],
)  # fmt: skip
def test_class_labels(sizes, output, loss, dtype):
    activation = ["tanh"] * (len(sizes) - 2) + [output]
    assert_as_the_reference(sizes, activation, loss, lambda rng, rows: rng.integers(0, max(2, sizes[-1]), rows), dtype=dtype)


@pytest.mark.parametrize("outputs", [3, 20])
def test_huge_logits_neither_overflow_nor_vanish(outputs):
    x, y = np.array([[1.0], [-1.0], [0.5]]), [0, 1, 1]
    nets = [kind((1, outputs), "softmax", "cross_entropy", dtype="float64", random_state=1) for kind in (MLP, ReferenceMLP)]
    for net in nets:
        net.w[0] = np.linspace(-2000, 2000, outputs)[None]
        net.fit(x, y, epochs=1, batch_size=1, learning_rate=1e-3, shuffle=False)
    np.testing.assert_allclose(nets[0].theta, nets[1].theta, rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(nets[0].loss_curve_, nets[1].loss_curve_, rtol=1e-12)


@pytest.mark.parametrize("rows", [1, 63, 64, 1000])
def test_bits_do_not_depend_on_where_calls_are_cut(rows, monkeypatch):
    rng = np.random.default_rng(rows)
    x, y = rng.normal(size=(rows, 3)), rng.normal(size=(rows, 2))
    results = []
    for seconds in (0.1, 1e-9):
        monkeypatch.setattr(limits, "CALL_SECONDS", seconds)
        net = MLP((3, 5, 2), ("tanh", "identity"), random_state=0).fit(x, y, epochs=3, batch_size=1)
        results.append([*net.theta, *net.loss_curve_])
    assert results[0] == results[1]


def test_batches_may_follow():
    """They find the same buffers."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(160, 3)), rng.normal(size=(160, 2))
    nets = [kind((3, 5, 2), ("sigmoid", "sigmoid"), dtype="float64", random_state=0) for kind in (MLP, ReferenceMLP)]
    for net in nets:
        for batch_size in (1, 16, 1):
            net.fit(x, y, epochs=2, batch_size=batch_size, learning_rate=0.05)
    np.testing.assert_allclose(nets[0].theta, nets[1].theta, rtol=1e-11)
    assert_padding_is_zero(nets[0])


def test_steps_follow_a_schedule():
    nets = [kind((3, 5, 2), ("tanh", "identity"), dtype="float64", random_state=0) for kind in (MLP, ReferenceMLP)]
    x, y = np.random.default_rng(0).normal(size=(2, 200, 3))
    for net in nets:
        net.fit(x, y[:, :2], epochs=2, batch_size=1, learning_rate=0.05, schedule="cosine")
    np.testing.assert_allclose(nets[0].theta, nets[1].theta, rtol=1e-11)


@pytest.mark.parametrize(
    ("network", "fit"),
    [
        ({}, {"sample_weight": np.linspace(0.5, 1, 20)}),
        ({}, {"dropout": 0.5}),
        ({"activation": [make_activation(lambda z: z + 0.5 * math.sin(z), name="wave"), "identity"]}, {}),
        ({"activation": ["tanh", "relu", "identity"], "sizes": (3, 4, 5, 2)}, {}),
        ({"sizes": (3, 200, 2)}, {}),
    ],
    ids=["weights", "dropout", "own function", "two hidden activations", "wide"],
)
def test_other_networks_go_the_other_way(network, fit):
    options = {"sizes": (3, 5, 2), "activation": "tanh", "random_state": 0} | network
    net = MLP(**options).fit(np.ones((20, 3)), np.ones((20, 2)), epochs=1, batch_size=1, **fit)
    assert names_of_kernels(net) == {run_rows.__name__}


@pytest.mark.parametrize("hidden", [3, 200], ids=["narrow", "wide"])
def test_a_training_may_follow_one_that_has_diverged(hidden):
    """What is not finite stays in no buffer."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 2)), rng.normal(size=(50, 1))
    net = MLP((2, hidden, 1), ("relu", "identity"), dtype="float64", random_state=0)
    other = MLP((2, hidden, 1), ("relu", "identity"), dtype="float64", random_state=0)
    for diverge in (
        lambda: net.fit(1e3 * x, y, epochs=5, batch_size=1, learning_rate=1e10),
        lambda: net.train_step([[1e300] * 2], [1], 1),
    ):
        with pytest.raises(DivergenceError, match="learning_rate=1"):
            diverge()
        np.testing.assert_array_equal(net.theta, other.theta)
        for one in (net, other):
            one.fit(x, y, epochs=1, batch_size=1, shuffle=False).fit(x, y, epochs=1, batch_size=16, shuffle=False)
            one.train_step(x[0], y[0], 1e-3)
        np.testing.assert_array_equal(net.theta, other.theta)
        np.testing.assert_array_equal(net.backprop(x[:16], y[:16])[0][0], other.backprop(x[:16], y[:16])[0][0])


def test_losses_are_summed_in_float64():
    net = MLP((1, 1), random_state=0)
    net.w[0] = [[0.0]]
    net.fit(np.zeros((100, 1)), np.full((100, 1), 1e19), epochs=1, batch_size=1, learning_rate=1e-30)
    np.testing.assert_allclose(net.loss_curve_, [5e37], rtol=1e-6)
