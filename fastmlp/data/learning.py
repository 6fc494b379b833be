"""What is learned of the columns of training rows, batch by batch: how they become numbers, and what is predicted."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np

from fastmlp.data.csv_form import is_number_text
from fastmlp.data.errors import TableError
from fastmlp.data.preparation import Category, Number, Ordinal, Preparation, Target, missing_column
from fastmlp.data.values import counts_of, finite, is_null, is_number, is_text, is_whole, numbers_of
from fastmlp.io.extras import require

Array = np.ndarray[Any, np.dtype[Any]]

MOST_CATEGORIES = 200
"""Of a column; the rarer ones share the place of values that were never seen."""
MOST_TEXTS = 1_000_000
"""A column with more different ones is not counted any further..."""
MOST_TEXT_CHARACTERS = 1 << 26
"""...nor one whose different ones have more than this together."""
MOST_CLASSES = 20
"""A target of whole numbers that takes no more values than this is taken for classes..."""
MOST_CLASSES_OF_FLOATS = 2
"""...and one of floating-point numbers, if they are whole: 0 and 1 become 0.0 and 1.0 where a program had missing values, too."""
_OTHER_NOTATION = re.compile(r"[-+]?[€$£]?\s?[-+]?(\d+|\d{1,3}([.,'\s]\d{3})+)([.,]\d+)?\s?[%€$£]?")
"""A number with a unit, a decimal comma, or its thousands apart."""
_SOME_TEXTS = 1000
"""So many different texts of a column tell whether they are numbers."""


def learn_preparation(table: Any, target: str, *, task: str | None = None, shared_scale: bool = False) -> Preparation:
    """Look at the training rows of a table.

    Parameters
    ----------
    table : pyarrow.Table
    target, task, shared_scale
        See :func:`learn_from_batches`, whose errors these are, too.

    Returns
    -------
    Preparation
    """
    return learn_from_batches([table], target, task=task, shared_scale=shared_scale)[0]


def learn_from_batches(
    batches: Iterable[Any],
    target: str,
    *,
    task: str | None = None,
    shared_scale: bool = False,
    categories: str = "one_hot",
    scale: bool = True,
) -> tuple[Preparation, int]:
    """Look at the training rows, batch by batch, once; what is kept of them does not grow with their number.

    Parameters
    ----------
    batches : iterable of pyarrow.RecordBatch or pyarrow.Table
    target : str
        Name of the column to predict.
    task : {"classification", "regression"}, optional
        Guessed from the target unless given: text, truth values, few whole numbers and two whole floats are classes.
    shared_scale : bool, default False
        One mean and scale for all columns of numbers, as suits the pixels of pictures.
    categories : {"one_hot", "ordinal"}, default "one_hot"
        Whether a category becomes a 1 in a place of its own, or its place in the order as one number.
    scale : bool, default True
        Whether numbers, those to predict among them, are brought to mean 0 and standard deviation 1.

    Returns
    -------
    Preparation
    rows : int
        That have a target.

    Raises
    ------
    TableError
        Where there is no such target, nothing to learn from, or nothing to be learned: no rows, no other columns, one class.
    """
    features: dict[str, _Feature] = {}
    learned: LearnedTarget | None = None
    for batch in batches:
        if learned is None:
            learned = LearnedTarget(batch.schema, target, task)
            features = {name: _Feature(name) for name in learned.names}
        learned.add(batch.column(target))
        for name, feature in features.items():
            feature.add(batch.column(name))
    if learned is None:
        raise TableError("There are no rows to learn from.")
    made: list[Number | Category | Ordinal] = []
    dropped: dict[str, str] = {}
    for name, feature in features.items():
        why = feature.why_not() if name else "it has no name, as the numbers of rows that programs write"
        if why is not None:
            dropped[name] = why
        else:
            made.append(feature.made(categories, scale))
    if not made:
        reasons = [f"{name!r} is left out: {why}" for name, why in dropped.items()]
        shown = "; ".join(reasons[:5]) + (f"; and {len(reasons) - 5} more" if len(reasons) > 5 else "")
        raise TableError("There is no column to learn from beside the target" + (f" ({shown})." if shown else "."))
    if shared_scale:
        made = _with_shared_scale(made, [feature.values for feature in features.values()])
    return Preparation(tuple(made), learned.target(scale), dropped), learned.rows


class _Feature:
    """What is learned of a column, batch by batch: as numbers or as text, by the type of the first batch that has one."""

    def __init__(self, name: str) -> None:
        self._name, self._alike = name, _Alike(f"Column {name!r}")
        self._rows_before = 0
        self._begun, self._unusable = False, "it has no values"
        self.values: _Numbers | _Texts | None = None

    def add(self, column: Any) -> None:
        """Take account of some rows."""
        if not self._begun and not is_null(column.type):
            self._begin(column.type)
        if self.values is None:
            self._rows_before += len(column)
            return
        self._alike.check(column.type)
        self.values.add(column)

    def _begin(self, kind: Any) -> None:
        self._begun = True
        if is_number(kind):
            self.values = _Numbers(self._name, self._rows_before)
        elif is_text(kind):
            self.values = _Texts(self._name, self._rows_before)
        else:
            self._unusable = f"it is of the type {kind}"

    def why_not(self) -> str | None:
        """Why the column is of no use, if it is not."""
        return self._unusable if self.values is None else self.values.why_not()

    def made(self, categories: str, scale: bool) -> Number | Category | Ordinal:
        """What has been learned, where it is of use."""
        assert self.values is not None
        return self.values.feature(self._name, categories, scale)


class _Alike:
    """Refuses a column of truth values in one place and of others elsewhere.

    Whether 1 is true is not said anywhere, and of "True" and "unknown" the first is text, which would be another category.
    """

    def __init__(self, what: str) -> None:
        self._what, self._seen = what, set[str]()

    def check(self, kind: Any) -> None:
        """Take account of the type of some rows."""
        is_truth = str(kind) == "bool"
        kinds = {"truth values": is_truth, "numbers": is_number(kind), "text": is_text(kind) and not is_truth}
        self._seen |= {name for name, is_so in kinds.items() if is_so}
        for other in ("numbers", "text"):
            if {"truth values", other} <= self._seen:
                raise mixed_truth(self._what, other)


def mixed_truth(what: str, other: str) -> TableError:
    """About a column, or the target, that has ``other`` values, too."""
    advice = "write it alike in all of them"
    if other == "text":
        advice += ", or name it among the categories (--categories, or categories=[...]) to have it read as text everywhere"
    return TableError(f"{what} is of truth values in some files and of {other} in others; {advice}.")


class _Numbers:
    """Count, mean and variance of a column, batch by batch.

    They are merged as in Chan, Golub and LeVeque, *Updating formulae and a pairwise algorithm for computing sample variances*
    (1979): no sum of squares, which would lose what a large mean leaves of a small variance.
    """

    def __init__(self, name: str, missing: int = 0) -> None:
        self._name = name
        self.count, self._missing = 0, missing
        self.mean = self.variance = 0.0
        self.limits = math.inf, -math.inf

    def add(self, column: Any) -> None:
        """Take account of some rows."""
        values = numbers_of(column, self._name)
        there = values[~np.isnan(values)]
        self._missing += len(values) - len(there)
        if len(there) == 0:
            return
        with np.errstate(over="ignore", invalid="ignore"):  # why_not will say it
            mean, variance = float(there.mean()), float(there.var())
        self.limits = min(self.limits[0], float(there.min())), max(self.limits[1], float(there.max()))
        old = self.count / (self.count + len(there))
        new = 1 - old
        shift = mean - self.mean
        self.variance = old * self.variance + new * variance + old * new * (shift * shift)
        self.mean = mean if self.count == 0 else self.mean + new * (mean - self.mean)
        self.count += len(there)

    @property
    def center_and_scale(self) -> tuple[float, float]:
        """Mean and standard deviation; of one value only, this value and 1, not what rounding has made of them."""
        low, high = self.limits
        return (low, 1.0) if low == high else (self.mean, math.sqrt(self.variance) or 1.0)

    def why_not(self) -> str | None:
        """Why the column is of no use, if it is not."""
        if not self.count:
            return "it has no values"
        return None if math.isfinite(self.variance) else "its numbers are too far apart"

    def feature(self, name: str, categories: str, scale: bool) -> Number | Category | Ordinal:
        """What has been learned."""
        if not scale:
            return Number(name, 0.0, 1.0, self._missing > 0, clipped=False, filler=self.mean)
        return Number(name, *self.center_and_scale, self._missing > 0)


class _Texts:
    """How often each text of a column occurs."""

    def __init__(self, name: str, missing: int = 0) -> None:
        self._name = name
        self.counts: Counter[str] = Counter()
        self._n_texts = self._characters = 0
        self._rows = self._missing = missing

    def add(self, column: Any) -> None:
        """Take account of some rows; where they are numbers, nan is no text."""
        column = finite(column)
        self._rows += len(column)
        self._missing += column.null_count
        if self.is_full:
            return
        found = counts_of(column, self._name)
        self._characters += sum(len(text) for text in found if text not in self.counts)
        self.counts.update(found)
        self._n_texts = len(self.counts)
        if self.is_full:  # some tell what they are like, and nobody needs the others
            self.counts = Counter(dict(islice(self.counts.items(), _SOME_TEXTS)))

    @property
    def is_full(self) -> bool:
        """Whether there are too many to count."""
        return self._n_texts > MOST_TEXTS or self._characters > MOST_TEXT_CHARACTERS

    def why_not(self) -> str | None:
        """Why the column is of no use, if it is not."""
        if self._missing == self._rows:
            return "it has no values"
        why = None
        if self._n_texts > MOST_TEXTS:
            why = f"it has more than {MOST_TEXTS:,} different texts"
        elif self.is_full:
            why = f"its different texts have more than {MOST_TEXT_CHARACTERS:,} characters"
        elif len(self.counts) > max(MOST_CATEGORIES, 0.5 * self._rows):
            why = f"nearly every row has a text of its own ({len(self.counts)})"
        notation = None if why is None else nearly_numbers(islice(self.counts, _SOME_TEXTS))
        return why if notation is None else f"{why}; {notation}"

    def feature(self, name: str, categories: str, scale: bool) -> Number | Category | Ordinal:
        """What has been learned."""
        kept = (value for value, _ in self.counts.most_common(MOST_CATEGORIES))
        if categories == "ordinal":
            return Ordinal(name, tuple(sorted(kept, key=_by_number)), self._missing > 0)
        return Category(name, tuple(sorted(kept)), self._missing > 0)


def _with_shared_scale(
    features: list[Number | Category | Ordinal], learned: Iterable[_Numbers | _Texts | None]
) -> list[Number | Category | Ordinal]:
    """One mean and standard deviation of all numbers in the place of each column's own."""
    numbers = [column for column in learned if isinstance(column, _Numbers) and column.why_not() is None]
    if not numbers:
        return features
    low, high = min(column.limits[0] for column in numbers), max(column.limits[1] for column in numbers)
    counts = [column.count for column in numbers]
    mean = float(np.average([column.mean for column in numbers], weights=counts))
    square = np.average([column.variance + (column.mean - mean) ** 2 for column in numbers], weights=counts)
    scale = math.sqrt(float(square)) or 1.0
    if low == high:
        mean, scale = low, 1.0
    return [Number(one.name, mean, scale, one.flag) if isinstance(one, Number) else one for one in features]


def learn_target(table: Any, target: str, task: str | None = None) -> Target:
    """Look at the column to predict alone; as for :func:`learn_from_batches`."""
    learned = LearnedTarget(table.schema, target, task)
    learned.add(table.column(target))
    return learned.target()


class LearnedTarget:
    """What is learned of the target, batch by batch.

    Parameters
    ----------
    schema : pyarrow.Schema
    name : str
    task : {"classification", "regression"} or None
    """

    def __init__(self, schema: Any, name: str, task: str | None) -> None:
        if name not in schema.names:
            raise TableError(missing_column(name, schema.names))
        self.names = [other for other in schema.names if other != name]
        self._with_value = self._without_value = 0
        self._name, self._task, self._alike = name, task, _Alike(f"The target {name!r}")
        self._texts: _Texts | None = None
        self._numbers: _Numbers | None = None
        self._begin(schema.field(name).type)

    def _begin(self, kind: Any) -> None:
        """Decide as what the values are learned, by their type; where there are none yet, the first batch that has some does it."""
        if is_null(kind):
            return
        of_text = is_text(kind)
        if not (of_text or is_number(kind)):
            raise TableError(f"The target {self._name!r} is of the type {kind}; it must be of numbers, text or truth values.")
        if self._task == "regression" and of_text:
            raise TableError(f"The target {self._name!r} holds text, which cannot be predicted as numbers; leave the task out.")
        self._decided = self._task == "classification" or of_text
        self._most_classes = _most_classes(kind)
        self._texts = _Texts(self._name) if self._decided or (self._task is None and self._most_classes) else None
        self._numbers = None if self._decided else _Numbers(self._name)

    def add(self, column: Any) -> None:
        """Take account of some rows."""
        if self._texts is None and self._numbers is None:
            self._begin(column.type)
        self._alike.check(column.type)
        if self._texts is not None and not self._decided and is_number(column.type):  # the widest type decides, wherever it comes
            self._most_classes = min(self._most_classes, _most_classes(column.type))
            if len(self._texts.counts) > self._most_classes:
                self._texts = None
        column = finite(column)
        self._with_value += len(column) - column.null_count
        self._without_value += column.null_count
        if column.null_count == len(column):
            return
        if self._texts is not None and not self._decided and not is_whole(column):
            self._texts = None
        if self._texts is not None:
            self._texts.add(column)
            if not self._decided and len(self._texts.counts) > self._most_classes:
                self._texts = None
        if self._numbers is not None:
            self._numbers.add(column)

    @property
    def rows(self) -> int:
        """That have a target."""
        return self._with_value if self._texts is not None or self._numbers is None else self._numbers.count

    def target(self, scale: bool = True) -> Target:
        """What has been learned; ``scale``: see :func:`learn_from_batches`."""
        if self.rows == 0:
            raise TableError(f"The target {self._name!r} has no values.")
        if self._texts is not None:
            classes = self._texts.counts
            if self._texts.is_full:
                raise TableError(
                    f"The target {self._name!r}: {self._texts.why_not()}, too many for classes; is it the right column?"
                )
            if len(classes) < 2:
                without = f" ({self._without_value} have none: empty cells, NA, None and the like)" if self._without_value else ""
                raise TableError(
                    f"The target {self._name!r} has one class only, {next(iter(classes))!r}, in the rows to train on{without}: "
                    "there is nothing to learn."
                )
            return Target(self._name, tuple(sorted(classes, key=_by_number)))
        assert self._numbers is not None
        low, high = self._numbers.limits
        if low == high:
            raise TableError(
                f"The target {self._name!r} has one value only, {low:g}, in the rows to train on: there is nothing to learn."
            )
        if self._numbers.why_not() is not None:
            raise TableError(f"The target {self._name!r} has numbers too far apart to be learned, from {low:g} to {high:g}.")
        return Target(self._name, None, *self._numbers.center_and_scale) if scale else Target(self._name, None)


def _most_classes(kind: Any) -> int:
    """So many different values of a target of this type of Arrow's are taken for classes."""
    types = require("pyarrow", "cli").types
    is_whole = types.is_integer(kind) or (types.is_decimal(kind) and kind.scale == 0)  # the latter as databases write them
    return MOST_CLASSES if is_whole else MOST_CLASSES_OF_FLOATS if types.is_floating(kind) else 0


def nearly_numbers(texts: Iterable[str]) -> str | None:
    """Of texts that are nearly all numbers, however they are written: why they are not taken for numbers; else None."""
    all_texts = list(texts)
    no_numbers = [text for text in all_texts if not is_number_text(text)]
    others = [text for text in no_numbers if not _OTHER_NOTATION.fullmatch(text)]
    if not no_numbers or len(others) >= 0.2 * len(all_texts):
        return None
    if len(no_numbers) > 0.8 * len(all_texts):
        example = next(filter(_OTHER_NOTATION.fullmatch, no_numbers))
        return f"its numbers are written like {example!r}, which is read as text"
    return f"nearly all are numbers, but {(others or no_numbers)[0]!r} is not"


def _by_number(text: str) -> tuple[bool, float, str]:
    """10 comes after 9; nan, which compares with nothing, comes last."""
    try:
        number = float(text)
    except ValueError:
        number = math.inf
    return (True, 0.0, text) if math.isnan(number) else (False, number, text)
