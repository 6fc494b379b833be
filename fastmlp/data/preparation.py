"""From columns of a table to the numbers that a network takes; what is learned of the training rows is kept with the model."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from fastmlp.data.csv_form import UNNAMED
from fastmlp.data.errors import TableError
from fastmlp.data.fields import check_fields
from fastmlp.data.values import NONE, NUMBER, UNKNOWN, codes_of, numbers_of, texts

Array = np.ndarray[Any, np.dtype[Any]]

_SEPARATOR = re.compile(r"[^\w\s.,()\[\]/%$'\"-]")
"""What separates columns, perhaps, in what was taken for the name of the only one."""
FARTHEST = 10.0
"""Standard deviations beyond which a number is taken for one at that distance: a single value far out would govern the loss."""


@dataclass(frozen=True)
class Number:
    """A column of numbers: (value - mean) / scale, within limits, the mean where there is none, and a flag for that.

    Parameters
    ----------
    name : str
    mean, scale : float
        Of the training rows; ``scale`` is their standard deviation. 0 and 1 where numbers are left as they are.
    flag : bool
        Whether some of the training rows had no value: then a second number says which.
    clipped : bool, default True
        Whether there are limits.
    filler : float, default 0.0
        What is there for a row without a value: the training rows' mean, as it is after scaling.
    """

    name: str
    mean: float
    scale: float
    flag: bool
    clipped: bool = True
    filler: float = 0.0

    @property
    def width(self) -> int:
        """Numbers that it becomes."""
        return 1 + self.flag

    def write(self, column: Any, out: Array) -> None:
        """out (rows, width) from a column."""
        values = numbers_of(column, self.name)
        missing = np.isnan(values)
        with np.errstate(over="ignore"):  # of what is out of the limits anyway
            scaled = (values - self.mean) / self.scale
        out[:, 0] = np.where(missing, self.filler, np.clip(scaled, -FARTHEST, FARTHEST) if self.clipped else scaled)
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
        codes = codes_of(column, self.categories, self.name)
        out[:] = 0
        known = codes >= 0
        out[np.flatnonzero(known), codes[known]] = 1
        if self.flag:
            out[codes == NONE, -1] = 1


@dataclass(frozen=True)
class Ordinal:
    """A column of categories as one number: the place of each among them, from 0 to 1; 0.5 for one that was never seen.

    Parameters
    ----------
    name : str
    categories : tuple of str
        In order; numbers by their value.
    flag : bool
        Whether some of the training rows had no value: then a second number says which.
    """

    name: str
    categories: tuple[str, ...]
    flag: bool

    @property
    def width(self) -> int:
        """Numbers that it becomes."""
        return 1 + self.flag

    def write(self, column: Any, out: Array) -> None:
        """out (rows, width) from a column."""
        codes = codes_of(column, self.categories, self.name)
        out[:, 0] = np.where(codes >= 0, codes / max(len(self.categories) - 1, 1), 0.5)
        if self.flag:
            out[:, 1] = codes == NONE


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

    @property
    def is_scaled(self) -> bool:
        """Whether numbers are predicted as something else than they are."""
        return (self.mean, self.scale) != (0.0, 1.0)

    @property
    def types(self) -> dict[str, str]:
        """The kind that the column has to be read as; empty where its values show it, as they did when they were learned."""
        if self.classes is None:
            return {self.name: "number"}
        shown = set(self.classes) <= {"true", "false"} or all(map(NUMBER.fullmatch, self.classes))
        return {} if shown else {self.name: "category"}

    def values(self, column: Any) -> tuple[Array, Array]:
        """Class labels (rows,), or numbers (rows, 1); and which rows have one at all."""
        if self.classes is not None:
            codes = codes_of(column, self.classes, self.name)
            if (codes == UNKNOWN).any():
                unknown = texts(column, self.name)[int((codes == UNKNOWN).argmax())].as_py()
                raise TableError(f"Column {self.name!r} has the class {unknown!r}, which the model does not know.")
            return codes[codes >= 0], codes >= 0
        with np.errstate(over="ignore"):
            values = (numbers_of(column, self.name) - self.mean) / self.scale
        there = np.isfinite(values)
        return values[there][:, None], there


@dataclass(frozen=True)
class Preparation:
    """All columns.

    Parameters
    ----------
    features : tuple of (Number, Category or Ordinal)
    target : Target
    dropped : dict of str to str
        Columns that are not used, and why.
    """

    features: tuple[Number | Category | Ordinal, ...]
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

    def makes_the_same_as(self, other: Preparation) -> bool:
        """Whether rows that have all their values become the same numbers by another preparation."""
        mine, theirs = (
            [replace(one, filler=0.0) if isinstance(one, Number) else one for one in each.features] for each in (self, other)
        )
        target, another = self.target, other.target
        return mine == theirs and (target.mean, target.scale) == (another.mean, another.scale)

    def rows(self, table: Any) -> Array:
        """Samples (rows, width) in float32 from a table or a record batch."""
        names = table.schema.names
        there = set(names)  # of wide tables, a list would take longer to look through than all else
        for feature in self.features:
            if feature.name not in there:
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
        for one in features:
            if one.get("filler") == 0:  # which files of earlier versions have not
                del one["filler"]
        return {"features": features, "target": asdict(self.target), "dropped": self.dropped}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Preparation:
        """What :meth:`as_dict` has given; KeyError, TypeError or ValueError for anything else."""
        kinds: dict[str, type[Number | Category | Ordinal]] = {"number": Number, "category": Category, "ordinal": Ordinal}
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
            if isinstance(one, Number) and not math.isfinite(one.filler):
                raise ValueError(f"column {one.name!r} has {one.filler} in the place of missing values.")
        return made


class UnknownValues:
    """Columns of categories in which no row so far has a value that a model knows, as where they are spelled otherwise.

    Parameters
    ----------
    preparation : Preparation
        The model's.
    """

    def __init__(self, preparation: Preparation) -> None:
        self._open = [feature for feature in preparation.features if not isinstance(feature, Number)]
        self._found: dict[str, str] = {}

    def watching(self, parts: Iterable[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
        """The same parts of a table; each is looked at once it has been used, which says what is wrong with it."""
        for source, rows in parts:
            yield source, rows
            self._open = [feature for feature in self._open if not self._is_known(feature, rows.column(feature.name))]

    def _is_known(self, feature: Category | Ordinal, column: Any) -> bool:
        """Whether one of the values is; one that is not is kept to be shown."""
        codes = codes_of(column, feature.categories, feature.name)
        unknown = np.flatnonzero(codes == UNKNOWN)
        if len(unknown) and feature.name not in self._found:
            self._found[feature.name] = texts(column, feature.name)[int(unknown[0])].as_py()
        return bool((codes >= 0).any())

    def sentences(self) -> list[str]:
        """One about each such column."""
        return [
            f"Column {one.name!r} has no value that the model knows, and tells it nothing: {self._found[one.name][:50]!r}, for "
            f"example, where it knows {', '.join(map(repr, one.categories[:3]))}{', ...' if len(one.categories) > 3 else ''}."
            for one in self._open
            if one.name in self._found
        ]


def _texts(value: Any) -> tuple[Any, ...]:
    """A list of JSON as a tuple."""
    if not isinstance(value, list):
        raise TypeError(f"{str(value)[:50]!r} is no list")
    return tuple(value)


def shown(name: str) -> str:
    """A name as it is, or in quotes where it would look like several, or change what a terminal shows."""
    return name if name.isprintable() and not set(name) & set(',"') else repr(name)


def missing_column(name: str, names: Iterable[str]) -> str:
    """A sentence about a column that is not there, with the one that was probably meant."""
    names = list(names)
    small = {one.casefold(): one for one in names}
    near = difflib.get_close_matches(name.casefold(), small, 1, cutoff=0.5)
    meant = f" Did you mean {small[near[0]]!r}?" if near else ""
    listed = ", ".join(map(shown, names[:20])) + (", ..." if len(names) > 20 else "")
    sentence = f"There is no column {name!r}.{meant} The columns are: {listed}."
    if names and names[0] == UNNAMED.format(1):
        sentence += (
            " The first line was taken for a row, not for their names; --header, or Csv(header=True), says that it has these."
        )
    odd = _SEPARATOR.search(names[0]) if len(names) == 1 else None
    if odd and odd[0].isascii():
        sentence += f" If that is more than one, say --separator {odd[0]!r}, or Csv(separator={odd[0]!r})."
    return sentence
