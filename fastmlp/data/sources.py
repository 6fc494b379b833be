"""Where rows come from that need not fit into memory: ``.npy`` files and blocks that a person makes; see also ``tables``.

A source has blocks, which may be read in any order, and each of them is read in pieces, one after the other. Who trains on it
(:class:`fastmlp.data.stream.Stream`) decides on the order; a source draws no random numbers and keeps no rows.
"""

from __future__ import annotations

import math
import operator
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from decimal import Decimal
from functools import cached_property, partial
from numbers import Real
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex

import numpy as np

from fastmlp.data.errors import TableError
from fastmlp.files import no_file
from fastmlp.frames import array_of_frame, dtype_of_frame, has_names, in_order_of, is_frame, names_of_frame
from fastmlp.validation import refuse_masked

if TYPE_CHECKING:
    from fastmlp.data.preparation import Preparation

Array = np.ndarray[Any, np.dtype[Any]]

BLOCK_BYTES = 1 << 19
"""Of a file's rows, so many are read at a time: enough for a disk, and little enough to be in the cache when they are checked."""

is_awaited: ContextVar[Callable[[], bool]] = ContextVar("is_awaited", default=lambda: True)
"""Whether somebody has nothing to do but to wait for what this thread reads: then other processors may help to read it. A thread
that reads ahead says when that is so."""


class Piece(NamedTuple):
    """Rows that were read together.

    Parameters
    ----------
    x : array_like (rows, features)
    y : array_like (rows,) or (rows, outputs)
        Targets; labels, as int64, where the source has classes.
    weight : array_like (rows,) or None
    where : str
        For messages: the block and the file.
    block, first : int
        Number of the block, and of the first of these rows in it.
    """

    x: Any
    y: Any
    weight: Any
    where: str
    block: int
    first: int


class Source(ABC):
    """Rows with targets, in blocks.

    Parameters
    ----------
    classes : sequence, optional
        What the labels 0, 1, ... stand for; found in one pass where the target is of classes and nobody says it.

    Attributes
    ----------
    n_blocks : int
        They are read in a random order; a source that can only be read from its beginning has one.
    mixed_blocks : int
        So many of them are read in turn, piece by piece, so that neighbours in a file come apart where a block is large.
    n_features : int
    dtype : numpy.dtype
        Of the features.
    preparation : fastmlp.data.preparation.Preparation or None
        How columns of a table have become features; None where they are as they were.
    feature_names : list of str or None
        Of the columns that are features as they are, where they have names.
    """

    mixed_blocks = 8
    preparation: Preparation | None = None
    feature_names: list[str] | None = None
    n_blocks: int
    n_features: int
    dtype: np.dtype[Any]

    def __init__(self, classes: Sequence[Any] | None = None) -> None:
        self._given_classes = None if classes is None else _check_classes(classes)

    @property
    @abstractmethod
    def rows(self) -> int:
        """In all; where no file says it, they are counted in one pass."""

    def use_buffer(self, buffer_bytes: int) -> None:  # noqa: B027  # most read the same at a time
        """Whoever reads has so much memory for rows: how many are read at a time may depend on it, but not which."""

    @abstractmethod
    def pieces(self, block: int) -> Iterator[Piece]:
        """Read a block. A piece is there until the next one of any block is read: its memory may be used again.

        Parameters
        ----------
        block : int
            From 0 to ``n_blocks`` - 1.

        Yields
        ------
        Piece

        Raises
        ------
        TableError
            For what is not as it has to be; the message names the file or the block.
        """

    @abstractmethod
    def _raw_targets(self) -> Iterator[Array]:
        """Targets as they are, all of them, block by block."""

    @cached_property
    def classes(self) -> Array | None:
        """What the labels 0, 1, ... stand for: the given ones, or those that one pass finds; None where targets are numbers."""
        if self._given_classes is not None:
            return self._given_classes
        first = next(self._raw_targets(), None)
        return self.distinct_targets() if first is not None and first.dtype.kind in "bUSOT" else None

    def distinct_targets(self) -> Array:
        """All values of the target, in order; found in one pass.

        Returns
        -------
        ndarray (n_values,)

        Raises
        ------
        TableError
            Where there are no rows.
        """
        found: Array | None = None
        for targets in self._raw_targets():
            new = np.unique(_as_text(targets))
            found = new if found is None else np.unique(np.concatenate([found, new]))
        if found is None:
            raise TableError(f"{self!r} has no rows.")
        return found

    def _labels(self, y: Array, where: str) -> Array:
        """Targets as labels, where there are classes."""
        return y if self.classes is None else labels_of(y, self.classes, where)


def first_piece(source: Source) -> Piece:
    """Some rows, from the first block that has any."""
    for block in range(source.n_blocks):
        for piece in source.pieces(block):
            if len(piece.x):
                return piece
    raise TableError(f"{source!r} has no rows.")


def _check_classes(classes: Sequence[Any]) -> Array:
    try:
        array = _of_one_kind(classes, "classes")
    except TableError:
        array = np.empty(0)
    if array.ndim != 1 or len(np.unique(array)) != len(array) or len(array) < 2:
        raise ValueError(f"classes must be two or more different values, all text or all numbers, got {classes!r}.")
    return array


def _of_one_kind(given: Any, where: str) -> Array:
    """Targets of some rows; of objects, as the column of a table may have them, the text or the numbers that they are.

    Raises
    ------
    TableError
        For a row without a target, which as text would be a class like any other, and for text among numbers.
    """
    y = np.asarray(given)
    if y.dtype.kind == "U" and isinstance(given, list | tuple):
        y = np.array(given, object)  # before nan beside text has become text
    if y.dtype.kind not in "OT":
        return y
    values = y.ravel().tolist()
    of_text = isinstance(next((value for value in values if not _is_missing(value)), None), str)
    kinds = str if of_text else (Real, Decimal, np.bool_)
    wrong = next((place for place, value in enumerate(values) if _is_missing(value) or not isinstance(value, kinds)), None)
    if wrong is not None:
        row, value = wrong // (y.size // len(np.atleast_1d(y))), values[wrong]
        if _is_missing(value):
            raise TableError(f"{where}: row {row} has no target, but {value!r}; remove such rows.")
        raise TableError(f"{where}: the target is {value!r} in row {row}; targets must be all text or all numbers.")
    if of_text:
        return _as_text(y)
    numbers = np.array(values)
    return (numbers if numbers.dtype.kind in "biuf" else numbers.astype(np.float64)).reshape(y.shape)


def _is_missing(value: Any) -> bool:
    """Whether this stands for no value: None, not a number, and what pandas has for it."""
    is_nan = isinstance(value, float | np.floating | Decimal) and math.isnan(value)
    return value is None or is_nan or type(value).__name__ in ("NAType", "NaTType")


def _as_text(values: Array) -> Array:
    """Objects are taken for strings; those of NumPy's StringDType become objects first, for it casts to no other text."""
    return values.astype(object, copy=False).astype(str) if values.dtype.kind in "OT" else values


def labels_of(y: Array, classes: Array, where: str) -> Array:
    """The place of each target among the classes, int64.

    Raises
    ------
    TableError
        For a target that is none of them, and for several targets in a row.
    """
    y, classes = _as_text(y), _as_text(classes)
    if y.size != len(y):
        raise TableError(
            f"{where}: the targets of a source must be one class for each row, got the shape {y.shape}; for several give arrays."
        )
    y = y.reshape(-1)
    if (y.dtype.kind in "US") != (classes.dtype.kind in "US"):
        raise TableError(f"{where}: the targets are of dtype {y.dtype}, but the classes are {classes[:5].tolist()}.")
    order = np.argsort(classes)
    places = np.minimum(np.searchsorted(classes, y, sorter=order), len(classes) - 1)
    labels = order[places].astype(np.int64)
    unknown = classes[labels] != y
    if unknown.any():
        row = int(unknown.argmax())
        raise TableError(f"{where}: the target is {y[row]!s} in row {row}, which is none of the {len(classes)} classes.")
    return labels


# --- .npy -------------------------------------------------------------------------------------------------------------------


class Memory(threading.local):
    """A piece of memory for each thread, used again and again: to get a new one takes longer, page by page, than to fill it."""

    _bytes: Array = np.empty(0, np.uint8)

    def __reduce__(self) -> tuple[type[Memory], tuple[()]]:
        return Memory, ()  # a copy has its own

    def take(self, n_bytes: int) -> Array:
        """So many bytes, as uint8; the thread has them until it takes the next ones."""
        if len(self._bytes) < n_bytes:
            self._bytes = np.empty(n_bytes, np.uint8)
        return self._bytes[:n_bytes]


class BytesReader:
    """Reads parts of files into memory of our own: mapped pages would count as the process's."""

    def __init__(self) -> None:
        self._memory = Memory()

    def read(self, path: Path, start: int, count: int) -> Array:
        """Bytes start .. start + count of a file, or as many as there are, as uint8; they stay until the thread's next call."""
        there = self._memory.take(count)
        done = 0
        with path.open("rb", buffering=0) as file:
            file.seek(start)
            while done < count and (more := file.readinto(there[done:].data)):  # the system may give less than is asked for
                done += more
        return there[:done]


class NpyFile:
    """The array in a ``.npy`` file, read range by range.

    Parameters
    ----------
    path : path-like
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise TableError(no_file(path))
        with self.path.open("rb") as file:
            if file.read(6) != b"\x93NUMPY":
                raise TableError(f"{path} is not a .npy file; fastmlp.data.from_files reads CSV and Parquet.")
        try:
            mapped = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise TableError(f"{path} is not a usable .npy file: {str(error).rstrip('.')}.") from None
        if not isinstance(mapped, np.memmap) or mapped.ndim == 0 or mapped.dtype.hasobject:
            raise TableError(f"{path} is not a .npy file with an array of rows.")
        if not mapped.flags.c_contiguous:
            raise TableError(f"{path} is in Fortran order, column by column; write it with np.ascontiguousarray.")
        self.shape, self.dtype, self._offset = mapped.shape, mapped.dtype, mapped.offset
        self.row_bytes = self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))
        self._reader = BytesReader()

    def read(self, start: int, stop: int) -> Array:
        """Rows start .. stop; they are there until the same thread reads the next ones."""
        count = (stop - start) * self.row_bytes
        read = self._reader.read(self.path, self._offset + start * self.row_bytes, count)
        if len(read) < count:
            raise TableError(f"{self.path} ends before row {stop}; it has become shorter.")
        return read.view(self.dtype).reshape(stop - start, *self.shape[1:])


class NpySource(Source):
    """Rows of ``.npy`` files; made by :func:`from_npy`."""

    def __init__(
        self, x: NpyFile, y: NpyFile | None, weight: NpyFile | None, target: str | int | None, classes: Sequence[Any] | None
    ) -> None:
        super().__init__(classes)
        self._x, self._y, self._weight = x, y, weight
        for other in (y, weight):
            if other is not None and other.shape[0] != x.shape[0]:
                raise TableError(f"{other.path} has {other.shape[0]} rows, but {x.path} has {x.shape[0]}; each sample needs one.")
        self._take = _columns_of(x, target)
        self.n_features, self.dtype = self._take.n_features, self._take.dtype
        self._block_rows = max(1, BLOCK_BYTES // max(x.row_bytes, 1))
        self.n_blocks = -(-self.rows // self._block_rows)

    def __repr__(self) -> str:
        return f"from_npy({str(self._x.path)!r})"

    @property
    def rows(self) -> int:
        """From the file's header."""
        return int(self._x.shape[0])

    def _range(self, block: int) -> tuple[int, int]:
        return block * self._block_rows, min((block + 1) * self._block_rows, self.rows)

    def pieces(self, block: int) -> Iterator[Piece]:
        """A block is a range of rows, in one piece."""
        start, stop = self._range(block)
        where = f"{self._x.path}, rows {start} to {stop - 1}"
        rows = self._x.read(start, stop)
        y = self._take.target(rows) if self._y is None else self._y.read(start, stop)
        weight = None if self._weight is None else self._weight.read(start, stop)
        yield Piece(self._take.features(rows), self._labels(y, where), weight, where, block, 0)

    def _raw_targets(self) -> Iterator[Array]:
        for block in range(self.n_blocks):
            start, stop = self._range(block)
            yield self._take.target(self._x.read(start, stop)) if self._y is None else self._y.read(start, stop)


class _Columns(NamedTuple):
    """How the rows of an array become features and targets."""

    n_features: int
    dtype: np.dtype[Any]
    features: Callable[[Array], Array]
    target: Callable[[Array], Array]


def _columns_of(x: NpyFile, target: str | int | None) -> _Columns:
    names = x.dtype.names
    if names is None:
        if len(x.shape) != 2:
            raise TableError(f"{x.path} must have the shape (n, features), got {x.shape}.")
        if target is None:
            return _Columns(x.shape[1], x.dtype, _all_columns, _all_columns)
        place = _place(target, x.shape[1], x.path)
        others = [column for column in range(x.shape[1]) if column != place]
        return _Columns(len(others), x.dtype, partial(_some_columns, others), partial(_some_columns, place))
    if len(x.shape) != 1:
        raise TableError(f"{x.path} must have one dimension of records, got {x.shape}.")
    chosen = None
    if isinstance(target, str):
        if target not in names:
            from fastmlp.data.preparation import missing_column

            raise TableError(f"{x.path}: {missing_column(target, names)}")
        chosen = target
    elif target is not None:
        chosen = names[_place(target, len(names), x.path)]
    kept = [name for name in names if name != chosen]
    kinds = [x.dtype[name].base for name in kept]
    if not kept or any(kind.kind not in "biuf" for kind in kinds):
        raise TableError(f"{x.path}: the fields {kept} must be of numbers, got {x.dtype}.")
    dtype = np.result_type(*kinds)
    width = sum(int(np.prod(x.dtype[name].shape, dtype=np.int64)) for name in kept)
    return _Columns(width, dtype, partial(_joined_fields, kept, width, dtype), itemgetter(chosen))


# Functions with names, so that a source can be sent to another process.


def _all_columns(rows: Array) -> Array:
    return rows


def _some_columns(which: int | list[int], rows: Array) -> Array:
    return np.asarray(rows[:, which])


def _joined_fields(names: Sequence[str], width: int, dtype: np.dtype[Any], rows: Array) -> Array:
    out, start = np.empty((len(rows), width), dtype), 0
    for name in names:
        field = rows[name].reshape(len(rows), -1)
        out[:, start : start + field.shape[1]] = field
        start += field.shape[1]
    return out


def name_or_position(target: Any) -> str | int:
    """Which column is the target.

    Raises
    ------
    TypeError
        For what is neither the name of a column nor its position.
    """
    if isinstance(target, bool) or not isinstance(target, str | SupportsIndex):
        raise TypeError(f"target must be the name of a column, or its position, got {target!r}.")
    return target if isinstance(target, str) else operator.index(target)


def _place(target: str | int, columns: int, path: Path) -> int:
    if isinstance(target, str):
        raise TableError(f"{path} has columns without names; give the position of the target, from 0 to {columns - 1}.")
    if not -columns <= target < columns:
        raise TableError(f"{path}: target must be a column from 0 to {columns - 1}, got {target}.")
    return target % columns


def from_npy(
    x: str | os.PathLike[str],
    y: str | os.PathLike[str] | None = None,
    weight: str | os.PathLike[str] | None = None,
    *,
    target: str | int | None = None,
    classes: Sequence[Any] | None = None,
) -> Source:
    """Rows of ``.npy`` files of any length.

    Parameters
    ----------
    x : path-like
        Samples, (n, features); or, with ``target``, also the targets: then of records (a structured dtype) or of columns.
    y : path-like, optional
        Targets, (n,) or (n, outputs).
    weight : path-like, optional
        Sample weights (n,).
    target : str or int, optional
        Name of the field, or position of the column or field, in the file of the samples; in the place of ``y``.
    classes : sequence, optional
        What the labels 0, 1, ... stand for. Found in one pass where targets are text or truth values.

    Returns
    -------
    Source
        For ``fit``, in the place of x.

    Raises
    ------
    TableError
        For a file that is not there or not usable, or files with different numbers of rows.
    """
    if (y is None) == (target is None):
        raise ValueError(f"from_npy needs either y, a file of targets, or target, a column of x; got y={y!r}, target={target!r}.")
    target = None if target is None else name_or_position(target)
    files = [None if path is None else NpyFile(path) for path in (x, y, weight)]
    assert files[0] is not None
    return NpySource(files[0], files[1], files[2], target, classes)


# --- blocks -----------------------------------------------------------------------------------------------------------------


class BlockSource(Source):
    """Blocks that a person makes; made by :func:`from_blocks`."""

    n_blocks = 1  # in a fixed order

    def __init__(self, blocks: Any, rows: int | None, classes: Sequence[Any] | None) -> None:
        super().__init__(classes)
        if isinstance(blocks, Iterator) or not (callable(blocks) or isinstance(blocks, Iterable)):
            raise TypeError(
                f"Blocks are gone through several times, which a {type(blocks).__name__} does not allow; give a list of (X, y), an "
                "object whose __iter__ begins anew, or a function that returns a new iterator."
            )
        self._blocks = blocks
        self._rows = rows
        first = next(self._checked(), None)
        if first is None:
            raise TableError("There are no blocks with rows: the first pass over them ended without any.")
        x = first[0]
        self.n_features = int(x.shape[1])
        self.dtype = np.dtype(getattr(x, "dtype", np.float64))

    def __repr__(self) -> str:
        return "from_blocks(...)"

    def _checked(self) -> Iterator[tuple[Any, Any, Any]]:
        """The blocks that have rows, each with three members; of tables, with the columns of the first one."""
        names: list[str] | None = None
        blocks = self._blocks() if callable(self._blocks) else self._blocks
        if not isinstance(blocks, Iterable):
            raise TypeError(f"The function that makes the blocks must return an iterator of them, got {_kind(blocks)}.")
        for number, block in enumerate(blocks):
            if not isinstance(block, tuple | list) or len(block) not in (2, 3):
                raise TableError(f"block {number} must be (X, y) or (X, y, weight), got {_kind(block)}.")
            given, y, weight = block if len(block) == 3 else (*block, None)
            try:
                refuse_masked(given, f"block {number}: X")
                refuse_masked(y, f"block {number}: y")
            except ValueError as error:
                raise TableError(str(error)) from None
            if is_frame(given):
                names = names or names_of_frame(given)
                self.feature_names = names if has_names(given) else None
                given = _with_columns(given, names, f"block {number}")
            try:
                x = _dense(given)
            except (ValueError, TypeError) as error:  # of rows of several lengths, and of columns that are no numbers
                raise TableError(f"block {number}: {error}") from None
            if x.shape[:1] == (0,):
                continue  # its targets are of any type, such as those of an empty list
            if x.ndim != 2:
                advice = {
                    0: "if these are rows of samples and no blocks, y is missing",
                    1: "single samples go in as two lists: fit([x for x, y in samples], [y for x, y in samples], ...)",
                }.get(x.ndim, "make rows of them: X.reshape(len(X), -1)")
                raise TableError(f"block {number} must hold rows of samples, got X of the shape {x.shape}; {advice}.")
            yield x, np.atleast_1d(_of_one_kind(y, f"block {number}")), weight  # of a single row it may be a number

    @cached_property
    def rows(self) -> int:
        """Counted in one pass, unless it was given."""
        return self._rows if self._rows is not None else sum(len(x) for x, _, _ in self._checked())

    def pieces(self, block: int) -> Iterator[Piece]:
        """All blocks in their order."""
        first = 0
        for number, (x, y, weight) in enumerate(self._checked()):
            yield Piece(x, self._labels(y, f"block {number}"), weight, f"block {number}", 0, first)
            first += len(x)

    def _raw_targets(self) -> Iterator[Array]:
        return (y for _, y, _ in self._checked())


def _kind(block: Any) -> str:
    return f"{len(block)} members" if isinstance(block, tuple | list) else type(block).__name__


def _with_columns(frame: Any, names: list[str], where: str) -> Any:
    """A table with these columns, in this order.

    Raises
    ------
    TableError
        Where it has others.
    """
    own = names_of_frame(frame)
    if own == names:
        return frame
    if sorted(own) != sorted(names):
        odd = next(name for name in (*names, *own) if own.count(name) != names.count(name))
        raise TableError(f"{where} has the columns {', '.join(own)}, and others before had {', '.join(names)}: {odd!r} differs.")
    if len(set(own)) < len(own):
        raise TableError(f"{where} has columns of one name in another order than the blocks before; give each a name of its own.")
    return in_order_of(frame, names)


def _dense(x: Any) -> Any:
    """An array of a block's samples, whatever they came as."""
    if is_frame(x):
        return array_of_frame(x, "x", dtype_of_frame(x))
    return x.toarray() if hasattr(x, "toarray") else np.asarray(x)


def from_blocks(
    blocks: Iterable[Any] | Callable[[], Iterator[Any]], *, rows: int | None = None, classes: Sequence[Any] | None = None
) -> Source:
    """Blocks (X, y) or (X, y, weight) of any size, in a fixed order.

    Parameters
    ----------
    blocks : iterable, or callable that returns an iterator
        One that begins anew each time, with the same rows; ``fit`` takes it without this function, too. X is an array, a table or
        a sparse matrix, which becomes an array.
    rows : int, optional
        In all blocks together; counted in one pass unless given.
    classes : sequence, optional
        As for :func:`from_npy`.

    Returns
    -------
    Source

    Raises
    ------
    TypeError
        For an iterator, which can be gone through only once.
    """
    if rows is not None and (isinstance(rows, bool) or not isinstance(rows, SupportsIndex) or operator.index(rows) < 1):
        raise ValueError(f"rows must be a whole number of at least 1, or None to count them, got {rows!r}.")
    return BlockSource(blocks, None if rows is None else operator.index(rows), classes)


def as_source(given: Any, argument: str) -> Source | None:
    """What ``fit`` was given in the place of samples and targets, if it is a source; None for an array or a table."""
    if isinstance(given, Source):
        return given
    if isinstance(given, str | os.PathLike):
        raise TypeError(
            f"{argument} must be rows or a source of them, got the name of a file: give "
            f"fastmlp.data.from_files({os.fspath(given)!r}, ...)."
        )
    if isinstance(given, np.ndarray) or is_frame(given) or hasattr(given, "toarray"):
        return None
    return from_blocks(given) if callable(given) or isinstance(given, Iterable) else None
