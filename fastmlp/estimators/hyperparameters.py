"""The parameters that both estimators have: what they mean, what each may be, and what is checked beyond that.

A new one is described and constrained here, and an argument of ``__init__`` in ``base.py``, ``classifier.py`` and ``regressor.py``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
from sklearn.utils._param_validation import Interval, Options, StrOptions

from fastmlp.activations import ACTIVATIONS, Activation
from fastmlp.optimizers import OPTIMIZERS, Optimizer
from fastmlp.schedules import SCHEDULES, Schedule

T = TypeVar("T")

PARAMETER_CONSTRAINTS: dict[str, list[Any]] = {
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    "activation": [StrOptions({*ACTIVATIONS, *ACTIVATIONS.aliases}), Activation, callable, list, tuple],
    "solver": [StrOptions({"lbfgs", "sgd", "adam"})],
    "alpha": [Interval(Real, 0, None, closed="left")],
    "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
    "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
    "power_t": [Interval(Real, 0, None, closed="left")],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "shuffle": ["boolean"],
    "random_state": ["random_state"],
    "tol": [Interval(Real, 0, None, closed="left")],
    "verbose": ["verbose"],
    "warm_start": ["boolean"],
    "momentum": [Interval(Real, 0, 1, closed="both")],
    "nesterovs_momentum": ["boolean"],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="left")],
    "beta_1": [Interval(Real, 0, 1, closed="left")],
    "beta_2": [Interval(Real, 0, 1, closed="left")],
    "epsilon": [Interval(Real, 0, None, closed="neither")],
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
    "max_fun": [Interval(Integral, 1, None, closed="left")],
    "optimizer": [None, StrOptions(set(OPTIMIZERS)), Optimizer],
    "learning_rate_schedule": [StrOptions(set(SCHEDULES)), Schedule],
    "weight_decay": [None, Interval(Real, 0, None, closed="left")],
    "max_grad_norm": [None, Interval(Real, 0, None, closed="neither")],
    "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
    "scoring": [None, str, callable],
    "max_time": [None, Interval(Real, 0, None, closed="neither")],
    "callbacks": ["array-like"],
    "n_threads": [None, Interval(Integral, 1, None, closed="left")],
}
"""What scikit-learn checks before each fit."""


def check_hidden_layer_sizes(hidden_layer_sizes: Any) -> list[int]:
    """Numbers of units of the hidden layers."""
    sizes = np.atleast_1d(np.asarray(hidden_layer_sizes, dtype=object)).tolist()
    if any(not isinstance(size, Integral) or isinstance(size, bool) or size <= 0 for size in sizes):
        raise ValueError(f"hidden_layer_sizes must be > 0, and whole numbers, got {sizes}.")
    return [int(size) for size in sizes]


def is_entry(given: Any, *names: str) -> bool:
    """Whether a name, or an entry of a table, is one of these; a person's own function of such a name is another."""
    return getattr(given, "name", given) in names and getattr(given, "source", None) is None


def check_hidden_activations(activation: Any, n_hidden: int) -> list[str | Activation]:
    """An activation for each hidden layer."""
    hidden = list(activation) if isinstance(activation, Sequence) and not isinstance(activation, str) else [activation] * n_hidden
    if len(hidden) != n_hidden:
        raise ValueError(
            f"activation must be one name, or one for each of the {n_hidden} hidden layers, got {len(hidden)}: {activation!r}."
        )
    for one in hidden:
        if is_entry(one, "softmax"):
            raise ValueError("activation is of the hidden layers, for which there is no softmax; a classifier's outputs have it.")
    return hidden


_PARAMETERS = """\
hidden_layer_sizes : array-like of shape (n_layers - 2,), default=(100,)
    Numbers of units of the hidden layers.
activation : str, Activation, callable or a list of them, default='relu'
    Of the hidden layers: any name of :data:`fastmlp.ACTIVATIONS`, among them 'identity', 'logistic', 'tanh' and 'relu', or a
    function of your own (:func:`fastmlp.make_activation`); one for all, or one for each.
solver : {'lbfgs', 'sgd', 'adam'}, default='adam'
    How the weights are found; 'lbfgs' suits small data. It knows no early stopping, and to its callbacks an iteration is an epoch.
alpha : float, default=0.0001
    Strength of the L2 penalty: each minibatch adds alpha / (2 * its weight) * (sum of squared weights) to the loss.
batch_size : int, default='auto'
    Rows of a minibatch; 'auto' is min(200, n_samples). L-BFGS has none.
learning_rate : {'constant', 'invscaling', 'adaptive'}, default='constant'
    For solver='sgd': 'invscaling' is ``learning_rate_init / (t_ + 1) ** power_t`` after each epoch, 'adaptive' divides the rate
    by 5 whenever training has stopped improving.
learning_rate_init : float, default=0.001
    The learning rate at the beginning.
power_t : float, default=0.5
    Exponent of 'invscaling'.
max_iter : int, default=200
    Most epochs, or iterations of L-BFGS.
shuffle : bool, default=True
    Whether each epoch has its own order of rows.
random_state : int, RandomState instance, default=None
    For the initial weights, the validation split and the order of rows.
tol : float, default=1e-4
    Improvements smaller than this do not count.
verbose : bool, default=False
    Whether to print the loss of each epoch.
warm_start : bool, default=False
    Whether ``fit`` goes on from the last solution, the state of its optimizer included.
momentum : float, default=0.9
    For solver='sgd'.
nesterovs_momentum : bool, default=True
    Whether the momentum is Nesterov's.
early_stopping : bool, default=False
    Whether to stop when the score on held-out rows has stopped improving, and to return to the weights of the best score.
validation_fraction : float, default=0.1
    Share of the rows to hold out.
beta_1, beta_2, epsilon : float, default=0.9, 0.999, 1e-8
    For solver='adam'.
n_iter_no_change : int, default=10
    Epochs without improvement that are allowed.
max_fun : int, default=15000
    Most evaluations by L-BFGS.
"""

_ADDED_PARAMETERS = """\
optimizer : str or Optimizer, default=None
    Any of :data:`fastmlp.OPTIMIZERS`, in the place of ``solver``.
learning_rate_schedule : str or Schedule, default='constant'
    Any of :data:`fastmlp.SCHEDULES`; multiplies the learning rate, with any optimizer.
weight_decay : float, default=None
    Decoupled weight decay; None for the optimizer's own.
max_grad_norm : float, default=None
    Gradients are scaled down to this Euclidean norm.
dropout : float or array-like of shape (n_layers - 2,), default=0.0
    Probability with which a step of training leaves out an output of a hidden layer; one for all, or one for each. The others are
    divided by 1 - dropout.
scoring : str or callable, default=None
    What early stopping looks at; None for {score}.
max_time : float, default=None
    Seconds after which no further epoch begins.
callbacks : sequence of callbacks, default=()
    Those of :mod:`fastmlp.callbacks`, and those of :mod:`sklearn.callback`, which ``set_callbacks`` takes as well.
n_threads : int, default=None
    Threads; None for as many as are fastest.
"""

_ATTRIBUTES = """\
coefs_, intercepts_ : list of ndarray
    Weights (fan_in, fan_out) and biases (fan_out,) of each layer.
loss_ : float
    Of the last epoch.
best_loss_ : float or None
    Lowest of ``loss_curve_``; None with early stopping.
loss_curve_ : list of float
    Loss of each epoch, or of each iteration of L-BFGS.
validation_scores_ : list of float or None
    With early stopping.
validation_loss_curve_ : list of float
    Loss of the validation rows after each epoch, if there are any.
best_validation_score_ : float or None
t_ : int
    Rows that have been trained on in all.
n_iter_ : int
    Epochs or iterations of the last call.
reading_ : fastmlp.feed.Reading or None
    What has been waited for while rows of a source were read; None where all were in memory, and with L-BFGS.
n_layers_, n_outputs_, n_features_in_ : int
feature_names_in_ : ndarray of shape (n_features,)
out_activation_ : str
"""


def with_shared_documentation(score: str) -> Callable[[type[T]], type[T]]:
    """Put what both estimators have into their docstrings; ``score``: what early stopping looks at."""

    def document(estimator: type[T]) -> type[T]:
        if estimator.__doc__:  # not with python -OO
            text = inspect.cleandoc(estimator.__doc__)
            shared = {"parameters": _PARAMETERS, "added_parameters": _ADDED_PARAMETERS, "attributes": _ATTRIBUTES}
            for name, lines in shared.items():
                text = text.replace(f"{{{name}}}\n", lines.replace("{score}", score))
            estimator.__doc__ = text
        return estimator

    return document
