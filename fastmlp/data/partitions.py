"""Columns that a Parquet file has in the names of its folders, such as ``year=2020/month=3``: how Hive cuts a table into files.

Spark, pandas, polars and pyarrow write them so, and read them as columns, after those of the file, where they read all of a folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from fastmlp.io.extras import require

_MISSING = "__HIVE_DEFAULT_PARTITION__"
"""What stands for a value that is not there."""
_SMALL = np.iinfo(np.int16)
"""Numbers such as years and months: they do not ask for float64, as numbers of 64 bits would."""


def partition_of(path: Path, there: Iterable[str], types: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Columns of a file that are in the names of its folders, each with its one value.

    Parameters
    ----------
    path : Path
    there : iterable of str
        Columns that are in the file, whatever its folders are called.
    types : mapping of str to str, optional
        Those that are a "category" stay the text that they are: 03 is not 3.

    Returns
    -------
    dict of str to pyarrow.Scalar
        Whole numbers, or text; null for what is missing.
    """
    # Only those that the file is in directly: one further up, such as runs/seed=3/data/t.parquet, says nothing about the table.
    folders = [*takewhile(lambda part: part.partition("=")[0] and "=" in part, reversed(path.parts[:-1]))][::-1]
    found = {unquote(name): unquote(text) for name, _, text in (part.partition("=") for part in folders)}
    inside = set(there) if found else set()
    return {name: _scalar(text, (types or {}).get(name)) for name, text in found.items() if name not in inside}


def _scalar(text: str, kind: str | None) -> Any:
    arrow = require("pyarrow", "cli")
    if text == _MISSING:
        return arrow.scalar(None, arrow.null())
    if kind == "category" or not text.removeprefix("-").isdecimal() or len(text) > 18:  # as many digits as fit
        return arrow.scalar(text)
    number = int(text)
    return arrow.scalar(number, arrow.int16() if _SMALL.min <= number <= _SMALL.max else arrow.int64())


def of_all(partitions: Sequence[Mapping[str, Any]], named: Iterable[Any]) -> tuple[dict[str, str], set[str]]:
    """What only all files of a table together tell of the columns that are in the names of their folders.

    Parameters
    ----------
    partitions : sequence of mapping
        Of each file.
    named : iterable
        Columns that somebody has named, as a target, for example.

    Returns
    -------
    types : dict of str to "category"
        Of those that are numbers in some files and text in others: all of them are then text.
    needless : set of str
        Names of those that have the same value in all files, of which nothing can be learned, and that nobody has named.
    """
    return dict.fromkeys(_text_among_numbers(partitions), "category"), _same_in_all(partitions).difference(named)


def _same_in_all(partitions: Sequence[Mapping[str, Any]]) -> set[str]:
    first = partitions[0]
    return {name for name in first if all(name in other and other[name].equals(first[name]) for other in partitions)}


def _text_among_numbers(partitions: Sequence[Mapping[str, Any]]) -> list[str]:
    kinds: dict[str, set[str]] = {}
    for partition in partitions:
        for name, value in partition.items():
            kinds.setdefault(name, set()).add(str(value.type))
    return [name for name, some in kinds.items() if "string" in some and some - {"string", "null"}]


def columns_inside(columns: Sequence[str], partition: Mapping[str, Any], there: Sequence[str]) -> list[str]:
    """Those of some columns that are in the file; at least one, which says how many rows there are."""
    return [name for name in columns if name not in partition] or list(there[:1])


def with_partition(batch: Any, partition: Mapping[str, Any], columns: Sequence[str]) -> Any:
    """A record batch, or a table, of these columns, of which some may be in the names of folders."""
    if not partition:
        return batch
    arrow = require("pyarrow", "cli")
    for name, value in partition.items():
        batch = batch.append_column(name, arrow.repeat(value, batch.num_rows))
    return batch.select(list(columns))


def with_fields(schema: Any, partition: Mapping[str, Any]) -> Any:
    """A file's schema with the columns that are in the names of folders."""
    for name, value in partition.items():
        schema = schema.append(require("pyarrow", "cli").field(name, value.type))
    return schema
