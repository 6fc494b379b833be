"""The interface, over the compiled network and the NumPy reference alike."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest
from scipy import sparse

from fastmlp import ACTIVATIONS, INITIALIZERS, LOSSES, MLP, OPTIMIZERS, SCHEDULES, DivergenceError, ReferenceMLP
from fastmlp.callbacks import Callback, EarlyStopping
from tests.test_invariants import run_python


def make(kind, sizes=(3, 4, 2), activation=("tanh", "sigmoid"), loss="squared_error", **options):
    options = {"dtype": "float64", "random_state": 1} | options
    return kind(sizes, activation, loss, **options)


@pytest.fixture
def data(rng):
    return rng.normal(size=(30, 3)), rng.random((30, 2))


class TestAttributes:
    def test_describe_the_network(self, kind):
        net = kind((64, 15, 10), ("relu", "sigmoid"))
        assert net.sizes == (64, 15, 10)
        assert net.num_layers == 3
        assert net.activation == ("relu", "sigmoid")
        assert net.loss == "squared_error"
        assert net.loss_curve_ == []
        assert [w.shape for w in net.w] == [(64, 15), (15, 10)]
        assert [b.shape for b in net.b] == [(1, 15), (1, 10)]
        assert all(array.dtype == np.float32 for array in [*net.w, *net.b])
        assert not any(b.any() for b in net.b)
        assert "64, 15, 10" in repr(net)

    def test_one_activation_is_for_every_layer(self, kind):
        assert kind((2, 3, 4, 5), "tanh").activation == ("tanh", "tanh", "tanh")

    def test_aliases_and_table_entries(self, kind):
        net = kind((2, 3, 1), [ACTIVATIONS["leaky_relu"](0.3), "logistic"], LOSSES["pinball"](0.9))
        assert net.activation == ("leaky_relu", "sigmoid")
        assert net.loss == "pinball"

    def test_a_table_entry_with_a_parameter_is_obeyed(self, kind):
        net = kind((1, 1), ACTIVATIONS["leaky_relu"](0.25))
        net.w[0] = [[1.0]]
        assert net.predict([-4.0]) == -1

    def test_so_is_that_of_a_loss(self, kind):
        net = kind((1, 1), "identity", LOSSES["pinball"](0.9), initializer="zeros")
        assert net.eval_loss([[1.0]], [2.0]) == pytest.approx(1.8)
        assert net.eval_loss([[1.0]], [-2.0]) == pytest.approx(0.2)

    def test_same_seed_same_weights_in_both(self, kind):
        ours, theirs = kind((5, 6, 7), random_state=3), MLP((5, 6, 7), random_state=3)
        assert all(np.array_equal(a, b) for a, b in zip(ours.w, theirs.w, strict=True))
        assert not np.array_equal(ours.w[0], kind((5, 6, 7), random_state=4).w[0])


class TestParameters:
    def test_layers_may_change_places(self, kind):
        net = kind((3, 3, 3, 3), "tanh", random_state=0)
        before = [array.copy() for array in net.w]
        net.w = net.w[::-1]
        for array, expected in zip(net.w, before[::-1], strict=True):
            np.testing.assert_array_equal(array, expected)

    @pytest.mark.parametrize(
        "theta",
        [[None] * 3, ["1", "2", "3"], np.array([5, 6, 7], "M8[D]"), np.ma.array([1.0, 2, 3], mask=[1, 0, 0]), [1j, 2, 3], {"a": 1}],
    )
    def test_theta_is_of_numbers(self, kind, theta):
        net = kind((2, 1), "tanh", random_state=0)
        before = net.theta
        with pytest.raises((TypeError, ValueError), match=r"^theta (must be an array of real numbers|has masked elements)"):
            net.theta = theta
        with pytest.raises((TypeError, ValueError), match=r"^theta "):
            net.loss_and_grad(theta, [[1.0, 2.0]], [[1.0]])
        np.testing.assert_array_equal(net.theta, before)

    def test_what_is_not_finite_is_not_saved(self, kind, tmp_path):
        from fastmlp.io import load, save

        net = kind((2, 1), "tanh", random_state=0)
        save(net, tmp_path / "a.safetensors")
        net.w[0][0, 0] = np.nan
        with pytest.raises(ValueError, match=r"nan or infinite.*a\.safetensors is as it was"):
            save(net, tmp_path / "a.safetensors")
        assert np.isfinite(load(tmp_path / "a.safetensors").theta).all()

    def test_assigned_weights_are_used(self, kind):
        net = make(kind, (2, 1), "identity")
        net.w[0] = np.array([[2.0], [3.0]])
        net.b[0] = [[1.0]]
        assert net.predict([10, 100]) == pytest.approx(321)

    def test_weights_changed_in_place_are_used(self, kind):
        net = make(kind, (2, 1), "identity", initializer="zeros")
        net.w[0][1, 0] = 5
        net.b[0] += 2
        net.w[0] *= 2
        assert net.predict([7, 3]) == pytest.approx(32)

    def test_weights_changed_between_fits_are_used_by_all_kernels(self, kind, data):
        net, other = make(kind), make(kind)
        net.fit(*data, epochs=1, batch_size=5)
        for mine, theirs in zip([*net.w, *net.b], [*other.w, *other.b], strict=True):
            mine[...] = theirs
        grads, expected = net.backprop(*data), other.backprop(*data)
        assert np.array_equal(grads[0][0], expected[0][0])

    def test_whole_lists_can_be_assigned(self, kind):
        net, other = make(kind), make(kind, random_state=2)
        net.w, net.b = other.w, other.b
        assert np.array_equal(net.theta, other.theta)
        other.w[0][0, 0] += 1  # copied, not shared
        assert not np.array_equal(net.theta, other.theta)

    def test_a_wrong_shape_is_refused(self, kind):
        net = make(kind)
        before = net.theta
        with pytest.raises(ValueError, match=r"w\[0\] has shape \(3, 4\), got an array of shape \(4, 3\)"):
            net.w[0] = np.zeros((4, 3))
        with pytest.raises(ValueError, match="w takes 2 arrays here, one for each layer, got 1"):
            net.w = [np.zeros((3, 4))]
        with pytest.raises(TypeError, match="b takes a sequence of arrays, one for each layer, got None"):
            net.b = None
        with pytest.raises(TypeError, match="one array for each layer"):
            net.w.append(np.zeros((3, 4)))
        assert np.array_equal(net.theta, before)

    def test_theta_goes_there_and_back(self, kind):
        net = make(kind)
        theta = net.theta
        assert theta.shape == (3 * 4 + 4 + 4 * 2 + 2,)
        assert np.array_equal(theta[:12].reshape(3, 4), net.w[0])
        assert np.array_equal(theta[12:16], net.b[0][0])
        net.theta = np.arange(26.0)
        assert np.array_equal(net.theta, np.arange(26.0))
        with pytest.raises(ValueError, match=r"theta must have the shape \(26,\)"):
            net.theta = np.zeros(25)

    @pytest.mark.parametrize("name", INITIALIZERS)
    def test_initializers_have_the_stated_deviation(self, kind, name):
        w = kind((300, 200), initializer=name, dtype="float64", random_state=0).w[0]
        variance = {"glorot": 2 / 500, "he": 2 / 300, "lecun": 1 / 300, "normal": 1, "zeros": 0}[name.removesuffix("_uniform")]
        assert w.std() == pytest.approx(variance**0.5, rel=0.02)
        assert abs(w.mean()) <= 3 * w.std() / w.size**0.5
        if name.endswith("uniform"):
            assert abs(w).max() <= 3**0.5 * variance**0.5

    @pytest.mark.parametrize("copier", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
    def test_copies_are_equal_and_independent(self, kind, data, copier):
        net = make(kind, activation=[ACTIVATIONS["leaky_relu"](0.2), "identity"], loss=LOSSES["huber"](0.5))
        net.fit(*data, epochs=2, batch_size=7)
        twin = copier(net)
        assert np.array_equal(twin.predict(data[0]), net.predict(data[0]))
        assert twin.eval_loss(*data) == net.eval_loss(*data)
        twin.fit(*data, epochs=1, batch_size=7)
        net.fit(*data, epochs=1, batch_size=7)
        assert np.array_equal(twin.theta, net.theta)  # the stream of random orders was copied too
        twin.w[0][...] = 0
        assert net.w[0].any()


class TestForward:
    def test_shapes(self, kind, data):
        net = make(kind)
        assert net.predict(data[0]).shape == (30, 2)
        assert net.predict(data[0][0]).shape == (1, 2)
        assert np.array_equal(net.predict(data[0]), net.forward_pass(data[0]))

    def test_is_the_formula(self, kind, data):
        net, x = make(kind), data[0]
        hidden = np.tanh(x @ net.w[0] + net.b[0])
        expected = 1 / (1 + np.exp(-(hidden @ net.w[1] + net.b[1])))
        np.testing.assert_allclose(net.predict(x), expected, rtol=1e-12)

    def test_softmax_rows_sum_to_one_even_for_huge_logits(self, kind):
        net = kind((1, 5), "softmax", "cross_entropy")
        net.w[0][...] = [[1000, 999, 0, -1000, 5]]
        rows = net.predict([[1.0], [-1.0], [0.0]])
        np.testing.assert_allclose(rows.sum(axis=1), 1, rtol=1e-6)
        np.testing.assert_allclose(rows[0, :2], [1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))], rtol=1e-5)
        np.testing.assert_allclose(rows[2], 0.2, rtol=1e-6)

    def test_input_is_neither_written_to_nor_kept(self, kind, data):
        net, x = make(kind, dtype="float32"), data[0].astype(np.float32)
        x.flags.writeable = False
        before = x.copy()
        net.fit(x, data[1], epochs=1, batch_size=4)
        first = net.predict(x)
        first[...] = 7
        assert np.array_equal(x, before)
        assert not np.array_equal(net.predict(x), first)


def _at_an_odd_address(array):
    room = np.zeros(array.nbytes + 1, np.uint8)
    room[1:] = array.view(np.uint8).ravel()
    return room[1:].view(array.dtype).reshape(array.shape)


def _read_only(array):
    array = array.copy()
    array.setflags(write=False)
    return array


def _every_other_row(array):
    return np.repeat(array, 2, axis=0)[::2]


@pytest.mark.parametrize(
    "laid_out",
    [
        _at_an_odd_address,
        _read_only,
        _every_other_row,
        np.asfortranarray,
        lambda array: array.astype(">f8"),
        lambda array: array[:, :],
    ],
    ids=["odd address", "read only", "every other row", "Fortran order", "big endian", "view"],
)
def test_data_may_lie_in_memory_as_it_likes(kind, data, rng, laid_out):
    x, y = data
    weight = rng.uniform(0.5, 1, len(x))
    net, other = make(kind), make(kind)
    rtol = 0 if kind is MLP else 1e-12  # NumPy sums in another order where it has to copy
    moved = laid_out(x), laid_out(y), laid_out(weight[:, None])[:, 0]
    np.testing.assert_allclose(net.predict(moved[0]), other.predict(x), rtol=rtol)
    np.testing.assert_allclose(net.predict(moved[0][3]), other.predict(x[3]), rtol=rtol)
    np.testing.assert_allclose(net.eval_loss(*moved), other.eval_loss(x, y, weight), rtol=rtol)
    for ours, theirs in zip(net.loss_and_grad(net.theta, *moved), other.loss_and_grad(net.theta, x, y, weight), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol)
    net.fit(moved[0], moved[1], epochs=2, batch_size=7, sample_weight=moved[2])
    other.fit(x, y, epochs=2, batch_size=7, sample_weight=weight)
    np.testing.assert_allclose(net.theta, other.theta, rtol=rtol)


class TestLoss:
    def test_mean_and_sum(self, kind, data):
        terms = 0.5 * ((make(kind).predict(data[0]) - data[1]) ** 2).sum(axis=1)
        assert make(kind).eval_loss(*data) == pytest.approx(terms.mean(), rel=1e-12)
        assert make(kind, reduction="sum").eval_loss(*data) == pytest.approx(terms.sum(), rel=1e-12)

    def test_is_a_float(self, kind, data):
        assert type(make(kind).eval_loss(*data)) is float

    def test_weights_equal_repeated_rows(self, kind, data, rng):
        x, y = data
        weight = rng.integers(0, 4, 30)
        net = make(kind)
        repeated = net.eval_loss(np.repeat(x, weight, axis=0), np.repeat(y, weight, axis=0))
        assert net.eval_loss(x, y, weight) == pytest.approx(repeated, rel=1e-12)
        ours = net.backprop(x, y, weight)
        expected = net.backprop(np.repeat(x, weight, axis=0), np.repeat(y, weight, axis=0))
        np.testing.assert_allclose(ours[0][0], expected[0][0], atol=1e-14)

    @pytest.mark.parametrize(
        ("loss", "output"), [("cross_entropy", "softmax"), ("binary_cross_entropy", "sigmoid"), ("cross_entropy", "sigmoid")]
    )
    def test_labels_and_one_hot_targets_are_the_same(self, kind, data, rng, loss, output):
        net = make(kind, (3, 4, 5), ("tanh", output), loss)
        labels = rng.integers(0, 5, 30)
        one_hot = np.eye(5)[labels]
        assert net.eval_loss(data[0], labels) == net.eval_loss(data[0], one_hot) == net.eval_loss(data[0], one_hot.astype(int))
        assert np.array_equal(net.backprop(data[0], labels)[0][0], net.backprop(data[0], one_hot)[0][0])
        twin = copy.deepcopy(net)
        net.fit(data[0], labels, epochs=2, batch_size=7)
        twin.fit(data[0], one_hot, epochs=2, batch_size=7)
        assert np.array_equal(net.theta, twin.theta)

    @pytest.mark.parametrize("convert", [np.asarray, lambda y: y.astype(bool), lambda y: y.astype(float), lambda y: y[:, None]])
    def test_one_output_takes_labels_zero_and_one(self, kind, data, rng, convert):
        net = make(kind, (3, 4, 1), loss="binary_cross_entropy")
        labels = rng.integers(0, 2, 30)
        p = net.predict(data[0])[:, 0]
        expected = -np.log(np.where(labels, p, 1 - p)).mean()
        assert net.eval_loss(data[0], convert(labels)) == pytest.approx(expected, rel=1e-12)

    def test_canonical_pairs_neither_overflow_nor_saturate(self, kind):
        net = kind((1, 1), "sigmoid", "binary_cross_entropy", dtype="float32")
        net.w[0] = [[500.0]]
        assert net.eval_loss([[1.0]], [0]) == pytest.approx(500)
        assert net.backprop([[1.0]], [0])[0][0] == pytest.approx(1)
        net = kind((1, 3), "softmax", "cross_entropy", dtype="float32")
        net.w[0] = [[500.0, 0, -500]]
        assert net.eval_loss([[1.0]], [2]) == pytest.approx(1000)

    def test_cross_entropy_takes_targets_that_do_not_sum_to_one(self, kind, rng):
        net = make(kind, (2, 3), "softmax", "cross_entropy")
        x, y = rng.normal(size=(6, 2)), rng.random((6, 3))
        a = net.predict(x)
        assert net.eval_loss(x, y) == pytest.approx(-(y * np.log(a)).sum(axis=1).mean(), rel=1e-12)
        delta = (a * y.sum(axis=1, keepdims=True) - y) / 6
        np.testing.assert_allclose(net.backprop(x, y)[0][0], x.T @ delta, atol=1e-14)


class TestLossAndGrad:
    def test_shards_add_up(self, kind, data, rng):
        net, (x, y) = make(kind), data
        weight = rng.random(30)
        theta = rng.normal(size=net.theta.size)
        whole = net.loss_and_grad(theta, x, y, weight)
        shards = [net.loss_and_grad(theta, x[part], y[part], weight[part]) for part in (slice(0, 11), slice(11, 12), slice(12, 30))]
        for one, parts in zip(whole, zip(*shards, strict=True), strict=True):
            np.testing.assert_allclose(sum(parts), one, rtol=1e-12, atol=1e-13)
        assert whole[2] == pytest.approx(weight.sum())
        assert net.loss_and_grad(theta, x, y)[2] == 30

    def test_leaves_the_network_alone_and_agrees_with_backprop(self, kind, data):
        net = make(kind)
        theta = net.theta
        loss, gradient, weight = net.loss_and_grad(theta + 1, *data)
        assert np.array_equal(net.theta, theta)
        net.theta = theta + 1
        assert loss / weight == pytest.approx(net.eval_loss(*data), rel=1e-12)
        w_grad, b_grad = net.backprop(*data)
        parts = [part.ravel() for pair in zip(w_grad, b_grad, strict=True) for part in pair]
        np.testing.assert_allclose(gradient / weight, np.concatenate(parts), rtol=1e-12)

    def test_writes_into_out(self, kind, data):
        net = make(kind)
        out = np.full(net.theta.size, np.nan)
        _, gradient, _ = net.loss_and_grad(net.theta, *data, out=out)
        assert gradient is out
        assert np.isfinite(out).all()
        with pytest.raises(ValueError, match="out must have the shape"):
            net.loss_and_grad(net.theta, *data, out=np.zeros(3))
        out.setflags(write=False)
        with pytest.raises(ValueError, match="out is read-only"):
            net.loss_and_grad(net.theta, *data, out=out)

    def test_what_is_kept_for_the_next_call_is_not_the_data(self, kind, rng):
        net = kind((3, 8, 2), ["tanh", "identity"], dtype="float64")
        calls = [
            net.eval_loss,
            net.backprop,
            lambda x, y: net.loss_and_grad(net.theta, x, y),
            lambda x, y: net.train_step(x, y, 0.1),
            lambda x, y: net.predict(x),
        ]
        for call in calls:
            x, y = rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
            references = weakref.ref(x), weakref.ref(y)
            call(x, y)
            del x, y
            assert [reference() for reference in references] == [None, None]


def test_losses_and_gradients_of_all_kinds_one_after_the_other(rng):
    nets = [one((3, 8, 2), ["tanh", "softmax"], "cross_entropy", dtype="float64") for one in (MLP, ReferenceMLP)]
    for call in range(60):
        rows = (1, 5, 40)[call % 3]
        x, labels = rng.normal(size=(rows, 3)), rng.integers(0, 2, rows)
        y = labels if call % 2 else np.eye(2)[labels]
        weight = rng.random(rows) + 0.1 if call % 5 == 0 else None
        theta = np.full(50, np.nan) if call % 11 == 0 else rng.normal(size=50)
        with np.errstate(invalid="ignore"):
            losses, gradients, weights = zip(*(net.loss_and_grad(theta, x, y, weight) for net in nets), strict=True)
        np.testing.assert_allclose(*losses, rtol=1e-12)
        np.testing.assert_allclose(*gradients, rtol=0, atol=1e-12)
        assert weights[0] == weights[1]
        nets[0].theta = nets[1].theta = rng.normal(size=50)
        assert nets[0].eval_loss(x, y, weight) == pytest.approx(nets[1].eval_loss(x, y, weight), rel=1e-12)
        for ours, theirs in zip(*(net.backprop(x, y, weight) for net in nets), strict=True):
            for one, other in zip(ours, theirs, strict=True):
                np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


class TestTraining:
    @pytest.mark.parametrize("verbose", [True, False])
    def test_a_callback_that_cannot_begin_is_what_the_error_is_about(self, kind, data, verbose):
        ended = []

        class Other(Callback):
            def on_train_end(self, run):
                ended.append(self)

        class Late(Callback):
            def on_train_begin(self, run):
                raise OSError("the disk is gone")

            def on_train_end(self, run):
                raise RuntimeError("it has never begun")

        callbacks = [first := Other(), Late(), Other()]
        with pytest.raises(OSError, match="the disk is gone"):
            make(kind).fit(*data, epochs=1, batch_size=8, verbose=verbose, callbacks=callbacks)
        assert ended == [first]

    def test_all_callbacks_end_also_where_one_of_them_fails(self, kind, data):
        ended = []

        class Broken(Callback):
            def on_train_end(self, run):
                ended.append("broken")
                raise OSError("the disk is full")

        class Last(Callback):
            def on_train_end(self, run):
                ended.append("last")

        class Failing(Callback):
            def on_epoch_end(self, run):
                raise FloatingPointError("the training")

        with pytest.raises(OSError, match="the disk is full"):
            make(kind).fit(*data, epochs=1, batch_size=8, callbacks=[Broken(), Last()])
        assert ended == ["broken", "last"]
        with pytest.raises(OSError, match="the disk is full") as caught:
            make(kind).fit(*data, epochs=1, batch_size=8, callbacks=[Broken(), Failing(), Broken()])
        assert isinstance(caught.value.__context__, OSError)  # of the first
        assert str(caught.value.__context__.__context__) == "the training"

    def test_a_callback_may_stop_before_the_first_epoch(self, kind, data):
        class Never(Callback):
            def on_train_begin(self, run):
                run.stop = True

        net = make(kind)
        theta = net.theta
        assert net.fit(*data, epochs=3, batch_size=8, callbacks=[Never()]).loss_curve_ == []
        assert np.array_equal(net.theta, theta)

    def test_train_step_is_gradient_descent(self, kind, data):
        net = make(kind)
        loss, (w_grad, b_grad) = net.eval_loss(*data), net.backprop(*data)
        w, b = [w.copy() for w in net.w], [b.copy() for b in net.b]
        assert net.train_step(*data, 0.3) == pytest.approx(loss, rel=1e-12)
        for layer in range(2):
            np.testing.assert_allclose(net.w[layer], w[layer] - 0.3 * w_grad[layer], rtol=1e-12)
            np.testing.assert_allclose(net.b[layer], b[layer] - 0.3 * b_grad[layer], rtol=1e-12)

    def test_train_step_takes_one_row(self, kind, data):
        net, twin = make(kind), make(kind)
        net.train_step(data[0][0], data[1][0], 0.1)
        twin.train_step(data[0][:1], data[1][:1], 0.1)
        assert np.array_equal(net.theta, twin.theta)

    @pytest.mark.parametrize("reduction", ["mean", "sum"])
    def test_steps_of_all_kinds_one_after_the_other(self, reduction, rng):
        from scipy.sparse import csr_array

        options = {"dtype": "float64", "reduction": reduction, "random_state": 0}
        nets = [kind((3, 8, 2), ["leaky_relu", "softmax"], "cross_entropy", **options) for kind in (MLP, ReferenceMLP)]
        for call in range(60):
            rows, rate = (1, 5, 20)[call % 3], (0.1, 0.02)[call // 3 % 2]
            x, labels = rng.normal(size=(rows, 3)), rng.integers(0, 2, rows)
            y = labels if call % 2 else np.eye(2)[labels]
            weight = rng.random(rows) + 0.1 if call % 5 == 0 else None
            losses = [net.train_step(csr_array(x) if call % 7 == 0 else x, y, rate, weight) for net in nets]
            assert losses[0] == pytest.approx(losses[1], rel=1e-12)
            assert np.abs(nets[0].theta - nets[1].theta).max() < 1e-13
            if call % 11 == 0:
                for net in nets:
                    net.n_threads = 1 + call % 2
                    with np.errstate(all="ignore"), pytest.raises(DivergenceError, match="epoch 1 of 1"):
                        net.train_step(1e200 * x, 1 - net.predict(1e200 * x).argmax(axis=1), 1e200)

    def test_fit_is_a_train_step_for_each_minibatch_the_smaller_last_one_too(self, kind, data):
        net, twin = make(kind), make(kind)
        assert net.fit(*data, epochs=2, batch_size=8, learning_rate=0.2, shuffle=False) is net
        losses = []
        for _ in range(2):
            sums = [twin.train_step(data[0][i : i + 8], data[1][i : i + 8], 0.2) * len(data[0][i : i + 8]) for i in range(0, 30, 8)]
            losses.append(sum(sums) / 30)
        np.testing.assert_allclose(net.theta, twin.theta, rtol=1e-13)
        np.testing.assert_allclose(net.loss_curve_, losses, rtol=1e-13)

    def test_a_batch_larger_than_the_data_is_the_data(self, kind, data):
        assert np.array_equal(
            make(kind).fit(*data, epochs=2, batch_size=1000, shuffle=False).theta,
            make(kind).fit(*data, epochs=2, batch_size=30, shuffle=False).theta,
        )

    def test_shuffling_changes_the_order_and_follows_the_seed(self, kind, data):
        def trained(seed, shuffle):
            return make(kind, random_state=seed).fit(*data, epochs=2, batch_size=4, learning_rate=0.5, shuffle=shuffle).theta

        assert np.array_equal(trained(5, True), trained(5, True))
        assert not np.array_equal(trained(5, True), trained(5, False))

    def test_an_epoch_uses_every_row_once(self, kind):
        # With identity, targets 0 and one input per row, each step changes only the weight of its row.
        net = kind((20, 1), "identity", dtype="float64", reduction="sum", random_state=0)
        net.w[0] = np.ones((20, 1))
        net.b[0] = 0 * net.b[0]
        net.fit(np.eye(20), np.zeros(20), epochs=1, batch_size=1, learning_rate=0.25)
        moved = net.w[0][:, 0] < 1
        assert moved.all()

    @pytest.mark.parametrize("optimizer", OPTIMIZERS)
    def test_every_optimizer_learns(self, kind, data, optimizer):
        net = make(kind)
        rate = 0.3 if optimizer in ("sgd", "momentum", "nesterov", "adagrad") else 0.02
        net.fit(*data, epochs=60, batch_size=10, learning_rate=rate, optimizer=optimizer)
        assert net.loss_curve_[-1] < 0.8 * net.loss_curve_[0]

    @pytest.mark.parametrize("schedule", SCHEDULES)
    def test_every_schedule_is_followed(self, kind, data, schedule):
        net, twin = make(kind), make(kind)
        net.fit(*data, epochs=3, batch_size=10, learning_rate=0.4, schedule=schedule, shuffle=False)
        factors = SCHEDULES[schedule].factor(np.arange(9.0), 9, 3)
        for step, factor in enumerate(factors):
            rows = slice(10 * (step % 3), 10 * (step % 3) + 10)
            if factor > 0:
                twin.train_step(data[0][rows], data[1][rows], 0.4 * factor)
        np.testing.assert_allclose(net.theta, twin.theta, rtol=1e-12)

    def test_weight_decay_and_penalty_are_for_weights_only(self, kind):
        x, y = np.zeros((4, 3)), np.zeros((4, 2))
        for option in ({"weight_decay": 0.5}, {"l2": 0.5}):
            net = make(kind, activation="identity")
            net.b[0] = np.ones((1, 4))
            net.w[1][...] = 0  # no gradient reaches the first layer
            before = net.w[0].copy()
            net.fit(x, y, epochs=1, batch_size=4, learning_rate=0.1, **option)
            np.testing.assert_allclose(net.w[0], 0.95 * before, rtol=1e-12)
            assert (net.b[0] == 1).all()

    def test_gradients_are_clipped_by_their_norm(self, kind, data):
        net = make(kind)
        before = net.theta
        net.fit(*data, epochs=1, batch_size=30, learning_rate=1.0, max_grad_norm=1e-3, shuffle=False)
        assert np.linalg.norm(net.theta - before) == pytest.approx(1e-3, rel=1e-2)
        free, loose = make(kind), make(kind)
        free.fit(*data, epochs=2, batch_size=7, learning_rate=0.1)
        loose.fit(*data, epochs=2, batch_size=7, learning_rate=0.1, max_grad_norm=1e6)
        np.testing.assert_allclose(free.theta, loose.theta, rtol=1e-12)

    def test_zero_weights_take_rows_out(self, kind, data):
        weight = np.ones(30)
        weight[20:] = 0
        part = (data[0][:20], data[1][:20])
        net = make(kind).fit(*data, epochs=3, batch_size=30, sample_weight=weight, shuffle=False)
        twin = make(kind).fit(*part, epochs=3, batch_size=20, shuffle=False)
        np.testing.assert_allclose(net.theta, twin.theta, rtol=1e-12)
        np.testing.assert_allclose(net.loss_curve_, twin.loss_curve_, rtol=1e-12)

    @pytest.mark.parametrize("weight", [5e-39, 1e-44])
    def test_denormal_weights_count_as_zero(self, kind, data, weight):
        """Weights that decay with age end there; in a minibatch of such ones, nothing is divided by their sum."""
        nets = [make(kind, dtype="float32") for _ in range(2)]
        for net, last in zip(nets, (weight, 0.0), strict=True):
            net.fit(*data, epochs=3, batch_size=10, sample_weight=np.repeat([1, last], [20, 10]), shuffle=False)
        np.testing.assert_array_equal(nets[0].theta, nets[1].theta)

    def test_sum_is_mean_times_rows(self, kind, data):
        net = make(kind, reduction="sum").fit(*data, epochs=2, batch_size=10, learning_rate=0.01, shuffle=False)
        twin = make(kind).fit(*data, epochs=2, batch_size=10, learning_rate=0.1, shuffle=False)
        np.testing.assert_allclose(net.theta, twin.theta, rtol=1e-12)
        np.testing.assert_allclose(net.loss_curve_, np.multiply(twin.loss_curve_, 30), rtol=1e-12)


class TestDivergence:
    def test_names_the_epoch_and_a_lower_rate_and_keeps_finite_parameters(self, kind, data):
        net = make(kind, activation="identity", dtype="float32")
        with pytest.raises(DivergenceError, match=r"epoch \d+ of 5000.*learning_rate=50.*such as 5\.") as caught:
            net.fit(data[0] * 10, data[1], epochs=5000, batch_size=5, learning_rate=50)
        assert 1 <= caught.value.epoch <= 5000
        again = pickle.loads(pickle.dumps(caught.value))  # as it comes out of another process
        assert (str(again), again.epoch) == (str(caught.value), caught.value.epoch)
        assert np.isfinite(net.theta).all()
        assert np.isfinite(net.predict(data[0])).all()

    def test_keeps_what_was_learned_before(self, kind, data):
        class Sabotage(Callback):
            def on_epoch_end(self, run):
                if run.epoch == 3:
                    self.good = run.network.theta
                    run.network.w[0][0, 0] = np.nan

        net, sabotage = make(kind), Sabotage()
        with pytest.raises(DivergenceError, match="epoch 4"):
            net.fit(*data, epochs=10, batch_size=5, callbacks=[sabotage])
        assert len(net.loss_curve_) == 3
        np.testing.assert_array_equal(net.theta, sabotage.good)


class TestCallbacks:
    def test_see_every_epoch(self, kind, data):
        seen = []

        class Watch(Callback):
            def on_train_begin(self, run):
                seen.append(("begin", run.epochs, run.rows))

            def on_epoch_end(self, run):
                assert run.rows_done == 30
                seen.append((run.epoch, run.loss))

            def on_train_end(self, run):
                seen.append("end")

        net = make(kind).fit(*data, epochs=2, batch_size=7, callbacks=[Watch()])
        assert seen == [("begin", 2, 30), (1, net.loss_curve_[0]), (2, net.loss_curve_[1]), "end"]

    def test_changes_by_a_callback_are_used(self, kind, data):
        class Reset(Callback):
            def on_epoch_end(self, run):
                run.network.w[1][...] = 0.5

        net = make(kind).fit(*data, epochs=2, batch_size=30, callbacks=[Reset()], shuffle=False)
        twin = make(kind).fit(*data, epochs=1, batch_size=30, shuffle=False)
        twin.w[1][...] = 0.5
        twin.fit(*data, epochs=1, batch_size=30, shuffle=False)
        np.testing.assert_allclose(net.w[0], twin.w[0], rtol=1e-12)

    def test_early_stopping(self, kind, data):
        net = make(kind).fit(*data, epochs=500, batch_size=30, learning_rate=1e-9, callbacks=[EarlyStopping(patience=4)])
        assert len(net.loss_curve_) == 5

    def test_verbose_shows_a_bar_with_the_loss(self, kind, data, capsys):
        make(kind).fit(*data, epochs=3, batch_size=10, verbose=True)
        bar = capsys.readouterr().err
        assert "epoch 3/3" in bar
        assert "loss" in bar
        make(kind).fit(*data, epochs=3, batch_size=10)
        assert "epoch" not in capsys.readouterr().err

    def test_must_be_callbacks(self, kind, data):
        with pytest.raises(
            TypeError, match=r"callbacks must be instances of fastmlp\.callbacks\.Callback, got <built-in function print>"
        ):
            make(kind).fit(*data, epochs=1, batch_size=1, callbacks=[print])


@pytest.mark.parametrize("closed", ["sys.stderr.close()", "sys.stderr = None"])
def test_a_progress_bar_without_a_place(closed):
    printed = run_python(f"""
        import sys
        {closed}
        from fastmlp import ReferenceMLP
        print(len(ReferenceMLP((1, 1)).fit([[1]], [1], epochs=3, batch_size=1, verbose=True).loss_curve_))
    """)
    assert printed.split() == ["3"]


X, Y = np.random.default_rng(0).normal(size=(40, 8)), np.ones((40, 3))


@pytest.mark.parametrize(
    "use",
    [
        lambda net: net.predict(X), lambda net: net.eval_loss(X, Y), lambda net: net.backprop(X, Y),
        lambda net: net.train_step(X, Y, 0.1), lambda net: net.eval_loss(sparse.csr_array(X), Y),
        lambda net: net.fit(X, Y, epochs=1, batch_size=8), lambda net: net.fit(X, Y, epochs=1, batch_size=8, optimizer="adam"),
    ],
)  # fmt: skip
def test_a_network_is_gone_with_its_last_reference(use):
    """Also where the garbage collector is switched off, or has much else to look at: it does not know how large arrays are."""
    gc.disable()
    try:
        net = MLP((8, 16, 3), random_state=0)
        use(net)
        references = weakref.ref(net), weakref.ref(net.engine)
        del net
        assert [reference() for reference in references] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.longdouble])
@pytest.mark.parametrize("argument", ["learning_rate", "l2", "max_grad_norm", "weight_decay"])
def test_numbers_of_numpy(kind, argument):
    net = MLP((8, 3), random_state=0)
    net.fit(X, Y, epochs=1, batch_size=8, **{argument: kind(0.25)})  # warns of nothing
    LOSSES["huber"](kind(1.5))
    with pytest.raises(ValueError, match=f"{argument} must be a finite number"):
        net.fit(X, Y, epochs=1, batch_size=8, **{argument: kind("inf")})


@pytest.mark.parametrize("switch", ["NUMBA_BOUNDSCHECK", "NUMBA_DISABLE_JIT"])
def test_sparse_rows_without_a_number_and_the_switches_of_numba(switch):
    code = """
        import scipy.sparse
        from fastmlp import MLP

        print(MLP((3, 4, 2), random_state=0, dtype="float64").predict(scipy.sparse.csr_array((5, 3))).shape)
    """
    assert run_python(code, **{switch: "1"}).split("\n")[-2] == "(5, 2)"


def test_rows_of_different_lengths():
    with pytest.raises(ValueError, match="sizes must be two or more whole numbers"):
        MLP([[1, 2], [3]])
    with pytest.raises(ValueError, match=r"w\[0\] must be an array of numbers, got rows of different lengths"):
        MLP((2, 3)).w[0] = [[1, 2, 3], [4]]
    with pytest.raises(ValueError, match=r"w\[0\] has masked elements"):
        MLP((2, 3)).w[0] = np.ma.masked_array(np.ones((2, 3)), mask=np.eye(2, 3))


@pytest.mark.parametrize("kind", [MLP, ReferenceMLP])
@pytest.mark.parametrize("width", [2**62, 10**24, 10**4000], ids=["2**62", "10**24", "10**4000"])
def test_networks_that_no_memory_holds(kind, width):
    with pytest.raises(MemoryError, match="parameters"):
        kind((4, width, 2))
