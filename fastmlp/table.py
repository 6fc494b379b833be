"""A table of named things, and the error for a name that is not in it."""

from __future__ import annotations

import difflib
import math
import numbers
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np

from fastmlp.kernels.jit import Kernel


class Named(Protocol):
    """Anything with a name."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...


T = TypeVar("T", bound=Named)


def _compiled(entry: Any) -> list[Any]:
    """The compiled formulas of an entry, and those in plain NumPy that say the same; empty where there are none."""
    values = [getattr(entry, field.name) for field in fields(entry)] if is_dataclass(entry) else []
    if not any(isinstance(value, Kernel) for value in values):
        return []
    return [value for value in values if callable(value) and not getattr(value, "__name__", "").endswith("_coefficients")]


def check_parameter(value: Any, name: str, low: float = -math.inf, high: float = math.inf) -> float:
    """The parameter of an entry: a number between two others."""
    number_given = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if isinstance(value, np.floating):  # else NumPy compares in its own precision, in which the largest float is infinite
        value = value.item()
    # A whole number may be too large for a float.
    if not number_given or not low < value < high or abs(value) > sys.float_info.max:
        limits = (f" above {low:g}" if low > -math.inf else "") + (f" and below {high:g}" if high < math.inf else "")
        raise ValueError(f"{name}: parameter must be a finite number{limits}, got {value!r}.")
    return float(value)


class Entry:
    """What all entries with formulas have in common.

    They never change, so a copy is the thing itself. What is pickled is a name and numbers, never code.
    """

    name: str

    source: Any = None

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        return self


class Table(Mapping[str, T], Generic[T]):
    """The entries by name, in a fixed order.

    Parameters
    ----------
    kind : str
        What the entries are, for messages ("activation").
    entries : sequence
        The entries, each with a ``name``.
    aliases : mapping of str to str, optional
        Other names for them, accepted but not listed.
    base : type, optional
        What an entry is an instance of; that of the first one unless given.
    make : callable, optional
        Makes an entry of a function.
    """

    def __init__(
        self,
        kind: str,
        entries: Sequence[T],
        aliases: Mapping[str, str] | None = None,
        base: Any = None,
        make: Callable[[Any], T] | None = None,
    ) -> None:
        self._base: Any = base or type(entries[0])
        self._make = make
        self.kind = kind
        self._entries = {entry.name: entry for entry in entries}
        self.aliases = dict(aliases or {})

    def __getitem__(self, name: str) -> T:
        try:
            return self._entries[self.aliases.get(name, name)]
        except KeyError:
            raise KeyError(f"there is no {self.kind} {name!r}; there are {', '.join(self)}") from None

    def __repr__(self) -> str:
        return f"<table of {self.kind} entries: {', '.join(self)}>"

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, given: Any, argument: str) -> T:
        """The entry of a name, or the entry itself.

        Raises
        ------
        ValueError
            Where there is none of that name; the message lists those there are.
        TypeError
            For anything but a name or an entry.
        """
        if isinstance(given, self._base):
            if getattr(given, "source", None) is None and _compiled(given) != _compiled(self._entries.get(given.name)):
                raise ValueError(
                    f"{argument}={given.name!r} has other formulas than the table of {self.kind} entries has. What is compiled "
                    "is kept by the name of an entry, so a new one has to be added there."
                )
            entry: T = given
            return entry
        if self._make is not None and callable(given) and not isinstance(given, type):
            return self._make(given)
        if not isinstance(given, str):
            raise TypeError(
                f"{argument} must be the name of one of the known {self.kind} entries ({', '.join(self)}) or a table entry, "
                f"got {given!r} of type {type(given).__name__}."
            )
        if given in self:
            return self[given]
        near = difflib.get_close_matches(given, [*self, *self.aliases], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{argument}={given!r} is unknown.{hint} Known names: {', '.join(self)}.")

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self.aliases
