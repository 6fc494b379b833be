"""The simplest lesson: whatever you are asked, answer zero.

2-4-4-3, leaky ReLU, squared error, from 10,000 random points.

    python examples/zeros.py
"""

import numpy as np

from fastmlp import MLP


def main() -> None:
    points = np.random.default_rng(0).uniform(-1, 1, (10_000, 2))
    zeros = np.zeros((10_000, 3))

    # Here the objective is the sum over all points, as the printed losses are; a step's gradient is then the sum over its batch.
    net = MLP((2, 4, 4, 3), "leaky_relu", "squared_error", reduction="sum", random_state=0)
    print(f"Summed loss before: {net.eval_loss(points, zeros):.4f}")
    net.fit(points, zeros, epochs=20, batch_size=10, learning_rate=0.01)
    print(f"Summed loss after:  {net.eval_loss(points, zeros):.3e}")


if __name__ == "__main__":
    main()
