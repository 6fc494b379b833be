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

from fastmlp.kernels.hashes import row_key, unit_hash

Array = np.ndarray[Any, np.dtype[Any]]


def threshold(rate: float) -> int:
    """Units with a hash below this are left out; of 2^32."""
    return min(round(rate * 2**32), 2**32 - 1)


def mask(key: int, layer: int, positions: slice, units: int, rate: float, dtype: np.dtype[Any]) -> Array:
    """What outputs (positions, units) of a hidden layer are multiplied by: 0 or 1 / (1 - rate). In plain NumPy."""
    position = np.arange(positions.start, positions.stop, dtype=np.uint64)[:, None]
    keys = row_key.py_func(np.array([[key]], np.uint64), np.array([[layer]], np.uint64), position)
    low, high = (keys & np.uint64(0xFFFFFFFF)).astype(np.uint32), (keys >> np.uint64(32)).astype(np.uint32)
    hashes = unit_hash.py_func(low, high, np.arange(units, dtype=np.uint32)[None, :])
    kept: Array = (hashes >= threshold(rate)).astype(dtype)
    kept *= 1 / (1 - rate)
    return kept


def draw_key(rates: Sequence[float], generator: np.random.Generator) -> int:
    """The key of an epoch; none is drawn where nothing is left out."""
    return int(generator.integers(0, 1 << 63)) if any(rates) else 0
