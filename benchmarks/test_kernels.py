"""The kernels under pytest-benchmark: ``pytest benchmarks --benchmark-enable``. Every case checks what it has timed.

Without ``--benchmark-enable`` each case runs once, as a test.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.peers import PEERS
from benchmarks.problems import PROBLEMS, SEED, make_task
from benchmarks.run import TOLERANCE, judged_loss
from fastmlp import MLP, ReferenceMLP

ROWS = 300
"""Enough for several steps of most problems; a step of the widest takes NumPy a tenth of a second."""


def measure(benchmark: BenchmarkFixture, call: Callable[..., Any], *arguments: Any) -> Any:
    return benchmark.pedantic(call, arguments, rounds=5, iterations=1, warmup_rounds=2)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("name", PROBLEMS)
def test_epoch(benchmark: BenchmarkFixture, name: str) -> None:
    problem = PROBLEMS[name]
    task = make_task(problem, ROWS)
    epochs = 0
    with closing(PEERS["fastmlp"].prepare(task)) as ours, closing(PEERS["reference"].prepare(task)) as theirs:

        def epoch() -> None:
            nonlocal epochs
            epochs += 1  # how often this is called depends on pytest's options
            ours.epoch()

        measure(benchmark, epoch)
        for _ in range(epochs):
            theirs.epoch()
        loss, expected = judged_loss(task, ours.theta()), judged_loss(task, theirs.theta())
    assert np.isfinite(loss)
    assert loss < judged_loss(task, task.theta)
    assert loss == pytest.approx(expected, rel=TOLERANCE[problem.dtype])


@pytest.mark.parametrize("rows", [1, 4096])
def test_predict(benchmark: BenchmarkFixture, rows: int) -> None:
    problem = PROBLEMS["mnist"]
    x = np.random.default_rng(SEED).standard_normal((rows, problem.sizes[0]), dtype=np.float32)
    outputs = measure(benchmark, problem.network(MLP).predict, x)
    np.testing.assert_allclose(outputs, problem.network(ReferenceMLP).predict(x), rtol=1e-4, atol=1e-6)


def test_loss_and_grad(benchmark: BenchmarkFixture) -> None:
    rng = np.random.default_rng(SEED)
    x, y = rng.standard_normal((200, 24)), rng.standard_normal((200, 2))
    ours, theirs = (kind((24, 8, 2), "tanh", dtype="float64", random_state=SEED) for kind in (MLP, ReferenceMLP))
    loss, gradient, weight = measure(benchmark, ours.loss_and_grad, ours.theta, x, y)
    expected_loss, expected_gradient, expected_weight = theirs.loss_and_grad(theirs.theta, x, y)
    assert loss == pytest.approx(expected_loss, rel=1e-12)
    assert weight == expected_weight
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-9, atol=1e-9)
