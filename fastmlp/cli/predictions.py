"""Predictions of the rows of a table, part by part, and the files that they are written to."""

from __future__ import annotations

import csv as csv_format
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

if TYPE_CHECKING:
    from fastmlp.data.csv_form import Csv
    from fastmlp.data.model import TableModel


def batches(types: Mapping[str, str], paths: Iterable[Path], csv: Csv, target: str | None = None) -> Iterator[tuple[Path, Any]]:
    """The rows of some files, one batch after the other, each with the file that it is from.

    Columns that have no type are not needed, and nothing in them is wrong; but ``target`` is what it looks like.
    """
    from fastmlp.data.files import names_of, read_batches
    from fastmlp.data.opening import is_idx

    for path in paths:
        names = [] if is_idx(path) else names_of(path, csv)
        known = {**{name: "unused" for name in names if name != target}, **types}
        rows = read_batches(path, known, csv)
        while (batch := _next(rows, path)) is not None:
            if batch.num_rows:
                yield path, batch


def _next(rows: Iterator[Any], path: Path) -> Any:
    """The next rows of a file, None after the last: an error of the system says which file it is that cannot be read."""
    from fastmlp.data.errors import TableError

    try:
        return next(rows, None)
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror or error}.") from None


def predicted_names(model: TableModel, proba: bool) -> list[str]:
    """Of the columns, each another: programs look values up by them."""
    target, words = model.preparation.target.name, "probability of"
    if not proba or model.classes is None:
        return [target]
    while target in {f"{words} {name}" for name in model.classes}:  # somebody learns from predictions
        words = f"predicted {words}"
    return [target, *(f"{words} {name}" for name in model.classes)]


def predicted(model: TableModel, source: Path, batch: Any, proba: bool) -> list[list[Any]]:
    """Columns."""
    from fastmlp.data.errors import naming

    with naming(source):
        outputs = model.outputs(batch)
    if model.classes is None:
        return [outputs.tolist()]
    names = [model.classes[place] for place in outputs.argmax(axis=1)]
    return [names, *outputs.T.tolist()] if proba else [names]


def in_utf8(output: TextIO) -> TextIO:
    """The same output, with every letter where it goes to a file or a program; a terminal keeps to those that it has."""
    if isinstance(output, io.TextIOWrapper) and not output.isatty():
        output.reconfigure(encoding="utf-8", errors=output.errors)
    return output


def write_file(names: list[str], parts: Iterable[list[list[Any]]], out: Path, *, of_numbers: bool) -> int:
    """Write predictions, numbers or names of classes, by the ending of the name; returns the number of rows."""
    from fastmlp.files import remove_leftovers, replacement

    remove_leftovers(str(out))  # of a command that was killed, which may be as large as the disk has room for
    with replacement(out) as aside:
        if out.suffix.lower() == ".parquet":
            with aside.open("wb") as parquet:  # not by its name, which would have to be UTF-8
                return _write_parquet(names, parts, parquet, of_numbers=of_numbers)
        with aside.open("w", newline="", encoding="utf-8") as file:
            return (write_json_lines if out.suffix.lower() == ".jsonl" else write_csv)(names, parts, file)


def write_csv(names: list[str], parts: Iterable[list[list[Any]]], file: TextIO) -> int:
    """A line of names, then the rows, part by part; returns their number."""
    writer = csv_format.writer(file, lineterminator="\n")
    rows = 0
    for number, columns in enumerate(parts):
        if number == 0:  # not before the first rows could be read
            writer.writerow(names)
        writer.writerows(zip(*columns, strict=True))
        rows += len(columns[0])
    if rows == 0:
        writer.writerow(names)
    return rows


def write_json_lines(names: list[str], parts: Iterable[list[list[Any]]], file: TextIO, *, ascii_only: bool = False) -> int:
    """An object for each row; returns their number.

    ``ascii_only`` is for a file that may not have every letter: JSON has escapes of its own, and knows no others.
    """
    from fastmlp.data.evaluation import finite_or_none

    rows = 0
    for columns in parts:
        for values in zip(*columns, strict=True):
            known = [finite_or_none(value) if isinstance(value, float) else value for value in values]
            file.write(json.dumps(dict(zip(names, known, strict=True)), ensure_ascii=ascii_only) + "\n")
        rows += len(columns[0])
    return rows


def _write_parquet(names: list[str], parts: Iterable[list[list[Any]]], file: BinaryIO, *, of_numbers: bool) -> int:
    import pyarrow
    import pyarrow.parquet

    first = pyarrow.float64() if of_numbers else pyarrow.string()
    schema = pyarrow.schema([(name, pyarrow.float64() if place else first) for place, name in enumerate(names)])
    rows = 0
    with pyarrow.parquet.ParquetWriter(file, schema) as writer:
        for columns in parts:
            writer.write_table(pyarrow.table(columns, schema=schema))
            rows += len(columns[0])
    return rows
