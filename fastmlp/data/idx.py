"""IDX files, the format that MNIST comes in: arrays of numbers, with the labels in a file of their own."""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from fastmlp.data.errors import TableError
from fastmlp.data.opening import IDX_TYPES, is_idx, opened
from fastmlp.io.extras import require

_MOST_DIMENSIONS = 32
"""Of an array, for NumPy before 2.0."""


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
        with opened(path) as file:
            _, kind, dimensions = struct.unpack(">HBB", file.read(4))
            shape = struct.unpack(f">{dimensions}I", file.read(4 * dimensions))
            content = file.read()
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise TableError(f"{path} is not a usable IDX file: {error}.") from None
    if not 1 <= dimensions <= _MOST_DIMENSIONS:
        raise TableError(f"{path} is not a usable IDX file: it has {dimensions} dimensions.")
    if 0 in shape:
        raise TableError(f"{path} holds no numbers.")
    dtype = np.dtype(IDX_TYPES[kind])
    expected = math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        raise TableError(f"{path} is damaged: it announces {expected} bytes of numbers and holds {len(content)}.")
    return np.frombuffer(content, dtype).reshape(shape)


def idx_table(array: np.ndarray[Any, np.dtype[Any]]) -> Any:
    """A column for each number of a sample; of labels, one column."""
    arrow = require("pyarrow", "cli")
    names = idx_names(array.shape)
    flat = np.ascontiguousarray(array.reshape(len(array), len(names)).T).astype(array.dtype.newbyteorder("="))
    return arrow.table(dict(zip(names, flat, strict=True)))


def idx_names(shape: tuple[int, ...]) -> list[str]:
    """Names for the columns of an array of this shape."""
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
    return samples.append_column(target, idx_table(values.reshape(-1)).column(0))
