"""How a CSV file is written: its separator, decimal point, names of columns and lines before them, guessed from its beginning."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fastmlp.data.errors import TableError, check_names, naming
from fastmlp.data.opening import head_of, is_csv, opened, undamaged

MISSING = [
    "", "?", "NA", "N/A", "n/a", "NaN", "nan", "-NaN", "-nan", "<NA>", "NaT", "NULL", "null", "None", "-",
    "#N/A", "#NA", "#N/A N/A", "#DIV/0!", "#VALUE!", "#REF!", "#NUM!", "#NAME?", "#NULL!",
]  # fmt: skip
"""What stands for a value that is not there, as programs write it; the last ones are a spreadsheet's."""
UNNAMED = "column {}"
"""Names of the columns of a file that has none."""

_DELIMITERS = ",;\t|"
_TITLE_LINES = 20
"""Of a table's beginning, that are looked at for titles before it."""
_RARE_DELIMITERS = "^ :"
"""Where there is none of the others, and as many of one of these in each line; times have colons, too, but spaces around them."""
_COMPRESSED = {b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstandard"}
"""What other files begin with."""
_EXPONENT = r"(?:[eE][+-]?\d+)?"
"""What may follow the digits of a number."""
_HEXADECIMAL = re.compile(r"\s*0[xX][\da-fA-F]+\s*")

csv.field_size_limit(max(csv.field_size_limit(), 2**31 - 1))  # texts may be long; more than this is too much for Windows


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
    cells = first_row(path, Form(delimiter, None, decimal, skip))  # not of the lines: the first one may be cut off
    has_known = bool(given.known) and set(given.known) <= {cell.strip() for cell in cells}
    has_numbers = any(is_number_text(cell.replace(decimal, ".")) for cell in cells)
    has_header = (has_known or not has_numbers) if given.header is None else given.header
    if not has_header:
        return Form(delimiter, [UNNAMED.format(number) for number in range(1, len(cells) + 1)], decimal, skip)
    check_names(path, [cell.strip() for cell in cells])
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
    head = head_of(path)
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
        bare = [re.sub(rf"(?<![^;\t|])( *[+-]?\d*),(\d+{_EXPONENT} *)(?![^;\t|])", r"\1.\2", line) for line in bare]
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
    return any(re.fullmatch(rf"{thousands}[+-]?\d+,\d+{_EXPONENT}", cell) for cell in cells) and not any(
        re.fullmatch(rf"(?![+-]?[1-9]\d{{0,2}}(\.\d{{3}})+$)[+-]?\d+\.\d+{_EXPONENT}", cell) for cell in cells
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
    return header_in(path, form) if form.names is None else None


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
    some = min(_SOME_ROWS, max(10, _SOME_CELLS // max(1, len(form.names or first_row(path, form)))))
    rows = [row for _, row in itertools.islice(numbered_rows(path, form), some)]
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


def header_in(path: Path, form: Form) -> list[str]:
    """Names of columns, without the white space around them."""
    return [name.strip() for name in first_row(path, form)]


def first_row(path: Path, form: Form) -> list[str]:
    """Cells of the first row that is not empty: names of columns, if there are any."""
    with lines_of(path, form) as file:
        return next((cells for cells in csv.reader(file, delimiter=form.delimiter) if cells), [])


def hexadecimal_columns(path: Path, form: Form, names: Sequence[str]) -> list[str]:
    """Columns with values such as 0x1A at the file's beginning: Arrow takes them for whole numbers, but knows no others like it."""
    if not re.search(rb"0[xX][\da-fA-F]", head_of(path)):
        return []
    rows = itertools.islice(numbered_rows(path, form), 0 if form.names else 1, _SOME_ROWS)
    cells = itertools.zip_longest(*(row for _, row in rows), fillvalue="")
    return [name for name, some in zip(names, cells, strict=False) if any(map(_HEXADECIMAL.fullmatch, some))]


def numbered_rows(path: Path, form: Form) -> Iterator[tuple[int, list[str]]]:
    """All rows of a CSV file, that of names among them, each with the number of the line where it ends."""
    with lines_of(path, form) as file:
        reader = csv.reader(file, delimiter=form.delimiter)
        for row in reader:
            if row:
                yield form.skip + reader.line_num, row


@contextmanager
def lines_of(path: Path, form: Form) -> Iterator[io.TextIOWrapper]:
    """The text of a table, compressed or not."""
    with undamaged(path), io.TextIOWrapper(opened(path), encoding="utf-8-sig", errors="replace", newline="") as file:
        for _ in range(form.skip):
            file.readline()
        try:
            yield file
        except csv.Error as error:
            raise TableError(f"{path} cannot be read as CSV: {error}.") from None
