"""The fast functions against NumPy in higher precision, over their range and at its edges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import special

from fastmlp import ACTIVATIONS, MLP, ReferenceMLP
from fastmlp.kernels import elementary
from fastmlp.kernels.jit import kernel


@kernel
def exp_loop(x, out):
    for i in range(len(x)):
        out[i] = elementary.exp(x[i])


@kernel
def log_loop(x, out):
    for i in range(len(x)):
        out[i] = elementary.log(x[i])


@kernel
def tanh_loop(x, out):
    for i in range(len(x)):
        out[i] = elementary.tanh(x[i])


@kernel
def sigmoid_loop(x, out):
    for i in range(len(x)):
        out[i] = elementary.sigmoid(x[i])


@kernel
def softplus_loop(x, out):
    for i in range(len(x)):
        out[i] = elementary.softplus(x[i])


@kernel
def erf_loop(x, out):
    for i in range(len(x)):
        out[i] = elementary.erf(x[i])


@kernel
def log_loss_loop(z, y, out):
    for i in range(len(z)):
        out[i] = elementary.log_loss(z[i], y)


WIDE = np.longdouble
EXACT = {
    "exp": (exp_loop, np.exp),
    "log": (log_loop, np.log),
    "tanh": (tanh_loop, np.tanh),
    "sigmoid": (sigmoid_loop, lambda x: np.exp(-np.logaddexp(WIDE(0), -x))),
    "softplus": (softplus_loop, lambda x: np.logaddexp(WIDE(0), x)),
    "erf": (erf_loop, lambda x: special.erf(x.astype(np.float64)).astype(WIDE)),
}


def grid(name, dtype):
    """Dense over the range where the result is a normal number, and over all magnitudes down to tiny ones."""
    info = np.finfo(dtype)
    if name == "log":
        return np.exp2(np.linspace(info.minexp, info.maxexp - 1e-3, 400_001)).astype(dtype)
    high = {"exp": np.log(float(info.max)), "tanh": 25, "erf": 7}.get(name, -np.log(float(info.tiny)))
    low = np.log(float(info.tiny)) if name in ("exp", "sigmoid", "softplus") else -high
    small = np.geomspace(1e-30, 1, 20_001)
    points = np.concatenate([np.linspace(low * 0.999, high * 0.999, 400_001), small, -small])
    return points.astype(dtype)


def evaluate(name, x):
    out = np.empty_like(x)
    EXACT[name][0](x, out)
    return out


@pytest.mark.parametrize("name", EXACT)
def test_float32_within_four_units_in_the_last_place(name):
    x = grid(name, np.float32)
    exact = EXACT[name][1](x.astype(np.float64).astype(WIDE))
    error = np.abs(evaluate(name, x).astype(WIDE) - exact) / np.spacing(np.abs(exact).astype(np.float32))
    assert error.max() <= 4, f"{error.max()} ulp at {x[error.argmax()]}"


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="there is nothing wider than float64 to compare with here")
def test_float64_within_1e_13(name):
    x = grid(name, np.float64)
    exact = EXACT[name][1](x.astype(WIDE))
    nonzero = exact != 0
    error = np.abs(evaluate(name, x)[nonzero] / exact[nonzero] - 1)
    assert error.max() <= 1e-13, f"{error.max()} at {x[nonzero][error.argmax()]}"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("limit", "beyond"), [("max", np.inf), ("tiny", 0)])
def test_exp_next_to_its_limits(limit, beyond, dtype):
    edge = np.log(WIDE(getattr(np.finfo(dtype), limit))).astype(dtype)
    integer = f"i{edge.itemsize}"
    steps = np.arange(-3000, 3001, dtype=integer)
    x = (edge.view(integer) + steps).view(dtype)
    y = evaluate("exp", x)
    inside, outside = steps < -3, steps > 3
    exact = np.exp(x[inside].astype(WIDE))
    assert (np.abs(y[inside] - exact) <= 4 * np.spacing(exact.astype(dtype))).all()
    assert (y[outside] == beyond).all()
    assert not np.isnan(y).any()


EDGES = {
    "exp": {np.inf: np.inf, -np.inf: 0, 0.0: 1, 1e-310: 1, 1000: np.inf, -1000: 0},
    "log": {np.inf: np.inf, 0.0: -np.inf, 1.0: 0, -1.0: np.nan},
    "tanh": {np.inf: 1, -np.inf: -1, 0.0: 0, 1000: 1, -1000: -1},
    "sigmoid": {np.inf: 1, -np.inf: 0, 0.0: 0.5, 1000: 1, -1000: 0},
    "softplus": {np.inf: np.inf, -np.inf: 0, 1000: 1000, -1000: 0},
    "erf": {np.inf: 1, -np.inf: -1, 0.0: 0},
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", EXACT)
def test_edges(name, dtype):
    x = np.array([*EDGES[name], np.nan], dtype)
    np.testing.assert_array_equal(evaluate(name, x), np.array([*EDGES[name].values(), np.nan], dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_overflow_and_underflow_of_exp_are_where_they_belong(dtype):
    info = np.finfo(dtype)
    top = np.log(info.max)
    below, above = np.nextafter(top, dtype(0)) - dtype(2e-5), top + dtype(2e-5)
    result = evaluate("exp", np.array([below, above], dtype))
    assert np.isfinite(result[0])
    assert result[1] == np.inf


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_passes_nan_on(name, dtype):
    from fastmlp import MLP

    net = MLP((1, 3, 2), ["identity" if ACTIVATIONS[name].by_row else name, name], dtype=dtype, random_state=0)
    net.w[0][0, 0] = np.nan
    assert np.isnan(net.predict([[1.0]])).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("entry", ACTIVATIONS.values(), ids=lambda entry: entry.name)
def test_every_loop_over_an_activation_is_made_of_vectors(entry, dtype):
    """A formula that is not inlined, or that branches, leaves a loop that calls it for one element after the other."""
    from fastmlp.engine.loops import activation_loop
    from fastmlp.kernels.loops import compile_loop

    code = compile_loop(replace(activation_loop(entry, slopes=True), name=None), np.dtype(dtype)).inspect_llvm()
    assert f"x {'float' if dtype == 'float32' else 'double'}>" in code
    calls = [line for line in code.splitlines() if " call i32 " in line]
    assert len(calls) <= 1, calls  # of the whole loop, by the function that has the address


def test_that_test_sees_a_call():
    import math

    from fastmlp.kernels.jit import formula
    from fastmlp.kernels.loops import Loop, activate_loop, compile_loop

    @formula
    def slow(z, parameter):
        return math.lgamma(z)

    code = compile_loop(Loop(activate_loop, (slow,), None), np.dtype(np.float64)).inspect_llvm()
    assert "x double>" not in code
    assert sum(" call " in line for line in code.splitlines()) > 1


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-13)])
@pytest.mark.parametrize("y", [0.0, 1.0])
def test_the_loss_of_a_sure_prediction_keeps_its_digits(y, dtype, tolerance):
    z = np.linspace(-60, 60, 4801, dtype=dtype)
    out = np.empty_like(z)
    log_loss_loop(z, z.dtype.type(y), out)
    wide = z.astype(WIDE)
    np.testing.assert_allclose(out, np.logaddexp(WIDE(0), -wide if y else wide).astype(np.float64), rtol=tolerance)
    logits = np.array([[12.0], [15.0], [20.0]], "float32")
    net = MLP((1, 1), "sigmoid", "binary_cross_entropy")
    net.w[0], net.b[0] = [[2 * y - 1]], [[0.0]]
    losses = [net.eval_loss(logit.reshape(1, 1), np.full((1, 1), y, "float32")) for logit in logits]
    np.testing.assert_allclose(losses, np.log1p(np.exp(-logits[:, 0].astype(np.float64))), rtol=1e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 2e-13)])
@pytest.mark.parametrize("kind", [MLP, ReferenceMLP])
def test_the_log_cosh_of_a_small_error_keeps_its_digits(kind, dtype, tolerance):
    errors = np.concatenate([np.geomspace(1e-6, 1, 40), [0.599, 0.6, 0.601, 5, 800]]).astype(dtype)
    net = kind((1, 1), "identity", "log_cosh", dtype=dtype)
    net.w[0], net.b[0] = [[1]], [[0]]
    losses = [net.eval_loss([[error]], [[0.0]]) for error in errors]
    np.testing.assert_allclose(losses, np.log1p(np.sinh(errors.astype(WIDE)) ** 2).astype(np.float64) / 2, rtol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-13)])
@pytest.mark.parametrize("kind", [MLP, ReferenceMLP])
def test_the_loss_of_a_sure_prediction_that_is_not_of_a_sigmoid_keeps_its_digits(kind, dtype, tolerance):
    probabilities = (1 - np.geomspace(2e-7, 0.5, 40)).astype(dtype)
    net = kind((1, 1), "identity", "binary_cross_entropy", dtype=dtype)
    net.w[0], net.b[0] = [[1]], [[0]]
    losses = [net.eval_loss([[probability]], [[1.0]]) for probability in probabilities]
    np.testing.assert_allclose(losses, -np.log(probabilities.astype(WIDE)).astype(np.float64), rtol=tolerance)
