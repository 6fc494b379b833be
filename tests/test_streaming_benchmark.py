"""The benchmark of training from files runs, and its figures are those of the same training."""

from __future__ import annotations

import json
import subprocess

import pytest

from benchmarks import streaming
from tests.test_invariants import ROOT


def test_all_ways_train_on_the_same_rows(tmp_path):
    pytest.importorskip("pyarrow")
    streaming.make_files(tmp_path, 5000)
    results = {way: streaming.measure(way, tmp_path) for way in streaming.WAYS}
    assert {one["rows"] for one in results.values()} == {5000}
    losses = {way: one["loss"] for way, one in results.items() if way != "sklearn"}
    assert all(loss == pytest.approx(losses["memory"]) for loss in losses.values())
    lines = streaming.table(results).splitlines()
    assert [line.count("|") for line in lines] == [7] * 8
    assert "| 100%, 100% |" in lines[2]


def test_the_table_of_the_readme_is_that_of_the_figures_beside_it():
    (path,) = (ROOT / "benchmarks/results/streaming").glob("*.json")
    document = json.loads(path.read_text(encoding="utf-8"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert streaming.table(document["results"]) in readme
    assert document["results"]["parquet"]["reading"]  # of so many rows, none waits in memory
    assert streaming.report(document).count("\n| ") == 2 + len(streaming.WAYS)


@pytest.mark.parametrize(
    ("option", "content", "message"),
    [
        ("--report", None, "No such file or directory"),
        ("--report", "no JSON", "not JSON"),
        ("--report", '{"units": {}}', "is not of a run of benchmarks.streaming"),
        ("--folder", "a file", "must be a folder, or the name of a new one"),
    ],
)
def test_wrong_use_is_one_sentence(tmp_path, capsys, option, content, message):
    path = tmp_path / "given"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SystemExit) as caught:
        streaming.main([option, str(path)])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_what_goes_wrong_in_another_process_is_shown(tmp_path, capfd):
    with pytest.raises(subprocess.CalledProcessError):
        streaming.in_own_process("npy", tmp_path, 1)
    assert "There is no file" in capfd.readouterr().err


def test_an_earlier_run_is_reported(capsys):
    (path,) = (ROOT / "benchmarks/results/streaming").glob("*.json")
    streaming.main(["--report", str(path)])
    assert streaming.report(json.loads(path.read_text(encoding="utf-8"))) in capsys.readouterr().out
