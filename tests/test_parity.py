"""MLP against ReferenceMLP, from the same weights and in the same order of rows."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_digits

from fastmlp import ACTIVATIONS, LOSSES, MLP, OPTIMIZERS, SCHEDULES, ReferenceMLP
from tests.test_gradients import targets_for

TOLERANCE = {"float64": 1e-9, "float32": 2e-4}
RATES = {
    "sgd": 0.1,
    "momentum": 0.02,
    "nesterov": 0.02,
    "rmsprop": 1e-3,
    "adagrad": 1e-2,
    "adam": 1e-3,
    "adamw": 1e-3,
    "nadam": 1e-3,
}


def assert_same_training(
    sizes, activation, loss="squared_error", *, dtype, rows=100, batch_size=15, epochs=3, data=None, network=None, **fit
):
    rng = np.random.default_rng(sum(sizes))
    x, y = data or (rng.normal(size=(rows, sizes[0])), targets_for(loss, rng, (rows, sizes[-1])))
    nets = []
    for kind in (MLP, ReferenceMLP):
        net = kind(sizes, activation, loss, dtype=dtype, random_state=7, **(network or {}))
        start = net.theta
        nets.append(net.fit(x, y, epochs=epochs, batch_size=batch_size, **fit))
    ours, theirs = (net.theta for net in nets)
    assert not np.array_equal(ours, start)
    tolerance = TOLERANCE[dtype]
    scale = np.abs(theirs).max()
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * scale)
    np.testing.assert_allclose(nets[0].loss_curve_, nets[1].loss_curve_, rtol=tolerance)
    np.testing.assert_allclose(nets[0].predict(x), nets[1].predict(x), rtol=10 * tolerance, atol=10 * tolerance)


dtypes = pytest.mark.parametrize("dtype", ["float64", "float32"])


@dtypes
@pytest.mark.parametrize("batch_size", [1, 7, 15, 64, 150])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizers_and_batch_sizes(optimizer, batch_size, dtype):
    assert_same_training(
        (5, 9, 3), ("tanh", "sigmoid"), dtype=dtype, batch_size=batch_size, optimizer=optimizer, learning_rate=RATES[optimizer]
    )


@dtypes
@pytest.mark.parametrize("depth", range(1, 7))
def test_depths(depth, dtype):
    sizes = (6, *[11, 20, 3, 16, 33][: depth - 1], 4)
    assert_same_training(sizes, ["silu"] * (depth - 1) + ["softmax"], "cross_entropy", dtype=dtype, learning_rate=0.2)


@dtypes
@pytest.mark.parametrize("width", range(1, 131))
def test_widths(width, dtype):
    assert_same_training((width, width, width), ("relu", "identity"), dtype=dtype, rows=45, learning_rate=0.01)
    assert_same_training((3, width, 2), "tanh", dtype=dtype, rows=45, optimizer="adam")


@dtypes
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_and_losses(activation, loss, dtype):
    # A logarithm of a prediction that is no probability has slopes of up to 1e7, and y / a of 1e14: any rounding grows by as much.
    steep = LOSSES[loss].targets != (-np.inf, np.inf) and activation not in ("sigmoid", "softmax", LOSSES[loss].canonical)
    learning_rate = (1e-13 if loss == "gamma" else 1e-6) if steep else 0.01
    hidden = "tanh" if ACTIVATIONS[activation].by_row else activation
    assert_same_training((4, 6, 3), (hidden, activation), loss, dtype=dtype, rows=40, learning_rate=learning_rate)


@dtypes
def test_gamma_with_the_output_that_suits_it(dtype):
    assert_same_training((4, 6, 3), ("tanh", "exponential"), "gamma", dtype=dtype, rows=40, learning_rate=0.01)


@dtypes
@pytest.mark.parametrize(
    "options",
    [
        {"l2": 0.1},
        {"weight_decay": 0.3},
        {"max_grad_norm": 0.05},
        {"max_grad_norm": 0.05, "l2": 0.1, "weight_decay": 0.3, "optimizer": "adam", "learning_rate": 1e-3},
        {"sample_weight": np.arange(100.0) % 5},
        {"optimizer": OPTIMIZERS["adam"](beta1=0.5, beta2=0.9, epsilon=1e-3)},
        {"shuffle": False},
        *({"schedule": schedule} for schedule in SCHEDULES),
    ],
    ids=lambda options: ",".join(f"{k}" if k == "sample_weight" else f"{k}={getattr(v, 'name', v)}" for k, v in options.items()),
)
def test_options_of_fit(options, dtype):
    assert_same_training((5, 20, 2), ("tanh", "softmax"), "cross_entropy", dtype=dtype, **({"learning_rate": 0.05} | options))


@dtypes
def test_reduction_sum(dtype):
    assert_same_training((5, 8, 2), "tanh", dtype=dtype, network={"reduction": "sum"}, learning_rate=0.005)


@dtypes
@pytest.mark.parametrize("call_seconds", [0.1, 0.0], ids=["long calls", "a call for each chunk"])
@pytest.mark.parametrize("weighted", [False, True])
def test_batches_that_are_worked_on_in_several_chunks(dtype, call_seconds, weighted, monkeypatch):
    """Wide layers and large batches exceed the workspace: the gradient is added up chunk by chunk, in one call or in several."""
    from fastmlp.engine import limits

    monkeypatch.setattr(limits, "WORKSPACE_BYTES", 0)
    monkeypatch.setattr(limits, "LEAST_CHUNK_ROWS", 48)
    monkeypatch.setattr(limits, "CALL_SECONDS", call_seconds)
    network = {"n_threads": 2}
    if weighted:
        weight = np.random.default_rng(0).uniform(0, 3, 500)
        assert_same_training((5, 40, 3), "tanh", dtype=dtype, rows=500, batch_size=200, learning_rate=0.1, sample_weight=weight)
    assert_same_training((5, 40, 3), "tanh", dtype=dtype, rows=500, batch_size=200, optimizer="adam", network=network)
    assert_same_training((5, 40, 3), "tanh", dtype=dtype, rows=500, batch_size=200, max_grad_norm=0.01, learning_rate=0.1)


@dtypes
def test_layers_wider_than_a_block_of_gradients(dtype):
    assert_same_training((3, 1000, 2), ("relu", "identity"), dtype=dtype, rows=40, learning_rate=0.01)
    assert_same_training((3, 500, 970), ("relu", "identity"), dtype=dtype, rows=40, learning_rate=0.001, optimizer="adam")


def test_wide_network():
    assert_same_training(
        (300, 2048, 1024, 1), ("relu", "relu", "identity"), dtype="float32", rows=70, batch_size=50, epochs=1, learning_rate=1e-3
    )


@dtypes
@pytest.mark.parametrize("sizes", [(1, 2), (5, 40, 3), (17, 33, 130, 2), (64, 15, 10), (3, 9, 9, 70)])
@pytest.mark.parametrize("options", [{}, {"optimizer": "adam", "max_grad_norm": 0.1, "l2": 0.01, "learning_rate": 1e-3}], ids=str)
def test_layer_by_layer(sizes, options, dtype, monkeypatch):
    """What is meant for wide layers, on layers of every kind of width, in several chunks."""
    from fastmlp.engine import limits

    monkeypatch.setattr(limits, "LAYERED_BYTES", 0)
    monkeypatch.setattr(limits, "WORKSPACE_BYTES", 0)
    for least, deltas in ((64, 0), (1024, 70_000)):  # blocks one tile wide, and two
        monkeypatch.setattr(limits, "LAYERED_CHUNK_ROWS", least)
        monkeypatch.setattr(limits, "PACKED_DELTAS_BYTES", deltas)
        for n_threads in (1, 3):
            network = {"n_threads": n_threads}
            fit = {"rows": 300, "batch_size": 170, "network": network, "learning_rate": 0.02} | options
            assert_same_training(sizes, "tanh", dtype=dtype, **fit)
            weight = np.arange(300.0) % 3
            assert_same_training(
                sizes, ["silu"] * (len(sizes) - 2) + ["softmax"], "cross_entropy", dtype=dtype, sample_weight=weight, **fit
            )


@dtypes
class TestOnline:
    """One sample a step by plain gradient descent has code of its own."""

    @pytest.mark.parametrize("activation", [*ACTIVATIONS, "cross_entropy"])
    def test_activations(self, activation, dtype):
        loss = "squared_error"
        if activation == "cross_entropy":
            activation, loss = "softmax", activation
        hidden = activation if activation not in ("softmax", "exponential") else "sigmoid"
        assert_same_training((5, 16, 9, 3), (hidden, hidden, activation), loss, dtype=dtype, batch_size=1, learning_rate=0.001)

    @pytest.mark.parametrize("sizes", [(1, 1), (200, 3), (3, 200), (16, 32, 16), (2, 150, 140, 2)])
    def test_widths(self, sizes, dtype):
        activation = ["softplus"] * (len(sizes) - 2) + ["identity"]
        assert_same_training(sizes, activation, dtype=dtype, rows=30, batch_size=1, learning_rate=0.001)

    @pytest.mark.parametrize(("outputs", "loss"), [(1, "binary_cross_entropy"), (4, "binary_cross_entropy"), (4, "cross_entropy")])
    def test_class_labels_and_weights(self, outputs, loss, dtype):
        rng = np.random.default_rng(3)
        x, labels, weight = rng.normal(size=(40, 5)), rng.integers(0, max(outputs, 2), 40), rng.uniform(0, 2, 40)
        weight[::5] = 0
        activation = ("tanh", "softmax" if loss == "cross_entropy" else "sigmoid")
        for reduction in ("mean", "sum"):
            assert_same_training(
                (5, 6, outputs), activation, loss, dtype=dtype, batch_size=1, learning_rate=0.01,
                data=(x, labels), sample_weight=weight, network={"reduction": reduction},
            )  # fmt: skip

    def test_other_training_afterwards(self, dtype):
        """What it leaves in the padding of the buffers disturbs nobody."""
        rng = np.random.default_rng(5)
        x, y = rng.normal(size=(30, 3)), rng.normal(size=(30, 2))
        nets = [kind((3, 5, 2), "sigmoid", dtype=dtype, random_state=7) for kind in (MLP, ReferenceMLP)]
        for net in nets:
            for options in ({"batch_size": 1}, {"batch_size": 8, "optimizer": "adam", "max_grad_norm": 0.01}, {"batch_size": 1}):
                net.fit(x, y, epochs=2, **options)
        tolerance = TOLERANCE[dtype]
        np.testing.assert_allclose(nets[0].theta, nets[1].theta, rtol=tolerance, atol=tolerance)


class TestFloat32:
    """Half the digits lose nothing that a training could find."""

    @staticmethod
    def losses(x, y, *options, **fit):
        nets = [MLP(*options, dtype=dtype, random_state=3).fit(x, y, **fit) for dtype in ("float32", "float64")]
        assert nets[0].loss_curve_[-1] < nets[0].loss_curve_[0] / 2
        return [net.loss_curve_[-1] for net in nets]

    def test_reaches_the_loss_of_float64_on_digits(self):
        x, labels = load_digits(return_X_y=True)
        ours, theirs = self.losses(
            x / 16, labels, (64, 15, 10), ("relu", "softmax"), "cross_entropy", epochs=30, batch_size=15, learning_rate=0.1
        )
        assert ours == pytest.approx(theirs, rel=0.01)

    def test_reaches_the_loss_of_float64_on_a_regression(self):
        x, y = load_diabetes(return_X_y=True)
        y = (y - y.mean()) / y.std()
        ours, theirs = self.losses(
            x * 20, y, (10, 32, 32, 1), ("relu", "relu", "identity"), epochs=60, batch_size=32, optimizer="adam", learning_rate=3e-3
        )
        assert ours == pytest.approx(theirs, rel=0.01)
