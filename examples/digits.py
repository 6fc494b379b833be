"""Handwritten digits: 64-15-10, ReLU then sigmoid, squared error, batches of 15, 100 epochs.

python examples/digits.py
"""

import time

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, classification_report

from fastmlp import MLP


def main() -> None:
    images, digits = load_digits(return_X_y=True)
    x = images / 16  # pixels are 0 .. 16
    targets = np.eye(10)[digits]  # squared error wants a row of ten numbers for each image

    net = MLP((64, 15, 10), ("relu", "sigmoid"), "squared_error", random_state=0)
    start = time.perf_counter()
    net.fit(x, targets, epochs=100, batch_size=15, learning_rate=0.5)
    seconds = time.perf_counter() - start

    predicted = net.predict(x).argmax(axis=1)
    print(classification_report(digits, predicted, digits=3))
    print(f"Loss of the first epoch {net.loss_curve_[0]:.4f}, of the last {net.loss_curve_[-1]:.4f}")
    print(f"Trained in {seconds:.2f} s, the compiler's time included if it was needed")
    print(f"Accuracy on the {len(x)} images it was trained on: {accuracy_score(digits, predicted):.4f}")


if __name__ == "__main__":
    main()
