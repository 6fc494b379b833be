"""Tables from files, whole or batch by batch: CSV, Parquet and IDX, as Arrow's record batches.

What a file is, ``opening`` says; how a CSV file is written, ``csv_form``; ``idx`` has the format that MNIST comes in, ``errors``
what is raised.
"""

from __future__ import annotations

import csv
import itertools
import os
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fastmlp.data.csv_form import (
    GUESSED,
    MISSING,
    Form,
    first_row,
    form_of,
    header_in,
    header_of,
    hexadecimal_columns,
    is_number_text,
    lines_of,
    numbered_rows,
)
from fastmlp.data.csv_form import Csv as Csv
from fastmlp.data.errors import ColumnTypeError, check_names
from fastmlp.data.errors import TableError as TableError
from fastmlp.data.idx import idx_names, idx_table
from fastmlp.data.idx import read_idx as read_idx
from fastmlp.data.opening import check_file, for_arrow, is_csv, is_gzip, is_parquet, undamaged
from fastmlp.data.partitions import columns_inside, partition_of, with_partition
from fastmlp.data.widths import DECODED_VALUES, LONG_BYTES, row_bytes
from fastmlp.files import no_file
from fastmlp.io.extras import require

_NULLS = [f"{before}{one}{after}" for one in MISSING for before in ("", " ") for after in ("", " ")]
"""With the space that is beside them where a comma and a space separate values; Arrow looks for them before it trims numbers."""
_VIEWS = {"string_view": "string", "binary_view": "binary"}
"""Types of Arrow's that it cannot filter, nor what has them inside, and others for the same."""
READ_BYTES = 1 << 14
"""Of a column that is read from a Parquet file at a time; else whole row groups would be in memory, and in the end all of them."""
_BLOCK_BYTES, _MOST_BLOCK_BYTES = 1 << 20, 1 << 30
"""Of a CSV file that is read at a time: Arrow wants its first row in one such block, and no row in more than two."""
_BATCH_ROWS = 1 << 16
"""Of a Parquet file that are decoded at a time, at most."""
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")
"""What pandas calls its names of rows in a Parquet file, where they have no name: no column that anybody has made."""


def read_table(path: str | os.PathLike[str], types: Mapping[str, str] | None = None, given: Csv = GUESSED) -> Any:
    """A whole table.

    Parameters
    ----------
    path : path-like
        ``.parquet``, IDX (by its first bytes, gzip or not), anything else as CSV.
    types : mapping of str to {"number", "category"}, optional
        Of columns that are known.
    given : Csv
        What is not to be guessed.

    Returns
    -------
    pyarrow.Table

    Raises
    ------
    TableError
        For a file that is not there, cannot be read as what it is, or has no rows.
    """
    batches = read_all(path, types, given)
    if not any(batch.num_rows for batch in batches):
        raise TableError(f"{path} has no rows.")
    return require("pyarrow", "cli").Table.from_batches(batches)


def read_all(path: str | os.PathLike[str], types: Mapping[str, str] | None = None, given: Csv = GUESSED) -> list[Any]:
    """The same as record batches.

    A column of a CSV file is what its beginning looks like. Where other values follow, such as decimals after whole numbers, the
    file is read again.
    """
    known = dict(types or {})
    while True:
        try:
            return list(batches_as(Path(path), known, given))
        except ColumnTypeError as error:
            if error.wider is None:
                raise
            known[error.column] = error.wider


def read_batches(path: Path, types: Mapping[str, str] | None = None, given: Csv = GUESSED) -> Iterator[Any]:
    """The same as record batches, one after the other: memory does not grow with the file.

    A column of a CSV file that is not in ``types`` is of another type from that batch on where its values ask for it.

    Parameters
    ----------
    path, types, given
        See :func:`read_table`.

    Yields
    ------
    pyarrow.RecordBatch
    """
    known, done = dict(types or {}), 0
    while True:
        try:
            for batch in itertools.islice(batches_as(path, known, given), done, None):
                done += 1
                yield batch
        except ColumnTypeError as error:
            if error.wider is None:
                raise
            known[error.column] = error.wider
        else:
            return


def batches_as(path: Path, types: Mapping[str, str] | None = None, given: Csv = GUESSED) -> Iterator[Any]:
    """The same, all of them alike.

    Parameters
    ----------
    types : mapping of str to {"number", "category", "whole", "decimal"}, optional
        The last two are numbers, too, which a column has had so far, but which nobody has said that it has.

    Raises
    ------
    ColumnTypeError
        Where a value of a CSV file is not of the type that its column has in ``types``, or else at the file's beginning.
    """
    arrow = require("pyarrow", "cli")
    check_file(path)
    if is_parquet(path):
        require("pyarrow.parquet", "cli")
        try:
            with (
                for_arrow(path) as readable,
                arrow.parquet.ParquetFile(readable, buffer_size=READ_BYTES, pre_buffer=False) as file,
            ):
                check_names(path, file.schema_arrow.names)
                there = columns_of(file.schema_arrow)
                partition = partition_of(path, there, types)
                columns = [name for name in (*there, *partition) if (types or {}).get(name) != "unused"]
                inside = columns_inside(columns, partition, there)
                groups = range(file.num_row_groups)
                longest = max((row_bytes(file, inside, group) for group in groups), default=1)
                rows = min(_BATCH_ROWS, DECODED_VALUES // max(1, len(columns)), LONG_BYTES // longest)
                batches = map(without_views, file.iter_batches(max(1, rows), columns=inside))
                yield from map(partial(with_partition, partition=partition, columns=columns), batches)
        except (arrow.ArrowInvalid, OSError) as error:  # the latter for bytes that cannot be decoded
            raise parquet_error(path, error) from None
        return
    if not is_csv(path):
        yield from idx_table(read_idx(path)).to_batches()
        return
    require("pyarrow.csv", "cli")
    form = form_of(path, given)
    kinds = {
        "number": arrow.float64(), "decimal": arrow.float64(), "whole": arrow.int64(), "category": arrow.string(),
        "unused": arrow.binary(),
    }  # fmt: skip
    written = form.names or first_row(path, form)
    column_types = dict.fromkeys(hexadecimal_columns(path, form, written), arrow.string())
    column_types |= {name: kinds[types[name.strip()]] for name in written if types and name.strip() in types}
    try:
        with (
            undamaged(path),
            for_arrow(path) as readable,
            arrow.input_stream(readable, compression="gzip" if is_gzip(path) else None) as file,  # whatever its name says
            arrow.csv.open_csv(
                file,
                arrow.csv.ReadOptions(column_names=form.names, skip_rows=form.skip, block_size=_block_bytes(path, form)),
                arrow.csv.ParseOptions(
                    delimiter=form.delimiter, newlines_in_values=True, ignore_empty_lines=len(written) > 1
                ),  # of one column, an empty line is a row without a value
                arrow.csv.ConvertOptions(
                    null_values=_NULLS, strings_can_be_null=True, column_types=column_types, decimal_point=form.decimal
                ),
            ) as reader,
        ):
            if any(str(one.type) == "binary" and one.name not in column_types for one in reader.schema):
                raise _not_utf8(path)  # in its first block, where Arrow makes bytes of the column
            yield from (batch.rename_columns([name.strip() for name in batch.schema.names]) for batch in reader)
    except arrow.ArrowInvalid as error:
        if "Empty CSV file" not in str(error):  # which is said of names without a line end, and no rows
            raise _csv_error(path, error, form, types or {}) from None


def _block_bytes(path: Path, form: Form) -> int:
    """How much of a CSV file to read at a time, by the length of its first rows."""
    with lines_of(path, form) as file:
        rows = itertools.islice(filter(None, csv.reader(file, delimiter=form.delimiter)), 2)
        longest = max((sum(len(cell.encode(errors="replace")) + 3 for cell in row) for row in rows), default=0)  # 3: ",", quotes
    return min(max(_BLOCK_BYTES, 8 * longest), _MOST_BLOCK_BYTES)


def columns_of(schema: Any) -> list[str]:
    """Names of the columns of a Parquet file."""
    return [name for name in schema.names if not _PANDAS_INDEX.fullmatch(name)]


def without_views(batch: Any) -> Any:
    """A record batch with columns that can be filtered in the place of those that cannot."""
    for place, one in enumerate(batch.schema):
        if any(view in str(one.type) for view in _VIEWS):
            batch = batch.set_column(place, one.name, batch.column(place).cast(_without_views(one.type)))
    return batch


def _without_views(kind: Any) -> Any:
    """A type of Arrow's, with others in the place of those views that it is, or has inside."""
    arrow = require("pyarrow", "cli")
    types = arrow.types
    if str(kind) in _VIEWS:
        return arrow.type_for_alias(_VIEWS[str(kind)])
    if types.is_map(kind):
        return arrow.map_(_without_views(kind.key_type), _without_views(kind.item_type))
    if types.is_fixed_size_list(kind):
        return arrow.list_(_without_views(kind.value_type), kind.list_size)
    if types.is_list(kind) or types.is_large_list(kind):
        return (arrow.list_ if types.is_list(kind) else arrow.large_list)(_without_views(kind.value_type))
    return arrow.struct([one.with_type(_without_views(one.type)) for one in kind]) if types.is_struct(kind) else kind


def parquet_error(path: Path, error: Exception) -> TableError:
    """What Arrow says about a Parquet file, for people."""
    if isinstance(error, FileNotFoundError):
        return TableError(no_file(path))
    return TableError(f"{path} is not a usable Parquet file: {_first_line(error)}")


def footer_of(path: Path) -> Any:
    """What a Parquet file says about itself: pyarrow.parquet.FileMetaData."""
    arrow, parquet = require("pyarrow", "cli"), require("pyarrow.parquet", "cli")
    try:
        with for_arrow(path) as file:
            footer = parquet.read_metadata(file)
            check_names(path, footer.schema.to_arrow_schema().names)
    except (arrow.ArrowInvalid, OSError) as error:
        raise parquet_error(path, error) from None
    return footer


def folders_of(path: Path, types: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Columns of a file that are in the names of its folders; see :func:`fastmlp.data.partitions.partition_of`."""
    if not partition_of(path, ()) or not is_parquet(path):  # most have none, and no footer is needed to say so
        return {}
    return partition_of(path, columns_of(footer_of(path).schema.to_arrow_schema()), types)


def names_of(path: Path, given: Csv = GUESSED) -> list[str]:
    """Names of all columns of a table."""
    if is_parquet(path):
        there = columns_of(footer_of(path).schema.to_arrow_schema())
        return [*there, *partition_of(path, there)]
    if is_csv(path):
        return header_of(path, given) or form_of(path, given).names or []
    return idx_names(read_idx(path).shape)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def _csv_error(path: Path, error: Exception, form: Form, types: Mapping[str, str]) -> TableError:
    """What Arrow says about a CSV file, for people."""
    text = _first_line(error)
    ragged = re.search(r"Expected (\d+) columns, got (\d+)", text)
    if ragged:
        expected, got = map(int, ragged.groups())
        return _ragged(path, form, expected, got)
    if "straddling object" in text:
        return TableError(f"{path} has a row of more than a mebibyte, where the first ones are short; make Parquet of it.")
    if "UTF8" in text:
        return _not_utf8(path)
    wrong = re.match(
        r"In CSV column #(\d+): (?:Row #\d+: )?CSV conversion error to (.+?): invalid value '(.*)'", str(error), re.DOTALL
    )
    if wrong:
        return _column_type_error(path, form, types, int(wrong[1]), wrong[2], wrong[3])
    return TableError(f"{path} cannot be read as CSV: {text}.")


def _not_utf8(path: Path) -> TableError:
    return TableError(f"{path} is not in UTF-8 as a whole; save it as UTF-8.")


def _ragged(path: Path, form: Form, expected: int, got: int) -> TableError:
    """About a line with more or fewer values than the first one; Arrow's streaming reader does not say which."""
    rows = enumerate(numbered_rows(path, form))
    place, line = next(((place, line) for place, (line, row) in rows if len(row) == got), (0, None))
    may_be_title = place == 1 and got > expected
    others = f"first line has {expected}; if that is a title, remove it." if may_be_title else f"other lines have {expected}."
    return TableError(f"{_at(path, line)}: {got} value{'s' * (got != 1)} where the {others}")


def _column_type_error(path: Path, form: Form, types: Mapping[str, str], column: int, kind: str, value: str) -> ColumnTypeError:
    """About a value that is not of the type, of Arrow's, that its column was read as."""
    name = (form.names or header_in(path, form))[column]
    where = f"column {name!r}" if form.names is None else name
    wider = None if types.get(name) == "number" else _wider(kind, value.replace(form.decimal, "."))
    if wider is not None:  # it is read again, and to look for the line would take as long
        return ColumnTypeError(f"{path}: {where} has the text {value!r} where there were values of the type {kind}.", name, wider)
    line = next((line for line, row in numbered_rows(path, form) if len(row) > column and row[column] == value), None)
    message = f"{_at(path, line)}: {where} has the text {value!r} where there were numbers"
    if types.get(name) == "number":
        return ColumnTypeError(f"{message}.", name, None)
    advice = f"correct it, or name the column among the categories (--categories, or categories=[{name!r}]) to have it read as text"
    if form.decimal == "." and re.fullmatch(r"[+-]?\d+,\d+([eE][+-]?\d+)?", value):
        advice = "if it is one, say --decimal ',', or Csv(decimal=',')"
    return ColumnTypeError(f"{message} before; {advice}.", name, None)


def _at(path: Path, line: int | None) -> str:
    return f"{path}, line {line}" if line else str(path)


def _wider(kind: str, value: str) -> str | None:
    """What a column of one of Arrow's types becomes by a value that is not of it; see :class:`ColumnTypeError`."""
    if kind == "null" and re.fullmatch(r"[+-]?\d{1,18}", value):
        return "whole"
    if (kind == "null" or kind.startswith("int")) and is_number_text(value):
        return "decimal"
    return None if kind.startswith(("int", "double")) else "category"
