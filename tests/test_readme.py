"""What the README shows works, and what it names exists."""

from __future__ import annotations

import re
import subprocess

import pytest

from fastmlp import ACTIVATIONS, INITIALIZERS, LOSSES, OPTIMIZERS, SCHEDULES
from tests.snippets import Block, blocks_of, run_blocks, write_people
from tests.test_invariants import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = blocks_of(README)


def test_python_blocks_run_one_after_the_other(tmp_path):
    blocks = [block for block in BLOCKS if block.kind == "python"]
    assert len(blocks) >= 3
    accuracy, reading = filter(None, run_blocks(blocks, tmp_path))
    assert float(accuracy) > 0.99
    assert reading.startswith("5,391 rows read; training waited")
    assert (tmp_path / "digits.safetensors").exists()


def test_commands_on_a_table_work(tmp_path):
    """Those that begin with a table called people.csv."""
    (block,) = [block for block in BLOCKS if block.kind == "console" and "people.csv" in block.code]
    *lines, export = block.code.splitlines()
    names = [line.split()[:2] for line in (*lines, export)]
    assert names == [["fastmlp", name] for name in ("train", "predict", "evaluate", "info", "export")]
    write_people(tmp_path)
    run_blocks([Block("console", "\n".join(lines))], tmp_path)
    assert {"people.safetensors", "curve.png", "predictions.csv"} <= {path.name for path in tmp_path.iterdir()}
    pytest.importorskip("onnx")
    run_blocks([Block("console", export)], tmp_path)
    assert (tmp_path / "people.onnx").exists()


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


@pytest.mark.parametrize("target", ["demo", "test", "lint", "docs", "bench"])
def test_make_knows_what_the_documents_name(target):
    """A dry run: the tests are no place to install into."""
    try:
        done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no make on this system")
    assert done.returncode == 0, done.stderr
    assert {"demo": "fastmlp train", "test": "pytest", "lint": "mypy", "docs": "sphinx", "bench": "benchmarks"}[
        target
    ] in done.stdout


def test_the_test_command_is_what_ci_calls():
    assert "make test" in README
    assert (ROOT / ".ci/run").read_text().strip().endswith("make test")
