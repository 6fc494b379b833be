"""Between the network and its kernels: lays out buffers, fills the records that steer the kernels, and calls them.

No mathematics here. A call of a kernel is cut to about a tenth of a second, so that Ctrl-C, progress bars and callbacks
get their turn.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import numba
import numpy as np

from fastmlp.activations import ACTIVATIONS, Activation
from fastmlp.dropout import threshold
from fastmlp.kernels import plan
from fastmlp.kernels.bands import first_feature
from fastmlp.kernels.columns import rows_of_columns
from fastmlp.kernels.epoch import run_chunks
from fastmlp.kernels.jit import Kernel
from fastmlp.kernels.loops import (
    Loop,
    activate_and_slope_loop,
    activate_loop,
    compile_loop,
    logit_terms_loop,
    loss_and_slope_loop,
    update_loop,
)
from fastmlp.kernels.narrow import narrow_rows
from fastmlp.kernels.online import run_rows
from fastmlp.kernels.plan import PANEL_ROWS
from fastmlp.kernels.predict import predict_rows
from fastmlp.kernels.shuffle import fill_order
from fastmlp.kernels.simd import MACHINE, TILE_VECTORS
from fastmlp.kernels.team import Team, signal_helpers
from fastmlp.losses import LOSSES, Loss
from fastmlp.network import PLAIN_DESCENT, Progress, Rates, Recipe, Trainer
from fastmlp.optimizers import OPTIMIZERS, Optimizer
from fastmlp.parameters import ALIGNMENT, Layout, aligned_zeros, pack, padded, unpack
from fastmlp.partition import n_norms, share_units
from fastmlp.shuffle import ROUNDS, Order
from fastmlp.threads import FLOP_OF_TWO, Pace, Succession, available_threads, choose_threads, thread_candidates
from fastmlp.validation import Data, compressed, is_sparse

Array = np.ndarray[Any, np.dtype[Any]]

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

CALL_SECONDS = 0.1
"""Work of one call of a kernel..."""
CROWDED_SECONDS = 0.005
"""...while somebody else needs a processor, which may end at any time."""
_FIRST_FLOP_PER_SECOND = 4e9
"""A cautious guess of a thread's speed, until it has been measured."""


MOST_SESSIONS = 8
"""Kinds of calls (by shape of the data) that a network is prepared for at the same time."""

_FLOAT64, _INT64, _INT32 = np.dtype(np.float64), np.dtype(np.int64), np.dtype(np.int32)
_PREDICTIONS = Succession()


def _nothing(dtype: np.dtype[Any]) -> Array:
    """In the place of data that a call does not have. Read-only, as data is to kernels, which are compiled for these."""
    nothing = np.empty(0, dtype)
    nothing.setflags(write=False)
    return nothing


_NOTHING = {dtype: _nothing(dtype) for dtype in (np.dtype(np.float32), _FLOAT64, _INT64, _INT32)}
_NO_INDICES, _NO_STARTS, _NO_LABELS, _NO_ORDER = _NOTHING[_INT32], _NOTHING[_INT64], _NOTHING[_INT64], _NOTHING[_INT64]


def _no_data(dtype: np.dtype[Any], sparse: bool) -> tuple[Array | None, ...]:
    """Samples, their indices and starts, targets, labels, weights and their order, of a call that has none of them."""
    places = (_NO_INDICES, _NO_STARTS) if sparse else (None, None)
    return (_NOTHING[dtype], *places, _NOTHING[dtype], _NO_LABELS, _NOTHING[dtype], _NO_ORDER)


def _samples(x: Any) -> tuple[Array, Array | None, Array | None]:
    """Samples as kernels take them: flat numbers, and for compressed rows their column indices and starts."""
    return compressed(x) if is_sparse(x) else (x.ravel(), None, None)


def _records(records: Array) -> Array:
    """Records as a kernel takes them; with numba switched off, records need NumPy's help to have attributes."""
    return records.view(np.recarray) if numba.config.DISABLE_JIT else records


class Engine:
    """The compiled side of one network: everything that depends on its sizes only.

    Parameters
    ----------
    sizes : tuple of int
    dtype : numpy.dtype
    activations : sequence of Activation
    loss : Loss
    mean : bool
        Whether the objective is the mean over a batch.
    n_threads : int or None
        Threads to use; None to choose by the amount of work.
    """

    def __init__(
        self,
        sizes: tuple[int, ...],
        dtype: np.dtype[Any],
        activations: Sequence[Activation],
        loss: Loss,
        mean: bool,
        n_threads: int | None,
    ) -> None:
        self.sizes, self.dtype, self.n_threads = sizes, dtype, n_threads
        self.layout = Layout.aligned(sizes, dtype)
        self.widths = [padded(size, dtype) for size in sizes]
        self._activations, self._loss = activations, loss
        self._loops: dict[Loop, Any] = {}
        self.flop_per_row = 6 * sum(fan_in * width for fan_in, width in zip(sizes, self.widths[1:], strict=False))
        self.job = self._make_job(loss, mean)
        self._spare: dict[tuple[int, int, bool, bool, int], _Workspace] = {}
        self._sessions: dict[tuple[Any, ...], Session] = {}
        self._steppers: dict[tuple[Any, ...], CompiledTrainer] = {}
        # What sessions have used so far, for this dtype: a kernel, for sparse samples or not, and layer by layer or not.
        self.compiled: dict[tuple[Kernel[..., None], bool, bool], Callable[..., None]] = {}
        self._spaces_to_predict = defaultdict[int, list[_SpaceToPredict]](list)

    @property
    def n_layers(self) -> int:
        """Layers of weights."""
        return len(self.sizes) - 1

    def _make_job(self, loss: Loss, mean: bool) -> Array:
        """The job record, with what every call has in common."""
        job = np.zeros(1, plan.JOB)
        canonical = loss.belongs_to(self._activations[-1])
        job["n_layers"] = self.n_layers
        job["is_output"] = max(self.widths)
        job["shares_weights"] = self.layout.length * self.dtype.itemsize <= SHARED_BYTES
        job["features"], job["outputs"] = self.sizes[0], self.sizes[-1]
        job["mean"] = mean
        job["parameter"] = loss.parameter
        job["canonical"], job["logits"] = canonical, canonical and loss.compiled_logits_value is not None
        return job

    def _address(self, loop: Loop, entry: Activation | Loss | Optimizer) -> int:
        """Address of a loop over an entry, which is compiled now if it has not been, and lives as long as the engine."""
        if loop not in self._loops:
            try:
                self._loops[loop] = compile_loop(loop, self.dtype)
            except TypeError as error:
                raise TypeError(f"{entry.name}: {error}") from error.__cause__
        return int(self._loops[loop].address)

    def loss_address(self) -> int:
        """Address of the loop over the loss; 0 where it is one with the activation of the outputs."""
        if self._activations[-1].by_row and self.job["canonical"]:
            return 0
        logits = bool(self.job["logits"]) and not self._activations[-1].by_row
        return self._address(loss_loop(self._loss, logits=logits), self._loss)

    def update_address(self, optimizer: Optimizer) -> int:
        """Address of the loop over an optimizer's step."""
        return self._address(optimizer_loop(optimizer), optimizer)

    def narrow_kernel(self) -> Kernel[..., None] | None:
        """The kernel for online learning, if this network is narrow and made of entries of the tables."""
        *hidden, output = self._activations
        lanes = MACHINE.vector_bytes // self.dtype.itemsize
        vectors = sum(fan_in * width // lanes for fan_in, width in zip(self.sizes, self.widths[1:], strict=False))
        fits_stack = max(self.widths[1:]) <= plan.NARROW_WIDTH and self.n_layers <= plan.NARROW_LAYERS
        is_narrow = vectors <= NARROW_VECTORS and fits_stack
        has_own = any(entry.source is not None for entry in (*self._activations, self._loss))
        canonical, loss = bool(self.job["canonical"]), self._loss
        if not is_narrow or has_own or (output.by_row and not canonical) or len({entry.name for entry in hidden}) > 1:
            return None
        inner = hidden[0] if hidden else ACTIVATIONS["identity"]
        return narrow_rows(
            (inner.compiled_value, inner.compiled_derivative),
            None if output.by_row else (output.compiled_value, output.compiled_derivative),
            (loss.compiled_value, loss.compiled_derivative), canonical, loss.compiled_logits_value,
            f"narrow_rows__{inner.name}__{output.name}__{loss.name}__{'a_pair' if canonical else 'no_pair'}",
        )  # fmt: skip

    def make_layers(self, rows: int, sparse: bool = False, *, slopes: bool) -> tuple[Array, int, int]:
        """Layer records for a workspace of ``rows`` rows, and the lengths of its activations and deltas.

        Sparse inputs stay outside. With ``slopes`` they are for training, else for prediction.
        """
        layers = np.zeros(self.n_layers, plan.LAYER)
        room = self._room(rows)
        activations, deltas, transposed = 0 if sparse else room * self.widths[0], 0, 0
        inputs = 0
        for number, layer in enumerate(layers):
            fan_in, fan_out = self.sizes[number], self.sizes[number + 1]
            width = self.widths[number + 1]
            activation = self._activations[number]
            layer["fan_in"], layer["fan_out"], layer["width"] = fan_in, fan_out, width
            layer["weights"], layer["bias"] = self.layout.weight_offset(number), self.layout.bias_offset(number)
            layer["transposed"], layer["transposed_width"] = transposed, self.widths[number]
            layer["inputs"], layer["input_width"] = inputs, self.widths[number]
            layer["outputs"], layer["deltas"] = activations, deltas
            layer["parameter"], layer["by_row"] = activation.parameter, activation.by_row
            if not activation.by_row:
                kind = "activate_and_slope" if slopes else "activate"
                layer[kind] = self._address(activation_loop(activation, slopes=slopes), activation)
            inputs = activations
            activations += room * width
            deltas += room * width
            transposed += fan_out * self.widths[number] if number else 0
        return layers, activations, deltas

    @staticmethod
    def _room(rows: int) -> int:
        """Rows of a buffer for so many."""
        return rows + plan.SLACK_ROWS

    def band_length(self, rows: int) -> int:
        """Elements of the sums of a band, in a workspace of so many rows."""
        return self._room(rows) * self.widths[1]

    @property
    def transposed_length(self) -> int:
        """Elements of the transposed copy of the weights; the first layer has none."""
        return sum(fan_out * width for fan_out, width in zip(self.sizes[2:], self.widths[1:], strict=False))

    def output_scratch(self, blocks: int) -> int:
        """Elements of so many panels of the outputs, transposed or not, and of two rows beside them."""
        return blocks * self.widths[-1] * PANEL_ROWS + 2 * plan.RUN

    def chunk_rows(self, batch_size: int, sparse: bool = False) -> int:
        """Rows of a batch that are worked on at once; a function of the sizes only, because the bits of a gradient depend on it."""
        row_bytes = self.dtype.itemsize * (self.widths[0] * (not sparse) + 2 * sum(self.widths[1:]))
        least = LAYERED_CHUNK_ROWS if self.is_layered(batch_size) and not sparse else LEAST_CHUNK_ROWS
        most = max(least, WORKSPACE_BYTES // row_bytes)
        flop_per_row = self.flop_per_row - sparse * 6 * self.sizes[0] * self.widths[1]
        most = min(most, max(LEAST_LAYERED_ROWS, int(CHUNK_FLOP * 4 / self.dtype.itemsize / max(flop_per_row, 1))))
        return min(batch_size, most // PANEL_ROWS * PANEL_ROWS)

    def slots(self, batch_size: int, sparse: bool) -> tuple[int, int]:
        """Parts of a batch that have a gradient each, and rows of each, by the sizes only; (0, 0) where threads share chunks."""
        if sparse or self.is_layered(batch_size):
            return 0, 0
        if self.chunk_rows(batch_size) < batch_size:
            most = min(MOST_SLOTS, SLOT_BYTES // (self.layout.length * self.dtype.itemsize))
            slots = min(most, -(-batch_size // LEAST_CHUNK_ROWS))
            return (slots, LEAST_CHUNK_ROWS) if slots >= LEAST_SLOTS else (0, 0)
        between_parts = batch_size * (self.widths[0] + 2 * sum(self.widths[1:]))
        if self.flop_per_row * batch_size < FLOP_OF_TWO or between_parts < SHARED_PER_WEIGHT * self.layout.length:
            return 0, 0
        panels = -(-batch_size // PANEL_ROWS)
        for slots in (4, 2):
            most = -(-panels // slots)
            if most * PANEL_ROWS >= LEAST_SLOT_ROWS and (slots == 2 or slots * most < 1.1 * panels):
                return slots, most * PANEL_ROWS
        return 0, 0

    def bands(self, batch_size: int, sparse: bool) -> int:
        """Into how many bands features are cut, by the sizes only; 0 where each thread takes some samples instead."""
        if sparse or self.is_layered(batch_size) or self.slots(batch_size, sparse)[0]:
            return 0
        first_layer = self.sizes[0] * self.widths[1]
        is_wide = first_layer >= LEAST_BAND_SHARE * self.layout.length and self.sizes[0] >= FEATURES_PER_UNIT * self.widths[1]
        return BANDS if is_wide and self.flop_per_row * self.chunk_rows(batch_size) >= LEAST_BAND_FLOP else 0

    def is_layered(self, rows: int) -> bool:
        """Whether a batch of so many rows goes layer by layer, rather than panel by panel."""
        largest = max(fan_in * width for fan_in, width in zip(self.sizes, self.widths[1:], strict=False))
        return rows >= LEAST_LAYERED_ROWS and largest * self.dtype.itemsize > LAYERED_BYTES

    def threads_for_training(self, rows: int, at_once: int, slots: int, bands: int) -> int:
        """Threads for a pass over so many rows, ``at_once`` of them between two barriers."""
        # Threads that work on bands exchange less, so less work is worth another one.
        flop_per_row = self.flop_per_row * (FLOP_OF_TWO / LEAST_BAND_FLOP if bands else 1)
        shares = slots or max(bands, 1) * -(-at_once // PANEL_ROWS)
        return self.threads_for(at_once, -(-rows // at_once), flop_per_row, shares)

    def threads_for(self, rows: int, calls: int = 1, flop_per_row: float | None = None, shares: int | None = None) -> int:
        """Threads for so many rows between two barriers, so often by the same threads; ``shares`` to cut into, else panels."""
        if numba.config.DISABLE_JIT:  # the twins of the kernels' intrinsics know no barrier
            return 1
        return choose_threads((flop_per_row or self.flop_per_row) * rows, calls, shares or -(-rows // PANEL_ROWS), self.n_threads)

    def take_workspace(self, chunk_rows: int, n_threads: int, *, sparse: bool, layered: bool, bands: int) -> _Workspace:
        """Buffers for chunks of so many rows, for one user at a time: the last that was given back, if it fits."""
        key = (-(-chunk_rows // PANEL_ROWS) * PANEL_ROWS, n_threads, sparse, layered, bands)
        return self._spare.pop(key, None) or _Workspace(self, *key)

    def give_back_workspace(self, space: _Workspace) -> None:
        """Keep a workspace for the next user."""
        self._spare = {space.key: space}

    def session(self, data: Data, batch_size: int, mode: int, *, n_states: int = 0, **options: Any) -> Session:
        """A session for data of this shape; one that has no state may have been used before."""
        key = (
            data.rows,
            data.sparse,
            data.labels is None,
            data.weight is None,
            batch_size,
            mode,
            self.n_threads,
            *options.items(),
        )
        kept = None if n_states else self._sessions.pop(key, None)
        return kept or Session(self, None if n_states else key, data, batch_size, mode, n_states=n_states, **options)

    def give_back_session(self, session: Session) -> None:
        """Keep a session without state for the next user of its kind."""
        if session.key is not None:
            _keep(self._sessions, session.key, session)

    def step(self, buffer: Array, data: Data, rate: float, *, mean: bool) -> Progress:
        """Make a step of plain gradient descent from all of the data."""
        key = data.rows, data.sparse, data.labels is None, data.weight is None, self.n_threads, mean
        trainer = self._steppers.pop(key, None)
        if trainer is None:
            trainer = CompiledTrainer(self, buffer, data, data.rows, PLAIN_DESCENT, mean=mean)
            trainer.session.key = None  # it stays with the trainer, which is kept
        trainer.session.on(buffer, data)
        with trainer:
            *_, progress = trainer.epoch(None, np.array([rate]))
        _keep(self._steppers, key, trainer)
        return progress

    def sums(self, buffer: Array, data: Data, gradient: bool) -> tuple[float, Array | None]:
        """Weighted sum of losses over the data and, if wanted, its gradient in the aligned layout."""
        mode = plan.GRADIENT_ONLY if gradient else plan.LOSS_ONLY
        with self.session(data, data.rows, mode, mean=False).on(buffer, data) as session:
            if data.sparse:
                session.gradient[:] = 0  # the first layer's is added to what is there
            for _ in session.run(None, None):
                pass
            return session.sums.item(plan.LOSS_SUM), session.gradient.copy() if gradient else None

    def outputs(self, buffer: Array, x: Array) -> tuple[Array, bool]:
        """Outputs (rows, outputs) of x (rows, features), and whether all numbers of x are finite."""
        rows = x.shape[0]
        if rows * self.flop_per_row / 3 < FLOP_OF_TWO:
            return self._outputs(buffer, x, 1)
        try:
            return self._outputs(buffer, x, self.threads_for(rows, _PREDICTIONS.begin(), self.flop_per_row / 3))
        finally:
            _PREDICTIONS.end()

    def _outputs(self, buffer: Array, x: Array, n_threads: int) -> tuple[Array, bool]:
        spaces = self._spaces_to_predict[n_threads]
        try:  # popping is atomic: two threads that predict at once have a space each
            space = spaces.pop()
        except IndexError:
            space = _SpaceToPredict(self, n_threads)
        out = np.empty((x.shape[0], self.sizes[-1]), self.dtype)
        finite = space.run(buffer, x, out)
        spaces.append(space)
        return out, finite


def _keep(kept: dict[Any, Any], key: Any, value: Any) -> None:
    """Add something to what is kept for its next user, and let go of the oldest."""
    kept[key] = value
    if len(kept) > MOST_SESSIONS:
        for oldest in list(kept)[:-MOST_SESSIONS]:  # a copy: other threads do the same
            kept.pop(oldest, None)


def _kept_as(entry: Activation | Loss) -> str | None:
    """The name under which compiled loops over an entry of the tables are kept; None for a person's own."""
    return entry.name if entry.source is None else None


def activation_loop(activation: Activation, *, slopes: bool) -> Loop:
    """The loop over an activation, with its slope or without."""
    if slopes:
        return Loop(activate_and_slope_loop, (activation.compiled_value, activation.compiled_derivative), _kept_as(activation))
    return Loop(activate_loop, (activation.compiled_value,), _kept_as(activation))


def loss_loop(loss: Loss, *, logits: bool) -> Loop:
    """The loop over a loss, of logits or of outputs."""
    if logits:
        return Loop(logit_terms_loop, (loss.compiled_logits_value,), _kept_as(loss))
    return Loop(loss_and_slope_loop, (loss.compiled_value, loss.compiled_derivative), _kept_as(loss))


def optimizer_loop(optimizer: Optimizer) -> Loop:
    """The loop over an optimizer's step."""
    return Loop(update_loop, (optimizer.step, optimizer.n_states), optimizer.name)


def _loops() -> Iterator[Loop]:
    """All loops over entries of the tables."""
    for activation in ACTIVATIONS.values():
        yield from (activation_loop(activation, slopes=slopes) for slopes in (False, True) if not activation.by_row)
    for loss in LOSSES.values():
        yield from (loss_loop(loss, logits=logits) for logits in (False, True) if loss.compiled_logits_value or not logits)
    yield from map(optimizer_loop, OPTIMIZERS.values())


def compile_kernels(dtype: np.dtype[Any]) -> None:
    """Compile what networks of a dtype may need, or load it from the cache; but for the kernels of narrow ones."""
    from scipy.sparse import csr_matrix

    for loop in _loops():
        compile_loop(loop, dtype)

    def linear(size: int) -> Engine:
        return Engine((size, size), dtype, [ACTIVATIONS["identity"]], LOSSES["squared_error"], True, 1)

    size = math.isqrt(LAYERED_BYTES)  # with bytes for weights, a layer would be that large; they take more
    engine, wide = linear(1), linear(size)
    buffer, zero = aligned_zeros(engine.layout.length, dtype), np.zeros((1, 1), dtype)
    zeros = np.zeros((LEAST_LAYERED_ROWS, size), dtype)
    engine.sums(buffer, Data(zero, zero, None, None), gradient=True)
    engine.sums(buffer, Data(csr_matrix(zero), zero, None, None), gradient=True)
    wide.sums(aligned_zeros(wide.layout.length, dtype), Data(zeros, zeros, None, None), gradient=True)
    weighted = Data(zero, zero, None, np.ones(1, dtype))
    with CompiledTrainer(engine, buffer, weighted, 1, Recipe(OPTIMIZERS["sgd"]), mean=True) as online:
        list(online.epoch(None, np.zeros(1)))
    engine.outputs(buffer, zero)
    rows_of_columns(zero.ravel(), 1, zero.ravel())
    fill_order(np.zeros(2 * ROUNDS, np.uint64), 1, 1, 1, 0, np.zeros(1, np.int64))
    signal_helpers(np.zeros(plan.STATES + plan.LINE, np.int64), 1, plan.LEAVING, np.zeros(1, np.bool_))


class _SpaceToPredict:
    """Everything that a prediction needs besides its data, laid out once: what is left is a call."""

    def __init__(self, engine: Engine, n_threads: int) -> None:
        dtype = engine.dtype
        stride = padded((2 * PANEL_ROWS + plan.FEW_OUTPUTS) * max(engine.widths) + engine.output_scratch(blocks=3), dtype)
        job = engine.job.copy()
        job["scratch_stride"] = stride
        self._finite = aligned_zeros(8 * n_threads, dtype)
        self._job, self._sparse = job, False
        self._before = _records(job), _records(engine.make_layers(PANEL_ROWS, slopes=False)[0])
        scratch = self._scratch = aligned_zeros(n_threads * stride, dtype)
        self._calls = np.zeros(6, np.int64)
        self._buffer: Array | None = None
        self._team = Team(n_threads)
        before = self._calls, *self._before
        samples = _NOTHING[dtype], _NO_INDICES, _NO_STARTS
        compiled = self._team.compiled(predict_rows, *before, *samples, scratch, scratch, scratch, self._finite)
        self._predict = self._team.runner(compiled)
        self._step_rows = max(PANEL_ROWS, int(3 * CALL_SECONDS * n_threads * _FIRST_FLOP_PER_SECOND / engine.flop_per_row))

    def run(self, buffer: Array, x: Any, out: Array) -> bool:
        """Write the outputs of samples x (rows, features) into out (rows, outputs); returns whether all numbers of x are finite."""
        values, indices, starts = _samples(x)
        sparse = indices is not None
        samples = values, _NO_INDICES if indices is None else indices, _NO_STARTS if starts is None else starts
        if sparse != self._sparse:
            self._job["sparse"] = self._sparse = sparse
        if buffer is not self._buffer:
            self._team.dismiss()
            self._buffer = buffer
        rows, flat = x.shape[0], out.ravel()
        if rows <= self._step_rows:  # as nearly always, and sooner than a loop of one round
            return self._call(samples, flat, 0, rows)
        steps = range(0, rows, self._step_rows)
        return all(self._call(samples, flat, start, min(start + self._step_rows, rows)) for start in steps)

    def _call(self, samples: tuple[Array, Array, Array], out: Array, start: int, stop: int) -> bool:
        calls, team = self._calls, self._team
        calls[plan.FIRST_ROW], calls[plan.LAST_ROW] = start, stop
        if team.n_threads > 1:
            calls[plan.X_ADDRESS :] = [array.__array_interface__["data"][0] for array in (*samples, out)]
        seen: float = self._predict(calls, *self._before, *samples, self._buffer, self._scratch, out, self._finite)
        return seen == 0


class _Workspace:
    """Buffers that a kernel works in; what they hold means nothing between two calls."""

    def __init__(self, engine: Engine, rows: int, n_threads: int, sparse: bool, layered: bool, bands: int) -> None:
        dtype = engine.dtype
        self.key = (rows, n_threads, sparse, layered, bands)
        self._sparse = sparse
        self._band_starts = [first_feature.py_func(engine.sizes[0], bands, band, dtype.itemsize) for band in range(bands)]
        self.layers, activations, deltas = engine.make_layers(rows, sparse, slopes=True)
        self.band_sums, self.band_length = activations, engine.band_length(rows)
        gradient = plan.UNIT_SCRATCH
        self._most_columns = plan.UNIT_COLUMNS
        if layered:
            tile = TILE_VECTORS * ALIGNMENT // dtype.itemsize
            packed = max(rows, max(engine.sizes)) + plan.SLACK_ROWS
            panels = 2 * -(-PANEL_ROWS * tile // plan.RUN) * plan.RUN
            gradient = max(plan.UNIT_SCRATCH, panels) + packed * tile
            self._most_columns = tile
        self.scratch_stride = padded(max(engine.output_scratch(blocks=4), gradient), dtype) + ALIGNMENT // dtype.itemsize
        self.activations = aligned_zeros(activations + bands * self.band_length, dtype)
        self.deltas = aligned_zeros(deltas, dtype)
        self.scratch = aligned_zeros(n_threads * self.scratch_stride, dtype)
        zeros, width = max(engine.widths), engine.widths[-1]
        self.constants = aligned_zeros(zeros + PANEL_ROWS * width, dtype)
        self.constants[zeros:].reshape(PANEL_ROWS, width)[:, : engine.sizes[-1]] = 1
        self.panel_losses = aligned_zeros(max(rows // PANEL_ROWS + 1, MOST_SLOTS), _FLOAT64)
        self.norms = aligned_zeros(n_norms(engine.sizes, engine.widths, self._most_columns), _FLOAT64)
        self.packed = self.scratch if layered else None
        self.transposed = None if layered else aligned_zeros(max(engine.transposed_length, 1), dtype)
        self._sizes, self._widths = engine.sizes, engine.widths
        self._shares: dict[int, tuple[Array, Array]] = {}
        self._dropout: tuple[float, ...] = ()

    def leave_out(self, dropout: tuple[float, ...]) -> None:
        """Set the probabilities of dropout, one for each hidden layer, or none."""
        if dropout != self._dropout:
            hidden = self.layers[: len(self.layers) - 1]
            hidden["dropout"] = [threshold(rate) for rate in dropout] or 0
            hidden["kept_scale"] = [1 / (1 - rate) for rate in dropout] or 1
            self._dropout = dropout

    def shares(self, n_threads: int) -> tuple[Array, Array]:
        """Units, and the first unit of each of so many threads."""
        if n_threads not in self._shares:
            self._shares[n_threads] = share_units(
                self._sizes, self._widths, n_threads, self._most_columns, self._sparse, self._band_starts
            )  # fmt: skip
        return self._shares[n_threads]


def _nobody_works() -> bool:
    return False


Coefficients = Callable[[int, int], Array]
"""(first, last) -> coefficients of the steps of batches first .. last: (steps, STEP_COLUMNS), or one row for all of them."""

_CHANGING = ("shuffled", "order_start", "step_columns", "dropout_key", "scratch_stride")
"""Of a job, from one call of the kernel to the next."""


class Session:
    """A mode and the state that lives from one call of the kernel to the next.

    A context manager: ``with session.on(buffer, data)`` it has parameters, data and a workspace. ``key`` says what it can be
    used for again; None for a session with state.
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
        self._engine, self._rows, self._batch_size = engine, data.rows, batch_size
        dtype = engine.dtype
        self._sparse = data.sparse
        self._layered = engine.is_layered(batch_size) and not data.sparse
        slots, slot_rows = engine.slots(batch_size, data.sparse)
        chunk_rows = slot_rows or engine.chunk_rows(batch_size, data.sparse)
        self._chunk_rows = chunk_rows
        self._chunks_per_batch = -(-batch_size // chunk_rows)
        bands = engine.bands(batch_size, data.sparse)
        n_threads = engine.threads_for_training(data.rows, batch_size if slots else chunk_rows, slots, bands)
        self._pace = Pace(thread_candidates(n_threads, engine.n_threads))
        self._most_threads = n_threads
        length = engine.layout.length
        self.states = [aligned_zeros(length if number < n_states else 1, dtype) for number in range(2)]
        needs_gradient = data.sparse or mode == plan.GRADIENT_ONLY or self._chunks_per_batch > 1 or max_norm > 0
        self._gradients = aligned_zeros(length * max(slots, 1) if needs_gradient else 1, dtype)
        self.gradient = self._gradients[:length]
        self.sums = aligned_zeros(2, _FLOAT64)
        job = engine.job.copy()
        job["rows"], job["batch_size"], job["chunk_rows"] = data.rows, batch_size, chunk_rows
        job["labelled"], job["weighted"] = data.labels is not None, data.weight is not None
        job["slots"], job["bands"] = slots, bands
        alone = l2 == 0 and max_norm == 0 and self._chunks_per_batch == 1
        job["still"], job["plain"] = still and alone, plain and alone
        self._kernel = run_chunks
        if batch_size == 1 and job["plain"] and not data.sparse:
            narrow = None if data.weight is not None or dropout else engine.narrow_kernel()
            self._kernel = narrow or run_rows
        job["prefetches"] = not data.sparse and data.x.nbytes > CACHE_BYTES
        job["mean"], job["mode"], job["l2"], job["max_norm"] = mean, mode, l2, max_norm
        job["loss"], job["update"] = engine.loss_address(), update
        job["l2_by_weight"], job["loss_scale"] = l2_by_weight, loss_scale
        self._job, self._slots, self._bands = job, slots, bands
        self._changes: tuple[int, ...] = ()  # what the job has of _CHANGING: to set a field takes longer than to compare
        self._dropout, self._dropout_key = dropout, 0
        self._chunk_seconds = engine.flop_per_row * chunk_rows / (_FIRST_FLOP_PER_SECOND * n_threads)
        self._order = _NO_ORDER
        self._teams: list[Team] = []
        self._runners: dict[int, Callable[..., None]] = {}  # by number of threads
        self._calls = np.zeros(4, np.int64)
        self._steps = np.empty(0)
        self.somebody_works: Callable[[], bool] = _nobody_works
        self._space: _Workspace | None = None

    def on(self, buffer: Array, data: Data) -> Self:
        """Choose the parameters (in the aligned layout) and the data, of the shape that the session was made for."""
        nothing = _NOTHING[self._engine.dtype]
        self._buffer = buffer
        self._data = (
            *_samples(data.x),
            nothing if data.y is None else data.y.ravel(),
            _NO_LABELS if data.labels is None else data.labels.ravel(),
            nothing if data.weight is None else data.weight.ravel(),
        )
        return self

    def replace(self, data: Data) -> None:
        """Go on with other rows, of the same kind and in any number."""
        self._dismiss()
        self.key = None  # from now on for no certain number
        self._rows = data.rows
        self._job["rows"] = data.rows
        self.on(self._buffer, data)

    def __enter__(self) -> Self:
        rows = self._chunk_rows * (self._most_threads if self._slots else 1)
        space = self._space = self._engine.take_workspace(
            rows, self._most_threads, sparse=self._sparse, layered=self._layered, bands=self._bands
        )
        if self._bands:
            self._job["band_sums"], self._job["band_length"] = space.band_sums, space.band_length
        space.leave_out(self._dropout)
        if space.transposed is not None:
            space.transposed[:] = 0  # a training that diverged has left nan where padding should be, which nothing else writes
        return self

    def __exit__(self, *error: object) -> None:
        self._dismiss()
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
        """Row numbers of whole batches, whose weights are summed even where not all of their chunks come, and of a chunk more."""
        first = first_batch * self._batch_size
        last = min(self._rows, last_batch * self._batch_size + self._chunk_rows)
        if len(self._order) < last - first:
            self._dismiss()
            self._order = np.empty(last - first, np.int64)
        rows = self._order[: last - first]
        if order.array is not None:
            rows[:] = order.array[first:last]
        else:
            fill_order(order.keys, order.bits, order.radix, order.rows, first, rows)

    def _put_steps(self, steps: Array) -> None:
        """Coefficients of steps."""
        if len(self._steps) < steps.size:
            self._dismiss()
            self._steps = np.empty(steps.size)
        self._steps[: steps.size] = steps.reshape(-1)

    def _rows_before(self, chunk: int) -> int:
        batch, part = divmod(chunk, self._chunks_per_batch)
        return min(self._rows, batch * self._batch_size + part * self._chunk_rows)

    def run(self, order: Order | None, coefficients: Coefficients | None, dropout_key: int = 0) -> Iterator[int]:
        """Go through all rows once; yields the rows done, several times a second. No coefficients where there are no steps."""
        n_chunks = -(-self._rows // self._batch_size) * self._chunks_per_batch
        refresh = True  # the caller, or a callback, may have changed the weights
        self.sums[:] = 0
        self._dropout_key = dropout_key
        start = 0
        while start < n_chunks:
            n_threads, crowded = self._threads_now()
            seconds = CROWDED_SECONDS if crowded else self._pace.limit(CALL_SECONDS)
            count = max(1, int(seconds / self._chunk_seconds))
            if count > self._chunks_per_batch:  # whole batches
                count -= (start + count) % self._chunks_per_batch
            stop = min(n_chunks, start + count)
            arguments = self.arguments(order, coefficients, start, stop, n_threads, refresh)
            runner = self._runners.get(n_threads) or self._make_runner(n_threads)
            began = time.perf_counter()
            runner(*arguments)
            seconds = time.perf_counter() - began
            self._chunk_seconds = max(seconds / (stop - start), 1e-9)
            if not crowded:
                self._pace.record(stop - start, seconds)
            start = stop
            yield self._rows_before(start)

    def _threads_now(self) -> tuple[int, bool]:
        """Threads for the next call, and whether they are fewer because somebody else needs a processor.

        One thread too many costs more than one too few: the others wait for it at every barrier.
        """
        n_threads = self._pace.n_threads
        if 1 < n_threads == available_threads() and self._engine.n_threads is None and self.somebody_works():
            return n_threads - 1, True
        return n_threads, False

    def arguments(
        self, order: Order | None, coefficients: Coefficients | None, start: int, stop: int, n_threads: int, refresh: bool
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
            self._put_steps(steps)
        changes = (
            order is not None,
            first_batch * self._batch_size,
            step_columns,
            self._dropout_key,
            space.scratch_stride,
        )
        if changes != self._changes:
            self._changes = changes
            for name, value in zip(_CHANGING, changes, strict=True):
                job[name] = value
        calls = self._calls
        calls[plan.REFRESH], calls[plan.FIRST_BATCH] = refresh, first_batch  # sooner than all of them at once
        calls[plan.FIRST_CHUNK], calls[plan.LAST_CHUNK] = start, stop
        return self._arrays(space, n_threads, (*self._data, self._order))

    def _arrays(self, space: _Workspace, n_threads: int, data: tuple[Array | None, ...]) -> tuple[Any, ...]:
        units, bounds = space.shares(n_threads)
        return (
            self._calls, _records(self._job), _records(space.layers), _records(units), bounds, *data,
            self._buffer, space.transposed, space.packed, *self.states, self._gradients, space.constants,
            space.activations, space.deltas, space.scratch, space.panel_losses, space.norms, self._steps, self.sums,
        )  # fmt: skip

    def _make_runner(self, n_threads: int) -> Callable[..., None]:
        """The kernel, run by so many threads, for arrays of this dtype."""
        team, compiled = Team(n_threads), self._engine.compiled
        assert self._space is not None
        kind = self._kernel, self._sparse, self._layered
        if kind not in compiled:
            arrays = self._arrays(self._space, n_threads, _no_data(self._engine.dtype, self._sparse))
            compiled[kind] = team.compiled(self._kernel, *arrays)
        self._teams.append(team)
        self._runners[n_threads] = runner = team.runner(compiled[kind])
        return runner


class CompiledTrainer(Trainer):
    """A training of one network by the kernels."""

    def __init__(self, engine: Engine, buffer: Array, data: Data, batch_size: int, recipe: Recipe, *, mean: bool) -> None:
        self._recipe, self._layout = recipe, engine.layout
        self._steady: tuple[float, Array] | None = None  # a rate, and the coefficients that do not depend on the number of steps
        self.steps = 0
        self.session = engine.session(
            data, batch_size, plan.TRAINS, mean=mean, update=engine.update_address(recipe.optimizer),
            n_states=recipe.optimizer.n_states, l2=recipe.l2, max_norm=recipe.max_grad_norm,
            l2_by_weight=recipe.l2_by_weight, loss_scale=recipe.loss_scale, dropout=recipe.dropout,
            still=recipe.optimizer.still and recipe.weight_decay == 0, plain=recipe.optimizer.plain and recipe.weight_decay == 0,
        ).on(buffer, data)  # fmt: skip

    def __enter__(self) -> Self:
        self.session.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.session.__exit__(*error)

    def take(self, data: Data) -> None:
        """Go on with other rows, of the same kind and in any number."""
        self.session.replace(data)

    def leave_room(self, somebody_works: Callable[[], bool]) -> None:
        """Leave a processor to somebody else whenever this says so."""
        self.session.somebody_works = somebody_works

    def state(self) -> list[Array]:
        """The optimizer's state: flat arrays laid out as ``theta``, copies."""
        return [pack(*self._layout.views(state)) for state in self._used_states()]

    def load_state(self, steps: int, arrays: Sequence[Array]) -> None:
        """Go on where another training was after ``steps`` steps."""
        self.steps = steps
        for state, array in zip(self._used_states(), arrays, strict=True):
            unpack(array, self._layout, state)

    def scale_state(self, factor: float) -> None:
        """Multiply the optimizer's state."""
        for state in self._used_states():
            state *= state.dtype.type(factor)

    def _used_states(self) -> list[Array]:
        return self.session.states[: self._recipe.optimizer.n_states]

    def coefficients(self, rates: Rates) -> Coefficients:
        """Coefficients of the next steps, as a :class:`Session` takes them."""

        def table(first: int, last: int) -> Array:
            of_steps = rates[first:last]
            rate = of_steps.item(0)
            if self._recipe.optimizer.steady and (len(of_steps) == 1 or of_steps.min() == of_steps.max()):
                if self._steady is None or self._steady[0] != rate:
                    self._steady = rate, self._table(1, of_steps[:1])
                return self._steady[1]
            return self._table(self.steps + first + 1, of_steps)

        return table

    def _table(self, first_step: int, rates: Array) -> Array:
        table = np.empty((len(rates), plan.STEP_COLUMNS))
        table[:, : plan.SHRINK] = self._recipe.optimizer.coefficient_table(first_step, rates)
        table[:, plan.SHRINK] = 1 - rates * self._recipe.weight_decay
        return table

    def epoch(self, order: Order | None, rates: Rates, dropout_key: int = 0) -> Iterator[Progress]:
        """Train on all rows once."""
        sums = self.session.sums
        for rows in self.session.run(order, self.coefficients(rates), dropout_key):
            yield Progress(rows, sums.item(plan.LOSS_SUM), sums.item(plan.WEIGHT_SUM))
        self.steps += len(rates)
