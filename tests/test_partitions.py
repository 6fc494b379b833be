"""Parquet files in folders named year=2020: columns that are nowhere else, as pandas and pyarrow read them."""

from __future__ import annotations

import numpy as np
import pytest

from fastmlp import MLP
from fastmlp.data import TableError, from_files
from fastmlp.data.finding import find_files
from fastmlp.data.learning import learn_preparation
from fastmlp.data.model import TableModel
from fastmlp.data.preparation import Category
from fastmlp.data.tables import read_tables

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

ROWS = 600


@pytest.fixture
def table(rng):
    years = rng.integers(2018, 2021, ROWS)
    return arrow.table(
        {
            "a": (rng.normal(size=ROWS) + years - 2019).astype(np.float32),
            "y": (years > 2018).astype(np.int64),
            "year": years,
            "region": rng.choice(["eu west", "a/b", "x=1"], ROWS),
        }
    )


@pytest.fixture
def folder(table, tmp_path):
    parquet.write_to_dataset(table, tmp_path / "data", partition_cols=["year", "region"])
    return tmp_path / "data"


def rows_of(table):
    return sorted(zip(*(table.column(name).to_pylist() for name in ("a", "y", "year", "region")), strict=True))


def test_names_of_folders_are_columns(folder, table):
    read = read_tables(find_files(folder))
    assert read.schema.names == ["a", "y", "year", "region"]
    assert rows_of(read) == rows_of(table)
    source = from_files(folder, target="y")
    assert rows_of(arrow.Table.from_batches(list(source.batches()))) == rows_of(table)
    assert source.feature_names == ["a", "year", "region"]
    assert source.prepared().preparation.types == {"a": "number", "year": "number", "region": "category"}


def test_they_are_trained_on(folder):
    """With nothing else, the year decides."""
    source = from_files(folder, target="y").prepared()
    net = MLP((source.n_features, 8, 2), ("relu", "softmax"), "cross_entropy", random_state=0)
    net.fit(source, epochs=30, batch_size=16, optimizer="adam", learning_rate=0.01)
    assert net.loss_curve_[-1] < 0.02


@pytest.mark.parametrize(("target", "classes"), [("year", ["2018", "2019", "2020"]), ("region", ["a/b", "eu west", "x=1"])])
def test_one_may_be_the_target(folder, target, classes):
    source = from_files(folder, target=target).prepared(task="classification")
    assert source.classes.tolist() == classes
    assert source.rows == ROWS
    assert sum(batch.num_rows for batch in source.batches([target])) == ROWS  # nothing in the files is asked for


def test_numbers_are_taken_as_they_are(table, tmp_path):
    """Row groups as a whole or in parts; small whole numbers do not ask for float64."""
    parquet.write_to_dataset(table.drop_columns(["region"]), tmp_path / "data", partition_cols=["year"], row_group_size=50)
    source = from_files(tmp_path / "data", target="y")
    assert source.dtype == np.float32
    for buffer_bytes in (1 << 28, 1):
        source.use_buffer(buffer_bytes)
        blocks = range(source.n_blocks)
        found = np.concatenate([np.column_stack([piece.x, piece.y]) for block in blocks for piece in source.pieces(block)])
        expected = np.column_stack([table.column(name).to_numpy() for name in ("a", "year", "y")])
        assert sorted(found.tolist()) == sorted(expected.tolist())


def test_what_is_missing_and_what_is_only_a_name(table, tmp_path):
    codes = arrow.array(np.random.default_rng(0).choice(["01", "1", None], ROWS).tolist())
    parquet.write_to_dataset(table.select(["a", "y"]).append_column("code", codes), tmp_path / "data", partition_cols=["code"])
    read = read_tables(find_files(tmp_path / "data"), categories=["code"])
    assert sorted(map(str, read.column("code").to_pylist())) == sorted(map(str, codes.to_pylist()))
    numbers = read_tables(find_files(tmp_path / "data")).column("code")
    assert numbers.null_count == codes.null_count
    assert set(numbers.to_pylist()) == {1, None}


def test_a_file_s_own_column_comes_first(table, tmp_path):
    path = tmp_path / "year=1" / "t.parquet"
    path.parent.mkdir()
    parquet.write_table(table, path)
    assert rows_of(read_tables([path])) == rows_of(table)


def numbers_in(folder, table):
    path = folder / "t.parquet"
    path.parent.mkdir(parents=True)
    parquet.write_table(table.select(["a", "y"]), path)
    return path


@pytest.mark.parametrize("folder", ["seed=3", "split=train", "split=train/seed=3"])
def test_what_all_files_share_is_no_feature(table, tmp_path, folder):
    source = from_files(numbers_in(tmp_path / folder, table), target=-1)
    assert (source.target, source.feature_names, source.dtype) == ("y", ["a"], np.float32)
    assert next(source.pieces(0)).x.shape == (ROWS, 1)


def test_what_all_files_share_may_be_asked_for(table, tmp_path):
    path = numbers_in(tmp_path / "split=train", table)
    assert from_files(path, target="y", categories=["split"]).feature_names == ["a", "split"]
    with pytest.raises(TableError, match="The target 'split' has one class only, 'train'"):
        from_files(path, target="split").prepared()


def test_folders_further_up_are_no_columns(table, tmp_path):
    path = numbers_in(tmp_path / "seed=3" / "data", table)
    assert read_tables([path]).schema.names == ["a", "y"]


def test_one_text_makes_all_of_them_text(table, tmp_path):
    """Read in parts or whole."""
    for number, name in enumerate(("k=1", "k=2", "k=A")):
        numbers_in(tmp_path / name, table.slice(200 * number, 200))
    source = from_files(tmp_path, target="y").prepared()
    assert source.preparation.types == {"a": "number", "k": "category"}
    rows = np.concatenate([piece.x for block in range(3) for piece in source.pieces(block)])
    whole = read_tables(find_files(tmp_path))
    assert learn_preparation(whole, "y").features[1] == source.preparation.features[1]
    assert np.array_equal(source.preparation.rows(whole), rows)


def test_one_text_in_commands(command, table, tmp_path):
    for number, name in enumerate(("k=1", "k=2", "k=A")):
        numbers_in(tmp_path / "data" / name, table.slice(200 * number, 200))
    for how in ("--stream", "--no-stream"):
        out = tmp_path / f"m{how}.safetensors"
        code, _, errors = command("train", tmp_path / "data", "--target", "y", "--epochs", 1, "--out", out, how, "--quiet")
        assert (code, errors) == (0, "")
        assert TableModel.load(out).preparation.features[1] == Category("k", ("1", "2", "A"), False)
        assert command("predict", out, tmp_path / "data", "--out", tmp_path / f"{how}.csv", "--quiet")[0] == 0


def test_what_was_learned_of_several_folders_is_for_one_of_them(table, tmp_path):
    """As where a year is held out: it is the same in all of its files, but a feature."""
    for year in (2018, 2019, 2020):
        numbers_in(tmp_path / f"year={year}", table.slice(200 * (year - 2018), 200))
    learned = from_files([tmp_path / "year=2018", tmp_path / "year=2019"], target="y").prepared().preparation
    held_out = from_files(tmp_path / "year=2020", target="y").prepared(learned)
    (piece,) = held_out.pieces(0)
    assert np.array_equal(piece.x, learned.rows(read_tables([tmp_path / "year=2020" / "t.parquet"], types=learned.types)))
    assert set(piece.x[:, 1]) == {3.0}  # standard deviations of 2018 and 2019 from their mean
    assert sum(len(y) for y in held_out.share(0, 0.5, 0).prepared(learned)._raw_targets()) < 200


def test_other_files_have_no_such_columns(tmp_path):
    path = tmp_path / "rate=1" / "t.csv"
    path.parent.mkdir()
    path.write_text("a,y\n1,2\n3,4\n")
    assert read_tables([path]).schema.names == ["a", "y"]


def test_files_with_and_without_them(folder, table):
    parquet.write_table(table.select(["a", "y"]), folder / "more.parquet")
    with pytest.raises(TableError, match="There is no column 'year'"):
        from_files(folder, target="year")


def test_commands_take_such_folders(command, folder, tmp_path):
    code, _, errors = command("train", folder, "--target", "y", "--epochs", 2, "--out", tmp_path / "m.safetensors", "--quiet")
    assert (code, errors) == (0, "")
    code, _, errors = command("predict", tmp_path / "m.safetensors", folder, "--out", tmp_path / "p.csv", "--quiet")
    assert (code, errors) == (0, "")
    assert len((tmp_path / "p.csv").read_text().splitlines()) == ROWS + 1


@pytest.mark.parametrize("how", ["--stream", "--no-stream"])
def test_a_model_of_files_in_one_folder_is_for_files_elsewhere(command, table, tmp_path, how):
    numbers_in(tmp_path / "split=train", table)
    other = numbers_in(tmp_path / "elsewhere", table)
    code, _, errors = command(
        "train", tmp_path / "split=train", "--target", "y", "--epochs", 1, "--out", tmp_path / "m", how, "--quiet"
    )
    assert (code, errors) == (0, "")
    assert command("predict", tmp_path / "m", other, "--out", tmp_path / "p.csv", "--quiet")[0] == 0
    code, _, errors = command(
        "train", other.parent, "--target", "y", "--validate", tmp_path / "split=train", "--epochs", 1, "--quiet"
    )
    assert (code, errors) == (0, "")
