"""What the README shows works, and what it names exists."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from fastmlp import ACTIVATIONS, INITIALIZERS, LOSSES, OPTIMIZERS, SCHEDULES
from tests.test_invariants import ROOT, run_python

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_python_blocks_run_one_after_the_other(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) >= 3
    script = tmp_path / "readme.py"
    script.write_text("\n".join(blocks), encoding="utf-8")
    printed = run_python(f"import os, runpy; os.chdir({str(tmp_path)!r}); runpy.run_path({str(script)!r})")
    accuracy, reading = printed.splitlines()
    assert float(accuracy) > 0.99
    assert reading.startswith("5,391 rows read; training waited")
    assert (tmp_path / "digits.safetensors").exists()


def test_commands_on_a_table_work(tmp_path):
    """Those that begin with a table called people.csv."""
    import numpy as np

    (block,) = [found for found in re.findall(r"```console\n(.*?)```", README, re.DOTALL) if "people.csv" in found]
    rng = np.random.default_rng(0)
    rows = [(age, job, "high" if (age > 40) ^ (job == "nurse") else "low") for age, job in zip(
        rng.integers(20, 70, 400), rng.choice(["nurse", "baker", "?"], 400), strict=True)]  # fmt: skip
    for name in ("people.csv", "new.csv"):
        (tmp_path / name).write_text("age,job,income\n" + "".join(f"{age},{job},{income}\n" for age, job, income in rows))
    commands = [line.partition("#")[0].split() for line in block.splitlines()]
    assert [command[:2] for command in commands] == [
        ["fastmlp", name] for name in ("train", "predict", "evaluate", "info", "export")
    ]
    for _, *arguments in commands:
        if arguments[0] == "export":
            pytest.importorskip("onnx")
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "fastmlp", *arguments],
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (arguments, done.stderr)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"people.safetensors", "curve.png", "predictions.csv", "people.onnx"} <= names


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\w\]\((\w[\w./-]+\.\w+)\)", README))))
def test_links_lead_somewhere(target):
    assert (ROOT / target).exists()


@pytest.mark.parametrize("table", [ACTIVATIONS, LOSSES, OPTIMIZERS, SCHEDULES, INITIALIZERS], ids=lambda table: table.kind)
def test_every_entry_is_named(table):
    words = set(re.findall(r"\w+", README))
    for name in table:
        assert name.removesuffix("_uniform") in words, name


def test_counts_in_the_changelog_are_those_of_the_tables():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sizes = [len(table) for table in (ACTIVATIONS, LOSSES, OPTIMIZERS, SCHEDULES, INITIALIZERS)]
    found = re.search(
        r"(\d+) activations, (\d+) losses, (\d+) optimizers, (\d+) learning-rate schedules, (\d+) initialisers", changelog
    )
    assert found is not None
    assert [int(count) for count in found.groups()] == sizes


@pytest.mark.parametrize("target", ["demo", "test", "lint", "bench"])
def test_make_knows_what_the_documents_name(target):
    """A dry run: the tests are no place to install into."""
    try:
        done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no make on this system")
    assert done.returncode == 0, done.stderr
    assert {"demo": "fastmlp train", "test": "pytest", "lint": "mypy", "bench": "benchmarks"}[target] in done.stdout


def test_the_test_command_is_what_ci_calls():
    assert "make test" in README
    assert (ROOT / ".ci/run").read_text().strip().endswith("make test")
