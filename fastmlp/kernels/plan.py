"""The numbers that steer a kernel, as arrays of records.

Sizes, offsets and codes are data, so nothing recompiles for a network of another shape. All offsets and widths count elements of
the flat arrays that they point into. No field is called like an attribute of ``numpy.record``, such as ``mean``: with numba
switched off, the kernels would find that instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def _record(**fields: str) -> np.dtype[Any]:
    return np.dtype(list(fields.items()), align=True)


LAYER = _record(
    fan_in="i8",
    fan_out="i8",
    width="i8",  # padded fan_out: distance between rows of weights, outputs and deltas
    weights="i8",  # first weight, in parameters, gradient and states alike
    bias="i8",  # first bias
    transposed="i8",  # first element of the transposed copy of the weights, (fan_out, transposed_width)
    transposed_width="i8",
    inputs="i8",  # first row of the layer's inputs in the activations
    input_width="i8",
    outputs="i8",  # first row of its outputs in the activations
    deltas="i8",  # first row of its deltas
    activate="i8",  # address of the loop over the activation function, and...
    activate_and_slope="i8",  # ...of it with its slope
    by_row="i8",  # 1 for softmax, which has no such loops
    parameter="f8",  # slope or scale of the activation function
    dropout="i8",  # of 2^32: units with a hash below this are left out in training
    kept_scale="f8",  # what the others are multiplied by
)

BLOCK = _record(  # some rows and columns of a layer's weights (or its bias), of which one thread computes the gradient
    layer="i8",
    row="i8",  # first row
    rows="i8",  # of weights
    bias="i8",  # 1: the bias, which is the row after the last, belongs to it
    column="i8",
    columns="i8",
    norms="i8",  # where the squared norms of its rows are kept
)

JOB = _record(
    n_layers="i8",
    features="i8",
    outputs="i8",
    rows="i8",  # samples in the data
    batch_size="i8",
    chunk_rows="i8",  # rows of a batch that the workspace holds at once; for each thread, if there are slots or copies
    own_rows="i8",  # from one thread's rows of the workspace to the next one's then; with copies, the sums of bands of one batch
    # and of the next, which take turns, are as far apart
    slots="i8",  # how many partial sums of gradients a batch has, if each thread takes whole chunks; else 0
    slot_stride="i8",  # from one slot's gradient to the next one's, with a gap between them
    prefetches="i8",  # 1: the data is larger than a cache, so that the rows of the next chunk are asked for ahead of time
    sparse="i8",  # 1: samples are in compressed rows; for predictions
    plain="i8",  # 1: a step is w - c0 * gradient, without penalties or clipping, and a batch is one chunk
    still="i8",  # 1: a gradient of zero changes neither a weight nor the optimizer's state; likewise
    step_columns="i8",  # from the coefficients of one step to those of the next; 0: all steps have the same
    bins="i8",  # address of the numbers of sparse samples, sorted by bins of features, and...
    bin_values="i8",  # ...of their values; 0 if gradients and steps are not made bin by bin
    bin_shift="i8",  # a bin has 2 to this many features
    bin_room="i8",  # for so many numbers, of all threads together
    bands="i8",  # into so many the features of wide samples are cut; else 0
    band_sums="i8",  # first element, in the activations, of the products of the first band...
    band_rows="i8",  # ...and how many rows further the next one's begin, like its samples in the first layer's inputs
    copies="i8",  # address of thread 1's copy of the layers above bands, if each thread has one (the first the model); else 0
    copy_bytes="i8",  # how much further the next thread's is
    strips="i8",  # first element, in the activations, of a second copy of them, for gradients, if chunks go layer by layer
    shares_weights="i8",  # 1: the weights are few enough to ask for all that other threads have updated at once
    shuffled="i8",  # 1: row i of the epoch is row order[i - order_start] of the data
    order_start="i8",
    labelled="i8",  # 1: targets are class labels
    output_mask="i8",  # first element, in the constants, of a panel that is 1 at each output, and 0 where its rows are padded
    weighted="i8",  # 1: there are sample weights
    averages="i8",  # 1: the objective is the weighted mean over a batch; 0: the sum
    loss="i8",  # address of the loop over the loss
    canonical="i8",  # 1: delta of the output layer is a - y
    logits="i8",  # 1: the loss is computed from the logits
    mode="i8",  # LOSS_ONLY, GRADIENT_ONLY or TRAINS
    update="i8",  # address of the loop over the optimizer's step
    parameter="f8",  # threshold or quantile of the loss
    l2="f8",
    l2_by_weight="i8",  # 1: it is divided by the weight of each batch
    loss_scale="f8",
    dropout_key="i8",  # of the epoch
    max_norm="f8",  # 0: gradients are not clipped
    scratch_stride="i8",  # elements of scratch memory per thread
)

LOSS_ONLY, GRADIENT_ONLY, TRAINS = range(3)
"""What a kernel is called for: no gradient at all; gradient but no update; both."""

PANEL_ROWS = 16
"""Rows that go through all layers together; a multiple of the tile's rows and of the block that is transposed in registers."""

TRANSPOSE = 8
"""Rows and columns of a block that is transposed in registers."""

RUN = 64
"""Loops over panels are rounded up to so many elements: then all of them are done in the widest vectors, several at a time."""

STRIP_ROWS = 8
"""Smallest number of rows of a :data:`BLOCK`, except at the end of a layer: those of the largest register tile."""

BLOCK_COLUMNS, BLOCK_ELEMENTS = 256, 4096
"""Of the largest :data:`BLOCK`: its gradient should fit the first-level cache."""

FEWEST_BLOCKS, MOST_BLOCKS = 8, 32
"""So many follow one another where whoever is free takes the next ones: each time, the deltas of their columns are packed anew."""

SHRINK = 8
"""Column with the factor that weight decay multiplies weights by; the coefficients of the step formula stand before it."""

STEP_COLUMNS = SHRINK + 1

SLACK_ROWS = 8
"""Rows that every buffer has beyond its end, for tiles that are rounded up."""

GAP_ROWS, GAP_BYTES = PANEL_ROWS, 2048
"""Between what two threads write, in the workspace and elsewhere: a processor fetches up to some twenty lines beyond the end of
what it goes through, and what another has just written there would be taken from it, again and again. (A row is at least one.)"""

LOSS_STRIDE = 8
"""From one slot's loss to the next one's, in float64: each has a line of its own."""

BLOCK_SCRATCH = BLOCK_ELEMENTS + (1 + SLACK_ROWS) * BLOCK_COLUMNS
"""Room in scratch memory for the gradient of a :data:`BLOCK`: with its bias, and the rows that a tile is rounded up to."""

AHEAD_LINES = 2
"""Of cache lines that follow one another, so many are asked for ahead: processors then notice, and fetch the others. More than a
dozen or two on their way hold up the loads of the products."""
LINE_BYTES, PAGE_BYTES = 64, 4096
"""Of a cache line, which is also the widest vector register, and of a page: beyond its end, processors do not follow, and addresses
so far apart fall into the same set of a first-level cache."""

FEW_OUTPUTS = 2
"""So many outputs or fewer are computed by vectors along their inputs: one of their own row would be mostly padding..."""
FEW_SCRATCH = BLOCK_ELEMENTS + BLOCK_COLUMNS
"""...and the place for their transposed gradient is where that of a block as narrow as a cache line has ended."""

NARROW_LAYERS, NARROW_WIDTH = 8, 64
"""Most layers, and most units of one, padding included, of a network that counts as narrow."""

# Numbers and truths for calls from one kernel to another: numba would compile the callee once more for every literal.
ZERO, ONE = np.int64(0), np.int64(1)
NOBODY = np.int64(-1)  # in the place of a thread's number
NO, YES = np.bool_(False), np.bool_(True)

# Places in the array that threads share; 8 int64 make a cache line.
ABORT, PLACES_LOCK, ALLOWED = 0, 8, 16
"""Whether to give up, who may move, and to which processors, a bit for each."""
MASK_WORDS = 16
ONE_PLACE = ALLOWED + MASK_WORDS
"""Processors of the one that moves, as bits."""
TICKETS = ONE_PLACE + MASK_WORDS
"""How many pieces of work have been asked for, on a line of its own."""
STATES, THREAD_STRIDE = TICKETS + 8, 24
"""The first thread's own places, and how much further the next one's begin: three cache lines. At the beginning is its state..."""
PLACE, FIRST_TICKET, FLAGS = 1, 2, 8
"""...so much further, its processor's number + 1, or 0; the number of the ticket that is the first of the work at hand, which only
the thread itself reads; and, on the lines that follow, for each round of the barrier (16, for 2^16 threads at most) the last
meeting of which another thread has told it."""

ABSENT, WAITING, WORKING, LEAVING = range(4)
"""States of a thread that helps: not in the kernel; in it, without work; at work; told to leave."""

# What changes from one call to the next, in an array that helpers keep seeing.
FIRST_BATCH, FIRST_CHUNK, LAST_CHUNK = range(3)
FIRST_ROW, LAST_ROW, PIECE_PANELS, X_ADDRESS, INDICES_ADDRESS, STARTS_ADDRESS, OUT_ADDRESS = range(7)
"""Of training, and of prediction."""

# Places in the array of sums that a kernel adds to.
LOSS_SUM, WEIGHT_SUM = 0, 1
