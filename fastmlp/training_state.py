"""All that a training needs to go on in another process as if it had never stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class TrainingState:
    """A training between two epochs; the parameters are the network's.

    Parameters
    ----------
    epoch : int
        Epochs that are done.
    steps : int
        Steps that are done.
    optimizer : list of ndarray (n_parameters,)
        The optimizer's state, laid out as :attr:`fastmlp.MLP.theta`.
    generator : dict
        Of the network's random numbers: the state of its bit generator.
    loss_curve : list of float
    options : dict
        What the training was called with, as far as its numbers depend on it.
    """

    epoch: int
    steps: int
    optimizer: list[Array]
    generator: dict[str, Any]
    loss_curve: list[float]
    options: dict[str, Any]

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Refuse to go on with something else.

        Raises
        ------
        ValueError
            Which names the first option that differs, and both values.
        """
        for name, value in options.items():
            before = self.options.get(name)
            if before != value:
                raise ValueError(
                    f"resume: the checkpoint was written with {name}={before!r}, but this training has {name}={value!r}."
                )
