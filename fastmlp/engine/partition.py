"""Who computes which gradients: cuts the weights of a network into blocks that fit a cache, and shares them out among threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fastmlp.kernels.plan import BLOCK, BLOCK_ELEMENTS, FEW_OUTPUTS, STRIP_ROWS

Array = np.ndarray[Any, np.dtype[Any]]


_FEW_COLUMNS = 4
"""What the gradient of few outputs takes, in columns of a gradient that is computed row by row."""


def _strips(sizes: Sequence[int], widths: Sequence[int], most_columns: int, sparse: bool) -> Iterator[tuple[int, ...]]:
    """Blocks of the fewest rows that are worth a register tile: each column of blocks from top to bottom, layer by layer."""
    norms = 0
    for layer, (fan_in, width) in enumerate(zip(sizes[:-1], widths[1:], strict=True)):
        for column in range(0, width, most_columns):
            columns = min(most_columns, width - column)
            for row in range(0, fan_in, STRIP_ROWS):
                rows = min(STRIP_ROWS, fan_in - row)
                bias = row + rows == fan_in and not (sparse and layer == 0)
                yield layer, row, rows, bias, column, columns, norms + row
            if sparse and layer == 0:
                yield layer, fan_in, 0, True, column, columns, norms + fan_in
            norms += fan_in + 1


def n_norms(sizes: Sequence[int], widths: Sequence[int], most_columns: int) -> int:
    """How many rows of blocks there are: the norm of a gradient is the sum of theirs, whoever computes them."""
    return sum((fan_in + 1) * -(-width // most_columns) for fan_in, width in zip(sizes[:-1], widths[1:], strict=True))


def _middles(work: Array) -> Array:
    """Where the middle of each piece of work lies in all of it, from 0 to 1."""
    return np.asarray((np.cumsum(work) - work / 2) / work.sum())


def _in_bands(strips: Array, work: Array, bands: Sequence[int]) -> tuple[Array, Array]:
    """Strips band by band, with some of the other layers' in each; and their middles.

    All bands count as the same amount of work, so that the shares of as many threads, or half as many, end where bands do.
    """
    first_layer = strips["layer"] == 0
    band_of = np.empty(len(strips), np.int64)
    band_of[first_layer] = np.searchsorted(bands, strips["row"][first_layer], side="right") - 1
    band_of[~first_layer] = _middles(work[~first_layer]) * len(bands)
    order = np.argsort(band_of, kind="stable")
    middles = [(band + _middles(work[band_of == band])) / len(bands) for band in range(len(bands))]
    return strips[order], np.concatenate(middles)


def share_blocks(
    sizes: Sequence[int], widths: Sequence[int], n_threads: int, most_columns: int, sparse: bool = False, bands: Sequence[int] = (),
    copies: bool = False,
) -> tuple[Array, Array]:  # fmt: skip
    """Blocks of about the same work for each thread.

    Parameters
    ----------
    sizes, widths : sequence of int
        Numbers of units of all layers, and the distances between rows that they are padded to.
    n_threads : int
    most_columns : int
        Of a block.
    sparse : bool
        Whether samples are sparse: the bias of the first layer is then a block of its own.
    bands : sequence of int
        First feature of each band of them (:mod:`fastmlp.kernels.bands`): the weights of a band go together.
    copies : bool
        Whether only bands are shared out, because each thread has a copy of the layers above.

    Returns
    -------
    blocks : ndarray of BLOCK
    bounds : ndarray of int64 (n_threads + 1,)
        The blocks of thread t are bounds[t] .. bounds[t + 1]; those after the last are everybody's.
    """
    strips = np.array(list(_strips(sizes, widths, most_columns, sparse)), BLOCK)
    if copies:
        first_layer = strips["layer"] == 0
        blocks, bounds = _shared(strips[first_layer], sizes, n_threads, bands)
        return np.concatenate([blocks, _shared(strips[~first_layer], sizes, 1, ())[0]]), bounds
    return _shared(strips, sizes, n_threads, bands)


def _shared(strips: Array, sizes: Sequence[int], n_threads: int, bands: Sequence[int]) -> tuple[Array, Array]:
    """Blocks made of some strips, none of none, and their bounds, as :func:`share_blocks` returns them."""
    if not len(strips):
        return np.empty(0, BLOCK), np.zeros(n_threads + 1, np.int64)
    outputs = np.array(sizes)[strips["layer"] + 1]
    columns = np.where(outputs <= FEW_OUTPUTS, _FEW_COLUMNS, strips["columns"])
    work = ((strips["rows"] + strips["bias"]) * columns).astype(np.float64)
    if bands:
        strips, middle = _in_bands(strips, work, bands)
    else:
        middle = _middles(work)
    # A strip belongs to the thread in whose share its middle lies.
    owners = np.minimum((middle * n_threads).astype(int), n_threads - 1)
    blocks: list[Array] = []
    bounds = np.zeros(n_threads + 1, np.int64)
    last_owner = -1
    for strip, owner in zip(strips, owners, strict=True):
        block = blocks[-1] if blocks and owner == last_owner else None
        if (
            block is not None
            and not block["bias"]
            and strip["rows"]
            and not (strip["layer"] == 0 and strip["row"] in bands)
            and (block["layer"], block["column"]) == (strip["layer"], strip["column"])
            and (block["rows"] + strip["rows"]) * block["columns"] <= BLOCK_ELEMENTS
        ):
            block["rows"] += strip["rows"]
            block["bias"] = strip["bias"]
        else:
            blocks.append(strip.copy())
        last_owner = owner
        bounds[owner + 1 :] = len(blocks)
    return np.array(blocks, BLOCK), bounds
