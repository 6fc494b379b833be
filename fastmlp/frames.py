"""Tables of pandas, polars and pyarrow as arrays of numbers, column by column; none of the three is imported here."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fastmlp.kernels.plan import TRANSPOSE

Array = np.ndarray[Any, np.dtype[Any]]

_LIBRARIES = ("pandas", "polars", "pyarrow")
_NUMBERS = ("int", "uint", "float", "double", "halffloat")
"""How the names of Arrow's types of numbers begin."""
_PART_BYTES, _PART_ROWS = 1 << 20, 1 << 12
"""So much becomes rows at a time: it stays in a cache until then."""
_FEW, _KERNEL_COLUMNS = 1 << 12, range(TRANSPOSE, 4097)
"""Up to so many numbers, a kernel is not worth its call; for fewer columns there is none, for more it needs much memory."""


def library_of(given: Any) -> str | None:
    """Which of the three something comes from."""
    name = type(given).__module__.partition(".")[0]
    return name if name in _LIBRARIES else None


def is_frame(given: Any) -> bool:
    """Whether this is a table with columns that have names."""
    return library_of(given) is not None and hasattr(given, "columns") and len(getattr(given, "shape", ())) == 2


def dtype_of_frame(frame: Any) -> np.dtype[Any]:
    """What scikit-learn makes of a table: float32 where the columns of one of pandas need no more, else float64."""
    kinds = list(frame.dtypes) if library_of(frame) == "pandas" else []
    is_plain = all(isinstance(kind, np.dtype) and kind.kind in "biuf" for kind in kinds)
    return np.dtype(np.float32 if kinds and is_plain and np.result_type(*kinds) == np.float32 else np.float64)


def array_of_frame(frame: Any, argument: str, dtype: np.dtype[Any]) -> Array:
    """All columns, (rows, columns) and C-contiguous; nan where there is no value.

    Raises
    ------
    TypeError
        For a column of anything but numbers and truth values.
    """
    if frame.shape[0] <= _PART_ROWS and _is_of_one_float(frame):
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(frame.to_tensor(null_to_nan=True).to_numpy(), dtype)
    return Columns(frame, argument, dtype).rows(np.empty(frame.shape, dtype))


def _is_of_one_float(frame: Any) -> bool:
    """Whether Arrow can make an array of it in one go, which is sooner than column after column where these are short."""
    if not hasattr(frame, "to_tensor"):
        return False
    kinds = set(frame.schema.types)
    return len(kinds) == 1 and str(kinds.pop()) in ("float", "double")


class Columns:
    """The columns of a table, for making rows of them, all or some at a time.

    A column that has to be converted first is so part by part: a copy of it would be as large as the table.

    Parameters
    ----------
    frame : table of pandas, polars or pyarrow
    argument : str
        What messages call it.
    dtype : numpy.dtype
        Of the rows.

    Raises
    ------
    TypeError
        For a column of anything but numbers and truth values.
    """

    def __init__(self, frame: Any, argument: str, dtype: np.dtype[Any]) -> None:
        self._dtype, self._n_rows = dtype, int(frame.shape[0])
        self._columns: list[tuple[Any, str]] = []  # arrays, and what will be converted
        for name, column in _columns(frame):
            what = f"{argument}: column {name!r}"
            is_array = _is_array(column)
            numbers = numbers_of_column(column if is_array else _part_of(column, 0, 0), what, dtype)  # or an error
            self._columns.append((numbers if is_array else column, what))
        self._are_ready = all(_is_ready(column, dtype) for column, _ in self._columns)
        self._addresses = self._run = np.empty(0)

    def _part(self, column: Any, what: str, start: int, stop: int) -> Array:
        if isinstance(column, np.ndarray):
            return column[start:stop]
        return numbers_of_column(_part_of(column, start, stop), what, self._dtype)

    def rows(self, out: Array, first: int = 0) -> Array:
        """Write rows ``first`` and on into ``out`` (rows, columns), C-contiguous; returns it."""
        if len(out) and not 0 <= first <= self._n_rows - len(out):  # a kernel does not look
            raise IndexError(f"There are {self._n_rows} rows, but {first} to {first + len(out) - 1} were asked for.")
        uses_kernel = len(self._columns) in _KERNEL_COLUMNS and out.size > _FEW and _has_compiler()
        if uses_kernel and self._are_ready:
            if not len(self._addresses):
                self._addresses = _addresses([column for column, _ in self._columns])
            self._transpose(self._addresses, first, out)
            return out
        most = _PART_BYTES // (out.itemsize * max(1, len(self._columns)))
        most = max(most, 1 if uses_kernel else _PART_ROWS)  # of long rows, a line of the cache is all that is touched of each
        with np.errstate(over="ignore", under="ignore"):  # what overflows is found and reported as infinity
            for start in range(0, len(out), most):
                rows = out[start : start + most]
                begin, end = first + start, first + start + len(rows)
                parts = (self._part(*column, begin, end) for column in self._columns)
                if uses_kernel:
                    ready = [np.require(part, self._dtype, ("C", "A")) for part in parts]
                    self._transpose(_addresses(ready), 0, rows)
                else:
                    for place, part in enumerate(parts):
                        rows[:, place] = part
        return out

    def _transpose(self, addresses: Array, first: int, rows: Array) -> None:
        from fastmlp.kernels.columns import COLUMN_RUN, rows_of_columns

        if not len(self._run):
            self._run = np.empty(len(addresses) * COLUMN_RUN, rows.dtype)
        rows_of_columns(addresses, first, self._run, rows.reshape(-1))


def _is_ready(column: Any, dtype: np.dtype[Any]) -> bool:
    """Whether a kernel can take the numbers of a column from where they are."""
    is_array = isinstance(column, np.ndarray) and column.dtype == dtype
    return bool(is_array and column.flags.c_contiguous and column.flags.aligned)


def _addresses(columns: list[Array]) -> Array:
    return np.array([column.__array_interface__["data"][0] for column in columns], np.int64)


def _has_compiler() -> bool:
    """Whether numba has been imported: not for the sake of a table, and it may be switched off."""
    numba = sys.modules.get("numba")
    return numba is not None and not numba.config.DISABLE_JIT


def _is_array(column: Any) -> bool:
    """Whether a column's numbers lie in memory as an array has them."""
    library = library_of(column)
    if library == "polars":
        return bool(column.n_chunks() == 1 and column.dtype.is_numeric() and not column.null_count())
    if library == "pyarrow":
        is_one = not hasattr(column, "chunks") or column.num_chunks == 1
        return is_one and str(column.type).startswith(_NUMBERS) and not column.null_count
    return isinstance(column.dtype, np.dtype)


def _part_of(column: Any, start: int, stop: int) -> Any:
    return column.iloc[start:stop] if hasattr(column, "iloc") else column.slice(start, stop - start)


def numbers_of_column(column: Any, what: str, dtype: np.dtype[Any]) -> Array:
    """Numbers (rows,) of a column of any of the three; nan where there is no value."""
    values = {"pandas": _of_pandas, "polars": _of_polars, "pyarrow": _of_pyarrow}[library_of(column) or "pandas"](column, dtype)
    if values is None:
        kind = getattr(column, "dtype", None) or getattr(column, "type", None)
        raise TypeError(
            f"{what} must hold numbers, got {kind}; encode it first, or let fastmlp.data.from_files(...).prepared() do it."
        )
    return values


def names_of_frame(frame: Any) -> list[str]:
    """Names of a table's columns."""
    return [str(name) for name in (frame.schema.names if library_of(frame) == "pyarrow" else frame.columns)]


def has_names(frame: Any) -> bool:
    """Whether all columns have names that are text: others do not count as names of features, as in scikit-learn."""
    return library_of(frame) != "pandas" or all(isinstance(name, str) for name in frame.columns)


def in_order_of(frame: Any, names: Sequence[str]) -> Any:
    """A table with its columns, which have these names, in their order."""
    if library_of(frame) == "pandas":
        places = {name: place for place, name in reversed([*enumerate(names_of_frame(frame))])}
        return frame.iloc[:, [places[name] for name in names]]
    return frame.select(list(names))


def _columns(frame: Any) -> Iterator[tuple[str, Any]]:
    if library_of(frame) == "pandas":
        return ((str(name), frame.iloc[:, place]) for place, name in enumerate(frame.columns))
    if library_of(frame) == "polars":
        return zip(frame.columns, frame.get_columns(), strict=True)
    return zip(frame.schema.names, frame.columns, strict=True)


def _of_pandas(column: Any, dtype: np.dtype[Any]) -> Array | None:
    if getattr(column.dtype, "kind", "O") not in "biuf":
        return None
    if isinstance(column.dtype, np.dtype):
        return np.asarray(column)
    return np.asarray(column.to_numpy(dtype=dtype, na_value=np.nan))


def _of_polars(column: Any, dtype: np.dtype[Any]) -> Array | None:
    if column.dtype.is_numeric() and not column.null_count() and not str(column.dtype).endswith("128"):  # which NumPy has not
        return np.asarray(column)
    if not (column.dtype.is_numeric() or str(column.dtype) == "Boolean"):
        return None
    return np.asarray(column.cast(float).to_numpy())


def _of_pyarrow(column: Any, dtype: np.dtype[Any]) -> Array | None:
    kind = str(column.type)
    if kind == "bool":
        column = column.cast("uint8")
    elif not kind.startswith((*_NUMBERS, "decimal")):
        return None
    if kind.startswith("decimal"):
        column = column.cast("float64")
    return array_of_arrow(column)


# Arrow's own conversions from and to NumPy import pandas where it is installed, which takes longer than many a training.


def array_of_arrow(column: Any) -> Array:
    """The values of a column of Arrow's; of numbers, nan where there is none."""
    if hasattr(column, "chunks"):
        parts = [array_of_arrow(chunk) for chunk in column.chunks]
        return parts[0] if len(parts) == 1 else np.concatenate(parts or [np.asarray(column.to_numpy())])
    kind = str(column.type)
    if kind == "bool" and not column.null_count:
        return array_of_arrow(column.cast("uint8")).view(bool)
    if not kind.startswith(_NUMBERS):
        return np.asarray(column.to_numpy(zero_copy_only=False))
    if not column.null_count:
        return np.asarray(np.from_dlpack(column))
    whole = type(column).from_buffers(column.type, len(column), [None, column.buffers()[1]], offset=column.offset)
    values, there = np.asarray(np.from_dlpack(whole)), array_of_arrow(column.is_valid())
    return np.where(there, values, np.array(np.nan, values.dtype if values.dtype.kind == "f" else np.float64))


def arrow_of_array(arrow: Any, array: Array) -> Any:
    """An array of Arrow's; ``arrow`` is the module pyarrow, ``array`` of int64 or bool."""
    kind, content = (arrow.bool_(), np.packbits(array, bitorder="little")) if array.dtype == bool else (arrow.int64(), array)
    return arrow.Array.from_buffers(kind, len(array), [None, arrow.py_buffer(content)])


def arrow_of_texts(arrow: Any, texts: Sequence[str]) -> Any:
    """The same of some texts."""
    encoded = [text.encode() for text in texts]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    return arrow.Array.from_buffers(arrow.string(), len(texts), [None, arrow.py_buffer(ends), arrow.py_buffer(b"".join(encoded))])


def arrow_of_frame(frame: Any) -> Any:
    """A table of pandas or polars as one of pyarrow, which stays what it is.

    Raises
    ------
    TypeError
        For anything else.
    """
    library = library_of(frame)
    if library == "pyarrow" and hasattr(frame, "schema"):
        return frame
    if library == "polars" and hasattr(frame, "to_arrow"):
        return frame.to_arrow()
    if library == "pandas" and is_frame(frame):
        import pyarrow

        try:
            return pyarrow.Table.from_pandas(frame, preserve_index=False)
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
            why, where = str(error.args[0]), str(error.args[-1]).replace("Conversion failed for ", "")
            raise TypeError(f"The {where} cannot be read ({why}); make its values alike, as by astype(str).") from None
    raise TypeError(f"Rows must be a table of pandas, polars or pyarrow, with columns that have names; got {type(frame).__name__}.")
