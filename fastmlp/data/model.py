"""A network with the preparation of its columns: what is trained on a table, kept in one file, and asked about other tables."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from fastmlp.callbacks import Callback, Checkpoint, Run, TimeLimit
from fastmlp.data.errors import TableError, naming
from fastmlp.data.joining import joined, together
from fastmlp.data.learning import LearnedTarget, learn_from_batches, learn_preparation, learn_target, nearly_numbers
from fastmlp.data.preparation import Preparation, Target, missing_column
from fastmlp.data.sources import Source
from fastmlp.data.tables import PIECE_ROWS, TableSource
from fastmlp.feed import BUFFER_BYTES
from fastmlp.frames import arrow_of_array, arrow_of_frame, in_order_of, is_frame, library_of, names_of_frame
from fastmlp.io import safetensors as model_files
from fastmlp.io.extras import require
from fastmlp.mlp import MLP
from fastmlp.schedules import SCHEDULES

Array = np.ndarray[Any, np.dtype[Any]]

MOST_EPOCHS, PATIENCE = 200, 20
VALIDATION_SHARE, MOST_VALIDATION_ROWS = 0.15, 100_000
MOST_TEST_ROWS = 200_000
"""Of a table that is not read whole."""
_SMALL_BATCHES = 256
"""Of rows that are kept aside, before one is made of them."""
MOST_DEVIATIONS = 1e15
"""The square of a target this far from the mean is still a float32, and so is the sum of many."""
LARGE_SHARE = 1 / 8
"""A table whose files have more than this of the memory is not read whole: columns and samples take several times that."""
ASIDE_SHARE = 1 / 16
"""Of the memory, for those rows of a table that is not read whole which are kept for validation and for the report."""
_CGROUP_LIMITS = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where a container says how much memory it may have."""
_MEMORY_BYTES = 8 << 30
"""Of a system that does not say."""
_KEY, _BEST, _HELD_OUT, _TRAINED_ON = "preparation", "best_theta", "held_out", "trained_on"


@dataclass
class Plan:
    """How a table is learned; what is None is guessed from it.

    Parameters
    ----------
    target : str
    task : {"classification", "regression"}, optional
    hidden : sequence of int, optional
        Widths of the hidden layers, with rectifiers.
    epochs : int, optional
        Exactly so many; unless given, until the loss of held-out rows has not fallen for 20 epochs, 200 at most.
    batch_size : int, optional
    learning_rate : float
    schedule : str
    optimizer : str
    dropout : float, optional
        In hidden layers.
    weight_decay : float, optional
        The optimizer's own unless given.
    max_seconds : float, optional
    seed : int
    buffer_bytes : int
        Memory for the rows of a table that is not read whole.
    """

    target: str
    task: str | None = None
    hidden: Sequence[int] | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float = 1e-3
    schedule: str = "constant"
    optimizer: str = "adamw"
    dropout: float | None = None
    weight_decay: float | None = None
    max_seconds: float | None = None
    seed: int = 0
    buffer_bytes: int = BUFFER_BYTES


def best_epoch(losses: Sequence[float]) -> int:
    """The place of the lowest loss, the first of several; one that is not finite is worse than any other."""
    return int(np.argmin(np.where(np.isfinite(losses), losses, math.inf)))


def _key(*arrays: Array) -> str:
    """Tells these rows from others."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).reshape(-1).data)
    return digest.hexdigest()


class Watch(Callback):
    """Looks at held-out rows after each epoch, keeps the best parameters, and ends the training when they do not improve any more.

    Parameters
    ----------
    x, y : ndarray
        The held-out rows.
    patience : int or None
        Epochs without improvement that are allowed; None for any number.

    Attributes
    ----------
    losses : list of float
        Of the held-out rows, after each epoch.
    best_theta : ndarray (n_parameters,) or None
        The parameters after the epoch with the lowest of them.
    """

    def __init__(self, x: Array, y: Array, patience: int | None) -> None:
        self._x, self._y, self._patience = x, y, patience
        self.losses: list[float] = []
        self.best_theta: Array | None = None

    def key(self) -> str:
        """Tells these rows from others."""
        return _key(self._x, self._y)

    @property
    def finished(self) -> bool:
        """Whether there has been no improvement for too long."""
        return (
            self._patience is not None and len(self.losses) - (best_epoch(self.losses) + 1 if self.losses else 0) >= self._patience
        )

    def on_train_begin(self, run: Run) -> None:
        run.stop = run.stop or self.finished  # of a training that goes on, but had been stopped

    def on_epoch_end(self, run: Run) -> None:
        loss = run.network.eval_loss(self._x, self._y)
        losses = [*self.losses, loss]
        if best_epoch(losses) == len(losses) - 1 or self.best_theta is None:
            self.best_theta = run.network.theta
        self.losses = losses  # at last, wherever Ctrl-C comes: an epoch that has a loss has been looked at
        run.stop = run.stop or self.finished


@dataclass
class TableModel:
    """What is in a model file.

    Parameters
    ----------
    network : MLP
    preparation : Preparation
    history : dict of str to list of float
        Of each epoch: ``loss``, ``validation_loss``; ``learning_rate`` at its beginning.
    """

    network: MLP
    preparation: Preparation
    history: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.preparation, Preparation):
            raise TypeError(
                f"preparation must be what prepared() has learned (source.preparation), got {type(self.preparation).__name__}."
            )
        classes, sizes = self.classes, self.network.sizes
        outputs = 1 if classes is None or (len(classes) == 2 and self._is_probability) else len(classes)
        if (self.preparation.width, outputs) != (sizes[0], sizes[-1]):
            raise ValueError(
                f"The table becomes {self.preparation.width} numbers and {outputs} outputs, but the network has {sizes[0]} and "
                f"{sizes[-1]}."
            )

    @property
    def _is_probability(self) -> bool:
        """Whether the one output is the probability of the second class."""
        return self.network.sizes[-1] == 1 and self.network.activation[-1] == "sigmoid"

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes, or None for numbers."""
        return self.preparation.target.classes

    def outputs(self, table: Any) -> Array:
        """Probabilities (rows, classes), or predicted numbers (rows,); ``table``: of pyarrow, pandas or polars.

        Raises
        ------
        TableError
            Where columns are missing or of another kind, or have numbers that the network cannot take.
        """
        with np.errstate(over="ignore"):  # of what is not scaled; if it matters, the network says so
            x = self.preparation.rows(self._needed(table))
        target = self.preparation.target
        if not len(x):
            return np.empty(0) if target.classes is None else np.empty((0, len(target.classes)), self.network.dtype)
        try:
            raw = self.network.predict(x)
        except ValueError:
            self._check_finite(x)
            raise
        if target.classes is None:
            numbers: Array = raw[:, 0].astype(np.float64) * target.scale + target.mean
            return numbers
        return np.hstack([1 - raw, raw]) if self._is_probability else raw

    def _needed(self, table: Any) -> Any:
        """As a table of pyarrow, at least the columns that features are made of."""
        if not is_frame(table):
            return arrow_of_frame(table)
        names, needed = names_of_frame(table), self.preparation.types
        there = set(names)
        if len(there) < len(names) and (twice := next((name for name in needed if names.count(name) > 1), None)) is not None:
            raise TableError(f"The table has {names.count(twice)} columns called {twice!r}; give it the one that is meant.")
        if library_of(table) == "pyarrow":
            return arrow_of_frame(table)
        for name in needed:
            if name not in there:
                raise TableError(missing_column(name, names))
        try:
            return arrow_of_frame(in_order_of(table, list(needed)))
        except TypeError as error:
            raise TableError(str(error)) from None

    def _check_finite(self, x: Array) -> None:
        """Refuse samples (rows, width) with a number that float32 has not, and say in which column."""
        start = 0
        for feature in self.preparation.features:
            if not np.isfinite(x[:, start : start + feature.width]).all():
                raise TableError(
                    f"Column {feature.name!r} has a number that is too large for {x.dtype}; correct it, or remove its row."
                )
            start += feature.width

    def predictions(self, table: Any) -> Array:
        """Names of classes, or numbers."""
        outputs = self.outputs(table)
        return outputs if self.classes is None else np.array(self.classes)[outputs.argmax(axis=1)]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it into one ``.safetensors`` file."""
        model_files.save(self.network, path, more=self.description())

    def description(self) -> dict[str, Any]:
        """What is kept in a file beside the network."""
        return {_KEY: {"preparation": self.preparation.as_dict(), "history": self.history}}

    @classmethod
    def load(cls, path: Path) -> TableModel:
        """Read one.

        Raises
        ------
        TableError
            If the file is no model, or has no preparation.
        """
        try:
            contents = model_files.read(path)
        except (FileNotFoundError, ValueError) as error:
            raise TableError(str(error)) from None
        network = contents.network
        if _KEY not in contents.more:
            raise TableError(f"{path} is a network without the preparation of a table; load it with fastmlp.io.load.")
        preparation, history = _described(contents, path)
        if _BEST in contents.arrays:
            network.theta = _best_theta(contents, path)
        try:
            return cls(network, preparation, history)
        except ValueError as error:
            raise TableError(f"{path}: {error}") from None


def _described(contents: model_files.Contents, path: Path | str) -> tuple[Preparation, dict[str, list[float]]]:
    """What a file says about the table, and about the epochs of its training."""
    try:
        content = contents.more[_KEY]
        history = {name: [float(value) for value in values] for name, values in content["history"].items()}
        return Preparation.from_dict(content["preparation"]), history
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise TableError(f"{path}: the preparation of the table is damaged ({model_files.in_short(error)}).") from None


def _best_theta(contents: model_files.Contents, path: Path | str) -> Array:
    """The best parameters so far, (n_parameters,), of a checkpoint's training."""
    theta, of_network = contents.arrays.get(_BEST), contents.network.theta
    if theta is None or theta.shape != of_network.shape or theta.dtype != of_network.dtype or not np.isfinite(theta).all():
        raise TableError(f"{path}: {_BEST} is damaged; it should be {of_network.size} finite numbers of {of_network.dtype}.")
    return theta


def has_table(path: Path) -> bool:
    """Whether a file is a model of a table, rather than a network alone; raises what :func:`fastmlp.io.load` does."""
    return _KEY in model_files.read(path).more


class TableCheckpoint(Checkpoint):
    """Checkpoints that are models of a table, with the parameters that were best so far, and can be gone on from.

    Parameters
    ----------
    path : Path
    model : TableModel
    watch : Watch
        Of the same training; it is called before.
    train : Split or Source
        The rows to train on; those of a source are only told from others by what has been learned of their columns.
    """

    def __init__(self, path: Path, model: TableModel, watch: Watch, train: Split | Source) -> None:
        super().__init__(path)
        self._model, self._watch = model, watch
        self._rows = {_HELD_OUT: watch.key()}
        if isinstance(train, Split):
            self._rows[_TRAINED_ON] = _key(train.x, train.y)

    def _write(self, run: Run) -> None:
        # Where Ctrl-C has come while the held-out rows were looked at, the file of the epoch before stays.
        if len(self._watch.losses) == run.epochs_done:
            super()._write(run)

    def save(self, run: Run, path: str) -> None:
        assert run.state is not None
        assert self._watch.best_theta is not None
        self._model.history = {"loss": list(run.network.loss_curve_), "validation_loss": list(self._watch.losses)}
        more = self._model.description() | self._rows
        model_files.save(run.network, path, training=run.state(), more=more, arrays={_BEST: self._watch.best_theta})

    def restore(self, epochs: int) -> None:
        """Have the watch remember what it knew when the file was written.

        Raises
        ------
        TableError
            If the file is not of a training on this table, or has more epochs than there are to be.
        """
        try:
            contents = model_files.read(self._path, with_training=True)
        except (FileNotFoundError, ValueError) as error:
            raise TableError(str(error)) from None
        preparation, history = _described(contents, self._path) if _KEY in contents.more else (None, {})
        rows = {name: contents.more.get(name, key) for name, key in self._rows.items()}  # earlier versions did not write all
        if preparation != self._model.preparation or rows != self._rows:
            raise TableError(
                f"{self._path} is the checkpoint of a training on other rows or columns, or with another seed; "
                "give another name with --resume."
            )
        sizes, mine = contents.network.sizes, self._model.network.sizes
        if sizes != mine:
            raise TableError(
                f"{self._path} is the checkpoint of a network {'-'.join(map(str, sizes))}, but this one is "
                f"{'-'.join(map(str, mine))}; leave --hidden as it was, or give another name with --resume."
            )
        done = 0 if contents.training is None else contents.training.epoch
        if done > epochs:
            raise TableError(
                f"{self._path} has {done} epochs already, but this training is to have {epochs} at most; give --epochs {done} or "
                "more, or another name with --resume."
            )
        losses = history.get("validation_loss", [])
        if len(losses) != done:
            raise TableError(f"{self._path} is damaged: it has {done} epochs, but {len(losses)} losses of the rows to validate on.")
        self._watch.losses = losses
        self._watch.best_theta = _best_theta(contents, self._path)


@dataclass
class Split:
    """Rows of a table, as arrays."""

    x: Array
    y: Array


def split_table(table: Any, share: float, seed: int) -> tuple[Any, Any]:
    """A random share of a table's rows at the end, the others before."""
    rows = table.num_rows
    held_out = round(rows * share)
    if not 0 < held_out < rows:
        raise TableError(f"Of {rows} rows, a share of {share:g} cannot be held out: there are too few on one side.")
    order = np.random.default_rng(seed).permutation(rows)
    arrow = require("pyarrow", "cli")
    kept, out = (table.take(arrow_of_array(arrow, np.sort(part))) for part in (order[held_out:], order[:held_out]))
    return kept, out


def guess_batch_size(rows: int) -> int:
    """Some hundred steps in an epoch, and between 16 and 256 rows in each."""
    return int(min(256, max(16, 2 ** round(np.log2(max(rows, 1) / 100)))))


_MANY_INPUTS = 256
"""Rows with more of them are as long as those of pictures, for which one wide layer, with more dropout, does better: on 8,000 rows
of MNIST an accuracy of 0.962 on others, over eight seeds, where two layers of 256 and 128 units with less dropout had 0.955."""


def guess_hidden(inputs: int) -> tuple[int, ...]:
    """Widths of the hidden layers."""
    return (256,) if inputs > _MANY_INPUTS else (64, 64)


def dropout_of(plan: Plan, sizes: Sequence[int]) -> float:
    """Dropout of a network's hidden layers: as the plan says, or guessed from the number of inputs; 0 where there is none."""
    if len(sizes) == 2:
        return 0.0
    if plan.dropout is not None:
        return plan.dropout
    return 0.3 if sizes[0] > _MANY_INPUTS else 0.1


def arrays_of(preparation: Preparation, table: Any) -> Split:
    """Samples and targets of those rows that have a target."""
    y, there = preparation.target.values(table.column(preparation.target.name))
    x = preparation.rows(table)
    return Split(x if there.all() else x[there], y)


def begin(
    table: Any, validation: Any | None, plan: Plan, *, shared_scale: bool = False, whole: Any | None = None
) -> tuple[TableModel, Split, Split, int]:
    """Learn the preparation and make the network; returns them with the rows to train on, those held out and the batch size.

    ``whole`` is the table that ``table`` is a part of: the classes are those that occur in it.
    """
    target = learn_target(table if whole is None else whole, plan.target, plan.task)
    task = "regression" if target.classes is None else "classification"
    if validation is None:
        share = min(VALIDATION_SHARE, MOST_VALIDATION_ROWS / table.num_rows)
        table, validation = split_table(table, share, plan.seed + 1)
    preparation = learn_preparation(table, plan.target, task=task, shared_scale=shared_scale)
    if target.classes is not None:
        preparation = replace(preparation, target=target)
    train, held_out = arrays_of(preparation, table), arrays_of(preparation, validation)
    _check_classes(preparation.target, len(train.y))
    if len(held_out.y) == 0:
        raise TableError(f"None of the {validation.num_rows} rows to validate on has a value of the target {plan.target!r}.")
    _check_range(preparation.target, held_out.y)
    return _new_model(preparation, plan), train, held_out, plan.batch_size or guess_batch_size(len(train.x))


class _Aside:
    """Rows that are kept; of many small batches one is made, for each of them takes memory beside that of its rows."""

    def __init__(self) -> None:
        self._large: list[Any] = []
        self._small: list[Any] = []

    def add(self, batch: Any) -> None:
        """Keep some rows, perhaps none."""
        self._small.append(batch)
        if len(self._small) == _SMALL_BATCHES:
            self._large += together(self._small)
            self._small = []

    def batches(self) -> list[Any]:
        """All of them so far."""
        return [*self._large, *self._small]


def begin_streamed(source: TableSource, test: float, plan: Plan) -> tuple[TableModel, TableSource, Split, Any, int]:
    """The same for a table that is not read whole, in one pass over it after its rows have been counted.

    Returns
    -------
    model : TableModel
    train : TableSource
        What is left of the rows.
    held_out : Split
    tested : pyarrow.Table
        A share ``test`` of the rows; of these and of the held-out ones there are as many as fit into memory beside the network.
    batch_size : int
    """
    rows = source.rows
    fits = ASIDE_SHARE * memory_bytes() / source.row_bytes / rows
    test = min(test, MOST_TEST_ROWS / rows, fits * 2 / 3)
    validation = min(VALIDATION_SHARE, (1 - test) / 2, MOST_VALIDATION_ROWS / rows, fits / 3)
    bounds = (0.0, test, test + validation, 1.0)
    shares = [source.share(low, high, plan.seed) for low, high in pairwise(bounds)]
    aside = [_Aside(), _Aside()]
    too_few = TableError(f"{rows} rows are too few to hold some of them out.")
    whole: LearnedTarget | None = None

    def to_train_on() -> Iterator[Any]:
        nonlocal whole
        there = 0
        for *others, batch in source.split_batches(shares):
            whole = whole or LearnedTarget(batch.schema, plan.target, plan.task)
            for part in (*others, batch):
                whole.add(part.column(plan.target))
            for kept, other in zip(aside, others, strict=True):
                kept.add(other)
            there += batch.num_rows
            yield batch
        if there == 0:
            raise too_few

    preparation, counted = learn_from_batches(to_train_on(), plan.target, task=plan.task)
    assert whole is not None
    target = whole.target()
    if target.classes is not None or preparation.target.classes is not None:  # those of the rows to train on may be fewer
        preparation = replace(preparation, target=target)
    _check_classes(target, counted)
    used = [*preparation.types, plan.target]
    tested, validated = (joined(kept.batches(), used) for kept in aside)
    held_out = arrays_of(preparation, validated)
    if len(held_out.x) == 0:
        raise too_few
    _check_range(preparation.target, held_out.y)
    train = shares[-1].prepared(preparation, rows=counted)
    return _new_model(preparation, plan), train, held_out, tested, plan.batch_size or guess_batch_size(counted)


def is_large(paths: Sequence[Path]) -> bool:
    """Whether so much of the memory would go to a table that it is better not read whole."""
    return sum(path.stat().st_size for path in paths) > LARGE_SHARE * memory_bytes()


def memory_bytes() -> int:
    """Of this machine, or what this container may have of it."""
    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not on Windows
        there = _MEMORY_BYTES
    for file in _CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # "max" is no limit
            there = min(there, int(file.read_text()))
    return there


def _new_model(preparation: Preparation, plan: Plan) -> TableModel:
    classes = preparation.target.classes
    hidden = guess_hidden(preparation.width) if plan.hidden is None else plan.hidden
    sizes = (preparation.width, *hidden, 1 if classes is None else len(classes))
    activations = ["relu"] * len(hidden) + ["identity" if classes is None else "softmax"]
    loss = "squared_error" if classes is None else "cross_entropy"
    return TableModel(MLP(sizes, activations, loss, random_state=plan.seed), preparation)


def _rates(plan: Plan, done: int, epochs: int, steps: int) -> list[float]:
    """Learning rate at the beginning of each epoch that is done."""
    factors = SCHEDULES.find(plan.schedule, "schedule").factor(np.arange(done, dtype=np.float64) * steps, epochs * steps, steps)
    return [float(rate) for rate in plan.learning_rate * factors]


def _check_classes(target: Target, rows: int) -> None:
    """Whether there are enough rows to learn the classes from."""
    if target.classes is not None and len(target.classes) > max(2, rows / 2):
        notation = nearly_numbers(target.classes)
        raise TableError(
            f"The target {target.name!r} has {len(target.classes)} classes, but there are only {rows} rows to learn them from; "
            + ("is it the right column?" if notation is None else f"{notation}.")
        )


def _check_range(target: Target, y: Array) -> None:
    """Whether validation rows have a loss, by targets as the network is to predict them."""
    farthest = np.abs(y).max()
    if target.classes is None and farthest > MOST_DEVIATIONS:
        raise TableError(
            f"A row to validate on has a value of the target {target.name!r} that is {farthest:.1g} standard deviations away from "
            "the mean of those to train on; correct or remove such rows."
        )


def check_table(model: TableModel, table: Any, name: str) -> int:
    """Refuse a table that a model cannot be evaluated on, before it is trained; returns how many rows have a target."""
    preparation = model.preparation
    with naming(name):
        names = table.schema.names  # a new list each time
        there = set(names)
        for column in (*preparation.types, preparation.target.name):
            if column not in there:
                raise TableError(missing_column(column, names))
        y, _ = preparation.target.values(table.column(preparation.target.name))
        if len(y) == 0:
            raise TableError(f"No row has a value of the target {preparation.target.name!r}.")
        for batch in table.to_batches(max_chunksize=PIECE_ROWS):  # or what is of another kind would be said after the training
            preparation.rows(batch)
    return len(y)


def learn(
    model: TableModel,
    train: Split | Source,
    held_out: Split,
    batch_size: int,
    plan: Plan,
    callbacks: Sequence[Callback] = (),
    checkpoint: Path | None = None,
) -> Watch:
    """Train, and leave the network with the parameters that were best on the held-out rows, also after Ctrl-C.

    ``checkpoint`` is written after each epoch, and gone on from if it is there.
    """
    watch = Watch(held_out.x, held_out.y, PATIENCE if plan.epochs is None else None)
    epochs = plan.epochs or MOST_EPOCHS
    listeners: list[Callback] = [watch, *callbacks]
    resume = None
    if checkpoint is not None:
        writer = TableCheckpoint(checkpoint, model, watch, train)
        listeners.append(writer)
        if checkpoint.exists():
            writer.restore(epochs)
            resume = checkpoint
    if plan.max_seconds is not None:
        listeners.append(TimeLimit(plan.max_seconds))
    x, y, rows = (train.x, train.y, len(train.x)) if isinstance(train, Split) else (train, None, train.rows)
    try:
        model.network.fit(
            x, y, epochs=epochs, batch_size=batch_size, learning_rate=plan.learning_rate,
            optimizer=plan.optimizer, schedule=plan.schedule, dropout=dropout_of(plan, model.network.sizes),
            weight_decay=plan.weight_decay, callbacks=listeners, resume=resume, buffer_bytes=plan.buffer_bytes,
        )  # fmt: skip
    finally:
        done = len(watch.losses)  # after Ctrl-C while the held-out rows were looked at, an epoch less
        model.history = {"loss": list(model.network.loss_curve_[:done]), "validation_loss": watch.losses}
        model.history["learning_rate"] = _rates(plan, done, epochs, -(-rows // batch_size))
        if watch.best_theta is not None:
            model.network.theta = watch.best_theta
    return watch
