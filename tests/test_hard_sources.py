"""Sources under hard conditions: forks, copies, interrupts, files that differ or change."""

from __future__ import annotations

import copy
import gzip
import os
import pickle
import subprocess
import sys
import threading
import time
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fastmlp import MLP
from fastmlp.callbacks import Callback, Checkpoint
from fastmlp.data import TableError, cached, finding, from_blocks, from_files, tables
from fastmlp.data.csv_form import form_of
from fastmlp.data.files import read_batches, read_table
from fastmlp.data.learning import learn_preparation
from fastmlp.data.model import Plan, begin, check_table
from fastmlp.data.preparation import Category, Number
from fastmlp.data.sources import is_awaited
from fastmlp.estimators import MLPRegressor
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
                found.append(eventually(waits) if not found else not eventually(lambda: not waits()))
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


class TestWeights:
    @pytest.mark.parametrize("buffer_bytes", [5_000, 1 << 20])  # a stream, and rows that are read into memory
    def test_zero_for_all_rows(self, buffer_bytes):
        x = np.random.default_rng(0).normal(size=(500, 4))
        source = from_blocks([(x, x.sum(axis=1), np.zeros(500))])
        with pytest.raises(TableError, match="a weight of zero for every row"):
            MLP((4, 3, 1)).fit(source, epochs=1, batch_size=10, buffer_bytes=buffer_bytes)
        with pytest.raises(TableError, match="a weight of zero for every row"):
            MLPRegressor(hidden_layer_sizes=(3,), batch_size=10).fit(source, None, buffer_bytes=buffer_bytes)
        with pytest.raises(TableError, match="a weight of zero for every row"):
            MLPRegressor(hidden_layer_sizes=(3,), solver="lbfgs").fit(source, None, buffer_bytes=buffer_bytes)

    @pytest.mark.parametrize("buffer_bytes", [5_000, 1 << 20])
    def test_a_block_of_which_all_are_tiny(self, buffer_bytes):
        x = np.random.default_rng(0).normal(size=(500, 4))
        blocks = [(x[:250], x[:250, 0], np.full(250, 1e-25)), (x[250:], x[250:, 0], np.ones(250))]
        net = MLP((4, 3, 1), random_state=0).fit(from_blocks(blocks), epochs=1, batch_size=10, buffer_bytes=buffer_bytes)
        assert np.isfinite(net.loss_curve_).all()

    def test_all_are_tiny(self):
        x = np.random.default_rng(0).normal(size=(500, 4))
        with pytest.raises(ValueError, match=r"The largest sample_weight is 1e-25"):
            MLP((4, 3, 1)).fit(from_blocks([(x, x[:, 0], np.full(500, 1e-25))]), epochs=1, batch_size=10)


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

    @pytest.mark.parametrize("kind", ["parquet", "csv"])
    def test_a_column_that_only_a_later_file_has_values_of(self, tmp_path, kind):
        arrow, csv = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.csv")

        def put(name, **columns):
            path = tmp_path / f"{name}.{kind}"
            return write(path, columns) if kind == "parquet" else csv.write_csv(arrow.table(columns), path) or path

        nothing = arrow.nulls(3)
        first = put("a", number=nothing, text=nothing, never=nothing, truth=nothing, y=nothing)
        second = put("b", number=[1.0, 3.0], text=["u", "v"], never=nothing[:2], truth=[True, False], y=[0, 1])
        source = from_files([first, second], "y").prepared()
        assert source.preparation.dropped == {"never": "it has no values"}
        assert source.preparation.features == (
            Number("number", 2.0, 1.0, True), Category("text", ("u", "v"), True), Category("truth", ("false", "true"), True)
        )  # fmt: skip
        assert source.preparation.target.classes == ("0", "1")
        assert source.rows == 2
        rows = np.concatenate([piece.x for block in range(source.n_blocks) for piece in source.pieces(block)])
        assert rows.tolist() == [[-1, 0, 1, 0, 0, 0, 1, 0], [1, 0, 0, 1, 0, 1, 0, 0]]

    @pytest.mark.parametrize("kind", ["text", "truth", "decimals"])
    def test_a_target_that_only_a_later_file_has_values_of(self, tmp_path, kind):
        arrow = pytest.importorskip("pyarrow")
        values = {"text": ["u", "v"], "truth": [True, False], "decimals": [0.5, 1.5]}[kind]
        first = write(tmp_path / "a.parquet", {"x": [1.0, 2.0], "y": arrow.nulls(2)})
        second = write(tmp_path / "b.parquet", {"x": [1.0, 2.0], "y": values})
        classes = {"text": ("u", "v"), "truth": ("false", "true"), "decimals": None}[kind]
        assert from_files([first, second], "y").prepared().preparation.target.classes == classes
        with pytest.raises(TableError, match=r"a\.parquet, row group 0, rows 0 to 1: row 0 has no target; remove such rows"):
            list(from_files([first, second], "y").pieces(0))

    @pytest.mark.parametrize("order", [1, -1])
    @pytest.mark.parametrize("kind", ["parquet", "csv"])
    def test_truth_values_in_one_file_and_numbers_in_another(self, tmp_path, kind, order):
        """Whether 1 is true is for a person to say, in whichever order the files are read."""
        arrow, csv = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.csv")
        paths = []
        for number, values in enumerate(([True, False], [1, 0])):
            for role, columns in (("target", {"x": [1.0, 2.0], "y": values}), ("feature", {"x": values, "y": [0.5, 1.5]})):
                path = tmp_path / f"{role}{number}.{kind}"
                write(path, columns) if kind == "parquet" else csv.write_csv(arrow.table(columns), path)
                paths.append(path)
        targets, features = paths[::2][::order], paths[1::2][::order]
        pattern = "{} '{}' is of truth values in some files and of numbers in others; write it alike in all of them"
        with pytest.raises(TableError, match=pattern.format("The target", "y")):
            from_files(targets, "y").prepared()
        plain = from_files(targets, "y")
        with pytest.raises(TableError, match=pattern.format("The target", "y")):
            [list(plain.pieces(block)) for block in range(plain.n_blocks)]
        told = r"feature0\.csv, line 2: column 'x' has the text 'true' where there were numbers before"
        with pytest.raises(TableError, match=told if (kind, order) == ("csv", -1) else pattern.format("Column", "x")):
            from_files(features, "y").prepared()
        with pytest.raises(TableError, match="The columns of the files do not fit together"):
            tables.read_tables(targets)

    def test_a_column_that_is_of_no_use_in_the_first_file(self, tmp_path):
        """It is in none: what it has there is nothing that those of other files could be compared with."""
        paths = [
            write(tmp_path / f"{n}.parquet", {"x": [1.0, 2.0], "z": z, "y": [0, 1]}) for n, z in enumerate(([[1], [2]], [3, 4]))
        ]
        assert from_files(paths, "y").prepared().preparation.dropped == {"z": "it is of the type list<element: int64>"}

    def test_types_that_do_not_fit_together(self, tmp_path):
        for name, values in (("a", "5,1\n"), ("b", "x,1\n")):
            (tmp_path / f"{name}.csv").write_text("t,y\n" + values)
        paths = finding.find_files(tmp_path)
        with pytest.raises(TableError) as error:
            tables.read_tables(paths)
        assert str(error.value) == (
            "The columns of the files do not fit together: 't' is of the type int64 in one of them and string in another; write it "
            "alike in all of them, or name it among the categories (--categories, or categories=['t']) to have it read as text."
        )
        assert tables.read_tables(paths, categories=["t"]).column("t").to_pylist() == ["5", "x"]

    @pytest.mark.parametrize("before", [[], ["none"]])
    @pytest.mark.parametrize("kind", ["parquet", "csv"])
    def test_text_of_one_file_makes_text_of_later_ones(self, tmp_path, kind, before):
        """Of those that are read in parts or whole, and of 01067 as it stands there."""
        values = {"none": ["", ""], "text": ["A1", "B2"], "numbers": ["01067", "5"], "dates": ["2020-01-01", "2020-01-02"]}
        paths = [tmp_path / f"{place}.{kind}" for place in range(3 + len(before))]
        for path, name in zip(paths, [*before, "text", "numbers", "dates"], strict=True):
            text = "t,y\n" + "".join(f"{value},{number % 2}\n" for number, value in enumerate(30 * values[name]))
            path.write_text(text)
            if kind == "parquet":
                table = read_table(path)
                write(path, {column: table[column] for column in table.schema.names})
        source = from_files(paths, "y").prepared()
        (feature,) = source.preparation.features
        assert feature.categories == ("01067" if kind == "csv" else "1067", "2020-01-01", "2020-01-02", "5", "A1", "B2")
        whole = tables.read_tables(paths)
        assert learn_preparation(whole, "y") == source.preparation
        rows = np.concatenate([piece.x for block in range(source.n_blocks) for piece in source.pieces(block)])
        assert np.array_equal(rows, source.preparation.rows(whole))
        assert rows[:, : len(feature.categories)].sum(axis=0).tolist() == 6 * [30]

    def test_nan_beside_text_is_no_text(self, tmp_path):
        paths = [write(tmp_path / f"{n}.parquet", {"t": t, "y": [0, 1]}) for n, t in enumerate((["u", "v"], [1.5, np.nan]))]
        source = from_files(paths, "y").prepared()
        assert source.preparation.features == (Category("t", ("1.5", "u", "v"), True),)
        assert learn_preparation(tables.read_tables(paths), "y") == source.preparation

    @pytest.mark.parametrize("order", [1, -1])
    def test_whole_numbers_that_are_no_floats_beside_floats(self, tmp_path, order):
        """Such as times in nanoseconds, which a program writes as decimals where some are missing."""
        times = np.array([2**60 + 1, 2**60 + 3], np.uint64)
        some = [{"t": times, "y": [0, 1]}, {"t": [2.0**59, np.nan], "y": [0, 1]}, {"t": np.array([5, -6]), "y": [0, 1]}]
        paths = [write(tmp_path / f"{n}.parquet", one) for n, one in enumerate(some)][::order]
        source, whole = from_files(paths, "y").prepared(), tables.read_tables(paths)
        rows = np.concatenate([piece.x for block in range(source.n_blocks) for piece in source.pieces(block)])
        assert np.array_equal(source.preparation.rows(whole), rows)
        assert str(whole.schema.field("t").type) == "double"

    @pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="all names of files are Unicode")
    def test_parquet_whose_name_is_not_utf8(self, tmp_path):
        path = tmp_path / "t.parquet"
        write(path, {"x": np.arange(4000.0), "y": np.arange(4000.0)}, row_group_size=1000)
        odd = path.rename(os.path.join(tmp_path, os.fsdecode(b"caf\xe9.parquet")))
        source = from_files(odd, "y")
        assert (source.rows, source.n_blocks) == (4000, 4)
        assert sum(piece.x.sum() for block in range(4) for piece in source.pieces(block)) == np.arange(4000.0).sum()
        assert source.prepared().rows == 4000

    @pytest.mark.skipif(sys.platform == "win32", reason="names have no colons there")
    def test_parquet_whose_name_has_a_colon(self, tmp_path, monkeypatch):
        """What comes before it looks like the protocol of a URI, where no folder does."""
        write(tmp_path / "run-12:00.parquet", {"x": np.arange(9.0), "y": np.arange(9.0)})
        monkeypatch.chdir(tmp_path)
        source = from_files("run-12:00.parquet", "y")
        assert (source.rows, source.prepared().rows) == (9, 9)
        (piece,) = source.pieces(0)
        assert piece.where.startswith("run-12:00.parquet, row group 0")
        assert tables.read_tables(finding.find_files("run-12:00.parquet")).num_rows == 9

    def test_columns_that_are_left_out_are_not_decoded(self, tmp_path, monkeypatch):
        parquet = pytest.importorskip("pyarrow.parquet")
        numbers = np.arange(3000.0)
        columns = {"y": numbers % 2, "key": [f"row {n}" for n in range(3000)], "b": numbers, "w": numbers + 1, "a": numbers % 7}
        source = from_files(write(tmp_path / "t.parquet", columns, row_group_size=2000), "y", weight="w")
        learned, asked, read_row_group = source.prepared().preparation, [], parquet.ParquetFile.read_row_group

        def read(file, group, columns, **options):
            asked.append(columns)
            return read_row_group(file, group, columns, **options)

        monkeypatch.setattr(parquet.ParquetFile, "read_row_group", read)
        pieces = [piece for block in range(2) for piece in source.prepared(learned, rows=3000).pieces(block)]
        assert list(learned.dropped) == ["key"]
        assert asked == 2 * [["y", "b", "w", "a"]]
        table = tables.read_tables([tmp_path / "t.parquet"])
        assert np.array_equal(np.concatenate([piece.x for piece in pieces]), learned.rows(table))
        assert np.concatenate([piece.weight for piece in pieces]).tolist() == columns["w"].tolist()

    def test_long_texts_are_decoded_a_few_at_a_time(self, tmp_path, monkeypatch):
        """As many of them as of numbers would be more than the buffer."""
        parquet = pytest.importorskip("pyarrow.parquet")
        rows, decoded, iter_batches = 20_000, [], parquet.ParquetFile.iter_batches

        def read(file, *args, **options):
            for batch in iter_batches(file, *args, **options):
                decoded.append(batch.num_rows)
                yield batch

        columns = {"text": [f"{n:0200}" for n in range(rows)], "x": np.arange(rows) % 7.0, "y": np.arange(rows) % 2}
        source = from_files(write(tmp_path / "t.parquet", columns), "y")
        whole = np.concatenate([piece.x for piece in source.prepared().pieces(0)])
        monkeypatch.setattr(parquet.ParquetFile, "iter_batches", read)
        monkeypatch.setattr(tables, "LONG_BYTES", 1 << 20)
        few = source.prepared()
        assert 4096 < max(decoded) <= (1 << 20) // 200
        assert sum(decoded) == rows
        assert np.array_equal(np.concatenate([piece.x for piece in few.pieces(0)]), whole)

    @pytest.mark.parametrize("kind", ["texts", "columns"])
    def test_large_rows_are_decoded_fewer_at_a_time(self, tmp_path, monkeypatch, kind):
        monkeypatch.setattr(tables, "LONG_BYTES", 1 << 20)
        rows = 3000
        columns = {"x": np.arange(rows) % 7.0, "y": np.arange(rows) % 2}
        if kind == "texts":
            columns["text"] = [f"{n:05000}" for n in range(rows)]
        else:
            columns |= {f"c{n}": np.arange(float(rows)) for n in range(600)}
        source = from_files(write(tmp_path / "t.parquet", columns), "y")
        learned = source.prepared().preparation
        assert max(batch.nbytes for batch in source.batches()) < 2 << 20
        whole = learned.rows(tables.read_tables([tmp_path / "t.parquet"]))
        assert np.array_equal(np.concatenate([piece.x for piece in source.prepared(learned, rows=rows).pieces(0)]), whole)

    def test_long_texts_that_repeat_are_decoded_a_few_at_a_time(self, tmp_path, monkeypatch):
        """As places in a dictionary they take two bytes each in the file."""
        monkeypatch.setattr(tables, "LONG_BYTES", 1 << 20)
        parquet, decoded = pytest.importorskip("pyarrow.parquet"), []
        iter_batches, read_group = parquet.ParquetFile.iter_batches, parquet.ParquetFile.read_row_group

        def some(file, *args, **options):
            for batch in iter_batches(file, *args, **options):
                decoded.append(batch.nbytes)
                yield batch

        def whole(file, *args, **options):
            table = read_group(file, *args, **options)
            decoded.append(table.nbytes)
            return table

        monkeypatch.setattr(parquet.ParquetFile, "iter_batches", some)
        monkeypatch.setattr(parquet.ParquetFile, "read_row_group", whole)
        n = np.arange(20_000)
        texts = [f"{one:01000}" for one in n % 9]
        from_files(write(tmp_path / "t.parquet", {"text": texts, "x": n * 1.0, "y": n % 2}), "y").prepared()
        assert max(decoded) < 2 << 20

    def test_a_large_dictionary_does_not_make_rows_long(self, tmp_path):
        arrow = pytest.importorskip("pyarrow")
        names = arrow.array([f"customer number {n:09d}" for n in range(20_000)]).dictionary_encode()
        columns = {f"c{number}": names for number in range(10)}
        path = write(tmp_path / "t.parquet", columns | {"y": np.arange(20_000) % 2})
        assert max(batch.num_rows for batch in from_files(path, "y").batches()) == tables.PIECE_ROWS

    def test_a_row_group_is_looked_at_once(self, tmp_path, monkeypatch):
        parquet = pytest.importorskip("pyarrow.parquet")
        n = np.arange(1000)
        path = write(tmp_path / "t.parquet", {"text": [f"{one:0100}" for one in n], "y": n % 2}, row_group_size=100)
        source, opened, init = from_files(path, "y"), [], parquet.ParquetFile.__init__

        def counted(file, *args, **options):
            opened.append(file)
            init(file, *args, **options)

        monkeypatch.setattr(parquet.ParquetFile, "__init__", counted)
        assert sum(batch.num_rows for batch in source.batches()) == 1000
        assert len(opened) == 2 * 10
        assert sum(batch.num_rows for batch in source.share(0, 0.5, 0).batches()) < 1000
        assert len(opened) == 3 * 10

    def test_parquet_is_opened_once_before_rows_are_read(self, tmp_path, monkeypatch):
        parquet = pytest.importorskip("pyarrow.parquet")
        paths = [write(tmp_path / f"{number}.parquet", {"x": np.arange(9.0), "y": np.arange(9.0)}) for number in range(3)]
        opened, init = [], parquet.ParquetFile.__init__

        def counted(file, *args, **options):
            opened.append(file)
            init(file, *args, **options)

        monkeypatch.setattr(parquet.ParquetFile, "__init__", counted)
        source = from_files(paths, "y")
        assert source.rows == 27
        assert len(opened) == 3

    @pytest.mark.parametrize("groups", [500, 50])
    def test_parquet_that_has_other_rows_than_before(self, tmp_path, groups):
        columns = {"x": np.arange(1000.0), "y": np.arange(1000.0)}
        source = from_files(write(tmp_path / "t.parquet", columns, row_group_size=100), "y")
        write(tmp_path / "t.parquet", columns, row_group_size=groups)
        with pytest.raises(TableError, match=r"t\.parquet has changed since it was first read: it must stay as it is"):
            [list(source.pieces(block)) for block in range(source.n_blocks)]

    def test_parquet_that_has_gone(self, tmp_path):
        path = write(tmp_path / "t.parquet", {"x": np.arange(9.0), "y": np.arange(9.0)})
        source = from_files(path, "y")
        path.unlink()
        with pytest.raises(TableError, match=r"^There is no file '.*t\.parquet'\."):
            fit(source)
        with pytest.raises(TableError, match=r"^There is no file '.*t\.parquet'\."):
            source.prepared()

    def test_folders_that_are_named_like_files(self, tmp_path):
        """As Spark names those that it writes."""
        (tmp_path / "all" / "t.parquet").mkdir(parents=True)
        path = write(tmp_path / "all" / "t.parquet" / "part-0.parquet", {"x": [1.0], "y": [2.0]})
        assert finding.find_files(tmp_path / "all") == finding.find_files(path.parent) == [path]

    @pytest.mark.parametrize("given", [5, None, b"t.parquet", [5]])
    def test_what_is_no_file(self, given):
        with pytest.raises(TypeError, match=r"^files must be the name of a file or folder, a glob, or a list of them, got "):
            from_files(given, "y")

    @pytest.mark.parametrize("target", [None, 1.0, ["y"], True])
    def test_what_is_no_column(self, tmp_path, target):
        path = write(tmp_path / "t.parquet", {"x": [1.0], "y": [2.0]})
        with pytest.raises(TypeError, match=r"^target must be the name of a column, or its position, got "):
            from_files(path, target)

    def test_categories_that_are_one_text(self, tmp_path):
        path = write(tmp_path / "t.parquet", {"x": [1.0], "y": [2.0]})
        with pytest.raises(TypeError, match=r"^categories must be a list of names, such as \['x'\], got 'x'\.$"):
            from_files(path, "y", categories="x")

    def test_what_was_learned_elsewhere_says_how_columns_are_read(self, tmp_path):
        """01067 is no number where it was none."""
        old, new = tmp_path / "old.csv", tmp_path / "new.csv"
        old.write_text("zip,y\n" + "01067,a\nX1,b\n" * 5)
        new.write_text("zip,y\n" + "01067,a\n" * 5)
        learned = from_files(old, "y").prepared().preparation
        (piece,) = from_files(new, "y").prepared(learned).pieces(0)
        assert piece.x.tolist() == [[1, 0]] * 5

    def test_what_was_learned_of_a_column_that_is_not_there(self, tmp_path):
        old = write(tmp_path / "old.parquet", {"a": [1.0, 2.0], "b": [1.0, 2.0], "y": [0, 1]})
        new = write(tmp_path / "new.parquet", {"a": [1.0, 2.0], "B": [1.0, 2.0], "y": [0, 1]})
        with pytest.raises(TableError, match=r"new\.parquet: There is no column 'b'\. Did you mean 'B'\?"):
            from_files(new, "y").prepared(from_files(old, "y").prepared().preparation)

    def test_text_of_the_first_file_is_text_in_the_others(self, tmp_path):
        """Also where Parquet has it in a dictionary, and where it is the target: 01 is another class than 1."""
        arrow = pytest.importorskip("pyarrow")
        texts = arrow.array(["01", "X1"] * 5).dictionary_encode()
        for target in (texts, texts.cast("string")):
            first = write(tmp_path / "a.parquet", {"zip": texts, "y": target})
            (tmp_path / "b.csv").write_text("zip,y\n" + "01,01\n" * 5)
            source = from_files([first, tmp_path / "b.csv"], "y")
            assert source.classes.tolist() == ["01", "X1"]
            learned = source.prepared().preparation
            assert learned.features == (Category("zip", ("01", "X1"), False),)
            assert learned.target.classes == ("01", "X1")

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


@pytest.mark.parametrize("prepared", [False, True])
def test_the_footer_of_a_file_is_not_read_for_each_row_group(tmp_path, monkeypatch, prepared):
    parquet = pytest.importorskip("pyarrow.parquet")
    numbers = np.arange(400.0)
    write(tmp_path / "t.parquet", {"x": numbers, "y": numbers}, row_group_size=10)
    source = from_files(tmp_path / "t.parquet", "y")
    source = source.prepared() if prepared else source
    read, begin = [], parquet.ParquetFile.__init__

    def counting(self, *args, metadata=None, **options):
        read.append(metadata is None)
        begin(self, *args, metadata=metadata, **options)

    monkeypatch.setattr(parquet.ParquetFile, "__init__", counting)
    assert sum(len(piece.x) for block in range(source.n_blocks) for piece in source.pieces(block)) == 400
    assert len(read) >= 40
    assert not any(read)


def test_the_schema_of_a_wide_file_is_not_made_for_each_column(tmp_path, monkeypatch):
    """Of 6,000 columns in six row groups, that took minutes, and their rows seconds."""
    parquet = pytest.importorskip("pyarrow.parquet")
    write(tmp_path / "t.parquet", {f"x{number}": np.arange(20.0) for number in range(200)}, row_group_size=10)
    made, schema = [], parquet.ParquetFile.schema_arrow

    def counting(self):
        made.append(self)
        return schema.fget(self)

    monkeypatch.setattr(parquet.ParquetFile, "schema_arrow", property(counting))
    assert sum(batch.num_rows for batch in read_batches(tmp_path / "t.parquet")) == 20
    source = from_files(tmp_path / "t.parquet", "x0").prepared()
    assert sum(len(piece.x) for block in range(source.n_blocks) for piece in source.pieces(block)) == 20
    assert len(made) < 50


class Wide(list):
    """Names of columns, of which there are too many to look through them for each."""

    def __contains__(self, name):
        raise AssertionError(f"all names were looked through for {name}")


class WideTable:
    """A table that says how often it was asked for its schema, which is made anew each time."""

    def __init__(self, table):
        self._table, self.asked = table, 0

    def __getattr__(self, name):
        return getattr(self._table, name)

    @property
    def schema(self):
        self.asked += 1
        return SimpleNamespace(names=Wide(self._table.schema.names))


def test_names_of_a_wide_table_are_not_looked_through_for_each_column():
    pyarrow = pytest.importorskip("pyarrow")
    numbers = pyarrow.table({name: np.arange(20.0) for name in "abcdefghy"})
    model, *_ = begin(numbers, None, Plan("y"))
    table = WideTable(numbers)
    assert check_table(model, table, "t") == 20
    np.testing.assert_array_equal(model.preparation.rows(table), model.preparation.rows(numbers))
    assert table.asked == 2
    tables._check_there(Path("t"), Wide("abc"), Wide("abc"))


def test_a_file_that_has_changed_is_looked_at_anew(tmp_path):
    numbers = np.arange(400.0)
    write(tmp_path / "t.parquet", {"x": numbers, "y": numbers}, row_group_size=10)
    source = from_files(tmp_path / "t.parquet", "y")
    write(tmp_path / "t.parquet", {"x": numbers, "y": numbers}, row_group_size=20)
    with pytest.raises(TableError, match="has changed since it was first read"):
        list(source.pieces(0))


@pytest.mark.parametrize("classes", [["c", "a", "b", "d"], ["a", "b", "c", "d"]])
def test_given_classes_are_those_of_prepared_rows(tmp_path, classes):
    (tmp_path / "t.csv").write_text("x,y\n" + "".join(f"{n % 7},{'abc'[n % 3]}\n" for n in range(60)))
    source = from_files(tmp_path / "t.csv", "y", classes=classes).prepared()
    assert source.classes.tolist() == list(source.preparation.target.classes) == classes
    (piece,) = source.pieces(0)
    assert [classes[label] for label in piece.y[:3]] == ["a", "b", "c"]


def test_given_classes_of_numbers_and_truth(tmp_path):
    (tmp_path / "t.csv").write_text("x,number,truth\n1,1,true\n2,0,false\n3,1,true\n")
    for target, given, named in (("number", [1, 0, 2], ["1", "0", "2"]), ("truth", [True, False], ["true", "false"])):
        assert from_files(tmp_path / "t.csv", target, classes=given).prepared().classes.tolist() == named


def test_given_classes_without_one_that_rows_have(tmp_path):
    (tmp_path / "t.csv").write_text("x,y\n1,a\n2,b\n3,c\n")
    with pytest.raises(TableError, match="has the class 'c', which is none of the 2 given"):
        from_files(tmp_path / "t.csv", "y", classes=["a", "b"]).prepared()


@pytest.mark.parametrize("rows", [6000, 120_000])
@pytest.mark.parametrize("target", ["v", "name"])
def test_a_letter_that_is_no_utf8_after_what_is_looked_at(tmp_path, rows, target):
    """In what Arrow reads first, and after it."""
    body = "name,v,y\n" + "".join(f"abcdefgh{n % 7},{n},{n % 2}\n" for n in range(rows))
    (tmp_path / "t.csv").write_bytes((body + "Ren\xe9,1,0\n").encode("latin-1"))
    with pytest.raises(TableError, match="is not in UTF-8 as a whole"):
        from_files(tmp_path / "t.csv", target).prepared()
    with pytest.raises(TableError, match="is not in UTF-8 as a whole"):
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([(np.array([[1, "a"], [2, "b"]], object), [1.0, 2.0])], "block 0: x must be an array of real numbers"),
        ([(np.ones((2, 2)), [1.0, 2.0], [None, 1.0])], "block 0: sample_weight must be an array of real numbers"),
    ],
)
def test_what_is_no_number_is_said_by_a_cache_as_without_it(blocks, message):
    for source in (from_blocks(blocks), cached(from_blocks(blocks))):
        with pytest.raises(TypeError, match=message):
            MLP((2, 2, 1)).fit(source, epochs=1, batch_size=1)


def test_every_text_file_of_a_folder_is_read(tmp_path):
    (tmp_path / "a.txt").write_text("a,y\n1,0\n2,1\n")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"a,y\n3,0\n4,1\n"))
    assert from_files(tmp_path, "y").rows == 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: from_blocks([(np.ones((2, 2)), [1, 2])], rows="2"), "rows must be a whole number of at least 1, or None"),
        (lambda: from_blocks([(np.ones((2, 2)), [1, 2])], rows=2.0), "rows must be a whole number of at least 1, or None"),
        (lambda: from_blocks([(np.ones((2, 2)), [1, 2])], rows=-1), "rows must be a whole number of at least 1, or None"),
        (lambda: from_blocks(lambda: 5), "must return an iterator of them, got int"),
        (lambda: from_blocks([([[1, 2], [3]], [1, 2])]), "block 0: "),
        (lambda: from_blocks([(pytest.importorskip("pandas").DataFrame({"a": list("xy")}), [1, 2])]), "^block 0: x: column 'a'"),
    ],
)
def test_sentences_about_blocks(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        MLP((2, 2, 1)).fit(make(), epochs=1, batch_size=1)


def test_names_that_are_numbers_only_to_python(tmp_path):
    (tmp_path / "t.csv").write_text("store,2020_01,2020_02\na,2,3\nb,4,5\n")
    assert form_of(tmp_path / "t.csv").names is None
    padding = "".join(f",{'x' * 60},{n % 2}\n" for n in range(20_000))
    (tmp_path / "t.csv").write_text(f"a,t,y\n{padding}1_000,z,1\n")
    assert read_table(tmp_path / "t.csv").column("a")[-1].as_py() == "1_000"


def test_the_numbers_of_rows_that_pandas_and_r_write_are_no_feature(tmp_path):
    """Where rows are sorted by class, they would tell it."""
    (tmp_path / "t.csv").write_text(",x,y\n" + "".join(f"{n},{n * 7919 % 13},{'ab'[n >= 200]}\n" for n in range(400)))
    preparation = from_files(tmp_path / "t.csv", "y").prepared().preparation
    assert [feature.name for feature in preparation.features] == ["x"]
    assert preparation.dropped == {"": "it has no name, as the numbers of rows that programs write"}
