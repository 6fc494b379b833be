"""Properties that hold for any shape, dtype, memory order and kind of input array."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastmlp import ACTIVATIONS, LOSSES, MLP, OPTIMIZERS, ReferenceMLP
from tests.test_gradients import targets_for

sizes = st.lists(st.integers(1, 40), min_size=2, max_size=5).map(tuple)
dtypes = st.sampled_from(["float32", "float64"])
seeds = st.integers(0, 2**32 - 1)
layouts = st.sampled_from(["C", "F", "strided", "reversed", "read-only", "big-endian", "unaligned", "list", "memoryview"])


def in_layout(array, layout):
    """The same numbers, held in another way."""
    if layout == "F":
        return np.asfortranarray(array)
    if layout == "strided":
        wide = np.full((2 * array.shape[0], 3 * array.shape[1]), np.nan, array.dtype)
        wide[::2, ::3] = array
        return wide[::2, ::3]
    if layout == "reversed":
        return array[::-1].copy()[::-1]
    if layout == "read-only":
        copy = array.copy()
        copy.flags.writeable = False
        return copy
    if layout == "big-endian":
        return array.astype(array.dtype.newbyteorder(">"))
    if layout == "unaligned":
        raw = np.zeros(array.nbytes + 1, np.uint8)
        raw[1:] = array.view(np.uint8).reshape(-1)
        return raw[1:].view(array.dtype).reshape(array.shape)
    if layout == "list":
        return array.tolist()
    if layout == "memoryview":
        return memoryview(np.ascontiguousarray(array))
    return array


@given(sizes, dtypes, layouts, layouts, seeds)
def test_the_layout_of_input_arrays_changes_nothing(sizes, dtype, x_layout, y_layout, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(9, sizes[0])).astype(dtype), rng.random((9, sizes[-1])).astype(dtype)
    net = MLP(sizes, "tanh", dtype=dtype, random_state=0)
    twin = MLP(sizes, "tanh", dtype=dtype, random_state=0)
    odd_x, odd_y = in_layout(x, x_layout), in_layout(y, y_layout)
    assert np.array_equal(net.predict(odd_x), twin.predict(x))
    assert net.eval_loss(odd_x, odd_y) == twin.eval_loss(x, y)
    net.fit(odd_x, odd_y, epochs=2, batch_size=4)
    twin.fit(x, y, epochs=2, batch_size=4)
    assert np.array_equal(net.theta, twin.theta)


@settings(max_examples=150)
@given(
    sizes,
    st.sampled_from([name for name in ACTIVATIONS if name not in ("softmax", "exponential")]),
    st.sampled_from(["identity", "sigmoid", "softmax"]),
    st.sampled_from(list(LOSSES)),
    st.sampled_from(list(OPTIMIZERS)),
    st.integers(1, 30),
    st.integers(1, 40),
    st.integers(1, 3),
    seeds,
)
def test_compiled_and_reference_agree(sizes, hidden, output, loss, optimizer, rows, batch_size, n_threads, seed):
    rng = np.random.default_rng(seed)
    activation = [hidden] * (len(sizes) - 2) + [output]
    x, y = rng.normal(size=(rows, sizes[0])), targets_for(loss, rng, (rows, sizes[-1]))
    weight = rng.random(rows) + 0.1
    nets = []
    for kind in (MLP, ReferenceMLP):
        net = kind(sizes, activation, loss, dtype="float64", random_state=0, n_threads=n_threads)
        nets.append(net)
    ours, theirs = (net.loss_and_grad(net.theta, x, y, weight) for net in nets)
    scale = np.abs(theirs[1]).max() + 1e-6  # terms may cancel, so that the gradient is 0 to one order of sums and 1e-17 to another
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-9, atol=1e-9 * scale)
    for net in nets:
        net.fit(x, y, epochs=1, batch_size=batch_size, optimizer=optimizer, learning_rate=1e-6, sample_weight=weight)
    np.testing.assert_allclose(nets[0].theta, nets[1].theta, rtol=1e-7, atol=1e-9)


@given(sizes, dtypes, st.integers(1, 70), seeds)
def test_rows_do_not_see_each_other(sizes, dtype, rows, seed):
    """The outputs for a row are the same in any company, up to the last bits."""
    rng = np.random.default_rng(seed)
    net = MLP(sizes, ["gelu"] * (len(sizes) - 2) + ["softmax"], dtype=dtype, random_state=0)
    x = rng.normal(size=(rows, sizes[0]))
    together = net.predict(x)
    row = int(rng.integers(rows))
    np.testing.assert_allclose(net.predict(x[row])[0], together[row], rtol=1e-5 if dtype == "float32" else 1e-13)


@given(sizes, dtypes, seeds)
def test_theta_holds_everything(sizes, dtype, seed):
    rng = np.random.default_rng(seed)
    net = MLP(sizes, "tanh", dtype=dtype, random_state=0)
    theta = rng.normal(size=net.theta.size).astype(dtype)
    net.theta = theta
    assert np.array_equal(net.theta, theta)
    twin = MLP(sizes, "tanh", dtype=dtype)
    twin.w, twin.b = net.w, net.b
    x = rng.normal(size=(3, sizes[0]))
    assert np.array_equal(twin.predict(x), net.predict(x))


@given(sizes | st.just((20, 960, 5)), dtypes, st.integers(1, 20), st.integers(1, 25), seeds)
@example((20, 960, 5), "float32", 20, 10, 0)  # as wide as a block of gradients, which shares its memory with the outputs
def test_padding_stays_zero(sizes, dtype, rows, batch_size, seed):
    """Nothing may leak into the padding of a row: the next layer would never see it, but the next product would."""
    rng = np.random.default_rng(seed)
    net = MLP(sizes, "sigmoid", dtype=dtype, random_state=0)
    x, y = rng.normal(size=(rows, sizes[0])), rng.random((rows, sizes[-1]))
    net.fit(x, y, epochs=3, batch_size=batch_size, optimizer="adam", weight_decay=0.1, l2=0.1)
    total = sum(np.abs(array).sum(dtype="f8") for array in [*net.w, *net.b])
    assert np.abs(net._buffer).sum(dtype="f8") == total or np.isclose(np.abs(net._buffer).sum(dtype="f8"), total, rtol=1e-12)
    used = sum(np.count_nonzero(array) for array in [*net.w, *net.b])
    assert np.count_nonzero(net._buffer) == used
