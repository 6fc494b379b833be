"""XOR: the smallest thing that a network needs a hidden layer for.

2-3-1, tanh then sigmoid, log loss, full batch, 1,500 epochs of plain gradient descent at rate 0.1.

    python examples/xor.py
"""

import numpy as np

from fastmlp import MLP

INPUTS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
LABELS = np.array([0, 1, 1, 0])


def main() -> None:
    net = MLP((2, 3, 1), ("tanh", "sigmoid"), "binary_cross_entropy", random_state=1)
    print(f"Loss before: {net.eval_loss(INPUTS, LABELS):.4f}")
    net.fit(INPUTS, LABELS, epochs=1500, batch_size=4, learning_rate=0.1)
    print(f"Loss after:  {net.eval_loss(INPUTS, LABELS):.4f}\n")

    print("a  b  a xor b  network")
    for (a, b), label, output in zip(INPUTS, LABELS, net.predict(INPUTS)[:, 0], strict=True):
        print(f"{a}  {b}  {label:7}  {output:7.3f}")


if __name__ == "__main__":
    main()
