"""scikit-learn's MLPClassifier and MLPRegressor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..problems import Array, Problem, Task
from .peer import Peer, Training

_ACTIVATIONS = {"relu": "relu", "tanh": "tanh", "sigmoid": "logistic", "leaky_relu": "relu"}


def _nearest(problem: Problem) -> str | None:
    """It has no leaky_relu, a regressor's outputs have no activation, and two classes share one logistic output.

    Its Adam adds epsilon before the bias is corrected, which can be seen in float64.
    """
    does = [_ACTIVATIONS[name] for name in problem.activation[:-1]]
    does.append("softmax" if problem.loss == "cross_entropy" else "identity")
    if problem.loss == "cross_entropy" and problem.sizes[-1] == 2:
        does[-1] = "logistic"
    wanted = [{"sigmoid": "logistic"}.get(name, name) for name in problem.activation]
    if does != wanted:
        return f"{'-'.join(does)} for {'-'.join(wanted)}"
    return "Adam with another epsilon" if problem.optimizer == "adam" and problem.dtype == "float64" else None


def _network(task: Task) -> tuple[Any, Array]:
    """An estimator with the problem's parameters in it, and the targets as it likes them."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    problem = task.problem
    classifies = problem.loss == "cross_entropy"
    network: Any = (MLPClassifier if classifies else MLPRegressor)(
        hidden_layer_sizes=problem.sizes[1:-1], activation=_ACTIVATIONS[problem.activation[0]], solver=problem.optimizer, alpha=0,
        batch_size=problem.batch_size, learning_rate_init=problem.learning_rate, momentum=0, nesterovs_momentum=False,
        shuffle=False, random_state=0,
    )  # fmt: skip
    y = task.y if task.y.ndim == 1 or task.y.shape[1] > 1 else task.y[:, 0]
    options = {"classes": np.arange(problem.sizes[-1])} if classifies else {}
    # One batch, so that everything is there; then all is put to the start.
    network.partial_fit(task.x[: problem.batch_size], y[: problem.batch_size], **options)
    for (w, b), weights, bias in zip(task.layers(), network.coefs_, network.intercepts_, strict=True):
        if w.shape == weights.shape:
            weights[:], bias[:] = w, b
    del network._optimizer
    return network, y


def _prepare(task: Task, threads: int | None) -> Training:
    network, y = _network(task)
    orders = task.orders()

    def epoch() -> None:
        order = next(orders)
        network.partial_fit(*((task.x, y) if order is None else (task.x[order], y[order])))

    def theta() -> Any:
        return task.flat(zip(network.coefs_, network.intercepts_, strict=True))

    return Training(epoch, theta, outputs=_outputs_of(network))


def _outputs_of(network: Any) -> Callable[[Array], Array]:
    predict: Callable[[Array], Array] = network.predict_proba if hasattr(network, "predict_proba") else network.predict
    return predict


def _predictor(task: Task, threads: int | None) -> Callable[[Array], Array]:
    return _outputs_of(_network(task)[0])


PEER = Peer(
    "sklearn",
    "scikit-learn's MLPClassifier and MLPRegressor",
    "An epoch is one partial_fit over all rows, in the problem's dtype, with its checks of the data as a person has them; "
    "rows are put in order by one fancy index, where its own shuffling takes one for each minibatch.",
    _prepare,
    packages=("sklearn",),
    nearest=_nearest,
    predictor=_predictor,
)
