"""The order of samples in an epoch: a random permutation that takes neither much memory nor time.

While it fits into the caches, a permutation is drawn, by a kernel: NumPy's takes seven times as long, an eighth of an epoch
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

from fastmlp.kernels.hashes import add_hashes, below, row_key

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

    Attributes
    ----------
    is_drawn : bool
        Whether the permutation is drawn as a whole.
    array : ndarray of int64 (rows,) or None
        The rows in this order, where it was given or has been drawn.
    keys : ndarray
        The random numbers that decide.
    """

    def __init__(self, rows: int, generator: np.random.Generator) -> None:
        self.rows = rows
        self.array: Array | None = None
        if rows <= DRAWN_ROWS:
            self.keys = generator.random(1).view(np.uint64)  # 53 of whose bits are random; the quickest of NumPy's draws
            return
        self.keys = generator.integers(0, 1 << 32, 2 * ROUNDS, dtype=np.uint64).astype(np.uint32)
        self.bits = math.isqrt(rows).bit_length()
        self.radix = -(-rows // (1 << self.bits))

    @classmethod
    def given(cls, array: Array) -> Order:
        """An order that is already an array of row numbers."""
        order = cls.__new__(cls)
        order.rows, order.array, order.keys = len(array), np.ascontiguousarray(array, np.int64), np.empty(0, np.uint64)
        return order

    @property
    def is_drawn(self) -> bool:
        """See the class."""
        return len(self.keys) == 1

    def __getitem__(self, positions: slice) -> Array:
        """Rows at some positions, in plain NumPy; int64."""
        if self.array is None and self.is_drawn:
            self.array = self._drawn()
        if self.array is not None:
            return self.array[positions]
        rows = self._permuted(np.arange(positions.start, min(positions.stop, self.rows), dtype=np.uint64))
        while (beyond := rows >= self.rows).any():
            rows[beyond] = self._permuted(rows[beyond])
        return rows.astype(np.int64)

    def _drawn(self) -> Array:
        """What :func:`fastmlp.kernels.shuffle.draw_order` makes of the key."""
        last = np.arange(self.rows, dtype=np.uint64)
        places = below.py_func(row_key.py_func(self.keys, np.zeros(1, np.uint64), last), last + np.uint64(1))
        order: list[int] = []
        for row, place in enumerate(places.tolist()):
            order.append(row)
            order[row], order[place] = order[place], row
        return np.array(order, np.int64)

    def _permuted(self, positions: Array) -> Array:
        bits, radix, ones = np.uint64(self.bits), np.uint32(self.radix), np.uint32((1 << self.bits) - 1)
        left, right = (positions & ones).astype(np.uint32), (positions >> bits).astype(np.uint32)
        for key_1, key_2 in self.keys.reshape(-1, 2):
            left, right = add_hashes.py_func(left, right, key_1, key_2, ones, radix)
        result: Array = (right.astype(np.uint64) << bits) | left
        return result
