"""The examples, run as a person runs them."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.test_invariants import ROOT

EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))


def run(name, *arguments):
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / name), *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def number(pattern, text):
    (found,) = re.findall(pattern, text)
    return float(found)


def test_xor():
    out = run("xor.py")
    rows = re.findall(r"^([01])  ([01]) +([01]) +(\d\.\d+)$", out, re.MULTILINE)
    assert len(rows) == 4
    for a, b, label, output in rows:
        assert int(label) == int(a) ^ int(b)
        assert round(float(output)) == int(label)
    assert number(r"after: +([\d.]+)", out) < 0.1 * number(r"before: +([\d.]+)", out)


def test_digits():
    out = run("digits.py")
    assert number(r"trained on: ([\d.]+)", out) >= 0.99
    assert "precision    recall  f1-score" in out


def test_quadrants(tmp_path):
    out = run("quadrants.py", "--output", str(tmp_path / "pictures"))
    before, after = number(r"before: +(\d+) of 1000", out), number(r"after: +(\d+) of 1000", out)
    assert before < 700
    assert after > 900
    assert (tmp_path / "pictures" / "quadrants.png").read_bytes().startswith(b"\x89PNG")


def test_zeros():
    out = run("zeros.py")
    assert number(r"after: +(\S+)", out) < 1e-3 * number(r"before: +(\S+)", out)


def test_gradients():
    out = run("gradients.py")
    assert number(r"largest difference: (\S+)", out) < 1e-14
    assert number(r"   difference: (\S+)", out) < 1e-8
    assert number(r"difference of all parameters: (\S+)", out) < 1e-12
    for ours, theirs in (("network ", "formula "), ("backprop +", "difference quotient ")):
        (mine,), (expected,) = (re.findall(rf"{name}(-?[\d.]+)$", out, re.M) for name in (ours, theirs))
        assert float(mine) == pytest.approx(float(expected), abs=1e-7)


def test_every_example_has_a_test():
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {name.removesuffix(".py") for name in EXAMPLES} <= tested


def test_swap_import():
    out = run("swap_import.py", "--quick")
    scores = [float(score) for score in re.findall(r"score ([\d.]+)", out)]
    assert len(scores) == 4
    for theirs, ours in zip(scores[::2], scores[1::2], strict=True):
        assert ours == pytest.approx(theirs, abs=0.05)
    assert len(re.findall(r"times as fast", out)) == 2


def test_grid_search():
    theirs, ours = (float(score) for score in re.findall(r"best R\^2 (-?[\d.]+)", run("grid_search.py", "--quick")))
    assert ours == pytest.approx(theirs, abs=0.1)


def test_larger_than_memory():
    out = run("larger_than_memory.py", "--megabytes", "224", "--epochs", "1", "--buffer", "16")
    assert number(r"trained: 1 epochs in [\d.]+ s, ([\d.]+) million", out) > 0
    assert "2,097,152 rows read; training waited" in out
    if sys.platform == "linux":
        assert "reading it whole: MemoryError" in out
        assert number(r"peak memory: (\d+) MiB", out) < 500
