"""Record batches of several files as one table: types that are alike become one."""

from __future__ import annotations

import itertools
import operator
import re
from collections.abc import Iterable, Sequence
from typing import Any

from fastmlp.data.errors import TableError
from fastmlp.data.values import is_number
from fastmlp.io.extras import require


def joined(batches: Sequence[Any], names: Sequence[str]) -> Any:
    """Some columns of record batches as one table; types that are alike become the wider one.

    Raises
    ------
    TableError
        Where they are not alike.
    """
    arrow = require("pyarrow", "cli")
    tables = [arrow.Table.from_batches([batch]).select(names) for batch in batches]
    kinds = [table.schema.types for table in tables]
    if any(some != kinds[0] for some in kinds):
        differ = [name for name, *its in zip(names, *kinds, strict=True) if len(set(its)) > 1]
        tables = [_alike(table, differ) for table in tables]
        floats = [name for name in differ if _need_floats([table.schema.field(name).type for table in tables])]
        tables = [_with_floats(table, floats) for table in tables]
    try:
        return arrow.concat_tables(tables, promote_options="permissive")
    except (arrow.ArrowInvalid, arrow.ArrowTypeError) as error:
        raise TableError(f"The columns of the files do not fit together: {_misfit(str(error))}.") from None


def together(batches: Sequence[Any]) -> list[Any]:
    """The rows of record batches in fewer of them: one for those that follow each other and are of the same types."""
    arrow = require("pyarrow", "cli")
    made: list[Any] = []
    for schema, alike in itertools.groupby(batches, key=operator.attrgetter("schema")):
        some = list(alike)
        try:
            columns = [arrow.concat_arrays([batch.column(place) for batch in some]) for place in range(len(schema))]
        except (arrow.ArrowInvalid, arrow.ArrowNotImplementedError):  # of dictionaries that do not fit into one
            made += some
        else:
            made.append(arrow.RecordBatch.from_arrays(columns, schema=schema))
    return made


def _misfit(message: str) -> str:
    """What Arrow says about types that it cannot make one of, for people."""
    found = re.search(r"Field (.*) has incompatible types: (.*) vs (.*)", message)
    if found is None:
        return message
    name, one, other = found.groups()
    return (
        f"{name!r} is of the type {one} in one of them and {other} in another; write it alike in all of them, or name it among the "
        f"categories (--categories, or categories=[{name!r}]) to have it read as text"
    )


def _alike(table: Any, names: Iterable[str]) -> Any:
    """The same table, some columns of which are of the type that takes others like it: no dictionaries, one kind of times."""
    for name in names:
        kind = table.schema.field(name).type
        if (wanted := _common_type(kind)) != kind:
            place = table.schema.get_field_index(name)
            table = table.set_column(place, name, table.column(name).cast(wanted, safe=False))
    return table


def _common_type(kind: Any) -> Any:
    """The type in which columns of this one, and of those that are like it, fit together.

    That of the values of dictionaries; floating-point numbers for decimals, but whole numbers for those without a fraction, if they
    fit; microseconds for dates and times; else the same type.
    """
    arrow = require("pyarrow", "cli")
    types = arrow.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_decimal(kind) and kind.scale != 0:
        return arrow.float64()
    if types.is_decimal(kind) and kind.precision < 19:
        return arrow.int64()
    return arrow.timestamp("us") if types.is_date(kind) or types.is_timestamp(kind) else kind


def _need_floats(kinds: Iterable[Any]) -> bool:
    """Whether numbers of several types fit together as floating-point numbers only: some are, or are beyond 63 bits.

    Arrow would refuse whole ones that are not exactly a floating-point number, such as times in nanoseconds.
    """
    some = {kind for kind in kinds if str(kind) != "null"}
    return len(some) > 1 and all(map(is_number, some)) and any("float" in str(k) or str(k) in ("double", "uint64") for k in some)


def _with_floats(table: Any, names: Iterable[str]) -> Any:
    for name in names:
        table = table.set_column(table.schema.get_field_index(name), name, table.column(name).cast("float64", safe=False))
    return table
