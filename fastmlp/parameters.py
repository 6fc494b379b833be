"""Sizes to one flat buffer: where each layer's weights and biases stand in it, the arrays that people see, and the initialisers.

A buffer holds the layers in order, each as its weights, row by row (one row per input), and then its bias as one more
row. Rows may be padded: the compiled engine pads them to 64 bytes, so that every row starts on a cache line and a
vector register never straddles two rows. Padding is zero and stays zero. An optimizer's state and the gradient have the
same layout.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import Any, SupportsIndex

import numpy as np

from fastmlp.activations import Activation
from fastmlp.memory import padded
from fastmlp.table import Table
from fastmlp.validation import as_numbers

Array = np.ndarray[Any, np.dtype[Any]]


_FEW = 20_000
"""Of so few parameters the place of each one is sooner used than views of each layer; of many, these also take less memory."""


@dataclass(frozen=True)
class Layout:
    """Where everything stands in a flat buffer of parameters.

    Parameters
    ----------
    sizes : tuple of int
        Numbers of units, from inputs to outputs.
    widths : tuple of int
        Distance between rows, in elements, for each layer.
    """

    sizes: tuple[int, ...]
    widths: tuple[int, ...]

    @classmethod
    @lru_cache(maxsize=256)  # asked for in every call of a network
    def compact(cls, sizes: tuple[int, ...]) -> Layout:
        """Without padding: the layout of a flat vector that people see."""
        return cls(sizes, sizes[1:])

    @classmethod
    @lru_cache(maxsize=256)
    def aligned(cls, sizes: tuple[int, ...], dtype: np.dtype[Any]) -> Layout:
        """With every row padded to whole cache lines."""
        return cls(sizes, tuple(padded(size, dtype) for size in sizes[1:]))

    @property
    def n_layers(self) -> int:
        """Number of layers of weights."""
        return len(self.widths)

    @cached_property
    def _offsets(self) -> list[int]:
        lengths = [(fan_in + 1) * width for fan_in, width in zip(self.sizes, self.widths, strict=False)]
        return list(accumulate(lengths, initial=0))

    def weight_offset(self, layer: int) -> int:
        """First element of a layer's weights."""
        return self._offsets[layer]

    def bias_offset(self, layer: int) -> int:
        """First element of a layer's bias."""
        return self.weight_offset(layer) + self.sizes[layer] * self.widths[layer]

    @property
    def length(self) -> int:
        """Elements of the buffer."""
        return self._offsets[-1]

    @cached_property
    def _places(self) -> Array:
        """Where in the buffer each element of a flat vector without padding stands."""
        return pack(*self.views(np.arange(self.length)))

    def fill(self, buffer: Array, theta: Array) -> None:
        """Write a flat vector without padding into a buffer."""
        if self.length <= _FEW:
            buffer[self._places] = theta
        else:
            unpack(theta, self, buffer)

    def take(self, buffer: Array, out: Array | None = None) -> Array:
        """What stands in a buffer as a flat vector without padding, in ``out`` if that is given."""
        if self.length <= _FEW:
            return buffer.take(self._places, out=out, mode="clip")  # "raise" would take a copy of out
        return pack(*self.views(buffer), out=out)

    def views(self, buffer: Array) -> tuple[list[Array], list[Array]]:
        """Weights (fan_in, fan_out) and biases (1, fan_out) of each layer, as views of the buffer."""
        weights, biases = [], []
        for layer, width in enumerate(self.widths):
            fan_in, fan_out = self.sizes[layer], self.sizes[layer + 1]
            start = self.weight_offset(layer)
            rows = buffer[start : start + (fan_in + 1) * width].reshape(fan_in + 1, width)
            weights.append(rows[:fan_in, :fan_out])
            biases.append(rows[fan_in:, :fan_out])
        return weights, biases


def pack(weights: Iterable[Array], biases: Iterable[Array], out: Array | None = None) -> Array:
    """One flat vector without padding: each layer's weights row by row, then its bias."""
    return np.concatenate([part.reshape(-1) for pair in zip(weights, biases, strict=True) for part in pair], out=out)


def unpack(theta: Array, layout: Layout, buffer: Array) -> None:
    """Write a flat vector without padding into a buffer of the given layout."""
    sources = Layout.compact(layout.sizes).views(theta)
    for targets, values in zip(layout.views(buffer), sources, strict=True):
        for target, value in zip(targets, values, strict=True):
            target[...] = value


class ParameterList(list[Array]):
    """The arrays of all layers; assigning to an item copies into the network instead of replacing the array."""

    def __init__(self, name: str, arrays: Iterable[Array]) -> None:
        super().__init__(arrays)
        self._name = name

    def __setitem__(self, position: Any, value: Any) -> None:
        if isinstance(position, slice):
            if not isinstance(value, Iterable):
                raise TypeError(f"{self._name} takes a sequence of arrays, one for each layer, got {value!r}.")
            values = list(value)
            places = range(*position.indices(len(self)))
            if len(values) != len(places):
                raise ValueError(f"{self._name} takes {len(places)} arrays here, one for each layer, got {len(values)}.")
            # All of them are checked, and copied in case they are these arrays in another order, before the first is changed.
            for place, one in [(place, self._checked(place, one).copy()) for place, one in zip(places, values, strict=True)]:
                self[place][...] = one
            return
        self[position][...] = self._checked(position, value)

    def _checked(self, position: SupportsIndex, value: Any) -> Array:
        array, given = self[position], as_numbers(value, f"{self._name}[{position}]", None)
        if given.shape != array.shape:
            raise ValueError(f"{self._name}[{position}] has shape {array.shape}, got an array of shape {given.shape}.")
        return given

    def _fixed(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"{self._name} has one array for each layer; assign to its items or change them in place.")

    append = extend = insert = remove = pop = clear = sort = reverse = __delitem__ = __imul__ = _fixed

    def __iadd__(self, other: Any) -> Any:  # type: ignore[misc]
        return self._fixed()

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return list, ([array.copy() for array in self],)


@dataclass(frozen=True)
class Initializer:
    """A normal (or uniform) distribution of mean 0 from which weights are drawn; biases start at 0.

    Parameters
    ----------
    name : str
    formula : str
        Standard deviation, for people.
    scale : str
        "fan_in", "fan_avg" or "" for what the variance is divided by.
    variance : float
        Variance before that division.
    uniform : bool, default False
        Uniform with the same variance, instead of normal.
    """

    name: str
    formula: str
    scale: str
    variance: float
    uniform: bool = False

    def draw(self, generator: np.random.Generator, fan_in: int, fan_out: int) -> Array:
        """Weights of one layer.

        Parameters
        ----------
        generator : numpy.random.Generator
        fan_in, fan_out : int
            Inputs and outputs of the layer.

        Returns
        -------
        ndarray of float64 (fan_in, fan_out)
        """
        divisor = {"fan_in": fan_in, "fan_avg": (fan_in + fan_out) / 2, "": 1}[self.scale]
        deviation = np.sqrt(self.variance / divisor)
        if self.uniform:
            limit = np.sqrt(3) * deviation
            return generator.uniform(-limit, limit, (fan_in, fan_out))
        return generator.normal(0, deviation, (fan_in, fan_out)) if deviation else np.zeros((fan_in, fan_out))


INITIALIZERS: Table[Initializer] = Table(
    "initializer",
    [
        # Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks, 2010, equation 12.
        Initializer("glorot", "sqrt(2 / (fan_in + fan_out))", "fan_avg", 1.0),
        Initializer("glorot_uniform", "sqrt(2 / (fan_in + fan_out))", "fan_avg", 1.0, uniform=True),
        # He et al., Delving Deep into Rectifiers, 2015, equation 10.
        Initializer("he", "sqrt(2 / fan_in)", "fan_in", 2.0),
        Initializer("he_uniform", "sqrt(2 / fan_in)", "fan_in", 2.0, uniform=True),
        # LeCun et al., Efficient BackProp, 1998, equation 16.
        Initializer("lecun", "sqrt(1 / fan_in)", "fan_in", 1.0),
        Initializer("lecun_uniform", "sqrt(1 / fan_in)", "fan_in", 1.0, uniform=True),
        Initializer("normal", "1", "", 1.0),
        Initializer("zeros", "0", "", 0.0),
    ],
    aliases={"xavier": "glorot", "xavier_uniform": "glorot_uniform"},
)
"""Every initialiser, by name."""


def initialize(
    weights: Sequence[Array],
    activations: Sequence[Activation],
    initializer: Initializer | None,
    generator: np.random.Generator,
) -> None:
    """Draw the weights of every layer in place, by its activation's initialiser unless one is given."""
    for array, activation in zip(weights, activations, strict=True):
        chosen = initializer or INITIALIZERS[activation.initializer]
        array[...] = chosen.draw(generator, *array.shape)
