"""The command line, as a person runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

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
    assert len(list((tmp_path / "cache").rglob("*.kernel"))) == 3
    assert str(tmp_path / "cache") in done.stdout
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
