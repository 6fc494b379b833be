"""Each step formula against its textbook, written out again from the papers and from PyTorch's documentation, in plain loops."""

from __future__ import annotations

import dataclasses
import math
import pickle

import numpy as np
import pytest

from fastmlp import LOSSES, MLP, OPTIMIZERS, ReferenceMLP

STEPS, RATE = 50, 0.05


def slope(t, w):
    """A gradient that changes with the step and with the parameter."""
    return math.sin(0.7 * t) + 0.3 * w


def sgd(w):
    for t in range(1, STEPS + 1):
        w -= RATE * slope(t, w)
    return w


def momentum(w, mu=0.9):
    buffer = 0.0
    for t in range(1, STEPS + 1):
        buffer = mu * buffer + slope(t, w)
        w -= RATE * buffer
    return w


def nesterov(w, mu=0.9):
    buffer = 0.0
    for t in range(1, STEPS + 1):
        g = slope(t, w)
        buffer = mu * buffer + g
        w -= RATE * (g + mu * buffer)
    return w


def rmsprop(w, alpha=0.99, eps=1e-8):
    mean_square = 0.0
    for t in range(1, STEPS + 1):
        g = slope(t, w)
        mean_square = alpha * mean_square + (1 - alpha) * g * g
        w -= RATE * g / (math.sqrt(mean_square) + eps)
    return w


def adagrad(w, eps=1e-10):
    total = 0.0
    for t in range(1, STEPS + 1):
        g = slope(t, w)
        total += g * g
        w -= RATE * g / (math.sqrt(total) + eps)
    return w


def adam(w, beta1=0.9, beta2=0.999, eps=1e-8, decay=0.0):
    m = v = 0.0
    for t in range(1, STEPS + 1):
        g = slope(t, w)
        w *= 1 - RATE * decay
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
        w -= RATE * m_hat / (math.sqrt(v_hat) + eps)
    return w


def adamw(w):
    return adam(w, decay=0.01)


def nadam(w, beta1=0.9, beta2=0.999, eps=1e-8, psi=0.004):
    m = v = 0.0
    product = 1.0
    for t in range(1, STEPS + 1):
        g = slope(t, w)
        mu, mu_next = beta1 * (1 - 0.5 * 0.96 ** (t * psi)), beta1 * (1 - 0.5 * 0.96 ** ((t + 1) * psi))
        product *= mu
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        m_hat = mu_next * m / (1 - product * mu_next) + (1 - mu) * g / (1 - product)
        w -= RATE * m_hat / (math.sqrt(v / (1 - beta2**t)) + eps)
    return w


TEXTBOOK = {f.__name__: f for f in (sgd, momentum, nesterov, rmsprop, adagrad, adam, adamw, nadam)}


def test_every_optimizer_has_a_textbook():
    assert set(TEXTBOOK) == set(OPTIMIZERS)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_formula(name):
    optimizer = OPTIMIZERS[name]
    table = optimizer.coefficient_table(1, np.full(STEPS, RATE))
    w, s1, s2 = 0.8, 0.0, 0.0
    for t in range(1, STEPS + 1):
        g = slope(t, w)
        w *= 1 - RATE * optimizer.weight_decay
        w, s1, s2 = optimizer.step.py_func(w, g, s1, s2, *table[t - 1])
    assert w == pytest.approx(TEXTBOOK[name](0.8), rel=1e-12)
    assert (s1 != 0) == (optimizer.n_states >= 1)
    assert (s2 != 0) == (optimizer.n_states == 2)


def test_the_momenta_of_a_long_nadam():
    optimizer = OPTIMIZERS["nadam"](beta1=0.999, momentum_decay=1.0)
    table = optimizer.coefficient_table(4000, np.ones(200))
    t = np.arange(1, 4201)
    momenta = 0.999 * (1 - 0.5 * 0.96**t)
    expected = (1 - momenta) / (1 - np.cumprod(momenta))
    np.testing.assert_allclose(table[:, 0], expected[3999:4199], rtol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_coefficients_do_not_depend_on_where_a_table_begins(name):
    rates = np.linspace(0.1, 0.2, 60)
    whole = OPTIMIZERS[name].coefficient_table(1, rates)
    parts = [OPTIMIZERS[name].coefficient_table(1 + start, rates[start : start + 20]) for start in (0, 20, 40)]
    assert np.array_equal(whole, np.concatenate(parts))
    assert np.isfinite(OPTIMIZERS[name].coefficient_table(10**7, rates)).all()


@pytest.mark.parametrize("name", ["adam", "nadam"])
def test_many_short_epochs_have_the_coefficients_of_their_steps(name):
    """They are made for more than an epoch at once."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 2)), rng.normal(size=(6, 1))
    fit = {"epochs": 200, "batch_size": 2, "learning_rate": 0.01, "optimizer": name}
    ours, expected = (kind((2, 3, 1), "tanh", random_state=0, dtype="float64").fit(x, y, **fit) for kind in (MLP, ReferenceMLP))
    np.testing.assert_allclose(ours.theta, expected.theta, rtol=1e-9, atol=1e-12)


def test_pytorch_where_it_is_installed():
    """The same 50 steps of torch.optim, from the same weights, on the same minibatches."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 4)), rng.normal(size=(50, 2))
    rivals = {
        "sgd": (torch.optim.SGD, {}),
        "momentum": (torch.optim.SGD, {"momentum": 0.9}),
        "nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        "rmsprop": (torch.optim.RMSprop, {}),
        "adagrad": (torch.optim.Adagrad, {}),
        "adam": (torch.optim.Adam, {}),
        "adamw": (torch.optim.AdamW, {}),
        "nadam": (torch.optim.NAdam, {}),
    }
    for name, (rival, options) in rivals.items():
        net = MLP((4, 6, 2), ("tanh", "identity"), dtype="float64", random_state=0)
        weights = [torch.tensor(w.copy(), requires_grad=True) for w in net.w]
        biases = [torch.tensor(b.copy(), requires_grad=True) for b in net.b]
        groups = [{"params": weights}, {"params": biases, "weight_decay": 0.0}]
        torch_optimizer = rival(groups, lr=0.01, **options)
        for i in range(50):
            a = torch.tanh(torch.tensor(x[i : i + 1]) @ weights[0] + biases[0]) @ weights[1] + biases[1]
            torch_optimizer.zero_grad()
            (0.5 * (a - torch.tensor(y[i : i + 1])) ** 2).sum().backward()
            torch_optimizer.step()
        net.fit(x, y, epochs=1, batch_size=1, learning_rate=0.01, optimizer=name, shuffle=False)
        for ours, theirs in zip([*net.w, *net.b], [*weights, *biases], strict=True):
            np.testing.assert_allclose(ours, theirs.detach().numpy(), atol=1e-9, err_msg=name)


def test_constants_are_python_s_own_numbers():
    options = OPTIMIZERS["adam"](beta1=np.float32(0.9), epsilon=np.float64(1e-7), beta2=0).options
    assert {type(value) for value in options.values()} == {float}
    assert options["beta1"] == float(np.float32(0.9))


def test_a_pickled_optimizer_has_the_coefficients_that_it_had():
    solvers = pytest.importorskip("fastmlp.estimators.solvers")
    for optimizer in (solvers.adam(0.9, 0.999, 1e-8), *OPTIMIZERS.values()):
        copy = pickle.loads(pickle.dumps(optimizer))
        rates = np.array([0.1, 0.2])
        assert np.array_equal(copy.coefficient_table(1, rates), optimizer.coefficient_table(1, rates))


def test_a_pickled_optimizer_keeps_its_weight_decay():
    optimizer = dataclasses.replace(OPTIMIZERS["adamw"], weight_decay=0.1)
    assert pickle.loads(pickle.dumps(optimizer)).weight_decay == 0.1


@pytest.mark.parametrize("name", ["binary_cross_entropy", "cross_entropy"])
def test_nan_is_seen_in_the_derivative_of_the_reference(name):
    assert np.isnan(LOSSES[name].derivative(np.array([[np.nan]]), np.array([[1.0]]), 0.0)).all()
