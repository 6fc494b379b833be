"""The records that tell kernels what a network is: a job, and one for each layer; and the loops that they call by address."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from fastmlp.activations import ACTIVATIONS, Activation
from fastmlp.engine import limits
from fastmlp.engine.blocking import Shape
from fastmlp.engine.loops import activation_loop, loss_loop, optimizer_loop
from fastmlp.kernels import plan
from fastmlp.kernels.jit import Kernel
from fastmlp.kernels.loops import Loop, compile_loop
from fastmlp.kernels.narrow import narrow_rows
from fastmlp.kernels.simd import MACHINE
from fastmlp.losses import Loss
from fastmlp.memory import on_page, padded
from fastmlp.optimizers import Optimizer

Array = np.ndarray[Any, np.dtype[Any]]


class Records:
    """What kernels have to know of one network, whatever they do with it.

    Parameters
    ----------
    shape : Shape
    activations : sequence of Activation
    loss : Loss
    mean : bool
        Whether the objective is the mean over a batch.
    """

    def __init__(self, shape: Shape, activations: Sequence[Activation], loss: Loss, mean: bool) -> None:
        self._shape, self._activations, self._loss = shape, activations, loss
        self._loops: dict[Loop, Any] = {}
        self.job = self._make_job(mean)

    def _make_job(self, mean: bool) -> Array:
        """The job record, with what every call has in common."""
        shape, loss = self._shape, self._loss
        job = np.zeros(1, plan.JOB)
        canonical = loss.belongs_to(self._activations[-1])
        job["n_layers"] = shape.n_layers
        job["output_mask"] = max(shape.widths)
        job["shares_weights"] = shape.parameter_bytes <= limits.SHARED_BYTES
        job["features"], job["outputs"] = shape.sizes[0], shape.sizes[-1]
        job["averages"] = mean
        job["parameter"] = loss.parameter
        job["canonical"], job["logits"] = canonical, canonical and loss.compiled_logits_value is not None
        return job

    def layers(self, rows: int, sparse: bool = False, *, slopes: bool, bands: int = 0) -> tuple[Array, int, int]:
        """Layer records for a workspace of ``rows`` rows, and the lengths of its activations and deltas.

        Sparse inputs stay outside; each band has its own. With ``slopes`` they are for training, else for prediction.
        """
        shape = self._shape
        layers = np.zeros(shape.n_layers, plan.LAYER)
        room = shape.room(rows)
        widths = shape.widths.copy()
        if bands:
            widths[0] = padded(int(np.diff(shape.band_starts(bands)).max()), shape.dtype)
        activations, deltas, transposed = 0 if sparse else max(1, bands) * room * widths[0], 0, 0
        inputs = 0
        # Threads share the workspace of a training, and each fetches ahead up to the end of a page: no other layer begins on that,
        # which another thread may be writing.
        start = partial(on_page, dtype=shape.dtype) if slopes else lambda place: place
        activations = start(activations)
        for number, layer in enumerate(layers):
            fan_in, fan_out = shape.sizes[number], shape.sizes[number + 1]
            input_width, width = widths[number], widths[number + 1]
            activation = self._activations[number]
            layer["fan_in"], layer["fan_out"], layer["width"] = fan_in, fan_out, width
            layer["weights"], layer["bias"] = shape.layout.weight_offset(number), shape.layout.bias_offset(number)
            layer["transposed"], layer["transposed_width"] = transposed, input_width
            layer["inputs"], layer["input_width"] = inputs, input_width
            layer["outputs"], layer["deltas"] = activations, deltas
            layer["parameter"], layer["by_row"] = activation.parameter, activation.by_row
            if not activation.by_row:
                kind = "activate_and_slope" if slopes else "activate"
                layer[kind] = self._address(activation_loop(activation, slopes=slopes), activation)
            inputs = activations
            activations, deltas = start(activations + room * width), start(deltas + room * width)
            transposed += fan_out * input_width if number else 0
        return layers, activations, deltas

    def _address(self, loop: Loop, entry: Activation | Loss | Optimizer) -> int:
        """Address of a loop over an entry, which is compiled now if it has not been, and lives as long as this object."""
        if loop not in self._loops:
            try:
                self._loops[loop] = compile_loop(loop, self._shape.dtype)
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
        shape, loss = self._shape, self._loss
        *hidden, output = self._activations
        fits_stack = max(shape.widths[1:]) <= plan.NARROW_WIDTH and shape.n_layers <= plan.NARROW_LAYERS
        is_narrow = fits_stack and shape.vectors(MACHINE.vector_bytes) <= limits.NARROW_VECTORS
        has_own = any(entry.source is not None for entry in (*self._activations, loss))
        canonical = bool(self.job["canonical"])
        if not is_narrow or has_own or (output.by_row and not canonical) or len({entry.name for entry in hidden}) > 1:
            return None
        inner = hidden[0] if hidden else ACTIVATIONS["identity"]
        return narrow_rows(
            (inner.compiled_value, inner.compiled_derivative),
            None if output.by_row else (output.compiled_value, output.compiled_derivative),
            (loss.compiled_value, loss.compiled_derivative), canonical, loss.compiled_logits_value,
            f"narrow_rows__{inner.name}__{output.name}__{loss.name}__{'a_pair' if canonical else 'no_pair'}",
        )  # fmt: skip
