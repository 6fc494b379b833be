"""The order of rows: a permutation, a random one, and the same one from kernels and from NumPy."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from fastmlp import MLP, ReferenceMLP, shuffle
from fastmlp.kernels.shuffle import draw_order, fill_order
from fastmlp.shuffle import DRAWN_ROWS, Order

LARGE = [70_001, 99_991, 2**17 - 1, 2**17, 2**17 + 1, DRAWN_ROWS + 1, 1_000_003]


@pytest.fixture
def none_drawn(monkeypatch):
    """Orders of any size are computed."""
    monkeypatch.setattr(shuffle, "DRAWN_ROWS", 0)


def computed(rows, seed=0):
    """The same from the kernel."""
    order = Order(rows, np.random.default_rng(seed))
    assert not order.is_drawn
    out = np.empty(rows, np.int64)
    fill_order(order.keys, order.bits, order.radix, rows, 0, out)
    return out


@pytest.mark.parametrize("rows", LARGE)
def test_every_row_comes_once(none_drawn, rows):
    assert np.array_equal(np.sort(computed(rows)), np.arange(rows))


def test_every_row_comes_once_for_any_number_of_rows(none_drawn):
    for rows in [*range(1, 300), 4095, 4096, 4097]:
        order = Order(rows, np.random.default_rng(rows))
        assert np.array_equal(np.sort(order[0:rows]), np.arange(rows))
        assert np.array_equal(computed(rows, rows), order[0:rows])


@pytest.mark.parametrize("rows", LARGE)
def test_kernels_and_numpy_agree_on_any_stretch(none_drawn, rows):
    order = Order(rows, np.random.default_rng(3))
    whole = order[0:rows]
    for first, count in ((0, 1), (17, 1000), (rows - 5, 5)):
        out = np.empty(count, np.int64)
        fill_order(order.keys, order.bits, order.radix, rows, first, out)
        assert np.array_equal(out, whole[first : first + count])
    assert np.array_equal(order[rows - 3 : rows + 10], whole[-3:])


@pytest.mark.parametrize("rows", [*range(9), 1000, DRAWN_ROWS])
def test_every_row_comes_once_where_orders_are_drawn(rows):
    order, out = Order(rows, np.random.default_rng(rows)), np.empty(rows, np.int64)
    assert order.is_drawn
    draw_order(order.keys, out)
    assert np.array_equal(np.sort(out), np.arange(rows))
    assert np.array_equal(order[0:rows], out)
    assert np.array_equal(order[2:7], out[2:7])


@pytest.mark.parametrize("rows", [2, 3, 4, 5])
def test_each_order_of_a_few_rows_is_as_likely(rows):
    generator = np.random.default_rng(rows)
    counts = Counter(tuple(Order(rows, generator)[0:rows].tolist()) for _ in range(200 * math.factorial(rows)))
    assert len(counts) == math.factorial(rows)
    assert p_value(np.array([*counts.values()])) > 1e-4


@pytest.mark.parametrize("rows", [1000, DRAWN_ROWS + 1])
def test_seeds(rows):
    one, same, other = (Order(rows, np.random.default_rng(seed))[0:rows] for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert (one == other).mean() < 1e-2
    generator = np.random.default_rng(1)
    assert not np.array_equal(Order(rows, generator)[0:99], Order(rows, generator)[0:99])  # one epoch and the next


def p_value(counts):
    return stats.chisquare(counts.ravel()).pvalue


@pytest.mark.parametrize("rows", [70_001, 2**17])
@pytest.mark.parametrize("is_drawn", [True, False])
class TestUniformity:
    """Statistics over many epochs; each p-value is uniform for a random order, so far from 0 nearly always."""

    EPOCHS, BUCKETS = 200, 16

    @pytest.fixture(autouse=True)
    def _as_said(self, is_drawn, monkeypatch):
        monkeypatch.setattr(shuffle, "DRAWN_ROWS", DRAWN_ROWS if is_drawn else 0)

    def epochs(self, rows):
        generator = np.random.default_rng(rows)
        return (Order(rows, generator)[0:rows] for _ in range(self.EPOCHS))

    def test_rows_go_everywhere(self, rows):
        """From each part of the data to each part of the epoch, as often as chance says; neighbours go apart."""
        moves = np.zeros((self.BUCKETS, self.BUCKETS))
        distances, batches = np.zeros(self.BUCKETS), np.zeros(self.BUCKETS)
        part = np.arange(rows) * self.BUCKETS // rows
        edge = rows // self.BUCKETS
        for order in self.epochs(rows):
            sample = slice(0, rows, 97)
            np.add.at(moves, (part[sample], part[order[sample]]), 1)
            steps = (order[1::97] - order[:-1:97]) % rows
            np.add.at(distances, np.minimum(steps // (edge + 1), self.BUCKETS - 1), 1)
            batches += np.bincount(part[order[:256]], minlength=self.BUCKETS)
        expected = np.bincount(np.minimum(np.arange(1, rows) // (edge + 1), self.BUCKETS - 1), minlength=self.BUCKETS)
        assert p_value(moves) > 1e-4
        assert stats.chisquare(distances, expected * distances.sum() / expected.sum()).pvalue > 1e-4
        assert p_value(batches) > 1e-4

    def test_one_row_goes_everywhere(self, rows):
        """The first, the last and a row in the middle: over epochs, each position in 16 parts is as likely as another."""
        parts = {place: np.zeros(self.BUCKETS) for place in (0, 1, rows // 2, rows - 1)}
        pairs = np.zeros((4, 4))
        for order in self.epochs(rows):
            for place, counts in parts.items():
                counts[order[place] * self.BUCKETS // rows] += 1
            pairs[order[0] * 4 // rows, order[1] * 4 // rows] += 1
        assert min(map(p_value, parts.values())) > 1e-4
        assert p_value(pairs) > 1e-4

    def test_low_bits_are_mixed(self, rows):
        """Data is often sorted or periodic: the parity of a row says nothing of that of its position, nor of the next one's."""
        table, runs = np.zeros((2, 2)), np.zeros((2, 2))
        for order in self.epochs(rows):
            np.add.at(table, (np.arange(rows)[::89] & 1, order[::89] & 1), 1)
            np.add.at(runs, (order[:-1:89] & 1, order[1::89] & 1), 1)
        assert stats.chi2_contingency(table).pvalue > 1e-4
        assert stats.chi2_contingency(runs).pvalue > 1e-4


def test_both_networks_use_the_same_order():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(DRAWN_ROWS + 100, 2)), rng.normal(size=(DRAWN_ROWS + 100, 1))
    nets = [kind((2, 3, 1), "tanh", dtype="float64", random_state=1) for kind in (MLP, ReferenceMLP)]
    for net in nets:
        net.fit(x, y, epochs=2, batch_size=200, learning_rate=0.1)
    np.testing.assert_allclose(nets[0].theta, nets[1].theta, rtol=1e-9)
