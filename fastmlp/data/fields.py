"""Whether what a file says about a column is of the types that it has to be of."""

from __future__ import annotations

import types
import typing
from dataclasses import fields
from typing import Any, TypeVar

T = TypeVar("T")


def check_fields(record: T) -> T:
    """Return a dataclass whose fields hold what their annotations say.

    Raises
    ------
    TypeError
        For the first that does not.
    """
    hints = typing.get_type_hints(type(record))
    for one in fields(record):  # type: ignore[arg-type]
        value = getattr(record, one.name)
        if not _fits(value, hints[one.name]):
            raise TypeError(
                f"{one.name} is {str(value)[:50]!r}, which is no {getattr(hints[one.name], '__name__', hints[one.name])}"
            )
    return record


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, one) for one in inner)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(one, inner[0]) for one in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, hint)
