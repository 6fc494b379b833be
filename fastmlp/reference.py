"""The same network in plain NumPy: slow, short and obviously right. The oracle of the tests and a peer in the benchmarks.

Read it beside the equations (one sample per row)::

    forward   z_l = a_{l-1} W_l + b_l            a_l = f_l(z_l)         a_0 = X
    delta     d_L = dLoss/da_L * f'_L(z_L)       d_l = (d_{l+1} W_{l+1}^T) * f'_l(z_l)
    gradient  dW_l = a_{l-1}^T d_l               db_l = sum over rows of d_l
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fastmlp import parameters as params
from fastmlp.dropout import mask
from fastmlp.network import Network
from fastmlp.shuffle import Order
from fastmlp.trainer import Rates, Recipe, Totals, Trainer
from fastmlp.validation import Data, check_finite, is_sparse

Array = np.ndarray[Any, np.dtype[Any]]

_PAUSE = 0.1
"""Seconds of training between two reports."""


class ReferenceMLP(Network):
    """A multilayer perceptron in plain NumPy; the parameters and methods are those of :class:`fastmlp.MLP`.

    ``n_threads`` is accepted and has no effect: NumPy's BLAS decides.

    Examples
    --------
    >>> from fastmlp import ReferenceMLP
    >>> net = ReferenceMLP((2, 3, 1), ("tanh", "sigmoid"), "binary_cross_entropy", random_state=0)
    >>> x, y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
    >>> net = net.fit(x, y, epochs=500, batch_size=4, learning_rate=0.1, optimizer="adam")
    >>> (net.predict(x) > 0.5).astype(int).ravel()
    array([0, 1, 1, 0])
    """

    def _layout(self) -> params.Layout:
        return params.Layout.compact(self.sizes)

    def _forward(
        self, x: Array, weights: list[Array], biases: list[Array], masks: list[Array] | None = None
    ) -> tuple[list[Array], list[Array]]:
        """Logits z_1 .. z_L and outputs a_0 .. a_L of every layer; outputs of hidden layers times their masks, if there are any."""
        logits: list[Array] = []
        outputs = [x]
        for layer, (w, b, f) in enumerate(zip(weights, biases, self._activations, strict=True)):
            z = outputs[-1] @ w
            z += b
            logits.append(z)
            a = f.value(z, f.parameter)
            outputs.append(a * masks[layer] if masks is not None and layer < len(masks) else a)
        return logits, outputs

    def _terms(self, z: Array, a: Array, y: Array) -> Array:
        """The loss of every sample and output."""
        if self._canonical and self._loss.logits_value is not None:
            return self._loss.logits_value(z, y)
        return self._loss.value(a, y, self._loss.parameter)

    def _output_delta(self, z: Array, a: Array, y: Array) -> Array:
        """d_L, (rows, outputs), of the sum of the samples' losses."""
        f, loss = self._activations[-1], self._loss
        if self._canonical:
            return a * y.sum(axis=1, keepdims=True) - y if f.by_row else a - y
        slope = loss.derivative(a, y, loss.parameter)
        if f.by_row:  # softmax: da_j/dz_k = a_j (1[j = k] - a_k)
            delta: Array = a * (slope - (slope * a).sum(axis=1, keepdims=True))
            return delta
        return slope * f.derivative(z, a, f.parameter)

    def _backward(
        self, logits: list[Array], outputs: list[Array], delta: Array, weights: list[Array], masks: list[Array] | None = None
    ) -> tuple[list[Array], list[Array]]:
        """Gradients of weights and biases from d_L, in layer order."""
        w_grad: list[Array] = []
        b_grad: list[Array] = []
        for layer in range(len(weights) - 1, -1, -1):
            w_grad.insert(0, outputs[layer].T @ delta)
            b_grad.insert(0, delta.sum(axis=0, keepdims=True))
            if layer:
                f, z = self._activations[layer - 1], logits[layer - 1]
                a = outputs[layer] if masks is None else f.value(z, f.parameter)
                delta = (delta @ weights[layer].T) * f.derivative(z, a, f.parameter)
                if masks is not None:
                    delta *= masks[layer - 1]
        return w_grad, b_grad

    def _outputs(self, x: Array) -> Array:
        if not is_sparse(x):
            check_finite(x, "x")
        with np.errstate(over="ignore", invalid="ignore"):
            return self._forward(x, self._w, self._b)[1][-1]

    def _sums(self, buffer: Array, data: Data, gradient: bool) -> tuple[float, Array | None]:
        weights, biases = self._layout().views(buffer)
        y = data.targets(self.sizes[-1])
        weight = None if data.weight is None else data.weight[:, None]
        with np.errstate(over="ignore", invalid="ignore"):
            logits, outputs = self._forward(data.x, weights, biases)
            terms = self._terms(logits[-1], outputs[-1], y)
            total = float((terms if weight is None else terms * weight).sum(dtype=np.float64))
            if not gradient:
                return total, None
            delta = self._output_delta(logits[-1], outputs[-1], y)
            if weight is not None:
                delta = delta * weight
            return total, params.pack(*self._backward(logits, outputs, delta, weights))

    def _trainer(self, data: Data, batch_size: int, recipe: Recipe) -> Trainer:
        return _ReferenceTrainer(self, data, batch_size, recipe)


class _ReferenceTrainer(Trainer):
    """Minibatches and the optimizer in plain NumPy."""

    def __init__(self, network: ReferenceMLP, data: Data, batch_size: int, recipe: Recipe) -> None:
        self._network = network
        self.take(data)
        self._batch_size = batch_size
        self._recipe = recipe
        self.steps = 0
        arrays = [array for pair in zip(network.w, network.b, strict=True) for array in pair]
        self._parameters = arrays
        self._states = [(np.zeros_like(array), np.zeros_like(array)) for array in arrays]

    def take(self, data: Data) -> None:
        self._x, self._y, self._weight = data.x, data.targets(self._network.sizes[-1]), data.weight
        if self._weight is not None:  # denormal ones count as zero, as in the kernels: 1 / (their sum) may be infinite
            self._weight = np.where(self._weight < np.finfo(self._weight.dtype).tiny, 0, self._weight)

    def state(self) -> list[Array]:
        flat = []
        for number in range(self._recipe.optimizer.n_states):
            arrays = [
                np.broadcast_to(states[number], array.shape) for states, array in zip(self._states, self._parameters, strict=True)
            ]
            flat.append(params.pack(arrays[::2], arrays[1::2]))
        return flat

    def load_state(self, steps: int, arrays: Sequence[Array]) -> None:
        self.steps = steps
        layout = params.Layout.compact(self._network.sizes)
        for number, flat in enumerate(arrays):
            weights, biases = layout.views(np.array(flat))
            ordered = [array for pair in zip(weights, biases, strict=True) for array in pair]
            for position, array in enumerate(ordered):
                states = list(self._states[position])
                states[number] = array.copy()
                self._states[position] = (states[0], states[1])

    def epoch(self, order: Order | None, rates: Rates, dropout_key: int = 0) -> Iterator[Totals]:
        rows = self._x.shape[0]
        rate = rates[0 : len(rates)]
        coefficients = self._recipe.optimizer.coefficient_table(self.steps + 1, rate)
        loss_sum = weight_sum = 0.0
        reported = time.monotonic()
        for step, start in enumerate(range(0, rows, self._batch_size)):
            stop = min(start + self._batch_size, rows)
            batch = slice(start, stop) if order is None else order[start:stop]
            masks = None
            if self._recipe.dropout:
                masks = [
                    mask(dropout_key, layer, slice(start, stop), units, dropout, self._network.dtype)
                    for layer, (units, dropout) in enumerate(zip(self._network.sizes[1:], self._recipe.dropout, strict=False))
                ]
            with np.errstate(over="ignore", invalid="ignore"):
                loss, weight = self._step(batch, stop - start, float(rate[step]), coefficients[step].tolist(), masks)
            loss_sum += loss
            weight_sum += weight
            self.steps += 1
            if stop == rows or time.monotonic() - reported > _PAUSE:
                yield Totals(stop, loss_sum, weight_sum)
                reported = time.monotonic()

    def _step(
        self, batch: Any, rows: int, rate: float, coefficients: list[float], masks: list[Array] | None
    ) -> tuple[float, float]:
        """One minibatch; returns its weighted loss and its weight."""
        net, recipe = self._network, self._recipe
        x, y = self._x[batch], self._y[batch]
        logits, outputs = net._forward(x, net.w, net.b, masks)
        delta = net._output_delta(logits[-1], outputs[-1], y)
        terms = net._terms(logits[-1], outputs[-1], y)
        total = float(rows)
        if self._weight is not None:
            weight = self._weight[batch][:, None]
            total = float(weight.sum(dtype=np.float64))
            delta, terms = delta * weight, terms * weight
        scale = recipe.loss_scale
        if net.reduction == "mean":
            scale = scale / total if total else 0.0
        if scale != 1:
            delta = delta * net.dtype.type(scale)
        w_grad, b_grad = net._backward(logits, outputs, delta, net.w, masks)
        gradients = [gradient for pair in zip(w_grad, b_grad, strict=True) for gradient in pair]
        if recipe.max_grad_norm:
            norm = float(np.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in gradients)))
            scale = min(1.0, recipe.max_grad_norm / (norm + 1e-6))
            gradients = [gradient * scale for gradient in gradients]
        l2 = recipe.l2 / total if recipe.l2_by_weight and total else recipe.l2
        step = recipe.optimizer.step.py_func
        for number, (w, gradient) in enumerate(zip(self._parameters, gradients, strict=True)):
            is_weight = number % 2 == 0  # penalties are for weights, not for biases
            if l2 and is_weight:
                gradient = gradient + l2 * w
            if recipe.weight_decay and is_weight:
                w *= 1 - rate * recipe.weight_decay
            w[...], *states = step(w, gradient, *self._states[number], *coefficients)
            self._states[number] = (states[0], states[1])
        return float(terms.sum(dtype=np.float64)), total
