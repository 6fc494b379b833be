"""What training takes beside the caller's array: a fixed amount and some multiples of the parameters."""

from __future__ import annotations

import sys
import tracemalloc

import numpy as np
import pytest

from fastmlp import MLP
from fastmlp.engine import limits
from tests.test_invariants import run_python


@pytest.mark.skipif(sys.platform == "win32", reason="the system does not say how much memory a process has had")
def test_training_takes_little_more_than_the_data():
    printed = run_python(
        """
        import numpy as np
        from benchmarks.machine import peak_memory
        from fastmlp import MLP

        rng = np.random.default_rng(0)
        x, y = np.empty((1_000_000, 28), np.float32), np.zeros(1_000_000, np.int64)
        rng.random(out=x, dtype=np.float32)
        y[::2] = 1
        net = MLP((28, 300, 300, 2), ("relu", "relu", "softmax"), "cross_entropy", random_state=0)
        net.fit(x[:70_000], y[:70_000], epochs=1, batch_size=1000, optimizer="adam")
        before = peak_memory()
        net.fit(x, y, epochs=1, batch_size=1000, optimizer="adam")
        print(peak_memory() - before, net.theta.nbytes)
        """
    )
    grown, parameters = map(int, printed.split())
    assert grown < 64 * 2**20 + 6 * parameters


@pytest.mark.skipif(sys.platform == "win32", reason="the system does not say how much memory a process has had")
def test_what_another_process_has_had_does_not_count():
    """Linux hands the high-water mark of a process on to those that it starts, where it hides whatever they take up to there."""
    np.ones(1 << 26)  # half a gigabyte, given back at once
    printed = run_python("""
        import numpy as np
        from benchmarks.machine import peak_memory

        before = peak_memory()
        np.ones(1 << 24)
        print(peak_memory() - before)
    """)
    assert int(printed) > 100 * 2**20


def test_gradients_that_are_large_are_not_kept():
    net = MLP((1000, 1000, 10))
    of_parameters = net.theta.nbytes
    x, labels = np.zeros((100, 1000), np.float32), np.zeros((100, 10), np.float32)
    net.backprop(x[:70], labels[:70])
    tracemalloc.start()
    for rows in range(71, 80):
        net.backprop(x[:rows], labels[:rows])
        net.backprop(x[: rows - 70], labels[: rows - 70])
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 3 * of_parameters  # what a kernel works in, with a copy of the weights, is kept once


def test_nor_are_many_that_are_small():
    """Of a long batch, parts have a gradient each."""
    net = MLP((64, 128, 10), random_state=0, n_threads=1)
    x, y = np.zeros((25_000, 64), np.float32), np.zeros((25_000, 10), np.float32)
    for rows in range(17_000, 25_000, 1000):
        net.loss_and_grad(net.theta, x[:rows], y[:rows])
    kept = list(net.engine._sessions._kept.values())
    assert sum(session._gradients.nbytes for session in kept) <= limits.MOST_SESSIONS * limits.KEPT_BYTES


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_callers_array_is_neither_copied_nor_written_to(dtype):
    x = np.random.default_rng(0).random((50, 4)).astype(dtype)
    net = MLP((4, 3, 1), dtype=dtype)
    assert net._check_data(x, np.zeros(50), None).x is x
    before = x.copy()
    net.fit(x, np.zeros(50), epochs=2, batch_size=7, optimizer="adam")
    assert np.array_equal(x, before)
