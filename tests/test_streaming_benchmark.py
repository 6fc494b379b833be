"""The benchmark of training from files runs, and its figures are those of the same training."""

from __future__ import annotations

import pytest

from benchmarks import streaming


def test_all_ways_train_on_the_same_rows(tmp_path):
    pytest.importorskip("pyarrow")
    streaming.make_files(tmp_path, 5000)
    results = {way: streaming.measure(way, tmp_path) for way in streaming.WAYS}
    assert {one["rows"] for one in results.values()} == {5000}
    assert results["memory"]["loss"] == pytest.approx(results["npy"]["loss"]) == pytest.approx(results["parquet"]["loss"])
    lines = streaming.table(results).splitlines()
    assert [line.count("|") for line in lines] == [7] * 8
    assert "| 100%, 100% |" in lines[2]
