"""What happens between minibatches and between epochs: progress, early stopping, a history, checkpoints, a time limit."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastmlp.validation import check_count, check_real

if TYPE_CHECKING:
    from fastmlp.feed import Reading
    from fastmlp.network import Network
    from fastmlp.training_state import TrainingState


@dataclass
class Run:
    """A training in progress, as callbacks see it.

    Attributes
    ----------
    network : Network
    rows, epochs : int
        Samples in an epoch, and epochs in the training.
    epoch : int
        Number of the current epoch, from 1.
    epochs_done : int
        Epochs that have ended: one less than ``epoch`` in the middle of one.
    rows_done : int
        Samples of the current epoch that have been trained on.
    loss : float
        Mean loss (or sum, by the network's ``reduction``) of the current epoch so far, or of the one that has just ended, as
        ``loss_curve_`` has it.
    stop : bool
        Set it to end the training after this epoch; at the beginning of ``MLP.fit``, before the first.
    reading : Reading or None
        Of rows that are read while training: what has been waited for; see :class:`fastmlp.feed.Reading`.
    state : callable or None
        ``state()``: all that is needed to go on from here, between two epochs; None where that cannot be given.
    """

    network: Network
    rows: int
    epochs: int
    epoch: int = 0
    epochs_done: int = 0
    rows_done: int = 0
    loss: float = math.nan
    stop: bool = False
    reading: Reading | None = None
    state: Callable[[], TrainingState] | None = None


class Callback:
    """Base of all callbacks; override what you need."""

    def on_train_begin(self, run: Run) -> None:
        """Called before the first epoch."""

    def on_rows(self, run: Run) -> None:
        """Called a few times a second, between two minibatches; the parameters of a large network may not be finite then."""

    def on_epoch_end(self, run: Run) -> None:
        """Called after each epoch."""

    def on_train_end(self, run: Run) -> None:
        """Called once at the end, also when the training was interrupted or has failed."""


@dataclass
class Callbacks(Callback):
    """Several callbacks as one, called in order.

    Parameters
    ----------
    members : list of Callback, optional
    """

    members: list[Callback] = field(default_factory=list)
    _begun: list[Callback] = field(default_factory=list, init=False, repr=False)

    @classmethod
    def of(cls, given: Iterable[Any], *, verbose: bool) -> Callbacks:
        """The caller's callbacks, and a progress bar if wanted.

        Parameters
        ----------
        given : iterable of Callback
        verbose : bool
            Whether :class:`Progress` is added to them.

        Returns
        -------
        Callbacks

        Raises
        ------
        TypeError
            For what is no callback.
        """
        if not isinstance(given, Iterable):
            raise TypeError(f"callbacks must be a sequence of callbacks, got {given!r}.")
        members = list(given)
        for member in members:
            if not isinstance(member, Callback):
                raise TypeError(f"callbacks must be instances of fastmlp.callbacks.Callback, got {member!r}.")
        return cls([*members, Progress()] if verbose else members)

    def on_train_begin(self, run: Run) -> None:
        self._begun = []
        for member in self.members:
            member.on_train_begin(run)
            self._begun.append(member)

    def on_rows(self, run: Run) -> None:
        for member in self.members:
            member.on_rows(run)

    def on_epoch_end(self, run: Run) -> None:
        for member in self.members:
            member.on_epoch_end(run)

    def on_train_end(self, run: Run) -> None:
        self._end(run, self._begun)  # where one of them could not begin, those after it have not, either

    def _end(self, run: Run, members: list[Callback]) -> None:
        """All of them get to it, also where one of them fails; Python then says with which errors."""
        if members:
            try:
                members[0].on_train_end(run)
            finally:
                self._end(run, members[1:])


class Progress(Callback):
    """A progress bar with the epoch, the loss, rows per second and the time left; on stderr.

    Parameters
    ----------
    description : str, default "training"
    """

    def __init__(self, description: str = "training") -> None:
        self._description = description
        self._bar: Any = None

    def on_train_begin(self, run: Run) -> None:
        from tqdm.auto import tqdm

        has_place = sys.stderr is not None and not sys.stderr.closed  # a program without a console may have none
        total = run.epochs * run.rows
        self._bar = tqdm(total=total, desc=self._description, unit=" rows", unit_scale=True, disable=not has_place)

    def on_rows(self, run: Run) -> None:
        done = (run.epoch - 1) * run.rows + run.rows_done
        self._bar.set_postfix_str(f"epoch {run.epoch}/{run.epochs}, loss {run.loss:.4g}", refresh=False)
        self._bar.update(done - self._bar.n)

    def on_epoch_end(self, run: Run) -> None:
        self.on_rows(run)

    def on_train_end(self, run: Run) -> None:
        self._bar.close()
        self._bar = None  # it holds on to a stream, which cannot be copied with an estimator


class EarlyStopping(Callback):
    """Stop when the training loss has not fallen by ``tolerance`` for ``patience`` epochs.

    Parameters
    ----------
    patience : int, default 10
        Epochs without improvement that are allowed.
    tolerance : float, default 1e-4
        Least fall that counts as an improvement.
    """

    def __init__(self, patience: int = 10, tolerance: float = 1e-4) -> None:
        self.patience = check_count(patience, "patience")
        self.tolerance = check_real(tolerance, "tolerance")
        self.best_loss = math.inf
        self._waited = 0

    def on_train_begin(self, run: Run) -> None:
        self.best_loss, self._waited = math.inf, 0
        self._look_at(run, *run.network.loss_curve_)  # of a training that goes on, or that had been stopped here

    def on_epoch_end(self, run: Run) -> None:
        self._look_at(run, run.loss)

    def _look_at(self, run: Run, *losses: float) -> None:
        for loss in losses:
            self._waited = 0 if loss < self.best_loss - self.tolerance else self._waited + 1
            self.best_loss = min(self.best_loss, loss)
        run.stop = run.stop or self._waited >= self.patience


class History(Callback):
    """Keeps a record of every epoch.

    Attributes
    ----------
    records : list of dict
        Of each epoch: its number ``epoch``, ``loss``, the ``seconds`` since the beginning and ``rows_per_second`` of the epoch;
        ready for ``pandas.DataFrame``.
    """

    def __init__(self) -> None:
        self.records: list[dict[str, float]] = []

    def on_train_begin(self, run: Run) -> None:
        self.records = []
        self._began = self._last = time.monotonic()

    def on_epoch_end(self, run: Run) -> None:
        now = time.monotonic()
        self.records.append({
            "epoch": run.epoch, "loss": run.loss, "seconds": now - self._began,
            "rows_per_second": run.rows / max(now - self._last, 1e-9),
        })  # fmt: skip
        self._last = now


class TimeLimit(Callback):
    """No further epoch begins after a number of seconds.

    Parameters
    ----------
    seconds : float
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = check_real(seconds, "seconds", above=True)

    def on_train_begin(self, run: Run) -> None:
        self._end = time.monotonic() + self.seconds

    def on_epoch_end(self, run: Run) -> None:
        run.stop = run.stop or time.monotonic() > self._end


class Checkpoint(Callback):
    """Writes the network to a ``.safetensors`` file after every few epochs, and after the last.

    In a training by ``MLP.fit`` the file also has the optimizer's state, the random state and the history: ``fit(resume=path)``
    goes on from there, to the same bits as if it had never stopped. It is written beside its place and renamed, so that there is a
    whole one whenever the process ends. It is a model, too: :func:`fastmlp.io.load` reads it.

    Parameters
    ----------
    path : str or path-like
        The file; a network that is there is replaced when the new one is complete. ``{epoch}`` in the path is the number of the
        epoch, for a file each.
    every : int, default 1
        Epochs from one to the next.
    """

    def __init__(self, path: str | bytes | os.PathLike[str], every: int = 1) -> None:
        self._path = os.fsdecode(path)
        self.every = check_count(every, "every")
        self._written = 0

    def on_train_begin(self, run: Run) -> None:
        self._written = 0
        folder = os.path.dirname(self._path) or "."
        if not os.access(folder, os.W_OK):  # said now, rather than after hours
            raise OSError(f"Checkpoint cannot write to {self._path!r}: there is no folder {folder!r} that may be written to.")
        from fastmlp.files import check_writable, remove_leftovers
        from fastmlp.io.extras import require
        from fastmlp.io.safetensors import check_functions

        require("safetensors", "cli")
        check_functions(run.network)
        remove_leftovers(self._path)
        try:
            check_writable(self._path.replace("{epoch}", "1"))
        except OSError as error:
            raise OSError(f"Checkpoint cannot write to {self._path!r}: {error.strerror}.") from error

    def on_epoch_end(self, run: Run) -> None:
        if run.epoch % self.every == 0:
            self._write(run)

    def on_train_end(self, run: Run) -> None:
        # Not in the middle of an epoch, from where nobody could go on.
        if run.epoch == run.epochs_done != self._written:
            self._write(run)

    def _write(self, run: Run) -> None:
        self.save(run, self._path.replace("{epoch}", str(run.epoch)))
        self._written = run.epoch

    def save(self, run: Run, path: str) -> None:
        """Write one file."""
        from fastmlp.io.safetensors import save

        save(run.network, path, training=run.state() if run.state else None)
