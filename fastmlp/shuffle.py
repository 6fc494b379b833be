"""The order of samples in an epoch: a random permutation that takes neither much memory nor time.

While it fits into the caches, a permutation is drawn, by a kernel: NumPy's takes more than ten times as long, a seventh of an epoch
of a small network. Of ten million rows it takes eight bytes a row, and longer than an epoch has to spare. Beyond a size
at which that begins to matter, the row at a position of the epoch is computed instead, by a keyed bijection of 0 ..
rows - 1: a Feistel network over the digits (left, right) of the position in the mixed radix (2^bits, radix), as in Black
and Rogaway, *Ciphers with arbitrary finite domains* (2002), section 5, with rounds of a 32-bit integer hash. The few
results that are not below ``rows`` are sent through it again until they are ("cycle walking", section 3 there), which
keeps it a bijection.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastmlp.kernels.hashes import add_hashes
from fastmlp.kernels.shuffle import draw_order

Array = np.ndarray[Any, np.dtype[Any]]

DRAWN_ROWS = 1 << 19
"""Up to so many rows, the permutation is drawn: one nanosecond a row while it fits into a core's own cache, two at this size, and
more than the bijection beyond."""

ROUNDS = 4
"""Each changes both digits."""


class Order:
    """A random order of rows.

    Parameters
    ----------
    rows : int
    generator : numpy.random.Generator
    """

    def __init__(self, rows: int, generator: np.random.Generator) -> None:
        self.rows = rows
        self.array: Array | None = None
        if rows <= DRAWN_ROWS:
            self.array = np.empty(rows, np.int64)
            draw_order(
                generator.random(1).view(np.uint64), self.array
            )  # 53 of whose bits are random; the quickest of NumPy's draws
            return
        self.keys = generator.integers(0, 1 << 32, 2 * ROUNDS, dtype=np.uint64).astype(np.uint32)
        self.bits = math.isqrt(rows).bit_length()
        self.radix = -(-rows // (1 << self.bits))

    @classmethod
    def given(cls, array: Array) -> Order:
        """An order that is already an array of row numbers."""
        order = cls.__new__(cls)
        order.rows, order.array = len(array), np.ascontiguousarray(array, np.int64)
        return order

    def __getitem__(self, positions: slice) -> Array:
        """Rows at some positions, in plain NumPy; int64."""
        if self.array is not None:
            return self.array[positions]
        rows = self._permuted(np.arange(positions.start, min(positions.stop, self.rows), dtype=np.uint64))
        while (beyond := rows >= self.rows).any():
            rows[beyond] = self._permuted(rows[beyond])
        return rows.astype(np.int64)

    def _permuted(self, positions: Array) -> Array:
        bits, radix, ones = np.uint64(self.bits), np.uint32(self.radix), np.uint32((1 << self.bits) - 1)
        left, right = (positions & ones).astype(np.uint32), (positions >> bits).astype(np.uint32)
        for key_1, key_2 in self.keys.reshape(-1, 2):
            left, right = add_hashes.py_func(left, right, key_1, key_2, ones, radix)
        result: Array = (right.astype(np.uint64) << bits) | left
        return result
