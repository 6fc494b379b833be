"""What the functions of a kernel hand to each other, in groups: who runs it, the data, what is learned, and where to work.

The kernels themselves take every array by itself, because Python calls them, and group them once inside; to the machine code it
makes no difference. Arrays that may be None stay outside: numba leaves out what is for them only where they are arguments.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


class Worker(NamedTuple):
    """One of the threads that run a kernel together."""

    thread: int
    n_threads: int
    sync: Array  # what they share, see plan.py


class Samples(NamedTuple):
    """The data: flat, contiguous, read only; those that the job does not use have any length."""

    x: Array  # (rows, features), or the values of compressed rows
    y: Array  # (rows, outputs)
    labels: Array  # (rows,)
    weights: Array  # (rows,)
    order: Array  # (rows,): of the epoch


class Model(NamedTuple):
    """What a step reads and changes; all but the coefficients are laid out as ``layers`` says."""

    parameters: Array
    state1: Array  # of the optimizer
    state2: Array
    gradient: Array
    coefficients: Array  # (steps, STEP_COLUMNS), flat


class Batch(NamedTuple):
    """A minibatch, and which of its chunks a call does; threads that run a kernel together have the same."""

    start: int  # position of its first row in the epoch
    rows: int
    first_chunk: int  # of those to do, counted from the batch's first...
    last_chunk: int  # ...and the one after the last
    ends: bool  # whether the batch's last chunk is one of them
    weight: float  # sum of its samples' weights, where it matters
    scale: float  # what the deltas of the loss are multiplied by
    l2: float
    c0: int  # its step's coefficients in the model's


class Space(NamedTuple):
    """Where a chunk is worked on."""

    constants: Array  # a row of zeros, then a panel of outputs (see JOB)
    activations: Array
    deltas: Array
    scratch: Array
    scratch0: int | np.int64  # where this thread's begins
    panel_losses: Array
    norms: Array
