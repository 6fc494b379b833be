"""Calls of the kernel that predicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp.engine import limits
from fastmlp.engine.arguments import NO_INDICES, NO_STARTS, NOTHING, as_records, flat_samples
from fastmlp.kernels import plan
from fastmlp.kernels.plan import PANEL_ROWS
from fastmlp.kernels.predict import predict_rows
from fastmlp.kernels.team import Team
from fastmlp.memory import aligned_zeros, padded

if TYPE_CHECKING:
    from fastmlp.engine.engine import Engine

Array = np.ndarray[Any, np.dtype[Any]]


class Predictor:
    """The kernel that predicts, with all that it needs besides data: laid out once, so that what is left is a call.

    Parameters
    ----------
    engine : Engine
    n_threads : int
    """

    def __init__(self, engine: Engine, n_threads: int) -> None:
        shape, dtype = engine.shape, engine.shape.dtype
        stride = padded((2 * PANEL_ROWS + plan.FEW_OUTPUTS) * max(shape.widths) + shape.output_scratch(blocks=3), dtype)
        job = engine.records.job.copy()
        job["scratch_stride"] = stride
        self._finite = aligned_zeros(8 * n_threads, dtype)
        self._job, self._sparse = job, False
        self._before = as_records(job), as_records(engine.records.layers(PANEL_ROWS, slopes=False)[0])
        scratch = self._scratch = aligned_zeros(n_threads * stride, dtype)
        self._calls = np.zeros(7, np.int64)
        self._buffer: Array | None = None
        self._team = Team(n_threads)
        before = self._calls, *self._before
        self._no_samples = NOTHING[dtype], NO_INDICES, NO_STARTS
        compiled = self._team.compiled(predict_rows, *before, *self._no_samples, scratch, scratch, scratch, self._finite)
        self._predict = self._team.runner(compiled)
        self._calls[plan.PIECE_PANELS] = np.iinfo(np.int32).max  # for one thread, all
        self._shape = shape
        self._dense = self._sizes(shape.flop_to_predict)

    def _sizes(self, flop_per_row: float) -> tuple[int, int]:
        """Rows of a call, which are whole panels, and at least one for each thread; and panels of a piece."""
        n_threads = self._team.n_threads
        panels = int(limits.CALL_SECONDS * n_threads * limits.FIRST_FLOP_PER_SECOND / flop_per_row) // PANEL_ROWS
        return max(n_threads, panels) * PANEL_ROWS, max(1, int(limits.PIECE_FLOP / flop_per_row) // PANEL_ROWS)

    def run(self, buffer: Array, x: Any, out: Array) -> bool:
        """Write the outputs of samples x (rows, features) into out (rows, outputs).

        Returns whether all numbers of x are finite for sure: they may be, too, where their weighted sums are not.
        """
        values, indices, starts = flat_samples(x)
        sparse = indices is not None
        samples = values, NO_INDICES if indices is None else indices, NO_STARTS if starts is None else starts
        if sparse != self._sparse:
            self._job["sparse"] = self._sparse = sparse
        if buffer is not self._buffer:
            self._team.dismiss()
            self._buffer = buffer
        rows, flat = x.shape[0], out.ravel()
        step_rows, piece_panels = self._sizes(self._shape.flop_of_sparse(len(values) / max(rows, 1))) if sparse else self._dense
        if rows <= step_rows:  # as nearly always, and sooner than a loop of one round
            return self._call(samples, flat, 0, rows, piece_panels)
        steps = range(0, rows, step_rows)
        finite = [self._call(samples, flat, start, min(start + step_rows, rows), piece_panels) for start in steps]
        return all(finite)  # of a list, because every step has to be made

    def _call(self, samples: tuple[Array, Array, Array], out: Array, start: int, stop: int, piece_panels: int) -> bool:
        calls, team = self._calls, self._team
        calls[plan.FIRST_ROW], calls[plan.LAST_ROW] = start, stop
        if team.n_threads > 1:
            panels = -(-(stop - start) // PANEL_ROWS)
            calls[plan.PIECE_PANELS] = max(piece_panels, -(-panels // (limits.MOST_PIECES * team.n_threads)))
            calls[plan.X_ADDRESS :] = [array.__array_interface__["data"][0] for array in (*samples, out)]
            samples, out = self._no_samples, self._scratch  # helpers that stay would keep them alive
        seen: float = self._predict(calls, *self._before, *samples, self._buffer, self._scratch, out, self._finite)
        return seen == 0
