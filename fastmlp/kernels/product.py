"""The one matrix product that forward, delta and gradient are made of."""

from __future__ import annotations

from fastmlp.kernels.jit import device
from fastmlp.kernels.simd import SINGLE_ROW_VECTORS, TILE_ROWS, TILE_VECTORS, lanes, tile


@device
def product(rows, columns, depth, a, a0, a_row, a_column, b, b0, ld_b, initial, i0, ld_i, c, c0, ld_c, exact, scaled):
    """C = I + A @ B, or C *= I + A @ B where ``scaled``; all flat arrays with an offset and a distance between rows (``ld``).

    A (rows, depth), any strides; B (depth, columns) and I, C (rows, columns) with unit column stride; ``ld_i`` = 0
    repeats one row. ``columns`` are whole vectors. Unless ``exact``, a partial
    tile of rows is rounded up to the next one there is: it may read up to TILE_ROWS - 1 rows beyond those of A and I,
    and write as many into C.
    """
    left = columns // lanes(b)
    most_vectors = SINGLE_ROW_VECTORS if rows == 1 else TILE_VECTORS
    j = 0
    while left > 0:
        n_vectors = min(left, most_vectors)
        if most_vectors < left < 2 * most_vectors:  # two halves rather than a whole tile and a narrow one
            n_vectors = (left + 1) // 2
        i = 0
        while i < rows:
            most = rows - i if exact else 2 * (rows - i) - 1
            n_rows = TILE_ROWS
            while n_rows > most:
                n_rows //= 2
            if TILE_ROWS == 8 and (rows - i == 5 or rows - i == 9 or rows - i == 10):
                n_rows = 5  # one or two would wait for their own last multiply-add, and eight compute three rows in vain
            tile(
                n_rows, n_vectors, a, a0 + i * a_row, a_row, a_column, b, b0 + j, ld_b,
                initial, i0 + i * ld_i + j, ld_i, c, c0 + i * ld_c + j, ld_c, depth, scaled,
            )  # fmt: skip
            i += n_rows
        j += n_vectors * lanes(b)
        left -= n_vectors
