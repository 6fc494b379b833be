"""Arrays for kernels: on cache lines of their own, with rows that begin on one."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

ALIGNMENT = 64
"""Bytes of a cache line, and of the widest vector register."""

PAGE = 4096
"""Bytes after which an address falls into the same set of a first-level cache again; a processor fetches ahead up to their end."""


def aligned_zeros(length: int, dtype: np.dtype[Any]) -> Array:
    """A flat array of zeros that starts on a cache line and shares none with other arrays; on a page, if it is as long as one."""
    size = length * dtype.itemsize
    unit = PAGE if size >= PAGE else ALIGNMENT
    raw = np.zeros(-(-size // ALIGNMENT) * ALIGNMENT + unit, dtype=np.uint8)
    start = -raw.ctypes.data % unit
    return raw[start : start + size].view(dtype)


def on_page(place: int, dtype: np.dtype[Any]) -> int:
    """A place rounded up to whole pages, in elements."""
    unit = PAGE // dtype.itemsize
    return -(-place // unit) * unit


def padded(width: int, dtype: np.dtype[Any]) -> int:
    """A width rounded up to whole cache lines, in elements.

    One line more where rows would otherwise begin a multiple of a page apart: a column would then have only a few places in the
    caches.
    """
    unit = ALIGNMENT // dtype.itemsize
    lines = -(-width // unit)
    return (lines + (lines % (PAGE // ALIGNMENT) == 0)) * unit
