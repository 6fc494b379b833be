"""GridSearchCV over a Pipeline with two workers, with scikit-learn's MLPRegressor and with this package's.

``python examples/grid_search.py [--quick]``
"""

from __future__ import annotations

import sys
import time
import warnings

from sklearn import neural_network
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastmlp


def search(kind: type, quick: bool) -> float:
    """Best score over the grid."""
    x, y = load_diabetes(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), kind(random_state=0, learning_rate_init=0.01, max_iter=50 if quick else 300))
    grid = {
        "mlpregressor__alpha": [0.01, 10.0],
        "mlpregressor__hidden_layer_sizes": [(10,)] if quick else [(10,), (50,), (50, 20)],
    }
    return float(GridSearchCV(pipeline, grid, cv=3, n_jobs=2).fit(x, y).best_score_)


def main(quick: bool) -> dict[str, float]:
    """Best score of each kind; prints them with the times."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    scores = {}
    for label, kind in {"scikit-learn": neural_network.MLPRegressor, "fastmlp": fastmlp.MLPRegressor}.items():
        search(kind, quick=True)  # starts the workers
        began = time.perf_counter()
        scores[label] = search(kind, quick)
        print(f"{label:<13} best R^2 {scores[label]:.3f}   {time.perf_counter() - began:6.2f} s")
    return scores


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
