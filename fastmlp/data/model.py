"""A network with the preparation of its columns: what is trained on a table, kept in one file, and asked about other tables."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from fastmlp.callbacks import Callback, Callbacks, Run, TimeLimit
from fastmlp.data.files import TableError
from fastmlp.data.preparation import Preparation, learn_preparation
from fastmlp.data.tables import TableSource
from fastmlp.feed import BUFFER_BYTES
from fastmlp.io import safetensors as model_files
from fastmlp.io.extras import require
from fastmlp.mlp import MLP

Array = np.ndarray[Any, np.dtype[Any]]

MOST_EPOCHS, PATIENCE = 200, 12
VALIDATION_SHARE, MOST_VALIDATION_ROWS = 0.15, 100_000
MOST_TEST_ROWS = 200_000
"""Of a table that is not read whole."""
LARGE_SHARE = 1 / 8
"""A table whose files have more than this of the memory is not read whole: columns and samples take several times that."""
_MEMORY_BYTES = 8 << 30
"""Of a system that does not say."""
_KEY = "preparation"


@dataclass
class Plan:
    """How a table is learned; what is None is guessed from it.

    Parameters
    ----------
    target : str
    task : {"classification", "regression"}, optional
    hidden : sequence of int
        Widths of the hidden layers, with rectifiers.
    epochs : int, optional
        At most; by early stopping unless given: until the loss of held-out rows has not fallen for some epochs.
    batch_size : int, optional
    learning_rate : float
    optimizer : str
    dropout, weight_decay : float
    max_seconds : float, optional
    seed : int
    buffer_bytes : int
        Memory for the rows of a table that is not read whole.
    """

    target: str
    task: str | None = None
    hidden: Sequence[int] = (64, 64)
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float = 1e-3
    optimizer: str = "adamw"
    dropout: float = 0.0
    weight_decay: float = 0.01
    max_seconds: float | None = None
    seed: int = 0
    buffer_bytes: int = BUFFER_BYTES


class Watch(Callback):
    """Looks at held-out rows after each epoch, keeps the best parameters, and ends the training when they do not improve any more.

    Parameters
    ----------
    x, y : ndarray
        The held-out rows.
    patience : int or None
        Epochs without improvement that are allowed; None for any number.
    """

    def __init__(self, x: Array, y: Array, patience: int | None) -> None:
        self._x, self._y, self._patience = x, y, patience
        self.losses: list[float] = []
        self.best = np.inf
        self.best_epoch = 0
        self._theta: Array | None = None

    def on_epoch_end(self, run: Run) -> None:
        self.losses.append(run.network.eval_loss(self._x, self._y))
        if self.losses[-1] < self.best:
            self.best, self.best_epoch, self._theta = self.losses[-1], run.epoch, run.network.theta
        elif self._patience is not None and run.epoch - self.best_epoch >= self._patience:
            run.stop = True

    def on_train_end(self, run: Run) -> None:
        if self._theta is not None:
            run.network.theta = self._theta


@dataclass
class TableModel:
    """What is in a model file.

    Parameters
    ----------
    network : MLP
    preparation : Preparation
    history : dict of str to list of float
        Of each epoch: ``loss``, ``validation_loss``.
    """

    network: MLP
    preparation: Preparation
    history: dict[str, list[float]] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes, or None for numbers."""
        return self.preparation.target.classes

    def outputs(self, table: Any) -> Array:
        """Probabilities (rows, classes), or predicted numbers (rows,)."""
        raw = self.network.predict(self.preparation.rows(table))
        target = self.preparation.target
        if target.classes is None:
            numbers: Array = raw[:, 0].astype(np.float64) * target.scale + target.mean
            return numbers
        return raw

    def predictions(self, table: Any) -> Array:
        """Names of classes, or numbers."""
        outputs = self.outputs(table)
        return outputs if self.classes is None else np.array(self.classes)[outputs.argmax(axis=1)]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it into one ``.safetensors`` file."""
        more = {"preparation": self.preparation.as_dict(), "history": self.history}
        model_files.save(self.network, path, more={_KEY: more})

    @classmethod
    def load(cls, path: Path) -> TableModel:
        """Read one.

        Raises
        ------
        TableError
            If the file is no model, or has no preparation.
        """
        if not path.exists():
            raise TableError(f"There is no file {str(path)!r}.")
        try:
            network, metadata = model_files.load_with_metadata(path)
        except ValueError as error:
            raise TableError(str(error)) from None
        if _KEY not in metadata:
            raise TableError(f"{path} is a network without the preparation of a table; load it with fastmlp.io.load.")
        try:
            content = metadata[_KEY]
            preparation = Preparation.from_dict(content["preparation"])
            history = {name: [float(value) for value in values] for name, values in content["history"].items()}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise TableError(f"{path}: the preparation of the table is damaged: {error}.") from None
        outputs = 1 if preparation.target.classes is None else len(preparation.target.classes)
        if (preparation.width, outputs) != (network.sizes[0], network.sizes[-1]):
            raise TableError(
                f"{path}: the table becomes {preparation.width} numbers and {outputs} outputs, but the network has "
                f"{network.sizes[0]} and {network.sizes[-1]}."
            )
        return cls(network, preparation, history)


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
        raise TableError(f"A share of {share:g} of {rows} rows leaves nothing on one side.")
    order = np.random.default_rng(seed).permutation(rows)
    return table.take(np.sort(order[held_out:])), table.take(np.sort(order[:held_out]))


def guess_batch_size(rows: int) -> int:
    """Some hundred steps in an epoch, and between 16 and 256 rows in each."""
    return int(min(256, max(16, 2 ** round(np.log2(max(rows, 1) / 100)))))


def arrays_of(preparation: Preparation, table: Any) -> Split:
    """Samples and targets of those rows that have a target."""
    y, there = preparation.target.values(table.column(preparation.target.name))
    x = preparation.rows(table)
    return Split(x if there.all() else x[there], y)


def begin(table: Any, validation: Any | None, plan: Plan, *, shared_scale: bool = False) -> tuple[TableModel, Split, Split, int]:
    """Learn the preparation and make the network; returns them with the rows to train on, those held out and the batch size."""
    if validation is None:
        share = min(VALIDATION_SHARE, MOST_VALIDATION_ROWS / table.num_rows)
        table, validation = split_table(table, share, plan.seed + 1)
    preparation, _ = learn_preparation([table], plan.target, task=plan.task, shared_scale=shared_scale)
    train, held_out = arrays_of(preparation, table), arrays_of(preparation, validation)
    return _new_model(preparation, plan), train, held_out, plan.batch_size or guess_batch_size(len(train.x))


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
    arrow = require("pyarrow", "cli")
    rows = source.rows
    test = min(test, MOST_TEST_ROWS / rows)
    validation = min(VALIDATION_SHARE, MOST_VALIDATION_ROWS / rows)
    bounds = (0.0, test, test + validation, 1.0)
    shares = [source.share(low, high, plan.seed) for low, high in pairwise(bounds)]
    aside: list[list[Any]] = [[], []]

    def to_train_on() -> Iterator[Any]:
        for *others, batch in source.split_batches(shares):
            for kept, other in zip(aside, others, strict=True):
                kept.append(other)
            yield batch

    preparation, counted = learn_preparation(to_train_on(), plan.target, task=plan.task)
    tested, validated = (arrow.Table.from_batches(batches) for batches in aside)
    held_out = arrays_of(preparation, validated)
    if len(held_out.x) == 0:
        raise TableError(f"{rows} rows are too few to hold some of them out.")
    train = shares[-1].prepared(preparation, rows=counted)
    return _new_model(preparation, plan), train, held_out, tested, plan.batch_size or guess_batch_size(counted)


def is_large(paths: Sequence[Path]) -> bool:
    """Whether so much of the memory would go to a table that it is better not read whole."""
    return sum(path.stat().st_size for path in paths) > LARGE_SHARE * memory_bytes()


def memory_bytes() -> int:
    """Of this machine."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not on Windows
        return _MEMORY_BYTES


def _new_model(preparation: Preparation, plan: Plan) -> TableModel:
    classes = preparation.target.classes
    sizes = (preparation.width, *plan.hidden, 1 if classes is None else len(classes))
    activations = ["relu"] * len(plan.hidden) + ["identity" if classes is None else "softmax"]
    loss = "squared_error" if classes is None else "cross_entropy"
    return TableModel(MLP(sizes, activations, loss, random_state=plan.seed), preparation)


def learn(
    model: TableModel,
    train: Split | TableSource,
    held_out: Split,
    batch_size: int,
    plan: Plan,
    callbacks: Sequence[Callback] = (),
    resume: Path | None = None,
) -> Watch:
    """Train, and leave the network with the parameters that were best on the held-out rows, also after Ctrl-C."""
    watch = Watch(held_out.x, held_out.y, PATIENCE if plan.epochs is None else None)
    listeners: list[Callback] = [watch, *callbacks]
    if plan.max_seconds is not None:
        listeners.append(TimeLimit(plan.max_seconds))
    x, y = (train.x, train.y) if isinstance(train, Split) else (train, None)
    try:
        model.network.fit(
            x, y, epochs=plan.epochs or MOST_EPOCHS, batch_size=batch_size, learning_rate=plan.learning_rate,
            optimizer=plan.optimizer, dropout=plan.dropout,
            weight_decay=plan.weight_decay if plan.optimizer == "adamw" else None,
            callbacks=Callbacks.of(listeners, verbose=False).members, resume=resume,
            buffer_bytes=plan.buffer_bytes,
        )  # fmt: skip
    finally:
        model.history = {"loss": list(model.network.loss_curve_), "validation_loss": watch.losses}
    return watch


def predict_batches(model: TableModel, batches: Iterator[Any], what: Callable[[Any], Any]) -> Iterator[Any]:
    """``what(batch)`` for each batch of a table; memory does not grow with their number."""
    for batch in batches:
        if batch.num_rows:
            yield what(batch)
