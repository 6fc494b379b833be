"""What a training goes through once in every epoch: rows in memory, or those of a stream (:mod:`fastmlp.data.stream`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from fastmlp.dropout import draw_key
from fastmlp.shuffle import Order
from fastmlp.trainer import Rates, Totals, Trainer
from fastmlp.validation import Data

if TYPE_CHECKING:
    from fastmlp.data.sources import Source

LossOffset = Callable[[Data], float]
"""What is added to the network's summed loss of some rows for the one that is reported: a constant of their targets."""

BUFFER_BYTES = 256 << 20
"""Memory for the rows of a source, unless something else is asked for."""


@dataclass
class Reading:
    """What reading in the background has cost a training so far; as text, a line that says who had to wait for whom.

    Attributes
    ----------
    rows : int
        That have been read, over all epochs.
    passes : int
        Epochs that are done.
    training_waited, reader_waited : float
        Seconds that training has waited for rows, and that the thread that reads has waited for room to put them.
    """

    rows: int = 0
    passes: int = 0
    training_waited: float = 0.0
    reader_waited: float = 0.0

    def __str__(self) -> str:
        slower = "training" if self.reader_waited > self.training_waited else "reading"
        return (
            f"{self.rows:,} rows read; training waited {self.training_waited:.2f} s for rows, the reader "
            f"{self.reader_waited:.2f} s for training: {slower} set the pace."
        )


class Feed(ABC):
    """Rows to train on; a context manager.

    Attributes
    ----------
    rows : int
        Of an epoch.
    data : Data
        What a trainer is made for: the rows themselves, or as many and of the same kind as it will have at a time.
    reading : Reading or None
        What reading has cost; None where nothing is read.
    loss_offset : float
        What the summed loss of the last epoch's rows has besides that of the network.
    """

    rows: int
    data: Data
    reading: Reading | None = None
    loss_offset: float = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:  # noqa: B027  # rows in memory need no end
        pass

    @abstractmethod
    def epoch(
        self, trainer: Trainer, rates: Rates, dropout: tuple[float, ...], generator: np.random.Generator, *, last: bool
    ) -> Iterator[Totals]:
        """Train on all rows once, pausing several times a second.

        Parameters
        ----------
        trainer : Trainer
            Made for ``data``.
        rates : Rates
            Learning rate of each step.
        dropout : tuple of float
        generator : numpy.random.Generator
            Decides on the order; the same one in each epoch.
        last : bool
            Whether no epoch is expected after this one.
        """

    @abstractmethod
    def parts(self) -> Iterator[Data]:
        """All rows once, in their own order, outside of an epoch; a part is there until the next one is asked for."""


class InMemory(Feed):
    """Rows that are there.

    Parameters
    ----------
    data : Data
    shuffle : bool
    loss_offset : callable, optional
        ``loss_offset(data)``: what :attr:`loss_offset` will be.
    """

    def __init__(self, data: Data, shuffle: bool, loss_offset: LossOffset | None = None) -> None:
        self.data, self.rows = data, data.rows
        self.loss_offset = 0.0 if loss_offset is None else loss_offset(data)
        self._shuffle = shuffle

    def epoch(
        self, trainer: Trainer, rates: Rates, dropout: tuple[float, ...], generator: np.random.Generator, *, last: bool
    ) -> Iterator[Totals]:
        """See the base class."""
        # The order within a batch means nothing.
        order = Order(self.rows, generator) if self._shuffle and len(rates) > 1 else None
        return trainer.epoch(order, rates, draw_key(dropout, generator))

    def parts(self) -> Iterator[Data]:
        """See the base class."""
        yield self.data


def given_source(x: Any, y: Any, sample_weight: Any) -> Source | None:
    """What a person has given in the place of samples and targets, if it is a source; None for samples.

    Raises
    ------
    ValueError
        For samples without targets, and for targets beside a source.
    """
    if y is not None and not hasattr(x, "pieces"):
        return None
    from fastmlp.data.sources import Source, as_source

    source = as_source(x, "x")
    if source is None:
        raise ValueError("y is missing; only a source of rows, such as fastmlp.data.from_npy(...), brings targets of its own.")
    if isinstance(x, Source) and y is not None:
        raise ValueError("y must be None where x is a source, which brings targets of its own.")
    if sample_weight is not None:
        raise ValueError("sample_weight must be None where x is a source; its blocks, or a file of weights, may have weights.")
    return source
