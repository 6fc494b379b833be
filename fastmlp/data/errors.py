"""Errors about tables and files, in sentences for the person who gave them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class TableError(ValueError):
    """A file or a table is not what it has to be; the message is a sentence for the person who gave it."""


class ColumnTypeError(TableError):
    """A value of a CSV file is not of the type that its column was read as.

    Attributes
    ----------
    column : str
    wider : {"whole", "decimal", "category"} or None
        What the column can be read as, with this value and those before; None for text among numbers, which is likely a mistake.
    """

    def __init__(self, message: str, column: str, wider: str | None) -> None:
        super().__init__(message)
        self.column, self.wider = column, wider


@contextmanager
def naming(source: object) -> Iterator[None]:
    """Errors about rows, with what they were read from before them."""
    try:
        yield
    except TableError as error:
        raise TableError(f"{source}: {error}") from None


def check_names(path: Path, names: list[str]) -> None:
    """Each column has a name of its own."""
    doubles = sorted(name for name, count in Counter(names).items() if count > 1)
    if doubles and not doubles[0]:
        raise TableError(
            f"{path} has {names.count('')} columns without a name; give each a name, or remove them (a spreadsheet writes empty "
            "ones as separators at the end of each line)."
        )
    if doubles:
        raise TableError(f"{path} has more than one column {doubles[0]!r}.")
