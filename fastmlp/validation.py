"""What people pass in, checked once at the door: one clear sentence for what is wrong, before anything has changed."""

from __future__ import annotations

import itertools
import math
import numbers
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastmlp.activations import ACTIVATIONS, Activation
from fastmlp.frames import array_of_frame, is_frame
from fastmlp.losses import Loss

Array = np.ndarray[Any, np.dtype[Any]]

_BLOCK = 1 << 20
"""Elements tested for finiteness at a time, so that the test of a large array needs little memory."""
_MOST_PARAMETERS = sys.maxsize >> 4
"""Of a network: NumPy refuses in one way what no memory could hold, and with a ValueError what it cannot count the bytes of."""


@dataclass(slots=True)  # not frozen: that would take four times as long to make
class Data:
    """Samples as the engines take them: contiguous, finite and of the right shape.

    Parameters
    ----------
    x : ndarray (rows, features), or a scipy.sparse matrix of compressed rows
    y : ndarray (rows, outputs) or None
        Targets; None where there are labels.
    labels : ndarray of int64 (rows,) or None
        Class labels.
    weight : ndarray (rows,) or None
        Sample weights; None for equal weights.
    """

    x: Any
    y: Array | None
    labels: Array | None
    weight: Array | None

    @property
    def rows(self) -> int:
        """Number of samples."""
        return int(self.x.shape[0])

    @property
    def sparse(self) -> bool:
        """Whether samples are compressed rows."""
        return is_sparse(self.x)

    def targets(self, outputs: int) -> Array:
        """Targets (rows, outputs), one-hot where there are labels."""
        if self.y is not None:
            return self.y
        assert self.labels is not None
        if outputs == 1:
            return self.labels[:, None].astype(self.x.dtype)
        one_hot = np.zeros((self.rows, outputs), self.x.dtype)
        one_hot[np.arange(self.rows), self.labels] = 1
        return one_hot


def check_sizes(sizes: Any) -> tuple[int, ...]:
    """Numbers of units of each layer, inputs first."""
    advice = "sizes must be two or more whole numbers above 0, from inputs to outputs, such as (64, 15, 10)"
    if isinstance(sizes, str) or not isinstance(sizes, Sequence | np.ndarray) or getattr(sizes, "ndim", 1) != 1 or len(sizes) < 2:
        raise ValueError(f"{advice}; got {sizes!r}.")
    for size in sizes:
        if isinstance(size, bool) or not isinstance(size, numbers.Integral) or size < 1:
            raise ValueError(f"{advice}; got {size!r} in {tuple(sizes)!r}.")
    found = tuple(int(size) for size in sizes)
    parameters = sum((fan_in + 1) * fan_out for fan_in, fan_out in itertools.pairwise(found))
    if parameters > _MOST_PARAMETERS:
        raise MemoryError(f"a network of about 10**{int(math.log10(parameters))} parameters fits into none")
    return found


def check_activations(activation: Any, n_layers: int) -> list[Activation]:
    """One activation for each layer, from one for all or a sequence."""
    if isinstance(activation, str | Activation) or not isinstance(activation, Sequence):
        chosen = [ACTIVATIONS.find(activation, "activation")] * n_layers
    else:
        if len(activation) != n_layers:
            raise ValueError(
                f"activation must be one name or one for each of the {n_layers} layers of weights, "
                f"got {len(activation)}: {activation!r}."
            )
        chosen = [ACTIVATIONS.find(one, f"activation[{layer}]") for layer, one in enumerate(activation)]
    for layer, one in enumerate(chosen[:-1]):
        if one.by_row:
            raise ValueError(
                f"activation: {one.name} is for the last layer only, got it for layer {layer} of {n_layers}; "
                f"give one name for each layer, such as {['relu'] * (n_layers - 1) + [one.name]!r}."
            )
    return chosen


def check_dtype(dtype: Any) -> np.dtype[Any]:
    """float32 or float64."""
    try:
        found: np.dtype[Any] = np.dtype(dtype)
    except TypeError:
        found = np.dtype(object)
    if dtype is None or found not in (np.dtype("float32"), np.dtype("float64")):
        raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}.")
    native: np.dtype[Any] = found.newbyteorder("=")
    return native


def check_generator(random_state: Any) -> np.random.Generator:
    """A random generator from None, a seed or a generator."""
    if random_state is None or isinstance(random_state, np.random.Generator | np.random.SeedSequence):
        return np.random.default_rng(random_state)
    if isinstance(random_state, numbers.Integral) and not isinstance(random_state, bool) and int(random_state) >= 0:
        return np.random.default_rng(int(random_state))
    raise ValueError(f"random_state must be None, a whole number from 0 up or a numpy Generator, got {random_state!r}.")


def check_count(value: Any, argument: str) -> int:
    """A whole number, at least 1."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"{argument} must be a whole number, at least 1, got {value!r}.")
    return int(value)


def check_real(value: Any, argument: str, *, above: bool = False) -> float:
    """A finite number, at least 0, or above it."""
    relation = "above" if above else "at least"
    number_given = isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
    if isinstance(value, np.floating):  # else NumPy compares in its own precision, in which the largest float is infinite
        value = value.item()
    # Not isfinite: a whole number may be too large for a float.
    if not number_given or not 0 <= value <= sys.float_info.max or (above and value == 0):
        raise ValueError(f"{argument} must be a finite number {relation} 0, got {value!r}.")
    return float(value)


def check_dropout(dropout: Any, n_hidden: int) -> tuple[float, ...]:
    """A probability for each hidden layer, from one for all or a sequence; empty where nothing is left out."""
    one = isinstance(dropout, str | numbers.Number) or not (isinstance(dropout, Sequence) or getattr(dropout, "shape", None))
    rates = [dropout] * n_hidden if one else list(dropout)
    if len(rates) != n_hidden:
        raise ValueError(
            f"dropout must be one number or one for each of the {n_hidden} hidden layers, got {len(rates)}: {dropout!r}."
        )
    for rate in [dropout] if one else rates:
        if not isinstance(rate, numbers.Real) or isinstance(rate, bool) or not 0 <= float(rate) < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {rate!r}.")
    return tuple(map(float, rates)) if any(rates) else ()


def check_one_of(value: Any, argument: str, allowed: Sequence[str]) -> str:
    """One of a few words."""
    if value not in allowed:
        raise ValueError(f"{argument} must be one of {', '.join(map(repr, allowed))}, got {value!r}.")
    return str(value)


def refuse_masked(given: Any, argument: str) -> None:
    """An array without its mask would hold numbers that nobody vouches for."""
    if isinstance(given, np.ma.MaskedArray) and np.ma.is_masked(given):
        raise ValueError(f"{argument} has masked elements; fill them first, or remove their rows.")


def as_numbers(given: Any, argument: str, dtype: np.dtype[Any] | None) -> Array:
    """A NumPy array of real numbers; of ``dtype`` unless None."""
    refuse_masked(given, argument)
    if is_frame(given):
        given = array_of_frame(given, argument, np.dtype(np.float64) if dtype is None else dtype)
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise ValueError(f"{argument} must be an array of numbers, got rows of different lengths ({error}).") from None
    if array.dtype.kind not in "biuf":
        if hasattr(given, "pieces"):
            raise TypeError(f"{argument} must be an array or a table; only fit takes a source of rows, such as {given!r}.")
        if is_sparse(given):
            raise TypeError(f"{argument} must be an array of real numbers, got a sparse matrix; make an array of it: toarray().")
        kind = {"O": "objects", "U": "strings", "S": "strings", "c": "complex numbers", "M": "dates", "m": "durations"}.get(
            array.dtype.kind, str(array.dtype)
        )
        raise TypeError(f"{argument} must be an array of real numbers, got {kind} (dtype {array.dtype}); convert them first.")
    if dtype is None:
        return array
    with np.errstate(over="ignore", under="ignore"):  # what overflows is found and reported as infinity
        return np.ascontiguousarray(array, dtype=dtype).reshape(array.shape)


FEW = 10_000
"""So few numbers that a BLAS does not start threads to multiply them."""


def is_finite(array: Array) -> bool:
    """Whether there is no nan and no infinity."""
    flat = array.reshape(-1)
    # The first is sooner found out, and may overflow; unlike dot, vdot does not warn of that.
    return (flat.size <= FEW and math.isfinite(np.vdot(flat, flat))) or bool(np.isfinite(flat).all())


def check_finite(array: Array, argument: str) -> None:
    """No nan and no infinity."""
    if array.size <= FEW and is_finite(array):
        return
    flat = array.reshape(-1)
    for start in range(0, flat.size, _BLOCK):
        finite = np.isfinite(flat[start : start + _BLOCK])
        if not finite.all():
            place = start + int(np.argmin(finite))
            row = place // max(1, array.size // len(array))
            raise ValueError(
                f"{argument} must hold finite numbers in the range of {array.dtype}, got {flat[place]} in row {row}; "
                "remove or impute such rows first."
            )


def is_sparse(x: Any) -> bool:
    """Whether this is a matrix of scipy.sparse; does not import it for those who have none."""
    if type(x) is np.ndarray:
        return False
    scipy_sparse = sys.modules.get("scipy.sparse")
    return scipy_sparse is not None and bool(scipy_sparse.issparse(x))


def _check_sparse(x: Any, features: int, dtype: np.dtype[Any], argument: str) -> Any:
    """Compressed rows, whose indices a kernel may trust."""
    if x.ndim != 2 or x.shape[1] != features or x.shape[0] == 0:
        raise ValueError(f"{argument} must have the shape (n, {features}) and at least one row, got a sparse matrix of {x.shape}.")
    if x.dtype.kind not in "biuf":
        raise TypeError(f"{argument} must be a matrix of real numbers, got dtype {x.dtype}; convert it first.")
    _check_places(x, argument)
    rows = x.tocsr()
    starts, room = rows.indptr, min(len(rows.indices), len(rows.data))
    # Compared, not subtracted: among unsigned numbers, no difference is negative. And what is no number fails each comparison.
    counts_up = len(starts) == x.shape[0] + 1 and starts[0] == 0 and (starts[:-1] <= starts[1:]).all() and starts[-1] <= room
    if not counts_up:
        raise ValueError(f"{argument} is a damaged sparse matrix: its indptr does not count up to the number of values.")
    last = int(starts[-1])
    indices = rows.indices[:last]
    if len(indices) and not 0 <= indices.min() <= indices.max() < features:
        raise ValueError(f"{argument} is a damaged sparse matrix: it has a column index outside 0 .. {features - 1}.")
    with np.errstate(over="ignore"):
        rows = rows.astype(dtype, copy=False)
    if not np.isfinite(rows.data[:last]).all():  # beyond, there may be room for more
        raise ValueError(
            f"{argument} must hold finite numbers in the range of {dtype}, got nan or infinity; remove or impute such rows."
        )
    return rows


def _check_places(x: Any, argument: str) -> None:
    """Refuse indices out of range, which SciPy would follow when it makes compressed rows of another format."""
    try:
        if x.format == "coo":
            for places, size in zip(x.coords, x.shape, strict=True):
                if len(places) and not 0 <= places.min() <= places.max() < size:
                    raise ValueError(f"an index outside 0 .. {size - 1}")
        elif x.format in ("csc", "bsr"):
            x.check_format(full_check=True)
    except ValueError as error:
        raise ValueError(f"{argument} is a damaged sparse matrix: {error}.") from None


def compressed(x: Any) -> tuple[Array, Array, Array]:
    """Values, column indices (int32) and starts of rows (int64) of a checked sparse matrix."""
    return np.ascontiguousarray(x.data), np.ascontiguousarray(x.indices, np.int32), np.ascontiguousarray(x.indptr, np.int64)


def check_x(x: Any, features: int, dtype: np.dtype[Any], argument: str = "x") -> Any:
    """Samples (rows, features), C-contiguous, in the dtype of the network; one sample may come as (features,)."""
    array = check_x_shape(x, features, dtype, argument)
    if not is_sparse(array):
        check_finite(array, argument)
    return array


def check_x_shape(x: Any, features: int, dtype: np.dtype[Any], argument: str = "x") -> Any:
    """The same, but for nan and infinity, which a kernel finds sooner."""
    if type(x) is np.ndarray and x.dtype == dtype and x.flags.c_contiguous:
        shape = x.shape  # checked in no time, for those who ask for one sample at a time
        if len(shape) == 2 and shape[1] == features and shape[0] > 0:
            return x
        if shape == (features,):
            return x.reshape(1, features)
    if is_sparse(x):
        return _check_sparse(x, features, dtype, argument)
    array = as_numbers(x, argument, dtype)
    if array.ndim == 1 and array.size == features and features > 0:
        array = array.reshape(1, -1)
    if array.ndim != 2:
        raise ValueError(
            f"{argument} must have the shape ({features},) or (n, {features}), got {array.shape}; "
            f"the network takes {features} features."
        )
    if array.shape[0] == 0:
        raise ValueError(f"{argument} must have at least one row, got an empty array of shape {array.shape}.")
    if array.shape[1] != features:
        given = array.shape[1]
        raise ValueError(
            f"{argument} has {given} features, but the network takes {features} (sizes[0]); give {features} columns, or make a "
            f"network for {given}."
        )
    return array


def _check_rows(n_given: int, rows: int, argument: str) -> None:
    if n_given != rows:
        raise ValueError(f"{argument} has {n_given} rows, but x has {rows}; each sample needs one.")


def check_target_columns(y: Array, outputs: int) -> None:
    """Targets (rows, outputs)."""
    if y.shape[1] != outputs:
        raise ValueError(
            f"y has {y.shape[1]} target(s) for each row, but the network was made for {outputs}; give as many, or make a new one."
        )


def _check_labels(labels: Array, outputs: int, loss: Loss) -> Array:
    if outputs == 1 and loss.canonical == "softmax":
        raise ValueError(
            f"y holds class labels, but with one output {loss.name} has nothing to tell them apart by; use binary_cross_entropy "
            "with a sigmoid, or an output for each class."
        )
    classes = max(outputs, 2)
    if labels.min() < 0 or labels.max() >= classes:  # without a temporary as long as the labels
        wrong = (labels < 0) | (labels >= classes)
        row = int(np.argmax(wrong))
        raise ValueError(
            f"y has the class label {labels[row]} in row {row}, but labels of this network are whole numbers "
            f"from 0 to {classes - 1}; encode them first (sklearn.preprocessing.LabelEncoder)."
        )
    return np.ascontiguousarray(labels, dtype=np.int64)


def check_target_range(y: Array, loss: Loss) -> None:
    """No targets that the loss is not for."""
    low, high = loss.targets
    if low == -math.inf or y.size == 0:
        return
    if y.min() < low or y.max() > high:
        outside = float(y.min() if y.min() < low else y.max())
        raise ValueError(f"y must be from {low:g} to {high:g} for the loss {loss.name}, got {outside:g}.")


def check_data(x: Any, y: Any, sample_weight: Any, features: int, outputs: int, loss: Loss, dtype: np.dtype[Any]) -> Data:
    """Samples with their targets and weights."""
    samples = check_x(x, features, dtype)
    rows = samples.shape[0]
    weight = None if sample_weight is None else check_weight(sample_weight, rows, dtype)

    if type(y) is np.ndarray and y.dtype == dtype and y.shape == (rows, outputs) and y.flags.c_contiguous:
        check_finite(y, "y")
        check_target_range(y, loss)
        return Data(samples, y, None, weight)
    raw = as_numbers(y, "y", None)
    is_row = rows == 1 and not is_sparse(x) and np.ndim(x) == 1  # in this order: it makes an array of what is none
    labels_given = loss.classification and raw.dtype.kind in "iub"
    if labels_given and raw.ndim == 0 and rows == 1:
        raw = raw.reshape(1)
    if labels_given and raw.ndim == 1 and not (is_row and raw.size == outputs and outputs > 1):
        _check_rows(len(raw), rows, "y")
        return Data(samples, None, _check_labels(raw, outputs, loss), weight)

    expected = f"({rows}, {outputs})" + (f" or ({rows},)" if outputs == 1 else "")
    if raw.ndim == 0 and rows == 1 and outputs == 1:
        raw = raw.reshape(1, 1)
    elif raw.ndim == 1 and outputs == 1:
        raw = raw.reshape(-1, 1)
    elif raw.ndim == 1 and is_row:
        raw = raw.reshape(1, -1)
    if raw.ndim == 1:
        advice = (
            f"; whole numbers from 0 to {outputs - 1}, of an integer type, are taken as class labels"
            if loss.classification
            else "; class labels must be one-hot for this loss"
        )
        raise ValueError(f"y must have the shape {expected}, got {raw.shape} of dtype {raw.dtype}{advice}.")
    if raw.ndim == 2:
        _check_rows(len(raw), rows, "y")
    if raw.shape != (rows, outputs):
        raise ValueError(f"y must have the shape {expected}, got {raw.shape}; the network has {outputs} outputs (sizes[-1]).")
    targets = as_numbers(raw, "y", dtype)
    check_finite(targets, "y")
    check_target_range(targets, loss)
    return Data(samples, targets, None, weight)


_WEIGHT_RANGE = {4: 1e20, 8: 1e200}
"""By bytes of a number: losses times larger weights overflow, and times 1 / so much become denormal, which counts as zero."""


def check_weight(sample_weight: Any, rows: int, dtype: np.dtype[Any], *, part: bool = False) -> Array:
    """Sample weights (rows,), not negative and not all zero, unless they are a part of them."""
    weight = as_numbers(sample_weight, "sample_weight", dtype)
    if weight.ndim != 1:
        raise ValueError(f"sample_weight must have the shape ({rows},), got {weight.shape}.")
    _check_rows(len(weight), rows, "sample_weight")
    check_finite(weight, "sample_weight")
    if weight.min() < 0:
        raise ValueError(f"sample_weight must not be negative, got {weight.min():g} in row {int(weight.argmin())}.")
    if not part and not weight.any():
        raise ValueError("sample_weight must not be zero for every sample.")
    largest = float(weight.max())
    is_too_small = not part and 0 < largest < 1 / _WEIGHT_RANGE[dtype.itemsize]  # other parts may have larger ones
    if largest > _WEIGHT_RANGE[dtype.itemsize] or is_too_small:
        raise ValueError(
            f"The largest sample_weight is {largest:g}, with which {dtype} cannot compute gradients; divide all of them by it "
            "(a mean stays the same), or use dtype='float64'."
        )
    return weight
