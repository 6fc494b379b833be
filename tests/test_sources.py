"""Rows from anywhere: sources larger than memory, and the tables of other libraries."""

from __future__ import annotations

import _thread
import copy
import gc
import pickle
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import numpy as np
import pytest

from fastmlp import MLP, MLPClassifier, MLPRegressor, ReferenceMLP, make_loss
from fastmlp.callbacks import Callback, Checkpoint
from fastmlp.data import TableError, cached, from_blocks, from_files, from_npy
from fastmlp.data import sources as sources_module
from fastmlp.data.sources import NpyFile
from fastmlp.data.stream import Stream, open_feed
from fastmlp.frames import Columns, array_of_arrow, array_of_frame, arrow_of_array, arrow_of_texts
from fastmlp.trainer import Totals, Trainer
from tests.test_invariants import run_python

ROWS, FEATURES = 3001, 4
BUFFER = 20_500
"""Bytes, for 854 of the rows: two halves of 416, which are 13 minibatches of 32."""
OPTIONS = {"epochs": 2, "batch_size": 32, "optimizer": "adam", "learning_rate": 0.01, "buffer_bytes": BUFFER}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(sources_module, "BLOCK_BYTES", 50 * 4 * FEATURES)
    yield
    readers = [thread for thread in threading.enumerate() if thread.name == "fastmlp-reader"]
    for thread in readers:  # after an interrupt, one may still be on its way out of somebody's iterator
        thread.join(10)
    assert not [thread for thread in readers if thread.is_alive()]


@pytest.fixture
def data(rng):
    """The first feature is the number of the row, over their number."""
    x = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
    x[:, 0] = np.arange(ROWS) / ROWS
    return x, (x[:, 1] * x[:, 2] > 0).astype(np.int64)


@pytest.fixture
def npy(data, tmp_path):
    np.save(tmp_path / "x.npy", data[0])
    np.save(tmp_path / "y.npy", data[1])
    return from_npy(tmp_path / "x.npy", tmp_path / "y.npy")


def network(kind=MLP, dtype="float32", outputs=2, features=FEATURES):
    return kind((features, 8, outputs), ["tanh", "softmax"], "cross_entropy", dtype=dtype, random_state=3)


class Recorder(Trainer):
    """Trains nothing, and writes down which rows it is given, in minibatches."""

    def __init__(self, feed, batch_size):
        self.steps, self.batches, self.parts, self._batch_size = 0, [], [], batch_size
        self.take(feed.data)

    def take(self, data):
        self._data = data
        self.parts.append(data.rows)

    def state(self):
        return []

    def load_state(self, steps, arrays):
        pass

    def epoch(self, order, rates, dropout_key=0):
        data = self._data
        rows = np.arange(data.rows) if order is None else order[0 : data.rows]
        self.batches += [data.x[rows[at : at + self._batch_size], 0].copy() for at in range(0, data.rows, self._batch_size)]
        yield Totals(data.rows, 0.0, float(data.rows))


class Watcher(Recorder):
    """Writes down, too, whether the reader says that it works: at the beginning of each part, and at its end, a moment later."""

    def __init__(self, feed, batch_size):
        super().__init__(feed, batch_size)
        self.works = []

    def leave_room(self, somebody_works):
        self._somebody_works = somebody_works

    def epoch(self, order, rates, dropout_key=0):
        first = self._somebody_works()
        until = time.perf_counter() + 2
        while self._somebody_works() and time.perf_counter() < until:
            time.sleep(0.001)
        self.works.append((first, self._somebody_works()))
        yield from super().epoch(order, rates, dropout_key)


def recorded(source, *, shuffle=True, epochs=1, batch_size=32, dtype="float32", kind=Recorder):
    """What a trainer is given by a network with the same seed."""
    net = network(dtype=dtype)
    feed = open_feed(source, net._check_piece, batch_size=batch_size, shuffle=shuffle, buffer_bytes=BUFFER)
    assert isinstance(feed, Stream)
    with feed:
        recorder = kind(feed, batch_size)
        for epoch in range(epochs):
            for _ in feed.epoch(recorder, np.zeros(-(-source.rows // batch_size)), (), net._generator, last=epoch + 1 == epochs):
                pass
    return recorder


def batches_of_an_epoch(source, **options):
    """Numbers of the rows of each minibatch."""
    return [np.rint(batch.astype(np.float64) * ROWS).astype(int) for batch in recorded(source, **options).batches]


class TestOrder:
    @pytest.mark.parametrize("shuffle", [True, False])
    def test_every_row_comes_once_in_each_epoch(self, npy, shuffle):
        batches = batches_of_an_epoch(npy, shuffle=shuffle, epochs=3)
        rows = np.concatenate(batches).reshape(3, ROWS)
        for epoch in rows:
            assert np.array_equal(np.sort(epoch), np.arange(ROWS))
        assert np.array_equal(rows[0], rows[1]) is not shuffle
        if not shuffle:
            assert np.array_equal(rows[0], np.arange(ROWS))

    def test_only_the_last_minibatch_is_smaller(self, npy):
        sizes = [len(batch) for batch in batches_of_an_epoch(npy)]
        assert set(sizes[:-1]) == {32}
        assert sizes[-1] == ROWS % 32

    def test_training_begins_long_before_a_half_is_full(self, npy):
        _, *parts = recorded(npy, epochs=2).parts
        assert parts == 2 * [32, 96, 192, 416, 416, 416, 416, 416, 416, 185]

    def test_rows_from_everywhere_in_the_file_meet_in_a_minibatch(self, npy):
        batches = batches_of_an_epoch(npy)
        rows = np.concatenate(batches)
        assert abs(np.corrcoef(rows, np.arange(ROWS))[0, 1]) < 0.2
        inside = np.mean([batch.std() for batch in batches[:-1]]) / np.arange(ROWS).std()
        assert inside > 0.8  # as large as that of all rows; a half's worth of the file in its order would have 0.13

    def test_row_groups_that_fill_a_half_are_mixed(self, data, tmp_path, monkeypatch):
        monkeypatch.setattr("fastmlp.data.tables._PIECE_BYTES", 20 * data[0].shape[1] * 4)
        path = write_parquet(tmp_path / "t.parquet", *data, row_group_size=400)
        batches = batches_of_an_epoch(from_files(path, target="y"))
        assert max(np.ptp(batch) for batch in batches[:10]) > 1000
        assert np.array_equal(np.sort(np.concatenate(batches)), np.arange(ROWS))

    @pytest.mark.parametrize(("kind", "tolerance"), [(MLP, 0), (ReferenceMLP, 1e-12)])
    def test_training_is_that_from_memory_on_rows_in_the_same_order(self, data, npy, kind, tolerance):
        x, y = data
        order = np.concatenate(batches_of_an_epoch(npy, dtype="float64"))
        options = OPTIONS | {"epochs": 1, "schedule": "cosine", "weight_decay": 0.1}
        streamed = network(kind, "float64").fit(npy, **options)
        expected = network(MLP, "float64").fit(x[order], y[order], shuffle=False, **options)
        assert np.abs(streamed.theta - expected.theta).max() <= tolerance
        assert streamed.loss_curve_ == pytest.approx(expected.loss_curve_, abs=1e-12)

    def test_the_reference_agrees_over_epochs_with_dropout_and_weights(self, data):
        x, y = data
        weight = np.arange(ROWS) % 3
        blocks = [(x[at : at + 300], y[at : at + 300], weight[at : at + 300]) for at in range(0, ROWS, 300)]
        compiled, reference = (network(kind, "float64").fit(blocks, **OPTIONS, dropout=0.3) for kind in (MLP, ReferenceMLP))
        assert np.abs(compiled.theta - reference.theta).max() < 1e-12
        assert np.abs(compiled.theta - network(dtype="float64").fit(blocks, **OPTIONS).theta).max() > 1e-3

    def test_rows_that_fit_are_trained_on_as_arrays_are(self, data, npy):
        options = OPTIONS | {"buffer_bytes": 1 << 20}
        net = network().fit(npy, **options)
        assert np.array_equal(net.theta, network().fit(*data, **options).theta)
        assert net.reading_ is None

    def test_arrays_may_follow(self, data, npy):
        """Of as many rows as the feed first had, by an optimizer without state: its session must not be mistaken for theirs."""
        x, y = data[0][:416], data[1][:416]
        net, other = network(), network()
        net.fit(npy, **OPTIONS | {"optimizer": "sgd"})
        other.theta = net.theta
        for one in (net, other):
            one.fit(x, y, epochs=1, batch_size=32, shuffle=False)
        assert net.loss_curve_ == other.loss_curve_
        np.testing.assert_array_equal(net.theta, other.theta)

    def test_online_learning_of_a_narrow_network(self, data, npy):
        nets = [network(kind, dtype="float64") for kind in (MLP, ReferenceMLP)]
        for net in nets:
            net.fit(npy, epochs=1, batch_size=1, learning_rate=0.01, buffer_bytes=BUFFER)
        np.testing.assert_allclose(nets[0].theta, nets[1].theta, rtol=1e-9)

    @pytest.mark.parametrize("slow", ["reader", "training"])
    def test_a_run_repeats_to_the_bit_whoever_is_slower(self, data, slow):
        x, y = data

        def blocks():
            for at in range(0, ROWS, 100):
                if slow == "reader":
                    time.sleep(0.003)
                yield x[at : at + 100], y[at : at + 100]

        class Slow(Callback):
            def on_rows(self, run):
                time.sleep(0.01 if slow == "training" else 0)

        fast = network().fit(lambda: iter([(x, y)]), **OPTIONS)
        net = network().fit(blocks, **OPTIONS, callbacks=[Slow()])
        assert np.array_equal(fast.theta, net.theta)
        reading = net.reading_
        waited = {"reader": reading.training_waited, "training": reading.reader_waited}
        assert waited[slow] == max(waited.values())
        assert reading.rows == 2 * ROWS
        assert f"{'reading' if slow == 'reader' else 'training'} set the pace" in str(reading)

    def test_a_processor_is_left_to_the_reader_as_long_as_it_reads(self, data):
        x, y = data

        def blocks():
            for at in range(0, ROWS, 100):
                time.sleep(0.003)
                yield x[at : at + 100], y[at : at + 100]

        *before_last, last = recorded(from_blocks(blocks, rows=ROWS), kind=Watcher).works
        assert before_last == len(before_last) * [(True, False)]
        assert last == (False, False)

    def test_it_reads_while_the_first_rows_of_a_pass_are_decoded(self, data):
        x, y = data
        passes, decoding, seen = [], threading.Event(), threading.Event()

        def blocks():
            passes.append(threading.current_thread().name)
            if passes.count("fastmlp-reader") == 2:
                decoding.set()
                seen.wait(10)
            for at in range(0, ROWS, 100):
                yield x[at : at + 100], y[at : at + 100]

        class Late(Recorder):
            def leave_room(self, somebody_works):
                self._somebody_works = somebody_works

            def epoch(self, order, rates, dropout_key=0):
                if len(self.parts) == 11:  # the last one of the first epoch
                    assert decoding.wait(10)
                    self.works = self._somebody_works()
                    seen.set()
                return super().epoch(order, rates, dropout_key)

        assert recorded(from_blocks(blocks, rows=ROWS), epochs=2, kind=Late).works is True

    @pytest.mark.parametrize("slow", ["reader", "training"])
    def test_what_was_read_ahead_is_dropped_where_somebody_else_draws_from_the_generator(self, npy, tmp_path, slow):
        class Draw(Callback):
            def on_epoch_end(self, run):
                if slow == "training":
                    time.sleep(0.1)  # the reader waits for room; else it reads
                run.network._generator.random()  # as a callback can that has the one of random_state=generator

        class Stop(Callback):
            def on_epoch_end(self, run):
                run.stop = True

        def slowly(block):
            time.sleep(0.001 if slow == "reader" else 0)
            yield from pieces(block)

        pieces, npy.pieces = npy.pieces, slowly
        path, options = tmp_path / "c.safetensors", OPTIONS | {"epochs": 4}
        whole = network().fit(npy, **options, callbacks=[Draw()])
        for epoch in range(4):
            resumed = network().fit(
                npy, **options, callbacks=[Draw(), Checkpoint(path), Stop()], resume=path if epoch else None
            )  # which trains on nothing that was read ahead
        np.testing.assert_array_equal(whole.theta, resumed.theta)
        assert whole.loss_curve_ == resumed.loss_curve_
        assert (whole.reading_.rows, whole.reading_.passes) == (4 * ROWS, 4)

    def test_another_seed_is_another_order(self, npy):
        other = MLP((FEATURES, 8, 2), ["tanh", "softmax"], "cross_entropy", random_state=4)
        other.theta = network().theta
        assert not np.array_equal(other.fit(npy, **OPTIONS).theta, network().fit(npy, **OPTIONS).theta)

    def test_a_resumed_training_ends_with_the_same_bits(self, npy, tmp_path):
        whole = network().fit(npy, **OPTIONS | {"epochs": 4})

        class Stop(Callback):
            def on_epoch_end(self, run):
                run.stop = run.epoch == 2

        path = tmp_path / "c.safetensors"
        network().fit(npy, **OPTIONS | {"epochs": 4}, callbacks=[Checkpoint(path), Stop()])
        resumed = network().fit(npy, **OPTIONS | {"epochs": 4}, resume=path)
        assert np.array_equal(whole.theta, resumed.theta)
        assert whole.loss_curve_ == resumed.loss_curve_


def write_parquet(path, x, y, **options):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({f"f{n}": column for n, column in enumerate(x.T)} | {"y": y}), path, **options)
    return path


def write_csv(path, x, y):
    arrow, csv = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.csv")
    csv.write_csv(arrow.table({f"f{n}": column for n, column in enumerate(x.T)} | {"y": y}), path)
    return path


def folder_of(tmp_path, x, y):
    (tmp_path / "parts").mkdir()
    for part in range(3):
        write = write_csv if part == 1 else write_parquet
        rows = slice(part * 1001, (part + 1) * 1001)
        write(tmp_path / "parts" / f"{part}.{'csv' if part == 1 else 'parquet'}", x[rows], y[rows])
    (tmp_path / "parts" / "_SUCCESS").touch()
    return tmp_path / "parts"


def structured(path, x, y):
    records = np.zeros(len(x), [("a", "f4", 3), ("y", "i8"), ("b", "f4")])
    records["a"], records["b"], records["y"] = x[:, :3], x[:, 3], y
    np.save(path, records)
    return path


KINDS = {
    "npy with the target as a column": lambda path, x, y: (
        np.save(path / "xy.npy", np.column_stack([x, y])), from_npy(path / "xy.npy", target=-1, classes=[0, 1]))[1],
    "structured npy": lambda path, x, y: from_npy(structured(path / "s.npy", x, y), target="y"),
    "structured npy, target by position": lambda path, x, y: from_npy(structured(path / "s.npy", x, y), target=1),
    "npy with text as targets": lambda path, x, y: (
        np.save(path / "x.npy", x), np.save(path / "y.npy", np.array(["no", "yes"])[y]),
        from_npy(path / "x.npy", path / "y.npy"))[2],
    "parquet": lambda path, x, y: from_files(write_parquet(path / "t.parquet", x, y, row_group_size=100), target="y"),
    "parquet with truth values as targets": lambda path, x, y: from_files(write_parquet(path / "t.parquet", x, y == 1), target=-1),
    "parquet with text as targets": lambda path, x, y: from_files(
        str(write_parquet(path / "t.parquet", x, np.array(["b", "a"])[y])), target="y", classes=["b", "a"]),
    "csv": lambda path, x, y: from_files(write_csv(path / "t.csv", x, y), target="y"),
    "folder": lambda path, x, y: from_files(folder_of(path, x, y), target="y"),
    "list of a glob and a file": lambda path, x, y: from_files(
        [str(folder_of(path, x, y) / "[01].*"), path / "parts" / "2.parquet"], target="y"),
    "list of blocks": lambda path, x, y: from_blocks([(x[:900], y[:900]), (x[900:], y[900:])]),
    "function": lambda path, x, y: from_blocks(lambda: ((x[at : at + 7], y[at : at + 7]) for at in range(0, len(x), 7))),
    "blocks of frames": lambda path, x, y: from_blocks([(pytest.importorskip("pandas").DataFrame(x), list(y))]),
    "blocks of sparse rows": lambda path, x, y: from_blocks([(pytest.importorskip("scipy.sparse").csr_array(x), y)]),
}  # fmt: skip


class TestKinds:
    @pytest.mark.parametrize("kind", KINDS)
    def test_all_hold_the_same_rows(self, data, tmp_path, kind):
        source = KINDS[kind](tmp_path, *data)
        assert (source.rows, source.n_features) == (ROWS, FEATURES)
        options = OPTIONS | {"shuffle": False}
        net, expected = network().fit(source, **options), network().fit(*data, **options)
        assert net.reading_ is not None
        assert np.allclose(net.theta, expected.theta, atol=1e-6)

    def test_a_file_is_read_by_several_threads_at_once(self, tmp_path):
        np.save(tmp_path / "x.npy", np.arange(300).reshape(100, 3))
        file, both = NpyFile(tmp_path / "x.npy"), threading.Barrier(2)

        def read(start):
            rows = file.read(start, start + 50)
            both.wait()
            return rows.copy()

        with ThreadPoolExecutor(2) as threads:
            halves = list(threads.map(read, (0, 50)))
        assert np.array_equal(np.concatenate(halves).ravel(), np.arange(300))

    def test_regression_with_several_outputs(self, data, tmp_path):
        x, _ = data
        np.save(tmp_path / "x.npy", x)
        np.save(tmp_path / "y.npy", x[:, :2] * 2)
        np.save(tmp_path / "w.npy", np.arange(ROWS) % 2)
        source = from_npy(*(tmp_path / f"{name}.npy" for name in "xyw"))
        options = OPTIONS | {"shuffle": False}
        net = MLP((4, 5, 2), ["tanh", "identity"], random_state=0).fit(source, **options)
        expected = MLP((4, 5, 2), ["tanh", "identity"], random_state=0)
        expected.fit(x, x[:, :2] * 2, sample_weight=np.arange(ROWS) % 2, **options)
        assert np.array_equal(net.theta, expected.theta)

    def test_estimators(self, data, npy, tmp_path):
        x, y = data
        options = {"hidden_layer_sizes": (8,), "batch_size": 32, "learning_rate_init": 0.01, "random_state": 0, "tol": 1e-3}
        names = np.array(["left", "right"])[y]
        blocks = [(x[:1500], names[:1500]), (x[1500:], names[1500:])]
        in_memory = MLPClassifier(**options).fit(x, names)
        assert np.array_equal(in_memory.coefs_[0], MLPClassifier(**options).fit(blocks).coefs_[0])
        model = MLPClassifier(**options).fit(blocks, buffer_bytes=BUFFER)
        assert model.reading_.rows == model.n_iter_ * ROWS
        assert model.classes_.tolist() == ["left", "right"]
        assert model.score(x, names) > 0.95
        stopped = MLPClassifier(**options, early_stopping=True).fit(npy, X_val=x[:300], y_val=y[:300], buffer_bytes=BUFFER)
        assert len(stopped.validation_scores_) == stopped.n_iter_
        regressor = MLPRegressor(**options).fit([(x, x[:, 1])], buffer_bytes=BUFFER)
        assert regressor.score(x, x[:, 1]) > 0.95


class TestFrames:
    @pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
    def test_tables_are_arrays(self, data, library):
        x, y = data
        columns = {"a": x[:, 0], "b": x[:, 1].astype(np.float64), "c": np.arange(ROWS) % 5, "d": x[:, 3] > 0}
        module = pytest.importorskip(library)
        table = module.table(columns | {"y": y}) if library == "pyarrow" else module.DataFrame(columns | {"y": y})
        features, target = table.select(list("abcd")) if library != "pandas" else table[list("abcd")], table["y"]
        plain = np.column_stack(list(columns.values())).astype(np.float32)
        for kind in (MLP, ReferenceMLP):
            assert np.array_equal(
                network(kind).fit(features, target, **OPTIONS).theta, network(kind).fit(plain, y, **OPTIONS).theta
            )
        assert np.array_equal(network().predict(features), network().predict(plain))
        options = {"max_iter": 3, "tol": 0, "hidden_layer_sizes": (4,), "random_state": 0}
        with pytest.warns(UserWarning, match="Maximum iterations"):
            model = MLPClassifier(**options).fit(features, target)
        assert model.feature_names_in_.tolist() == list("abcd")

    @pytest.mark.parametrize("kind", ["float16", "float32", "float64", "int32"])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_batches_of_arrow_whose_columns_are_alike(self, kind, dtype):
        arrow = pytest.importorskip("pyarrow")
        columns = [arrow.array(np.array(column, kind), mask=np.array(mask)) for column, mask in (
            ([1, 2, 3], [False, True, False]), ([4, 5, 6], [False, False, False])
        )]  # fmt: skip
        made = array_of_frame(arrow.record_batch(columns, names=["a", "b"]), "x", np.dtype(dtype))
        np.testing.assert_array_equal(made, np.array([[1, 4], [np.nan, 5], [3, 6]], dtype))
        assert made.dtype == dtype
        assert made.flags.c_contiguous

    @pytest.mark.parametrize("shape", [(0, 2), (3, 0), (7, 3), (5001, 1), (5001, 3), (9001, 29), (4100, 300), (2, 5000)])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
    def test_rows_of_columns_of_several_kinds(self, library, dtype, shape):
        library = pytest.importorskip(library)
        kinds = ("float32", "int16", "float64", "bool")
        values = np.random.default_rng(0).integers(0, 100, shape)
        columns = {f"c{place}": column.astype(kinds[place % 4]) for place, column in enumerate(values.T)}
        frame = getattr(library, "table" if library.__name__ == "pyarrow" else "DataFrame")(columns)
        expected = np.column_stack([column.astype(dtype) for column in columns.values()] or [np.empty(frame.shape, dtype)])
        made = array_of_frame(frame, "x", np.dtype(dtype))
        np.testing.assert_array_equal(made, expected, strict=True)
        assert made.flags.c_contiguous
        some = np.full((max(len(expected) - 5, 0), shape[1]), -1, dtype)
        if shape[1]:
            np.testing.assert_array_equal(Columns(frame, "x", np.dtype(dtype)).rows(some, 5), expected[5:])

    @pytest.mark.parametrize("first", [0, 3])
    @pytest.mark.parametrize("shape", [(1001, 7), (1001, 8), (999, 15), (707, 16), (5000, 28), (70, 300)])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
    def test_rows_of_columns_of_their_kind(self, library, dtype, shape, first):
        pytest.importorskip("numba")  # whoever has imported it gets the kernel
        library = pytest.importorskip(library)
        values = np.arange(shape[0] * shape[1], dtype=dtype).reshape(shape)
        columns = {f"c{place}": np.ascontiguousarray(column) for place, column in enumerate(values.T)}
        frame = getattr(library, "table" if library.__name__ == "pyarrow" else "DataFrame")(columns)
        room = np.full((shape[0] - first + 1, shape[1]), -1, dtype)
        Columns(frame, "x", np.dtype(dtype)).rows(room[:-1], first)
        np.testing.assert_array_equal(room[:-1], values[first:])
        assert (room[-1] == -1).all()  # nothing is written beyond the rows
        with pytest.raises(IndexError, match="were asked for"):
            Columns(frame, "x", np.dtype(dtype)).rows(room, first)

    @pytest.mark.parametrize("has_compiler", [True, False])
    @pytest.mark.parametrize("n_columns", [3, 12])
    @pytest.mark.parametrize("kind", ["Float64", "double[pyarrow]", "boolean", "chunks of pyarrow", "chunks of polars", "Int128"])
    def test_long_columns_that_need_a_conversion(self, kind, n_columns, has_compiler, monkeypatch):
        pytest.importorskip("numba")
        if not has_compiler:
            monkeypatch.setattr("fastmlp.frames._has_compiler", lambda: False)
        is_there = np.arange(12_345) % 7 > 0
        values = (np.arange(12_345) % 2 > 0) if kind == "boolean" else np.arange(12_345) * (1 if kind == "Int128" else 1e36)
        given = [value if there else None for value, there in zip(values.tolist(), is_there, strict=True)]
        if "polars" in kind or kind == "Int128":
            polars = pytest.importorskip("polars")
            column = polars.Series(given, dtype=polars.Int128 if kind == "Int128" else polars.Float64)
            frame = polars.DataFrame({f"c{number}": column[:5000].append(column[5000:]) for number in range(n_columns)})
        elif kind == "chunks of pyarrow":
            arrow = pytest.importorskip("pyarrow")
            column = arrow.chunked_array([given[:5000], given[5000:]])
            frame = arrow.table({f"c{number}": column for number in range(n_columns)}).slice(1)
            values, is_there = values[1:], is_there[1:]
        else:
            pandas = pytest.importorskip("pandas")
            frame = pandas.DataFrame({f"c{number}": pandas.array(given, dtype=kind) for number in range(n_columns)})
        with np.errstate(over="ignore"):
            expected = np.where(is_there, values, np.nan).astype("float32")
        made = array_of_frame(frame, "x", np.dtype("float32"))
        np.testing.assert_array_equal(made, np.repeat(expected[:, None], n_columns, axis=1))

    def test_long_columns_without_some_values_or_with_too_large_ones(self):
        arrow = pytest.importorskip("pyarrow")
        values = np.arange(9000.0)
        columns = {"a": arrow.array(values, mask=values % 7 == 0), "b": arrow.array(values * 1e36)}
        made = array_of_frame(arrow.table(columns), "x", np.dtype("float32"))
        np.testing.assert_array_equal(made[:, 0], np.where(values % 7 == 0, np.nan, values))
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(made[:, 1], (values * 1e36).astype("float32"))

    @pytest.mark.parametrize("kind", ["int8", "uint16", "int64", "float16", "float32", "float64", "bool"])
    @pytest.mark.parametrize("values", [[], [1, 0, 1], [1, None, 0], [None]])
    def test_columns_of_arrow_are_what_arrow_makes_of_them(self, kind, values):
        arrow = pytest.importorskip("pyarrow")
        array = np.array([value or 0 for value in values], kind)
        column = arrow.array(array, mask=np.array([value is None for value in values], bool))
        for one in (column, column.slice(1), arrow.chunked_array([column, column.slice(1)]), arrow.chunked_array([column])):
            made = array_of_arrow(one)
            expected = one.to_numpy() if hasattr(one, "chunks") else one.to_numpy(zero_copy_only=False)
            np.testing.assert_array_equal(made, expected)
            assert made.dtype == expected.dtype

    def test_columns_for_arrow(self):
        arrow = pytest.importorskip("pyarrow")
        for array in (np.arange(5), np.zeros(0, np.int64), np.arange(11) % 3 == 0, np.zeros(0, bool)):
            assert arrow_of_array(arrow, array).to_pylist() == array.tolist()
        for texts in ([], ["", "x", "größer", ""]):
            assert arrow_of_texts(arrow, texts).to_pylist() == texts

    def test_pandas_is_not_imported_for_files(self, data, tmp_path):
        """By itself, Arrow imports it to make an array of numbers, which takes longer than many a training."""
        x, y = data
        write_parquet(tmp_path / "rows.parquet", x, y)
        write_csv(tmp_path / "rows.csv", x, y)
        printed = run_python(f"""
            import sys
            from fastmlp import MLP
            from fastmlp.data import from_files
            for file in ("rows.parquet", "rows.csv"):
                source = from_files({str(tmp_path)!r} + "/" + file, target="y")
                for rows in (source, source.share(0.2, 1.0, 0), source.prepared()):
                    outputs = 2 if rows.classes is None else len(rows.classes)
                    MLP((rows.n_features, 3, outputs), ("relu", "softmax"), "cross_entropy").fit(rows, epochs=1, batch_size=32)
            print("pandas" in sys.modules)
        """)
        assert printed.splitlines()[-1] == "False"

    @pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
    def test_columns_that_are_no_numbers_are_named(self, library):
        module = pytest.importorskip(library)
        make = module.table if library == "pyarrow" else module.DataFrame
        with pytest.raises(TypeError, match="column 'job' must hold numbers"):
            network(features=2).fit(make({"a": [1.0, 2.0], "job": ["x", "y"]}), [0, 1], epochs=1, batch_size=1)
        with pytest.raises(ValueError, match="got nan in row 1"):
            network(features=1).fit(make({"a": [1, None]}), [0, 1], epochs=1, batch_size=1)


class TestSources:
    def test_a_copy_reads_the_same(self, npy, data, tmp_path):
        table = from_files(write_parquet(tmp_path / "t.parquet", *data), "y")
        for source in (npy, table, table.prepared(), table.share(0.1, 0.9, 0)):
            expected = network().fit(source, **OPTIONS).theta if source.n_features == FEATURES else None
            for made in (copy.deepcopy(source), pickle.loads(pickle.dumps(source))):
                assert made.rows == source.rows
                if expected is not None:
                    assert np.array_equal(network().fit(made, **OPTIONS).theta, expected)

    @pytest.mark.parametrize("first_rows", [0, 1])
    def test_the_first_block_may_have_no_row(self, data, tmp_path, first_rows):
        arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        x, y = data
        table = arrow.table({f"f{n}": column for n, column in enumerate(x.T)} | {"y": y.astype(np.float32)})
        with parquet.ParquetWriter(tmp_path / "t.parquet", table.schema) as writer:
            writer.write_table(table.slice(0, first_rows))
            writer.write_table(table)
        source = from_files(tmp_path / "t.parquet", "y")
        for rows in (source, source.share(0.5, 1.0, 0), source.prepared(task="regression"), cached(source)):
            model = MLPRegressor(hidden_layer_sizes=(3,), max_iter=1, random_state=0)
            with pytest.warns(UserWarning, match="Maximum iterations"):
                assert np.isfinite(model.fit(rows).loss_)
        empty = source.share(2.0, 3.0, 0)
        with pytest.raises(TableError, match="has no rows"):
            MLPRegressor().fit(empty)

    def test_messages_name_rows_of_the_file_of_a_share_too(self, data, tmp_path):
        x, y = np.tile(data[0], (10, 1)), np.tile(data[1], 10)
        x[29_000:29_100, 2] = np.nan
        source = from_files(write_parquet(tmp_path / "t.parquet", x, y), "y")
        for rows, first in (source, 0), (source.share(0.0, 0.3, 8), 24576):
            with pytest.raises(ValueError, match=rf"row group 0, rows {first} to \d+: x must hold finite .* in row \d+"):
                network().fit(rows, **OPTIONS)


class TestBlocksOfTables:
    @staticmethod
    def fitted(blocks):
        return MLP((3, 4, 1), ["tanh", "identity"], random_state=0).fit(from_blocks(blocks), epochs=2, batch_size=5).theta

    @pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
    def test_columns_in_another_order(self, library):
        pandas, other = pytest.importorskip("pandas"), pytest.importorskip(library)
        make = {"pandas": lambda frame: frame, "polars": lambda frame: other.DataFrame(dict(frame)), "pyarrow": None}[library]
        make = make or other.Table.from_pandas
        x, y = pandas.DataFrame(np.random.default_rng(0).normal(size=(20, 3)), columns=["a", "b", "c"]), np.arange(20.0)
        blocks = [(make(x[:10]), y[:10]), (make(x[["c", "a", "b"]][10:]), y[10:])]
        np.testing.assert_array_equal(self.fitted(blocks), self.fitted([(x.to_numpy(), y)]))

    @pytest.mark.parametrize(
        ("library", "kinds"),
        [
            *(("pandas", kinds) for kinds in ("f4 f4", "f4 i2", "f4 i4", "f4 f8", "f4 ?", "f2 f2", "i1 i1", "f4 Float32")),
            ("polars", "f4 f4"),
            ("pyarrow", "f4 f4"),
        ],
    )
    def test_estimators_compute_in_the_dtype_that_they_have_in_memory(self, library, kinds):
        module = pytest.importorskip(library)
        x = np.random.default_rng(0).normal(size=(2, 20)) * 9
        columns = dict(zip("ab", x.astype("f4"), strict=True))
        table = module.table(columns) if library == "pyarrow" else module.DataFrame(columns)
        if library == "pandas":
            table = table.astype(dict(zip("ab", kinds.split(), strict=True)))
        in_memory, of_blocks = (MLPRegressor(max_iter=1, random_state=0) for _ in range(2))
        with pytest.warns(UserWarning, match="Maximum iterations"):
            in_memory.fit(table, x[0])
        with pytest.warns(UserWarning, match="Maximum iterations"):
            of_blocks.fit([(table, x[0])])
        assert of_blocks.coefs_[0].dtype == in_memory.coefs_[0].dtype
        assert np.array_equal(of_blocks.coefs_[0], in_memory.coefs_[0])

    def test_other_columns(self):
        pandas = pytest.importorskip("pandas")
        x, y = pandas.DataFrame(np.zeros((4, 3)), columns=["a", "b", "c"]), np.zeros(4)
        with pytest.raises(TableError, match=r"^block 1 has the columns a, d, c, and others before had a, b, c: 'b' differs\.$"):
            self.fitted([(x, y), (x.rename(columns={"b": "d"}), y)])
        x.columns = ["a", "b", "b"]
        self.fitted([(x, y), (x, y)])
        with pytest.raises(TableError, match=r"^block 1 has columns of one name in another order than the blocks before"):
            self.fitted([(x, y), (x.iloc[:, [1, 0, 2]], y)])

    @pytest.mark.parametrize("what", ["X", "y"])
    def test_masked_elements(self, what):
        x, y = np.ma.zeros((4, 3)), np.ma.zeros(4)
        self.fitted([(x, y)])
        (x if what == "X" else y)[2] = np.ma.masked
        with pytest.raises(TableError, match=rf"^block 0: {what} has masked elements; fill them first, or remove their rows\.$"):
            self.fitted([(x, y)])


class TestTargets:
    @staticmethod
    def fitted(y, loss="squared_error", outputs="sigmoid", kind=MLP, classes=None):
        x = np.random.default_rng(0).normal(size=(len(y), 3))
        net = kind((3, 4, 1), ["tanh", outputs], loss, random_state=0)
        return net.fit(from_blocks([(x, y)], classes=classes), epochs=2, batch_size=5).theta

    @pytest.mark.parametrize("kind", [MLP, ReferenceMLP])
    def test_classes_for_a_loss_of_numbers(self, data, tmp_path, kind):
        """Their places in the alphabet are no numbers to predict."""
        x, y = data
        quality = from_files(write_csv(tmp_path / "t.csv", x, 3 + y), target="y")
        prices = from_blocks([(x, np.array(["1,200", "900"])[y])])
        message = r"^The source has the classes \[.*\] as targets, but the loss squared_error is of numbers; use a loss of classes,"
        for source in (quality.prepared(), prices, cached(prices), from_blocks([(x, 3 + y)], classes=[3, 4])):
            with pytest.raises(ValueError, match=message):
                kind((4, 3, 1)).fit(source, **OPTIONS)
        net = kind((4, 3, 1), ["tanh", "identity"], random_state=0)
        assert net.fit(quality.prepared(task="regression", scale=False), **OPTIONS).predict(x).mean() > 1

    def test_classes_for_a_loss_of_ones_own(self):
        def brier(a, y):
            return (a - y) * (a - y)

        y = np.arange(20) % 2
        names = np.array(["no", "yes"])[y]
        with pytest.raises(ValueError, match=r"the loss brier is of numbers; say make_loss\(\.\.\., classification=True\), or "):
            self.fitted(names, make_loss(brier))
        expected = self.fitted(y, make_loss(brier))
        np.testing.assert_allclose(self.fitted(names, make_loss(brier, classification=True)), expected, rtol=1e-6)

    def test_classes_whose_places_are_what_they_are(self):
        y = np.arange(20) % 2
        expected = self.fitted(y.astype(float))
        for same, classes in ((y, None), (y == 1, None), (y, [0, 1]), ((y == 1).astype(object), None)):
            np.testing.assert_array_equal(self.fitted(same, classes=classes), expected)
        names = np.array(["no", "yes"])[y]
        bce = "binary_cross_entropy"
        np.testing.assert_array_equal(self.fitted(names, bce), self.fitted(y, bce))

    @pytest.mark.parametrize(
        ("values", "expected", "classes"),
        [
            ([Decimal("1.5"), Decimal("2"), 3], [1.5, 2.0, 3.0], None),
            ([3, 1, np.int8(2)], [3, 1, 2], None),
            ([True, False, np.True_], [1, 0, 1], [False, True]),
            (["b", "a", np.str_("b")], [1, 0, 1], ["a", "b"]),
            ([[1, 2.5], [3, 4], [5, 6]], [[1, 2.5], [3, 4], [5, 6]], None),
        ],
    )
    def test_objects_are_the_numbers_or_the_text_that_they_are(self, values, expected, classes):
        source = from_blocks([(np.ones((3, 2)), np.array(values, object))])
        (piece,) = source.pieces(0)
        assert piece.y.tolist() == expected
        assert piece.y.dtype.kind in "if"
        assert (None if source.classes is None else source.classes.tolist()) == classes
        with_classes = from_blocks([(np.ones((3, 2)), np.array([2, 1, 2], object))], classes=np.array([2, 1], object))
        assert next(with_classes.pieces(0)).y.tolist() == [0, 1, 0]

    def test_text_of_any_length(self):
        """NumPy casts its StringDType to no other text."""
        values = np.array(["b", "long", "b"], np.dtypes.StringDType())
        for classes, expected in (None, ["b", "long"]), (np.array(["long", "b"], np.dtypes.StringDType()), ["long", "b"]):
            source = from_blocks([(np.ones((3, 2)), values)], classes=classes)
            assert source.classes.tolist() == expected
            assert source.classes[next(source.pieces(0)).y].tolist() == ["b", "long", "b"]

    @pytest.mark.parametrize("target", [1, "a"])
    def test_of_single_rows(self, target):
        """Which come as what they are, in no list."""
        rows = [(np.full((1, 2), n), other) for n, other in enumerate([target, target * 2] * 5)]
        source = from_blocks(rows)
        assert source.rows == 10
        with pytest.warns(UserWarning, match="Maximum iterations"):
            assert MLPClassifier(max_iter=1).fit(source).classes_.tolist() == [target, target * 2]
        with pytest.raises(ValueError, match="block 0: y has 1 rows, but X has 3; each sample needs one"):
            MLPClassifier().fit([(np.ones((3, 2)), target), rows[1]])

    @pytest.mark.parametrize("kind", [list, "objects", "series"])
    @pytest.mark.parametrize("missing", [None, np.nan, "NA"])
    @pytest.mark.parametrize("values", [["b", "a", "b"], [Decimal(1), 2, 3]])
    def test_a_row_without_a_target(self, values, missing, kind):
        pandas = pytest.importorskip("pandas")
        missing = pandas.NA if missing == "NA" else missing
        make = {list: list, "objects": lambda values: np.array(values, object), "series": pandas.Series}[kind]
        x = np.ones((3, 2))
        source = from_blocks([(x, make(values)), (x, make([values[0], missing, values[2]]))])
        with pytest.raises(TableError, match=r"^block 1: row 1 has no target, but (None|nan|<NA>); remove such rows\.$"):
            list(source.pieces(0))

    def test_targets_of_several_kinds(self):
        for values in ([1, "a"], ["a", 1], np.array([1.5, "a"], object)):
            with pytest.raises(TableError, match=r"block 0: the target is .* in row 1; targets must be all text or all numbers\.$"):
                MLPClassifier().fit([(np.ones((2, 2)), values)])
        wrong = r"classes must be two or more different values, all text or all numbers, got \['a', "
        for classes in (["a", None], ["a", np.nan], ["a", 1]):
            with pytest.raises(ValueError, match=wrong):
                from_blocks([(np.ones((2, 2)), ["a", "b"])], classes=classes)

    @pytest.mark.parametrize("empty", [(np.empty((0, FEATURES)), []), ([], [])])
    def test_blocks_without_rows(self, data, empty):
        """Whose targets, of which nobody can say what they are, decide on nothing."""
        x, y = data
        names = np.array(["no", "yes"])[y]
        source = from_blocks([empty, (x[:900], names[:900]), empty, (x[900:], names[900:])])
        assert (source.rows, source.n_features, source.classes.tolist()) == (ROWS, FEATURES, ["no", "yes"])
        expected = network().fit([(x, names)], **OPTIONS).theta
        np.testing.assert_array_equal(network().fit(source, **OPTIONS).theta, expected)
        with pytest.raises(TableError, match="There are no blocks with rows"):
            from_blocks([empty, empty])


class TestErrors:
    @pytest.mark.parametrize("target", [1.0, np.ones(1)])
    def test_single_samples_are_no_blocks(self, target):
        samples = [(np.array([0.0, 1.0]), target), (np.array([1.0, 0.0]), target)]
        with pytest.raises(
            TableError, match=r"block 0 must hold rows of samples, got X of the shape \(2,\); single samples go in as"
        ):
            MLP((2, 3, 1)).fit(samples, epochs=1, batch_size=1)

    @pytest.mark.parametrize(
        ("given", "shape", "advice"),
        [
            ([[0.0, 1.0], [1.0, 0.0]], r"\(\)", "if these are rows of samples and no blocks, y is missing"),
            ([(np.zeros((3, 2, 2)), np.arange(3))], r"\(3, 2, 2\)", "make rows of them"),
        ],
    )
    def test_samples_of_other_dimensions(self, given, shape, advice):
        with pytest.raises(TableError, match=rf"block 0 must hold rows of samples, got X of the shape {shape}; {advice}"):
            MLP((2, 3, 1)).fit(given, epochs=1, batch_size=1)
        with pytest.raises(TableError, match=rf"block 0 must hold rows of samples, got X of the shape {shape}; {advice}"):
            MLPRegressor().fit(given)

    def test_of_npy_files(self, data, tmp_path):
        x, y = data
        np.save(tmp_path / "x.npy", x)
        np.save(tmp_path / "y.npy", y[1:])
        with pytest.raises(TableError, match=r"'.*' is a folder; give a file in it\.$"):
            from_npy(tmp_path, tmp_path)
        with pytest.raises(TableError, match=r"There is no file .*z\.npy"):
            from_npy(tmp_path / "x.npy", tmp_path / "z.npy")
        with pytest.raises(TableError, match=r"y\.npy has 3000 rows, but .*x\.npy has 3001"):
            from_npy(tmp_path / "x.npy", tmp_path / "y.npy")
        with pytest.raises(ValueError, match="either y, a file of targets, or target"):
            from_npy(tmp_path / "x.npy")
        with pytest.raises(TableError, match="target must be a column from 0 to 3, got 4"):
            from_npy(tmp_path / "x.npy", target=4)
        for target in (1.0, True, [1]):
            with pytest.raises(TypeError, match="target must be the name of a column, or its position, got "):
                from_npy(tmp_path / "x.npy", target=target)
        with pytest.raises(TableError, match=r"no column 'yy'.*Did you mean 'y'"):
            from_npy(structured(tmp_path / "s.npy", x, y), target="yy")
        (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-100])
        with pytest.raises(TableError, match="not a usable"):
            from_npy(tmp_path / "x.npy", target=0)
        np.save(tmp_path / "f.npy", np.asfortranarray(x))
        with pytest.raises(TableError, match="Fortran order"):
            from_npy(tmp_path / "f.npy", target=0)

    @pytest.mark.parametrize("odd", ["M8[s]", [("u", "f4")], "U3"])
    def test_of_records_with_a_field_that_is_no_number(self, tmp_path, odd):
        np.save(tmp_path / "s.npy", np.zeros(3, [("a", "f4"), ("odd", odd), ("y", "i8")]))
        with pytest.raises(TableError, match=r"s\.npy: the fields \['a', 'odd'\] must be of numbers, got "):
            from_npy(tmp_path / "s.npy", target="y")

    def test_of_tables(self, data, tmp_path):
        path = write_parquet(tmp_path / "t.parquet", *data)
        with pytest.raises(TableError, match="There is no file"):
            from_files(tmp_path / "none.parquet", target="y")
        with pytest.raises(TableError, match=r"no column 'yy'.*Did you mean 'y'"):
            from_files(path, target="yy")
        with pytest.raises(TableError, match="no file whose name matches"):
            from_files(str(tmp_path / "*.csv"), target="y")
        (tmp_path / "empty").mkdir()
        write_csv(tmp_path / "empty" / "_hidden.csv", *data)
        with pytest.raises(TableError, match=r"has no tables, .*, and begin with neither '.' nor '_'"):
            from_files(tmp_path / "empty", target="y")
        other = write_csv(tmp_path / "other.csv", data[0][:, :2], data[1])
        with pytest.raises(TableError, match=r"other\.csv: There is no column 'f2'"):
            from_files([path, other], target="y")
        with pytest.raises(TableError, match="none of the 2 classes"):
            network().fit(from_files(path, target="y", classes=[1, 2]), **OPTIONS)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_numbers_that_are_not_finite_are_found_where_they_are(self, data, tmp_path, bad):
        x, y = data
        x[1234, 2] = bad
        np.save(tmp_path / "x.npy", x)
        np.save(tmp_path / "y.npy", y)
        before = (net := network()).theta
        with pytest.raises(ValueError, match=r"x\.npy, rows 1200 to 1249: x must hold finite.* in row 34") as raised:
            net.fit(from_npy(tmp_path / "x.npy", tmp_path / "y.npy"), **OPTIONS | {"shuffle": False})
        assert str(bad) in str(raised.value)
        assert np.isfinite(net.theta).all()
        assert not np.array_equal(net.theta, before)  # the rows before were there

    def test_of_blocks(self, data):
        x, y = data
        cases = [
            ([(x, y), (x[:, :3], y)], "block 1: x has 3 features, but the network takes 4"),
            ([(x, y), (x, y[1:])], "block 1: y has 3000 rows, but x has 3001"),
            ([(x, y), (x, y, y + 1)], "Some blocks have weight"),
            ([(x, y), (x, np.eye(2)[y])], "Some blocks have class labels as targets and others have not"),
            ([(x, np.eye(2)[y]), (x, y)], "Some blocks have class labels as targets and others have not"),
            ([(x, y), (x,)], "block 1 must be .X, y. or .X, y, weight., got 1 members"),
            ([(x, y), (x, y + 5)], "block 1: y has the class label"),
            ([], "There are no blocks"),
            (lambda: iter([]), "There are no blocks"),
        ]
        for blocks, message in cases:
            with pytest.raises(ValueError, match=message):
                network().fit(blocks, **OPTIONS)

    def test_an_iterator_is_refused_at_once(self, data):
        with pytest.raises(TypeError, match="gone through several times, which a generator does not allow; give a list"):
            network().fit((block for block in [data]), **OPTIONS)

    @pytest.mark.parametrize(("rows", "passes", "message"), [
        (None, 3, "has 0 rows in all, but its first block had 3001"),
        (None, 4, "has only 0 rows in this pass over it, but 3001 before"),
        (ROWS, 3, "has only 0 rows in this pass over it, but 3001 before"),
    ])  # fmt: skip
    def test_blocks_that_do_not_begin_anew_are_noticed(self, data, rows, passes, message):
        class Ends:
            left = passes  # three looks at the first block, perhaps a pass to count, and then those of the training

            def __iter__(self):
                self.left -= 1
                return iter([data] if self.left >= 0 else [])

        with pytest.raises(TableError, match=message):
            network().fit(from_blocks(Ends(), rows=rows), **OPTIONS)

    def test_more_rows_than_announced(self, data):
        with pytest.raises(TableError, match="more than 3002 rows"):
            network().fit(from_blocks([data, data], rows=ROWS + 1), **OPTIONS)

    def test_targets_beside_a_source_and_samples_without(self, data, npy):
        with pytest.raises(ValueError, match="y must be None where x is a source"):
            network().fit(npy, data[1], **OPTIONS)
        with pytest.raises(ValueError, match="y is missing"):
            network().fit(data[0], **OPTIONS)
        with pytest.raises(ValueError, match="sample_weight must be None"):
            network().fit(npy, sample_weight=data[1], **OPTIONS)
        with pytest.raises(ValueError, match="requires y to be passed"):
            MLPClassifier().fit(data[0])


class TestEnds:
    def test_an_error_in_the_iterator_is_raised_as_it_is(self, data):
        x, y = data

        def blocks():
            yield x[:1500], y[:1500]
            if threading.current_thread() is not threading.main_thread():
                raise ZeroDivisionError("mine")
            yield x[1500:], y[1500:]

        with pytest.raises(ZeroDivisionError, match="mine"):
            network().fit(blocks, **OPTIONS)

    def test_interrupt_while_training(self, npy):
        class Interrupt(Callback):
            def on_epoch_end(self, run):
                raise KeyboardInterrupt

        net = network()
        with pytest.raises(KeyboardInterrupt):
            net.fit(npy, **OPTIONS | {"epochs": 1000}, callbacks=[Interrupt()])
        assert len(net.loss_curve_) == 1

    def test_interrupt_while_waiting_for_rows(self, data):
        x, y = data
        passes, stuck = [], threading.Event()

        def blocks():
            passes.append(1)
            yield x[:1500], y[:1500]
            if threading.current_thread() is not threading.main_thread():
                threading.Timer(0.3, _thread.interrupt_main).start()
                stuck.wait(60)
            yield x[1500:], y[1500:]

        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            network().fit(blocks, **OPTIONS)
        stuck.set()
        assert time.monotonic() - began < 10

    def test_early_stop_leaves_nothing_running(self, npy):
        class Stop(Callback):
            def on_epoch_end(self, run):
                assert run.reading.passes == run.epoch
                run.stop = True

        assert len(network().fit(npy, **OPTIONS | {"epochs": 50}, callbacks=[Stop()]).loss_curve_) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="the system does not say how much memory a process has had")
def test_memory_does_not_grow_with_the_file(tmp_path):
    """A file of 1 GiB, most of it a hole, and a buffer of 64 MiB."""
    rows = (1 << 30) // (28 * 4)
    for name, shape, dtype in [("x", (rows, 28), "<f4"), ("y", (rows,), "|i1")]:
        with (tmp_path / f"{name}.npy").open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
            file.truncate(file.tell() + int(np.prod(shape)) * np.dtype(dtype).itemsize)
    printed = run_python(
        f"""
        from pathlib import Path
        from benchmarks.machine import peak_memory
        from fastmlp import MLP
        from fastmlp.data import from_npy

        folder = Path({str(tmp_path)!r})
        net = MLP((28, 4, 2), ["relu", "softmax"], "cross_entropy", random_state=0)
        net.fit(from_npy(folder / "x.npy", folder / "y.npy"), epochs=1, batch_size=4096, buffer_bytes=64 << 20)
        print(net.reading_.rows, peak_memory())
        """
    )
    (tmp_path / "x.npy").unlink()
    seen, most = map(int, printed.split())
    assert seen == rows
    assert most < 500 << 20


class TestCached:
    @pytest.fixture
    def parquet(self, data, tmp_path):
        """Sixteen row groups, with weights."""
        import pyarrow as arrow
        from pyarrow import parquet

        x, y = data
        columns = {f"x{column}": x[:, column] for column in range(FEATURES)}
        table = arrow.table({**columns, "label": y, "weight": np.linspace(0.5, 1.5, ROWS)})
        path = tmp_path / "rows.parquet"
        parquet.write_table(table, path, row_group_size=200)
        return path

    @staticmethod
    def source(path):
        return from_files(path, target="label", weight="weight")

    def test_the_same_bits(self, parquet):
        plain, kept = network().fit(self.source(parquet), **OPTIONS), network().fit(cached(self.source(parquet)), **OPTIONS)
        np.testing.assert_array_equal(kept.theta, plain.theta)

    def test_the_files_are_read_once(self, parquet):
        """For each block: a look at the first rows at the beginning of a training reads one in vain."""
        source = self.source(parquet)
        read = []
        pieces = source.pieces
        source.pieces = lambda block: [read.append(block), pieces(block)][1]
        kept = cached(source)
        network().fit(kept, **OPTIONS)
        network().fit(kept, **OPTIONS)
        assert sorted(read) == [0, *range(16)]

    def test_without_the_files_of_the_source(self, parquet):
        kept = cached(self.source(parquet))
        before = network().fit(kept, **OPTIONS)
        parquet.unlink()
        np.testing.assert_array_equal(network().fit(kept, **OPTIONS).theta, before.theta)

    def test_arrays_and_text(self, data):
        x, y = data
        names = np.array(["no", "yes"])[y]
        blocks = [(x[at : at + 500], names[at : at + 500]) for at in range(0, ROWS, 500)]
        kept = cached(from_blocks(blocks))
        assert list(kept.classes) == ["no", "yes"]
        expected = network().fit(from_blocks(blocks), **OPTIONS)
        np.testing.assert_array_equal(network().fit(kept, **OPTIONS).theta, expected.theta)

    def test_removed_with_the_source(self, parquet, tmp_path):
        kept = cached(self.source(parquet), tmp_path)
        network().fit(kept, **OPTIONS)
        (folder,) = tmp_path.glob("fastmlp-*")
        assert len(list(folder.iterdir())) == 16
        del kept
        gc.collect()
        assert not folder.exists()

    def test_nothing_of_a_block_that_was_not_read_to_its_end(self, parquet, tmp_path):
        kept = cached(self.source(parquet), tmp_path)
        pieces = kept.pieces(3)
        next(pieces)
        pieces.close()
        assert not list(tmp_path.glob("fastmlp-*/*"))
        assert sum(len(piece.x) for piece in kept.pieces(3)) == 200

    def test_a_block_that_was_only_asked_for(self, parquet, tmp_path):
        kept = cached(self.source(parquet), tmp_path)
        kept.pieces(3)
        assert sum(len(piece.x) for piece in kept.pieces(3)) == 200
        assert len(list(tmp_path.glob("fastmlp-*/*"))) == 1

    def test_a_block_that_another_thread_keeps_just_now(self, parquet, tmp_path):
        kept = cached(self.source(parquet), tmp_path)
        begin = kept._begin_to_keep

        def late(block):
            kept._begin_to_keep = begin
            list(kept.pieces(block))  # as another thread may, at any time
            return begin(block)

        kept._begin_to_keep = late
        pieces = kept.pieces(3)
        next(pieces)
        pieces.close()
        assert sum(len(piece.x) for piece in kept.pieces(3)) == 200

    def test_leftovers_in_the_place_of_a_block(self, parquet, tmp_path):
        kept = cached(self.source(parquet), tmp_path)
        (folder,) = tmp_path.glob("fastmlp-*")
        (folder / "3").write_bytes(b"left over")
        (first,), (again,) = ([np.array(piece.x) for piece in kept.pieces(3)] for _ in range(2))
        np.testing.assert_array_equal(again, first)

    def test_leftovers_that_cannot_be_removed(self, parquet, tmp_path):
        kept = cached(self.source(parquet), tmp_path)
        pieces = kept.pieces(3)
        next(pieces)
        (file,) = tmp_path.glob("fastmlp-*/*")
        file.unlink()
        file.mkdir()
        pieces.close()
        file.rmdir()
        assert sum(len(piece.x) for piece in kept.pieces(3)) == 200
        assert file.is_file()

    def test_a_copy_that_somebody_has_cut_off(self, parquet, tmp_path):
        kept = cached(self.source(parquet), tmp_path)
        list(kept.pieces(3))
        (copy,) = tmp_path.glob("fastmlp-*/*")
        copy.write_bytes(copy.read_bytes()[:-1])
        with pytest.raises(TableError, match=r"The cache in .*fastmlp-.* has been changed: .*rows.parquet.* is not there any more"):
            list(kept.pieces(3))

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows sets no limit to the size of a file")
    def test_a_full_disk(self, parquet):
        import resource

        plain = network().fit(self.source(parquet), **OPTIONS)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
        try:
            with pytest.warns(UserWarning, match=r"The cache in .*fastmlp-.* cannot take more rows \(File too large\)"):
                kept = network().fit(cached(self.source(parquet)), **OPTIONS)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        np.testing.assert_array_equal(kept.theta, plain.theta)

    def test_wrong_use(self, data, tmp_path):
        with pytest.raises(TypeError, match=r"cached takes a source, such as .*, got ndarray"):
            cached(data[0])
        with pytest.raises(FileNotFoundError):
            cached(from_blocks([data]), tmp_path / "nowhere")
