"""Tables that are learned in one pass: the preparation, its shares, and the command line on files that are not read whole."""

from __future__ import annotations

import gc
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmlp import MLP
from fastmlp.data import TableError, from_files

pyarrow = pytest.importorskip("pyarrow")
pytest.importorskip("typer")

from typer.testing import CliRunner  # noqa: E402

from fastmlp.cli import app  # noqa: E402
from fastmlp.data import model as models  # noqa: E402
from fastmlp.data.cache import CachedSource  # noqa: E402
from fastmlp.data.files import Csv  # noqa: E402
from fastmlp.data.finding import name_for  # noqa: E402
from fastmlp.data.learning import learn_from_batches, learn_preparation  # noqa: E402
from fastmlp.data.model import TableModel  # noqa: E402
from fastmlp.data.preparation import Category, Number, Ordinal, Preparation  # noqa: E402
from fastmlp.data.tables import read_tables  # noqa: E402

ROWS = 4000


@pytest.fixture
def table(rng):
    age = rng.integers(20, 70, ROWS).astype(np.float64)
    job = rng.choice(["nurse", "baker", "smith"], ROWS)
    far = 1e9 + rng.normal(size=ROWS)
    income = np.where((age > 40) ^ (job == "nurse"), "high", "low")
    age[::7] = np.nan
    return pyarrow.table({"age": pyarrow.array(age, from_pandas=True), "job": job, "far": far, "income": income})


@pytest.fixture
def folder(table, tmp_path):
    """Two Parquet files of several row groups and a CSV file."""
    from pyarrow import csv, parquet

    (tmp_path / "people").mkdir()
    parquet.write_table(table.slice(0, 1500), tmp_path / "people" / "a.parquet", row_group_size=400)
    csv.write_csv(table.slice(1500, 1000), tmp_path / "people" / "b.csv")
    parquet.write_table(table.slice(2500), tmp_path / "people" / "c.parquet", row_group_size=300)
    return tmp_path / "people"


ZIPS = ("01067", "10115", "20095")


@pytest.fixture
def letters(tmp_path):
    """A CSV file whose form a guess misses for the commas in its header; with numbers that are only names."""
    path = tmp_path / "letters.csv"
    lines = [f"{ZIPS[n % 3]};{n},5;{(n > 150) ^ (n % 3 == 0):d}\n" for n in range(300)]
    path.write_text("zip;grams, at most, or so;branch\n" + "".join(lines))
    return path


class TestPreparation:
    @pytest.mark.parametrize("rows", [1, 7, 1000])
    def test_one_pass_over_batches_is_as_good_as_a_look_at_the_whole(self, table, rows):
        whole, counted = learn_from_batches([table], "income")
        merged, merged_rows = learn_from_batches(table.to_batches(max_chunksize=rows), "income")
        assert counted == merged_rows == ROWS
        assert [type(feature) for feature in merged.features] == [Number, Category, Number]
        for one, other in zip(whole.features, merged.features, strict=True):
            assert (one.name, one.flag, one.width) == (other.name, other.flag, other.width)
            if isinstance(one, Number):
                assert other.mean == pytest.approx(one.mean, rel=1e-12)
                assert other.scale == pytest.approx(one.scale, rel=1e-6)
        assert merged.features[1].categories == whole.features[1].categories
        assert merged.target == whole.target

    def test_a_large_mean_hides_no_small_variance(self, table):
        merged, _ = learn_from_batches(table.to_batches(max_chunksize=10), "income")
        far = np.asarray(table["far"])
        assert merged.features[2].scale == pytest.approx(far.std(), rel=1e-6)

    @given(st.lists(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5), min_size=2, max_size=6))
    def test_moments_of_any_batches(self, batches):
        every = np.concatenate(batches)
        made = [pyarrow.record_batch({"x": batch, "y": np.arange(len(batch)) + number / 2}) for number, batch in enumerate(batches)]
        (number,) = learn_from_batches(made, "y")[0].features
        assert number.mean == pytest.approx(every.mean(), rel=1e-9, abs=1e-6)
        if every.std() > 1e-3:
            assert number.scale == pytest.approx(every.std(), rel=1e-6)

    def test_batches_that_are_too_far_apart(self):
        batches = [pyarrow.record_batch({"x": [far, far], "z": [1.0, 2.0], "y": [0, 1]}) for far in (1e200, -1e200)]
        preparation, _ = learn_from_batches(batches, "y")
        assert preparation.dropped == {"x": "its numbers are too far apart"}

    def test_what_is_in_no_batch_or_only_in_later_ones(self):
        nothing = pyarrow.array([None, None], pyarrow.float64())
        first = pyarrow.record_batch({"x": nothing, "z": nothing, "y": pyarrow.array([0, None])})
        later = pyarrow.record_batch({"x": pyarrow.array([1.0, 3.0]), "z": nothing, "y": pyarrow.array([5, 1])})
        preparation, rows = learn_from_batches([first, later], "y")
        assert preparation.features == (Number("x", 2.0, 1.0, True),)
        assert preparation.dropped == {"z": "it has no values"}
        assert preparation.target.classes == ("0", "1", "5")
        assert rows == 3
        with pytest.raises(TableError, match="no rows to learn from"):
            learn_from_batches([], "y")

    def test_whole_numbers_become_regression_when_there_are_many(self):
        batches = [pyarrow.record_batch({"x": np.arange(5.0), "y": np.arange(5) + at}) for at in range(0, 50, 5)]
        target = learn_from_batches(batches, "y")[0].target
        assert target.classes is None
        assert (target.mean, target.scale) == (pytest.approx(24.5), pytest.approx(np.arange(50).std()))

    def test_ordinal_categories(self, table):
        preparation, _ = learn_from_batches([table], "income", categories="ordinal", scale=False)
        assert preparation.width == 4  # age and its flag, job, far
        assert preparation.features[1] == Ordinal("job", ("baker", "nurse", "smith"), False)
        assert Preparation.from_dict(json.loads(json.dumps(preparation.as_dict()))) == preparation
        new = pyarrow.table({"age": [30.0, None], "job": ["smith", "pilot"], "far": [1.0, 2.0]})
        assert preparation.rows(new)[:, [1, 2]].tolist() == [[0.0, 1.0], [1.0, 0.5]]
        assert preparation.rows(new)[0, 0] == 30


class TestSource:
    def test_prepared_rows_are_those_of_the_table(self, table, folder):
        source = from_files(folder, target="income").prepared()
        expected, _ = learn_from_batches([table], "income")
        assert source.rows == ROWS
        assert source.classes.tolist() == ["high", "low"]
        pieces = [piece for block in range(source.n_blocks) for piece in source.pieces(block)]
        assert np.allclose(np.concatenate([piece.x for piece in pieces]), expected.rows(table), atol=1e-4)
        labels = np.concatenate([piece.y for piece in pieces])
        assert np.array_equal(labels, np.asarray(table["income"]) == "low")

    def test_a_network_learns_from_it_and_is_kept_with_its_preparation(self, table, folder, tmp_path):
        source = from_files(folder, target="income").prepared()
        net = MLP((source.n_features, 16, 2), ["relu", "softmax"], "cross_entropy", random_state=0)
        net.fit(source, epochs=30, batch_size=32, optimizer="adam", learning_rate=0.01, buffer_bytes=20_000)
        assert net.reading_.rows == 30 * ROWS
        TableModel(net, source.preparation).save(tmp_path / "m.safetensors")
        predicted = TableModel.load(tmp_path / "m.safetensors").predictions(table)
        there = np.asarray(table["age"].is_valid())
        assert (predicted == np.asarray(table["income"]))[there].mean() > 0.97

    def test_rows_without_a_target_are_left_out(self, tmp_path):
        path = tmp_path / "t.csv"
        path.write_text("a,y\n" + "".join(f"{n},{'?' if n % 3 == 0 else n % 2}\n" for n in range(30)))
        source = from_files(path, target="y").prepared()
        assert source.rows == 20 == sum(len(piece.y) for piece in source.pieces(0))
        with pytest.raises(TableError, match="row 0 has no target"):
            list(from_files(path, target="y").pieces(0))

    def test_rows_of_csv_as_a_person_says_it_is_written(self, letters):
        form = Csv(separator=";", decimal=",")
        source = from_files(letters, target="branch", csv=form, categories=["zip"]).prepared()
        whole = read_tables([letters], form, ["zip"])
        expected = learn_preparation(whole, "branch")
        assert [type(feature) for feature in expected.features] == [Category, Number]
        assert expected.features[0].categories == ZIPS
        assert source.preparation == expected
        (piece,) = source.pieces(0)
        assert np.array_equal(piece.x, expected.rows(whole))
        assert np.array_equal(piece.y, expected.target.values(whole["branch"])[0])

    def test_weights_are_no_feature(self, tmp_path):
        path = tmp_path / "t.csv"
        path.write_text("a,w,y\n" + "".join(f"{n},{n + 1},{n % 2}\n" for n in range(30)))
        source = from_files(path, target="y", weight="w").prepared()
        (piece,) = source.pieces(0)
        assert source.n_features == 1
        assert piece.weight.tolist() == list(range(1, 31))

    def test_text_without_a_preparation_is_an_error_that_says_what_to_do(self, folder):
        with pytest.raises(TableError, match=r"column 'job' must hold numbers, got .*prepared\(\)"):
            MLP((3, 2), "softmax", "cross_entropy").fit(from_files(folder, target="income"), epochs=1, batch_size=1)

    def test_shares_are_disjoint_whole_and_the_same_each_time(self, folder):
        source = from_files(folder, target="income")
        bounds = [(0.0, 0.2), (0.2, 0.5), (0.5, 1.0)]
        shares = [source.share(low, high, 7) for low, high in bounds]
        rows = [[round(value, 4) for batch in share.batches() for value in batch["far"].to_pylist()] for share in shares]
        for (low, high), share, part in zip(bounds, shares, rows, strict=True):
            assert share.rows == len(part)
            assert len(part) / ROWS == pytest.approx(high - low, abs=0.03)
        assert sum(map(len, rows)) == ROWS
        together = [[len(batch) for batch in batches] for batches in source.split_batches(shares)]
        assert [sum(lengths) for lengths in zip(*together, strict=True)] == [len(part) for part in rows]
        other = source.share(0.0, 0.2, 8)
        assert [round(value, 4) for batch in other.batches() for value in batch["far"].to_pylist()] != rows[0]

    def test_a_share_of_a_share_has_rows_of_it_only(self, tmp_path):
        """Rows that were held out must not come back where the others are divided once more."""
        from pyarrow import csv, parquet

        every = pyarrow.table({"row": np.arange(2000.0), "y": np.arange(2000) % 2})
        parquet.write_table(every.slice(0, 1200), tmp_path / "a.parquet", row_group_size=500)
        csv.write_csv(every.slice(1200), tmp_path / "b.csv")
        source = from_files(tmp_path, target="y")
        rest = source.share(0.2, 1.0, seed=0)
        parts = [rest.share(0.0, 0.3, seed=1), rest.share(0.3, 1.0, seed=1)]

        def numbers(batches):
            return [number for batch in batches for number in batch["row"].to_pylist()]

        rows = [numbers(part.batches()) for part in parts]
        assert sorted(rows[0] + rows[1]) == numbers(rest.batches())
        assert [part.rows for part in parts] == [len(part) for part in rows]
        assert len(rows[0]) / rest.rows == pytest.approx(0.3, abs=0.03)
        assert [numbers(batches) for batches in zip(*rest.split_batches(parts), strict=True)] == rows
        for part, expected in zip(parts, rows, strict=True):
            found = [piece.x[:, 0].tolist() for block in range(part.n_blocks) for piece in part.pieces(block)]
            assert [number for numbers in found for number in numbers] == expected

    @pytest.mark.parametrize("together", [1, 3, 256])
    def test_rows_that_are_held_out_are_kept_in_few_batches(self, table, folder, monkeypatch, together):
        monkeypatch.setattr(models, "_SMALL_BATCHES", together)
        source, shares = from_files(folder, target="income"), [(0.0, 0.2), (0.2, 0.35)]
        _, _, held_out, tested, _ = models.begin_streamed(source, 0.2, models.Plan("income"))
        test, validation = (list(source.share(*share, 0).batches()) for share in shares)
        assert tested.column("far").to_pylist() == [value for batch in test for value in batch["far"].to_pylist()]
        assert len(held_out.x) == sum(batch.num_rows for batch in validation)
        assert tested.column("far").num_chunks == {1: 10, 3: 4, 256: 10}[together]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("people.csv", "people"),
        ("sub/PEOPLE.CSV.GZ", "PEOPLE"),
        ("sub/people.v2.parquet", "people.v2"),
        ("sub/odd[1].csv", "odd[1]"),
        ("sub/.csv", "model"),
        ("sub", "sub"),
        ("sub/", "sub"),
        (".", "here"),
        ("sub/..", "here"),
        ("*.csv", "here"),
        ("**/*.csv", "here"),
        ("sub/*.csv", "sub"),
        ("sub/**/*.csv", "sub"),
        ("./sub/../*.csv", "here"),
        ("sub/people*.csv*", "people"),
        ("sub/sales-2024-*.csv", "sales-2024"),
        ("sub/sales_[0-9].csv", "sales"),
        ("sub/x.*", "x"),
        ("*/train.csv", "train"),
        ("/*.csv", "model"),
    ],
)
def test_a_name_for_what_is_learned_of_files(tmp_path, monkeypatch, given, name):
    (tmp_path / "here" / "sub").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    for file in ("people.csv", "sub/PEOPLE.CSV.GZ", "sub/people.v2.parquet", "sub/odd[1].csv", "sub/.csv"):
        (tmp_path / "here" / file).touch()
    assert name_for(Path(given)) == name


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


class TestCommandLine:
    @pytest.mark.parametrize("how", ["--stream", "--no-stream"])
    @pytest.mark.parametrize("files", ["folder", "glob"])
    def test_trains_on_folders_and_globs(self, folder, tmp_path, how, files):
        given = folder if files == "folder" else folder / "*.*"
        out = tmp_path / "m.safetensors"
        buffer = ["--set", "buffer_bytes=20000"] if how == "--stream" else []
        done = run(
            "train", given, "--target", "income", how, *buffer, "--set", "learning_rate=0.01", "--batch-size", 32,
            "--epochs", 15, "--out", out,
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        assert ("in parts, while training" in done.output) == ("set the pace" in done.output) == (how == "--stream")
        assert "3 files" in done.output
        found = run("evaluate", out, folder / "a.parquet", "--json")
        assert json.loads(found.output)["accuracy"] > 0.88

    @pytest.mark.parametrize("how", ["--stream", "--no-stream"])
    def test_a_large_share_for_the_report(self, folder, command, how):
        options = ["--target", "income", "--test", 0.9, "--epochs", 1, "--json", "--out", "m.safetensors"]
        code, out, errors = command("train", folder, *options, how)
        assert (code, errors) == (0, "")
        assert json.loads(out)["test"]["rows"] == pytest.approx(0.9 * ROWS, rel=0.02)

    @pytest.mark.parametrize("given", ["people", "people/*.*"])
    def test_a_model_is_named_after_the_folder(self, folder, command, given):
        assert command("train", given, "--target", "income", "--epochs", 1, "--quiet")[::2] == (0, "")
        assert {path.name for path in folder.parent.iterdir()} == {"people", "people.safetensors"}

    def test_regression(self, folder, tmp_path):
        done = run("train", folder, "--target", "far", "--stream", "--set", "buffer_bytes=20000", "--epochs", 2, "--json",
                   "--out", tmp_path / "m.safetensors")  # fmt: skip
        assert done.exit_code == 0, done.output
        assert json.loads(done.output)["task"] == "regression"

    def test_the_size_decides(self, folder, tmp_path, monkeypatch):
        monkeypatch.setattr(models, "LARGE_SHARE", 0.0)
        done = run("train", folder, "--target", "income", "--epochs", 1, "--out", tmp_path / "m.safetensors")
        assert "in parts, while training" in done.output

    @pytest.mark.parametrize("how", ["--stream", "--no-stream"])
    def test_csv_as_a_person_says_it_is_written(self, letters, how, command):
        form = ["--separator", ";", "--decimal", ","]
        buffer = ["--set", "buffer_bytes=4000"] if how == "--stream" else []
        options = ["--target", "branch", *form, "--categories", "zip", "--epochs", 2, *buffer]
        code, out, errors = command("train", letters, *options, how, "--out", "m.safetensors")
        assert (code, errors) == (0, "")
        assert ("in parts, while training" in out) == (how == "--stream")
        assert "CSV, columns separated by ';', header, decimal commas" in out
        assert "1 of numbers, 1 of categories, 0 with missing values; 4 inputs" in out
        assert TableModel.load("m.safetensors").preparation.features[0].categories == ZIPS
        assert command("evaluate", "m.safetensors", letters, *form, "--quiet")[0] == 0

    def test_an_interrupted_training_goes_on(self, folder, tmp_path):
        options = ["train", folder, "--target", "income", "--stream", "--set", "buffer_bytes=20000", "--batch-size", 32]
        once = run(*options, "--epochs", 3, "--out", tmp_path / "once.safetensors", "--resume", tmp_path / "c.safetensors")
        again = run(*options, "--epochs", 5, "--out", tmp_path / "again.safetensors", "--resume", tmp_path / "c.safetensors")
        assert (once.exit_code, again.exit_code) == (0, 0)
        assert "Trained for 5 epochs" in again.output
        rows, read = (int(re.search(rf"([\d,]+) {words}", again.output)[1].replace(",", "")) for words in ("to train", "rows read"))
        assert read == 2 * rows

    def test_rows_are_kept_for_later_epochs(self, folder, command, monkeypatch):
        found = []
        from_file = CachedSource._from_file
        monkeypatch.setattr(CachedSource, "_from_file", lambda self, block: [found.append(block), from_file(self, block)][1])
        Path("kept").mkdir()
        options = ["--target", "income", "--stream", "--set", "buffer_bytes=20000", "--batch-size", 32, "--epochs", 3]
        assert command("train", folder, *options, "--out", "plain.safetensors")[0] == 0
        code, out, errors = command("train", folder, *options, "--cache", "kept", "--out", "cached.safetensors")
        assert (code, errors) == (0, "")
        assert "copy in kept" in " ".join(out.replace("--stream, --no-stream, --cache", "").split())
        plain, cached = (TableModel.load(f"{name}.safetensors").network.theta for name in ("plain", "cached"))
        np.testing.assert_array_equal(cached, plain)
        assert len(found) >= 2 * len(set(found)) > 0
        gc.collect()
        assert not list(Path("kept").iterdir())

    def test_what_is_said_of_numbers_that_are_not_scaled(self, folder, command):
        preparation = from_files(folder, target="income").prepared(scale=False).preparation
        net = MLP((preparation.width, 2), "softmax", "cross_entropy", random_state=0)
        TableModel(net, preparation).save("m.safetensors")
        code, out, _ = command("info", "m.safetensors")
        assert code == 0
        assert re.search(r"age +number, \(value - 0\) / 1, 4\d\.\d+ where it is missing, and whether", out)

    def test_errors(self, folder, tmp_path):
        for arguments, message in [
            (["train", folder, "--target", "income", "--cache", tmp_path / "none"], "--cache must be a folder that is there"),
            (["train", folder, "--target", "income", "--no-stream", "--cache", tmp_path], "leave it out, or add --stream"),
            (["train", tmp_path / "none*.csv", "--target", "income"], "no file whose name matches"),
            (["train", folder, "--target", "incme", "--stream"], "Did you mean 'income'"),
            (["train", folder, "--target", "income", "--set", "buffer_bytes=0"], "buffer_bytes must be at least 1"),
        ]:
            done = run(*arguments, "--out", tmp_path / "m.safetensors")
            assert done.exit_code in (1, 2)
            assert message in done.output
            assert "Traceback" not in done.output


def test_truth_values_in_one_file_and_text_in_another(tmp_path):
    for name, values in ("a", ("True", "False")), ("b", ("unknown", "unknown")):
        lines = [f"{values[n % 2]},{n},{'yes' if n % 3 else 'no'}" for n in range(60)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["member,n,y", *lines]))
    both = [tmp_path / "a.csv", tmp_path / "b.csv"]
    with pytest.raises(TableError, match="'member' is of truth values in some files and of text in others"):
        from_files(both, target="y").prepared()
    source = from_files(both, target="y", categories=["member"]).prepared()
    assert source.preparation.features[0].categories == ("False", "True", "unknown")
    assert all((piece.x[:, :3].sum(axis=1) == 1).all() for block in range(source.n_blocks) for piece in source.pieces(block))


@pytest.mark.parametrize(("said", "is_limit"), [("1000000\n", True), ("max\n", False), ("9223372036854771712\n", False)])
def test_the_memory_of_a_container(tmp_path, monkeypatch, said, is_limit):
    before = models.memory_bytes()
    (tmp_path / "memory.max").write_text(said)
    monkeypatch.setattr(models, "_CGROUP_LIMITS", (tmp_path / "none", tmp_path / "memory.max"))
    assert (models.memory_bytes() == 1_000_000) == is_limit
    assert is_limit or models.memory_bytes() >= before
    (tmp_path / "t.csv").write_bytes(b"x" * 200_000)
    assert models.is_large([tmp_path / "t.csv"]) == is_limit


def test_the_report_is_made_part_by_part(tmp_path, monkeypatch):
    lines = "".join(f"{number},{number % 2}\n" for number in range(40_000))
    (tmp_path / "t.csv").write_text("x,y\n" + lines)
    seen, outputs = [], TableModel.outputs
    monkeypatch.setattr(TableModel, "outputs", lambda model, rows: seen.append(rows.num_rows) or outputs(model, rows))
    options = ["--target", "y", "--epochs", "1", "--test", "0.5", "--no-stream", "--out", str(tmp_path / "m.safetensors")]
    assert CliRunner().invoke(app, ["train", str(tmp_path / "t.csv"), *options]).exit_code == 0
    assert sum(seen) == 20_000
    assert max(seen) <= 8192


def test_rows_that_are_held_out_fit_into_memory(folder, monkeypatch):
    source = from_files(folder, target="income")
    _, _, held_out, tested, _ = models.begin_streamed(source, 0.2, models.Plan("income"))
    assert len(held_out.x) + tested.num_rows > 0.3 * ROWS
    monkeypatch.setattr(models, "memory_bytes", lambda: 16 * source.row_bytes * 300)
    _, _, held_out, tested, _ = models.begin_streamed(source, 0.2, models.Plan("income"))
    assert 150 < len(held_out.x) + tested.num_rows < 450


def test_long_texts_that_are_held_out_fit_into_memory(tmp_path, monkeypatch):
    (tmp_path / "t.csv").write_text("text,n,y\n" + "".join(f"{'x' * 10_000},{n},{n % 2}\n" for n in range(2000)))
    monkeypatch.setattr(models, "memory_bytes", lambda: 16 * 10_000 * 200)
    _, _, held_out, tested, _ = models.begin_streamed(from_files(tmp_path / "t.csv", target="y"), 0.2, models.Plan("y"))
    assert 100 < len(held_out.x) + tested.num_rows < 300
