"""Which units a training step leaves out: random numbers that are computed from where they are needed, not drawn in turn.

Srivastava et al., *Dropout: a simple way to prevent neural networks from overfitting* (2014), in its inverted form: during training
each output of a hidden layer is 0 with probability p and divided by 1 - p otherwise, so that nothing is left to do in a prediction.

Whether a unit is left out is a function of the epoch's key, the layer, the sample's position in the epoch and the unit's number,
so that it depends neither on the number of threads nor on how rows are cut into panels and chunks (counter-based, as in Salmon et
al., *Parallel random numbers: as easy as 1, 2, 3*, 2011). The hash is that of :mod:`fastmlp.shuffle`, with half of the row's key
before and half of it after its first round.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastmlp.kernels.jit import formula

Array = np.ndarray[Any, np.dtype[Any]]

_32, _33 = np.uint64(32), np.uint64(33)
_ROW, _LAYER = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1B54A32D192ED03)  # odd
_MIX_1, _MIX_2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_UNIT = np.uint32(0x9E3779B1)
_MULTIPLIER_1, _MULTIPLIER_2 = np.uint32(0x21F0AAAD), np.uint32(0x735A2D97)
_SHIFT_1, _SHIFT_2 = np.uint32(16), np.uint32(15)


@formula
def row_key(key: Any, layer: Any, position: Any) -> Any:
    """64 bits for one layer and one sample of an epoch: the finalizer of Appleby's MurmurHash3 (2011); uint64 throughout."""
    x = key + position * _ROW + layer * _LAYER
    x = (x ^ (x >> _33)) * _MIX_1
    x = (x ^ (x >> _33)) * _MIX_2
    return x ^ (x >> _33)


@formula
def unit_hash(low: Any, high: Any, unit: Any) -> Any:
    """32 random bits for a unit; ``low`` and ``high`` are the halves of the row's key. uint32 throughout."""
    x = np.uint32(np.uint32(unit * _UNIT) + low)
    x = np.uint32(np.uint32(x ^ (x >> _SHIFT_1)) * _MULTIPLIER_1)
    x = np.uint32(np.uint32(np.uint32(x ^ (x >> _SHIFT_2)) ^ high) * _MULTIPLIER_2)
    x = np.uint32(np.uint32(x ^ (x >> _SHIFT_2)) * _MULTIPLIER_1)
    return np.uint32(x ^ (x >> _SHIFT_1))


def threshold(rate: float) -> int:
    """Units with a hash below this are left out; of 2^32."""
    return round(rate * 2**32)


def mask(key: int, layer: int, positions: slice, units: int, rate: float, dtype: np.dtype[Any]) -> Array:
    """What outputs (positions, units) of a hidden layer are multiplied by: 0 or 1 / (1 - rate). In plain NumPy."""
    position = np.arange(positions.start, positions.stop, dtype=np.uint64)[:, None]
    keys = row_key.py_func(np.array([[key]], np.uint64), np.array([[layer]], np.uint64), position)
    low, high = (keys & np.uint64(0xFFFFFFFF)).astype(np.uint32), (keys >> _32).astype(np.uint32)
    hashes = unit_hash.py_func(low, high, np.arange(units, dtype=np.uint32)[None, :])
    kept: Array = (hashes >= threshold(rate)).astype(dtype)
    kept *= 1 / (1 - rate)
    return kept


def draw_key(rates: Sequence[float], generator: np.random.Generator) -> int:
    """The key of an epoch; none is drawn where nothing is left out."""
    return int(generator.integers(0, 1 << 63)) if any(rates) else 0
