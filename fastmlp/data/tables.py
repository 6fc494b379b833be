"""Sources of tables: Parquet, CSV and IDX files, folders and globs of them. Needs ``pip install 'fastmlp[cli]'``."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from fastmlp.data.csv_form import GUESSED, Csv
from fastmlp.data.errors import ColumnTypeError, TableError, naming
from fastmlp.data.files import (
    READ_BYTES,
    batches_as,
    columns_of,
    folders_of,
    footer_of,
    names_of,
    parquet_error,
    read_all,
    without_views,
)
from fastmlp.data.finding import find_files
from fastmlp.data.joining import joined
from fastmlp.data.learning import learn_from_batches, mixed_truth
from fastmlp.data.opening import for_arrow, is_parquet
from fastmlp.data.partitions import columns_inside, of_all, partition_of, with_fields, with_partition
from fastmlp.data.preparation import Preparation, missing_column
from fastmlp.data.sources import Memory, Piece, Source, is_awaited, labels_of, name_or_position
from fastmlp.data.values import as_text, is_number, is_text, texts
from fastmlp.data.widths import DECODED_VALUES, LONG_BYTES, fixed_bytes, row_bytes
from fastmlp.feed import BUFFER_BYTES
from fastmlp.frames import Columns, array_of_arrow, arrow_of_array
from fastmlp.io.extras import require
from fastmlp.kernels.hashes import row_key
from fastmlp.threads import available_threads

Array = np.ndarray[Any, np.dtype[Any]]
T = TypeVar("T")

PIECE_ROWS = 8192
"""Rows of a row group that are prepared at a time: some hundred kilobytes; fewer of long rows."""
_PIECE_BYTES = 1 << 21
"""Rows whose columns are taken as they are become arrays so many bytes at a time: a cache holds them."""
_DECODED_SHARE, _SHARE_BESIDE_DICTIONARIES = 3 / 4, 1 / 4
"""Of the buffer, for what Arrow decodes at a time of all open row groups whose columns are taken as they are: more costs less of a
processor, and a row group as a whole least. Less of it where dictionaries stay in memory, which they do until a row group ends."""
_COLUMN_BYTES, _OPEN_BYTES = {False: 5 << 19, True: 17 << 18}, 256 << 20
"""What Arrow needs for a column of a row group that it is reading, about: pages, and a dictionary if there are any; less of a small
row group. So much goes to all of them..."""
_WHOLE_OPEN_BYTES = 32 << 20
"""...and so much where one row group at a time is read, as a whole: as many columns at a time as that is enough for."""
_FOOTER_BYTES = 32 << 20
"""Of footers of Parquet files, as they are in the files, that are kept: to read one takes longer than many a row group."""


class Block(NamedTuple):
    """A file, or a row group of a Parquet file."""

    path: Path
    group: int | None
    rows: int = 0
    """Of a row group."""


class _Look(NamedTuple):
    """What is seen of a file before its rows are read; of a Parquet file, its footer says it."""

    path: Path
    names: list[str]
    schema: Any = None
    """Of a Parquet file, with the columns that are in the names of its folders."""
    groups: list[Block] | None = None
    """The row groups of a Parquet file."""
    has_dictionaries: bool = False
    """Whether columns of its first row group are encoded so."""
    footer: Any = None
    """Of a Parquet file."""
    stamp: tuple[int, int] | None = None
    partition: Mapping[str, Any] = {}
    """Columns that are in the names of its folders."""

    @classmethod
    def at(cls, path: Path, csv: Csv, types: Mapping[str, str]) -> _Look:
        """Look at a file; ``types`` of its columns may be known."""
        if not is_parquet(path):
            return cls(path, names_of(path, csv))
        stamp, footer = _stamp(path), footer_of(path)
        schema = footer.schema.to_arrow_schema()
        partition = partition_of(path, columns_of(schema), types)
        schema = with_fields(schema, partition)
        groups = [footer.row_group(group) for group in range(footer.num_row_groups)]
        columns = range(groups[0].num_columns if groups else 0)
        has_dictionaries = any(groups[0].column(place).has_dictionary_page for place in columns)
        blocks = [Block(path, number, group.num_rows) for number, group in enumerate(groups)]
        return cls(path, columns_of(schema), schema, blocks, has_dictionaries, footer, stamp, partition)

    def blocks(self) -> list[Block]:
        """The file, or its row groups."""
        return [Block(self.path, None)] if self.groups is None else self.groups


class Share(NamedTuple):
    """Those rows whose hash, a number from 0 to 1 that depends on the seed and on where they stand, is in a range."""

    low: float
    high: float
    seed: int

    def mask(self, block: int, first: int, rows: int) -> Array:
        """Which of some rows of a block are in it."""
        positions = np.arange(first, first + rows, dtype=np.uint64)
        keys = row_key.py_func(np.array([self.seed], np.uint64), np.array([block], np.uint64), positions)
        hashes = (keys >> np.uint64(32)).astype(np.float64) / 2**32
        return np.asarray((hashes >= self.low) & (hashes < self.high))


class TableSource(Source):
    """Rows of tables in files; made by :func:`fastmlp.data.from_files`.

    Parameters
    ----------
    paths : sequence of pathlib.Path
        One file or more.
    target, weight, classes, categories, csv
        See :func:`fastmlp.data.from_files`.

    Attributes
    ----------
    preparation : Preparation or None
        From columns to numbers; None where all columns are numbers and taken as they are.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        target: str | int,
        weight: str | None = None,
        classes: Sequence[Any] | None = None,
        categories: Sequence[str] = (),
        csv: Csv = GUESSED,
    ) -> None:
        super().__init__(classes)
        self._categories, self._csv = list(categories), csv
        self._paths = list(paths)
        self._shares: tuple[Share, ...] = ()  # these are the rows that are in all of them
        self.preparation: Preparation | None = None
        self._types = dict.fromkeys(categories, "category")
        looks = [_Look.at(path, csv, self._types) for path in paths]
        of_text, needless = of_all([look.partition for look in looks], {target, weight, *categories})
        if of_text:
            self._types |= of_text
            looks = [_Look.at(path, csv, self._types) for path in paths]
        self._all_names = looks[0].names
        self._names = [name for name in self._all_names if name not in needless]
        self._untyped = set(self._names)  # columns that no file so far has values of
        self.target = self._names[target] if isinstance(target, int) and -len(self._names) <= target < len(self._names) else target
        self._weight, self._memory = weight, Memory()
        wanted = (self.target, weight, *categories, *self._names)
        for look in looks:
            _check_columns(look.path, [name for name in wanted if name is not None], look.names)
        self.blocks = [block for look in looks for block in look.blocks()]
        self.n_blocks = len(self.blocks)
        self._has_dictionaries = next((look.has_dictionaries for look in looks if look.groups), False)
        self._schema = self._first_schema(looks)
        self._keep_types(self._schema)
        # The numbers of other files may need more digits, and the target of the first one may have no values.
        schemas = [self._schema, *(look.schema for look in looks[1:] if look.schema is not None)]
        targets = [schema.field(self.target).type for schema in schemas]
        self._target_kind = next((kind for kind in targets if str(kind) != "null"), targets[0])
        self._features = [name for name in self._names if name not in (self.target, weight)]
        self.feature_names, self.n_features = self._features, len(self._features)
        read_as = [schema.field(name).type for schema in schemas for name in self._features]
        narrow = all(str(kind) in ("float", "halffloat", "bool", "int8", "uint8", "int16", "uint16") for kind in read_as)
        self.dtype = np.dtype(np.float32 if narrow else np.float64)
        self._n_rows: int | None = None
        self._whole: TableSource | None = None  # all rows, if these are a share of them
        self._row_bytes = fixed_bytes(self._schema.types)  # of one that has been decoded
        self._row_bytes_of: dict[tuple[int, tuple[str, ...]], int] = {}  # of some columns of a block; shared with all shares
        self._footers = _footers_to_keep(looks)
        self._whole_bytes = self._row_bytes * max(block.rows for block in self.blocks)
        open_bytes = _COLUMN_BYTES[self._has_dictionaries] * len(self._names)
        if self._whole_bytes:
            open_bytes = min(open_bytes, 2 * self._whole_bytes)
        self.mixed_blocks = min(self.mixed_blocks, max(1, _OPEN_BYTES // open_bytes))
        self.use_buffer(BUFFER_BYTES)

    def __repr__(self) -> str:
        more = f" and {len(self._paths) - 1} more" if len(self._paths) > 1 else ""
        return f"from_files({str(self._paths[0])!r}{more})"

    @property
    def row_bytes(self) -> int:
        """Of a row with all its columns in memory, about."""
        in_files = sum(path.stat().st_size for path in self._paths) // max(1, (self._whole or self).rows)
        return max(self._row_bytes, in_files, self._long(0, self._names) if self.blocks[0].group is not None else 0)

    def _first_schema(self, looks: Sequence[_Look]) -> Any:
        """The types of the first rows, as batches have them."""
        for block, (path, group, rows) in enumerate(self.blocks):
            if group is None:
                for batch in self._batches_of(block):
                    return batch.schema
            elif rows:
                schema = next(look.schema for look in looks if look.path == path)
                none = require("pyarrow", "cli").Table.from_batches([], schema).select(self._names)
                return with_texts(without_views(none), self._categories).schema
        raise _no_rows(self._paths)

    def _keep_types(self, schema: Any) -> None:
        """What columns of CSV files are read as, by the first file that has values there; shared with all shares."""
        if not self._untyped:  # as nearly always
            return
        for name, kind in ((one.name, one.type) for one in schema if one.name in self._untyped and str(one.type) != "null"):
            self._untyped.discard(name)
            if is_string(kind):
                self._types.setdefault(name, "category")
            elif is_number(kind) and name != self.target:  # whose numbers may be classes
                self._types.setdefault(name, "decimal")

    def _typed(self, batch: Any) -> Any:
        """The same record batch, after its types have been kept."""
        self._keep_types(batch.schema)
        return batch

    def _settled(self, look: Callable[[], T]) -> T:
        """What a pass over all rows gives; a new one where a column of a CSV file has other values than at its beginning.

        Passes that follow read it as what it is.
        """
        while True:
            try:
                return look()
            except ColumnTypeError as error:
                if error.wider is None:
                    raise
                self._types[error.column] = error.wider

    # --- the same rows otherwise ----------------------------------------------------------------------------------------------

    def prepared(
        self,
        preparation: Preparation | None = None,
        *,
        rows: int | None = None,
        task: str | None = None,
        categories: str = "one_hot",
        scale: bool = True,
        shared_scale: bool = False,
    ) -> TableSource:
        """The same rows with their columns made into numbers: scaled, categories told apart, missing values imputed and flagged.

        Parameters
        ----------
        preparation : Preparation, optional
            One that was learned before; unless given, it is learned in one pass over the rows.
        rows : int, optional
            That have a target; counted unless given.
        task : {"classification", "regression"}, optional
            Guessed from the target unless given.
        categories : {"one_hot", "ordinal"}, default "one_hot"
        scale : bool, default True
        shared_scale : bool, default False
            See :func:`fastmlp.data.learning.learn_from_batches`.

        Returns
        -------
        TableSource
            Whose ``preparation`` belongs into a :class:`fastmlp.data.model.TableModel` beside the network.
        """
        if task not in (None, "classification", "regression"):
            raise ValueError(f"task must be 'classification' or 'regression', or None to guess it, got {task!r}.")
        if categories not in ("one_hot", "ordinal"):
            raise ValueError(f"categories must be 'one_hot' or 'ordinal', got {categories!r}.")
        if shared_scale and not scale:
            raise ValueError("shared_scale=True scales numbers, and scale=False leaves them as they are; give one of the two.")
        used = self._names
        if preparation is not None:  # which may have learned of folders' names that differ between other files
            used = [name for name in self._all_names if name in self._names or name in preparation.types]
            _check_columns(self._paths[0], preparation.types, used)
        else:
            columns = [name for name in self._names if name != self._weight]
            if self._given_classes is not None and task is None:
                task = "classification"
            preparation, rows = self._settled(
                lambda: learn_from_batches(
                    (batch.select(columns) for batch in self.batches()),
                    str(self.target),
                    task=task,
                    categories=categories,
                    scale=scale,
                    shared_scale=shared_scale,
                )
            )
            preparation = self._with_given_classes(preparation)
        names = preparation.target.classes
        return self._otherwise(
            preparation=preparation,
            feature_names=None,
            n_features=preparation.width,
            dtype=np.dtype(np.float32),
            _given_classes=None if names is None else np.array(names),
            _n_rows=rows,
            _names=used,
            _untyped=set(self._untyped),
            _types=self._types | preparation.types | preparation.target.types,
        )

    def _with_given_classes(self, preparation: Preparation) -> Preparation:
        """The same with the classes that were given, which may be more than these rows have, and in another order."""
        found = preparation.target.classes
        if self._given_classes is None or found is None:
            return preparation
        given = tuple(texts(require("pyarrow", "cli").array(self._given_classes.tolist()), str(self.target)).to_pylist())
        if unknown := [name for name in found if name not in given]:
            raise TableError(f"The target {self.target!r} has the class {unknown[0]!r}, which is none of the {len(given)} given.")
        return replace(preparation, target=replace(preparation.target, classes=given))

    def share(self, low: float, high: float, seed: int) -> TableSource:
        """A random share of the rows: those whose hash, from 0 to 1, is at least ``low`` and below ``high``.

        Shares of ranges that do not overlap have no row in common, in whatever order they are read. A share of a share has rows of
        it only; give it another seed, for by the same one it is where the two ranges overlap.

        Parameters
        ----------
        low, high : float
            From 0 to 1.
        seed : int
            What hashes are made with, beside the place of the row.

        Returns
        -------
        TableSource
        """
        more = () if low <= 0 and high >= 1 else (Share(low, high, seed),)
        return self._otherwise(_shares=(*self._shares, *more), _n_rows=None, _whole=self._whole or self)

    def use_buffer(self, buffer_bytes: int) -> None:
        """See :class:`~fastmlp.data.sources.Source`."""
        self._decoded_bytes = int(buffer_bytes * _DECODED_SHARE) // self.mixed_blocks
        if self._decoded_bytes < self._whole_bytes and self._has_dictionaries:
            self._decoded_bytes = int(buffer_bytes * _SHARE_BESIDE_DICTIONARIES) // self.mixed_blocks

    def _otherwise(self, **changes: Any) -> TableSource:
        """The same files with other attributes; none of them is opened again."""
        made = copy.copy(self)
        vars(made).pop("classes", None)  # computed from the rows
        vars(made).update(changes, _memory=Memory())
        return made

    def split_batches(self, shares: Sequence[TableSource]) -> Iterator[list[Any]]:
        """Each batch of these rows as the part of it that is in each of several shares of them: all in one pass."""
        for block in range(self.n_blocks):
            first = 0
            for batch in self._batches_of(block):
                yield [share._rows_of(batch, block, first) for share in shares]
                first += batch.num_rows

    # --- reading --------------------------------------------------------------------------------------------------------------

    @property
    def rows(self) -> int:
        """From the files, where they say it and all rows are taken; else counted in one pass."""
        if self._n_rows is None:
            self._n_rows = self._count()
        return self._n_rows

    def _count(self) -> int:
        if self.preparation is not None:
            return self._settled(lambda: sum(len(y) for y in self._targets_there()))
        if not self._shares and all(block.group is not None for block in self.blocks):
            return sum(block.rows for block in self.blocks)
        return self._settled(lambda: sum(int(batch.num_rows) for batch in self.batches()))

    def _targets_there(self) -> Iterator[Array]:
        assert self.preparation is not None
        return (self.preparation.target.values(batch.column(self.target))[0] for batch in self.batches([str(self.target)]))

    def batches(self, columns: list[str] | None = None) -> Iterator[Any]:
        """Record batches of these rows, in the order of the files."""
        for block in range(self.n_blocks):
            for _, batch in self._shared_batches(block, columns):
                yield batch

    def _shared_batches(self, block: int, columns: list[str] | None = None) -> Iterator[tuple[int, Any]]:
        """Batches of a block, with the number of their first row in it."""
        first = 0
        for batch in self._batches_of(block, columns):
            rows = batch.num_rows
            batch = self._rows_of(batch, block, first)
            yield first, batch
            first += rows
            del batch

    def _rows_of(self, batch: Any, block: int, first: int) -> Any:
        """Those rows of a batch of all rows that are in each of the shares."""
        if not self._shares:
            return batch
        masks = [share.mask(block, first, batch.num_rows) for share in self._shares]
        return batch.filter(arrow_of_array(require("pyarrow", "cli"), np.logical_and.reduce(masks)))

    def _batches_of(self, block: int, columns: list[str] | None = None) -> Iterator[Any]:
        path, group, _ = self.blocks[block]
        if group is None:
            for batch in batches_as(path, self._types, self._csv):
                _check_there(path, columns or self._names, batch.schema.names)
                yield self._typed(batch)
            return
        columns = columns or self._names
        some = max(1, LONG_BYTES // self._long(block, columns))
        piece_rows = min(PIECE_ROWS, some)
        for decoded in self._decoded(block, columns, min(DECODED_VALUES // len(columns), some), piece_rows):
            for start in range(0, decoded.num_rows, piece_rows):
                yield self._typed(with_texts(without_views(decoded.slice(start, piece_rows)), self._categories))
            del decoded  # here and elsewhere: or it would stay until the next one has been decoded beside it

    def _long(self, block: int, columns: list[str]) -> int:
        """Bytes of a row of some columns of a row group; they follow from the file alone: pieces decide on the order of rows."""
        key, group = (block, tuple(columns)), self.blocks[block].group
        assert group is not None
        if key not in self._row_bytes_of:
            with self._opened(block, columns) as (file, inside, _):
                self._row_bytes_of[key] = row_bytes(file, inside, group)
        return self._row_bytes_of[key]

    @contextmanager
    def _opened(self, block: int, columns: list[str]) -> Iterator[tuple[Any, list[str], dict[str, Any]]]:
        """The file of a row group, which must be what it was when it was first looked at.

        With those of some columns that are in it, and the values of those that are in the names of its folders.
        """
        arrow, parquet = require("pyarrow", "cli"), require("pyarrow.parquet", "cli")
        path, group, rows_there = self.blocks[block]
        try:
            with (
                for_arrow(path) as readable,
                parquet.ParquetFile(readable, metadata=self._footer(path), buffer_size=READ_BYTES, pre_buffer=False) as file,
            ):
                there = columns_of(file.schema_arrow)
                partition = partition_of(path, there, self._types)
                _check_there(path, columns, [*there, *partition])
                if group >= file.num_row_groups or file.metadata.row_group(group).num_rows != rows_there:
                    raise TableError(
                        f"{path} has changed since it was first read: it must stay as it is while its rows are needed."
                    )
                partition = {name: value for name, value in partition.items() if name in columns}
                yield file, columns_inside(columns, partition, there), partition
        except (arrow.ArrowInvalid, OSError) as error:
            raise parquet_error(path, error) from None

    def _footer(self, path: Path) -> Any:
        """What is kept of a file's footer, if the file is what it was; else None."""
        footer, stamp = self._footers.get(path, (None, None))
        return footer if footer is not None and _stamp(path) == stamp else None

    def _decoded(self, block: int, columns: list[str], rows: int, piece_rows: int) -> Iterator[Any]:
        """Record batches of a row group, about so many rows at a time, in whole pieces; or all of it, if that is no more."""
        arrow = require("pyarrow", "cli")
        _, group, rows_there = self.blocks[block]
        some = max(1, _WHOLE_OPEN_BYTES // _COLUMN_BYTES[self._has_dictionaries])
        with self._opened(block, columns) as (file, inside, partition):
            complete = partial(with_partition, partition=partition, columns=columns)
            if rows < rows_there:
                rows = piece_rows * max(1, rows // piece_rows)
                batches = file.iter_batches(rows, row_groups=[group], columns=inside, use_threads=_may_share())
                yield from map(complete, batches)
                return
            parts = (inside[first : first + some] for first in range(0, len(inside), some))
            read = [file.read_row_group(group, columns=part, use_threads=_may_share()) for part in parts]
        table = arrow.table({name: part.column(name) for part in read for name in part.schema.names})
        yield from map(complete, table.to_batches())

    def pieces(self, block: int) -> Iterator[Piece]:
        """Parts of record batches as arrays."""
        takes_all = not self._shares and not self._categories
        if self.preparation is None and takes_all and self.blocks[block].group is not None:
            yield from self._pieces_of_numbers(block)
            return
        for first, batch in self._shared_batches(block, self._used()):
            if self.preparation is None:
                columns = self._columns(batch, self._where(block, first, batch.num_rows))
                yield self._plain_piece(batch, columns, 0, block, first)
                continue
            weight = None if self._weight is None else _numbers(batch.column(self._weight))
            y, there = self.preparation.target.values(batch.column(self.target))
            x = self.preparation.rows(batch)
            if not there.all():
                x, weight = x[there], None if weight is None else weight[there]
            yield Piece(x, y, weight, self._where(block, first, batch.num_rows), block, first)

    def _used(self) -> list[str]:
        """Columns that rows are made of, in the order of the files."""
        if self.preparation is None:
            return self._names
        used = {*self.preparation.types, self.target, self._weight}
        return [name for name in self._names if name in used]

    def _pieces_of_numbers(self, block: int) -> Iterator[Piece]:
        """Of columns that are taken as they are: more of them at a time, which is sooner decoded, and made into arrays once."""
        first, some = 0, max(1, _PIECE_BYTES // (self.dtype.itemsize * max(1, self.n_features)))
        rows = max(DECODED_VALUES // len(self._names), self._decoded_bytes // self._row_bytes)
        for decoded in self._decoded(block, self._names, rows, some):
            batch = without_views(decoded)
            columns = self._columns(batch, self._where(block, first, batch.num_rows))
            for start in range(0, batch.num_rows, some):
                yield self._plain_piece(batch.slice(start, some), columns, start, block, first + start)
            first += batch.num_rows
            del decoded, batch, columns

    def _plain_piece(self, batch: Any, columns: Columns, start: int, block: int, first: int) -> Piece:
        """Of the rows of a batch, whose features are in ``columns`` from row ``start`` on."""
        where = self._where(block, first, batch.num_rows)
        shape = batch.num_rows, self.n_features
        memory = self._memory.take(shape[0] * shape[1] * self.dtype.itemsize)
        x = columns.rows(memory.view(self.dtype).reshape(shape), start)
        weight = None if self._weight is None else _numbers(batch.column(self._weight))
        return Piece(x, self._plain_target(batch, where), weight, where, block, first)

    def _where(self, block: int, first: int, rows: int) -> str:
        path, group, _ = self.blocks[block]
        part = "" if group is None else f", row group {group}"
        return f"{path}{part}, rows {first} to {first + rows - 1}"

    def _columns(self, batch: Any, where: str) -> Columns:
        try:
            return Columns(batch.select(self._features), where, self.dtype)
        except TypeError as error:
            raise TableError(str(error)) from None

    def _plain_target(self, batch: Any, where: str) -> Array:
        column = batch.column(self.target)
        if column.null_count:
            row = int(np.array(column.is_null()).argmax())
            raise TableError(f"{where}: row {row} has no target; remove such rows, or use .prepared(), which leaves them out.")
        values = self._array_of_target(column)
        return values if self.classes is None else labels_of(values, self.classes, where)

    def _array_of_target(self, column: Any) -> Array:
        """Numbers and truth values as they are; text without the white space around it."""
        kinds = column.type, self._target_kind
        if any(str(kind) == "bool" for kind in kinds) and any(map(is_number, kinds)):
            raise mixed_truth(f"The target {self.target!r}", "numbers")
        if str(column.type) == "bool" or not is_text(column.type):
            values = _numbers(column)
            if values.dtype.hasobject and str(column.type) != "null":  # as text, each would be a class by what Python prints of it
                raise TableError(
                    f"The target {self.target!r} is of the type {column.type}; it must be of numbers, text or truth values."
                )
            return values
        return np.asarray(texts(column, str(self.target))).astype(str)

    def _raw_targets(self) -> Iterator[Array]:
        for batch in self.batches([str(self.target)]):
            column = batch.column(self.target)
            yield self._array_of_target(column.drop_null().unique() if is_text(column.type) else column)

    def distinct_targets(self) -> Array:
        """See :class:`~fastmlp.data.sources.Source`."""
        return self._settled(super().distinct_targets)

    @cached_property
    def classes(self) -> Array | None:
        """See :class:`~fastmlp.data.sources.Source`."""
        if self.preparation is not None or self._given_classes is not None:
            return self._given_classes
        if self._whole is not None:  # or a label would stand for another class in another share
            return self._whole.classes
        of_text = is_text(self._target_kind) or self._types.get(str(self.target)) == "category"
        return self.distinct_targets() if of_text else None


def _stamp(path: Path) -> tuple[int, int]:
    """Tells a file from what it is after it has been written again."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def _footers_to_keep(looks: Sequence[_Look]) -> dict[Path, tuple[Any, tuple[int, int] | None]]:
    """Footers of files that are opened several times in each pass, as many as there is room for, with the files' stamps."""
    kept: dict[Path, tuple[Any, tuple[int, int] | None]] = {}
    room = _FOOTER_BYTES
    for look in looks:
        if look.footer is not None and look.footer.num_row_groups > 1 and look.footer.serialized_size <= room:
            room -= look.footer.serialized_size
            kept[look.path] = look.footer, look.stamp
    return kept


def _may_share() -> bool:
    """Whether columns may be decoded on several processors: those that nobody else is likely to need now."""
    return is_awaited.get()() and available_threads() > 1


def is_string(kind: Any) -> bool:
    """Whether a type of Arrow's is text, as it is or by its place in a dictionary."""
    types = require("pyarrow", "cli").types
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind))


def _numbers(column: Any) -> Array:
    """Values of a column of Arrow's; decimal fractions, which NumPy does not know, as numbers."""
    return array_of_arrow(column.cast("float64") if str(column.type).startswith("decimal") else column)


def _check_there(path: Path, wanted: Sequence[str], names: Sequence[str]) -> None:
    """Refuse a file that has lost a column since it was first looked at."""
    there = set(names)
    lost = next((name for name in wanted if name not in there), None)
    if lost is not None:
        raise TableError(f"{path} has changed. {missing_column(lost, names)}")


def check_columns(paths: Iterable[Path], wanted: Iterable[str | int], csv: Csv = GUESSED) -> None:
    """Refuse files without some columns, before their rows are read; what is no name is no column."""
    wanted = list(wanted)
    for path in paths:
        _check_columns(path, wanted, names_of(path, csv))


def _check_columns(path: Path, wanted: Iterable[str | int], there: Sequence[str]) -> None:
    known = set(there)
    for name in wanted:
        if name not in known:
            raise TableError(f"{path}: {missing_column(str(name), there)}")


def with_texts(table: Any, names: Iterable[str]) -> Any:
    """A table or a record batch with some of its columns as text."""
    for name in names:
        place = table.schema.get_field_index(name)
        if place >= 0:
            table = table.set_column(place, name, as_text(table.column(place), name))
    return table


def read_tables(
    paths: Sequence[Path],
    csv: Csv = GUESSED,
    categories: Sequence[str] = (),
    types: Mapping[str, str] | None = None,
    target: str | None = None,
) -> Any:
    """All rows of some files as one table, some of its columns as text: read as text where that tells 01067 from 1067.

    As a :class:`TableSource` reads them to learn from them; unless ``types`` say what columns have been learned, as for
    :func:`fastmlp.data.files.read_table`: then no column is left out because all files share it in the names of their folders.
    """
    known = {**(types or {}), **dict.fromkeys(categories, "category")}
    of_text, needless = of_all([folders_of(path, known) for path in paths], {target, *categories})
    known |= of_text
    batches: list[Any] = []
    for path in paths:
        found = [_with_known_texts(batch, known, categories, path) for batch in read_all(path, known, csv) if batch.num_rows]
        batches += found
        if found:
            _check_columns(path, batches[0].schema.names, found[0].schema.names)
            for column in found[0].schema:
                if is_string(column.type):
                    known.setdefault(column.name, "category")
    if not batches:
        raise _no_rows(paths)
    names = batches[0].schema.names
    return joined(batches, names if types is not None else [name for name in names if name not in needless])


def _with_known_texts(batch: Any, known: Mapping[str, str], categories: Iterable[str], path: Path) -> Any:
    """A record batch of a file whose columns that are known to be text are text; truth values only where they are named."""
    batch = with_texts(batch, categories)
    others = [one.name for one in batch.schema if known.get(one.name) == "category" and not is_text(one.type)]
    with naming(path):
        return with_texts(batch, others)


def _no_rows(paths: Sequence[Path]) -> TableError:
    more = f", nor has any other of the {len(paths)} files" if len(paths) > 1 else ""
    return TableError(f"{paths[0]} has no rows{more}.")


def from_files(
    files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    target: str | int,
    *,
    weight: str | None = None,
    classes: Sequence[Any] | None = None,
    categories: Sequence[str] = (),
    csv: Csv = GUESSED,
) -> TableSource:
    """Rows of Parquet and CSV files of any length.

    Row groups of Parquet files are read in a random order, a few in turn. A CSV file can only be read from its beginning, so that
    its rows are shuffled among those that the buffer holds.

    Parameters
    ----------
    files : path-like, or several
        A file, a folder, a glob, or a list of them.
    target : str or int
        Name or position of the column to predict.
    weight : str, optional
        A column of sample weights.
    classes : sequence, optional
        What the labels 0, 1, ... stand for. Found in one pass where the target is text or a truth value.
    categories : sequence of str, optional
        Columns whose numbers are only names.
    csv : fastmlp.data.files.Csv, optional
        How CSV files are written, as far as it is not to be guessed.

    Returns
    -------
    TableSource
        For ``fit``, in the place of x. All other columns have to be numbers, without missing values; ``prepared()`` makes numbers
        of what is not.

    Raises
    ------
    TableError
        For a file that is not there or not usable, and columns that are not.
    """
    paths = find_files(files)
    if not paths:
        raise TableError("There are no files in the list.")
    target = name_or_position(target)
    if isinstance(categories, str):
        raise TypeError(f"categories must be a list of names, such as [{categories!r}], got {categories!r}.")
    known = [name for name in (target, weight, *categories) if isinstance(name, str)]
    if not isinstance(csv, Csv):
        raise TypeError(f"csv must be a fastmlp.data.files.Csv, such as Csv(separator=';'), got {csv!r}.")
    return TableSource(paths, target, weight, classes, categories=categories, csv=replace(csv, known=csv.known or known))
