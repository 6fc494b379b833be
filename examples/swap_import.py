"""scikit-learn's MLPClassifier and this package's: one script, both imports, the scores and the times.

``python examples/swap_import.py [--quick]``
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings

import numpy as np
from sklearn import neural_network
from sklearn.datasets import load_digits, make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import cross_val_score, train_test_split

import fastmlp

KINDS = {"scikit-learn": neural_network.MLPClassifier, "fastmlp": fastmlp.MLPClassifier}
ROUNDS = 3
REST = 0.25
"""Seconds before each turn. The threads of a BLAS go on spinning for a tenth of a second after its last product."""

Data = tuple[np.ndarray, np.ndarray]


def cross_validated(kind: type, data: Data, folds: int) -> float:
    return float(np.mean(cross_val_score(kind(random_state=0), *data, cv=folds)))


def held_out(kind: type, data: Data) -> float:
    x_train, x_test, y_train, y_test = train_test_split(*data, random_state=0)
    return float(kind(random_state=0, max_iter=10).fit(x_train, y_train).score(x_test, y_test))


def main(quick: bool) -> dict[str, list[float]]:
    """Scores of both kinds on each task; prints them with the times."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    rows = 2_000 if quick else 100_000
    digits = load_digits(return_X_y=True)
    table = make_classification(rows, 50, n_informative=20, n_classes=3, random_state=0)
    for kind in KINDS.values():
        kind(max_iter=1).fit(*digits)  # starts threads; compiles, the first time ever
    tasks = {
        "digits, cross-validated": lambda kind: cross_validated(kind, digits, folds=2 if quick else 5),
        f"{rows} rows x 50": lambda kind: held_out(kind, table),
    }
    scores: dict[str, list[float]] = {}
    for name, task in tasks.items():
        seconds: dict[str, list[float]] = {label: [] for label in KINDS}
        for _ in range(ROUNDS):  # in turns, so that what slows the machine down for a while slows both
            for label, kind in KINDS.items():
                time.sleep(REST)
                began = time.perf_counter()
                score = task(kind)
                seconds[label].append(time.perf_counter() - began)
                if len(seconds[label]) == 1:
                    scores.setdefault(name, []).append(score)
        medians = {label: statistics.median(values) for label, values in seconds.items()}
        for (label, median), score in zip(medians.items(), scores[name], strict=True):
            print(f"{name:<24} {label:<13} score {score:.3f}   {median:7.2f} s")
        print(f"{'':<24} {medians['scikit-learn'] / medians['fastmlp']:.1f} times as fast")
    return scores


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
