"""How much memory rows of Arrow's take, so that no more of them are decoded at a time than there is room for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastmlp.io.extras import require

DECODED_VALUES = 1 << 20
"""That Arrow decodes at a time: at least, where columns are taken as they are, because each time it goes through pages that have
left the caches since; and at most elsewhere..."""
LONG_BYTES = 1 << 24
"""...where it is no more than this, about, of rows that may be long."""
SAMPLE_ROWS = 64
"""By so many it is seen how long rows are: a file says how long they are where each text stands once."""


def is_fixed(kind: Any) -> bool:
    """Whether all values of a type of Arrow's take the same number of bytes, also where they are places in a dictionary now."""
    if require("pyarrow", "cli").types.is_dictionary(kind):
        kind = kind.value_type
    try:
        return int(kind.bit_width) > 0
    except ValueError:
        return False


def fixed_bytes(kinds: Iterable[Any]) -> int:
    """Of a row of values of these types, at least 1 each; of what has no fixed length, those of where it stands."""
    return sum(max(1, int(kind.bit_width) // 8) if is_fixed(kind) else 4 for kind in kinds)


def row_bytes(file: Any, columns: list[str], group: int) -> int:
    """Of a row of some columns of a row group, about; at least 1.

    Parameters
    ----------
    file : pyarrow.parquet.ParquetFile
    columns : list of str
    group : int
    """
    schema = file.schema_arrow  # which is made anew each time it is asked for
    kinds = [schema.field(name).type for name in columns]
    if all(map(is_fixed, kinds)):
        return max(1, fixed_bytes(kinds))
    return max(1, _encoded_bytes(file.metadata.row_group(group), set(columns)), _decoded_bytes(file, columns, group))


def _encoded_bytes(group: Any, columns: set[str]) -> int:
    """As the file says it."""
    parts = map(group.column, range(group.num_columns))
    size = sum(part.total_uncompressed_size for part in parts if columns & {part.path_in_schema, part.path_in_schema.split(".")[0]})
    return int(size) // max(1, int(group.num_rows))


def _decoded_bytes(file: Any, columns: list[str], group: int) -> int:
    """Of the first rows."""
    first = next(file.iter_batches(SAMPLE_ROWS, row_groups=[group], columns=columns, use_threads=False), None)
    if first is None or not first.num_rows:
        return 0
    is_dictionary = require("pyarrow", "cli").types.is_dictionary
    # Without dictionaries, which are there once for all rows.
    plain = (column.dictionary_decode() if is_dictionary(column.type) else column for column in first.columns)
    return sum(int(column.nbytes) for column in plain) // int(first.num_rows)
