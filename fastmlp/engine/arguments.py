"""Data and records as kernels take them."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from fastmlp.validation import Data, compressed, is_sparse

Array = np.ndarray[Any, np.dtype[Any]]

_FLOAT64, _INT64, _INT32 = np.dtype(np.float64), np.dtype(np.int64), np.dtype(np.int32)


def _nothing(dtype: np.dtype[Any]) -> Array:
    """In the place of data that a call does not have. Read-only, as data is to kernels, which are compiled for these."""
    nothing = np.empty(0, dtype)
    nothing.setflags(write=False)
    return nothing


NOTHING = {dtype: _nothing(dtype) for dtype in (np.dtype(np.float32), _FLOAT64, _INT64, _INT32)}
NO_INDICES, NO_STARTS, NO_LABELS, NO_ORDER = NOTHING[_INT32], NOTHING[_INT64], NOTHING[_INT64], NOTHING[_INT64]


def no_data(dtype: np.dtype[Any], sparse: bool) -> tuple[Array | None, ...]:
    """Samples, their indices and starts, targets, labels, weights and their order, of a call that has none of them."""
    places = (NO_INDICES, NO_STARTS) if sparse else (None, None)
    return (NOTHING[dtype], *places, NOTHING[dtype], NO_LABELS, NOTHING[dtype], NO_ORDER)


def flat_samples(x: Any) -> tuple[Array, Array | None, Array | None]:
    """Samples as kernels take them: flat numbers, and for compressed rows their column indices and starts."""
    return compressed(x) if is_sparse(x) else (x.ravel(), None, None)


def flat_data(data: Data, dtype: np.dtype[Any]) -> tuple[Array | None, ...]:
    """Samples, their indices and starts, targets, labels and weights as kernels take them; empty where there are none."""
    nothing = NOTHING[dtype]
    return (
        *flat_samples(data.x),
        nothing if data.y is None else data.y.ravel(),
        NO_LABELS if data.labels is None else data.labels.ravel(),
        nothing if data.weight is None else data.weight.ravel(),
    )


def as_records(array: Array) -> Array:
    """Records as a kernel takes them; with numba switched off, records need NumPy's help to have attributes."""
    return array.view(np.recarray) if numba.config.DISABLE_JIT else array
