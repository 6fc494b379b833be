"""What a network is, whoever does its arithmetic: the interface, the checks at the door and the loop over epochs.

:class:`~fastmlp.MLP` and :class:`~fastmlp.ReferenceMLP` are this class with an engine each: compiled kernels, or plain NumPy.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from fastmlp import parameters as params
from fastmlp.activations import Activation
from fastmlp.callbacks import Callback, Callbacks, Run
from fastmlp.exceptions import DivergenceError
from fastmlp.feed import BUFFER_BYTES, Feed, InMemory, Reading, given_source
from fastmlp.losses import LOSSES, Loss
from fastmlp.memory import aligned_zeros
from fastmlp.optimizers import OPTIMIZERS, Optimizer
from fastmlp.safeguard import Safeguard
from fastmlp.schedules import SCHEDULES, Schedule
from fastmlp.trainer import PLAIN_DESCENT, ConstantRates, Rates, Recipe, Totals, Trainer, scheduled
from fastmlp.training_state import TrainingState, generator_state
from fastmlp.validation import (
    Data,
    as_numbers,
    check_activations,
    check_count,
    check_data,
    check_dropout,
    check_dtype,
    check_generator,
    check_one_of,
    check_real,
    check_sizes,
    check_weight,
    check_x_shape,
)

if TYPE_CHECKING:
    from fastmlp.data.sources import Piece, Source

Array = np.ndarray[Any, np.dtype[Any]]


class Network(ABC):
    """Base of the networks; see :class:`fastmlp.MLP` for the parameters."""

    loss_curve_: list[float]
    reading_: Reading | None = None

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str | Activation | Sequence[str | Activation] = "relu",
        loss: str | Loss = "squared_error",
        *,
        dtype: Any = "float32",
        reduction: str = "mean",
        random_state: int | np.random.Generator | None = None,
        n_threads: int | None = None,
        initializer: str | params.Initializer | None = None,
    ) -> None:
        self._sizes = check_sizes(sizes)
        self._activations = check_activations(activation, len(self.sizes) - 1)
        self._loss = LOSSES.find(loss, "loss")
        self._dtype = check_dtype(dtype)
        self._reduction = check_one_of(reduction, "reduction", ("mean", "sum"))
        self.n_threads = n_threads
        self._generator = check_generator(random_state)
        chosen = None if initializer is None else params.INITIALIZERS.find(initializer, "initializer")
        self._adopt(np.zeros(params.Layout.compact(self.sizes).length, self.dtype))
        params.initialize(self._w, self._activations, chosen, self._generator)
        self.loss_curve_ = []

    # --- the engine ---------------------------------------------------------------------------------------------------------

    @abstractmethod
    def _layout(self) -> params.Layout:
        """How this engine lays parameters out."""

    @abstractmethod
    def _outputs(self, x: Array) -> Array:
        """Outputs (rows, outputs) of samples of the right shape and dtype; raises what ``check_finite`` does."""

    @abstractmethod
    def _sums(self, buffer: Array, data: Data, gradient: bool) -> tuple[float, Array | None]:
        """Weighted sum of losses over all samples and, if wanted, its gradient in this engine's layout."""

    @abstractmethod
    def _trainer(self, data: Data, batch_size: int, recipe: Recipe) -> Trainer:
        """Begin a training; it changes this network's parameters in place."""

    def _step(self, data: Data, rate: float) -> Totals:
        """A step of plain gradient descent from all of the data."""
        with self._trainer(data, data.rows, PLAIN_DESCENT) as trainer:
            *_, progress = trainer.epoch(None, ConstantRates(rate))
        return progress

    # --- parameters ---------------------------------------------------------------------------------------------------------

    def _adopt(self, theta: Array) -> None:
        """Make a buffer for the parameters, and the arrays that people see, from a flat vector without padding."""
        layout = self._layout()
        self._buffer = aligned_zeros(layout.length, self.dtype)
        self._probes: list[Array] = []  # buffers for parameters to evaluate the network at, other than its own
        weights, biases = layout.views(self._buffer)
        self._w = params.ParameterList("w", weights)
        self._b = params.ParameterList("b", biases)
        layout.fill(self._buffer, theta)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of units, from inputs to outputs."""
        return self._sizes

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of parameters, arithmetic and results."""
        return self._dtype

    @property
    def reduction(self) -> str:
        """Whether the objective is the "mean" of the samples' losses or their "sum"."""
        return self._reduction

    @property
    def n_threads(self) -> int | None:
        """Threads for training and prediction; None for as many as are fastest. Assignable."""
        return self._n_threads

    @n_threads.setter
    def n_threads(self, value: int | None) -> None:
        self._n_threads = None if value is None else check_count(value, "n_threads")

    @property
    def num_layers(self) -> int:
        """Number of layers of units, inputs and outputs included."""
        return len(self.sizes)

    @property
    def w(self) -> params.ParameterList:
        """Weights, a (fan_in, fan_out) array for each layer; change them in place or assign to an item."""
        return self._w

    @w.setter
    def w(self, arrays: Sequence[Any]) -> None:
        self._w[:] = arrays

    @property
    def b(self) -> params.ParameterList:
        """Biases, a (1, fan_out) array for each layer; change them in place or assign to an item."""
        return self._b

    @b.setter
    def b(self, arrays: Sequence[Any]) -> None:
        self._b[:] = arrays

    @property
    def theta(self) -> Array:
        """All parameters as one flat vector, a copy: each layer's weights row by row, then its bias. Assignable."""
        return self._layout().take(self._buffer)

    @theta.setter
    def theta(self, value: Any) -> None:
        self._layout().fill(self._buffer, self._check_theta(value))

    def _check_theta(self, theta: Any) -> Array:
        array = theta if type(theta) is np.ndarray and theta.dtype == self.dtype else as_numbers(theta, "theta", self.dtype)
        length = params.Layout.compact(self.sizes).length
        if array.shape != (length,):
            raise ValueError(f"theta must have the shape ({length},) for sizes {self.sizes}, got {array.shape}.")
        return array

    @property
    def activation(self) -> tuple[str, ...]:
        """The activation of each layer, by name."""
        return tuple(entry.name for entry in self._activations)

    @property
    def loss(self) -> str:
        """The loss, by name."""
        return self._loss.name

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.sizes}, {self.activation}, {self.loss!r}, dtype={self.dtype.name!r}, "
            f"reduction={self.reduction!r})"
        )

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in self.__dict__.items() if name not in ("_buffer", "_w", "_b", "_engine", "_probes")}
        return state | {"theta": self.theta}

    def __setstate__(self, state: dict[str, Any]) -> None:
        theta = state.pop("theta")
        self.__dict__.update(state)
        self._adopt(theta)

    # --- what people call -----------------------------------------------------------------------------------------------------

    def forward_pass(self, x: Any) -> Array:
        """Outputs of the network.

        Parameters
        ----------
        x : array_like (n_features,) or (n, n_features), scipy.sparse matrix, or table of pandas, polars or pyarrow

        Returns
        -------
        ndarray (n, n_outputs)
            In the network's dtype; n is 1 for a single sample.

        Raises
        ------
        ValueError
            For a wrong number of features, an empty array, nan or infinity.
        TypeError
            For anything but real numbers.
        """
        return self._outputs(check_x_shape(x, self.sizes[0], self.dtype))

    def predict(self, x: Any) -> Array:
        """Outputs of the network; the same as :meth:`forward_pass`.

        Parameters
        ----------
        x : array_like (n_features,) or (n, n_features), scipy.sparse matrix, or table of pandas, polars or pyarrow

        Returns
        -------
        ndarray (n, n_outputs)
            In the network's dtype; n is 1 for a single sample.
        """
        return self.forward_pass(x)

    def eval_loss(self, x: Any, y: Any, sample_weight: Any = None) -> float:
        """The objective: the weighted mean (or sum) of the samples' losses.

        Parameters
        ----------
        x : array_like (n_features,) or (n, n_features), scipy.sparse matrix, or table of pandas, polars or pyarrow
        y : array_like (n, n_outputs) or (n,)
            Targets; for a classification loss also whole-number class labels (n,).
        sample_weight : array_like (n,), optional

        Returns
        -------
        float
        """
        data = self._check_data(x, y, sample_weight)
        total, _ = self._sums(self._buffer, data, gradient=False)
        return total / self._divisor(data)

    def backprop(self, x: Any, y: Any, sample_weight: Any = None) -> tuple[list[Array], list[Array]]:
        """Gradient of the objective by every parameter.

        Parameters
        ----------
        x, y, sample_weight
            As for :meth:`eval_loss`.

        Returns
        -------
        w_grad : list of ndarray (fan_in, fan_out)
            In the order of layers.
        b_grad : list of ndarray (1, fan_out)
        """
        data = self._check_data(x, y, sample_weight)
        _, gradient = self._sums(self._buffer, data, gradient=True)
        assert gradient is not None
        gradient /= self.dtype.type(self._divisor(data))
        return self._layout().views(gradient)

    def loss_and_grad(
        self, theta: Any, x: Any, y: Any, sample_weight: Any = None, out: Array | None = None
    ) -> tuple[float, Array, float]:
        """Sums of losses and gradients at given parameters, so that the results of shards of the data add up exactly.

        The network's own parameters stay as they are. ``loss_sum / weight_sum`` is the mean loss.

        Parameters
        ----------
        theta : array_like (n_parameters,)
            All parameters, laid out as :attr:`theta`.
        x, y, sample_weight
            As for :meth:`eval_loss`.
        out : ndarray (n_parameters,), optional
            Where to write the gradient, in the network's dtype.

        Returns
        -------
        loss_sum : float
        gradient_sum : ndarray (n_parameters,)
        weight_sum : float
            Sum of the sample weights; their number without.
        """
        data = self._check_data(x, y, sample_weight)
        given = self._check_theta(theta)
        if out is not None and (not isinstance(out, np.ndarray) or out.shape != given.shape or out.dtype != self.dtype):
            what = f"{out.shape} and {out.dtype}" if isinstance(out, np.ndarray) else type(out).__name__
            raise ValueError(f"out must have the shape {given.shape} and dtype {self.dtype}, got {what}.")
        if out is not None and not out.flags.writeable:
            raise ValueError("out is read-only; give an array that may be written to, or none.")
        layout = self._layout()
        try:  # popping is atomic: two threads that ask at once have a set of parameters each
            probe = self._probes.pop()
        except IndexError:
            probe = aligned_zeros(layout.length, self.dtype)
        layout.fill(probe, given)
        total, gradient = self._sums(probe, data, gradient=True)
        self._probes.append(probe)
        assert gradient is not None
        return total, layout.take(gradient, out), self._weight(data)

    def train_step(self, x: Any, y: Any, learning_rate: float, sample_weight: Any = None) -> float:
        """One step of gradient descent from one batch or one row.

        Parameters
        ----------
        x, y
            As for :meth:`eval_loss`.
        learning_rate : float
            Above 0.
        sample_weight : array_like (n,), optional

        Returns
        -------
        float
            The objective before the step.

        Raises
        ------
        DivergenceError
            When the loss or a parameter is no longer finite. The parameters are those from before the step.
        """
        rate = check_real(learning_rate, "learning_rate", above=True)
        data = self._check_data(x, y, sample_weight)
        safeguard = Safeguard(self._buffer)
        progress = self._step(data, rate)
        self._check_totals(progress, safeguard, 1, 1, rate)
        return progress.loss_sum / self._divisor(data)

    def fit(
        self,
        x: Any,
        y: Any = None,
        *,
        epochs: int,
        batch_size: int,
        learning_rate: float = 1e-3,
        optimizer: str | Optimizer = "sgd",
        shuffle: bool = True,
        verbose: bool = False,
        schedule: str | Schedule = "constant",
        weight_decay: float | None = None,
        l2: float = 0.0,
        max_grad_norm: float | None = None,
        dropout: float | Sequence[float] = 0.0,
        sample_weight: Any = None,
        callbacks: Iterable[Callback] = (),
        resume: str | os.PathLike[str] | None = None,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> Self:
        """Train by minibatches.

        Ctrl-C raises ``KeyboardInterrupt`` within half a second and leaves the network with what it has learned so far.

        Parameters
        ----------
        x : array_like, scipy.sparse matrix, table of pandas, polars or pyarrow (n, n_features), or a source
            A source has rows and targets, in any number: :func:`fastmlp.data.from_npy`, :func:`fastmlp.data.from_files`, or blocks
            (X, y) or (X, y, weight), as an iterable that begins anew each time or a function that returns an iterator.
        y : array_like (n, n_outputs) or (n,)
            Targets; for a classification loss also whole-number class labels (n,). None for a source.
        epochs : int
            How often each sample is used.
        batch_size : int
            Samples for each step; the last minibatch of an epoch may be smaller, and trains too. More than n means n.
        learning_rate : float, default 1e-3
        optimizer : str or Optimizer, default "sgd"
            A name, or a table entry with other constants: ``OPTIMIZERS["adam"](beta1=0.95)``. Its state starts anew at each call.
        shuffle : bool, default True
            Whether each epoch has its own random order of samples.
        verbose : bool, default False
            Whether to show a progress bar.
        schedule : str or Schedule, default "constant"
            What the learning rate is multiplied by, step by step.
        weight_decay : float, optional
            Decoupled decay of weights (not of biases): each step multiplies them by 1 - rate * weight_decay. The optimizer's own
            default unless given: 0.01 for "adamw", 0 for the others.
        l2 : float, default 0.0
            Adds the gradient of l2 / 2 * (sum of squared weights) to that of each minibatch; the reported loss is without it.
        max_grad_norm : float, optional
            Scale gradients down to this Euclidean norm, over all parameters together.
        dropout : float or sequence of float, default 0.0
            Probability, below 1, with which a step leaves out an output of a hidden layer; one for all of them, or one for each.
            The others are divided by 1 - dropout. The reported loss is that of the thinned network.
        sample_weight : array_like (n,), optional
        callbacks : iterable of Callback
            See :mod:`fastmlp.callbacks`.
        resume : str or path-like, optional
            A file that :class:`fastmlp.callbacks.Checkpoint` has written in a training with the same data and options, which goes
            on from there: parameters, optimizer, random numbers and ``loss_curve_`` are those of the file, and the result has the
            same bits as a training that was never stopped.
        buffer_bytes : int, default 256 MiB
            Memory for rows of a source, at least two minibatches. If all of them fit, they are read once; otherwise a thread reads
            some while others are trained on: blocks of the source in a random order, rows in a random order among those in memory.

        Returns
        -------
        self
            ``loss_curve_`` holds the mean (or sum) of the loss over each epoch, each minibatch's before its step. ``reading_``
            says how long training has waited for rows of a source, and the reader for training; None where all were in memory.

        Raises
        ------
        DivergenceError
            When the loss or a parameter is no longer finite. The parameters are the last that were seen to be: those of a large
            network are looked at once a second, and at the end of an epoch.
        FileNotFoundError, ValueError
            If there is nothing to resume from, or it is from another training; the network is as it was.
        """
        if not isinstance(shuffle, bool | np.bool_):
            raise ValueError(f"shuffle must be True or False, got {shuffle!r}.")
        epochs = check_count(epochs, "epochs")
        batch_size = check_count(batch_size, "batch_size")
        rate = check_real(learning_rate, "learning_rate", above=True)
        chosen_schedule = SCHEDULES.find(schedule, "schedule")
        recipe = self._check_recipe(optimizer, weight_decay, l2, max_grad_norm, dropout)
        listeners = Callbacks.of(callbacks, verbose=verbose)
        buffer_bytes = check_count(buffer_bytes, "buffer_bytes")
        feed = self._feed(x, y, sample_weight, batch_size, bool(shuffle), buffer_bytes)

        batch_size = min(batch_size, feed.rows)
        steps = -(-feed.rows // batch_size)
        options = {
            "rows": feed.rows, "batch_size": batch_size, "learning_rate": rate, "shuffle": bool(shuffle),
            "schedule": chosen_schedule.name, "schedule_constants": repr(chosen_schedule),
            "weighted": feed.data.weight is not None, **_options_of(recipe),
            "buffer_bytes": None if feed.reading is None else buffer_bytes,  # it decides on the order of rows that are read
        }  # fmt: skip
        safeguard, kept = Safeguard(self._buffer), (self._generator, self.loss_curve_, self.reading_)
        before = None if resume is None else self._resume(resume, options, epochs, chosen_schedule, steps)
        options["epochs"] = epochs  # may be another where the schedule is none of the length
        self.loss_curve_ = [] if before is None else list(before.loss_curve)
        self.reading_ = feed.reading
        run = Run(self, feed.rows, epochs, reading=feed.reading)
        begun = False
        try:
            with feed, self._trainer(feed.data, batch_size, recipe) as trainer:
                if before is not None:
                    trainer.load_state(before.steps, before.optimizer)
                    run.epoch = run.epochs_done = before.epoch
                run.state = lambda: TrainingState(
                    run.epoch, trainer.steps, trainer.state(), generator_state(self._generator), self.loss_curve_, options
                )
                try:
                    listeners.on_train_begin(run)
                    begun = True
                    safeguard.keep()  # those of a checkpoint, where there is one
                    while run.epoch < epochs and not run.stop:
                        rates = scheduled(rate, chosen_schedule, run.epoch * steps, steps, epochs * steps)
                        self._run_epoch(feed, trainer, recipe, rates, rate, run, listeners, safeguard)
                except BaseException:
                    safeguard.settle()
                    raise
                finally:
                    try:
                        listeners.on_train_end(run)
                    finally:
                        run.state = None  # it holds on to the run, and this to the trainer
        except BaseException:
            if not begun:  # refused, by a callback perhaps: as if nothing had been called
                safeguard.bring_back()
                self._generator, self.loss_curve_, self.reading_ = kept
            raise
        return self

    def _run_epoch(
        self, feed: Feed, trainer: Trainer, recipe: Recipe, rates: Rates, rate: float, run: Run, listeners: Callbacks,
        safeguard: Safeguard,
    ) -> None:  # fmt: skip
        """Train on all rows once, and tell of it."""
        run.epoch, run.rows_done = run.epoch + 1, 0
        for done in feed.epoch(trainer, rates, recipe.dropout, self._generator, last=run.epoch == run.epochs):
            self._check_totals(done, safeguard, run.epoch, run.epochs, rate, ends=done.rows == feed.rows)
            run.rows_done = done.rows
            run.loss = done.loss_sum / (done.weight_sum if self.reduction == "mean" and done.weight_sum else 1)
            listeners.on_rows(run)
        self.loss_curve_.append(run.loss)
        run.epochs_done = run.epoch
        listeners.on_epoch_end(run)

    def _resume(
        self, path: str | os.PathLike[str], options: dict[str, Any], epochs: int, schedule: Schedule, steps: int
    ) -> TrainingState:
        """Take over parameters and random numbers of a checkpoint, if it is of this training."""
        from fastmlp.io.safetensors import load_training

        network, state = load_training(path)
        for name in ("sizes", "dtype", "reduction"):
            mine, theirs = getattr(self, name), getattr(network, name)
            if mine != theirs:
                raise ValueError(f"resume: the checkpoint is of a network with {name}={theirs}, but this one has {name}={mine}.")
        entries: list[Any] = [*self._activations, self._loss]
        others: list[Any] = [*network._activations, network._loss]
        for entry, other in zip(entries, others, strict=True):
            if (entry.name, entry.parameter) != (other.name, other.parameter):
                theirs, mine = other.name, entry.name
                if theirs == mine:
                    theirs, mine = f"{theirs}({other.parameter})", f"{mine}({entry.parameter})"
                raise ValueError(f"resume: the checkpoint is of a network with {theirs}, where this one has {mine}.")
        if state.epoch > epochs:
            raise ValueError(
                f"resume: the checkpoint has {state.epoch} epochs already, but this training has epochs={epochs}; give "
                f"{state.epoch} or more."
            )
        state.check_options(options)
        before = state.options.get("epochs", epochs)
        if before != epochs and not schedule.is_the_same(before * steps, epochs * steps, steps):
            raise ValueError(
                f"resume: the checkpoint was written with epochs={before}, but this training has epochs={epochs}, and the schedule "
                f"{schedule.name} depends on it."
            )
        generator = state.make_generator()
        self.theta = network.theta
        self._generator = generator
        return state

    # --- shared pieces --------------------------------------------------------------------------------------------------------

    def _check_recipe(self, optimizer: Any, weight_decay: Any, l2: Any, max_grad_norm: Any, dropout: Any) -> Recipe:
        """What ``fit`` was given for the steps, checked."""
        chosen = OPTIMIZERS.find(optimizer, "optimizer")
        chosen.check_for(self.dtype)
        return Recipe(
            chosen,
            chosen.weight_decay if weight_decay is None else check_real(weight_decay, "weight_decay"),
            check_real(l2, "l2"),
            0.0 if max_grad_norm is None else check_real(max_grad_norm, "max_grad_norm", above=True),
            dropout=check_dropout(dropout, len(self.sizes) - 2),
        )

    def _check_totals(self, done: Totals, safeguard: Safeguard, epoch: int, epochs: int, rate: float, *, ends: bool = True) -> None:
        """Keep the parameters if they and the loss are finite; else restore the last good ones and say so."""
        if safeguard.is_well(done.loss_sum, ends=ends):
            return
        if not safeguard.bring_back():
            raise ValueError(
                "The network has parameters that are not finite, from which nothing can be learned; assign others first."
            )
        raise DivergenceError(
            f"Training diverged in epoch {epoch} of {epochs}: the loss or a parameter is no longer a finite number "
            f"at learning_rate={rate:g}. The network has its last finite parameters. Try a lower rate, such as {rate / 10:g}.",
            epoch,
        )

    def _feed(self, x: Any, y: Any, sample_weight: Any, batch_size: int, shuffle: bool, buffer_bytes: int) -> Feed:
        """Rows to train on: arrays, or a source."""
        source = given_source(x, y, sample_weight)
        if source is None:
            return InMemory(self._check_data(x, y, sample_weight), shuffle)
        if not self._loss.classification:
            self._check_numbers(source)
        from fastmlp.data.stream import open_feed

        return open_feed(source, self._check_piece, batch_size=batch_size, shuffle=shuffle, buffer_bytes=buffer_bytes)

    def _check_numbers(self, source: Source) -> None:
        """Refuse classes, of which a source gives the places in their order: a loss of numbers would take these for values."""
        classes = source.classes
        if classes is None or (classes.dtype.kind in "biuf" and np.array_equal(classes, np.arange(len(classes)))):
            return
        own = self._loss.source is not None
        raise ValueError(
            f"The source has the classes {classes[:5].tolist()} as targets, but the loss {self._loss.name} is of numbers; "
            f"{'say make_loss(..., classification=True)' if own else 'use a loss of classes, such as cross_entropy'}, or where the "
            "targets of a table are numbers, prepared(task='regression')."
        )

    def _check_piece(self, piece: Piece) -> Data:
        data = self._check_data(piece.x, piece.y, None)
        if piece.weight is None:
            return data
        return replace(data, weight=check_weight(piece.weight, data.rows, self.dtype, part=True))

    def _check_data(self, x: Any, y: Any, sample_weight: Any) -> Data:
        return check_data(x, y, sample_weight, self.sizes[0], self.sizes[-1], self._loss, self.dtype)

    @staticmethod
    def _weight(data: Data) -> float:
        return float(data.rows) if data.weight is None else float(data.weight.sum(dtype=np.float64))

    def _divisor(self, data: Data) -> float:
        return self._weight(data) if self.reduction == "mean" else 1.0

    @property
    def _canonical(self) -> bool:
        """Whether loss and output activation belong together, so that delta of the output layer is a - y."""
        return self._loss.belongs_to(self._activations[-1])


def _options_of(recipe: Recipe) -> dict[str, Any]:
    """What a checkpoint says of a recipe."""
    return {
        "optimizer": recipe.optimizer.name, "optimizer_options": dict(recipe.optimizer.options), "l2": recipe.l2,
        "weight_decay": recipe.weight_decay, "max_grad_norm": recipe.max_grad_norm, "dropout": list(recipe.dropout),
    }  # fmt: skip
