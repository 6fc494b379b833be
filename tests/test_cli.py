"""The command line, as a person runs it."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastmlp import ACTIVATIONS, LOSSES, OPTIMIZERS
from fastmlp.io import load

ROOT = Path(__file__).parent.parent


def fastmlp(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "fastmlp", *arguments],
        cwd=cwd, env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "120", "NO_COLOR": "1"} | environment,
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    return folder, fastmlp("train", cwd=folder)


class TestTrain:
    def test_succeeds(self, demo):
        assert demo[1].returncode == 0, demo[1].stderr

    def test_prints_reports_and_both_times(self, demo):
        out = demo[1].stdout
        assert out.count("precision    recall  f1-score") == 2
        ours = [float(seconds) for seconds in re.findall(r"fastmlp +(\d+\.\d+) s", out)]
        numpy = [float(seconds) for seconds in re.findall(r"NumPy reference +(\d+\.\d+) s", out)]
        ratios = [float(ratio) for ratio in re.findall(r"([\d.]+) times as fast", out)]
        assert len(ours) == len(numpy) == len(ratios) == 2
        for mine, theirs, ratio in zip(ours, numpy, ratios, strict=True):
            assert theirs / mine == pytest.approx(ratio, rel=0.1)

    def test_both_trainings_end_at_the_same_loss(self, demo):
        losses = [float(loss) for loss in re.findall(r" loss (\d+\.\d+)", demo[1].stdout)]
        assert len(losses) == 4
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)
        assert losses[2] == pytest.approx(losses[3], rel=1e-3)
        assert demo[1].stdout.count("both end at the same loss") == 2

    def test_learns(self, demo):
        accuracies = [float(a) for a in re.findall(r"accuracy on the test images ([\d.]+)", demo[1].stdout)]
        assert len(accuracies) == 2
        assert min(accuracies) > 0.93

    def test_says_where_the_models_and_the_picture_are(self, demo):
        folder, done = demo
        models = re.findall(r"model: (\S+)", done.stdout)
        (picture,) = re.findall(r"Loss curves: (\S+)", done.stdout)
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
        from sklearn.datasets import load_digits

        x, y = load_digits(return_X_y=True)
        for model in models:
            assert (load(folder / model).predict(x / 16).argmax(axis=1) == y).mean() > 0.95
        assert len(models) == 2

    def test_draws_no_bar_where_there_is_no_terminal(self, demo):
        assert "rows/s" not in demo[1].stderr

    def test_an_output_that_is_a_file(self, tmp_path):
        (tmp_path / "taken").write_text("mine")
        done = fastmlp("train", "--output", "taken", cwd=tmp_path)
        assert done.returncode == 2
        assert "--output must be a folder, but taken is a file" in done.stderr
        assert (tmp_path / "taken").read_text() == "mine"

    def test_an_output_that_cannot_be_made(self, tmp_path):
        done = fastmlp("train", "--output", "/proc/nowhere", cwd=tmp_path)
        assert done.returncode == 1
        assert "Could not write to /proc/nowhere" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_difference_of_the_losses_is_a_failure(tmp_path, monkeypatch):
    """The check of the demonstration can fail: a reference that starts elsewhere is noticed."""
    from fastmlp import demo as module
    from fastmlp.reference import ReferenceMLP

    class Elsewhere(ReferenceMLP):
        def fit(self, *args, **kwargs):
            self.w[0] *= 1.5
            return super().fit(*args, **kwargs)

    monkeypatch.setattr(module, "ReferenceMLP", Elsewhere)
    monkeypatch.setattr(module, "EPOCHS", 3)
    said = []
    assert not module.demonstrate(tmp_path, said.append, progress=False)
    assert "THE LOSSES DIFFER" in "".join(said)


def test_bars_of_the_demonstration(tmp_path, monkeypatch, capsys):
    from fastmlp import demo as module

    monkeypatch.setattr(module, "EPOCHS", 3)
    assert module.demonstrate(tmp_path, print, progress=True)
    assert "squared-error, fastmlp: 100%" in capsys.readouterr().err


def test_info_names_the_machine(tmp_path):
    done = fastmlp("info", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for word in ("fastmlp", "vector registers", "threads available", "kernel cache", np.__version__):
        assert word in done.stdout


def test_warmup_fills_the_cache(tmp_path):
    done = fastmlp("warmup", "--dtype", "float32", cwd=tmp_path, FASTMLP_CACHE_DIR=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    kept = {path.name.partition("-")[0] for path in (tmp_path / "cache").rglob("*.kernel")}
    assert kept >= {"run_chunks", "predict_rows", "fill_order", "signal_helpers"}
    assert kept >= {f"activate_and_slope_loop_{name}" for name in ACTIVATIONS if name != "softmax"}
    assert kept >= {f"loss_and_slope_loop_{name}" for name in LOSSES} | {f"update_loop_{name}" for name in OPTIMIZERS}
    assert str(tmp_path / "cache") in done.stdout
    code = (
        "import numpy as np; from fastmlp import MLP\n"
        "MLP((2, 3, 1), n_threads=2).fit(np.eye(64, 2), np.ones(64), epochs=1, batch_size=32)"
    )
    environment = os.environ | {"FASTMLP_CACHE_DIR": str(tmp_path / "cache")}
    after = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (after.returncode, after.stderr) == (0, "")  # nothing is left to compile
    wrong = fastmlp("warmup", "--dtype", "float16", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "dtype must be 'float32' or 'float64', got 'float16'" in wrong.stderr


def test_help_and_wrong_use(tmp_path):
    assert "train" in fastmlp("--help", cwd=tmp_path).stdout
    assert fastmlp("trian", cwd=tmp_path).returncode == 2


def test_without_its_extra_it_says_what_to_install(tmp_path):
    (tmp_path / "typer.py").write_text("raise ImportError('planted')")
    done = subprocess.run(
        [sys.executable, "-m", "fastmlp", "train"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.strip() == "The fastmlp command needs a few more packages: pip install 'fastmlp[cli]'"


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Two tables as people have them: classes with categories and holes, and numbers."""
    import pandas as pd

    folder = tmp_path_factory.mktemp("tables")
    rng = np.random.default_rng(0)
    rows = 1500
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 80, rows).astype(object),
            "colour": rng.choice(["red", "green", "blue, dark"], rows),
            "note": [f"text {number}" for number in range(rows)],
            "size": rng.normal(1e6, 1e5, rows).round(1),
        }
    )
    frame.loc[rng.random(rows) < 0.1, "age"] = "?"
    known = pd.to_numeric(frame["age"], errors="coerce").fillna(40)
    frame["bought"] = np.where((known > 45) ^ (frame["colour"] == "red"), "yes", "no")
    frame.to_csv(folder / "shop.csv", index=False)
    frame.to_csv(folder / "semicolons.csv", index=False, sep=";")
    x = rng.normal(size=(rows, 3))
    values = pd.DataFrame(x, columns=["a", "b", "c"]).assign(y=1000 + 50 * np.sin(x[:, 0]) + 20 * x[:, 1])
    values.to_csv(folder / "values.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def shop(tables):
    """A model of the first."""
    done = fastmlp("train", "shop.csv", "--target", "bought", "--json", "--plot", "curve.png", cwd=tables)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), tables


class TestTrainOnATable:
    def test_classes(self, shop):
        result, folder = shop
        assert result["task"] == "classification"
        assert result["test"]["accuracy"] > 0.85
        assert result["test"]["roc_auc"] > 0.9
        assert result["test"]["rows"] == 300
        assert np.sum(result["test"]["confusion"]) == 300
        assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")

    def test_numbers(self, tables):
        done = fastmlp("train", "values.csv", "--target", "y", "--json", cwd=tables)
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert result["task"] == "regression"
        assert result["test"]["r2"] > 0.9
        assert result["test"]["rmse"] < 15  # in the target's own unit
        evaluated = json.loads(fastmlp("evaluate", "values.safetensors", "values.csv", "--json", cwd=tables).stdout)
        assert evaluated["r2"] > 0.9

    def test_says_what_it_guessed(self, tables):
        done = fastmlp("train", "semicolons.csv", "--target", "bought", "--epochs", "3", cwd=tables)
        assert done.returncode == 0, done.stderr
        for part in (
            "bought, classification: 2 classes (no, yes)", "2 of numbers, 1 of categories, 1 with missing values; 6 inputs",
            "left out: note", "nearly every row has a text of its own", "1,020 to train, 180 to validate, 300 to test", "6-64-64-2",
            "--batch-size", "Trained for 3 epochs", "Written: semicolons.safetensors",
        ):  # fmt: skip
            assert part in done.stdout, part
        assert done.stderr == ""  # no bar where there is no terminal

    def test_nothing_is_overwritten_unless_forced(self, shop):
        _, folder = shop
        before = (folder / "shop.safetensors").read_bytes()
        done = fastmlp("train", "shop.csv", "--target", "bought", "--epochs", "1", cwd=folder)
        assert done.returncode == 2
        assert "shop.safetensors is there already; give another name with --out, or --force to replace it" in done.stderr
        assert (folder / "shop.safetensors").read_bytes() == before

    def test_the_same_twice(self, tables):
        for name in ("one", "two"):
            options = ["--target", "bought", "--epochs", "2", "--out", f"{name}.safetensors", "--quiet"]
            assert fastmlp("train", "shop.csv", *options, cwd=tables).returncode == 0
        assert (tables / "one.safetensors").read_bytes() == (tables / "two.safetensors").read_bytes()

    def test_another_table_to_report_on(self, tables):
        done = fastmlp(
            "train", "shop.csv", "--target", "bought", "--validate", "semicolons.csv", "--epochs", "1", "--out", "v.safetensors",
            "--json", cwd=tables,
        )  # fmt: skip
        assert json.loads(done.stdout)["test"]["rows"] == 1500

    def test_resume(self, tables):
        options = ["--target", "y", "--resume", "run.ckpt", "--json", "--force"]
        whole = json.loads(
            fastmlp("train", "values.csv", *options[:2], "--json", "--epochs", "6", "--out", "w.safetensors", cwd=tables).stdout
        )
        first = fastmlp("train", "values.csv", *options, "--epochs", "2", "--out", "r.safetensors", cwd=tables)
        assert first.returncode == 0, first.stderr
        second = fastmlp("train", "values.csv", *options, "--epochs", "6", "--out", "r.safetensors", cwd=tables)
        assert second.returncode == 0, second.stderr
        assert json.loads(second.stdout)["test"] == whole["test"]
        other = fastmlp("train", "values.csv", *options, "--batch-size", "99", "--out", "r.safetensors", cwd=tables)
        assert other.returncode == 1
        assert "batch_size" in other.stderr

    @pytest.mark.skipif(os.name == "nt", reason="signals of other systems")
    def test_ctrl_c_keeps_the_best(self, tables):
        process = subprocess.Popen(
            [
                sys.executable, "-c",
                "import fastmlp.data.model as m, sys; from fastmlp.callbacks import Callback\n"
                "class Say(Callback):\n"
                "    def on_epoch_end(self, run):\n"
                "        if run.epoch == 3: print('now', flush=True)\n"
                "learn = m.learn\n"
                "def watched(*a): return learn(*a[:5], [*a[5], Say()], a[6])\n"
                "m.learn = watched\n"
                "from fastmlp.__main__ import main; main()",
                "train", "shop.csv", "--target", "bought", "--epochs", "1000000", "--out", "c.safetensors", "--quiet",
            ],
            cwd=tables, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout.readline() == "now\n"
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60)
        assert process.returncode == 130, errors
        assert "Traceback" not in errors
        assert "Written: c.safetensors" in out
        assert load(tables / "c.safetensors").sizes == (6, 64, 64, 2)

    def test_pictures(self, tmp_path):
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        images = pixels.reshape(-1, 8, 8).astype(np.uint8)
        with gzip.open(tmp_path / "images.gz", "wb") as file:
            file.write(struct.pack(">HBB3I", 0, 8, 3, *images.shape) + images.tobytes())
        (tmp_path / "labels").write_bytes(struct.pack(">HBBI", 0, 8, 1, len(labels)) + labels.astype(np.uint8).tobytes())
        done = fastmlp("train", "images.gz", "--target", "labels", "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["test"]["accuracy"] > 0.93


class TestUseAModel:
    def test_predictions_are_those_of_the_test(self, shop):
        import pandas as pd

        _, folder = shop
        done = fastmlp("predict", "shop.safetensors", "shop.csv", "--proba", "--out", "p.csv", cwd=folder)
        assert done.returncode == 0, done.stderr
        assert "1,500 rows" in done.stderr
        predicted, truth = pd.read_csv(folder / "p.csv"), pd.read_csv(folder / "shop.csv")
        assert list(predicted.columns) == ["bought", "probability of no", "probability of yes"]
        assert (predicted["bought"] == truth["bought"]).mean() > 0.85
        np.testing.assert_allclose(predicted.iloc[:, 1:].sum(axis=1), 1, atol=1e-5)
        again = fastmlp("predict", "shop.safetensors", "shop.csv", cwd=folder)
        assert again.stdout.split() == ["bought", *predicted["bought"]]
        parquet = fastmlp("predict", "shop.safetensors", "shop.csv", "--out", "p.parquet", cwd=folder)
        assert parquet.returncode == 0, parquet.stderr
        import pyarrow.parquet

        assert pyarrow.parquet.read_table(folder / "p.parquet").column("bought").to_pylist() == list(predicted["bought"])

    def test_values_that_were_never_seen(self, shop):
        _, folder = shop
        (folder / "new.csv").write_text("size,colour,age,extra\n1e6,purple,,1\n1e6,red,30,2\n")
        done = fastmlp("predict", "shop.safetensors", "new.csv", "--proba", cwd=folder)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 3

    def test_evaluate_and_info(self, shop):
        _, folder = shop
        out = fastmlp("evaluate", "shop.safetensors", "shop.csv", cwd=folder).stdout
        assert re.search(r"bought, 1,500 rows: accuracy 0\.\d+, ROC AUC [\d.]+, log loss", out)
        assert "predicted" in out
        info = json.loads(fastmlp("info", "shop.safetensors", "--json", cwd=folder).stdout)
        assert info["network"] == "6-64-64-2"
        assert (info["target"], info["classes"]) == ("bought", ["no", "yes"])
        assert info["features"][1]["categories"] == ["blue, dark", "green", "red"]
        assert "note" in info["left_out"]
        out = fastmlp("info", "shop.safetensors", cwd=folder).stdout
        assert re.search(r"^target +bought: no, yes$", out, re.MULTILINE)
        assert re.search(r"^  colour +one of blue, dark, green, red$", out, re.MULTILINE)
        assert re.search(r"^  note +left out: nearly every row has a text of its own", out, re.MULTILINE)

    def test_export(self, shop):
        pytest.importorskip("onnx")
        _, folder = shop
        for name in ("model.onnx", "model.py"):
            done = fastmlp("export", "shop.safetensors", name, "--force", cwd=folder)
            assert done.returncode == 0, done.stderr
            assert (folder / name).stat().st_size > 1000
        assert fastmlp("export", "shop.safetensors", "model.pkl", cwd=folder).returncode == 2


class TestErrors:
    @pytest.mark.parametrize(
        ("content", "options", "code", "message"),
        [
            (None, ["--target", "y"], 1, "There is no file 'table.csv'."),
            ("", ["--target", "y"], 1, "table.csv is empty."),
            ("a,y\n", ["--target", "y"], 1, "table.csv has no rows."),
            ("a,y\n1,2\n" * 1, [], 2, "--target is missing: which column is to be predicted? table.csv has a, y."),
            ("age,income\n1,2\n3,4\n", ["--target", "incme"], 1, "There is no column 'incme'. Did you mean 'income'?"),
            ("a,y\n1,2\n3,4,5\n", ["--target", "y"], 1, "table.csv, line 3: 3 values where the other lines have 2."),
            ("a,y\n1,x\n2,x\n3,x\n4,x\n5,x\n6,x\n7,x\n8,x\n9,x\n", ["--target", "y"], 1, "The target 'y' has one class only, 'x'"),
            ("a,a,y\n1,2,3\n", ["--target", "y"], 1, "table.csv has more than one column 'a'."),
            ("y\n1\n2\n3\n4\n5\n6\n7\n8\n9\n", ["--target", "y"], 1, "There is no column to learn from beside the target."),
            ("\0\1\2", ["--target", "y"], 1, "table.csv is not a table: it holds bytes that are no text."),
            (
                "a,y\n1,2\n",
                ["--target", "y", "--hidden", "x"],
                2,
                "--hidden must be widths of layers such as 64,64, or none, got 'x'.",
            ),
            (
                "a,y\n1,2\n",
                ["--target", "y", "--max-time", "soon"],
                2,
                "--max-time must be a time such as 60s, 5m or 2h, got 'soon'.",
            ),
            ("a,y\n1,2\n", ["--target", "y", "--test", "2"], 2, "--test must be a share between 0 and 1, got 2."),
            ("a,y\n1,2\n", ["--target", "y", "--set", "rate=3"], 2, "--set must be one of learning_rate=..."),
            ("a,y\n1,2\n", ["--target", "y", "--set", "optimizer=adm"], 2, "'adm'"),
            ("a,y\n1,2\n", ["--target", "y", "--task", "guess"], 2, "--task must be classification or regression, got 'guess'."),
            ("a,y\n1,2\n", ["--target", "y", "--out", "none/m.safetensors"], 2, "--out must be a file in a folder that exists"),
        ],
    )
    def test_one_sentence_each(self, command, tmp_path, content, options, code, message):
        if content is not None:
            (tmp_path / "table.csv").write_bytes(content.encode())
        found, _, errors = command("train", "table.csv", *options)
        assert found == code
        assert message in errors
        assert errors.count("\n") == 1
        assert [path.name for path in tmp_path.iterdir()] == ([] if content is None else ["table.csv"])

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("age,colour\n1,red\n", "There is no column 'size'."),
            ("age,colour,size\n1,red,big\n", "column 'size' has the text 'big' where there were numbers"),
            ("age,colour,size\n1,red\n", "line 2: 2 values where the other lines have 3"),
        ],
    )
    def test_a_table_of_another_shape(self, shop, content, message):
        _, folder = shop
        (folder / "wrong.csv").write_text(content)
        for arguments in (
            ["predict", "shop.safetensors", "wrong.csv", "--out", "w.csv"],
            ["evaluate", "shop.safetensors", "wrong.csv"],
        ):
            done = fastmlp(*arguments, cwd=folder)
            assert done.returncode == 1
            assert message in done.stderr
            assert "Traceback" not in done.stderr
            assert not (folder / "w.csv").exists()

    def test_a_file_that_is_no_model(self, shop):
        _, folder = shop
        for command in (["predict"], ["evaluate"]):
            done = fastmlp(*command, "shop.csv", "shop.csv", cwd=folder)
            assert done.returncode == 1
            assert "is not a usable fastmlp model" in done.stderr

    def test_a_class_that_the_model_does_not_know(self, shop):
        _, folder = shop
        (folder / "classes.csv").write_text("age,colour,size,bought\n1,red,1e6,maybe\n")
        done = fastmlp("evaluate", "shop.safetensors", "classes.csv", cwd=folder)
        assert done.returncode == 1
        assert "Column 'bought' has the class 'maybe', which the model does not know." in done.stderr
