"""Values of a column of Arrow's as numbers, as text, and as places among categories."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastmlp.data.errors import TableError
from fastmlp.frames import array_of_arrow, arrow_of_texts
from fastmlp.io.extras import require

Array = np.ndarray[Any, np.dtype[Any]]

NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d*[1-9])?(e[+-]?\d+)?")
"""How Arrow writes one."""
_POINTED = re.compile(r"-?(0|[1-9]\d*)\.0")
"""How a program writes a whole one in a column that has missing values, too."""


def is_text(kind: Any) -> bool:
    """Whether a type of Arrow's has categories: text and truth values."""
    types = require("pyarrow", "cli").types
    if types.is_dictionary(kind):
        return "binary" not in str(kind.value_type)  # bytes are no text, also where each is there once
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_boolean(kind))


def is_null(kind: Any) -> bool:
    """Whether a type of Arrow's is that of a column without any value."""
    return str(kind) == "null"


def is_number(kind: Any) -> bool:
    """Whether a type of Arrow's has numbers."""
    types = require("pyarrow", "cli").types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))


def numbers_of(column: Any, name: str) -> Array:
    """float64; nan where there is no value."""
    with _where_there(column, name, "were numbers"):
        values = array_of_arrow(column.cast("float64", safe=False))
    return np.where(np.isfinite(values), values, np.nan)


def finite(column: Any) -> Any:
    """A column without nan and infinity, which have no value in their place, and without -0, which is 0."""
    if not require("pyarrow", "cli").types.is_floating(column.type):
        return column
    compute = require("pyarrow.compute", "cli")
    if str(column.type) == "halffloat":  # with which Arrow does not calculate
        column = column.cast("float")
    return compute.add(compute.if_else(compute.is_finite(column), column, None), require("pyarrow", "cli").scalar(0, column.type))


def is_whole(column: Any) -> bool:
    """Whether all numbers of a column are whole, and such as people count with."""
    if not require("pyarrow", "cli").types.is_floating(column.type):
        return True
    compute = require("pyarrow.compute", "cli")
    counted = compute.and_(compute.equal(column, compute.floor(column)), compute.less(compute.abs(column), 2.0**31))
    return bool(compute.all(counted).as_py())


def as_text(column: Any, name: str) -> Any:
    """A column as text."""
    with _where_there(column, name, "was text"):
        column = finite(column)
        types = require("pyarrow", "cli").types
        has_long = types.is_float32(column.type) or types.is_float64(column.type)
        return _floats_as_text(column) if has_long else column.cast("string")


def _floats_as_text(column: Any) -> Any:
    """Floating-point numbers as text: long whole ones as in a column of whole numbers, where Arrow would write 1e+10."""
    compute = require("pyarrow.compute", "cli")
    text, size = column.cast("string"), compute.abs(column)
    is_long = compute.and_(compute.greater_equal(size, 1e10), compute.less(size, 2.0**63))
    if not compute.any(is_long).as_py():
        return text
    is_long_and_whole = compute.and_(is_long, compute.equal(column, compute.floor(column)))
    whole = compute.if_else(is_long_and_whole, column, None).cast("int64").cast("string")
    return compute.if_else(is_long_and_whole, whole, text)


def texts(column: Any, name: str) -> Any:
    """As text, without the white space around it."""
    with _where_there(column, name, "was text"):
        return require("pyarrow.compute", "cli").utf8_trim_whitespace(as_text(column, name))


@contextmanager
def _where_there(column: Any, name: str, was: str) -> Iterator[None]:
    """What Arrow says about a column that is something else than it was, for people."""
    arrow = require("pyarrow", "cli")
    try:
        yield
    except arrow.ArrowNotImplementedError:
        raise TableError(f"Column {name!r} is of the type {column.type} where there {was}.") from None
    except arrow.ArrowInvalid as error:
        raise TableError(f"Column {name!r} has something else where there {was}: {str(error).splitlines()[0]}.") from None


def counts_of(column: Any, name: str) -> Counter[str]:
    """How often each text occurs."""
    compute = require("pyarrow.compute", "cli")
    counts = compute.value_counts(texts(column, name)).to_pylist()
    return Counter({one["values"]: one["counts"] for one in counts if one["values"] is not None})


UNKNOWN, NONE = -1, -2


def codes_of(column: Any, categories: tuple[str, ...], name: str) -> Array:
    """The place of each row's text among categories; UNKNOWN and NONE for those that have no place and no text."""
    arrow, compute = require("pyarrow", "cli"), require("pyarrow.compute", "cli")
    text = texts(column, name)
    if set(categories) <= {"true", "false"}:  # truth values, which a file may write as True or TRUE, or as 1 and 0
        text = compute.utf8_lower(text)
        for number, word in ("0", "false"), ("1", "true"):
            text = compute.replace_substring_regex(text, rf"^{number}(\.0*)?$", word)
    elif all(map(NUMBER.fullmatch, categories)):  # which have become 1.0 and 2.0 where a program had missing values, too
        text = compute.replace_substring_regex(text, r"^(-?\d+)\.0+$", r"\1")
    elif all(map(_POINTED.fullmatch, categories)):  # which are 1 and 2 where it had no missing values
        text = compute.replace_substring_regex(text, r"^(-?\d+)(\.0*)?$", r"\1.0")
    found = compute.index_in(text, value_set=arrow_of_texts(arrow, categories))
    codes = np.nan_to_num(array_of_arrow(found), nan=UNKNOWN).astype(np.int64)
    codes[array_of_arrow(text.is_null())] = NONE
    return codes
