"""Dropout: the same in both networks, the same bits however the work is cut, and masks that are as random as they should be."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse, stats

from fastmlp import MLP, ReferenceMLP
from fastmlp.dropout import mask, threshold

FLOAT64 = np.dtype(np.float64)


def trained(kind, sizes, batch_size, dropout, *, x=None, dtype="float64", n_threads=None, **options):
    rng = np.random.default_rng(0)
    rows = 83
    samples, y = rng.normal(size=(rows, sizes[0])), rng.normal(size=(rows, sizes[-1]))
    net = kind(sizes, ["sigmoid"] * (len(sizes) - 2) + ["identity"], dtype=dtype, random_state=1, n_threads=n_threads)
    options = {"epochs": 2, "learning_rate": 0.01} | options
    net.fit(samples if x is None else x(samples), y, batch_size=batch_size, dropout=dropout, **options)
    return net


@pytest.mark.parametrize("sizes", [(5, 9, 3), (5, 30, 20, 2), (7, 600, 300, 4)])
@pytest.mark.parametrize("batch_size", [1, 32, 83])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_both_networks_leave_out_the_same(sizes, batch_size, optimizer):
    """Through panels of rows, layer by layer (the large one, in large batches), and one sample a step."""
    dropout = [0.5, 0.2][: len(sizes) - 2]
    ours = trained(MLP, sizes, batch_size, dropout, optimizer=optimizer)
    theirs = trained(ReferenceMLP, sizes, batch_size, dropout, optimizer=optimizer)
    np.testing.assert_allclose(ours.theta, theirs.theta, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-9)
    without = trained(MLP, sizes, batch_size, 0.0, optimizer=optimizer)
    assert not np.allclose(ours.loss_curve_, without.loss_curve_, rtol=1e-3)


def test_sparse_samples():
    dense = trained(MLP, (5, 9, 3), 16, 0.4)
    compressed = trained(MLP, (5, 9, 3), 16, 0.4, x=sparse.csr_array)
    np.testing.assert_allclose(compressed.theta, dense.theta, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("sizes", [(5, 30, 20, 2), (7, 600, 300, 4)])
def test_the_same_bits_for_any_number_of_threads(sizes):
    one, two = (trained(MLP, sizes, 70, 0.3, dtype="float32", n_threads=n, optimizer="adam") for n in (1, 3))
    assert one.theta.tobytes() == two.theta.tobytes()


def test_none_is_drawn_without_dropout():
    """An unused feature leaves the random stream alone."""
    generator = np.random.default_rng(0)
    net = MLP((2, 3, 1), random_state=generator)
    before = generator.bit_generator.state
    net.fit(np.zeros((4, 2)), np.zeros((4, 1)), epochs=2, batch_size=4, dropout=[0.0])
    assert generator.bit_generator.state == before


def test_epochs_differ_and_a_seed_repeats():
    def losses():
        return trained(MLP, (5, 9, 3), 83, 0.5, epochs=6, learning_rate=1e-15).loss_curve_

    assert losses() == losses()
    assert len({round(loss, 6) for loss in losses()}) == 6


def test_predictions_are_those_of_the_whole_network():
    """What is learned with dropout is used without, and at the right scale: outputs agree with an average over thinned ones."""
    net = ReferenceMLP((4, 400, 1), ("identity", "identity"), dtype="float64", random_state=0)
    x = np.random.default_rng(1).normal(size=(3, 4))
    thinned = [
        net._forward(x, net.w, net.b, [mask(key, 0, slice(0, 3), 400, 0.5, FLOAT64)])[1][-1] for key in range(2000)
    ]  # fmt: skip
    np.testing.assert_allclose(np.mean(thinned, axis=0), net.predict(x), atol=5 * np.std(thinned) / np.sqrt(2000))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_masks_are_random(rate):
    """As often as asked for, and alike only by chance: between units, rows, layers and epochs."""
    masks = np.array([[mask(key, layer, slice(0, 500), 64, rate, FLOAT64) for layer in range(2)] for key in (7, 8)])
    assert set(np.unique(masks)) == {0.0, 1 / (1 - rate)}
    kept = masks > 0
    n = kept.size
    assert abs(kept.mean() - (1 - rate)) < 4 * np.sqrt(rate * (1 - rate) / n)
    for axis in ((0, 1, 2), (0, 1, 3)):  # of every unit, of every row
        counts = kept.sum(axis=axis)
        trials = n // counts.size
        chi2 = ((counts - trials * (1 - rate)) ** 2).sum() / (trials * rate * (1 - rate))
        assert 1e-4 < stats.chi2.sf(chi2, counts.size) < 1 - 1e-4
    centered = kept - (1 - rate)
    for axis in range(4):  # neighbours of every kind
        neighbours = np.take(centered, range(1, kept.shape[axis]), axis), np.take(centered, range(kept.shape[axis] - 1), axis)
        correlation = (neighbours[0] * neighbours[1]).mean() / (rate * (1 - rate))
        assert abs(correlation) < 4.5 / np.sqrt(neighbours[0].size)


def test_dropout_helps_where_a_network_overfits():
    """60 noisy rows of a linear rule, 500 units."""
    rng = np.random.default_rng(0)
    rule = rng.normal(size=20)
    x, x_test = rng.normal(size=(60, 20)), rng.normal(size=(2000, 20))
    y, y_test = (x @ rule + 4 * rng.normal(size=60) > 0).astype(int), (x_test @ rule > 0).astype(int)
    losses = []
    for dropout in (0.0, 0.9):
        net = MLP((20, 500, 1), ("relu", "sigmoid"), "binary_cross_entropy", random_state=0)
        net.fit(x, y, epochs=200, batch_size=20, learning_rate=1e-3, optimizer="adam", dropout=dropout)
        losses.append(net.eval_loss(x_test, y_test))
    assert losses[1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    ("dropout", "message"),
    [
        (1.0, r"dropout must be at least 0 and below 1, got 1\.0\."),
        (-0.1, r"dropout must be at least 0 and below 1, got -0\.1\."),
        ("half", r"dropout must be at least 0 and below 1, got 'half'\."),
        ([0.1, 0.2], r"dropout must be one number or one for each of the 1 hidden layers, got 2: \[0\.1, 0\.2\]\."),
    ],
)
def test_errors(kind, dropout, message):
    with pytest.raises(ValueError, match=message):
        kind((2, 3, 1)).fit([[0, 0]], [[0]], epochs=1, batch_size=1, dropout=dropout)


def test_a_threshold_fits_its_32_bits():
    assert threshold(1 - 1e-10) == 2**32 - 1
