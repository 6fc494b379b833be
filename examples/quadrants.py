"""Which sign has the product of two numbers? Learned online, one point at a time.

2-3-2, leaky ReLU, squared error, rate 0.05, over 99,000 random points of [-2, 2] x [-2, 2]. Draws what the network
answers before and after (needs matplotlib: pip install 'fastmlp[cli]').

    python examples/quadrants.py [--output FOLDER]
"""

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np

from fastmlp import MLP

mpl.use("Agg")  # a picture in a file, also where there is no screen
from matplotlib import pyplot as plt

COLOURS = np.array(["#c0504d", "#1f4e79"])


def make_points(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Random points, and for each whether the product of its coordinates is positive (1) or negative (0)."""
    points = rng.uniform(-2, 2, (count, 2))
    return points, (points.prod(axis=1) > 0).astype(int)


def draw(axes: plt.Axes, points: np.ndarray, answers: np.ndarray, title: str) -> None:
    axes.scatter(*points.T, c=COLOURS[answers], s=8)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set(title=title, xlabel="x", ylabel="y", aspect="equal", xlim=(-2, 2), ylim=(-2, 2))


def main() -> None:
    parser = argparse.ArgumentParser(description="Learn the sign of a product, online.")
    parser.add_argument("--output", type=Path, default=Path(), help="folder for the picture")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)

    rng = np.random.default_rng(0)
    points, signs = make_points(rng, 99_000)
    test_points, test_signs = make_points(rng, 1_000)
    targets = np.eye(2)[signs]  # one output for each sign

    # Three hidden units are just enough for four quadrants. From a third of all initial weights only three of them are learned;
    # not from these.
    net = MLP((2, 3, 2), "leaky_relu", "squared_error", random_state=9)
    before = net.predict(test_points).argmax(axis=1)
    net.fit(points, targets, epochs=1, batch_size=1, learning_rate=0.05, shuffle=False)
    after = net.predict(test_points).argmax(axis=1)

    hits_before, hits_after = int((before == test_signs).sum()), int((after == test_signs).sum())
    print(f"Hits before: {hits_before} of 1000")
    print(f"Hits after:  {hits_after} of 1000")

    figure, panels = plt.subplots(1, 2, figsize=(9, 4.6), layout="constrained")
    draw(panels[0], test_points, before, f"before: {hits_before} of 1000")
    draw(panels[1], test_points, after, f"after 99,000 points: {hits_after} of 1000")
    figure.suptitle("blue: the network says that x y is positive; red: negative")
    picture = folder / "quadrants.png"
    figure.savefig(picture, dpi=120)
    print(f"Picture: {picture}")


if __name__ == "__main__":
    main()
