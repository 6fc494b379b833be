"""Tables from files: CSV in its many forms, Parquet, and IDX, the format that MNIST comes in."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import math
import os
import re
import struct
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastmlp.data.partitions import columns_inside, partition_of, with_partition
from fastmlp.data.widths import DECODED_VALUES, LONG_BYTES, row_bytes
from fastmlp.files import no_file
from fastmlp.io.extras import require

MISSING = [
    "", "?", "NA", "N/A", "n/a", "NaN", "nan", "-NaN", "-nan", "<NA>", "NaT", "NULL", "null", "None", "-",
    "#N/A", "#NA", "#N/A N/A", "#DIV/0!", "#VALUE!", "#REF!", "#NUM!", "#NAME?", "#NULL!",
]  # fmt: skip
"""What stands for a value that is not there, as programs write it; the last ones are a spreadsheet's."""
_NULLS = [f"{before}{one}{after}" for one in MISSING for before in ("", " ") for after in ("", " ")]
"""With the space that is beside them where a comma and a space separate values; Arrow looks for them before it trims numbers."""

_DELIMITERS = ",;\t|"
_TITLE_LINES = 20
"""Of a table's beginning, that are looked at for titles before it."""
_RARE_DELIMITERS = "^ :"
"""Where there is none of the others, and as many of one of these in each line; times have colons, too, but spaces around them."""
_VIEWS = {"string_view": "string", "binary_view": "binary"}
"""Types of Arrow's that it cannot filter, nor what has them inside, and others for the same."""
_LOOK_BYTES = 1 << 16
READ_BYTES = 1 << 14
"""Of a column that is read from a Parquet file at a time; else whole row groups would be in memory, and in the end all of them."""
_BLOCK_BYTES, _MOST_BLOCK_BYTES = 1 << 20, 1 << 30
"""Of a CSV file that is read at a time: Arrow wants its first row in one such block, and no row in more than two."""
_BATCH_ROWS = 1 << 16
"""Of a Parquet file that are decoded at a time, at most."""
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")
"""What pandas calls its names of rows in a Parquet file, where they have no name: no column that anybody has made."""
_HEXADECIMAL = re.compile(r"\s*0[xX][\da-fA-F]+\s*")
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_COMPRESSED = {b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstandard"}
"""What other files begin with."""
_MOST_DIMENSIONS = 32
"""Of an array, for NumPy before 2.0."""

csv.field_size_limit(max(csv.field_size_limit(), 2**31 - 1))  # texts may be long; more than this is too much for Windows


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


UNNAMED = "column {}"
"""Names of the columns of a file that has none."""


@dataclass(frozen=True)
class Csv:
    """How a CSV file is to be read; what is None is guessed from its beginning.

    Parameters
    ----------
    separator : str, optional
        One character of ASCII; neither a quote nor a line end.
    header : bool, optional
        Whether the first line has the names of the columns.
    decimal : {".", ","}, optional
    known : sequence of str, optional
        Names that columns are known to have: a first line that has all of them is a header, whatever else is in it.
    """

    separator: str | None = None
    header: bool | None = None
    decimal: str | None = None
    known: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.separator is not None and len(self.separator) != 1:
            raise ValueError(f"separator must be one character, got {self.separator!r}.")
        if self.separator is not None and not _can_separate(self.separator):
            raise ValueError(f"separator must be an ASCII character, and neither a quote nor a line end, got {self.separator!r}.")
        if self.decimal not in (None, ".", ","):
            raise ValueError(f"decimal must be '.' or ',', got {self.decimal!r}.")


def _can_separate(character: str) -> bool:
    """Whether Arrow can tell columns apart by it."""
    return character.isascii() and character not in '"\r\n\0'


GUESSED = Csv()
"""Of a file of which nobody has said anything."""


class Form(NamedTuple):
    """How a CSV file is read."""

    delimiter: str
    names: list[str] | None
    """Of the columns, where the file has none."""
    decimal: str
    skip: int
    """Lines before the table."""


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
                _check_names(path, file.schema_arrow.names)
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
        yield from _idx_table(read_idx(path)).to_batches()
        return
    require("pyarrow.csv", "cli")
    form = form_of(path, given)
    kinds = {
        "number": arrow.float64(), "decimal": arrow.float64(), "whole": arrow.int64(), "category": arrow.string(),
        "unused": arrow.binary(),
    }  # fmt: skip
    written = form.names or _first_row(path, form)
    column_types = dict.fromkeys(_hexadecimal(path, form, written), arrow.string())
    column_types |= {name: kinds[types[name.strip()]] for name in written if types and name.strip() in types}
    try:
        with (
            _undamaged(path),
            for_arrow(path) as readable,
            arrow.input_stream(readable, compression="gzip" if _is_gzip(path) else None) as file,  # whatever its name says
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


def _hexadecimal(path: Path, form: Form, names: Sequence[str]) -> list[str]:
    """Columns with values such as 0x1A at the file's beginning: Arrow takes them for whole numbers, but knows no others like it."""
    if not re.search(rb"0[xX][\da-fA-F]", _head(path)):
        return []
    rows = itertools.islice(_numbered_rows(path, form), 0 if form.names else 1, _SOME_ROWS)
    cells = itertools.zip_longest(*(row for _, row in rows), fillvalue="")
    return [name for name, some in zip(names, cells, strict=False) if any(map(_HEXADECIMAL.fullmatch, some))]


def _block_bytes(path: Path, form: Form) -> int:
    """How much of a CSV file to read at a time, by the length of its first rows."""
    with _lines(path, form) as file:
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


def _check_names(path: Path, names: list[str]) -> None:
    """Each column has a name of its own."""
    doubles = sorted(name for name, count in Counter(names).items() if count > 1)
    if doubles and not doubles[0]:
        raise TableError(
            f"{path} has {names.count('')} columns without a name; give each a name, or remove them (a spreadsheet writes empty "
            "ones as separators at the end of each line)."
        )
    if doubles:
        raise TableError(f"{path} has more than one column {doubles[0]!r}.")


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
            _check_names(path, footer.schema.to_arrow_schema().names)
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
    return _idx_names(read_idx(path).shape)


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
    rows = enumerate(_numbered_rows(path, form))
    place, line = next(((place, line) for place, (line, row) in rows if len(row) == got), (0, None))
    may_be_title = place == 1 and got > expected
    others = f"first line has {expected}; if that is a title, remove it." if may_be_title else f"other lines have {expected}."
    return TableError(f"{_at(path, line)}: {got} value{'s' * (got != 1)} where the {others}")


def _column_type_error(path: Path, form: Form, types: Mapping[str, str], column: int, kind: str, value: str) -> ColumnTypeError:
    """About a value that is not of the type, of Arrow's, that its column was read as."""
    name = (form.names or _header(path, form))[column]
    where = f"column {name!r}" if form.names is None else name
    wider = None if types.get(name) == "number" else _wider(kind, value.replace(form.decimal, "."))
    if wider is not None:  # it is read again, and to look for the line would take as long
        return ColumnTypeError(f"{path}: {where} has the text {value!r} where there were values of the type {kind}.", name, wider)
    line = next((line for line, row in _numbered_rows(path, form) if len(row) > column and row[column] == value), None)
    message = f"{_at(path, line)}: {where} has the text {value!r} where there were numbers"
    if types.get(name) == "number":
        return ColumnTypeError(f"{message}.", name, None)
    advice = f"correct it, or name the column among the categories (--categories, or categories=[{name!r}]) to have it read as text"
    if form.decimal == "." and re.fullmatch(r"[+-]?\d+,\d+", value):
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


def _numbered_rows(path: Path, form: Form) -> Iterator[tuple[int, list[str]]]:
    """All rows of a CSV file, that of names among them, each with the number of the line where it ends."""
    with _lines(path, form) as file:
        reader = csv.reader(file, delimiter=form.delimiter)
        for row in reader:
            if row:
                yield form.skip + reader.line_num, row


@contextmanager
def _lines(path: Path, form: Form) -> Iterator[io.TextIOWrapper]:
    """The text of a table, compressed or not."""
    with _undamaged(path), io.TextIOWrapper(_opened(path), encoding="utf-8-sig", errors="replace", newline="") as file:
        for _ in range(form.skip):
            file.readline()
        try:
            yield file
        except csv.Error as error:
            raise TableError(f"{path} cannot be read as CSV: {error}.") from None


@contextmanager
def _undamaged(path: Path) -> Iterator[None]:
    """Errors about compressed bytes, with the name of the file, which neither Python nor Arrow says."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's: the file may be well
            raise
        raise TableError(f"{path} is damaged: {str(error).rstrip('.')}.") from None


def for_arrow(path: Path) -> AbstractContextManager[Any]:
    """What Arrow can read: a path, or an open file where the path is not UTF-8, which Arrow cannot open itself."""
    path = path.absolute()  # or a name with a colon in it may be taken for a URI
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return path.open("rb")
    return nullcontext(path)


def _opened(path: Path) -> Any:
    """The bytes of a file, uncompressed."""
    return gzip.open(path, "rb") if _is_gzip(path) else path.open("rb")


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def check_file(path: Path) -> None:
    """A file that is there and not empty."""
    if path.is_dir() or not path.exists():
        raise TableError(no_file(path))
    if path.stat().st_size == 0:
        raise TableError(f"{path} is empty.")


def is_parquet(path: Path) -> bool:
    """Whether a file is Parquet, by its first bytes."""
    check_file(path)
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _head(path: Path) -> bytes:
    """The first bytes of a file, uncompressed."""
    check_file(path)
    try:
        with _undamaged(path), _opened(path) as file:
            head: bytes = file.read(_LOOK_BYTES)
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error}.") from None
    return head


def is_csv(path: Path) -> bool:
    """Whether a file is read as CSV: it is none of the others."""
    return not is_parquet(path) and not is_idx(path)


def is_idx(path: Path) -> bool:
    """Whether a file is IDX, gzip or not, by its first bytes."""
    head = _head(path)
    return len(head) >= 4 and head[:2] == b"\0\0" and head[2] in _IDX_TYPES


def form_of(path: Path, given: Csv = GUESSED) -> Form:
    """The separator, the decimal point, and names for the columns where the file has none; by its beginning, unless given."""
    all_lines = re.split("\r\n|\r|\n", _text(path))
    with naming(path):
        skip, told = _before_table(all_lines, given)
    lines = [line for line in _with_first_row(all_lines[skip:]) if line.strip()]
    if not lines:
        raise TableError(f"{path} has no rows.")
    delimiter = given.separator or told or _guessed_delimiter(lines)
    decimal = given.decimal or ("," if _has_decimal_commas(lines, delimiter) else ".")
    cells = _first_row(path, Form(delimiter, None, decimal, skip))  # not of the lines: the first one may be cut off
    has_known = bool(given.known) and set(given.known) <= {cell.strip() for cell in cells}
    has_numbers = any(is_number_text(cell.replace(decimal, ".")) for cell in cells)
    has_header = (has_known or not has_numbers) if given.header is None else given.header
    if not has_header:
        return Form(delimiter, [UNNAMED.format(number) for number in range(1, len(cells) + 1)], decimal, skip)
    _check_names(path, [cell.strip() for cell in cells])
    return Form(delimiter, None, decimal, skip)


def _before_table(lines: list[str], given: Csv) -> tuple[int, str | None]:
    """How many lines come before a table: comments, titles, and ``sep=;``, which is for Excel; and the separator that it names."""
    told = re.fullmatch(r'"?sep=(.)"?', lines[0], re.IGNORECASE)
    if told and not given.separator and not _can_separate(told[1]):
        raise TableError(f"The first line says {lines[0]!r}; only ASCII, and no quote, separates columns. Save it with commas.")
    skip = first = 1 if told else 0
    while skip < len(lines) and (lines[skip].startswith("#") or not lines[skip].strip()):
        skip += 1
    if skip == len(lines):
        return first, told and told[1]
    known_separator = given.separator or (told and told[1])
    separator = known_separator or _guessed_delimiter(_with_first_row(lines[skip:]))
    # A line with as many values as the table has belongs to it: names of columns, or rows whose first value begins with #.
    while skip > first and lines[skip - 1].startswith("#"):
        if not len(_cells(lines[skip - 1], separator)) == len(_cells(lines[skip], separator)) > 1:
            break
        skip -= 1
    titles = 0 if given.header is False else _titles(lines[skip:], known_separator, given.known)  # which end where names begin
    return skip + titles, told and told[1]


def _titles(lines: list[str], separator: str | None, known: Sequence[str]) -> int:
    """How many lines come before the names of the columns: of one value each, where names and rows have the same number."""
    first = _with_first_row(lines)
    if len(first) < len(lines) and sum(map(bool, _cells(first[0], separator or _guessed_delimiter(first)))) > 1:
        return 0  # names, one of which goes over several lines
    places = [place for place, line in enumerate(lines) if line.strip()]
    places = places[: min(_TITLE_LINES, max(3, len(places) - 1))]  # the last of many may be cut off
    some = [lines[place] for place in places]
    own = [_cells(line, separator or _guessed_delimiter(some)) for line in some]
    if set(known) & set(own[0]) or (sum(map(bool, own[0])) > 1 and len({len(cells) for cells in own}) == 1):
        return 0
    for count in range(1, len(some) - 1):
        after = some[count:]
        delimiter = separator or _guessed_delimiter(after)
        titles, table = ([_cells(line, delimiter) for line in part] for part in (some[:count], after))
        if _are_names(table[0]) and len({len(cells) for cells in table}) == 1:
            return places[count] if all(_is_title(cells, len(table[0])) for cells in titles) else 0
    return 0


def _with_first_row(lines: list[str]) -> list[str]:
    """The same lines; where the first one ends within quotes, it is one with those up to their end."""
    if lines and lines[0].startswith('"') and lines[0].count('"') % 2:
        for count in range(2, min(len(lines), _TITLE_LINES) + 1):
            row = "\n".join(lines[:count])
            if row.count('"') % 2 == 0:
                return [row, *lines[count:]]
    return lines


def _is_title(cells: list[str], width: int) -> bool:
    """Whether a line has one value, and none beside it, where a table is at least three columns wide."""
    return len(cells) == 1 or (len(cells) == width > 2 and not any(cells[1:]))


def _are_names(cells: list[str]) -> bool:
    """Whether these could be the names of several columns."""
    return len(cells) > 1 and all(cells) and len(set(cells)) == len(cells) and not any(map(is_number_text, cells))


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:
        return []


def _text(path: Path) -> str:
    """The beginning of a file."""
    head = _head(path)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise TableError(f"{path} is in UTF-16; save it as UTF-8.")
    compressed = next((name for start, name in _COMPRESSED.items() if head.startswith(start)), None)
    if compressed is not None:
        raise TableError(f"{path} is compressed by {compressed}; unpack it, or compress it by gzip.")
    if head.startswith(b"\x93NUMPY"):
        raise TableError(f"{path} is an array of NumPy's; train on it in Python, with fastmlp.data.from_npy.")
    if b"\0" in head:
        raise TableError(f"{path} is not a table: it holds bytes that are no text; make CSV or Parquet of it.")
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)  # which does not mind half a character at the end
    except UnicodeDecodeError as error:
        line = head.count(b"\n", 0, error.start) + 1
        raise TableError(f"{path}, line {line}: the byte {head[error.start]:#x} is not UTF-8; save the file as UTF-8.") from None
    if re.match(r'\s*(\[\s*)?\{\s*"', text):
        raise TableError(f"{path} is JSON; make CSV or Parquet of it.")
    return text


def _guessed_delimiter(lines: list[str]) -> str:
    """What separates the names of columns; something rare, if nothing else does and there are as many of it in each line.

    What is in quotes separates nothing. Of two that are there as often, the one that is so in each line.
    """
    some = lines[: max(2, len(lines) - 1)]  # the last of many may be cut off
    bare = [re.sub(r'(^|[,;\t|^ :])"(?:[^"]|"")*"', r"\1", line.strip(" ")) for line in some if line.strip()]

    def is_even(one: str) -> bool:
        return one in bare[0] and len({line.count(one) for line in bare}) == 1

    if any(map(is_even, _DELIMITERS[1:])):  # commas of 1,5 beside these separate nothing
        bare = [re.sub(r"(?<![^;\t|])( *[+-]?\d*),(\d+ *)(?![^;\t|])", r"\1.\2", line) for line in bare]
    delimiter = max(_DELIMITERS, key=lambda one: (bare[0].count(one), is_even(one)))
    if delimiter in bare[0] or len(lines) == 1:
        return delimiter
    return next(filter(is_even, _RARE_DELIMITERS), delimiter)


def _has_decimal_commas(lines: list[str], delimiter: str) -> bool:
    """Whether numbers are written as 1,5, and none as 1.5.

    Where there are semicolons, commas are hardly anything else; elsewhere 1,234 may be one thousand and more, and does not count.
    Nor does 1.234, where there are commas that are decimal.
    """
    if delimiter == ",":
        return False
    cells = [cell for line in lines for cell in _cells(line, delimiter)]
    thousands = "" if delimiter == ";" else r"(?![+-]?[1-9]\d{0,2},\d{3}$)"
    return any(re.fullmatch(rf"{thousands}[+-]?\d+,\d+", cell) for cell in cells) and not any(
        re.fullmatch(r"(?![+-]?[1-9]\d{0,2}(\.\d{3})+$)[+-]?\d+\.\d+", cell) for cell in cells
    )


def is_number_text(text: str) -> bool:
    """Whether a text is a number with a decimal point, to Arrow: not 1_000, nor digits of other scripts, which Python takes."""
    if "_" in text or not text.isascii():
        return False
    try:
        float(text)
    except ValueError:
        return False
    return True


def header_of(path: Path, given: Csv = GUESSED) -> list[str] | None:
    """Names of the columns of a CSV file; None if it has no header."""
    form = form_of(path, given)
    return _header(path, form) if form.names is None else None


_SOME_ROWS, _SOME_CELLS = 1000, 1_000_000
"""Of a file's beginning, whose values are looked at as they are written; of a wide table fewer rows, but ten."""


def read_otherwise(path: Path, given: Csv = GUESSED) -> dict[str, str]:
    """Columns of a CSV file whose numbers may not be meant as they are read, by its beginning, each with an example.

    Names such as 007 lose their zeros. Where semicolons separate columns, 1.660 may be more than a thousand: unless a number of
    the column has other than three digits behind its point, or begins with 0, or is beyond 999 without one.
    """
    if not is_csv(path):
        return {}
    form, found = form_of(path, given), dict[str, str]()
    some = min(_SOME_ROWS, max(10, _SOME_CELLS // max(1, len(form.names or _first_row(path, form)))))
    rows = [row for _, row in itertools.islice(_numbered_rows(path, form), some)]
    mark, called = form.decimal, "comma" if form.decimal == "," else "point"
    thousands = re.compile(rf"[+-]?([1-9]\d{{0,2}}{re.escape(mark)}\d{{3}}|\d{{1,3}})")
    for name, *cells in itertools.zip_longest(*(rows if form.names is None else [form.names, *rows]), fillvalue=""):
        numbers = [cell.strip() for cell in cells if cell.strip() not in MISSING]
        if not all(is_number_text(text.replace(mark, ".")) for text in numbers):
            continue
        padded = next((text for text in numbers if re.fullmatch(r"[+-]?0\d+", text)), None)
        marked = next((text for text in numbers if mark in text), None)
        if padded is not None:
            found[name.strip()] = f"{padded} is read as {int(padded)}; named among the --categories, it stays as it is"
        elif form.delimiter == ";" and given.decimal is None and marked and all(map(thousands.fullmatch, numbers)):
            value = float(marked.replace(mark, "."))
            found[name.strip()] = f"{marked} is read as {value:g}; if it is a thousand and more, write it without the {called}"
    return found


def _header(path: Path, form: Form) -> list[str]:
    """Names of columns, without the white space around them."""
    return [name.strip() for name in _first_row(path, form)]


def _first_row(path: Path, form: Form) -> list[str]:
    with _lines(path, form) as file:
        return next((cells for cells in csv.reader(file, delimiter=form.delimiter) if cells), [])


def read_idx(path: Path) -> np.ndarray[Any, np.dtype[Any]]:
    """An array from an IDX file. The format: http://yann.lecun.com/exdb/mnist, at its end.

    Parameters
    ----------
    path : pathlib.Path
        Of a file, gzip or not.

    Returns
    -------
    ndarray (n, ...)
        Of the dtype and shape that the file says: labels (n,), pictures (n, height, width). Read only; numbers are big-endian.

    Raises
    ------
    TableError
        For a file that is not IDX, holds no numbers, or is damaged.
    """
    if not is_idx(path):
        raise TableError(f"{path} is not an IDX file, the format that MNIST comes in.")
    try:
        with _opened(path) as file:
            _, kind, dimensions = struct.unpack(">HBB", file.read(4))
            shape = struct.unpack(f">{dimensions}I", file.read(4 * dimensions))
            content = file.read()
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise TableError(f"{path} is not a usable IDX file: {error}.") from None
    if not 1 <= dimensions <= _MOST_DIMENSIONS:
        raise TableError(f"{path} is not a usable IDX file: it has {dimensions} dimensions.")
    if 0 in shape:
        raise TableError(f"{path} holds no numbers.")
    dtype = np.dtype(_IDX_TYPES[kind])
    expected = math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        raise TableError(f"{path} is damaged: it announces {expected} bytes of numbers and holds {len(content)}.")
    return np.frombuffer(content, dtype).reshape(shape)


def _idx_table(array: np.ndarray[Any, np.dtype[Any]]) -> Any:
    """A column for each number of a sample; of labels, one column."""
    arrow = require("pyarrow", "cli")
    names = _idx_names(array.shape)
    flat = np.ascontiguousarray(array.reshape(len(array), len(names)).T).astype(array.dtype.newbyteorder("="))
    return arrow.table(dict(zip(names, flat, strict=True)))


def _idx_names(shape: tuple[int, ...]) -> list[str]:
    return ["label"] if len(shape) == 1 else [f"pixel {number}" for number in range(math.prod(shape[1:]))]


def with_labels(samples: Any, name: str, labels: Path, target: str) -> Any:
    """Samples with their labels, which IDX has in a file of their own, as one more column.

    Parameters
    ----------
    samples : pyarrow.Table
    name : str
        Of what they were read from, for errors.
    labels : Path
    target : str
        Name of the new column.

    Returns
    -------
    pyarrow.Table

    Raises
    ------
    TableError
        Where the file is not IDX, has no labels, or not one for each sample.
    """
    values = read_idx(labels)
    if values.size != len(values):
        raise TableError(f"{labels} has no labels: its rows are of {values.size // len(values)} numbers each.")
    if len(values) != samples.num_rows:
        raise TableError(f"{labels} has {len(values)} labels, but {name} has {samples.num_rows} rows.")
    if target in samples.schema.names:
        raise TableError(f"{name} has a column {target!r} itself, beside which there is no place for {labels}.")
    return samples.append_column(target, _idx_table(values.reshape(-1)).column(0))
