"""A person's own activations and losses."""

from __future__ import annotations

import copy
import functools
import math
import pickle
import sys
import types

import numba
import numpy as np
import pytest
from sklearn.base import clone

from fastmlp import ACTIVATIONS, LOSSES, MLP, OPTIMIZERS, MLPClassifier, MLPRegressor, ReferenceMLP, make_activation, make_loss
from tests.test_gradients import numerical_gradient
from tests.test_invariants import run_python


def soft_sign(z):
    return z / (1 + abs(z))


def d_soft_sign(z):
    return 1 / (1 + abs(z)) ** 2


def swish(z):
    return z / (1 + math.exp(-z))


def hinge(z):
    return z if z > 0 else 0.1 * z


def numpy_tanh(z):
    return np.tanh(z)


def cauchy(a, y):
    return math.log(1 + (a - y) ** 2)


def d_cauchy(a, y):
    return 2 * (a - y) / (1 + (a - y) ** 2)


def focal(a, y):
    """Lin et al. (2017), equation 4, with gamma = 2; of probabilities only."""
    p = a if y == 1 else 1 - a
    return -((1 - p) ** 2) * math.log(p)


OWN = {
    "soft_sign": (soft_sign, d_soft_sign),
    "swish": (swish, None),
    "hinge": (hinge, None),
    "numpy_tanh": (numpy_tanh, None),
    "tanh": (np.tanh, None),
}


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", [(3, 20, 5, 2), (3, 700, 300, 2)])
def test_both_networks_compute_the_same(name, dtype, sizes):
    """In all ways that rows go through a network: as panels and layer by layer, one sample, prediction only."""
    own = make_activation(*OWN[name])
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(70, 3)), rng.normal(size=(70, 2))
    nets = [kind(sizes, [own, own, "identity"], make_loss(cauchy), dtype=dtype, random_state=0) for kind in (MLP, ReferenceMLP)]
    for net in nets:
        net.fit(x, y, epochs=2, batch_size=70, learning_rate=0.01).fit(x[:9], y[:9], epochs=1, batch_size=1, learning_rate=0.01)
    tolerance = {"rtol": 1e-7, "atol": 1e-9} if dtype == "float64" else {"rtol": 1e-3, "atol": 1e-4}
    np.testing.assert_allclose(nets[0].theta, nets[1].theta, **tolerance)
    np.testing.assert_allclose(nets[0].predict(x), nets[1].predict(x), **tolerance)
    assert nets[0].eval_loss(x, y) == pytest.approx(nets[1].eval_loss(x, y), rel=tolerance["rtol"])


@pytest.mark.parametrize("derivative", [None, d_cauchy])
@pytest.mark.parametrize("activation", [soft_sign, swish])
def test_gradient_is_the_slope_of_the_loss(kind, activation, derivative):
    rng = np.random.default_rng(1)
    net = kind((3, 4, 2), [activation, activation], make_loss(cauchy, derivative), dtype="float64", random_state=0)
    theta = net.theta + 0.1
    x, y, weight = rng.normal(size=(5, 3)), rng.normal(size=(5, 2)), rng.random(5)
    _, gradient, _ = net.loss_and_grad(theta, x, y, weight)
    np.testing.assert_allclose(gradient, numerical_gradient(net, theta, x, y, weight), rtol=2e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "loss"), [("identity", "squared_error"), ("sigmoid", "binary_cross_entropy"), ("exponential", "poisson")]
)
def test_a_function_with_a_name_of_the_table_is_another_one(kind, name, loss):
    """Not the loss's canonical activation, whose derivative is a - y."""
    own = make_activation(lambda z: 0.3 + 0.4 / (1 + math.exp(-2 * z)), name=name)
    rng = np.random.default_rng(1)
    net = kind((3, 4, 2), ["tanh", own], loss, dtype="float64", random_state=0)
    theta = net.theta + 0.1
    x, y, weight = rng.normal(size=(5, 3)), rng.random((5, 2)), rng.random(5)
    _, gradient, _ = net.loss_and_grad(theta, x, y, weight)
    np.testing.assert_allclose(gradient, numerical_gradient(net, theta, x, y, weight), rtol=2e-6, atol=1e-8)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", ["poisson", "gamma", "squared_error"])
def test_a_loss_with_a_name_of_the_table_is_another_one_to_the_regressor(name):
    """Not one of positive numbers, nor a mean over the outputs."""

    def half_square(a, y):
        return 0.5 * (a - y) ** 2

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 3)), rng.normal(size=(50, 2))
    ours, expected = (
        MLPRegressor(make_loss(half_square, name=one), (5,), max_iter=3, random_state=0).fit(x, y) for one in (name, "another")
    )
    assert ours.out_activation_ == expected.out_activation_ == "identity"
    assert ours.loss_ == expected.loss_
    np.testing.assert_array_equal(ours.coefs_[0], expected.coefs_[0])


@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_an_activation_with_a_name_of_the_table_is_another_one_to_the_estimators(name):
    """Which may be one of hidden layers, and whose first weights are drawn as those of any other."""
    ours, expected = (
        MLPRegressor(hidden_layer_sizes=(5,), activation=make_activation(swish, name=one), random_state=0).build(3, 2)
        for one in (name, "another")
    )
    np.testing.assert_array_equal(ours.coefs_[0], expected.coefs_[0])
    np.testing.assert_array_equal(ours.predict([[1, 2, 3]]), expected.predict([[1, 2, 3]]))


def test_a_twin_of_the_table_gives_the_same():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 3)), rng.normal(size=(50, 2))
    nets = [
        MLP((3, 20, 2), [activation, "identity"], loss, dtype="float64", random_state=0).fit(x, y, epochs=3, batch_size=8)
        for activation, loss in (
            (make_activation(swish, initializer="he"), make_loss(lambda a, y: 0.5 * (a - y) ** 2, lambda a, y: a - y)),
            ("silu", "squared_error"),
        )
    ]
    np.testing.assert_allclose(nets[0].theta, nets[1].theta, rtol=1e-8, atol=1e-9)


def test_the_kernels_are_not_compiled_again():
    from fastmlp.kernels.epoch import run_chunks
    from fastmlp.kernels.predict import predict_rows

    x, y = np.zeros((4, 2)), np.zeros((4, 1))
    MLP((2, 3, 1), dtype="float64").fit(x, y, epochs=1, batch_size=2).predict(x)
    before = len(run_chunks.dispatcher.signatures), len(predict_rows.dispatcher.signatures)

    def another(z):
        return z * 0.5 + math.sin(z)

    MLP((2, 3, 1), another, make_loss(cauchy), dtype="float64").fit(x, y, epochs=1, batch_size=2).predict(x)
    assert (len(run_chunks.dispatcher.signatures), len(predict_rows.dispatcher.signatures)) == before


def test_a_loss_of_probabilities_learns_from_labels():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 2))
    labels = (x[:, 0] * x[:, 1] > 0).astype(int)
    net = MLP((2, 20, 1), ("tanh", "sigmoid"), make_loss(focal, classification=True), random_state=0)
    net.fit(x, labels, epochs=200, batch_size=20, learning_rate=0.02, optimizer="adam")
    assert ((net.predict(x)[:, 0] > 0.5) == labels).mean() > 0.95


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: make_activation(swish, lambda z: 1.001 * math.exp(-z)),
            ValueError,
            "activation 'swish': the derivative is .* but the",
        ),
        (
            lambda: make_loss(cauchy, lambda a, y: y - a),
            ValueError,
            r"loss 'cauchy': the derivative is .* at \(-2.986, -2.493\), but the",
        ),
        (lambda: make_activation(math.log), ValueError, "activation 'log' must be finite everywhere, but for -5.986 it is nan"),
        (lambda: make_activation(lambda z: 1.0 if z > 1 else math.nan, name="odd"), ValueError, "activation 'odd' must be finite"),
        (lambda: make_activation(lambda z: math.sin(1e6 * z)), ValueError, "activation 'own' has no slope at"),
        (lambda: make_loss(lambda a, y: math.nan), ValueError, "loss 'own' must be finite for most predictions"),
        (lambda: make_activation(cauchy), TypeError, r"activation 'cauchy' must be a function of one number .*missing 1 required"),
        (lambda: make_activation("swish"), TypeError, "'str' must be made of functions written with def or lambda, got 'swish'"),
        (
            lambda: make_activation(functools.partial(cauchy, 1.0)),
            TypeError,
            "made of functions written with def or lambda, got func",
        ),
        (
            lambda: make_activation(swish, lambda z, a: z),
            TypeError,
            "the derivative of activation 'swish' must be a function of one",
        ),
        (lambda: make_activation(swish, initializer="foo"), ValueError, "initializer='foo' is unknown"),
        (lambda: make_activation(swish)(2.0), TypeError, "swish is a function of its own, without a parameter"),
        (lambda: make_loss(cauchy)(2.0), TypeError, "cauchy is a function of its own, without a parameter"),
    ],
)
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_what_numba_cannot_compile_is_said():
    def through_text(z):
        return float(str(z))

    with pytest.raises(TypeError, match=r"through_text: numba cannot compile the function .* It has to be made of arithmetic"):
        MLP((2, 3, 1), make_activation(through_text)).predict([[0, 0]])


def test_a_function_in_a_function():
    def captures(z):
        twice = 2 * z

        def shifted(t):
            return t + twice

        return math.tanh(shifted(z))

    ours = MLP((2, 3, 1), make_activation(captures), dtype="float64", random_state=0)
    theirs = ReferenceMLP((2, 3, 1), make_activation(captures), dtype="float64", random_state=0)
    np.testing.assert_allclose(ours.predict([[1, 2]]), theirs.predict([[1, 2]]), rtol=1e-12)


def test_copies_and_pickles():
    net = MLP((2, 3, 1), [soft_sign, "identity"], make_loss(cauchy, d_cauchy), random_state=0)
    x = [[1.0, 2.0]]
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        np.testing.assert_array_equal(other.predict(x), net.predict(x))
        assert other.activation == ("soft_sign", "identity")
        assert other.loss == "cauchy"
    for entry in (ACTIVATIONS["elu"](0.5), LOSSES["huber"](2.0), LOSSES["squared_error"], OPTIMIZERS["adam"](beta1=0.8)):
        assert pickle.loads(pickle.dumps(entry)) == entry
        assert copy.deepcopy(entry) is entry


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_estimators():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3))
    labels = np.where(x[:, 0] * x[:, 1] > 0, "yes", "no")
    classifier = MLPClassifier((20,), activation=swish, max_iter=150, learning_rate_init=0.01, random_state=0, tol=0)
    classifier.fit(x, labels)
    assert classifier.score(x, labels) > 0.95
    assert clone(classifier).get_params()["activation"] is swish
    y = x @ [1.0, 2.0, 3.0]
    y[::10] += 100  # what a robust loss does not mind
    errors = []
    for loss in ("squared_error", cauchy):
        regressor = MLPRegressor(
            loss, (20,), max_iter=200, learning_rate_init=0.01, random_state=0, optimizer=OPTIMIZERS["adam"](beta1=0.8)
        )
        regressor = pickle.loads(pickle.dumps(regressor.fit(x, y)))
        errors.append(np.median(np.abs(regressor.predict(x) - y)))
    assert errors[1] < 0.2 * errors[0]


def test_files_hold_no_code(tmp_path):
    from fastmlp.io.safetensors import save

    with pytest.raises(ValueError, match="'soft_sign' is a function of your own, and a file holds no code"):
        save(MLP((2, 3, 1), [soft_sign, "identity"]), tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_without_a_compiler():
    printed = run_python(
        """
        import numpy as np
        from fastmlp import MLP, ReferenceMLP, make_loss
        from tests.test_own import cauchy, soft_sign, swish

        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(20, 3)), rng.normal(size=(20, 2))
        thetas = [
            kind((3, 5, 4, 2), [soft_sign, swish, "identity"], make_loss(cauchy), dtype="float64", random_state=0)
            .fit(x, y, epochs=2, batch_size=6).theta for kind in (MLP, ReferenceMLP)
        ]
        print(np.abs(thetas[0] - thetas[1]).max() < 1e-9)
        """,
        NUMBA_DISABLE_JIT="1",
    )
    assert printed.strip() == "True"


@pytest.mark.parametrize("batch_size", [1, 20])
@pytest.mark.parametrize("hidden", [5, 16, 601])
def test_an_activation_with_an_infinite_slope_at_zero(rng, hidden, batch_size):
    """Which is where padding is: nothing of it may come into the weights."""

    def root(z):
        return math.copysign(math.sqrt(abs(z)), z)

    own = make_activation(root, lambda z: 0.5 / math.sqrt(abs(z)))
    x = rng.normal(size=(80, 230))
    ours, theirs = (
        kind((230, hidden, 3), [own, "identity"], dtype="float64", random_state=0).fit(
            x, x[:, :3], epochs=1, batch_size=80 if hidden > 600 else batch_size, learning_rate=1e-4, shuffle=False
        )
        for kind in (MLP, ReferenceMLP)
    )
    np.testing.assert_allclose(ours.theta, theirs.theta, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("hidden", [5, 16, 100])
@pytest.mark.parametrize("outputs", [1, 2, 3, 6, 11])
@pytest.mark.parametrize("of_outputs", [False, True])
def test_an_activation_without_a_value_at_zero(rng, hidden, outputs, of_outputs):
    """Which is what rows are padded with where a layer is no whole number of vectors."""

    def entropy(z):
        return z * math.log(z * z)

    own = make_activation(entropy)
    x = rng.normal(size=(40, 12))
    ours, theirs = (
        kind((12, hidden, outputs), [own, own if of_outputs else "identity"], dtype="float64", random_state=0).fit(
            x, x[:, :outputs], epochs=2, batch_size=20, optimizer="adam", shuffle=False
        )
        for kind in (MLP, ReferenceMLP)
    )
    np.testing.assert_allclose(ours.theta, theirs.theta, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(ours.predict(x), theirs.predict(x), rtol=1e-6, atol=1e-9)


def raising(z):
    if z > 100:
        raise ValueError("too large")
    return z


def printing(z):
    if z > 100:
        print(z)
    return z


@pytest.mark.parametrize("function", [raising, printing])
def test_what_raises_or_prints_is_refused(function):
    """In a kernel, an exception would be ignored, and to print may wait for ever."""
    net = MLP((3, 4, 1), [function, "identity"], random_state=0)
    with pytest.raises(TypeError, match="prints, or raises"):
        net.predict(np.ones((5, 3)))


SCALE = 1.0


def scaled(z):
    return math.tanh(SCALE * z)


def scaled_by(scale):
    return lambda z: math.tanh(scale * z)


@pytest.mark.parametrize("outer", ["module", "function"])
def test_a_constant_that_has_changed_is_another_function(monkeypatch, outer):
    for scale in (1.0, 3.0):
        monkeypatch.setattr(sys.modules[__name__], "SCALE", scale)
        net = MLP((1, 1, 1), [scaled if outer == "module" else scaled_by(scale), "identity"], dtype="float64")
        net.w, net.b = [np.ones((1, 1))] * 2, [np.zeros((1, 1))] * 2
        assert net.predict(np.ones((1, 1))) == pytest.approx(np.tanh(scale))


PAIR, NUMBERS, FACTOR, SETTINGS = (1.0, 0.0), np.ones(1), 1.0, types.ModuleType("settings")
SETTINGS.inner = types.ModuleType("settings.inner")
helper = numba.njit(lambda z: z)


def with_inner(z):
    def times(number):
        return FACTOR * number

    return times(z)


def with_default(z, factor=1.0):
    return factor * z


@pytest.mark.parametrize(
    ("name", "function", "other"),
    [
        ("PAIR", lambda z: PAIR[0] * z, (3.0, 0.0)),
        ("NUMBERS", lambda z: NUMBERS[0] * z, np.full(1, 3.0)),
        ("SETTINGS.scale", lambda z: SETTINGS.scale * z, 3.0),
        ("SETTINGS.inner.scale", lambda z: SETTINGS.inner.scale * z, 3.0),
        ("SETTINGS.scale", (lambda settings: lambda z: settings.scale * z)(SETTINGS), 3.0),
        ("helper", lambda z: helper(z), numba.njit(lambda z: 3 * z)),
        ("FACTOR", with_inner, 3.0),
        ("with_default.__defaults__", with_default, (3.0,)),
    ],
    ids=[
        "tuple",
        "array",
        "number of a module",
        "number of a module in it",
        "number of a local module",
        "function",
        "number in an inner function",
        "default",
    ],
)
def test_so_is_one_with_anything_else_from_outside_that_has_changed(monkeypatch, name, function, other):
    SETTINGS.scale = SETTINGS.inner.scale = 1.0
    predictions = []
    for _ in range(2):
        net = MLP((1, 1), function, dtype="float64")
        net.w = [np.ones((1, 1))]
        predictions.append(net.predict(np.ones((1, 1))).item())
        monkeypatch.setattr(f"{__name__}.{name}", other)
    assert predictions == [1, 3]
