"""The compiled network."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp.interrupts import undisturbed
from fastmlp.network import Network
from fastmlp.parameters import Layout
from fastmlp.trainer import Recipe, Totals
from fastmlp.validation import Data, check_finite

if TYPE_CHECKING:
    from fastmlp.engine import CompiledTrainer, Engine

Array = np.ndarray[Any, np.dtype[Any]]


def _engine_class() -> type[Engine]:
    engine: type[Engine] | None = getattr(sys.modules.get("fastmlp.engine"), "Engine", None)
    if engine is None:  # not imported, or another thread is in the middle of it: this waits until that is done
        # numba cannot be imported again after an interrupt.
        engine = undisturbed(importlib.import_module, "fastmlp.engine").Engine
    return engine


class MLP(Network):
    """A multilayer perceptron that trains in compiled kernels.

    Parameters
    ----------
    sizes : sequence of int
        Numbers of units, from inputs to outputs: ``(64, 15, 10)``.
    activation : str, Activation or a sequence of them, default "relu"
        One for all layers of weights, the last included, or one for each. Names: see :data:`fastmlp.ACTIVATIONS`.
    loss : str or Loss, default "squared_error"
        See :data:`fastmlp.LOSSES`. A loss is per sample; ``squared_error`` is half the sum of squares over the outputs.
    dtype : {"float32", "float64"}, default "float32"
        Of parameters, of all arithmetic and of the results. Input of another dtype is converted.
    reduction : {"mean", "sum"}, default "mean"
        Whether the objective is the (weighted) mean of the samples' losses or their sum.
    random_state : int, numpy.random.Generator or None, default None
        For the initial weights and the order of rows.
    n_threads : int or None, default None
        Threads for training and prediction; None for as many as are fastest, found out while they work, within what the process
        may use. The results are the same to the bit for any number.
    initializer : str, Initializer or None, default None
        Distribution of the initial weights; None takes what suits each layer's activation. See :data:`fastmlp.INITIALIZERS`.

    Attributes
    ----------
    w, b : list of ndarray
        Weights (fan_in, fan_out) and biases (1, fan_out) of each layer. Change them in place or assign to an item.
    sizes : tuple of int
    num_layers : int
        Layers of units, inputs and outputs included.
    activation : tuple of str
    loss : str
    loss_curve_ : list of float
        Loss of each epoch of the last :meth:`fit`.

    Raises
    ------
    ValueError, TypeError
        For a parameter that is not as described; the message names it, what was given and what is expected.

    Examples
    --------
    >>> from fastmlp import MLP
    >>> net = MLP((2, 3, 1), ("tanh", "sigmoid"), "binary_cross_entropy", random_state=0)
    >>> x, y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
    >>> net = net.fit(x, y, epochs=500, batch_size=4, learning_rate=0.1, optimizer="adam")
    >>> (net.predict(x) > 0.5).astype(int).ravel()
    array([0, 1, 1, 0])
    """

    _engine: Engine

    def _layout(self) -> Layout:
        return Layout.aligned(self.sizes, self.dtype)

    @property
    def engine(self) -> Engine:
        """The compiled side; numba is imported here, when a kernel is first needed."""
        try:
            engine = self._engine
        except AttributeError:
            is_mean = self.reduction == "mean"
            made = _engine_class()(self.sizes, self.dtype, self._activations, self._loss, is_mean, self.n_threads)
            engine = self.__dict__.setdefault("_engine", made)  # another thread may have been sooner
        engine.n_threads = self.n_threads  # an attribute that people may change
        return engine

    def _outputs(self, x: Array) -> Array:
        outputs, finite = self.engine.outputs(self._buffer, x)
        if not finite:
            check_finite(x, "x")
        return outputs

    def _sums(self, buffer: Array, data: Data, gradient: bool) -> tuple[float, Array | None]:
        return self.engine.sums(buffer, data, gradient)

    def _step(self, data: Data, rate: float) -> Totals:
        engine = self.engine
        if not engine.is_small(data):
            return super()._step(data, rate)
        return engine.step(self._buffer, data, rate, mean=self.reduction == "mean")

    def _trainer(self, data: Data, batch_size: int, recipe: Recipe) -> CompiledTrainer:
        engine = self.engine  # first: it imports numba where no signal handler runs
        from fastmlp.engine import CompiledTrainer

        return CompiledTrainer(engine, self._buffer, data, batch_size, recipe, mean=self.reduction == "mean")
