"""Calls of the kernels that train, one after the other, and the buffers that they work in."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numba
import numpy as np

from fastmlp.dropout import threshold
from fastmlp.engine import limits
from fastmlp.engine.arguments import NO_ORDER, as_records, flat_data, no_data
from fastmlp.engine.partition import n_norms, share_blocks
from fastmlp.kernels import plan
from fastmlp.kernels.epoch import run_chunks
from fastmlp.kernels.online import run_rows
from fastmlp.kernels.plan import LINE_BYTES, PANEL_ROWS
from fastmlp.kernels.shuffle import draw_order, fill_order
from fastmlp.kernels.simd import TILE_VECTORS
from fastmlp.kernels.team import NoThreadError, Team
from fastmlp.memory import aligned_zeros, padded
from fastmlp.pace import give_back_pace, take_pace, thread_candidates
from fastmlp.shuffle import Order
from fastmlp.threads import available_threads
from fastmlp.validation import Data

if TYPE_CHECKING:
    from fastmlp.engine.engine import Engine

Array = np.ndarray[Any, np.dtype[Any]]


class Workspace:
    """Buffers that a kernel works in; what they hold means nothing between two passes over the rows."""

    def __init__(self, engine: Engine, rows: int, n_threads: int, sparse: bool, layered: bool, bands: int) -> None:
        shape, dtype = engine.shape, engine.shape.dtype
        self.key = (rows, n_threads, sparse, layered, bands)
        self._sparse = sparse
        self._band_starts = shape.band_starts(bands)[:bands] if bands else []
        self.layers, activations, deltas = engine.records.layers(rows, sparse, slopes=True, bands=bands)
        self.sums_or_strips, self.band_rows = activations, shape.room(rows)  # beside the activations
        gradient = plan.BLOCK_SCRATCH
        self._most_columns = plan.BLOCK_COLUMNS
        if layered:
            tile = TILE_VECTORS * LINE_BYTES // dtype.itemsize
            tiles = limits.PACKED_DELTAS_BYTES // (rows * tile * dtype.itemsize)
            self._most_columns = tile * max(1, min(limits.MOST_BLOCK_TILES, tiles))
            packed = max((rows + plan.SLACK_ROWS) * self._most_columns, (max(shape.sizes) + plan.SLACK_ROWS) * tile)
            panels = 2 * -(-PANEL_ROWS * tile // plan.RUN) * plan.RUN
            gradient = max(plan.BLOCK_SCRATCH, panels) + packed
        self.scratch_stride = padded(max(shape.output_scratch(blocks=4), gradient), dtype) + LINE_BYTES // dtype.itemsize
        beside = activations if layered else bands * self.band_rows * shape.widths[1]
        self.activations = aligned_zeros(activations + beside, dtype)
        self.deltas = aligned_zeros(deltas, dtype)
        self.scratch = aligned_zeros(n_threads * self.scratch_stride, dtype)
        zeros, width = max(shape.widths), shape.widths[-1]
        self.constants = aligned_zeros(zeros + PANEL_ROWS * width, dtype)
        self.constants[zeros:].reshape(PANEL_ROWS, width)[:, : shape.sizes[-1]] = 1
        self.panel_losses = aligned_zeros(max(rows // PANEL_ROWS + 1, limits.MOST_SLOTS * plan.LOSS_STRIDE), np.dtype(np.float64))
        self.norms = aligned_zeros(n_norms(shape.sizes, shape.widths, self._most_columns), np.dtype(np.float64))
        self.packed = self.scratch if layered else None
        self.transposed = None if layered else aligned_zeros(max(shape.transposed_length, 1), dtype)
        self._sizes, self._widths = shape.sizes, shape.widths
        self._shares: dict[tuple[int, bool], tuple[Array, Array]] = {}
        self._dropout: tuple[float, ...] = ()

    def leave_out(self, dropout: tuple[float, ...]) -> None:
        """Set the probabilities of dropout, one for each hidden layer, or none."""
        if dropout != self._dropout:
            hidden = self.layers[: len(self.layers) - 1]
            hidden["dropout"] = [threshold(rate) for rate in dropout] or 0
            hidden["kept_scale"] = [1 / (1 - rate) for rate in dropout] or 1
            self._dropout = dropout

    def clear(self) -> None:
        """Make padding zero: a training that diverged has left nan where it should be, which nothing else writes."""
        if self.transposed is not None:
            self.transposed.fill(0)

    def shares(self, n_threads: int, copies: bool) -> tuple[Array, Array]:
        """Blocks, and the first block of each of so many threads; see :func:`~fastmlp.engine.partition.share_blocks`."""
        key = n_threads, copies
        if key not in self._shares:
            self._shares[key] = share_blocks(
                self._sizes, self._widths, n_threads, self._most_columns, self._sparse, self._band_starts, copies
            )  # fmt: skip
        return self._shares[key]


def _nobody_works() -> bool:
    return False


Coefficients = Callable[[int, int], Array]
"""(first, last) -> coefficients of the steps of batches first .. last: (steps, STEP_COLUMNS), or one row for all of them."""

_CHANGING = ("shuffled", "order_start", "step_columns", "dropout_key", "scratch_stride", "copies")
"""Of a job, from one call of the kernel to the next."""


class PreparedCall:
    """A session's pass over all rows as one call, for so little data that to lay it out anew would take longer than the kernel.

    What is left to say are the data, of the shape that the session was made for, and the parameters. ``session.gradient`` and
    ``session.sums`` hold what comes of it.
    """

    def __init__(
        self, session: Session, space: Workspace, runner: Callable[..., None], records: tuple[Any, ...], places: tuple[Any, ...]
    ) -> None:
        self.session = session
        self._space, self._run, self._places = space, partial(runner, *records), places

    def run(self, buffer: Array, data: Data) -> None:
        """Go through the data, with the parameters in buffer."""
        self.session.sums.fill(0)
        self._space.clear()
        self._run(*flat_data(data, buffer.dtype), NO_ORDER, buffer, *self._places)


class Session:
    """A pass over rows, again and again: what the kernel is called for, and the state that lives from one call to the next.

    A context manager: ``with session.on(buffer, data)`` it has parameters, data and a workspace.

    Parameters
    ----------
    engine : Engine
    key : tuple or None
        What it can be used for again; None for a session with state.
    data : Data
        Of the shape that it will be used for.
    batch_size : int
    mode : int
        ``LOSS_ONLY``, ``GRADIENT_ONLY`` or ``TRAINS``.
    mean : bool
        Whether the objective is the weighted mean over a batch, rather than the sum.
    update, n_states : int
        The optimizer: address of the loop over its step, and how many numbers of state each parameter has.
    l2, max_norm, l2_by_weight, loss_scale, dropout
        See :class:`~fastmlp.trainer.Recipe`.
    still : bool
        Whether a gradient of zero changes neither a weight nor the optimizer's state, but for penalties.
    plain : bool
        Whether the optimizer's step is w - rate * gradient.
    """

    def __init__(
        self,
        engine: Engine,
        key: tuple[Any, ...] | None,
        data: Data,
        batch_size: int,
        mode: int,
        *,
        mean: bool,
        update: int = 0,
        n_states: int = 0,
        l2: float = 0.0,
        max_norm: float = 0.0,
        l2_by_weight: bool = False,
        loss_scale: float = 1.0,
        still: bool = False,
        plain: bool = False,
        dropout: tuple[float, ...] = (),
    ) -> None:
        self.key = key
        self._engine: Engine = weakref.proxy(engine)  # it may keep this session, and all would wait for the garbage collector
        self._rows, self._batch_size = data.rows, batch_size
        shape, dtype = engine.shape, engine.shape.dtype
        self._sparse = data.sparse
        blocking = self._blocking = shape.blocking(batch_size, data.sparse)
        self._chunks_per_batch = -(-batch_size // blocking.chunk_rows)
        is_one_chunk = self._chunks_per_batch == 1
        has_bare_gradient = l2 == 0 and max_norm == 0 and is_one_chunk  # nothing is added to it, nor is it scaled
        is_online = batch_size == 1 and plain and has_bare_gradient and not data.sparse
        n_threads = self._most_threads = 1 if is_online else engine.threads_for_training(data.rows, batch_size, blocking)
        self._has_copies = blocking.copies and mode == plan.TRAINS and max_norm == 0 and not is_online
        self._work = shape.sizes, dtype, data.sparse, batch_size, mode
        self._candidates = thread_candidates(n_threads, engine.n_threads)
        length = shape.layout.length
        self.states = [aligned_zeros(length if number < n_states else 1, dtype) for number in range(2)]
        needs_gradient = mode == plan.GRADIENT_ONLY or (mode == plan.TRAINS and (data.sparse or not is_one_chunk or max_norm > 0))
        slot_stride = length + plan.GAP_BYTES // dtype.itemsize
        self._gradients = aligned_zeros(slot_stride * max(blocking.slots, 1) if needs_gradient else 1, dtype)
        self.gradient = self._gradients[:length]
        self.sums = aligned_zeros(2, np.dtype(np.float64))

        job = self._job = engine.records.job.copy()
        job["rows"], job["batch_size"], job["chunk_rows"] = data.rows, batch_size, blocking.chunk_rows
        job["labelled"], job["weighted"] = data.labels is not None, data.weight is not None
        job["slots"], job["slot_stride"], job["bands"] = blocking.slots, slot_stride, blocking.bands
        job["still"], job["plain"] = still and has_bare_gradient, plain and has_bare_gradient
        job["prefetches"] = not data.sparse and data.x.nbytes > limits.CACHE_BYTES
        job["averages"], job["mode"], job["l2"], job["max_norm"] = mean, mode, l2, max_norm
        job["loss"], job["update"] = engine.records.loss_address(), update
        job["l2_by_weight"], job["loss_scale"] = l2_by_weight, loss_scale
        self._changes: tuple[int, ...] = ()  # what the job has of _CHANGING: to set a field takes longer than to compare
        self._workspace_rows = self._place_rows()
        moves_all = mode == plan.TRAINS and is_one_chunk and max_norm == 0 and not (job["still"][0] or job["plain"][0])
        self._has_bins = data.sparse and moves_all and shape.has_bins and not numba.config.DISABLE_JIT
        self._copies_address = self._make_copies(n_states) if self._has_copies else 0

        self._kernel = run_chunks
        if is_online:  # by kernels for one thread
            narrow = None if data.weight is not None or dropout else engine.records.narrow_kernel()
            self._kernel = narrow or run_rows
        self._dropout, self._dropout_key = dropout, 0
        self._row_seconds = shape.flop_per_row / (limits.FIRST_FLOP_PER_SECOND * n_threads)
        self._order = NO_ORDER
        self._teams: list[Team] = []
        self._runners: dict[int, Callable[..., None]] = {}  # by number of threads
        self._calls = np.zeros(3, np.int64)
        self._steps = np.empty(0)
        self.somebody_works: Callable[[], bool] = _nobody_works
        self._space: Workspace | None = None
        self._has_no_helpers = False  # because the system gives no threads

    def _place_rows(self) -> int:
        """Say in the job where each thread's rows of the workspace begin, if it has its own; returns how many there are in all."""
        chunk_rows, slots, bands = self._blocking.chunk_rows, self._blocking.slots, self._blocking.bands
        if not slots and not self._has_copies:
            return chunk_rows
        own_rows = -(-chunk_rows // PANEL_ROWS) * PANEL_ROWS + plan.GAP_ROWS
        self._job["own_rows"] = own_rows
        return own_rows * (self._most_threads if slots else max(2, bands))  # two: sums of bands take turns

    def _make_bins(self, numbers: int) -> None:
        """Have room for the numbers of a batch of sparse samples, sorted by bins of features, of which a row has so many."""
        shape, job = self._engine.shape, self._job
        room = numbers * self._batch_size
        if not job["bin_room"][0] < room <= limits.MOST_BIN_NUMBERS:
            return
        shift = (plan.BLOCK_ELEMENTS // shape.widths[1]).bit_length() - 1
        n_bins = -(-shape.sizes[0] // (1 << shift))
        self._bins = aligned_zeros(self._most_threads * n_bins + room, np.dtype(np.int64))
        self._bin_values = aligned_zeros(room, shape.dtype)
        job["bins"], job["bin_values"] = self._bins.ctypes.data, self._bin_values.ctypes.data
        job["bin_shift"], job["bin_room"] = shift, room

    def _make_copies(self, n_states: int) -> int:
        """Have room for what each thread but the first has of its own of the layers above the bands; returns its address."""
        shape = self._engine.shape
        above = shape.layout.length - shape.layout.weight_offset(1)
        length = shape.transposed_length + (1 + n_states) * above
        n_copies = min(self._most_threads, self._blocking.bands) - 1
        self._copies = aligned_zeros(max(1, n_copies * length), shape.dtype)
        self._job["copy_bytes"] = length * shape.dtype.itemsize
        return self._copies.ctypes.data

    def _uses_copies(self, n_threads: int) -> bool:
        """Whether each of so many threads has a copy: a band is all its own."""
        return self._has_copies and self._blocking.bands % n_threads == 0

    @property
    def gradient_bytes(self) -> int:
        """Of the gradients of all slots."""
        return self._gradients.nbytes

    def on(self, buffer: Array, data: Data) -> Self:
        """Choose the parameters (in the aligned layout) and the data, of the shape that the session was made for."""
        self._buffer, self._data = buffer, flat_data(data, self._engine.shape.dtype)
        if self._has_bins:
            self._make_bins(int(limits.BIN_ROOM * data.x.nnz / data.rows) + 1)
        return self

    def sums_and_gradient(self, gradient: bool) -> tuple[float, Array | None]:
        """Of the rows gone through: the sum of losses and, if wanted, a copy of its gradient."""
        return self.sums.item(plan.LOSS_SUM), self.gradient.copy() if gradient else None

    def forget_rows(self, most_bytes: int) -> None:
        """Let go of what each use fills in anew, if it takes more than this."""
        if self._order.nbytes + self._steps.nbytes > most_bytes:
            self._order, self._steps = NO_ORDER, np.empty(0)

    def replace(self, data: Data) -> None:
        """Go on with other rows, of the same kind and in any number."""
        self._dismiss()
        self.key = None  # from now on for no certain number
        self._rows = data.rows
        self._job["rows"] = data.rows
        self.on(self._buffer, data)

    def __enter__(self) -> Self:
        self._pace = take_pace(self._work, self._candidates)
        self._has_no_helpers = False
        blocking = self._blocking
        space = self._space = self._engine.take_workspace(
            self._workspace_rows, self._most_threads, sparse=self._sparse, layered=blocking.layered, bands=blocking.bands
        )
        self._job["band_sums"] = self._job["strips"] = space.sums_or_strips  # a chunk has one of them, or neither
        self._job["band_rows"] = space.band_rows
        space.leave_out(self._dropout)
        space.clear()
        return self

    def __exit__(self, *error: object) -> None:
        self._dismiss()
        give_back_pace(self._work, self._candidates, self._pace)
        if self._space is not None:
            self._engine.give_back_workspace(self._space)
        self._space = None
        del self._buffer, self._data
        if error[0] is None:  # else it may have ended in the middle of a batch, with a part of its gradient
            self._engine.give_back_session(self)

    def _dismiss(self) -> None:
        """Before an array that helpers know is replaced."""
        for team in self._teams:
            team.dismiss()

    def _put_order(self, order: Order, first_batch: int, last_batch: int) -> None:
        """Row numbers of whole batches, whose weights are summed even where not all of their chunks come, and of one more.

        Its samples are asked for while the last of the others is trained on.
        """
        first = first_batch * self._batch_size
        last = min(self._rows, (last_batch + 1) * self._batch_size)
        if len(self._order) < last - first:
            self._dismiss()
            self._order = np.empty(last - first, np.int64)
        rows = self._order[: last - first]
        if order.is_drawn and order.array is None:
            drawn = np.empty(order.rows, np.int64)
            with np.errstate(over="ignore"):  # of hashes, where kernels run as plain Python
                draw_order(order.keys, drawn)
            order.array = drawn
        if order.array is not None:
            rows[:] = order.array[first:last]
        else:
            fill_order(order.keys, order.bits, order.radix, order.rows, first, rows)

    def put_steps(self, steps: Array) -> None:
        """Have coefficients of steps (steps, STEP_COLUMNS) where the kernel reads them."""
        if len(self._steps) < steps.size:
            self._dismiss()
            self._steps = np.empty(steps.size)
        self._steps[: steps.size] = steps.reshape(-1)

    @property
    def _n_chunks(self) -> int:
        """Chunks of all rows."""
        return -(-self._rows // self._batch_size) * self._chunks_per_batch

    def _rows_before(self, chunk: int) -> int:
        batch, part = divmod(chunk, self._chunks_per_batch)
        return min(self._rows, batch * self._batch_size + part * self._blocking.chunk_rows)

    def run(self, order: Order | None, coefficients: Coefficients | None, dropout_key: int = 0) -> Iterator[int]:
        """Go through all rows once; yields the rows done, several times a second. No coefficients where there are no steps."""
        n_chunks = self._n_chunks
        self.sums[:] = 0
        self._dropout_key = dropout_key
        start = 0
        while start < n_chunks:
            n_threads, crowded = self._threads_now()
            seconds = limits.CROWDED_SECONDS if crowded else self._pace.limit(limits.CALL_SECONDS)
            least = max(1, self._blocking.slots)  # fewer chunks would be those of some of the threads
            count = max(least, int(seconds / (self._row_seconds * self._blocking.chunk_rows)) // least * least)
            if count > self._chunks_per_batch:  # whole batches
                count -= (start + count) % self._chunks_per_batch
            stop = min(n_chunks, start + count)
            arguments = self.arguments(order, coefficients, start, stop, n_threads)
            runner = self._runners.get(n_threads) or self._make_runner(n_threads)
            began = time.perf_counter()
            try:
                runner(*arguments)
            except NoThreadError:
                self._has_no_helpers = True
                continue
            seconds = time.perf_counter() - began
            rows = self._rows_before(stop) - self._rows_before(start)
            if rows > 0:  # the last batch may be too small for all of its chunks
                self._row_seconds = max(seconds / rows, 1e-12)
            if not crowded and 2 * rows >= (stop - start) * self._blocking.chunk_rows:  # a few rows take as long as many
                self._pace.record(rows, seconds)
            start = stop
            yield self._rows_before(start)

    def _threads_now(self) -> tuple[int, bool]:
        """Threads for the next call, and whether they are fewer because somebody else needs a processor.

        One thread too many costs more than one too few: the others wait for it at every barrier.
        """
        n_threads = self._pace.n_threads
        if self._has_no_helpers:
            return 1, n_threads > 1
        if 1 < n_threads == available_threads() and self._engine.n_threads is None and self.somebody_works():
            return n_threads - 1, True
        return n_threads, False

    def arguments(
        self, order: Order | None, coefficients: Coefficients | None, start: int, stop: int, n_threads: int
    ) -> tuple[Any, ...]:
        """What the kernel is called with for chunks start .. stop, after what the team adds."""
        space, job = self._space, self._job
        assert space is not None
        first_batch, last_batch = start // self._chunks_per_batch, -(-stop // self._chunks_per_batch)
        if order is not None:
            self._put_order(order, first_batch, last_batch)
        step_columns = 0
        if coefficients is not None:
            steps = coefficients(first_batch, last_batch)
            step_columns = plan.STEP_COLUMNS if len(steps) > 1 else 0
            self.put_steps(steps)
        changes = (
            order is not None,
            first_batch * self._batch_size,
            step_columns,
            self._dropout_key,
            space.scratch_stride,
            self._copies_address if self._uses_copies(n_threads) else 0,
        )
        if changes != self._changes:
            self._changes = changes
            for name, value in zip(_CHANGING, changes, strict=True):
                job[name] = value
        calls = self._calls
        calls[plan.FIRST_BATCH], calls[plan.FIRST_CHUNK], calls[plan.LAST_CHUNK] = first_batch, start, stop
        return (*self._records(space, n_threads), *self._data, self._order, self._buffer, *self._places(space))

    def _records(self, space: Workspace, n_threads: int) -> tuple[Any, ...]:
        """The kernel's arguments that come before data and parameters..."""
        blocks, bounds = space.shares(n_threads, self._uses_copies(n_threads))
        return self._calls, as_records(self._job), as_records(space.layers), as_records(blocks), bounds

    def _places(self, space: Workspace) -> tuple[Any, ...]:
        """...and after them."""
        return (
            space.transposed, space.packed, *self.states, self._gradients, space.constants, space.activations, space.deltas,
            space.scratch, space.panel_losses, space.norms, self._steps, self.sums,
        )  # fmt: skip

    def _make_runner(self, n_threads: int) -> Callable[..., None]:
        """The kernel, run by so many threads, for arrays of this dtype."""
        team, compiled = Team(n_threads), self._engine.compiled
        space = self._space
        assert space is not None
        kind = self._kernel, self._sparse, self._blocking.layered
        if kind not in compiled:
            data = no_data(self._engine.shape.dtype, self._sparse)
            compiled[kind] = team.compiled(
                self._kernel, *self._records(space, n_threads), *data, self._buffer, *self._places(space)
            )  # fmt: skip
        self._teams.append(team)
        self._runners[n_threads] = runner = team.runner(compiled[kind])
        return runner

    def prepared(self, coefficients: Coefficients | None = None) -> PreparedCall:
        """The pass over all rows as one call of one thread, to be made again and again; the session is in use from now on."""
        self.key = None
        self.__enter__().arguments(None, coefficients, 0, self._n_chunks, 1)  # fills in records
        space = self._space
        assert space is not None
        runner = self._make_runner(1)
        del self._buffer, self._data
        return PreparedCall(self, space, runner, self._records(space, 1), self._places(space))
