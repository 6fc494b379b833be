"""Rows of numbers from columns of numbers: tables come column by column, samples are rows."""

from __future__ import annotations

from fastmlp.kernels.jit import kernel
from fastmlp.kernels.simd import index

_RUN = 32
"""Values of a column that are written before the next column's, so that the rows they go into are still in the cache then."""


@kernel
def rows_of_columns(columns, n_columns, rows):
    """rows (n, n_columns) = columns (n_columns, n), transposed; both flat."""
    n = len(rows) // n_columns
    for start in range(0, n, _RUN):
        stop = min(start + _RUN, n)
        for j in range(n_columns):
            for i in range(start, stop):
                rows[index(i * n_columns + j)] = columns[index(j * n + i)]
