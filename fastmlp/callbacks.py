"""What happens between minibatches and between epochs: progress, early stopping."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastmlp.validation import check_count, check_real

if TYPE_CHECKING:
    from fastmlp.network import Network


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
    rows_done : int
        Samples of the current epoch that have been trained on.
    loss : float
        Mean loss (or sum, by the network's ``reduction``) of the current epoch so far, or of the one that has just ended.
    stop : bool
        Set it to end the training after this epoch.
    """

    network: Network
    rows: int
    epochs: int
    epoch: int = 0
    rows_done: int = 0
    loss: float = math.nan
    stop: bool = False


class Callback:
    """Base of all callbacks; override what you need."""

    def on_train_begin(self, run: Run) -> None:
        """Called before the first epoch."""

    def on_rows(self, run: Run) -> None:
        """Called a few times a second, between two minibatches."""

    def on_epoch_end(self, run: Run) -> None:
        """Called after each epoch."""

    def on_train_end(self, run: Run) -> None:
        """Called once at the end, also when the training was interrupted or has failed."""


@dataclass
class Callbacks(Callback):
    """Several callbacks as one, called in order."""

    members: list[Callback] = field(default_factory=list)

    @classmethod
    def of(cls, given: Iterable[Any], *, verbose: bool) -> Callbacks:
        """The caller's callbacks, and a progress bar if wanted."""
        if not isinstance(given, Iterable):
            raise TypeError(f"callbacks must be a sequence of callbacks, got {given!r}.")
        members = list(given)
        for member in members:
            if not isinstance(member, Callback):
                raise TypeError(f"callbacks must be instances of fastmlp.callbacks.Callback, got {member!r}.")
        return cls([*members, Progress()] if verbose else members)

    def on_train_begin(self, run: Run) -> None:
        for member in self.members:
            member.on_train_begin(run)

    def on_rows(self, run: Run) -> None:
        for member in self.members:
            member.on_rows(run)

    def on_epoch_end(self, run: Run) -> None:
        for member in self.members:
            member.on_epoch_end(run)

    def on_train_end(self, run: Run) -> None:
        for member in self.members:
            member.on_train_end(run)


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

        self._bar = tqdm(total=run.epochs * run.rows, desc=self._description, unit=" rows", unit_scale=True)

    def on_rows(self, run: Run) -> None:
        done = (run.epoch - 1) * run.rows + run.rows_done
        self._bar.set_postfix_str(f"epoch {run.epoch}/{run.epochs}, loss {run.loss:.4g}", refresh=False)
        self._bar.update(done - self._bar.n)

    def on_epoch_end(self, run: Run) -> None:
        self.on_rows(run)

    def on_train_end(self, run: Run) -> None:
        self._bar.close()


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

    def on_epoch_end(self, run: Run) -> None:
        if run.loss < self.best_loss - self.tolerance:
            self._waited = 0
        else:
            self._waited += 1
        self.best_loss = min(self.best_loss, run.loss)
        run.stop = run.stop or self._waited >= self.patience
