"""Samples in compressed rows: the same as the dense ones, whatever is done with them."""

from __future__ import annotations

import pickle
import time
import tracemalloc

import numpy as np
import pytest
import scipy.sparse

from fastmlp import MLP, OPTIMIZERS, ReferenceMLP, threads
from fastmlp.callbacks import Callback
from fastmlp.engine.prediction import Predictor
from tests.test_invariants import run_python

TOLERANCE = {"float64": 1e-9, "float32": 5e-4}
FEATURES = 50


def problem(outputs, rows=200):
    x = scipy.sparse.random(rows, FEATURES, 0.1, format="lil", random_state=1)
    x[7] = 0  # a sample without any number
    return x.tocsr(), np.random.default_rng(0).integers(0, outputs, rows)


def network(kind, sizes, dtype, **options):
    return kind(sizes, ["tanh"] * (len(sizes) - 2) + ["softmax"], "cross_entropy", dtype=dtype, random_state=0, **options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", [(FEATURES, 3), (FEATURES, 9, 3), (FEATURES, 200, 30, 2)])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("options", [{}, {"l2": 0.01, "weight_decay": 0.1}, {"max_grad_norm": 0.05}], ids=str)
def test_training_is_that_of_the_dense_samples(sizes, dtype, optimizer, options):
    x, y = problem(sizes[-1])
    fit = {"epochs": 2, "batch_size": 37, "optimizer": optimizer, "learning_rate": 0.01} | options
    expected = network(ReferenceMLP, sizes, dtype).fit(x.toarray(), y, **fit)
    reference = network(ReferenceMLP, sizes, dtype).fit(x, y, **fit)
    ours = [network(MLP, sizes, dtype, n_threads=n).fit(x, y, **fit) for n in (1, 2, 3)]
    tolerance = TOLERANCE[dtype]
    for net in (reference, ours[0]):
        np.testing.assert_allclose(net.theta, expected.theta, rtol=tolerance, atol=tolerance)
    for net in ours[1:]:
        assert np.array_equal(net.theta, ours[0].theta)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", [MLP, ReferenceMLP])
@pytest.mark.parametrize("sizes", [(FEATURES, 3), (FEATURES, 9, 3)])
def test_everything_takes_them(kind, sizes, dtype):
    x, y = problem(3)
    net = network(kind, sizes, dtype)
    dense = x.toarray()
    tolerance = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    for _ in range(2):  # what is kept from one call to the next does no harm
        np.testing.assert_allclose(net.predict(x), net.predict(dense), **tolerance)
        np.testing.assert_allclose(net.eval_loss(x, y), net.eval_loss(dense, y), **tolerance)
        for ours, theirs in zip(net.backprop(x, y)[0], net.backprop(dense, y)[0], strict=True):
            np.testing.assert_allclose(ours, theirs, **tolerance)
        for ours, theirs in zip(net.loss_and_grad(net.theta, x, y), net.loss_and_grad(net.theta, dense, y), strict=True):
            np.testing.assert_allclose(ours, theirs, **tolerance)
    twin = network(kind, sizes, dtype)
    net.train_step(x, y, 0.1)
    twin.train_step(dense, y, 0.1)
    assert net.train_step(x[:1], y[0], 0.1) == pytest.approx(twin.train_step(dense[0], y[0], 0.1), rel=1e-5)
    np.testing.assert_allclose(net.theta, twin.theta, **tolerance)


@pytest.mark.parametrize("form", ["csr_array", "csr_matrix", "csc_matrix", "coo_array", "lil_matrix"])
@pytest.mark.parametrize("indices", [np.int32, np.int64])
def test_forms(form, indices):
    x, y = problem(3)
    given = getattr(scipy.sparse, form)(x)
    if form.startswith("csr"):
        given.indices, given.indptr = given.indices.astype(indices), given.indptr.astype(indices)
    before = given.copy()
    net = network(MLP, (FEATURES, 9, 3), "float64")
    np.testing.assert_allclose(net.predict(given), net.predict(x.toarray()))
    net.fit(given, y, epochs=1, batch_size=10)
    assert abs(given - before).max() == 0


def test_batches_in_several_chunks(monkeypatch):
    from fastmlp.engine import limits

    monkeypatch.setattr(limits, "WORKSPACE_BYTES", 0)
    monkeypatch.setattr(limits, "LEAST_CHUNK_ROWS", 32)
    x, y = problem(3)
    for optimizer in ("sgd", "adam"):
        fit = {"epochs": 2, "batch_size": 90, "optimizer": optimizer, "learning_rate": 0.01}
        nets = [network(kind, (FEATURES, 9, 3), "float64").fit(x, y, **fit) for kind in (MLP, ReferenceMLP)]
        np.testing.assert_allclose(nets[0].theta, nets[1].theta, rtol=1e-9)


class TestBins:
    """A first layer that outgrows the cache has its step bin by bin; the order of its sums is that of the rows, as everywhere."""

    SIZES, ROWS = (1500, 40, 2), 160

    @pytest.fixture(autouse=True)
    def small(self, monkeypatch):
        from fastmlp.engine import limits

        monkeypatch.setattr(limits, "LEAST_BIN_BYTES", 0)

    @pytest.fixture
    def rooms(self, monkeypatch):
        """How many numbers of a row there has been room for, each time that it was made."""
        from fastmlp.engine.session import Session

        made, make = [], Session._make_bins

        def watched(session, numbers):
            before = session._job["bin_room"][0]
            make(session, numbers)
            if session._job["bin_room"][0] != before:
                made.append(session._job["bin_room"][0] // session._batch_size)

        monkeypatch.setattr(Session, "_make_bins", watched)
        return made

    def problem(self, heavy=0):
        """Rows whose features come in no order, some more than once; of the last ones, some with many more of them."""
        rng = np.random.default_rng(5)
        counts = rng.integers(0, 30, self.ROWS)
        counts[self.ROWS - heavy :] = 300
        starts = np.concatenate([[0], counts.cumsum()])
        indices = rng.integers(0, self.SIZES[0], starts[-1])
        x = scipy.sparse.csr_array((rng.normal(size=starts[-1]), indices, starts), (self.ROWS, self.SIZES[0]))
        return x, rng.integers(0, 2, self.ROWS)

    def fitted(self, kind, x, y, dtype="float64", **options):
        net = network(kind, self.SIZES, dtype, **({"n_threads": options.pop("n_threads", None)} if kind is MLP else {}))
        return net.fit(x, y, epochs=2, batch_size=50, learning_rate=0.01, **options).theta

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize(
        "options",
        [{"optimizer": "nesterov"}, {"optimizer": "adamw"}, {"optimizer": "sgd", "l2": 0.1}, {"optimizer": "adam", "dropout": 0.2}],
        ids=str,
    )
    def test_the_same_bits_as_without(self, monkeypatch, rooms, dtype, options):
        x, y = self.problem()
        ours = [self.fitted(MLP, x, y, dtype, n_threads=n, **options) for n in (1, 2, 3, 5)]
        assert len(rooms) == 4
        monkeypatch.setattr("fastmlp.engine.limits.LEAST_BIN_BYTES", 1 << 20)
        expected = self.fitted(MLP, x, y, dtype, **options)
        assert len(rooms) == 4
        for theta in ours:
            np.testing.assert_array_equal(theta, expected)
        reference = self.fitted(ReferenceMLP, x, y, dtype, **options)
        np.testing.assert_allclose(expected, reference, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])

    @pytest.mark.parametrize("room", [0.0, 1.5])
    def test_batches_that_there_is_no_room_for(self, monkeypatch, rooms, room):
        """Of all threads, or only of some; others that there is room for come before and after."""
        x, y = self.problem(heavy=15)
        monkeypatch.setattr("fastmlp.engine.limits.BIN_ROOM", 100.0)
        expected = self.fitted(MLP, x, y, optimizer="adam", n_threads=1)
        monkeypatch.setattr("fastmlp.engine.limits.BIN_ROOM", room)
        for n_threads in (1, 2, 3):
            for shuffle in (True, False):
                theta = self.fitted(MLP, x, y, optimizer="adam", n_threads=n_threads, shuffle=shuffle)
                if shuffle:
                    np.testing.assert_array_equal(theta, expected)
        assert rooms[0] > 1000
        assert max(rooms[1:]) < 80

    def test_rows_that_become_longer(self, rooms):
        """A network keeps what it has worked with for the next training, if that has no state."""
        few, y = self.problem()
        many, _ = self.problem(heavy=100)
        fit = {"epochs": 1, "batch_size": 50, "l2": 0.1}
        nets = [network(MLP, self.SIZES, "float64", n_threads=2).fit(few, y, **fit) for _ in range(2)]
        nets[1] = pickle.loads(pickle.dumps(nets[1]))  # which keeps nothing but the network
        for net in nets:
            net.fit(many, y, **fit)
        np.testing.assert_array_equal(nets[0].theta, nets[1].theta)
        assert rooms[0] == rooms[1] < rooms[2] == rooms[3]


def rows_of_few(rows, features, numbers):
    """Compressed rows of so many numbers each, without the memory that scipy.sparse.random takes for all places."""
    indices = np.sort(np.random.default_rng(0).integers(0, features, (rows, numbers), np.int32), axis=1).ravel()
    starts = np.arange(0, rows * numbers + 1, numbers, dtype=np.int32)
    return scipy.sparse.csr_matrix((np.ones(rows * numbers, np.float32), indices, starts), (rows, features))


def test_more_features_than_memory_has_room_for_dense_samples():
    x = rows_of_few(2000, 300_000, 3)
    net = MLP((300_000, 4, 1), ("relu", "identity"), random_state=0)
    net.fit(x, np.ones(2000), epochs=1, batch_size=2000, learning_rate=0.1)
    assert net.predict(x).shape == (2000, 1)


@pytest.mark.parametrize("kind", [MLP, ReferenceMLP])
class TestBadInput:
    def check(self, kind, x, error, message):
        net = network(kind, (FEATURES, 3), "float32")
        before = net.theta
        for call in (net.predict, lambda x: net.fit(x, np.zeros(x.shape[0], int), epochs=1, batch_size=5)):
            with pytest.raises(error, match=message):
                call(x)
        assert np.array_equal(net.theta, before)

    def test_features(self, kind):
        self.check(kind, scipy.sparse.csr_matrix((5, FEATURES + 1)), ValueError, r"\(n, 50\).*got a sparse matrix of \(5, 51\)")

    def test_empty(self, kind):
        self.check(kind, scipy.sparse.csr_matrix((0, FEATURES)), ValueError, "at least one row")

    def test_nan(self, kind):
        x, _ = problem(3)
        x.data[3] = np.nan
        self.check(kind, x, ValueError, "finite")

    def test_complex(self, kind):
        self.check(kind, problem(3)[0].astype(complex), TypeError, "real numbers")

    @pytest.mark.parametrize("column", [-1, FEATURES, 10**6])
    def test_columns_that_there_are_not(self, kind, column):
        x, _ = problem(3)
        x.indices[5] = column
        self.check(kind, x, ValueError, "damaged")

    @pytest.mark.parametrize(
        ("form", "array"),
        [("csc", "indices"), ("csc", "indptr"), ("coo", "row"), ("coo", "col"), ("bsr", "indices"), ("bsr", "indptr")],
    )
    @pytest.mark.parametrize("value", [-(10**9), 10**9])
    def test_other_formats(self, kind, form, array, value):
        """SciPy follows them blindly when it makes compressed rows of a matrix."""
        x = problem(3)[0].asformat(form)
        getattr(x, array)[2] = value
        self.check(kind, x, ValueError, "damaged")

    @pytest.mark.parametrize("dtype", ["int32", "int64", "uint32", "uint64"])
    @pytest.mark.parametrize("value", [0, 10**9])
    def test_rows_that_end_before_they_begin(self, kind, dtype, value):
        x, _ = problem(3)
        x.indptr = x.indptr.astype(dtype)
        x.indptr[4] = value
        self.check(kind, x, ValueError, "damaged")

    @pytest.mark.parametrize("array", ["indices", "indptr"])
    def test_places_that_are_no_numbers(self, kind, array):
        x, _ = problem(3)
        places = getattr(x, array).astype(float)
        places[4] = np.nan
        setattr(x, array, places)
        self.check(kind, x, ValueError, "damaged")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_stands_behind_the_last_number_means_nothing(dtype):
    """SciPy's matrices may have more room than numbers."""
    x, _ = problem(3)
    roomy = x.astype(dtype)
    roomy.data = np.append(roomy.data, np.full(3, np.nan, dtype))
    roomy.indices = np.append(roomy.indices, np.full(3, -1, roomy.indices.dtype))
    net = network(MLP, (FEATURES, 9, 3), dtype)
    np.testing.assert_array_equal(net.predict(roomy), net.predict(x))


def test_numbers_that_do_not_follow_one_another():
    x, _ = problem(3)
    apart = x.copy()
    apart.data = np.repeat(x.data, 2)[::2]
    assert not apart.data.flags.c_contiguous
    net = network(MLP, (FEATURES, 9, 3), "float64")
    np.testing.assert_array_equal(net.predict(apart), net.predict(x))


def test_an_interrupted_fit_leaves_nothing_to_the_next(monkeypatch):
    """In the middle of a batch, the first layer's gradient holds a part of its sum."""
    from fastmlp.engine import limits

    class Interrupt(Callback):
        def on_rows(self, run):
            if run.rows_done < run.rows:
                raise KeyboardInterrupt

    monkeypatch.setattr(limits, "WORKSPACE_BYTES", 1)
    monkeypatch.setattr(limits, "LEAST_CHUNK_ROWS", 32)
    monkeypatch.setattr(limits, "CALL_SECONDS", 0.0)
    x, y = problem(3)
    nets = [network(MLP, (FEATURES, 9, 3), "float64", n_threads=1) for _ in range(2)]
    fit = {"epochs": 1, "batch_size": 200, "learning_rate": 0.1}
    with pytest.raises(KeyboardInterrupt):
        nets[0].fit(x, y, callbacks=[Interrupt()], **fit)
    np.testing.assert_array_equal(nets[0].theta, nets[1].theta)  # no step was made
    assert np.array_equal(*(net.fit(x, y, **fit).theta for net in nets))


def test_weights_take_time_in_proportion_to_the_rows():
    """A sum over all rows for each chunk of them would take more than the rest."""
    rows = 1_000_000
    row = np.arange(rows + 1, dtype=np.int32)
    x = scipy.sparse.csr_array((np.ones(rows, np.float32), row[:-1] % 50, row))
    y, weight = np.zeros((rows, 1), np.float32), np.ones(rows)
    net = MLP((50, 16, 1), "tanh", random_state=0, n_threads=1)

    def seconds(weight):
        began = time.perf_counter()
        net.eval_loss(x, y, weight)
        return time.perf_counter() - began

    seconds(weight)
    ratios = [seconds(weight) / seconds(None) for _ in range(5)]
    assert np.median(ratios) < 2


def test_the_loss_takes_no_gradient():
    net = MLP((400_000, 16, 1), random_state=0, n_threads=1)
    x, y = rows_of_few(300, 400_000, 4), np.zeros((300, 1), np.float32)
    net.eval_loss(x, y)
    tracemalloc.start()
    try:
        net.eval_loss(x, y)
        assert tracemalloc.get_traced_memory()[1] < net.theta.nbytes / 2
    finally:
        tracemalloc.stop()


class TestWorkOfPredictions:
    """It follows from the numbers that there are, not from the features."""

    @pytest.fixture
    def calls(self, monkeypatch):
        made, call = [], Predictor._call

        def watched(space, samples, out, start, stop, piece_panels):
            made.append((space._team.n_threads, stop - start))
            return call(space, samples, out, start, stop, piece_panels)

        monkeypatch.setattr(Predictor, "_call", watched)
        monkeypatch.setattr(threads, "available_threads", lambda: 2)
        return made

    def test_few_numbers_are_not_worth_a_thread(self, calls):
        MLP((100_000, 100, 1)).predict(rows_of_few(32, 100_000, 100))
        assert calls == [(1, 32)]

    def test_many_rows_go_in_few_calls(self, calls):
        x = rows_of_few(5000, 1_000_000, 10)
        net = MLP((1_000_000, 8, 1), random_state=0, n_threads=2)
        expected = MLP((1_000_000, 8, 1), random_state=0, n_threads=1).predict(x)
        calls.clear()
        np.testing.assert_array_equal(net.predict(x), expected)
        assert calls == [(2, 5000)]


def test_kernels_pass_numba_s_check_of_bounds(tmp_path):
    """Which somebody may have switched on for functions of their own."""
    code = """
        import numpy as np, scipy.sparse
        from fastmlp import MLP

        x = np.random.default_rng(0).normal(size=(4103, 64)).astype(np.float32)
        net = MLP((64, 15, 10), random_state=0, n_threads=2)
        for samples in (x, scipy.sparse.csr_matrix(x * (x > 1))):
            net.fit(samples[:200], x[:200, :10], epochs=1, batch_size=32, optimizer="adam")
            print(net.predict(samples).sum(), net.eval_loss(samples, x[:, :10]))
    """
    assert run_python(code, NUMBA_BOUNDSCHECK="1", FASTMLP_CACHE_DIR=str(tmp_path)) == run_python(code)
