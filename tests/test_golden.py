"""A short training whose losses are pinned: any change of the arithmetic, meant or not, is seen here.

Run this file as a script to print the losses anew, after a change that is meant.
"""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from fastmlp import MLP, ReferenceMLP

GOLDEN = {
    "squared_error": [
        0.7070762097733267,
        0.4424801810931461,
        0.4358403594057225,
        0.4304659552635301,
        0.42388835185016926,
        0.4155728955431908,
        0.4051223249623192,
        0.39252588050153814,
        0.37811181769468816,
        0.3620507398913057,
    ],
    "cross_entropy": [
        1.997286452782737,
        1.505338026740124,
        1.1536000249402285,
        0.8377093960134967,
        0.5904753622026742,
        0.4057084902969235,
        0.2733988287421138,
        0.20075314180402906,
        0.15913897014591777,
        0.12854302838516232,
    ],
}


def train(kind, loss, dtype="float64"):
    """Ten epochs on 300 digits; the initial weights are written by a formula, so that no random generator is part of it."""
    x, y = load_digits(return_X_y=True)
    x, y = x[:300] / 16, y[:300]
    output, optimizer, rate = ("sigmoid", "sgd", 0.5) if loss == "squared_error" else ("softmax", "adam", 0.01)
    net = kind((64, 15, 10), ("tanh", output), loss, dtype=dtype)
    net.theta = 0.3 * np.sin(1.7 * np.arange(net.theta.size))
    targets = np.eye(10)[y] if loss == "squared_error" else y
    net.fit(x, targets, epochs=10, batch_size=16, optimizer=optimizer, learning_rate=rate, shuffle=False)
    return net.loss_curve_


@pytest.mark.parametrize("loss", GOLDEN)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-4)])
def test_golden_trajectory(kind, loss, dtype, tolerance):
    np.testing.assert_allclose(train(kind, loss, dtype), GOLDEN[loss], rtol=tolerance)


if __name__ == "__main__":
    for name in GOLDEN:
        assert np.allclose(train(MLP, name), train(ReferenceMLP, name), rtol=1e-12)
        print(f'    "{name}": {train(ReferenceMLP, name)},')
