"""scikit-learn's estimators on tables, and fastmlp's in their place: seconds of an epoch of ``fit``, and of shorter calls."""

from __future__ import annotations

import importlib
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from ..peers import OURS, Contestant, sklearn
from ..problems import SEED, Array
from ..process import PeerError, Remote
from .training import timed
from .unit import Size, Unit

MODULES = {sklearn.PEER.name: "sklearn.neural_network", OURS: "fastmlp"}
"""Where the estimators of a peer are; the first is the one whose loss is the right one."""

WARM_UP_ROWS = 1000
"""A fit to so many comes first: it loads, or compiles, what later ones find."""

MOST_FITS = 200
"""In a round."""

MOST_SECONDS = 20.0
"""Of all rounds of fits of a case; where they take longer, there are fewer rounds, but at least one."""

PARTIAL_ROWS = 100
"""Of a call of ``partial_fit``."""

SPARSE_COLUMNS, SPARSE_NON_ZEROS = 20_000, 100

_LABEL_NOISE = 5.0


@dataclass(frozen=True)
class Case:
    """An estimator, its parameters and a table.

    Parameters
    ----------
    name : str
    estimator : {"MLPClassifier", "MLPRegressor"}
    max_iter, quick_max_iter : int
        Epochs, or iterations of L-BFGS, of a fit in a full and in a quick run; no fit ends before them.
    data : callable
        ``data(rows)``: x (rows, features) and y, as a person has them.
    rows, quick_rows : int or None
        None where the table has the rows that it has.
    tolerance : float
        Relative difference of two final losses that another order of rows may explain, or rounding where a batch holds all rows.
    parameters : dict
        Those of the estimator that are not its defaults.
    """

    name: str
    estimator: str
    max_iter: int
    quick_max_iter: int
    data: Callable[[int | None], tuple[Any, Array]]
    tolerance: float
    rows: int | None = None
    quick_rows: int | None = None
    parameters: dict[str, Any] = field(default_factory=dict)

    def quick(self) -> Case:
        """The same with less to do."""
        return replace(self, max_iter=self.quick_max_iter, rows=self.quick_rows)

    @property
    def what(self) -> str:
        """The estimator as a person writes it, and how long it is fitted."""
        given = ", ".join(f"{name}={value!r}" for name, value in self.parameters.items())
        return f"{self.estimator}({given}), {self.max_iter} {self.step}s"

    @property
    def step(self) -> str:
        """What ``max_iter`` counts."""
        return "iteration" if self.parameters.get("solver") == "lbfgs" else "epoch"


# --- data ----------------------------------------------------------------------------------------------------------------------


def bundled(loader: str, rows: int | None) -> tuple[Array, Array]:
    """A table that comes with scikit-learn, all of it."""
    from sklearn import datasets

    x, y = getattr(datasets, loader)(return_X_y=True)
    return x, y


def friedman(rows: int | None) -> tuple[Array, Array]:
    """Ten columns, five of which matter."""
    from sklearn.datasets import make_friedman1

    x, y = make_friedman1(rows, 10, noise=1.0, random_state=SEED)
    return x, y


def sparse_labels(rows: int | None) -> tuple[Any, Array]:
    """CSR such as words of texts would be, and two classes that a noisy linear teacher tells apart."""
    from scipy.sparse import csr_array

    assert rows is not None
    rng = np.random.default_rng(SEED)
    teacher = rng.standard_normal(SPARSE_COLUMNS)
    columns = rng.integers(0, SPARSE_COLUMNS, rows * SPARSE_NON_ZEROS, dtype=np.int32)
    starts = np.arange(0, len(columns) + 1, SPARSE_NON_ZEROS, dtype=np.int32)
    x = csr_array((rng.standard_normal(len(columns)), columns, starts), shape=(rows, SPARSE_COLUMNS))
    x.sum_duplicates()  # so that it is about so many
    return x, (x @ teacher + _LABEL_NOISE * rng.standard_normal(rows) > 0).astype(np.int64)


# --- the table -----------------------------------------------------------------------------------------------------------------

_SPARSE = {"hidden_layer_sizes": (64,), "batch_size": 256}

_TABLE = (
    Case("iris", "MLPClassifier", 100, 20, partial(bundled, "load_iris"), 1e-6),
    Case("wine", "MLPClassifier", 100, 20, partial(bundled, "load_wine"), 1e-6),
    # The weights of the epoch with the best score of 57 rows are kept: with other orders of rows, their loss was seen to double.
    Case(
        "breast_cancer", "MLPClassifier", 100, 20, partial(bundled, "load_breast_cancer"), 0.6,
        parameters={"early_stopping": True},
    ),
    Case("diabetes", "MLPRegressor", 100, 20, partial(bundled, "load_diabetes"), 0.005),
    Case("digits", "MLPClassifier", 30, 10, partial(bundled, "load_digits"), 1e-3, parameters={"solver": "lbfgs"}),
    Case("friedman", "MLPRegressor", 5, 2, friedman, 0.05, 20_000, 2_000, {"hidden_layer_sizes": (64, 32)}),
    # Of 100,000 rows a fit of scikit-learn's takes half a minute.
    Case("sparse_adam", "MLPClassifier", 2, 2, sparse_labels, 0.05, 20_000, 1_000, _SPARSE),
    Case("sparse_sgd", "MLPClassifier", 2, 2, sparse_labels, 0.001, 20_000, 1_000, _SPARSE | {"solver": "sgd"}),
)  # fmt: skip

CASES: dict[str, Case] = {case.name: case for case in _TABLE}
"""All cases, by name."""


# --- measuring -----------------------------------------------------------------------------------------------------------------


class Fitter:
    """A contestant's estimator on a case, in the process where it is fitted.

    Parameters
    ----------
    contestant : Contestant
    case : Case
    """

    def __init__(self, contestant: Contestant, case: Case) -> None:
        self._case = case
        self._class = getattr(importlib.import_module(MODULES[contestant.peer.name]), case.estimator)
        # The threads of the others are those of their BLAS, which their process limits.
        self._threads = {"n_threads": contestant.threads} if contestant.peer.name == OURS else {}
        self._x, self._y = case.data(case.rows)
        self._estimator = self._new()

    def _new(self, **changed: Any) -> Any:
        """An estimator that has not been fitted, and ends with the last epoch that it may have."""
        parameters = {"max_iter": self._case.max_iter, "tol": 0.0, "n_iter_no_change": np.inf, "random_state": SEED}
        return self._class(**parameters | self._case.parameters | self._threads | changed)

    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""
        return tuple(map(int, self._x.shape))

    def _fit(self) -> None:
        self._estimator = self._new().fit(self._x, self._y)

    def check(self) -> dict[str, Any]:
        """Fit until losses can be compared: the loss, epochs or iterations, and seconds."""
        with without_convergence():
            self._new().fit(self._x[:WARM_UP_ROWS], self._y[:WARM_UP_ROWS])
            began = time.perf_counter()
            self._fit()
            seconds = time.perf_counter() - began
        return {"loss": self.judged_loss(), "iterations": int(self._estimator.n_iter_), "seconds": seconds}

    def judged_loss(self) -> float:
        """Mean loss of what is predicted for all rows, by the same code whoever predicts."""
        from sklearn.metrics import log_loss, mean_squared_error

        if self._case.estimator == "MLPClassifier":
            return float(log_loss(self._y, self._estimator.predict_proba(self._x)))
        return float(mean_squared_error(self._y, self._estimator.predict(self._x)) / 2)

    def timed(self, fits: int) -> tuple[float, float | None]:
        """Seconds of some fits, each by a new estimator; and how many of them threads waited for a processor."""
        with without_convergence():
            return timed(self._fit, fits)

    def calls(self, least: float) -> dict[str, float | None]:
        """Seconds of a call of each kind, measured for at least so long; None for what the estimator does not have."""
        predict, one = self._estimator.predict, self._x[:1]
        return {
            "one_row": typical(lambda: predict(one), least),
            "all_rows": typical(lambda: predict(self._x), least),
            "partial_fit": self._partial_fit(least),
        }

    def _partial_fit(self, least: float) -> float | None:
        # scikit-learn's refuses early stopping, and warns of batches that are more rows than it is given.
        begun = self._new(early_stopping=False, batch_size="auto")
        if not hasattr(begun, "partial_fit"):
            return None
        x, y = self._x[:PARTIAL_ROWS], self._y[:PARTIAL_ROWS]
        begun.partial_fit(x, y, **({"classes": np.unique(self._y)} if self._case.estimator == "MLPClassifier" else {}))
        return typical(lambda: begun.partial_fit(x, y), least)


@contextmanager
def without_convergence() -> Iterator[None]:
    """Without the warning that a fit has ended with the last epoch that it may have: it was meant to."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def typical(call: Callable[[], object], least: float) -> float:
    """Median of the seconds of calls, each by itself, that together take at least so long; one comes before that does not count."""
    clock = time.perf_counter
    call()
    seconds: list[float] = []
    until = clock() + least
    while not seconds or clock() < until:
        began = clock()
        call()
        seconds.append(clock() - began)
    return float(np.median(seconds))


def start(contestant: Contestant, case: Case) -> Remote:
    """A contestant in a process of its own."""
    return Remote(Fitter, contestant, case, threads=contestant.threads)


def measure_case(
    case: Case, contestants: Sequence[Contestant], size: Size, start: Callable[[Contestant, Case], Any] = start
) -> dict[str, Any]:
    """Start all contestants, let each fit once so that they can be compared, then measure them in turns."""
    shape = None
    measured: dict[str, dict[str, Any]] = {}
    running: dict[str, Any] = {}
    fits: dict[str, int] = {}
    a_round = 0.0

    @contextmanager
    def of(name: str) -> Iterator[dict[str, Any]]:
        """The figures of a contestant, which is left out if it fails meanwhile."""
        try:
            yield measured[name]
        except PeerError as error:
            measured[name]["error"] = str(error)
            running.pop(name, None)

    with ExitStack() as resources:
        started = {one.name: resources.enter_context(closing(start(one, case))) for one in contestants}
        for one in contestants:
            measured[one.name] = {
                "peer": one.peer.name, "threads": one.threads, "description": f"{MODULES[one.peer.name]}.{case.estimator}",
                "nearest": None, "trains": True, "loss": None, "iterations": None, "epochs": 1, "seconds": [], "waited": [],
                "one_row": [], "all_rows": [], "partial_fit": [], "peak_bytes": None, "error": None,
            }  # fmt: skip
            with of(one.name):
                started[one.name].ready()
                running[one.name] = started[one.name]
        for name, remote in list(running.items()):
            with of(name) as figures:
                shape = shape or remote.ask("shape")
                checked = remote.ask("check")
                remote.rest()
                fits[name] = min(MOST_FITS, max(1, math.ceil(size.round_seconds / checked["seconds"])))
                figures |= {key: checked[key] for key in ("loss", "iterations")}
                figures["epochs"] = fits[name] * checked["iterations"]  # of a round
                a_round += fits[name] * checked["seconds"]
        for _ in range(max(1, min(size.rounds, int(MOST_SECONDS / max(a_round, 1e-9))))):
            for name, remote in list(running.items()):
                with of(name) as figures:
                    seconds, waited = remote.ask("timed", fits[name])
                    remote.rest()
                    calls = remote.ask("calls", size.round_seconds / 4)
                    remote.rest()
                    figures["seconds"].append(seconds)
                    figures["waited"].append(waited)
                    for call, value in calls.items():
                        figures[call] += [] if value is None else [value]
    return {
        "problem": f"estimators/{case.name}", "case": case.name, "what": case.what, "step": case.step, "steps": 1, "shape": shape,
        "dtype": "float64", "tolerance": case.tolerance, "partial_rows": PARTIAL_ROWS, "contestants": measured,
    }  # fmt: skip


def units(contestants: Sequence[Contestant], size: Size) -> list[Unit]:
    """A unit for each case: scikit-learn with every number of threads, fastmlp with its own choice of them, if that is measured."""
    able = sorted((one for one in contestants if one.peer.name in MODULES), key=lambda one: list(MODULES).index(one.peer.name))
    if any(one.threads is None for one in able):
        able = [one for one in able if one.peer.name != OURS or one.threads is None]

    def unit(case: Case) -> Unit:
        sized = case.quick() if size.quick else case
        return Unit(f"estimators/{case.name}", 2.0 if size.quick else 15.0, lambda: measure_case(sized, able, size))

    return [unit(case) for case in CASES.values()] if able else []
