"""The compiled side of a network: decides by its sizes what is done how, and keeps what the next call can use again."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np

from fastmlp.activations import ACTIVATIONS, Activation
from fastmlp.engine import limits
from fastmlp.engine.loops import activation_loop, all_loops, loss_loop, optimizer_loop
from fastmlp.engine.prediction import SpaceToPredict
from fastmlp.engine.session import PreparedCall, Session, Workspace
from fastmlp.engine.training import CompiledTrainer, PreparedStep
from fastmlp.kernels import plan
from fastmlp.kernels.columns import rows_of_columns
from fastmlp.kernels.jit import Kernel
from fastmlp.kernels.loops import Loop, compile_loop
from fastmlp.kernels.narrow import narrow_rows
from fastmlp.kernels.plan import PANEL_ROWS
from fastmlp.kernels.shuffle import fill_order
from fastmlp.kernels.simd import MACHINE
from fastmlp.kernels.team import signal_helpers
from fastmlp.losses import LOSSES, Loss
from fastmlp.memory import aligned_zeros, padded
from fastmlp.optimizers import OPTIMIZERS, Optimizer
from fastmlp.parameters import Layout
from fastmlp.shuffle import ROUNDS
from fastmlp.threads import FLOP_OF_TEAM, FLOP_OF_TWO, Succession, choose_threads
from fastmlp.trainer import Recipe, Totals
from fastmlp.validation import Data

Array = np.ndarray[Any, np.dtype[Any]]

_PREDICTIONS = Succession()


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
        self._spare: dict[tuple[int, int, bool, bool, int], Workspace] = {}
        self._sessions: dict[tuple[Any, ...], Session] = {}
        self._prepared_sums: dict[tuple[Any, ...], PreparedCall] = {}
        self._prepared_steps: dict[tuple[Any, ...], PreparedStep] = {}
        # What sessions have used so far, for this dtype: a kernel, for sparse samples or not, and layer by layer or not.
        self.compiled: dict[tuple[Kernel[..., None], bool, bool], Callable[..., None]] = {}
        self._spaces_to_predict = defaultdict[int, list[SpaceToPredict]](list)

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
        job["shares_weights"] = self.layout.length * self.dtype.itemsize <= limits.SHARED_BYTES
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
        is_narrow = vectors <= limits.NARROW_VECTORS and fits_stack
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
        least = limits.LAYERED_CHUNK_ROWS if self.is_layered(batch_size) and not sparse else limits.LEAST_CHUNK_ROWS
        most = max(least, limits.WORKSPACE_BYTES // row_bytes)
        flop_per_row = self.flop_per_row - sparse * 6 * self.sizes[0] * self.widths[1]
        most = min(most, max(limits.LEAST_LAYERED_ROWS, int(limits.CHUNK_FLOP * 4 / self.dtype.itemsize / max(flop_per_row, 1))))
        return min(batch_size, most // PANEL_ROWS * PANEL_ROWS)

    def slots(self, batch_size: int, sparse: bool) -> tuple[int, int]:
        """Parts of a batch that have a gradient each, and rows of each, by the sizes only; (0, 0) where threads share chunks."""
        if sparse or self.is_layered(batch_size):
            return 0, 0
        if self.chunk_rows(batch_size) < batch_size:
            most = min(limits.MOST_SLOTS, limits.SLOT_BYTES // (self.layout.length * self.dtype.itemsize))
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
        """Into how many bands features are cut, by the sizes only; 0 where each thread takes some samples instead."""
        if sparse or self.is_layered(batch_size) or self.slots(batch_size, sparse)[0]:
            return 0
        first_layer = self.sizes[0] * self.widths[1]
        has_most_weights = first_layer >= limits.LEAST_BAND_SHARE * self.layout.length
        if not has_most_weights or self.sizes[0] < limits.FEATURES_PER_UNIT * self.widths[1]:
            return 0
        return limits.BANDS if self.flop_per_row * self.chunk_rows(batch_size) >= limits.LEAST_BAND_FLOP else 0

    def is_layered(self, rows: int) -> bool:
        """Whether a batch of so many rows goes layer by layer, rather than panel by panel."""
        largest = max(fan_in * width for fan_in, width in zip(self.sizes, self.widths[1:], strict=False))
        return rows >= limits.LEAST_LAYERED_ROWS and largest * self.dtype.itemsize > limits.LAYERED_BYTES

    def threads_for_training(self, rows: int, at_once: int, slots: int, bands: int) -> int:
        """Threads for a pass over so many rows, ``at_once`` of them between two barriers."""
        # Threads that work on bands exchange less, so less work is worth another one.
        flop_per_row = self.flop_per_row * (FLOP_OF_TWO / limits.LEAST_BAND_FLOP if bands else 1)
        shares = slots or max(bands, 1) * -(-at_once // PANEL_ROWS)
        return self.threads_for(at_once, -(-rows // at_once), flop_per_row, shares)

    def threads_for(self, rows: int, calls: int = 1, flop_per_row: float | None = None, shares: int | None = None) -> int:
        """Threads for so many rows between two barriers, so often by the same threads; ``shares`` to cut into, else panels."""
        if numba.config.DISABLE_JIT:  # the twins of the kernels' intrinsics know no barrier
            return 1
        return choose_threads((flop_per_row or self.flop_per_row) * rows, calls, shares or -(-rows // PANEL_ROWS), self.n_threads)

    def take_workspace(self, chunk_rows: int, n_threads: int, *, sparse: bool, layered: bool, bands: int) -> Workspace:
        """Buffers for chunks of so many rows, for one user at a time: the last that was given back, if it fits."""
        key = (-(-chunk_rows // PANEL_ROWS) * PANEL_ROWS, n_threads, sparse, layered, bands)
        return self._spare.pop(key, None) or Workspace(self, *key)

    def give_back_workspace(self, space: Workspace) -> None:
        """Keep a workspace for the next user."""
        self._spare = {space.key: space}

    def session(self, data: Data, batch_size: int, mode: int, *, n_states: int = 0, **options: Any) -> Session:
        """A session for data of this shape; one that has no state may have been used before."""
        key = (*_kind_of(data), batch_size, mode, self.n_threads, *options.items())
        kept = None if n_states else self._sessions.pop(key, None)
        return kept or Session(self, None if n_states else key, data, batch_size, mode, n_states=n_states, **options)

    def give_back_session(self, session: Session) -> None:
        """Keep a session without state for the next user of its kind, unless it has a large gradient."""
        if session.key is not None and session.gradient.nbytes <= limits.KEPT_BYTES:
            _keep(self._sessions, session.key, session)

    def is_small(self, data: Data) -> bool:
        """Whether data are so few that one thread goes through them, and soon: then a call is prepared, and kept."""
        flop = data.rows * self.flop_per_row
        most = FLOP_OF_TEAM if self.n_threads in (None, 1) else FLOP_OF_TWO
        return flop < most and not data.sparse and self.layout.length * self.dtype.itemsize <= limits.KEPT_BYTES

    def step(self, buffer: Array, data: Data, rate: float, *, mean: bool) -> Totals:
        """Make a step of plain gradient descent from all of small data."""
        key = (*_kind_of(data), mean)
        step = self._prepared_steps.pop(key, None) or PreparedStep(self, buffer, data, mean=mean)
        progress = step.make(buffer, data, rate)
        _keep(self._prepared_steps, key, step)
        return progress

    def sums(self, buffer: Array, data: Data, gradient: bool) -> tuple[float, Array | None]:
        """Weighted sum of losses over the data and, if wanted, its gradient in the aligned layout."""
        mode = plan.GRADIENT_ONLY if gradient else plan.LOSS_ONLY
        if self.is_small(data):
            key = (*_kind_of(data), mode)
            call = self._prepared_sums.pop(key, None)
            if call is None:
                call = Session(self, None, data, data.rows, mode, mean=False).on(buffer, data).prepared()
            call.run(buffer, data)
            sums = call.session.sums_and_gradient(gradient)
            _keep(self._prepared_sums, key, call)  # only now: another thread may take it at once
            return sums
        with self.session(data, data.rows, mode, mean=False).on(buffer, data) as session:
            if data.sparse:
                session.gradient[:] = 0  # the first layer's is added to what is there
            for _ in session.run(None, None):
                pass
            return session.sums_and_gradient(gradient)

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
            space = SpaceToPredict(self, n_threads)
        out = np.empty((x.shape[0], self.sizes[-1]), self.dtype)
        finite = space.run(buffer, x, out)
        spaces.append(space)
        return out, finite


def _kind_of(data: Data) -> tuple[int, bool, bool, bool]:
    """What two lots of data must have in common for one to be taken in the place of the other."""
    return data.rows, data.sparse, data.labels is None, data.weight is None


def _keep(kept: dict[Any, Any], key: Any, value: Any) -> None:
    """Add something to what is kept for its next user, and let go of the oldest."""
    kept[key] = value
    if len(kept) > limits.MOST_SESSIONS:
        for oldest in list(kept)[: -limits.MOST_SESSIONS]:  # a copy: other threads do the same
            kept.pop(oldest, None)


def compile_kernels(dtype: np.dtype[Any]) -> None:
    """Compile what networks of a dtype may need, or load it from the cache; but for the kernels of narrow ones."""
    from scipy.sparse import csr_matrix

    for loop in all_loops():
        compile_loop(loop, dtype)

    def linear(size: int) -> Engine:
        return Engine((size, size), dtype, [ACTIVATIONS["identity"]], LOSSES["squared_error"], True, 1)

    size = math.isqrt(limits.LAYERED_BYTES)  # with bytes for weights, a layer would be that large; they take more
    engine, wide = linear(1), linear(size)
    buffer, zero = aligned_zeros(engine.layout.length, dtype), np.zeros((1, 1), dtype)
    zeros = np.zeros((limits.LEAST_LAYERED_ROWS, size), dtype)
    engine.sums(buffer, Data(zero, zero, None, None), gradient=True)
    engine.sums(buffer, Data(csr_matrix(zero), zero, None, None), gradient=True)
    wide.sums(aligned_zeros(wide.layout.length, dtype), Data(zeros, zeros, None, None), gradient=True)
    weighted = Data(zero, zero, None, np.ones(1, dtype))
    with CompiledTrainer(engine, buffer, weighted, 1, Recipe(OPTIMIZERS["sgd"]), mean=True) as online:
        list(online.epoch(None, np.zeros(1)))
    engine.outputs(buffer, zero)
    rows_of_columns(np.zeros(1, np.int64), 0, zero.ravel(), zero.ravel()[:0])
    fill_order(np.zeros(2 * ROUNDS, np.uint64), 1, 1, 1, 0, np.zeros(1, np.int64))
    signal_helpers(np.zeros(plan.STATES + plan.LINE, np.int64), 1, plan.LEAVING, np.zeros(1, np.bool_))
