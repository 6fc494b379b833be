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
from fastmlp.shuffle import DRAWN_ROWS
from tests.test_invariants import run_python

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

    def test_both_trainings_have_the_same_losses(self, demo):
        losses = [float(loss) for loss in re.findall(r" loss (\d+\.\d+)", demo[1].stdout)]
        assert len(losses) == 4
        assert losses[0] == pytest.approx(losses[1], rel=0.05)
        assert losses[2] == pytest.approx(losses[3], rel=0.05)
        assert demo[1].stdout.count("the same losses, but for rounding") == 2

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
        assert "--out must be a folder, but taken is a file" in done.stderr
        assert (tmp_path / "taken").read_text() == "mine"

    def test_files_that_are_there_need_force(self, tmp_path):
        (tmp_path / "mine").mkdir()
        picture = tmp_path / "mine" / "loss-curves.png"
        picture.write_text("precious")
        done = fastmlp("train", "--out", "mine", "--quiet", cwd=tmp_path)
        assert done.returncode == 2
        assert "loss-curves.png is there already; give another name with --out, or --force to replace it." in done.stderr
        assert picture.read_text() == "precious"
        assert fastmlp("train", "--out", "mine", "--force", cwd=tmp_path).returncode == 0
        assert picture.read_bytes().startswith(b"\x89PNG")

    def test_options_of_a_table_need_one(self, tmp_path):
        done = fastmlp("train", "--target", "income", "--epochs", "5", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == ("--target and --epochs are about a table, but FILE is missing; give its name, such as table.csv.\n")
        assert list(tmp_path.iterdir()) == []

    def test_an_output_that_cannot_be_made(self, tmp_path):
        done = fastmlp("train", "--output", "/proc/nowhere", cwd=tmp_path)
        assert done.returncode == 1
        assert "Could not write to /proc/nowhere" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_difference_of_the_losses_is_a_failure(tmp_path, monkeypatch):
    """The check of the demonstration can fail: a reference that starts elsewhere is noticed."""
    from fastmlp.cli import demo as module
    from fastmlp.reference import ReferenceMLP

    class Elsewhere(ReferenceMLP):
        def fit(self, *args, **kwargs):
            self.w[0] *= 1.5
            return super().fit(*args, **kwargs)

    monkeypatch.setattr(module, "ReferenceMLP", Elsewhere)
    monkeypatch.setattr(module, "EPOCHS", 3)
    said = []
    assert not any(outcome.agrees for outcome in module.demonstrate(tmp_path, said.append, progress=False))
    assert "THE LOSSES DIFFER" in "".join(said)


def test_the_demonstration_times_no_compilation():
    printed = run_python(
        "from fastmlp import MLP\nfrom fastmlp.cli import demo\n"
        "from fastmlp.kernels.jit import Kernel\n"
        "from fastmlp.kernels.loops import compile_loop\n"
        "kernels, compiled_for = set(), Kernel.compiled_for\n"
        "Kernel.compiled_for = lambda self, *examples: kernels.add(self.__name__) or compiled_for(self, *examples)\n"
        "demo.EPOCHS = 1\n"
        "demo.compile_kernels()\n"
        "print(compile_loop.cache_info().misses, *sorted(kernels))\n"
        "for variant in demo.VARIANTS:\n"
        "    demo.train(MLP, variant, demo.Digits.load(), '', progress=False)\n"
        "print(compile_loop.cache_info().misses, *sorted(kernels))"
    )
    before, after = (line.split() for line in printed.splitlines())
    assert int(before[0]) == int(after[0]) > 0
    assert before[1:] == after[1:] == ["draw_order", "predict_rows", "run_chunks"]


def test_bars_of_the_demonstration(tmp_path, monkeypatch, capsys):
    from fastmlp.cli import demo as module

    monkeypatch.setattr(module, "EPOCHS", 3)
    assert all(outcome.agrees for outcome in module.demonstrate(tmp_path, print, progress=True))
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
    assert kept >= {"run_chunks", "run_rows", "predict_rows", "draw_order", "fill_order", "rows_of_columns", "signal_helpers"}
    assert kept >= {f"activate_and_slope_loop_{name}" for name in ACTIVATIONS if name != "softmax"}
    assert kept >= {f"loss_and_slope_loop_{name}" for name in LOSSES} | {f"update_loop_{name}" for name in OPTIMIZERS}
    assert str(tmp_path / "cache") in done.stdout
    code = (
        "import numpy as np; from fastmlp import MLP; from scipy.sparse import csr_array\n"
        "MLP((2, 3, 1), n_threads=2).fit(np.eye(64, 2), np.ones(64), epochs=1, batch_size=32)\n"
        f"MLP((2, 3, 1)).fit(np.eye({DRAWN_ROWS + 1}, 2), np.ones({DRAWN_ROWS + 1}), epochs=1, batch_size=4096)\n"
        "MLP((2, 3, 1)).fit(csr_array(np.eye(64, 2)), np.ones(64), epochs=1, batch_size=32)\n"
        "MLP((400, 400, 1)).fit(np.eye(64, 400), np.ones(64), epochs=1, batch_size=64)"
    )
    environment = os.environ | {"FASTMLP_CACHE_DIR": str(tmp_path / "cache")}
    after = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (after.returncode, after.stderr) == (0, "")  # nothing is left to compile
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "fastmlp").mkdir()
    (blocked / "fastmlp" / "old.kernel").write_text("of another version")
    (tmp_path / "sitecustomize.py").write_text(
        "import fastmlp.files as files\ndef replace_file(path, content):\n    raise OSError('no space left')\n"
        "files.replace_file = replace_file\n"
    )
    full = fastmlp(
        "warmup", "--dtype", "float32", cwd=tmp_path, FASTMLP_CACHE_DIR=str(blocked), PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}"
    )
    assert (full.returncode, full.stdout) == (1, "")
    assert f"could not be kept in {blocked / 'fastmlp'}" in full.stderr
    wrong = fastmlp("warmup", "--dtype", "float16", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "dtype must be 'float32' or 'float64', got 'float16'" in wrong.stderr


def test_bench_says_what_it_needs(tmp_path):
    """Not that there is no benchmark, which is looked for beside the package where there is none in it."""
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks/__main__.py").write_text("import a_library_that_is_not_there")
    printed = run_python(
        f"""
        import fastmlp
        fastmlp.__path__.append({str(tmp_path)!r})
        from fastmlp.cli import app
        try:
            app(["bench", "--help"], standalone_mode=False)
        except ModuleNotFoundError as error:
            print(error.name)
        """
    )
    assert printed == "a_library_that_is_not_there\n"


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


def write_idx(path, array):
    """An IDX file; of floats in float32, of anything else in bytes."""
    kind, dtype = (0x0D, ">f4") if array.dtype.kind == "f" else (0x08, "u1")
    content = struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape) + array.astype(dtype).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.fixture
def pictures(command, tmp_path):
    """Digits as MNIST comes: 1,297 to train on, 500 others in one file and in two, and a table."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = pixels.reshape(-1, 8, 8).astype(int)
    write_idx(tmp_path / "images.gz", images[500:])
    write_idx(tmp_path / "labels", labels[500:])
    write_idx(tmp_path / "new.gz", images[:500])
    write_idx(tmp_path / "new-1", images[:200])
    write_idx(tmp_path / "new-2.gz", images[200:500])
    write_idx(tmp_path / "new-labels.gz", labels[:500])
    (tmp_path / "table.csv").write_text("age,label\n" + "1,2\n3,4\n" * 50)
    return tmp_path


TRAIN_ON_PICTURES = ["train", "images.gz", "--target", "labels", "--epochs", "10", "--json"]


class TestPictures:
    def test_share_of_them_for_the_report(self, command, pictures):
        code, out, _ = command(*TRAIN_ON_PICTURES)
        assert code == 0
        result = json.loads(out)
        assert (result["test"]["rows"], result["target"]) == (259, "label")
        assert result["test"]["accuracy"] > 0.93

    def test_others_with_their_labels(self, command, pictures):
        code, out, _ = command(*TRAIN_ON_PICTURES, "--validate", "new.gz", "--validate-target", "new-labels.gz")
        assert code == 0
        reported = json.loads(out)["test"]
        assert reported["rows"] == 500
        assert reported["accuracy"] > 0.9
        for files in ("new.gz", "new-[12]*"):
            code, out, errors = command("evaluate", "images.safetensors", files, "--target", "new-labels.gz", "--json")
            assert (code, errors) == (0, "")
            assert json.loads(out) == reported

    def test_labels_that_are_no_whole_numbers(self, command, pictures):
        write_idx(pictures / "shares", np.arange(1297) / 1297)
        code, out, _ = command("train", "images.gz", "--target", "shares", "--epochs", "1", "--json")
        assert code == 0
        assert json.loads(out)["task"] == "regression"

    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (["train", "new.gz"], 2, "--target is missing: which file has the labels of new.gz?"),
            (["train", "new.gz", "--target", "label"], 1, "There is no file 'label'. Did you mean 'labels'?"),
            (["train", "new.gz", "--target", "labels"], 1, "labels has 1297 labels, but new.gz has 500 rows."),
            (
                ["train", "new.gz", "--target", "new-labels.gz", "--stream"], 2,
                "--stream is for tables, and new.gz is IDX, which is read whole; leave it out.",
            ),
            (
                [*TRAIN_ON_PICTURES, "--validate", "new.gz"], 2,
                "--validate-target is missing: which file has the labels of new.gz?",
            ),
            (
                [*TRAIN_ON_PICTURES, "--validate-target", "new-labels.gz"], 2,
                "--validate-target is the labels of --validate, which is missing.",
            ),
            (
                ["train", "table.csv", "--target", "age", "--validate", "table.csv", "--validate-target", "labels"], 2,
                "--validate-target is the labels of IDX files, but table.csv is a table, where they are the column 'age'; "
                "leave it out.",
            ),
            (["evaluate", "new.gz"], 2, "--target is missing: which file has the labels of new.gz?"),
            (
                ["evaluate", "table.csv", "--target", "label"], 2,
                "--target is the labels of IDX files, but table.csv is a table, where they are the column 'label'; leave it out.",
            ),
            (["evaluate", "new.gz", "--target", "labels"], 1, "labels has 1297 labels, but new.gz has 500 rows."),
            (
                ["evaluate", "new.gz", "--target", "none"], 1,
                "There is no file 'none'. It was looked for in the folder FOLDER; give one that is there.",
            ),
            (
                ["evaluate", "new.gz", "--target", "table.csv"], 1,
                "table.csv is not an IDX file, the format that MNIST comes in.",
            ),
            (["evaluate", "new.gz", "--target", "new.gz"], 1, "new.gz has no labels: its rows are of 64 numbers each."),
            (
                ["evaluate", "labels", "--target", "labels"], 1,
                "labels has a column 'label' itself, beside which there is no place for labels.",
            ),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )  # fmt: skip
    def test_labels_that_do_not_fit(self, command, pictures, arguments, code, message):
        if arguments[0] == "evaluate":
            assert command(*TRAIN_ON_PICTURES[:-3], "--epochs", "1")[0] == 0
            arguments = ["evaluate", "images.safetensors", *arguments[1:]]
        else:
            arguments = [*arguments, "--out", "x.safetensors"]
        assert command(*arguments) == (code, "", f"{message}\n".replace("FOLDER", repr(str(pictures))))
        assert not (pictures / "x.safetensors").exists()


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
        assert re.search(r"^  colour +one of 'blue, dark', green, red$", out, re.MULTILINE)
        assert re.search(r"^  note +left out: nearly every row has a text of its own", out, re.MULTILINE)

    def test_export(self, shop):
        pytest.importorskip("onnx")
        _, folder = shop
        for name in ("model.onnx", "model.py"):
            done = fastmlp("export", "shop.safetensors", name, "--force", cwd=folder)
            assert done.returncode == 0, done.stderr
            assert (folder / name).stat().st_size > 1000
        assert fastmlp("export", "shop.safetensors", "model.pkl", cwd=folder).returncode == 2
        again = fastmlp("export", "shop.safetensors", "model.py", cwd=folder)
        said = "model.py is there already; give another name as the second argument, or --force to replace it.\n"
        assert (again.returncode, again.stderr) == (2, said)


@pytest.fixture
def parts(tmp_path, shop):
    """The rows of the first table in three files of two kinds, whose columns are in other orders; and its model."""
    import pandas as pd

    _, folder = shop
    (tmp_path / "parts" / "more").mkdir(parents=True)
    (tmp_path / "shop.safetensors").write_bytes((folder / "shop.safetensors").read_bytes())
    frame = pd.read_csv(folder / "shop.csv", na_values="?")
    frame[:400].to_csv(tmp_path / "parts" / "2.csv", index=False)
    frame[400:900].iloc[:, ::-1].to_parquet(tmp_path / "parts" / "1.parquet")
    frame[900:].to_csv(tmp_path / "parts" / "more" / "3.csv", index=False, sep=";")
    (tmp_path / "parts" / "4.csv").write_text("age,colour,size,bought\n")  # no rows are no fault
    return tmp_path / "parts"


class TestSeveralFiles:
    @pytest.mark.parametrize("given", ["parts", "parts/**/*.*"])
    def test_predictions_are_in_the_order_of_the_files(self, command, parts, given):
        alone = [
            command("predict", "shop.safetensors", f"parts/{name}", "--json")[1] for name in ("1.parquet", "2.csv", "more/3.csv")
        ]
        assert command("predict", "shop.safetensors", given, "--json") == (0, "".join(alone), "")
        assert "".join(alone).count("\n") == 1500
        assert command("predict", "shop.safetensors", given, "--out", "p.parquet") == (0, "", "Written: p.parquet, 1,500 rows\n")

    @pytest.mark.parametrize("given", ["parts", "parts/**/*.*"])
    def test_evaluates_all_rows(self, command, parts, shop, given):
        _, folder = shop
        whole = json.loads(command("evaluate", "shop.safetensors", folder / "shop.csv", "--json")[1])
        code, found, errors = command("evaluate", "shop.safetensors", given, "--json")
        assert (code, errors) == (0, "")
        assert json.loads(found)["confusion"] == whole["confusion"]
        assert json.loads(found)["log_loss"] == pytest.approx(whole["log_loss"])

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("age,colour,bought\n1,red,no\n", "There is no column 'size'."),
            ("age,colour,size,bought\n1,red,big,no\n", "column 'size' has the text 'big' where there were numbers."),
            ({"age": [1], "colour": ["red"], "size": ["big"], "bought": ["no"]}, "Column 'size' has something else"),
            ({"colour": ["red"], "bought": ["no"]}, "There is no column 'age'."),
            ("", "is empty."),
        ],
    )
    def test_the_file_at_fault_is_named(self, command, parts, content, message):
        import pyarrow
        import pyarrow.parquet

        wrong = parts / "more" / "wrong.parquet"  # kinds are told by what is in a file
        if isinstance(content, dict):
            pyarrow.parquet.write_table(pyarrow.table(content), wrong)
        else:
            wrong.write_text(content)
        name = str(wrong.relative_to(parts.parent))
        for arguments in (["predict", "--out", "p.csv"], ["evaluate"]):
            code, _, errors = command(arguments[0], "shop.safetensors", "parts", *arguments[1:])
            assert (code, errors.count("\n"), errors.count(name)) == (1, 1, 1)
            assert errors.startswith(name)
            assert message in errors
            assert not (parts.parent / "p.csv").exists()

    def test_a_class_that_one_of_them_has(self, command, parts):
        (parts / "more" / "wrong.csv").write_text("age,colour,size,bought\n1,red,1e6,maybe\n")
        code, _, errors = command("evaluate", "shop.safetensors", "parts")
        name = Path("parts", "more", "wrong.csv")
        assert (code, errors) == (1, f"{name}: Column 'bought' has the class 'maybe', which the model does not know.\n")

    def test_files_are_read_one_after_the_other(self, command, parts):
        """What comes before a file that cannot be read has been predicted already."""
        (parts / "more" / "wrong.csv").write_text("age,colour,size\n1,red,big\n")
        code, out, _ = command("predict", "shop.safetensors", "parts")
        assert (code, out.count("\n")) == (1, 1501)

    def test_a_column_is_missed_before_anything_is_predicted(self, command, parts):
        (parts / "more" / "wrong.csv").write_text("age,colour\n1,red\n")
        assert command("predict", "shop.safetensors", "parts")[:2] == (1, "")

    @pytest.mark.parametrize("action", ["predict", "train"])
    def test_none_of_them_is_replaced(self, command, parts, action):
        before = (parts / "2.csv").read_bytes()
        arguments = ["predict", "shop.safetensors", "parts"] if action == "predict" else ["train", "parts", "--target", "bought"]
        code, _, errors = command(*arguments, "--out", "parts/2.csv", "--force")
        assert (code, errors) == (2, f"--out is {Path('parts/2.csv')}, which this command needs itself; give another name.\n")
        assert (parts / "2.csv").read_bytes() == before

    @pytest.mark.parametrize("action", ["predict", "evaluate"])
    def test_none_at_all(self, command, parts, action):
        assert command(action, "shop.safetensors", "*.csv") == (1, "", "There is no file whose name matches '*.csv'.\n")

    def test_no_rows_at_all(self, command, parts):
        code, _, errors = command("evaluate", "shop.safetensors", "parts/4.*")
        assert (code, errors) == (1, "parts/4.*: No row has a value of the target 'bought'.\n".replace("/", os.sep))


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
            (
                "\0\1\2",
                ["--target", "y"],
                1,
                "table.csv is not a table: it holds bytes that are no text; make CSV or Parquet of it.",
            ),
            (
                "a,y\n1,2\n",
                ["--target", "y", "--hidden", "x"],
                2,
                "--hidden must be widths of layers such as 64,64, or none, got 'x'.",
            ),
            ("a,y\n1,2\n", ["--target", "y", "--hidden", ""], 2, "or none, got ''."),
            ("a,y\n1,2\n", ["--target", "y", "--hidden", "64,none"], 2, "or none, got '64,none'."),
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
            ("age,colour,size,bought\n1,red,big,no\n", "column 'size' has the text 'big' where there were numbers"),
            ("age,colour,size,bought\n1,red\n", "line 2: 2 values where the other lines have 4"),
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


class TestKindsOfColumns:
    def test_truth_values_as_pandas_writes_them(self, command, tmp_path):
        random = np.random.default_rng(0)
        for name in ("a", "b"):
            flags = random.random(400) < 0.5
            numbers = random.random(400)
            rows = [f"{flag},{number:.3f},{'yes' if flag else 'no'}" for flag, number in zip(flags, numbers, strict=True)]
            (tmp_path / f"{name}.csv").write_text("\n".join(["flag,x,y", *rows]))
        model = tmp_path / "m.safetensors"
        assert command("train", tmp_path / "a.csv", "--target", "y", "--epochs", 40, "--out", model, "--quiet")[0] == 0
        code, out, _ = command("evaluate", model, tmp_path / "b.csv", "--json")
        assert code == 0
        assert json.loads(out)["accuracy"] > 0.99
        for spelling in (str.lower, str.upper):
            (tmp_path / "c.csv").write_text("\n".join(
                f"{spelling(flag)},{rest}" if flag in ("True", "False") else f"{flag},{rest}"
                for flag, rest in (line.split(",", 1) for line in (tmp_path / "b.csv").read_text().splitlines())
            ))  # fmt: skip
            assert command("evaluate", model, tmp_path / "c.csv", "--json")[1] == out

    @pytest.mark.parametrize("stream", [(), ("--stream",)])
    def test_a_target_of_codes_keeps_its_zeros(self, command, tmp_path, stream):
        lines = [f"{number},{'007' if number % 2 else '7'}" for number in range(300)]
        (tmp_path / "t.csv").write_text("\n".join(["x,y", *lines]))
        model = tmp_path / "m.safetensors"
        options = ("--categories", "y", "--epochs", 1, "--out", model, "--quiet", *stream)
        code, _, errors = command("train", tmp_path / "t.csv", "--target", "y", *options)
        assert code == 0, errors
        _, out, _ = command("predict", model, tmp_path / "t.csv", "--proba")
        assert out.splitlines()[0] == "y,probability of 007,probability of 7"
        assert command("evaluate", model, tmp_path / "t.csv")[0] == 0


class TestSettingsThatCount:
    def test_weight_decay_of_every_optimizer(self, command, tables, tmp_path):
        weights = []
        for decay in (0, 5):
            out = tmp_path / f"{decay}.safetensors"
            settings = ("optimizer=sgd", "learning_rate=0.1", f"weight_decay={decay}")
            options = [part for setting in settings for part in ("--set", setting)]
            assert (
                command("train", tables / "shop.csv", "--target", "bought", "--epochs", 2, "--out", out, "--quiet", *options)[0]
                == 0
            )
            weights.append(np.concatenate([array.ravel() for array in load(out).w]))
        assert abs(weights[1]).sum() < abs(weights[0]).sum()

    @pytest.mark.parametrize("seed", [1 << 64, -1])
    def test_seeds_are_64_bits(self, command, tables, seed):
        code, _, errors = command("train", tables / "shop.csv", "--target", "bought", "--stream", "--set", f"seed={seed}")
        assert (code, errors) == (2, f"--set seed must be a whole number below 2**64, got {seed}.\n")

    def test_json_and_a_file_are_too_much(self, command, shop, tmp_path):
        done, folder = shop
        code, _, errors = command("predict", folder / done["model"], folder / "shop.csv", "--json", "--out", tmp_path / "o.csv")
        assert code == 2
        assert "--json is for the terminal" in errors
        assert not (tmp_path / "o.csv").exists()


@pytest.fixture(scope="module")
def predicted_in_ascii(tmp_path_factory):
    """A function that predicts, into a pipe, for a person whose terminal has ASCII only."""
    folder = tmp_path_factory.mktemp("letters")
    lines = [f"{number},{'grün 😀' if number % 2 else 'nein'}" for number in range(100)]
    (folder / "t.csv").write_text("\n".join(["größe,antwort", *lines]), "utf-8")
    assert fastmlp("train", "t.csv", "--target", "antwort", "--epochs", "1", "--quiet", cwd=folder).returncode == 0

    def run(*options):
        done = subprocess.run(
            [sys.executable, "-m", "fastmlp", "predict", "t.safetensors", "t.csv", "--proba", *options],
            cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}, capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


class TestLettersThatTheTerminalHasNot:
    def test_are_escaped_in_json(self, predicted_in_ascii):
        rows = [json.loads(line) for line in predicted_in_ascii("--json").decode("ascii").splitlines()]
        assert len(rows) == 100
        assert all(list(row) == ["antwort", "probability of grün 😀", "probability of nein"] for row in rows)

    def test_are_there_in_csv(self, predicted_in_ascii):
        header, *rows = predicted_in_ascii().decode("utf-8").splitlines()
        assert header == "antwort,probability of grün 😀,probability of nein"
        assert len(rows) == 100
