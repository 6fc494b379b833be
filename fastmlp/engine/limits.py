"""What is large, small or long enough for what: the numbers that decisions are made by, each measured."""

from __future__ import annotations

from fastmlp.kernels.plan import PANEL_ROWS

WORKSPACE_BYTES = 1 << 20
"""Activations and deltas of a chunk of rows should fit a second-level cache..."""
LEAST_CHUNK_ROWS = 256
"""...but shorter chunks make the gradient's inner products too short..."""
LAYERED_CHUNK_ROWS = 1024
"""...and packing pays off with the number of rows..."""
CHUNK_FLOP = 2e10
"""...but longer ones than this would keep Ctrl-C waiting; in float32, of float64 half as many."""

SLOT_BYTES = 1 << 22
"""The gradients that parts of a batch have for themselves may take so much memory together..."""
MOST_SLOTS, LEAST_SLOTS = 64, 4
"""...and so many are worth it..."""
LEAST_SLOT_ROWS = 64
"""...and, of a batch that is one chunk, parts of so many rows..."""
SHARED_PER_WEIGHT = 9
"""...where threads that share the chunk would read so many of each other's activations and deltas for each weight."""

BANDS = 2
"""Features of wide samples are cut into so many bands. With four, one thread takes 2 to 4% longer, and two gain less."""
LEAST_BAND_SHARE, FEATURES_PER_UNIT = 2 / 3, 2
"""Samples are wide if the first layer has so much of all weights, and so many features for each of its units; otherwise to exchange
sums would be as much as to exchange samples and weights."""
LEAST_BAND_FLOP = 1e6
"""A chunk of less work is not worth a second thread."""

LAYERED_BYTES = 1 << 19
"""A layer with more weights than this is too large to be read again for every panel of rows..."""
LEAST_LAYERED_ROWS = 4 * PANEL_ROWS
"""...unless there are too few rows to pay for packing it."""

NARROW_VECTORS = 100
"""So many vectors of weights or fewer are worked through sooner by a kernel that knows its formulas, one after the other, than by
one that calls them, some at a time."""

CACHE_BYTES = 1 << 20
"""Data larger than this does not stay in a processor's own cache from one epoch to the next."""

SHARED_BYTES = 1 << 17
"""Up to so many bytes of weights are fetched from the caches of other processors in one go, before they are needed."""

MOST_SESSIONS = 8
"""Kinds of calls (by shape of the data) that a network is prepared for at the same time..."""
KEPT_BYTES = 1 << 20
"""...if their gradients take no more memory than this; others take so long that to prepare them does not matter."""

CALL_SECONDS = 0.1
"""Work of one call of a kernel..."""
CROWDED_SECONDS = 0.005
"""...while somebody else needs a processor, which may end at any time."""
FIRST_FLOP_PER_SECOND = 4e9
"""A cautious guess of a thread's speed, until it has been measured."""
