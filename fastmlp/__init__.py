"""Multilayer perceptrons that train fast on a CPU, in kernels that numba compiles from readable code."""

import typing

from fastmlp.activations import ACTIVATIONS as ACTIVATIONS
from fastmlp.activations import Activation as Activation
from fastmlp.exceptions import DivergenceError as DivergenceError
from fastmlp.losses import LOSSES as LOSSES
from fastmlp.losses import Loss as Loss
from fastmlp.mlp import MLP as MLP
from fastmlp.optimizers import OPTIMIZERS as OPTIMIZERS
from fastmlp.optimizers import Optimizer as Optimizer
from fastmlp.own import make_activation as make_activation
from fastmlp.own import make_loss as make_loss
from fastmlp.parameters import INITIALIZERS as INITIALIZERS
from fastmlp.parameters import Initializer as Initializer
from fastmlp.reference import ReferenceMLP as ReferenceMLP
from fastmlp.schedules import SCHEDULES as SCHEDULES
from fastmlp.schedules import Schedule as Schedule

if typing.TYPE_CHECKING:
    from fastmlp.estimators import MLPClassifier as MLPClassifier
    from fastmlp.estimators import MLPRegressor as MLPRegressor

__version__ = "0.1.0"

_ESTIMATORS = ("MLPClassifier", "MLPRegressor")
__all__ = [
    "ACTIVATIONS", "INITIALIZERS", "LOSSES", "MLP", "OPTIMIZERS", "SCHEDULES", "Activation", "DivergenceError", "Initializer",
    "Loss", "MLPClassifier", "MLPRegressor", "Optimizer", "ReferenceMLP", "Schedule", "make_activation", "make_loss",
]  # fmt: skip


def __getattr__(name: str) -> typing.Any:
    """The estimators, whose import brings scikit-learn, when somebody asks for them."""
    if name in _ESTIMATORS:
        from fastmlp import estimators

        return getattr(estimators, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_ESTIMATORS])
