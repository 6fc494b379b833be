"""What is large, small or long enough for what: the numbers that decisions are made by, each measured."""

from __future__ import annotations

from fastmlp.kernels.plan import PANEL_ROWS

# --- chunks of a batch --------------------------------------------------------------------------------------------------------

WORKSPACE_BYTES = 1 << 20
"""Activations and deltas of a chunk of rows take about this much, so that they stay in a second-level cache."""
LEAST_CHUNK_ROWS = 256
"""A chunk has at least so many rows even then: shorter ones make the inner products of the gradient too short."""
LAYERED_CHUNK_ROWS = 1024
"""The same, for batches that go layer by layer: what packing the weights costs is shared by the rows of a chunk."""
CHUNK_FLOP = 3e10
"""A chunk takes at most so many operations in float32, half as many in float64, because Ctrl-C waits for its end."""

# --- slots: parts of a batch that have a gradient each --------------------------------------------------------------------------

SHARED_PER_WEIGHT = 9
"""A batch is cut into slots if threads that share its chunks would read so many of each other's numbers for each weight."""
LEAST_SLOT_ROWS = 64
"""A slot of a batch that is one chunk has at least so many rows."""
LEAST_SLOTS, MOST_SLOTS = 4, 64
"""A batch of several chunks is cut into at least and at most so many slots, or into none."""
SLOT_BYTES = 1 << 22
"""The gradients of all slots take at most this much together."""

# --- bands of features ----------------------------------------------------------------------------------------------------------

BANDS = 2
"""The features of wide samples are cut into so many bands. With four, one thread takes 2 to 4% longer, and two gain less."""
LEAST_BAND_SHARE = 2 / 3
"""Samples are wide if the first layer has at least this share of all weights..."""
FEATURES_PER_UNIT = 2
"""...and at least so many features for each of its units. Otherwise threads would exchange as much as without bands."""
MOST_COPIES_FLOP = 4e6
"""Each thread goes through the layers above its bands by itself, with a copy of them, where a batch takes no more operations there:
sharing them out would cost more, in weights, activations and deltas that threads fetch from each other..."""
ROWS_OF_A_STEP = 8
"""...if it has at least so many rows: an optimizer's step, and the transposed copy after it, take about as long as that."""
LEAST_BAND_FLOP = 1e6
"""A chunk with bands that takes fewer operations is not worth a second thread."""

# --- bins of the features of sparse samples -------------------------------------------------------------------------------------

LEAST_BIN_BYTES = 1 << 20
"""Weights of a first layer that take so much leave a second-level cache, with their gradient and the optimizer's states; for fewer,
sorting the numbers of sparse samples by bins of features takes longer than it saves."""
BIN_ROOM, MOST_BIN_NUMBERS = 1.5, 1 << 20
"""A batch is sorted if it has at most so many times as many numbers as an average one, and if that is no more than this: 12 or 16
MiB."""

# --- layer by layer -------------------------------------------------------------------------------------------------------------

LAYERED_BYTES = 1 << 19
"""A batch goes layer by layer if one layer's weights take more than this: too much to be read again for every panel of rows..."""
LEAST_LAYERED_ROWS = 4 * PANEL_ROWS
"""...and if it has at least so many rows to pay for packing them."""
MOST_BLOCK_TILES = 4
"""There, an optimizer's step comes to so many times three cache lines of a row at once, the width of the largest register tile:
three alone have ended before a processor notices that lines follow one another, and fetches them ahead..."""
PACKED_DELTAS_BYTES = 1 << 19
"""...if the deltas of so many columns take no more than this: they are read again and again, from a second-level cache."""

# --- other ways through a network -----------------------------------------------------------------------------------------------

NARROW_VECTORS = 100
"""Up to so many vectors of weights, online learning is faster with a kernel that is compiled with the formulas of its activations
and goes through units one after the other, than with one for all networks."""
CACHE_BYTES = 1 << 20
"""Samples that take more than this are not in a processor's own cache when an epoch comes to them, and are asked for in advance."""
SHARED_BYTES = 1 << 17
"""Weights that take no more than this are fetched from other processors' caches in one go, before they are needed."""

# --- calls of a kernel, and what is kept between them ---------------------------------------------------------------------------

CALL_SECONDS = 0.1
"""One call of a kernel takes about so long: Ctrl-C, progress bars and callbacks come between two calls."""
CROWDED_SECONDS = 0.012
"""The same, while somebody else needs a processor: that may end at any time, and then one more thread is worth it."""
FIRST_FLOP_PER_SECOND = 4e9
"""A cautious guess of a thread's speed, until it has been measured."""

PIECE_FLOP, MOST_PIECES = 1e6, 32
"""Predictions are made in pieces of at least so many operations, some ten microseconds, and in at most so many for each thread."""

MOST_PREDICTORS, MOST_TEAM_PREDICTORS = 16, 4
"""So many threads that predict at once, each by itself, find their buffers ready; and so many numbers of threads that share one."""

MOST_SESSIONS = 8
"""So many kinds of calls, by the shape of the data, are kept ready for each network..."""
KEPT_BYTES = 1 << 20
"""...if their gradients take no more than this: a call with a larger one takes so long that preparing it does not matter."""
