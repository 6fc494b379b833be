"""Sources under hard conditions: forks, copies, interrupts, files that differ or change."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import threading
import time
from decimal import Decimal

import numpy as np
import pytest

from fastmlp import MLP
from fastmlp.callbacks import Callback, Checkpoint
from fastmlp.data import TableError, cached, from_blocks, from_files, tables
from fastmlp.data.sources import is_awaited
from fastmlp.files import replacement

ROWS = 20_000
OPTIONS = {"batch_size": 32, "buffer_bytes": 50_000}


@pytest.fixture
def source():
    x = np.random.default_rng(0).normal(size=(ROWS // 4, 4)).astype("float32")
    return from_blocks([(x, x.sum(axis=1))] * 4, rows=ROWS)


def fit(source, epochs=2, **options):
    return MLP((4, 8, 1), random_state=0, n_threads=1).fit(source, epochs=epochs, **OPTIONS, **options).theta


def write(path, columns, **options):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table(columns), path, **options)
    return path


FORKS = """
import os, sys, time
import numpy as np
from fastmlp import MLP
from fastmlp.data import cached, from_blocks

random = np.random.default_rng(0)
x = [random.normal(size=(2000, 4)).astype("float32") for _ in range(4)]
def blocks():
    for one in x:
        time.sleep(0.02)  # so that both are at it at the same time
        yield one, one.sum(axis=1)
def train(source):
    return MLP((4, 8, 1), random_state=0, n_threads=1).fit(source, epochs=4, batch_size=32, buffer_bytes=30_000).theta
expected = train(from_blocks(blocks, rows=8000))
source = cached(from_blocks(blocks, rows=8000))
if sys.argv[1] == "before":
    train(source)
children = []
for _ in range(2):
    child = os.fork()
    if child == 0:
        sys.exit(0 if np.array_equal(train(source), expected) else 3)
    children.append(child)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children], np.array_equal(train(source), expected))
"""


class TestCachedRows:
    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
    @pytest.mark.parametrize("filled", ["before", "after"])
    def test_of_processes_that_have_forked(self, filled):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", FORKS, filled], capture_output=True, text=True, timeout=240, check=False
        )
        assert done.stdout == "[0, 0] True\n", done.stderr

    def test_copies_have_their_own(self, tmp_path):
        path = write(tmp_path / "t.parquet", {f"x{n}": np.arange(3000.0) * n % 7 for n in range(4)} | {"y": np.arange(3000.0) % 5})
        kept = cached(from_files(path, "y"), tmp_path)
        expected = fit(kept)
        copies = [copy.copy(kept), copy.deepcopy(kept), pickle.loads(pickle.dumps(kept))]
        assert len(list(tmp_path.glob("fastmlp-*"))) == 4
        del kept
        for one in copies:
            assert np.array_equal(fit(one), expected)

    def test_that_somebody_has_deleted(self, source, tmp_path):
        kept = cached(source, tmp_path)
        fit(kept)
        for file in next(tmp_path.glob("fastmlp-*")).iterdir():
            file.unlink()
        with pytest.raises(TableError, match="has been changed"):
            fit(kept)


def eventually(condition, seconds=10.0):
    """Whether a condition becomes true."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    return condition()


class TestWhoHelpsToRead:
    def test_all_processors_while_training_waits_and_one_while_it_computes(self):
        x = np.random.default_rng(0).normal(size=(ROWS // 4, 4)).astype("float32")
        found = []

        def blocks():
            waits = is_awaited.get()
            if threading.current_thread().name == "fastmlp-reader":
                found.append(eventually(waits, 10.0 if not found else 0.0))
            for _ in range(4):
                yield x, x.sum(axis=1)

        class Busy(Callback):
            def on_epoch_end(self, run):
                # The reader is asked for the next epoch before this one ends, and reads while this goes on.
                assert eventually(lambda: len(found) == 2)

        fit(from_blocks(blocks, rows=ROWS), callbacks=[Busy()])
        assert found == [True, False]

    def test_whoever_reads_rows_only_to_have_them_waits(self):
        assert is_awaited.get()()

    @pytest.mark.parametrize(("awaited", "processors", "expected"), [(True, 4, True), (False, 4, False), (True, 1, False)])
    def test_columns_of_parquet(self, tmp_path, monkeypatch, awaited, processors, expected):
        parquet = pytest.importorskip("pyarrow.parquet")
        columns = {"a": np.arange(1000.0), "b": np.arange(1000.0), "t": np.arange(1000.0)}
        source = from_files(write(tmp_path / "rows.parquet", columns), target="t")
        helped = []

        def read(file, *args, use_threads, **options):
            helped.append(use_threads)
            return read_row_group(file, *args, use_threads=use_threads, **options)

        read_row_group = parquet.ParquetFile.read_row_group
        monkeypatch.setattr(parquet.ParquetFile, "read_row_group", read)
        monkeypatch.setattr(tables, "available_threads", lambda: processors)
        before = is_awaited.set(lambda: awaited)
        try:
            (piece,) = source.pieces(0)
        finally:
            is_awaited.reset(before)
        assert helped == [expected]
        assert np.array_equal(piece.x, np.column_stack([columns["a"], columns["b"]]))


class TestInterrupts:
    def test_while_the_reader_is_started(self, source, monkeypatch):
        start = threading.Thread.start

        def interrupted(thread):
            start(thread)
            if thread.name == "fastmlp-reader":
                readers.append(thread)
                raise KeyboardInterrupt

        readers = []
        fit(source)
        monkeypatch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(source)
        readers[0].join(60)
        assert not readers[0].is_alive()

    def test_do_not_wait_for_somebody_elses_iterator(self):
        x = np.zeros((250, 4), "float32")
        goes_on, passes = threading.Event(), []

        def blocks():
            passes.append(1)
            for number in range(40):
                if number == 2 and len(passes) > 2:  # the first part has been read
                    goes_on.wait(60)
                yield x, x.sum(axis=1)

        class Interrupt(Callback):
            def on_rows(self, run):
                self.began = time.monotonic()
                raise KeyboardInterrupt

        source = from_blocks(blocks, rows=10_000)
        net, interrupt = MLP((4, 8, 1), random_state=0), Interrupt()
        try:
            with pytest.raises(KeyboardInterrupt):
                net.fit(source, epochs=1, batch_size=32, buffer_bytes=100_000, callbacks=[interrupt])
            waited = time.monotonic() - interrupt.began
        finally:
            goes_on.set()
        assert waited < 4  # the iterator would have taken a minute, and an orderly end waits for five seconds

    def test_of_one_checkpoint_leave_those_of_another_training(self, tmp_path):
        x = np.ones((8, 4))

        def train(name, **options):
            return MLP((4, 1)).fit(x, x.sum(axis=1), epochs=1, batch_size=8, callbacks=[Checkpoint(tmp_path / name)], **options)

        with replacement(tmp_path / "shop-1-b-1.safetensors") as theirs:
            theirs.write_bytes(b"x")
            train("shop-1-{epoch}.safetensors")
            train("{epoch}.safetensors")
            assert theirs.exists()


class TestFilesThatDiffer:
    def test_shares_have_the_classes_of_all_rows(self, tmp_path):
        labels = np.array(["a", "c"] * 200)
        labels[7] = "b"
        source = from_files(write(tmp_path / "t.parquet", {"x": np.arange(400.0), "label": labels}), "label")
        shares = [source.share(*limits, seed=0) for limits in ((0, 0.5), (0.5, 1))]
        assert {str(one.classes) for one in (*shares, shares[0].share(0, 0.1, seed=1))} == {"['a' 'b' 'c']"}

    @pytest.mark.parametrize("order", [1, -1])
    def test_numbers_keep_their_digits_whichever_file_is_first(self, tmp_path, order):
        first = write(tmp_path / "a.parquet", {"x": np.array([1, 2], np.int16), "y": [0.0, 0.0]})
        second = write(tmp_path / "b.parquet", {"x": np.array([16777217, 16777219]), "y": [0.0, 0.0]})
        source = from_files([first, second][::order], "y")
        values = [value for block in range(source.n_blocks) for piece in source.pieces(block) for value in piece.x.ravel().tolist()]
        assert sorted(values) == [1, 2, 16777217, 16777219]

    def test_decimal_fractions_may_be_targets_and_weights(self, tmp_path):
        numbers = [Decimal("1.25"), Decimal("2.50")]
        path = write(tmp_path / "t.parquet", {"x": [1.0, 2.0], "y": numbers, "weight": numbers})
        (piece,) = from_files(path, "y", weight="weight").pieces(0)
        assert piece.y.dtype.kind == piece.weight.dtype.kind == "f"
        assert piece.y.tolist() == piece.weight.tolist() == [1.25, 2.5]

    @pytest.mark.parametrize("lost", ["x1", "y"])
    @pytest.mark.parametrize("ending", ["parquet", "csv"])
    def test_a_column_that_goes_during_training(self, tmp_path, ending, lost):
        def put(names):
            x = np.random.default_rng(0).normal(size=(5000, 4)).astype("float32")
            columns = dict(zip(names, [*x.T, x.sum(axis=1)], strict=True))
            if ending == "parquet":
                write(tmp_path / "new", columns, row_group_size=1000)
            else:
                table = np.column_stack(list(columns.values()))
                np.savetxt(tmp_path / "new", table, delimiter=",", header=",".join(names), comments="")
            (tmp_path / "new").replace(tmp_path / f"t.{ending}")

        class Change(Callback):
            def on_epoch_end(self, run):
                if run.epoch == 1:
                    put(["z" if name == lost else name for name in names])

        names = ["x0", "x1", "x2", "x3", "y"]
        pytest.importorskip("pyarrow")
        put(names)
        with pytest.raises(TableError, match=rf"t\.{ending} has changed. There is no column '{lost}'"):
            fit(from_files(tmp_path / f"t.{ending}", "y"), epochs=4, callbacks=[Change()])
