"""How the work on a network is cut, by its sizes: what goes layer by layer, rows of a chunk, slots, bands.

Never by the number of threads: the order of the sums in a gradient, and so its bits, follows from how the work is cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastmlp.engine import limits
from fastmlp.kernels import plan
from fastmlp.kernels.bands import first_feature
from fastmlp.kernels.plan import PANEL_ROWS
from fastmlp.memory import padded
from fastmlp.parameters import Layout
from fastmlp.threads import FLOP_OF_TWO

_FLOP_PER_WEIGHT = 6
"""Of a training, for each row: a multiplication and an addition in each of the three products. A prediction has one of these."""


@dataclass(frozen=True)
class Blocking:
    """How batches are cut.

    Parameters
    ----------
    layered : bool
        Whether a batch goes layer by layer, rather than panel by panel.
    chunk_rows : int
        Rows that are worked on at once.
    slots : int
        Parts of a batch that have a gradient each; 0 where threads share chunks.
    bands : int
        Into how many bands features are cut; 0 where each thread takes some samples instead.
    copies : bool
        Whether the layers above bands are so small that each thread may go through them by itself, with a copy of them.
    """

    layered: bool
    chunk_rows: int
    slots: int
    bands: int
    copies: bool


class Shape:
    """A network's sizes, and all that follows from nothing else.

    Parameters
    ----------
    sizes : tuple of int
    dtype : numpy.dtype
    """

    def __init__(self, sizes: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.sizes, self.dtype = sizes, dtype
        self.layout = Layout.aligned(sizes, dtype)
        self.widths = [padded(size, dtype) for size in sizes]
        self._n_weights = [fan_in * width for fan_in, width in zip(sizes[:-1], self.widths[1:], strict=True)]
        self.flop_per_row = _FLOP_PER_WEIGHT * sum(self._n_weights)
        self.flop_to_predict = self.flop_per_row / 3

    def flop_of_sparse(self, numbers: float) -> float:
        """Operations to predict a sparse row with so many numbers, or an average of rows."""
        return max(1.0, self.flop_to_predict + 2 * self.widths[1] * (numbers - self.sizes[0]))

    @property
    def n_layers(self) -> int:
        """Layers of weights."""
        return len(self.sizes) - 1

    @property
    def parameter_bytes(self) -> int:
        """Bytes of all weights and biases in the aligned layout."""
        return self.layout.length * self.dtype.itemsize

    @property
    def transposed_length(self) -> int:
        """Elements of the transposed copy of the weights; the first layer has none."""
        return sum(fan_out * width for fan_out, width in zip(self.sizes[2:], self.widths[1:], strict=False))

    def band_starts(self, bands: int) -> list[int]:
        """First features of so many bands, and the end of the last."""
        return [first_feature.py_func(self.sizes[0], bands, band, self.dtype.itemsize) for band in range(bands + 1)]

    def room(self, rows: int) -> int:
        """Rows of a buffer for so many."""
        return rows + plan.SLACK_ROWS

    def output_scratch(self, blocks: int) -> int:
        """Elements of so many panels of the outputs, transposed or not, and of two rows beside them."""
        return blocks * self.widths[-1] * PANEL_ROWS + 2 * plan.RUN

    def vectors(self, vector_bytes: int) -> int:
        """Vectors of so many bytes that all weights fill."""
        lanes = vector_bytes // self.dtype.itemsize
        return sum(n_weights // lanes for n_weights in self._n_weights)

    @property
    def has_bins(self) -> bool:
        """Whether a step of the first layer, from sparse samples, is made bin by bin: its weights do not stay in a cache."""
        return self.widths[1] <= plan.BLOCK_ELEMENTS and self._n_weights[0] * self.dtype.itemsize >= limits.LEAST_BIN_BYTES

    def blocking(self, batch_size: int, sparse: bool) -> Blocking:
        """How batches of so many rows, sparse or not, are cut."""
        slots, slot_rows = self.slots(batch_size, sparse)
        bands = self.bands(batch_size, sparse)
        chunk_rows = slot_rows or self.chunk_rows(batch_size, sparse)
        return Blocking(
            layered=self.is_layered(batch_size) and not sparse,
            chunk_rows=chunk_rows,
            slots=slots,
            bands=bands,
            copies=bands > 0 and chunk_rows >= batch_size and self.has_small_top(batch_size),
        )

    def is_layered(self, rows: int) -> bool:
        """Whether a batch of so many rows goes layer by layer, rather than panel by panel."""
        return rows >= limits.LEAST_LAYERED_ROWS and max(self._n_weights) * self.dtype.itemsize > limits.LAYERED_BYTES

    def chunk_rows(self, batch_size: int, sparse: bool = False) -> int:
        """Rows of a batch that are worked on at once."""
        row_bytes = self.dtype.itemsize * (self.widths[0] * (not sparse) + 2 * sum(self.widths[1:]))
        least = limits.LAYERED_CHUNK_ROWS if self.is_layered(batch_size) and not sparse else limits.LEAST_CHUNK_ROWS
        most = max(least, limits.WORKSPACE_BYTES // row_bytes)
        flop_per_row = self.flop_per_row - sparse * _FLOP_PER_WEIGHT * self._n_weights[0]
        most = min(most, max(limits.LEAST_LAYERED_ROWS, int(limits.CHUNK_FLOP * 4 / self.dtype.itemsize / max(flop_per_row, 1))))
        return min(batch_size, most // PANEL_ROWS * PANEL_ROWS)

    def slots(self, batch_size: int, sparse: bool) -> tuple[int, int]:
        """Parts of a batch that have a gradient each, and rows of each; (0, 0) where threads share chunks."""
        if sparse or self.is_layered(batch_size):
            return 0, 0
        if self.chunk_rows(batch_size) < batch_size:
            most = min(limits.MOST_SLOTS, limits.SLOT_BYTES // self.parameter_bytes)
            slots = min(most, -(-batch_size // limits.LEAST_CHUNK_ROWS))
            return (slots, limits.LEAST_CHUNK_ROWS) if slots >= limits.LEAST_SLOTS else (0, 0)
        between_parts = batch_size * (self.widths[0] + 2 * sum(self.widths[1:]))
        if self.flop_per_row * batch_size < FLOP_OF_TWO or between_parts < limits.SHARED_PER_WEIGHT * self.layout.length:
            return 0, 0
        panels = -(-batch_size // PANEL_ROWS)
        for slots in (4, 2):
            most = -(-panels // slots)
            if most * PANEL_ROWS >= limits.LEAST_SLOT_ROWS and (slots == 2 or slots * most < 1.1 * panels):
                return slots, most * PANEL_ROWS
        return 0, 0

    def bands(self, batch_size: int, sparse: bool) -> int:
        """Into how many bands features are cut; 0 where each thread takes some samples instead."""
        if sparse or self.is_layered(batch_size) or self.slots(batch_size, sparse)[0]:
            return 0
        has_most_weights = self._n_weights[0] >= limits.LEAST_BAND_SHARE * self.layout.length
        if not has_most_weights or self.sizes[0] < limits.FEATURES_PER_UNIT * self.widths[1]:
            return 0
        return limits.BANDS if self.flop_per_row * self.chunk_rows(batch_size) >= limits.LEAST_BAND_FLOP else 0

    def has_small_top(self, batch_size: int) -> bool:
        """Whether all layers but the first take little of a step."""
        flop_per_row = _FLOP_PER_WEIGHT * sum(self._n_weights[1:])
        return flop_per_row * max(batch_size, limits.ROWS_OF_A_STEP) <= limits.MOST_COPIES_FLOP
