"""Tables become numbers by what the training rows have taught, and models with tables survive files that are damaged."""

from __future__ import annotations

import gzip
import json
import math
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastmlp import MLP
from fastmlp.callbacks import Run
from fastmlp.data import learning
from fastmlp.data.evaluation import evaluate
from fastmlp.data.files import TableError, names_of, read_batches, read_idx, read_table
from fastmlp.data.joining import joined
from fastmlp.data.learning import learn_from_batches, learn_preparation
from fastmlp.data.model import Plan, TableModel, Watch, begin, guess_batch_size, learn, split_table
from fastmlp.data.preparation import Category, Number, Ordinal, Preparation
from fastmlp.data.values import texts
from fastmlp.io import load, save

arrow = pytest.importorskip("pyarrow")


def table(**columns):
    return arrow.table({name: arrow.array(values) for name, values in columns.items()})


class TestPreparation:
    def test_many_long_texts_are_not_kept(self, monkeypatch):
        monkeypatch.setattr(learning, "MOST_TEXT_CHARACTERS", 10_000)
        batches = [
            table(text=[f"{n:0500}" for n in range(first, first + 50)], x=list(range(50)), y=[0, 1] * 25)
            for first in range(0, 500, 50)
        ]
        learned, _ = learn_from_batches(batches, "y")
        assert learned.dropped == {"text": "its different texts have more than 10,000 characters"}
        assert [feature.name for feature in learned.features] == ["x"]
        with pytest.raises(TableError, match=r"target 'text': .* 10,000 characters, too many for classes; is it the right column"):
            learn_from_batches(batches, "text")

    def test_numbers(self):
        given_ = table(x=[1.0, 3.0, None, 5.0], y=[0.5, 1.5, 2.5, 3.5])
        learned = learn_preparation(given_, "y")
        (feature,) = learned.features
        assert feature == Number("x", 3.0, pytest.approx(np.std([1, 3, 5])), True)
        rows = learned.rows(given_)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(rows[:, 0], (np.array([1, 3, 3, 5]) - 3) / feature.scale, rtol=1e-6)
        np.testing.assert_array_equal(rows[:, 1], [0, 0, 1, 0])
        values, there = learned.target.values(given_.column("y"))
        np.testing.assert_allclose(values[:, 0] * learned.target.scale + learned.target.mean, [0.5, 1.5, 2.5, 3.5])
        assert there.all()

    def test_a_column_that_never_changes(self):
        learned = learn_preparation(table(x=[2, 2, 2], y=[0.1, 0.2, 0.3]), "y")
        np.testing.assert_array_equal(learned.rows(table(x=[2, 3, 1])), [[0], [1], [-1]])

    @pytest.mark.parametrize("shared_scale", [False, True])
    def test_a_column_of_a_number_whose_mean_is_rounded(self, shared_scale):
        """Divided by what rounding leaves of its variance, the next number would be as far away as any."""
        y = np.arange(1000.0)
        assert np.full(1000, 0.1).var() > 0
        learned = learn_preparation(table(x=np.full(1000, 0.1), y=y), "y", shared_scale=shared_scale)
        assert learned.features == (Number("x", 0.1, 1.0, False),)
        np.testing.assert_allclose(learned.rows(table(x=[0.1 + 1e-9])), [[1e-9]], rtol=1e-6)

    def test_truth_values_as_numbers(self):
        learned = learn_preparation(table(x=[True, False, True, None], y=[True, False, False, True]), "y")
        expected = learned.rows(table(x=[True, False, None]))
        for numbers in ([1, 0, None], [1.0, 0.0, None], ["1", "0", None], ["TRUE", "False", None]):
            np.testing.assert_array_equal(learned.rows(table(x=numbers)), expected)
        np.testing.assert_array_equal(learned.target.values(table(y=[0, 1]).column("y"))[0], [0, 1])
        np.testing.assert_array_equal(learned.rows(table(x=[2, 10, 11]))[:, :2], 0)

    def test_categories(self):
        given_ = table(x=["b ", "a", None, "b"], y=["no", "yes", "yes", "no"])
        learned = learn_preparation(given_, "y")
        assert learned.features == (Category("x", ("a", "b"), True),)
        np.testing.assert_array_equal(learned.rows(given_), [[0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0]])
        np.testing.assert_array_equal(learned.rows(table(x=["never seen"])), [[0, 0, 0]])
        labels, _ = learned.target.values(given_.column("y"))
        assert learned.target.classes == ("no", "yes")
        np.testing.assert_array_equal(labels, [0, 1, 1, 0])

    @pytest.mark.parametrize(
        "values", [["NAN", "b", "2", "10", "inf"], ["10", "NAN", "inf", "2", "b"], ["2", "b", "inf", "10", "NAN"]]
    )
    def test_a_category_named_nan_comes_last_whatever_the_order_of_rows(self, values):
        given_ = table(x=values * 2, y=values * 2)
        learned, _ = learn_from_batches([given_], "y", categories="ordinal")
        assert learned.features == (Ordinal("x", ("2", "10", "b", "inf", "NAN"), False),)
        assert learned.target.classes == ("2", "10", "b", "inf", "NAN")

    def test_a_shared_scale_is_that_of_all_numbers(self):
        a, b, y = [0.0, 1.0, 0.0, 2.0], [8.0, None, None, None], [0.5, 1.5, 2.5, 3.5]
        learned = learn_preparation(table(a=a, b=b, y=y), "y", shared_scale=True)
        there = [0.0, 1.0, 0.0, 2.0, 8.0]
        for feature in learned.features:
            assert (feature.mean, feature.scale) == pytest.approx((np.mean(there), np.std(there)))

    def test_a_shared_scale_of_no_numbers(self):
        learned = learn_preparation(table(a=["u", "v", "u"], y=[0.5, 1.5, 2.5]), "y", shared_scale=True)
        assert learned.features == (Category("a", ("u", "v"), False),)

    def test_a_missing_number_is_the_mean_also_where_it_is_not_scaled(self):
        given_ = table(x=[1.0, None, 5.0], y=["a", "b", "a"])
        learned, _ = learn_from_batches([given_], "y", scale=False)
        np.testing.assert_array_equal(learned.rows(given_), [[1, 0], [3, 1], [5, 0]])
        assert Preparation.from_dict(json.loads(json.dumps(learned.as_dict()))) == learned
        assert "filler" not in learn_preparation(given_, "y").as_dict()["features"][0]  # files of earlier versions are the same

    def test_truth_values_and_infinities(self):
        learned = learn_preparation(table(t=[True, False, None], x=[1.0, np.inf, 3.0], y=[1.5, 2.5, 3.5]), "y")
        assert learned.features[0] == Category("t", ("false", "true"), True)
        assert learned.features[1] == Number("x", 2.0, 1.0, True)

    @pytest.mark.parametrize(
        ("values", "task", "expected"),
        [
            ([3, 1, 10, 3], None, ("1", "3", "10")), (list(range(30)), None, None), ([0.5, 1.5, 2.5], None, None),
            (["a", "b"], None, ("a", "b")), ([True, False], None, ("false", "true")), ([1, 2, 1], "regression", None),
            ([0.5, 1.5], "classification", ("0.5", "1.5")), ([1.0, 0.0, None, np.nan], None, ("0", "1")), ([0.5, 1.5], None, None),
            ([1.0, 2.0, 3.0], None, None), ([1.0, 0.0], "regression", None), (np.array([0, 1], np.float16), None, ("0", "1")),
            ([-0.0, 0.0, 1.0], None, ("0", "1")), ([-0.0, 0.0, 0.5], None, None),
            ([*[None] * 3, *range(20)], None, tuple(map(str, range(20)))),
        ],
    )  # fmt: skip
    def test_classes_or_numbers(self, values, task, expected):
        learned = learn_preparation(table(x=list(range(len(values))), y=values), "y", task=task)
        assert learned.target.classes == expected

    def test_a_class_that_a_program_wrote_as_a_float(self):
        given_ = table(x=[1.0, 2.0, 3.0, 4.0], y=[1.0, np.nan, 0.0, None])
        target = learn_preparation(given_, "y").target
        labels, there = target.values(given_.column("y"))
        np.testing.assert_array_equal(labels, [1, 0])
        np.testing.assert_array_equal(there, [True, False, True, False])
        np.testing.assert_array_equal(target.values(table(y=[0, 1]).column("y"))[0], [0, 1])
        np.testing.assert_array_equal(target.values(table(y=[-0.0, 1]).column("y"))[0], [0, 1])
        with pytest.raises(TableError, match="the class '2', which the model does not know"):
            target.values(table(y=[1.0, 2.0]).column("y"))

    def test_what_is_left_out(self):
        rows = 500
        given_ = table(key=[f"id {n}" for n in range(rows)], empty=[None] * rows, x=list(range(rows)), y=[0.5, 1.5] * (rows // 2))
        learned = learn_preparation(given_, "y")
        assert [feature.name for feature in learned.features] == ["x"]
        assert set(learned.dropped) == {"key", "empty"}

    def test_rows_without_a_target_are_left_out(self):
        given_ = table(x=[1, 2, 3, 4], y=["a", None, "b", "a"])
        values, there = learn_preparation(given_, "y").target.values(given_.column("y"))
        np.testing.assert_array_equal(there, [True, False, True, True])
        np.testing.assert_array_equal(values, [0, 1, 0])

    def test_there_and_back_through_json(self):
        learned = learn_preparation(table(x=["a", "b", None], n=[1, 2, 3], y=["u", "v", "u"]), "y")
        assert Preparation.from_dict(json.loads(json.dumps(learned.as_dict()))) == learned

    @given(st.lists(st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True, width=32)), min_size=1, max_size=30))
    @settings(max_examples=50, deadline=None)
    def test_whatever_the_numbers_are_the_rows_are_finite(self, values):
        given_ = arrow.table({"x": arrow.array([*values, 1.0], arrow.float64()), "y": arrow.array(["a", *["b"] * len(values)])})
        rows = learn_preparation(given_, "y").rows(given_)
        assert np.isfinite(rows).all()


class TestFiles:
    @pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
    def test_separators_and_missing_values(self, tmp_path, delimiter):
        path = tmp_path / "t.csv"
        path.write_text("\n".join(delimiter.join(row) for row in (["a", "b"], ["1", "x"], ["?", "NA"], ["3.5", ""])))
        found = read_table(path)
        assert found.to_pydict() == {"a": [1, None, 3.5], "b": ["x", None, None]}

    @pytest.mark.parametrize("rows", ["", "5\n", "5\n6\n7\n"])
    def test_spaces_in_the_name_of_the_only_column(self, tmp_path, rows):
        (tmp_path / "t.csv").write_text(f"age in years\n{rows}")
        assert names_of(tmp_path / "t.csv") == ["age in years"]

    def test_no_header(self, tmp_path):
        path = tmp_path / "t.csv"
        path.write_text("1,x\n2,y\n")
        assert read_table(path).to_pydict() == {"column 1": [1, 2], "column 2": ["x", "y"]}

    def test_parquet(self, tmp_path):
        import pyarrow.parquet

        path = tmp_path / "t.parquet"
        expected = table(a=[1, 2, 3], b=["x", "y", None])
        pyarrow.parquet.write_table(expected, path)
        assert read_table(path).equals(expected)
        path.write_bytes(path.read_bytes()[:20])
        with pytest.raises(TableError, match="is not a usable Parquet file"):
            read_table(path)

    def test_batches_are_small_parts_of_the_file(self, tmp_path):
        path = tmp_path / "t.csv"
        path.write_text("a,b\n" + "1.25,some text\n" * 300_000)
        batches = list(read_batches(path))
        assert len(batches) > 1
        assert sum(batch.num_rows for batch in batches) == 300_000

    def test_batches_of_parquet_hold_a_few_row_groups_at_most(self, tmp_path):
        import pyarrow.parquet

        path = tmp_path / "t.parquet"
        numbers = np.random.default_rng(0).random(1_000_000)
        pyarrow.parquet.write_table(table(a=numbers, b=numbers[::-1]), path, row_group_size=20_000)
        before = arrow.total_allocated_bytes()
        held = [arrow.total_allocated_bytes() - before for _ in read_batches(path)]
        assert max(held) < path.stat().st_size / 5

    @pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the system does not show which files are open")
    @pytest.mark.parametrize("kind", ["csv", "parquet"])
    def test_files_are_closed_where_rows_are_wrong(self, tmp_path, kind):
        import pyarrow.parquet

        path = tmp_path / f"t.{kind}"
        if kind == "csv":
            path.write_text("a,b\n" + "1.25,2\n" * 400_000 + "1.25,text\n")
        else:
            pyarrow.parquet.write_table(table(a=np.arange(200_000.0)), path, row_group_size=100_000, compression="gzip")
            content = bytearray(path.read_bytes())
            content[-50_000:-40_000] = bytes(10_000)
            path.write_bytes(content)
        batches = read_batches(path)
        next(batches)
        with pytest.raises(TableError) as error:
            list(batches)
        opened = [os.path.realpath(one) for one in Path("/proc/self/fd").iterdir()]
        assert str(path) not in opened, error

    @pytest.mark.parametrize("packed", [False, True])
    @pytest.mark.parametrize("dtype", [">u1", ">i2", ">f4"])
    def test_idx(self, tmp_path, packed, dtype):
        codes = {">u1": 0x08, ">i2": 0x0B, ">f4": 0x0D}
        array = np.arange(24).reshape(4, 3, 2).astype(dtype)
        content = struct.pack(">HBB3I", 0, codes[dtype], 3, *array.shape) + array.tobytes()
        path = tmp_path / "t"
        path.write_bytes(gzip.compress(content) if packed else content)
        np.testing.assert_array_equal(read_idx(path), array)
        assert read_table(path).num_columns == 6
        path.write_bytes(gzip.compress(content[:-1]) if packed else content[:-1])
        with pytest.raises(TableError, match="is damaged: it announces"):
            read_idx(path)

    def test_a_damaged_idx_file(self, tmp_path):
        path = tmp_path / "t"
        numbers = np.random.default_rng(0).bytes(300_000)
        content = gzip.compress(struct.pack(">HBBI", 0, 8, 1, len(numbers)) + numbers)
        path.write_bytes(content[:-100_000] + b"\xff" * 100_000)
        with pytest.raises(TableError, match="t is not a usable IDX file: Error -3"):
            read_idx(path)

    def test_an_idx_file_that_announces_more_than_there_is(self, tmp_path):
        path = tmp_path / "t"
        path.write_bytes(struct.pack(">HBB3I", 0, 8, 3, 2**31, 2**31, 2**31) + b"x")
        with pytest.raises(TableError, match="is damaged"):
            read_idx(path)

    @pytest.mark.parametrize("shape", [(0,), (0, 3, 2), (2, 0), (0, 2**32 - 1, 2**32 - 1)])
    @pytest.mark.parametrize("read", [read_table, names_of])
    def test_an_idx_file_without_numbers(self, tmp_path, shape, read):
        path = tmp_path / "t"
        path.write_bytes(struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape))
        with pytest.raises(TableError, match=r"t holds no numbers\.$"):
            read(path)

    @pytest.mark.parametrize("dimensions", [0, 33, 255])
    def test_an_idx_file_of_dimensions_that_no_array_has(self, tmp_path, dimensions):
        path = tmp_path / "t"
        path.write_bytes(bytes([0, 0, 8, dimensions]) + b"\0\0\0\1" * dimensions + b"\5")
        with pytest.raises(TableError, match=f"t is not a usable IDX file: it has {dimensions} dimensions"):
            read_table(path)

    @given(st.binary(max_size=200))
    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_whatever_is_in_a_file(self, tmp_path, content):
        path = tmp_path / "t.csv"
        path.write_bytes(content)
        try:
            found = read_table(path)
        except TableError as error:
            assert str(path) in str(error)  # noqa: PT017
            return
        assert found.num_rows > 0


def numbers_and_letters():
    rng = np.random.default_rng(0)
    x = rng.normal(size=400)
    return table(x=x, c=rng.choice(["a", "b"], 400), y=np.where(x > 0, "up", "down"))


def trained(tmp_path):
    given_ = numbers_and_letters()
    plan = Plan("y", epochs=3)
    model, train, held_out, batch_size = begin(given_, None, plan)
    learn(model, train, held_out, batch_size, plan)
    path = tmp_path / "model.safetensors"
    model.save(path)
    return model, given_, path


class TestModel:
    def test_columns_that_are_not_needed_may_hold_anything(self, tmp_path):
        pytest.importorskip("pandas")
        model, given_, _ = trained(tmp_path)
        frame = given_.to_pandas()
        expected = model.predictions(frame)
        assert (model.predictions(frame.assign(note=[object()] * len(frame))) == expected).all()
        with pytest.raises(TableError, match=r"There is no column"):
            model.predictions(frame.drop(columns="x"))

    def test_columns_of_polars_that_are_not_needed_may_hold_anything(self, tmp_path):
        polars = pytest.importorskip("polars")
        model, given_, _ = trained(tmp_path)
        frame = polars.from_arrow(given_)
        more = frame.with_columns(polars.Series("note", [object()] * len(frame), dtype=polars.Object))
        assert (model.predictions(more) == model.predictions(frame)).all()

    @pytest.mark.parametrize("library", ["pyarrow", "pandas"])
    def test_two_columns_of_a_name(self, tmp_path, library):
        pytest.importorskip(library)
        model, given_, _ = trained(tmp_path)
        twice = given_.append_column("x", given_.column("x")).append_column("note", given_.column("x"))
        with pytest.raises(TableError, match="The table has 2 columns called 'x'"):
            model.predictions(twice if library == "pyarrow" else twice.to_pandas())
        again = given_.append_column("note", given_.column("x")).append_column("note", given_.column("x"))
        assert (model.predictions(again) == model.predictions(given_)).all()

    def test_a_column_of_several_kinds(self, tmp_path):
        pytest.importorskip("pandas")
        model, given_, _ = trained(tmp_path)
        frame = given_.to_pandas()
        mixed = ["a", 1] * (len(frame) // 2) + ["a"] * (len(frame) % 2)
        with pytest.raises(TableError, match=r"The column c with type object cannot be read \(.*\); make its values alike"):
            model.predictions(frame.assign(c=mixed))

    def test_there_and_back(self, tmp_path):
        model, given_, path = trained(tmp_path)
        again = TableModel.load(path)
        np.testing.assert_array_equal(again.outputs(given_), model.outputs(given_))
        np.testing.assert_array_equal(load(path).theta, model.network.theta)  # it is a network, too
        assert again.history == model.history
        assert (model.predictions(given_) == np.array(given_.column("y"))).mean() > 0.8

    @pytest.mark.parametrize("target", ["x", "y"])
    def test_no_rows(self, target):
        given_ = numbers_and_letters()
        plan = Plan(target, epochs=1)
        model, train, held_out, batch_size = begin(given_, None, plan)
        learn(model, train, held_out, batch_size, plan)
        nothing = given_.slice(0, 0)
        assert model.outputs(nothing).shape == model.outputs(given_)[:0].shape
        assert model.predictions(nothing).shape == (0,)
        parts = [("nothing", nothing), ("all", given_)]
        assert evaluate(model, "it", parts) == evaluate(model, "it", parts[1:])

    def test_the_best_epoch_is_kept(self, tmp_path):
        model, _, _ = trained(tmp_path)
        losses = model.history["validation_loss"]
        assert len(losses) == len(model.history["loss"]) == 3

    @pytest.mark.parametrize("wrong", [0, 1, 2])
    def test_losses_that_are_not_finite_are_the_worst(self, wrong):
        net = MLP((1, 2), ["softmax"], "cross_entropy", dtype="float32", random_state=0)
        watch = Watch(np.full((1, 1), 1e20, np.float32), np.zeros(1, np.int64), patience=2)
        run = Run(net, 1, 5)
        thetas = np.array([[weight * 1e-20, 0, 0, 0] for weight in (1, 2, 3, 2, 2)], np.float32)
        thetas[wrong, :2] = 1e20
        best = 1 if wrong == 2 else 2
        for theta in thetas:
            net.theta = theta
            if not run.stop:
                watch.on_epoch_end(run)
        assert np.isnan(watch.losses[wrong])
        np.testing.assert_array_equal(watch.best_theta, thetas[best])
        assert len(watch.losses) == best + 1 + 2

    @pytest.mark.parametrize("call", [1, 3])
    def test_ctrl_c_while_the_held_out_rows_are_looked_at(self, tmp_path, monkeypatch, call):
        """There is the checkpoint of the epoch before, if there is one, and the training goes on to the same bits."""
        eval_loss, path, calls = MLP.eval_loss, tmp_path / "c.safetensors", []

        def train(checkpoint=None):
            plan = Plan("y", epochs=5)
            model, rows, held_out, batch_size = begin(numbers_and_letters(), None, plan)
            models.append(model)
            learn(model, rows, held_out, batch_size, plan, checkpoint=checkpoint)
            return model

        def interrupted(*args):
            calls.append(args)
            if len(calls) == call:
                raise KeyboardInterrupt
            return eval_loss(*args)

        models = []
        whole = train()
        with monkeypatch.context() as patched:
            patched.setattr(MLP, "eval_loss", interrupted)
            with pytest.raises(KeyboardInterrupt):
                train(path)
        assert {len(history) for history in models[-1].history.values()} == {call - 1}
        assert path.exists() == (call > 1)
        again = train(path)
        assert again.history == whole.history
        np.testing.assert_array_equal(again.network.theta, whole.network.theta)

    def test_a_network_without_a_table(self, tmp_path):
        save(MLP((2, 2), random_state=0), tmp_path / "m.safetensors")
        with pytest.raises(TableError, match="without the preparation of a table"):
            TableModel.load(tmp_path / "m.safetensors")

    def test_damage_is_noticed(self, tmp_path):
        _, given_, path = trained(tmp_path)
        content = path.read_bytes()
        rng = np.random.default_rng(0)
        for trial in range(60):
            damaged = bytearray(content)
            if trial % 3 == 0:
                damaged = damaged[: rng.integers(len(damaged))]
            else:
                place = rng.integers(min(len(damaged), 4000))
                damaged[place] ^= 1 << rng.integers(8)
            path.write_bytes(damaged)
            try:
                outputs = TableModel.load(path).outputs(given_)
            except TableError as error:
                assert str(path) in str(error) or "There is no column" in str(error)  # noqa: PT017
            else:  # the damage is in a weight, a name or a constant that means something else now
                assert outputs.shape == (400, 2)

    @pytest.mark.parametrize(
        "change",
        [
            {"features": []},
            {"target": {}},
            {"features": [{"kind": "number", "name": "x", "mean": 0.0, "scale": 0.0, "flag": False}]},
            {"features": [{"kind": "number", "name": "x", "mean": 0.0, "scale": 1.0, "flag": True, "filler": float("inf")}]},
        ],
        ids=str,
    )
    def test_a_changed_preparation(self, tmp_path, change):
        from safetensors import safe_open
        from safetensors.numpy import load_file, save_file

        _, _, path = trained(tmp_path)
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata()
        description = json.loads(metadata["fastmlp"])
        description["more"]["preparation"]["preparation"] |= change
        save_file(load_file(path), path, {"fastmlp": json.dumps(description)})
        with pytest.raises(TableError):
            TableModel.load(path)


def test_splits_are_random_repeatable_and_whole():
    given_ = table(x=list(range(100)))
    first, second = split_table(given_, 0.2, 0), split_table(given_, 0.2, 0)
    assert first[0].equals(second[0])
    parts = [part.column("x").to_pylist() for part in first]
    assert [len(part) for part in parts] == [80, 20]
    assert sorted(parts[0] + parts[1]) == list(range(100))
    assert parts[1] != list(range(80, 100))
    with pytest.raises(TableError, match=r"a share of 0\.1 cannot be held out"):
        split_table(table(x=[1, 2]), 0.1, 0)


@pytest.mark.parametrize(("rows", "expected"), [(10, 16), (2_000, 16), (10_000, 128), (10**7, 256)])
def test_batch_sizes(rows, expected):
    assert guess_batch_size(rows) == expected


def test_long_numbers_are_the_same_categories_as_floats():
    whole = arrow.array([10_000_000_000, 4_006_381_333_931, -20_000_000_000, 7])
    for kind in ("int64", "float64"):
        assert texts(whole.cast(kind), "x").to_pylist() == ["10000000000", "4006381333931", "-20000000000", "7"]
    assert texts(arrow.array([1e10, 1.5e10 + 0.5, 1e300, None, math.inf]), "x").to_pylist() == [
        "10000000000", "1.50000000005e+10", "1e+300", None, None,
    ]  # fmt: skip
    rows = arrow.table({"ean": ["10000000000", "4006381333931"] * 20, "y": ["a", "b"] * 20})
    learned, _ = learn_from_batches(rows.to_batches(), "y")
    for kind in ("int64", "float64"):
        numbers = rows.set_column(0, "ean", rows.column("ean").cast("int64").cast(kind))
        np.testing.assert_array_equal(learned.rows(numbers), learned.rows(rows))


@pytest.mark.parametrize(
    "second",
    [
        arrow.array([1.0, 2.0, None, 4.0]), arrow.array([1.0, 1.5, 2.0, 0.0]).cast(arrow.decimal128(5, 2)),
        arrow.nulls(4, arrow.float64()),
    ],
)  # fmt: skip
@pytest.mark.parametrize("order", [1, -1])
def test_what_is_predicted_does_not_depend_on_the_order_of_files(second, order):
    parts = [arrow.table({"x": range(4), "y": [1, 2, 3, 4]}), arrow.table({"x": range(4), "y": second})]
    assert learn_from_batches(parts[::order], "y")[0].target.classes is None


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        (arrow.array([0, 1], arrow.date32()), arrow.array([0, 1], arrow.timestamp("s")), arrow.timestamp("us")),
        (arrow.array([0, 1], arrow.timestamp("s")), arrow.array([0, 1], arrow.timestamp("ns", "UTC")), arrow.timestamp("us")),
        (arrow.array([1, 2]), arrow.array([1.5, 2.0]).cast(arrow.decimal128(5, 2)), arrow.float64()),
        (arrow.array([1, 2]), arrow.array([1, 2], arrow.decimal128(5, 0)), arrow.int64()),
        (arrow.array([1, 2]), arrow.array([10**20, 2], arrow.decimal128(38, 0)), arrow.decimal128(38, 0)),
    ],
)
def test_types_that_are_alike_fit_together(one, other, kind):
    untouched = arrow.array([10**30, 1], arrow.decimal128(38, 0))
    batches = [arrow.record_batch({"d": column, "untouched": untouched}) for column in (one, other)]
    table = joined(batches, ["d", "untouched"])
    assert table.schema.types == [kind, untouched.type]
    assert table.column("d").to_pylist()[:2] == one.cast(kind).to_pylist()
