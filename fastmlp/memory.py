"""Arrays for kernels: on cache lines of their own, with rows that begin on one."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmlp.kernels.plan import LINE_BYTES, PAGE_BYTES

Array = np.ndarray[Any, np.dtype[Any]]


def aligned_zeros(length: int, dtype: np.dtype[Any]) -> Array:
    """A flat array of zeros that starts on a cache line and shares none with other arrays; on a page, if it is as long as one."""
    size = length * dtype.itemsize
    unit = PAGE_BYTES if size >= PAGE_BYTES else LINE_BYTES
    raw = np.zeros(-(-size // LINE_BYTES) * LINE_BYTES + unit, dtype=np.uint8)
    start = -raw.ctypes.data % unit
    return raw[start : start + size].view(dtype)


def on_page(place: int, dtype: np.dtype[Any]) -> int:
    """A place rounded up to whole pages, in elements."""
    unit = PAGE_BYTES // dtype.itemsize
    return -(-place // unit) * unit


def padded(width: int, dtype: np.dtype[Any]) -> int:
    """A width rounded up to whole cache lines, in elements.

    One line more where rows would otherwise begin a multiple of a page apart: a column would then have only a few places in the
    caches.
    """
    unit = LINE_BYTES // dtype.itemsize
    lines = -(-width // unit)
    return (lines + (lines % (PAGE_BYTES // LINE_BYTES) == 0)) * unit
