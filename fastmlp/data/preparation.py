"""From columns of a table to the numbers that a network takes; what is learned of the training rows is kept with the model."""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from fastmlp.data.fields import check_fields
from fastmlp.data.files import TableError
from fastmlp.io.extras import require

Array = np.ndarray[Any, np.dtype[Any]]

MOST_CATEGORIES = 200
"""Of a column; the rarer ones share the place of values that were never seen."""
MOST_CLASSES = 20
"""A target of whole numbers that takes no more values than this is taken for classes."""
FARTHEST = 10.0
"""Standard deviations beyond which a number is taken for one at that distance: a single value far out would govern the loss."""


@dataclass(frozen=True)
class Number:
    """A column of numbers: (value - mean) / scale, within limits, the mean where there is none, and a flag for that.

    Parameters
    ----------
    name : str
    mean, scale : float
        Of the training rows; ``scale`` is their standard deviation.
    flag : bool
        Whether some of the training rows had no value: then a second number says which.
    """

    name: str
    mean: float
    scale: float
    flag: bool

    @property
    def width(self) -> int:
        """Numbers that it becomes."""
        return 1 + self.flag

    def write(self, column: Any, out: Array) -> None:
        """out (rows, width) from a column."""
        values = _numbers(column, self.name)
        missing = np.isnan(values)
        out[:, 0] = np.where(missing, 0.0, np.clip((values - self.mean) / self.scale, -FARTHEST, FARTHEST))
        if self.flag:
            out[:, 1] = missing


@dataclass(frozen=True)
class Category:
    """A column of categories: a 1 in the place of each row's own, and nothing for one that was never seen.

    Parameters
    ----------
    name : str
    categories : tuple of str
    flag : bool
        Whether some of the training rows had no value: then that is a category, too.
    """

    name: str
    categories: tuple[str, ...]
    flag: bool

    @property
    def width(self) -> int:
        """Numbers that it becomes."""
        return len(self.categories) + self.flag

    def write(self, column: Any, out: Array) -> None:
        """out (rows, width) from a column."""
        codes = _codes(column, self.categories)
        out[:] = 0
        known = codes >= 0
        out[np.flatnonzero(known), codes[known]] = 1
        if self.flag:
            out[codes == _NONE, -1] = 1


@dataclass(frozen=True)
class Target:
    """The column to predict.

    Parameters
    ----------
    name : str
    classes : tuple of str, or None
        In order; None for numbers.
    mean, scale : float
        Of numbers, which are predicted as (value - mean) / scale.
    """

    name: str
    classes: tuple[str, ...] | None
    mean: float = 0.0
    scale: float = 1.0

    def values(self, column: Any) -> tuple[Array, Array]:
        """Class labels (rows,), or numbers (rows, 1); and which rows have one at all."""
        if self.classes is not None:
            codes = _codes(column, self.classes)
            if (codes == _UNKNOWN).any():
                unknown = _text(column)[int((codes == _UNKNOWN).argmax())].as_py()
                raise TableError(f"Column {self.name!r} has the class {unknown!r}, which the model does not know.")
            return codes[codes >= 0], codes >= 0
        values = _numbers(column, self.name)
        there = ~np.isnan(values)
        return ((values[there] - self.mean) / self.scale)[:, None], there


@dataclass(frozen=True)
class Preparation:
    """All columns.

    Parameters
    ----------
    features : tuple of (Number or Category)
    target : Target
    dropped : dict of str to str
        Columns that are not used, and why.
    """

    features: tuple[Number | Category, ...]
    target: Target
    dropped: dict[str, str] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """Numbers that a row becomes."""
        return sum(feature.width for feature in self.features)

    @property
    def types(self) -> dict[str, str]:
        """Kinds of the columns that have to be in a file."""
        return {feature.name: "number" if isinstance(feature, Number) else "category" for feature in self.features}

    def rows(self, table: Any) -> Array:
        """Samples (rows, width) in float32 from a table or a record batch."""
        names = table.schema.names
        for feature in self.features:
            if feature.name not in names:
                raise TableError(missing_column(feature.name, names))
        out = np.empty((table.num_rows, self.width), np.float32)
        start = 0
        for feature in self.features:
            feature.write(table.column(feature.name), out[:, start : start + feature.width])
            start += feature.width
        return out

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        features = [{"kind": type(feature).__name__.lower(), **asdict(feature)} for feature in self.features]
        return {"features": features, "target": asdict(self.target), "dropped": self.dropped}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Preparation:
        """What :meth:`as_dict` has given; KeyError, TypeError or ValueError for anything else."""
        kinds: dict[str, type[Number | Category]] = {"number": Number, "category": Category}
        features = []
        for one in content["features"]:
            options: dict[str, Any] = {
                name: _texts(value) if name == "categories" else value for name, value in one.items() if name != "kind"
            }
            features.append(check_fields(kinds[one["kind"]](**options)))
        target = dict(content["target"])
        if target["classes"] is not None:
            target["classes"] = _texts(target["classes"])
        made = cls(tuple(features), check_fields(Target(**target)), dict(content["dropped"]))
        for one in (*made.features, made.target):
            if isinstance(one, Number | Target) and not (math.isfinite(one.mean) and math.isfinite(one.scale) and one.scale > 0):
                raise ValueError(f"column {one.name!r} has a mean of {one.mean} and a scale of {one.scale}.")
        return made


def _texts(value: Any) -> tuple[Any, ...]:
    """A list of JSON as a tuple."""
    if not isinstance(value, list):
        raise TypeError(f"{str(value)[:50]!r} is no list")
    return tuple(value)


def missing_column(name: str, names: Iterable[str]) -> str:
    """A sentence about a column that is not there, with the one that was probably meant."""
    names = list(names)
    near = difflib.get_close_matches(name, names, 1, cutoff=0.5)
    meant = f" Did you mean {near[0]!r}?" if near else ""
    shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return f"There is no column {name!r}.{meant} The columns are: {shown}."


def learn_preparation(table: Any, target: str, *, task: str | None = None, shared_scale: bool = False) -> Preparation:
    """Look at the training rows of a table.

    Parameters
    ----------
    table : pyarrow.Table
    target : str
        Name of the column to predict.
    task : {"classification", "regression"}, optional
        Guessed from the target unless given: text, truth values and few whole numbers are classes.
    shared_scale : bool, default False
        One mean and scale for all columns of numbers, as suits the pixels of pictures.
    """
    arrow = require("pyarrow", "cli")
    if target not in table.schema.names:
        raise TableError(missing_column(target, table.schema.names))
    features: list[Number | Category] = []
    dropped: dict[str, str] = {}
    for name in table.schema.names:
        if name == target:
            continue
        column = table.column(name)
        kind = column.type
        if column.null_count == len(column):
            dropped[name] = "it has no values"
        elif arrow.types.is_integer(kind) or arrow.types.is_floating(kind) or arrow.types.is_decimal(kind):
            features.append(_learn_number(column, name))
        elif _is_text(arrow, kind):
            counts = _counts(column)
            if len(counts) > max(MOST_CATEGORIES, 0.5 * len(column)):
                dropped[name] = f"nearly every row has a text of its own ({len(counts)})"
                continue
            kept = sorted(value for value, _ in counts.most_common(MOST_CATEGORIES))
            features.append(Category(name, tuple(kept), column.null_count > 0))
        else:
            dropped[name] = f"it is of the type {kind}"
    if not features:
        raise TableError("There is no column to learn from beside the target.")
    if shared_scale:
        features = _with_shared_scale(features, table)
    return Preparation(tuple(features), _learn_target(arrow, table.column(target), target, task), dropped)


def _learn_number(column: Any, name: str) -> Number:
    values = _numbers(column, name)
    there = values[~np.isnan(values)]
    scale = float(there.std())
    return Number(name, float(there.mean()), scale if scale > 0 and math.isfinite(scale) else 1.0, len(there) < len(values))


def _with_shared_scale(features: list[Number | Category], table: Any) -> list[Number | Category]:
    numbers = [feature for feature in features if isinstance(feature, Number)]
    mean = float(np.mean([feature.mean for feature in numbers]))
    square = np.mean([np.square(_numbers(table.column(feature.name), feature.name) - mean).mean() for feature in numbers])
    scale = math.sqrt(float(square)) or 1.0
    return [Number(one.name, mean, scale, one.flag) if isinstance(one, Number) else one for one in features]


def learn_target(table: Any, target: str, task: str | None = None) -> Target:
    """Look at the column to predict alone; as for :func:`learn_preparation`."""
    if target not in table.schema.names:
        raise TableError(missing_column(target, table.schema.names))
    return _learn_target(require("pyarrow", "cli"), table.column(target), target, task)


def _learn_target(arrow: Any, column: Any, name: str, task: str | None) -> Target:
    kind = column.type
    if column.null_count == len(column):
        raise TableError(f"The target {name!r} has no values.")
    is_text = _is_text(arrow, kind)
    if task is None:
        few = arrow.types.is_integer(kind) and len(column.unique()) <= MOST_CLASSES
        task = "classification" if is_text or few else "regression"
    if task == "classification":
        classes = _counts(column)
        if len(classes) < 2:
            raise TableError(f"The target {name!r} has one class only, {next(iter(classes))!r}: there is nothing to learn.")
        return Target(name, tuple(sorted(classes, key=_by_number)))
    if is_text:
        raise TableError(f"The target {name!r} holds text, which cannot be predicted as numbers; leave --task out.")
    learned = _learn_number(column, name)
    return Target(name, None, learned.mean, learned.scale)


def _by_number(text: str) -> tuple[float, str]:
    """10 comes after 9."""
    try:
        return float(text), text
    except ValueError:
        return math.inf, text


def _is_text(arrow: Any, kind: Any) -> bool:
    types = arrow.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_boolean(kind) or types.is_dictionary(kind))


def _numbers(column: Any, name: str) -> Array:
    """float64; nan where there is no value."""
    arrow = require("pyarrow", "cli")
    try:
        values = np.array(column.cast(arrow.float64(), safe=False), np.float64)
    except (arrow.ArrowInvalid, arrow.ArrowNotImplementedError) as error:
        raise TableError(f"Column {name!r} has something else where there were numbers: {str(error).splitlines()[0]}.") from None
    return np.where(np.isfinite(values), values, np.nan)


def _text(column: Any) -> Any:
    """As text, without the white space around it."""
    arrow, compute = require("pyarrow", "cli"), require("pyarrow.compute", "cli")
    return compute.utf8_trim_whitespace(column.cast(arrow.string()))


def _counts(column: Any) -> Counter[str]:
    """How often each text occurs."""
    compute = require("pyarrow.compute", "cli")
    counts = compute.value_counts(_text(column)).to_pylist()
    return Counter({one["values"]: one["counts"] for one in counts if one["values"] is not None})


_UNKNOWN, _NONE = -1, -2


def _codes(column: Any, categories: tuple[str, ...]) -> Array:
    """The place of each row's text among categories; _UNKNOWN and _NONE for those that have no place and no text."""
    arrow, compute = require("pyarrow", "cli"), require("pyarrow.compute", "cli")
    text = _text(column)
    found = compute.index_in(text, value_set=arrow.array(categories, arrow.string()))
    codes = np.array(found.fill_null(_UNKNOWN), np.int64)
    codes[np.array(text.is_null())] = _NONE
    return codes
