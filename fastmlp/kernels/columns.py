"""Rows of numbers from columns of numbers: tables come column by column, samples are rows."""

from __future__ import annotations

from fastmlp.kernels.jit import kernel
from fastmlp.kernels.plan import LINE_BYTES, TRANSPOSE
from fastmlp.kernels.simd import array_at, copy, index, prefetch, transpose_block

COLUMN_RUN = 64
"""Values of a column that are fetched before the next column's: a few lines of the cache, one after the other."""
_AHEAD = 4 * COLUMN_RUN
"""Values this much further on are asked for meanwhile: a processor does not see by itself how so many columns go on."""


@kernel
def rows_of_columns(addresses, first, run, rows):
    """rows (n, n_columns) = elements first .. first + n of the columns at addresses (n_columns,), side by side; flat.

    run: (n_columns, COLUMN_RUN), to work in; flat. There are TRANSPOSE columns or more, contiguous and of the dtype of the rows.
    """
    n_columns = len(addresses)
    n = len(rows) // n_columns
    for start in range(0, n, COLUMN_RUN):
        count = min(COLUMN_RUN, n - start)
        for j in range(n_columns):
            column = array_at(addresses[index(j)], rows)
            for i in range(first + start + _AHEAD, first + start + _AHEAD + COLUMN_RUN, LINE_BYTES // rows.itemsize):
                prefetch(column, i)
            copy(column, first + start, run, j * COLUMN_RUN, count)
        whole = count // TRANSPOSE * TRANSPOSE
        for j in range(0, n_columns, TRANSPOSE):
            left = min(j, n_columns - TRANSPOSE)  # the last columns of all may be written twice
            for i in range(0, whole, TRANSPOSE):
                transpose_block(run, left * COLUMN_RUN + i, COLUMN_RUN, rows, (start + i) * n_columns + left, n_columns)
        for i in range(whole, count):
            for j in range(n_columns):
                rows[index((start + i) * n_columns + j)] = run[index(j * COLUMN_RUN + i)]
