"""The compiled side of a network: what it is asked for, and what the next call can use again."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np

from fastmlp.activations import Activation
from fastmlp.engine import limits
from fastmlp.engine.blocking import Blocking, Shape
from fastmlp.engine.prediction import Predictor
from fastmlp.engine.records import Records
from fastmlp.engine.session import PreparedCall, Session, Workspace
from fastmlp.engine.training import PreparedStep
from fastmlp.kernels import plan
from fastmlp.kernels.jit import Kernel
from fastmlp.kernels.plan import PANEL_ROWS
from fastmlp.kernels.team import NoThreadError
from fastmlp.losses import Loss
from fastmlp.pool import Pool
from fastmlp.threads import FLOP_OF_TEAM, FLOP_OF_TWO, Succession, available_threads, choose_threads
from fastmlp.trainer import Totals
from fastmlp.validation import Data, is_sparse

Array = np.ndarray[Any, np.dtype[Any]]

_PREDICTIONS = Succession()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _PREDICTIONS.forget_callers())


class Engine:
    """The compiled side of one network: what does not depend on its weights.

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
        self.n_threads = n_threads
        self.shape = Shape(sizes, dtype)
        self.records = Records(self.shape, activations, loss, mean)
        self._workspaces = Pool[tuple[int, int, bool, bool, int], Workspace](1)
        self._sessions = Pool[tuple[Any, ...], Session](limits.MOST_SESSIONS)
        self._prepared_sums = Pool[tuple[Any, ...], PreparedCall](limits.MOST_SESSIONS)
        self._prepared_steps = Pool[tuple[Any, ...], PreparedStep](limits.MOST_SESSIONS)
        # What sessions have used so far, for this dtype: a kernel, for sparse samples or not, and layer by layer or not.
        self.compiled: dict[tuple[Kernel[..., None], bool, bool], Callable[..., None]] = {}
        self._predictors = defaultdict[int, list[Predictor]](list)

    def threads_for_training(self, rows: int, batch_size: int, blocking: Blocking) -> int:
        """Threads for a pass over so many rows."""
        at_once = batch_size if blocking.slots else blocking.chunk_rows  # between two barriers
        # Threads that work on bands exchange less, so less work is worth another one.
        flop_per_row = self.shape.flop_per_row * (FLOP_OF_TWO / limits.LEAST_BAND_FLOP if blocking.bands else 1)
        shares = blocking.slots or max(blocking.bands, 1) * -(-at_once // PANEL_ROWS)
        return self.threads_for(at_once, -(-rows // at_once), flop_per_row, shares)

    def threads_for(self, rows: int, calls: int = 1, flop_per_row: float | None = None, shares: int | None = None) -> int:
        """Threads for so many rows between two barriers, so often by the same threads; ``shares`` to cut into, else panels."""
        if numba.config.DISABLE_JIT:  # the twins of the kernels' intrinsics know no barrier
            return 1
        return choose_threads(
            (flop_per_row or self.shape.flop_per_row) * rows, calls, shares or -(-rows // PANEL_ROWS), self.n_threads
        )

    def take_workspace(self, chunk_rows: int, n_threads: int, *, sparse: bool, layered: bool, bands: int) -> Workspace:
        """Buffers for chunks of so many rows, for one user at a time: the last that was given back, if it fits."""
        key = (-(-chunk_rows // PANEL_ROWS) * PANEL_ROWS, n_threads, sparse, layered, bands)
        return self._workspaces.take(key) or Workspace(self, *key)

    def give_back_workspace(self, space: Workspace) -> None:
        """Keep a workspace for the next user."""
        self._workspaces.give_back(space.key, space)

    def session(self, data: Data, batch_size: int, mode: int, *, n_states: int = 0, **options: Any) -> Session:
        """A session for data of this shape; one that has no state may have been used before."""
        key = (*_kind_of(data), batch_size, mode, self.n_threads, available_threads(), *options.items())
        kept = None if n_states else self._sessions.take(key)
        return kept or Session(self, None if n_states else key, data, batch_size, mode, n_states=n_states, **options)

    def give_back_session(self, session: Session) -> None:
        """Keep a session without state for the next user of its kind, unless it has a large gradient."""
        if session.key is not None and session.gradient_bytes <= limits.KEPT_BYTES:
            session.forget_rows(limits.KEPT_BYTES)
            self._sessions.give_back(session.key, session)

    def is_small(self, data: Data) -> bool:
        """Whether data are so few that one thread goes through them, and soon: then a call is prepared, and kept."""
        flop = data.rows * self.shape.flop_per_row
        most = FLOP_OF_TEAM if self.n_threads in (None, 1) else FLOP_OF_TWO
        return flop < most and not data.sparse and self.shape.parameter_bytes <= limits.KEPT_BYTES

    def step(self, buffer: Array, data: Data, rate: float, *, mean: bool) -> Totals:
        """Make a step of plain gradient descent from all of small data."""
        key = (*_kind_of(data), mean)
        step = self._prepared_steps.take(key) or PreparedStep(self, buffer, data, mean=mean)
        progress = step.make(buffer, data, rate)
        self._prepared_steps.give_back(key, step)
        return progress

    def sums(self, buffer: Array, data: Data, gradient: bool) -> tuple[float, Array | None]:
        """Weighted sum of losses over the data and, if wanted, its gradient in the aligned layout."""
        mode = plan.GRADIENT_ONLY if gradient else plan.LOSS_ONLY
        if self.is_small(data):
            key = (*_kind_of(data), mode)
            call = self._prepared_sums.take(key)
            if call is None:
                call = Session(self, None, data, data.rows, mode, mean=False).on(buffer, data).prepared()
            call.run(buffer, data)
            sums = call.session.sums_and_gradient(gradient)
            self._prepared_sums.give_back(key, call)  # only now: another thread may take it at once
            return sums
        with self.session(data, data.rows, mode, mean=False).on(buffer, data) as session:
            if data.sparse and gradient:
                session.gradient[:] = 0  # the first layer's is added to what is there
            for _ in session.run(None, None):
                pass
            return session.sums_and_gradient(gradient)

    def outputs(self, buffer: Array, x: Any) -> tuple[Array, bool]:
        """Outputs (rows, outputs) of x (rows, features), and whether all numbers of x are finite for sure."""
        rows = x.shape[0]
        flop_per_row = self.shape.flop_of_sparse(x.nnz / max(rows, 1)) if is_sparse(x) else self.shape.flop_to_predict
        if rows * flop_per_row < FLOP_OF_TWO:
            return self._outputs(buffer, x, 1)
        try:
            return self._outputs(buffer, x, self.threads_for(rows, _PREDICTIONS.begin(), flop_per_row))
        except NoThreadError:
            return self._outputs(buffer, x, 1)
        finally:
            _PREDICTIONS.end()

    def _outputs(self, buffer: Array, x: Array, n_threads: int) -> tuple[Array, bool]:
        predictors = self._predictors[n_threads]
        try:  # popping is atomic: two threads that predict at once have one each
            predictor = predictors.pop()
        except IndexError:
            predictor = Predictor(self, n_threads)
            self._predictors.pop(n_threads, None)
            self._predictors[n_threads] = predictors  # the last to go
            for other in [number for number in list(self._predictors) if number > 1][: -limits.MOST_TEAM_PREDICTORS]:
                self._predictors.pop(other, None)
        out = np.empty((x.shape[0], self.shape.sizes[-1]), self.shape.dtype)
        finite = predictor.run(buffer, x, out)
        if len(predictors) < limits.MOST_PREDICTORS:
            predictors.append(predictor)
        return out, finite


def _kind_of(data: Data) -> tuple[int, bool, bool, bool]:
    """What two lots of data must have in common for one to be taken in the place of the other."""
    return data.rows, data.sparse, data.labels is None, data.weight is None
