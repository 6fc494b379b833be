"""The kernels under pytest-benchmark: ``pytest benchmarks --benchmark-only``. Every case checks what it has timed.

Without ``--benchmark-only`` each case runs once, as a test.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from fastmlp import MLP, OPTIMIZERS, ReferenceMLP

from .lab import PARTS, Tile, _repeat_tile, step_of
from .peers import PEERS
from .peers.peer import Training
from .problems import PROBLEMS, SEED, TOLERANCE, Task, make_task
from .sections.training import judged_loss

ROOT = Path(__file__).parent.parent

ROWS = 300
"""Enough for several steps of most problems; a step of the widest takes NumPy a tenth of a second."""


def training_of(name: str, task: Task) -> Training:
    prepare = PEERS[name].prepare
    assert prepare is not None
    return prepare(task, None)


def measure(benchmark: BenchmarkFixture, call: Callable[..., Any], *arguments: Any) -> Any:
    return benchmark.pedantic(call, arguments, rounds=5, iterations=1, warmup_rounds=2)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("name", PROBLEMS)
def test_epoch(benchmark: BenchmarkFixture, name: str) -> None:
    problem = PROBLEMS[name]
    task = make_task(problem, ROWS)
    epochs = 0
    with closing(training_of("fastmlp", task)) as ours, closing(training_of("reference", task)) as theirs:

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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tile(benchmark: BenchmarkFixture, dtype: str) -> None:
    tile = Tile(np.dtype(dtype))
    rows, columns, depth = tile.shape
    a, b, c = tile.operands()
    measure(benchmark, _repeat_tile, 1, rows, columns, depth, a, b, c)
    times = round(c[0] / (a[:depth] @ b[::columns]))  # C grows by the product each time
    expected = times * a.reshape(rows, depth).astype(np.float64) @ b.reshape(depth, columns)
    np.testing.assert_allclose(c.reshape(rows, columns), expected, rtol=1e-4, atol=1e-4)
    assert times >= 1


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", ["digits", "higgs"])
def test_part_of_a_step(benchmark: BenchmarkFixture, name: str, part: str) -> None:
    with step_of(make_task(PROBLEMS[name], ROWS)) as step:
        measure(benchmark, step.repeat(PARTS[part]), 1)
        assert np.isfinite(step.network.theta).all()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizer(benchmark: BenchmarkFixture, optimizer: str) -> None:
    task = make_task(replace(PROBLEMS["deep"], optimizer=optimizer), ROWS)
    with step_of(task) as step:
        before = step.network.theta
        measure(benchmark, step.repeat(PARTS["update"]), 1)
        assert np.isfinite(step.network.theta).all()
        assert np.array_equal(before, step.network.theta) == OPTIMIZERS[optimizer].plain  # whose update is made by the gradient


@pytest.mark.parametrize("name", ["digits", "mnist", "deep", "wide", "matexp"])
def test_the_parts_together_are_a_step(name: str) -> None:
    problem = PROBLEMS[name]
    task = make_task(problem, min(problem.batch_size, ROWS) if name != "matexp" else problem.rows)
    with closing(training_of("fastmlp", task)) as training, step_of(task) as step:
        training.epoch()
        np.testing.assert_array_equal(step.network.theta, training.theta())


def test_compilation(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fastmlp", "warmup", "--dtype", "float64"]

    def compile_all() -> str:
        directory = tempfile.mkdtemp(dir=tmp_path)
        environment = os.environ | {"FASTMLP_CACHE_DIR": directory}
        subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)
        return directory

    directory = benchmark.pedantic(compile_all, rounds=1)  # type: ignore[no-untyped-call]
    assert [path for path in Path(directory).rglob("*") if path.is_file()]


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
