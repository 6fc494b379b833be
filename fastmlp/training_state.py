"""All that a training needs to go on in another process as if it had never stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

_BIT_GENERATORS = {kind.__name__: kind for kind in (
    np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64,
)}  # fmt: skip


def generator_state(generator: np.random.Generator) -> dict[str, Any]:
    """The state of a generator, with lists where it has arrays."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: plain(one) for name, one in value.items()}
        return value.tolist() if isinstance(value, np.ndarray) else value

    state: dict[str, Any] = plain(generator.bit_generator.state)
    return state


def _check_generator(given: Mapping[str, Any]) -> None:
    """Refuse a state that no generator has, which NumPy takes: it would read beside its arrays, or draw one number for ever."""
    kind, state = given["bit_generator"], given["state"]
    is_known = (
        0 <= state["pos"] <= len(state["key"]) == 624 and (state["key"][0] >> 31 or any(state["key"][1:])) if kind == "MT19937"
        else 0 <= given["buffer_pos"] <= len(given["buffer"]) == 4 if kind == "Philox"
        else state["inc"] % 2 == 1 if kind in ("PCG64", "PCG64DXSM")
        else True
    )  # fmt: skip
    if not is_known:
        raise ValueError(f"the state of the random numbers is none that {kind} can have.")


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
        Of the network's random numbers: the state of its bit generator, as JSON knows it.
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

    def make_generator(self) -> np.random.Generator:
        """The network's random numbers, from where they were.

        Raises
        ------
        LookupError, OverflowError, TypeError, ValueError
            If the state is none of a generator.
        """
        bit_generator: Any = _BIT_GENERATORS[self.generator["bit_generator"]]()
        _check_generator(self.generator)
        bit_generator.state = self.generator
        return np.random.Generator(bit_generator)

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Refuse to go on with something else.

        Raises
        ------
        ValueError
            Which names the first option that differs, and both values.
        """
        for name, value in options.items():
            before = self.options.get(name, value)  # an older version did not write all of them
            if before != value:
                raise ValueError(
                    f"resume: the checkpoint was written with {name}={before!r}, but this training has {name}={value!r}."
                )
