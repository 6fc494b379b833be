"""The kernels one by one: each part of a step of a real training, repeated, and the register tile that sets the pace of all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastmlp import MLP
from fastmlp.engine import CompiledTrainer
from fastmlp.kernels.bands import band_inputs, block_inputs, first_feature, join_bands, multiply_band
from fastmlp.kernels.delta import delta_panel
from fastmlp.kernels.forward import activate_panel, forward_panel
from fastmlp.kernels.gather import gather_inputs
from fastmlp.kernels.gradient import add_slots, first_weight, gradient_block, transpose_weights, update_block
from fastmlp.kernels.jit import FASTMATH, Kernel
from fastmlp.kernels.layered import delta_columns, forward_columns, gather_columns, pack_columns
from fastmlp.kernels.operands import Model, Samples, Space, Worker
from fastmlp.kernels.output import output_panel
from fastmlp.kernels.plan import BLOCK_SCRATCH, LOSS_SUM, NO, NOBODY, ONE, PANEL_ROWS, YES, ZERO
from fastmlp.kernels.product import product
from fastmlp.kernels.simd import MACHINE, TILE_ROWS, TILE_VECTORS, flush_denormals, restore_denormals
from fastmlp.memory import aligned_zeros
from fastmlp.optimizers import OPTIMIZERS
from fastmlp.trainer import ConstantRates, Recipe

from .peers.peer import Training
from .problems import Task

Array = np.ndarray[Any, np.dtype[Any]]

GATHER, FORWARD, OUTPUT, DELTA, GRADIENT, UPDATE, TRANSPOSE = (1 << bit for bit in range(7))

PARTS = {
    "gather": GATHER, "forward": FORWARD, "output": OUTPUT, "delta": DELTA, "gradient": GRADIENT, "update": UPDATE | TRANSPOSE,
}  # fmt: skip
"""Parts of a step; together they are one."""

WHOLE_STEP = sum(PARTS.values())

TILE_DEPTH = 128
SECONDS = 2e-3
"""What is measured is repeated until it takes so long."""


def _tile(times, rows, columns, depth, a, b, c):
    """C (rows, columns) = A (rows, depth) @ B (depth, columns), all in the first-level cache."""
    for _ in range(times):
        product(rows, columns, depth, a, ZERO, depth, ONE, b, ZERO, columns, c, ZERO, columns, c, ZERO, columns, YES, NO)


def _repeat(parts, times, sync, calls, jobs, layers, blocks, bounds, x, indices, starts, y, labels, weights, order, parameters,
            transposed, packed, state1, state2, gradient, constants, activations, deltas, scratch, panel_losses, norms,
            coefficients, sums):  # fmt: skip
    """Parts of the first step of an epoch on one thread, in the order and with the calls of ``run_chunks``."""
    mode = flush_denormals()
    job = jobs[0]
    worker = Worker(ZERO, ONE, sync)
    samples = Samples(x, y, labels, weights, order)
    model = Model(parameters, state1, state2, gradient, coefficients)
    space = Space(constants, activations, deltas, scratch, ZERO, panel_losses, norms)
    batch_rows = min(job.batch_size, job.rows)
    several = batch_rows > job.chunk_rows
    scale = job.loss_scale / batch_rows
    if job.plain:
        scale *= -coefficients[0]
    for _ in range(times):
        for start in range(0, batch_rows, job.chunk_rows):
            rows = min(job.chunk_rows, batch_rows - start)
            for band in range(job.bands):
                left = first_feature(job.features, job.bands, band, x.itemsize)
                right = first_feature(job.features, job.bands, band + 1, x.itemsize)
                for first in range(0, rows, PANEL_ROWS):
                    n = min(PANEL_ROWS, rows - first)
                    if parts & GATHER:
                        inputs = band_inputs(job, layers[0], band, activations.itemsize) + first * layers[0].input_width
                        gather_inputs(job, layers, samples, start + first, inputs, n, left, right, activations)
                    if parts & FORWARD:
                        multiply_band(job, layers, band, left, right, first, n, ZERO, parameters, space)
            for first in range(0, rows, PANEL_ROWS):
                n = min(PANEL_ROWS, rows - first)
                if packed is not None and parts & GATHER:
                    gather_columns(job, layers, samples, start + first, first, n, activations)
                if transposed is not None and job.bands == 0 and parts & GATHER:
                    inputs = layers[0].inputs + first * layers[0].input_width
                    gather_inputs(job, layers, samples, start + first, inputs, n, ZERO, job.features, activations)
                if job.bands > 0 and parts & FORWARD:
                    join_bands(job, layers, first, first, n, activations)
                    activate_panel(job, layers, ZERO, ZERO, first, n, activations, deltas)
                if transposed is not None and parts & FORWARD:
                    forward_panel(
                        job, layers, ONE if job.bands > 0 else ZERO, ZERO, first, n, parameters, transposed, activations, deltas
                    )
                if transposed is not None and parts & OUTPUT:
                    sums[LOSS_SUM] += output_panel(job, layers, samples, start + first, first, n, scale, space)
                if transposed is not None and parts & DELTA:
                    delta_panel(layers, job.n_layers, first, n, transposed, constants, deltas)
            if packed is not None:
                for number in range(job.n_layers):
                    if parts & FORWARD:
                        forward_columns(worker, job, layers, number, ZERO, rows, parameters, space)
                for first in range(0, rows, PANEL_ROWS):
                    n = min(PANEL_ROWS, rows - first)
                    if parts & OUTPUT:
                        sums[LOSS_SUM] += output_panel(job, layers, samples, start + first, first, n, scale, space)
                for number in range(job.n_layers - 1, 0, -1):
                    if parts & DELTA:
                        delta_columns(worker, layers, number, rows, parameters, space)
            for b in range(len(blocks)):
                block = blocks[b]
                layer = layers[block.layer]
                out, out0, ld = scratch, ZERO, block.columns
                if job.plain or several:
                    out = parameters if job.plain else gradient
                    out0, ld = first_weight(layer, block), layer.width
                d, d0, ld_d = deltas, layer.deltas + block.column, layer.width
                if packed is not None:
                    d, d0, ld_d = packed, np.int64(BLOCK_SCRATCH), block.columns
                    if parts & GRADIENT and block.row == 0:
                        pack_columns(deltas, layer.deltas + block.column, layer.width, rows, block.columns, d, d0)
                chunk = start // job.chunk_rows
                slot0 = chunk % job.slots * job.slot_stride if job.slots > 0 else 0
                if parts & GRADIENT:
                    new, exact = chunk < max(1, job.slots) and job.plain == 0, several or job.plain == 1
                    inputs = block_inputs(job, layer, block, ZERO, deltas.itemsize)
                    gradient_block(job, layers, block, inputs, rows, new, packed, d, d0, ld_d, out, out0 + slot0, ld, exact, space)
                if parts & UPDATE and start + rows == batch_rows and job.slots > 0:
                    add_slots(
                        gradient, out0, ld, block.rows + block.bias, block.columns, min(job.slots, chunk + 1), job.slot_stride,
                        job.slots, ONE, NOBODY,
                    )  # fmt: skip
                if parts & UPDATE and start + rows == batch_rows and not job.plain:
                    update_block(job, layers, block, model, out, out0, ld, 1.0, job.l2, ZERO)
                if transposed is not None and parts & TRANSPOSE and start + rows == batch_rows:
                    transpose_weights(layers, block, parameters, transposed)
    restore_denormals(mode)


_repeat_tile = Kernel(_tile, "kernel", fastmath=FASTMATH, no_cfunc_wrapper=True)
_repeat_parts = Kernel(_repeat, "kernel", fastmath=FASTMATH, no_cfunc_wrapper=True)


def seconds_of(call: Callable[[int], object], least: float = SECONDS) -> float:
    """Seconds of one of the repetitions that ``call(times)`` makes."""
    call(1)  # the first may compile
    times = 1
    while True:
        began = time.perf_counter()
        call(times)
        seconds = time.perf_counter() - began
        if seconds >= least:
            return seconds / times
        times = int(times * max(2.0, 1.2 * least / max(seconds, 1e-9)))


def seconds_of_step(task: Task, training: Training) -> float:
    """Seconds of a step of a training in this process, as the average over whole epochs."""
    return seconds_of(lambda times: [training.epoch() for _ in range(times)], 10 * SECONDS) / task.steps


@dataclass(frozen=True)
class Tile:
    """A product that fits the first-level cache, by the register tile alone: as fast as one core gets.

    Parameters
    ----------
    dtype : numpy.dtype
    """

    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, columns and depth of the product."""
        return 2 * TILE_ROWS, TILE_VECTORS * MACHINE.vector_bytes // self.dtype.itemsize, TILE_DEPTH

    def operands(self) -> tuple[Array, Array, Array]:
        """A, B and C, flat."""
        rows, columns, depth = self.shape
        a, b, c = (aligned_zeros(count, self.dtype) for count in (rows * depth, depth * columns, rows * columns))
        a[:], b[:] = np.linspace(-1, 1, len(a)), np.linspace(-1, 1, len(b))
        return a, b, c

    def repeat(self) -> Callable[[int], object]:
        """``repeat()(times)`` computes C += A @ B so many times."""
        operands = self.operands()
        return lambda times: _repeat_tile(times, *self.shape, *operands)

    def flop_per_second(self) -> float:
        """Of one core, now."""
        rows, columns, depth = self.shape
        return 2 * rows * columns * depth / seconds_of(self.repeat())


class Step:
    """A step of a problem's training on one thread, taken apart.

    Parameters
    ----------
    task : Task
    """

    def __init__(self, task: Task) -> None:
        problem = task.problem
        self.network = problem.network(MLP, n_threads=1)
        self.network.theta = task.theta
        data = self.network._check_data(task.x, task.y, None)
        batch_size = min(problem.batch_size, task.rows)
        recipe = Recipe(OPTIMIZERS[problem.optimizer])
        self._trainer = CompiledTrainer(self.network.engine, self.network._buffer, data, batch_size, recipe, mean=True).__enter__()
        coefficients = self._trainer.coefficients(ConstantRates(problem.learning_rate, task.steps))
        self._before = self._trainer.session.arguments(task.shuffles()[0], coefficients, 0, 1, 1)
        self._nobody = np.zeros(1, np.int64)  # what threads share, of which one thread makes no use
        self.repeat(TRANSPOSE)(1)  # the copy of the weights that delta reads

    def close(self) -> None:
        """Give back the buffers."""
        self._trainer.__exit__(None, None, None)

    def repeat(self, parts: int = WHOLE_STEP) -> Callable[[int], object]:
        """``repeat(parts)(times)`` does parts of the step so many times; results of the others are what they were."""
        return lambda times: _repeat_parts(parts, times, self._nobody, *self._before)


@contextmanager
def step_of(task: Task) -> Iterator[Step]:
    """A step with all its buffers filled: each part finds what it would find in a training."""
    with closing(Step(task)) as step:
        step.repeat()(1)
        yield step
