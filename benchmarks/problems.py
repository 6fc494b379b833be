"""What is trained: one table of problems, each with its network, its training and its data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, pairwise
from typing import Any, TypeVar

import numpy as np

from fastmlp import ReferenceMLP
from fastmlp.network import Network
from fastmlp.parameters import Layout, pack
from fastmlp.shuffle import Order

Array = np.ndarray[Any, np.dtype[Any]]
N = TypeVar("N", bound=Network)

SEED = 1
"""Of data, initial weights and the order of rows; the same for all peers."""

N_ORDERS = 3
"""Different orders of rows; later epochs use them again."""

TOLERANCE = {"float32": 1e-3, "float64": 1e-6}
"""Relative difference of two losses that rounding in another order may explain."""

GROWN_ROUNDING = 0.02
"""In float32, rounding grows through rectifiers and some thousand steps of Adam: on `deep`, the reference ends 0.7% from itself
when its first weights are moved by their last bits. Half of the rows may end as near, so losses are compared after the first steps,
too, where nothing has grown."""

_TEACHER_UNITS = 16
_LABEL_NOISE = 0.3
_VALUE_NOISE = 0.1


@dataclass(frozen=True)
class Problem:
    """A network, how it is trained, and on what.

    Parameters
    ----------
    name : str
    sizes, activation, loss, dtype
        As for :class:`fastmlp.MLP`; ``activation`` has one name for each layer of weights.
    rows, quick_rows : int
        Rows of the data, in a full and in a quick run.
    batch_size, optimizer, learning_rate
        As for :meth:`fastmlp.MLP.fit`.
    data : callable
        ``data(problem, rows)``: x (rows, features) and y, in the problem's dtype.
    loss_tolerance : float or None
        Relative difference of two final losses that rounding in another order may explain; None for that of the dtype.
    """

    name: str
    sizes: tuple[int, ...]
    activation: tuple[str, ...]
    loss: str
    batch_size: int
    optimizer: str
    learning_rate: float
    rows: int
    quick_rows: int
    data: Callable[[Problem, int], tuple[Array, Array]]
    dtype: str = "float32"
    loss_tolerance: float | None = None

    def network(self, kind: Callable[..., N], **options: Any) -> N:
        """A network of this problem's shape, with the same initial weights for any kind."""
        return kind(self.sizes, self.activation, self.loss, dtype=self.dtype, random_state=SEED, **options)

    @property
    def network_name(self) -> str:
        """Its sizes, in short."""
        first, *hidden, last = self.sizes
        inner = [f"{len(hidden)}x{hidden[0]}"] if len(hidden) > 3 and len(set(hidden)) == 1 else map(str, hidden)
        return "-".join([str(first), *inner, str(last)])

    @property
    def tolerance(self) -> float:
        """Relative difference of two losses that rounding in another order may explain."""
        return self.loss_tolerance or TOLERANCE[self.dtype]

    @property
    def flop_per_row(self) -> float:
        """Floating-point operations of the products: forward and gradient of all layers, delta of all but the first."""
        products = [fan_in * fan_out for fan_in, fan_out in pairwise(self.sizes)]
        return 2.0 * (3 * sum(products) - products[0])

    def steps(self, rows: int) -> int:
        """Steps in an epoch over so many rows."""
        return -(-rows // self.batch_size)


@dataclass(frozen=True)
class Task:
    """What every peer of a problem is given: the same data, initial weights and order of rows.

    Parameters
    ----------
    problem : Problem
    x : ndarray (rows, features)
    y : ndarray (rows, outputs), or of class labels (rows,)
    theta : ndarray (n_parameters,)
        Initial parameters: each layer's weights (fan_in, fan_out) row by row, then its bias.
    """

    problem: Problem
    x: Array
    y: Array
    theta: Array

    @property
    def rows(self) -> int:
        return len(self.x)

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return self.problem.steps(self.rows)

    def layers(self) -> list[tuple[Array, Array]]:
        """Copies of the initial parameters: weights (fan_in, fan_out) and bias (fan_out,) of each layer."""
        weights, biases = Layout.compact(self.problem.sizes).views(self.theta.copy())
        return [(w, b[0]) for w, b in zip(weights, biases, strict=True)]

    def flat(self, layers: Iterable[tuple[Array, Array]]) -> Array:
        """Parameters of all layers, laid out as ``theta``."""
        return pack(*zip(*layers, strict=True))

    def shuffles(self) -> Sequence[Order | None]:
        """Random orders of rows, used in turn; None where one batch holds all rows."""
        generator = np.random.default_rng(SEED)
        return [Order(self.rows, generator) if self.steps > 1 else None for _ in range(N_ORDERS)]

    def orders(self) -> Iterator[Array | None]:
        """The same as arrays, made before they are needed: whoever takes these is not charged with shuffling."""
        return cycle([order and order[0 : self.rows] for order in self.shuffles()])


def make_task(problem: Problem, rows: int) -> Task:
    """Data and initial weights of a problem."""
    x, y = problem.data(problem, rows)
    return Task(problem, x, y, problem.network(ReferenceMLP).theta)


# --- data ----------------------------------------------------------------------------------------------------------------------


def _taught(problem: Problem, rows: int) -> tuple[Array, Array, np.random.Generator]:
    """Random samples and what a random network answers: something that can be learned, so that losses mean something."""
    rng = np.random.default_rng(SEED)
    features, outputs, dtype = problem.sizes[0], problem.sizes[-1], np.dtype(problem.dtype)
    # The teacher comes first, so that it is the same for any number of rows.
    inner = (rng.standard_normal((features, _TEACHER_UNITS)) / np.sqrt(features)).astype(dtype)
    outer = (rng.standard_normal((_TEACHER_UNITS, outputs)) / np.sqrt(_TEACHER_UNITS)).astype(dtype)
    x = rng.standard_normal((rows, features), dtype=dtype.type)
    return x, np.tanh(2 * (x @ inner)) @ outer, rng


def teacher_labels(problem: Problem, rows: int) -> tuple[Array, Array]:
    """Class labels of a random teacher, some of them wrong so that no loss can come near 0."""
    x, answers, rng = _taught(problem, rows)
    return x, (answers + _LABEL_NOISE * rng.gumbel(size=answers.shape)).argmax(axis=1)


def teacher_one_hot(problem: Problem, rows: int) -> tuple[Array, Array]:
    """The same labels as targets of 0 and 1."""
    x, labels = teacher_labels(problem, rows)
    return x, _one_hot(problem, labels)


def teacher_values(problem: Problem, rows: int) -> tuple[Array, Array]:
    """Noisy answers of a random teacher."""
    x, answers, rng = _taught(problem, rows)
    return x, (answers + _VALUE_NOISE * rng.standard_normal(answers.shape)).astype(problem.dtype)


def sklearn_digits(problem: Problem, rows: int) -> tuple[Array, Array]:
    """The handwritten digits that come with scikit-learn, pixels from 0 to 1."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return (pixels[:rows] / 16).astype(problem.dtype), _one_hot(problem, labels[:rows])


def sklearn_digits_labels(problem: Problem, rows: int) -> tuple[Array, Array]:
    """The same digits with class labels, in a random order: the file is sorted by writer."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(SEED).permutation(len(labels))[:rows]
    return (pixels[order] / 16).astype(problem.dtype), labels[order]


def matrix_exponentials(problem: Problem, rows: int) -> tuple[Array, Array]:
    """Random 2 x 2 matrices and their exponentials."""
    from scipy.linalg import expm

    matrices = np.random.default_rng(SEED).uniform(-1, 1, (rows, 2, 2))
    return matrices.reshape(rows, 4).astype(problem.dtype), expm(matrices).reshape(rows, 4).astype(problem.dtype)


def _one_hot(problem: Problem, labels: Array) -> Array:
    return np.eye(problem.sizes[-1], dtype=problem.dtype)[labels]


# --- the table -----------------------------------------------------------------------------------------------------------------

_TABLE = (
    Problem(
        "digits", (64, 15, 10), ("relu", "sigmoid"), "squared_error",
        batch_size=15, optimizer="sgd", learning_rate=0.1,
        rows=1797, quick_rows=1797, data=sklearn_digits,
    ),
    Problem(
        "online", (2, 3, 2), ("leaky_relu", "leaky_relu"), "squared_error",
        batch_size=1, optimizer="sgd", learning_rate=0.01,
        rows=20_000, quick_rows=2_000, data=teacher_values,
    ),
    Problem(
        "nielsen", (784, 30, 10), ("sigmoid", "sigmoid"), "squared_error",
        batch_size=10, optimizer="sgd", learning_rate=0.1,
        rows=60_000, quick_rows=5_000, data=teacher_one_hot,
    ),
    Problem(
        "mnist", (784, 128, 64, 10), ("relu", "relu", "softmax"), "cross_entropy",
        batch_size=128, optimizer="adam", learning_rate=1e-3,
        rows=60_000, quick_rows=12_800, data=teacher_labels,
        loss_tolerance=GROWN_ROUNDING,
    ),
    Problem(
        "higgs", (28, 64, 64, 2), ("relu", "relu", "softmax"), "cross_entropy",
        batch_size=256, optimizer="adam", learning_rate=1e-3,
        rows=200_000, quick_rows=51_200, data=teacher_labels,
        loss_tolerance=GROWN_ROUNDING,
    ),
    Problem(
        "deep", (32, *[32] * 8, 10), (*["relu"] * 8, "softmax"), "cross_entropy",
        batch_size=64, optimizer="adam", learning_rate=1e-3,
        rows=100_000, quick_rows=12_800, data=teacher_labels,
        loss_tolerance=GROWN_ROUNDING,
    ),
    Problem(
        "wide", (1024, 2048, 2048, 10), ("relu", "relu", "softmax"), "cross_entropy",
        batch_size=512, optimizer="adam", learning_rate=1e-4,
        rows=8_192, quick_rows=1_024, data=teacher_labels,
    ),
    Problem(
        "float64", (28, 64, 64, 1), ("relu", "relu", "identity"), "squared_error",
        batch_size=256, optimizer="adam", learning_rate=1e-3,
        rows=200_000, quick_rows=51_200, data=teacher_values, dtype="float64",
    ),
    Problem(
        "matexp", (4, 32, 16, 4), ("tanh", "tanh", "identity"), "squared_error",
        batch_size=10_000, optimizer="adam", learning_rate=1e-3,
        rows=10_000, quick_rows=10_000, data=matrix_exponentials,
    ),
)  # fmt: skip

PROBLEMS: dict[str, Problem] = {problem.name: problem for problem in _TABLE}
"""All problems, by name."""
