"""Bad input: one clear error that names the argument, what was given and what is expected; and the network as it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fastmlp import ACTIVATIONS, INITIALIZERS, LOSSES, MLP, OPTIMIZERS, SCHEDULES
from fastmlp.exceptions import DivergenceError
from fastmlp.schedules import Cosine, Exponential, InverseScaling, OneCycle, Step, WarmUp

CONSTRUCTION = {
    "sizes too short": (((3,), "relu"), {}, r"sizes must be two or more whole numbers.*\(64, 15, 10\); got \(3,\)"),
    "sizes with zero": (((3, 0, 2), "relu"), {}, r"sizes must be .*got 0 in \(3, 0, 2\)"),
    "sizes negative": (((3, -4, 2), "relu"), {}, r"got -4 in"),
    "sizes with a fraction": (((3, 2.5, 2), "relu"), {}, r"got 2\.5 in"),
    "sizes as text": (("64-15-10", "relu"), {}, r"got '64-15-10'"),
    "sizes a number": ((5, "relu"), {}, "got 5"),
    "unknown activation": (
        ((3, 2), "rellu"),
        {},
        "activation='rellu' is unknown. Did you mean 'relu'.*Known names: identity, sigmoid, tanh, relu",
    ),
    "unknown activation of a layer": (((3, 4, 2), ["relu", "sofmax"]), {}, r"activation\[1\]='sofmax' is unknown.*'softmax'"),
    "too many activations": (((3, 2), ["relu", "tanh"]), {}, "one for each of the 1 layers of weights, got 2"),
    "softmax inside": (((3, 4, 2), "softmax"), {}, "softmax is for the last layer only.*'relu', 'softmax'"),
    "unknown loss": (((3, 2), "relu", "hinge"), {}, "loss='hinge' is unknown. Known names: squared_error"),
    "dtype": (((3, 2),), {"dtype": "float16"}, "dtype must be 'float32' or 'float64', got 'float16'"),
    "no dtype": (((3, 2),), {"dtype": None}, "dtype must be .*got None"),
    "nonsense dtype": (((3, 2),), {"dtype": "flaot"}, "dtype must be .*got 'flaot'"),
    "reduction": (((3, 2),), {"reduction": "median"}, "reduction must be one of 'mean', 'sum', got 'median'"),
    "random_state": (((3, 2),), {"random_state": "seed"}, "random_state must be None, a whole number.*got 'seed'"),
    "negative seed": (((3, 2),), {"random_state": -1}, "random_state must be"),
    "n_threads": (((3, 2),), {"n_threads": 0}, "n_threads must be a whole number, at least 1, got 0"),
    "initializer": (((3, 2),), {"initializer": "xaver"}, "initializer='xaver' is unknown. Did you mean 'xavier'"),
}


@pytest.mark.parametrize("name", CONSTRUCTION)
def test_construction(kind, name):
    positional, options, message = CONSTRUCTION[name]
    with pytest.raises(ValueError, match=message):
        kind(*positional, **options)


@pytest.mark.parametrize("given", [3, None, float, ["relu", 3]])
def test_an_activation_of_another_type(kind, given):
    with pytest.raises(TypeError, match=r"activation.* must be the name of one of the known activation entries"):
        kind((2, 3, 1), given)


GOOD_X, GOOD_Y = np.ones((6, 3)), np.ones((6, 2))


def with_bad(array, value):
    changed = array.copy()
    changed[4, 1] = value
    return changed


DATA = {
    "features": (
        np.ones((6, 4)),
        GOOD_Y,
        r"x has 4 features, but the network takes 3 \(sizes\[0\]\); give 3 columns, or make a network for 4\.",
    ),
    "one row of wrong length": (np.ones(4), np.ones(2), r"x must have the shape \(3,\) or \(n, 3\), got \(4,\)"),
    "three dimensions": (np.ones((2, 3, 3)), GOOD_Y, r"got \(2, 3, 3\)"),
    "a number": (5.0, GOOD_Y, r"x must have the shape .* got \(\)"),
    "no rows": (np.ones((0, 3)), np.ones((0, 2)), r"at least one row, got an empty array of shape \(0, 3\)"),
    "nothing": ([], [], "x must have the shape"),
    "rows differ": (GOOD_X, np.ones((5, 2)), "y has 5 rows, but x has 6"),
    "outputs differ": (GOOD_X, np.ones((6, 3)), r"y must have the shape \(6, 2\), got \(6, 3\); the network has 2 outputs"),
    "y flat": (GOOD_X, np.ones(6), r"y must have the shape \(6, 2\), got \(6,\).*one-hot"),
    "nan in x": (with_bad(GOOD_X, np.nan), GOOD_Y, "x must hold finite numbers.*got nan in row 4"),
    "infinity in x": (with_bad(GOOD_X, -np.inf), GOOD_Y, "x must hold finite numbers.*got -inf in row 4"),
    "nan in y": (GOOD_X, with_bad(GOOD_Y, np.nan), "y must hold finite numbers.*got nan in row 4"),
    "too large for float32": (
        with_bad(GOOD_X, 1e300),
        GOOD_Y,
        "x must hold finite numbers in the range of float32, got inf in row 4",
    ),
    "objects": (GOOD_X.astype(object), GOOD_Y, "x must be an array of real numbers, got objects"),
    "strings": (np.full((6, 3), "one"), GOOD_Y, "x must be an array of real numbers, got strings"),
    "complex": (GOOD_X + 1j, GOOD_Y, "got complex numbers"),
    "string targets": (GOOD_X, ["cat"] * 6, "y must be an array of real numbers, got strings"),
    "ragged": ([[1, 2, 3], [1, 2]], GOOD_Y, "x must be an array of numbers, got rows of different lengths"),
    "none": (None, GOOD_Y, "x must be an array of real numbers, got objects"),
}


@pytest.mark.parametrize("method", ["fit", "eval_loss", "backprop", "train_step", "loss_and_grad"])
@pytest.mark.parametrize("name", DATA)
def test_data(kind, name, method):
    x, y, message = DATA[name]
    net = kind((3, 2), random_state=0)
    theta, state = net.theta, net._generator.bit_generator.state
    calls = {
        "fit": lambda: net.fit(x, y, epochs=1, batch_size=2),
        "train_step": lambda: net.train_step(x, y, 0.1),
        "loss_and_grad": lambda: net.loss_and_grad(theta, x, y),
        "eval_loss": lambda: net.eval_loss(x, y),
        "backprop": lambda: net.backprop(x, y),
    }
    with pytest.raises((ValueError, TypeError), match=message):
        calls[method]()
    assert np.array_equal(net.theta, theta)
    assert net._generator.bit_generator.state == state
    assert net.loss_curve_ == []
    if not message.startswith("y"):
        with pytest.raises((ValueError, TypeError), match=message):
            net.predict(x)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("weight", [0.0, -1.0])
def test_no_number_that_is_not_finite_is_overlooked_in_predictions(weight, bad):
    """Units that are off hide it from the outputs, and most rows are only looked at by their sums."""
    net = MLP((5, 3, 2), random_state=0)
    net.w = [np.full((5, 3), weight), np.zeros((3, 2))]
    x = np.ones((100, 5), np.float32)
    for row in (0, 31, 32, 63, 99):
        for feature in range(5):
            x[row, feature] = bad
            with pytest.raises(ValueError, match=f"x must hold finite numbers.*got {bad} in row {row}"):
                net.predict(x)
            x[row, feature] = 1


@pytest.mark.parametrize("weight", [1e30, np.nan])
def test_finite_numbers_may_overflow_in_predictions(weight, monkeypatch):
    """All of them are made, in several calls, too."""
    from fastmlp.engine import limits

    monkeypatch.setattr(limits, "CALL_SECONDS", 1e-9)
    net = MLP((5, 3, 2), random_state=0)
    net.w = [np.full((5, 3), weight), np.zeros((3, 2))]
    expected = 0.0 if weight == weight else np.nan
    assert np.array_equal(net.predict(np.full((100, 5), -1e30, np.float32)), np.full((100, 2), expected), equal_nan=True)


@pytest.mark.parametrize(
    ("loss", "outputs", "labels", "message"),
    [
        (
            "cross_entropy",
            3,
            [0, 1, 3],
            "y has the class label 3 in row 2, but labels of this network are whole numbers from 0 to 2",
        ),
        ("cross_entropy", 3, [0, -1, 2], "class label -1 in row 1"),
        ("binary_cross_entropy", 1, [0, 1, 2], "class label 2 in row 2, .* from 0 to 1"),
        ("cross_entropy", 3, [0, 1], "y has 2 rows, but x has 3"),
        (
            "cross_entropy",
            3,
            [0.0, 1.0, 2.0],
            r"got \(3,\) of dtype float64; whole numbers from 0 to 2, of an integer type, are taken",
        ),
        ("binary_cross_entropy", 2, [[0, 1], [1, 2], [0, 0]], "y must be from 0 to 1 for the loss binary_cross_entropy, got 2"),
        ("poisson", 1, [1, -2, 3], "y must be from 0 to inf for the loss poisson, got -2"),
    ],
)
def test_targets_outside_their_range(kind, loss, outputs, labels, message):
    net = kind((2, outputs), "sigmoid", loss)
    with pytest.raises(ValueError, match=message):
        net.fit(np.zeros((3, 2)), labels, epochs=1, batch_size=1)


FIT = {
    "epochs": [
        (0, "epochs must be a whole number, at least 1, got 0"),
        (2.5, "got 2.5"),
        (-1, "got -1"),
        (True, "got True"),
        ("3", "got '3'"),
    ],
    "batch_size": [(0, "batch_size must be a whole number, at least 1"), (-5, "got -5"), (None, "got None")],
    "learning_rate": [
        (0, "learning_rate must be a finite number above 0, got 0"),
        (-0.1, "got -0.1"),
        (np.nan, "got nan"),
        (np.inf, "got inf"),
        ("fast", "got 'fast'"),
    ],
    "optimizer": [("adma", "optimizer='adma' is unknown. Did you mean 'adam'.*Known names: sgd, momentum")],
    "schedule": [("cosin", "schedule='cosin' is unknown. Did you mean 'cosine'")],
    "weight_decay": [(-1, "weight_decay must be a finite number at least 0, got -1")],
    "l2": [(-1, "l2 must be"), (np.nan, "l2 must be")],
    "max_grad_norm": [(0, "max_grad_norm must be a finite number above 0"), (-1, "max_grad_norm must be")],
    "sample_weight": [
        (np.ones(5), "sample_weight has 5 rows, but x has 6"),
        (np.ones((6, 1)), r"sample_weight must have the shape \(6,\), got \(6, 1\)"),
        (-np.ones(6), "sample_weight must not be negative, got -1 in row 0"),
        (np.zeros(6), "sample_weight must not be zero for every sample"),
        (np.full(6, np.nan), "sample_weight must hold finite numbers"),
        (
            np.full(6, 1e-38),
            "The largest sample_weight is 1e-38, with which float32 cannot compute gradients; divide all of them by",
        ),
        (np.full(6, 1e30), "The largest sample_weight is 1e[+]30, with which float32 cannot"),
    ],
}


@pytest.mark.parametrize(("option", "value", "message"), [(option, *case) for option, cases in FIT.items() for case in cases])
def test_options_of_fit(kind, option, value, message):
    net = kind((3, 2), random_state=0)
    theta = net.theta
    options = {"epochs": 1, "batch_size": 2} | {option: value}
    with pytest.raises((ValueError, TypeError), match=message):
        net.fit(GOOD_X, GOOD_Y, **options)
    assert np.array_equal(net.theta, theta)


def test_what_is_no_array_is_converted_once(kind):
    class Rows:
        conversions = 0

        def __array__(self, dtype=None, copy=None):
            self.conversions += 1
            return np.array(GOOD_X, dtype)

    rows = Rows()
    kind((3, 2)).eval_loss(rows, GOOD_Y)
    assert rows.conversions == 1


@pytest.mark.parametrize("rate", [0, -1, np.nan, np.inf, 10**400, "x"])
def test_train_step_needs_a_rate(kind, rate):
    with pytest.raises(ValueError, match="learning_rate must be a finite number above 0"):
        kind((3, 2)).train_step(GOOD_X, GOOD_Y, rate)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OPTIMIZERS["adam"](beta3=1), "adam has no option 'beta3'. Its options: beta1, beta2, epsilon"),
        (lambda: OPTIMIZERS["sgd"](momentum=0.9), "sgd has no option 'momentum'. Its options: none"),
        (lambda: OPTIMIZERS["adam"](beta1=1.0), "adam: beta1 must be at least 0 and below 1, got 1.0"),
        (lambda: OPTIMIZERS["momentum"](momentum=-0.1), "momentum must be at least 0"),
        (lambda: LOSSES["pinball"](1.0), "pinball: parameter must be a finite number above 0 and below 1, got 1.0"),
        (lambda: LOSSES["huber"](0), "huber: parameter must be a finite number above 0"),
        (lambda: LOSSES["huber"]("a"), "huber: parameter must be a finite number above 0, got 'a'"),
        (lambda: LOSSES["huber"](10**400), "huber: parameter must be a finite number above 0"),
        (lambda: ACTIVATIONS["leaky_relu"](np.nan), "leaky_relu: parameter must be a finite number, got nan"),
        (lambda: Step(gamma=0), "step schedule: gamma must be a number above 0 and at most 1, got 0"),
        (lambda: Step(epochs=0), "step schedule: epochs"),
        (lambda: Exponential(1.5), "exponential schedule: gamma"),
        (lambda: Cosine(2), "cosine schedule: final"),
        (lambda: OneCycle(rise=0), "one_cycle schedule: rise"),
        (lambda: WarmUp(fraction=2), "warm_up schedule: fraction"),
        (lambda: InverseScaling(0), "inverse_scaling schedule: power"),
    ],
)
def test_settings_of_table_entries(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_tables_list_what_they_hold():
    for table in (ACTIVATIONS, LOSSES, OPTIMIZERS, SCHEDULES, INITIALIZERS):
        assert len(table) == len(list(table)) > 4
        assert all(table[name].name == name for name in table)
        assert "nothing" not in table
        with pytest.raises(KeyError):
            table["nothing"]


class TestSmallThings:
    def test_all_arrays_are_checked_before_one_is_changed(self, kind):
        net = kind((2, 3, 1), random_state=0)
        before = net.theta
        with pytest.raises(ValueError, match=r"w\[1\] has shape \(3, 1\), got an array of shape \(2, 2\)"):
            net.w = [np.ones((2, 3)), np.ones((2, 2))]
        with pytest.raises(TypeError, match=r"w\[0\] must be an array of real numbers, got complex numbers"):
            net.w[0] = 1j * np.ones((2, 3))
        np.testing.assert_array_equal(net.theta, before)

    def test_out(self, kind):
        net = kind((2, 1))
        with pytest.raises(ValueError, match=r"out must have the shape \(3,\) and dtype float32, got list"):
            net.loss_and_grad(net.theta, [[1, 2]], [[1]], out=[0.0] * 3)

    def test_callbacks(self, kind):
        with pytest.raises(TypeError, match="callbacks must be a sequence of callbacks, got None"):
            kind((2, 1)).fit([[1, 2]], [[1]], epochs=1, batch_size=1, callbacks=None)

    def test_sizes_without_a_length(self, kind):
        with pytest.raises(ValueError, match="sizes must be two or more whole numbers above 0"):
            kind(np.array(3))

    def test_finite_numbers_whose_squares_are_not(self, kind):
        with np.errstate(over="ignore"):  # of the loss itself
            assert (
                kind((3, 1), "identity", "absolute_error", initializer="zeros").eval_loss(np.full((4, 3), 1e30), np.zeros(4)) == 0
            )

    @pytest.mark.parametrize("epsilon", [0.0, -1.0, "small"])
    def test_epsilon(self, epsilon):
        with pytest.raises(ValueError, match="adam: epsilon must be"):
            OPTIMIZERS["adam"](epsilon=epsilon)

    @pytest.mark.parametrize("name", ["relu", "mine"])
    def test_entries_that_the_kernels_do_not_know(self, kind, name):
        tanh = ACTIVATIONS["tanh"]
        entry = replace(ACTIVATIONS["relu"], name=name, value=tanh.value, compiled_value=tanh.compiled_value)
        with pytest.raises(ValueError, match=f"activation.*'{name}' has other formulas than the table"):
            kind((2, 1), entry)

    def test_more_threads_than_work(self):
        net = MLP((2, 1), n_threads=40_000, random_state=0).fit(np.ones((4, 2)), np.ones(4), epochs=1, batch_size=4)
        assert np.isfinite(net.theta).all()

    @pytest.mark.parametrize("name", ["sizes", "dtype", "reduction"])
    def test_what_cannot_change(self, kind, name):
        net = kind((2, 3, 1))
        with pytest.raises(AttributeError, match=r"no setter|can't set"):
            setattr(net, name, getattr(net, name))

    @pytest.mark.parametrize("value", [0, -4, "a", 1.5])
    def test_threads_that_are_assigned(self, value):
        net = MLP((2, 1), random_state=0)
        with pytest.raises((ValueError, TypeError), match="n_threads must be"):
            net.n_threads = value
        net.n_threads = 2
        assert net.n_threads == 2

    def test_a_step_that_diverges(self, kind):
        net = kind((2, 3, 1), "identity", random_state=0)
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(20, 2)), rng.normal(size=20)
        good = [net.theta]

        def train():
            for _ in range(100):
                net.train_step(x, y, 1e6)
                good.append(net.theta)

        with pytest.raises(DivergenceError, match="Try a lower rate"):
            train()
        np.testing.assert_array_equal(net.theta, good[-1])

    def test_a_step_with_weights(self, kind):
        net, other = (kind((2, 3, 1), random_state=0, dtype="float64") for _ in range(2))
        x, y = np.random.default_rng(0).normal(size=(3, 2)), [1.0, 2.0, 3.0]
        net.train_step(x, y, 0.1, sample_weight=[1, 2, 0])
        other.train_step(x[[0, 1, 1]], [1.0, 2.0, 2.0], 0.1)
        np.testing.assert_allclose(net.theta, other.theta, rtol=1e-12)

    def test_masked_elements(self, kind):
        x = np.ma.masked_array(np.ones((3, 2)))
        assert kind((2, 1)).predict(x).shape == (3, 1)
        x[1, 1] = np.ma.masked
        with pytest.raises(ValueError, match="x has masked elements; fill them first"):
            kind((2, 1)).predict(x)

    @pytest.mark.parametrize("schedule", SCHEDULES.values())
    def test_schedules_may_be_given_as_such(self, kind, schedule):
        assert np.array_equal(self.trained(kind, schedule), self.trained(kind, schedule.name))

    def test_a_schedule_has_its_own_constants(self, kind):
        assert not np.array_equal(self.trained(kind, Cosine(final=0.0)), self.trained(kind, Cosine(final=1.0)))

    @staticmethod
    def trained(kind, schedule):
        net = kind((2, 1), "identity", random_state=0)
        return net.fit(np.ones((4, 2)), np.ones(4), epochs=2, batch_size=2, schedule=schedule).theta

    def test_unknown_keys_of_a_table(self):
        with pytest.raises(KeyError, match="there is no activation 'leeky'; there are identity"):
            ACTIVATIONS["leeky"]
        assert "relu" in repr(ACTIVATIONS)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1e-19, 1e-6, 1e6, 1e19])
def test_the_scale_of_weights_does_not_matter_for_a_mean(kind, dtype, scale):
    x = np.random.default_rng(0).normal(size=(60, 3))
    weight = np.random.default_rng(1).random(60) + 0.5

    def trained(scale):
        net = kind((3, 4, 2), "tanh", dtype=dtype, random_state=0)
        return net.fit(x, x[:, :2], epochs=5, batch_size=7, learning_rate=0.1, sample_weight=scale * weight)

    np.testing.assert_allclose(trained(scale).theta, trained(1.0).theta, rtol=1e-4, atol=1e-6)
    assert trained(scale).loss_curve_ == pytest.approx(trained(1.0).loss_curve_, rel=1e-5)


def test_numpy_that_raises_errors_of_floating_point(kind):
    """As people set it to find their own; powers of a decay, and 1e-50 in float32, are zero on purpose."""
    x = np.random.default_rng(0).normal(size=(100, 4))
    with np.errstate(all="raise"):
        for optimizer in ("adam", "adamw", "nadam"):
            net = kind((4, 3, 1), "tanh", random_state=0)
            net.fit(x, x[:, 0], epochs=120, batch_size=1 if kind is MLP else 5, optimizer=optimizer)
        net.predict([[1e-50, 0, 0, 1]])
