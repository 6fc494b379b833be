"""Rows that take long to read, kept on a disk as they have come: passes after the first read them as fast as a ``.npy`` file."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import tempfile
import threading
import warnings
import weakref
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastmlp.data.errors import TableError
from fastmlp.data.sources import BytesReader, Piece, Source
from fastmlp.kernels.plan import LINE_BYTES

Array = np.ndarray[Any, np.dtype[Any]]


_Kind = tuple[np.dtype[Any], tuple[int, ...]]
"""Of an array: dtype and shape."""


class _Kept(NamedTuple):
    """Where in the file of its block a piece is: its arrays (None for no weights) follow each other, at multiples of LINE_BYTES."""

    start: int
    n_bytes: int
    kinds: list[_Kind | None]
    where: str
    first: int


def _padded(n_bytes: int) -> int:
    return -(-n_bytes // LINE_BYTES) * LINE_BYTES


def _split(read: Array, kinds: list[_Kind | None]) -> Iterator[Array | None]:
    """The arrays in the bytes of a piece."""
    start = 0
    for kind in kinds:
        if kind is None:
            yield None
            continue
        dtype, shape = kind
        n_bytes = dtype.itemsize * math.prod(shape)
        yield read[start : start + n_bytes].view(dtype).reshape(shape)
        start += _padded(n_bytes)


def _has_objects(piece: Piece) -> bool:
    """Whether something is no number; whoever trains on it says what is wrong."""
    return any(np.asarray(given).dtype.hasobject for given in (piece.x, piece.y, piece.weight) if given is not None)


class CachedSource(Source):
    """A source whose blocks are read once and then found in files of our own; made by :func:`cached`."""

    def __init__(self, source: Source, folder: str | os.PathLike[str] | None) -> None:
        super().__init__()
        if folder is not None and not Path(folder).is_dir():
            raise FileNotFoundError(f"cached needs a folder that is there, got {os.fspath(folder)!r}.")
        self._source = source
        self.mixed_blocks, self.n_blocks = source.mixed_blocks, source.n_blocks
        self.n_features, self.dtype, self.preparation = source.n_features, source.dtype, source.preparation
        self.feature_names = source.feature_names
        self._parent = folder
        self._make_folder()
        self._lock = threading.RLock()  # a block that was given up may be collected while this thread has it
        self._reader = BytesReader()
        self._has_room = True

    def _make_folder(self) -> None:
        """A folder of this process's own, with nothing in it; it goes with this object, or at exit."""
        self._process = os.getpid()
        self._folder = Path(tempfile.mkdtemp(prefix="fastmlp-", dir=self._parent))
        weakref.finalize(self, _remove, self._folder, self._process)
        self._kept: dict[int, list[_Kept]] = {}
        self._being_kept: set[int] = set()

    def __reduce__(self) -> tuple[Any, ...]:
        return cached, (self._source, self._parent)  # a copy keeps rows of its own

    def __repr__(self) -> str:
        return f"cached({self._source!r})"

    @property
    def rows(self) -> int:
        """As the source says."""
        return self._source.rows

    def use_buffer(self, buffer_bytes: int) -> None:
        """See :class:`~fastmlp.data.sources.Source`."""
        self._source.use_buffer(buffer_bytes)

    @cached_property
    def classes(self) -> Array | None:
        """As the source says."""
        return self._source.classes

    def distinct_targets(self) -> Array:
        """As the source says."""
        return self._source.distinct_targets()

    def _raw_targets(self) -> Iterator[Array]:
        return self._source._raw_targets()

    def pieces(self, block: int) -> Iterator[Piece]:
        """A block from its file; or from the source, and into a file if it is read to its end."""
        if self._begin_to_keep(block):
            yield from self._from_source(block)
        elif block in self._kept:
            yield from self._from_file(block)
        else:
            yield from self._source.pieces(block)

    def _begin_to_keep(self, block: int) -> bool:
        """Whether there is room for a block that is not kept and that nobody else is keeping just now."""
        with self._lock:
            if self._process != os.getpid():  # after a fork; the other process goes on with its folder
                self._make_folder()
            if block in self._kept or block in self._being_kept or not self._has_room:
                return False
            self._being_kept.add(block)
            return True

    def _path(self, block: int) -> Path:
        return self._folder / str(block)

    def _from_source(self, block: int) -> Iterator[Piece]:
        kept: list[_Kept] = []
        keeps, complete = True, False
        try:
            for piece in self._source.pieces(block):
                keeps = keeps and self._has_room and not _has_objects(piece)
                if keeps:
                    self._keep(piece, kept)
                yield piece
            complete = keeps and self._has_room
        finally:
            if not complete:
                with contextlib.suppress(OSError):  # what is left over is written over, or goes with the folder
                    self._path(block).unlink()
            with self._lock:
                if complete:
                    self._kept[block] = kept
                self._being_kept.discard(block)

    def _keep(self, piece: Piece, kept: list[_Kept]) -> None:
        """Append a piece to the file of its block."""
        arrays = [None if given is None else np.ascontiguousarray(given) for given in (piece.x, piece.y, piece.weight)]
        start = kept[-1].start + kept[-1].n_bytes if kept else 0
        n_bytes = sum(_padded(array.nbytes) for array in arrays if array is not None)
        try:
            with self._path(piece.block).open("ab" if kept else "wb") as file:
                for array in arrays:
                    if array is not None:
                        file.write(array.reshape(-1).view(np.uint8).data)
                        file.write(bytes(_padded(array.nbytes) - array.nbytes))
        except OSError as error:
            self._has_room = False
            warnings.warn(
                f"The cache in {self._folder} cannot take more rows ({error.strerror}): those that it does not have are read from "
                f"{self._source!r} each time. Name a folder with more room, by --cache or cached(source, folder).",
                stacklevel=2,
            )
            return
        kinds = [None if array is None else (array.dtype, array.shape) for array in arrays]
        kept.append(_Kept(start, n_bytes, kinds, piece.where, piece.first))

    def _from_file(self, block: int) -> Iterator[Piece]:
        for kept in self._kept[block]:
            try:
                read = self._reader.read(self._path(block), kept.start, kept.n_bytes)
            except FileNotFoundError:
                read = np.empty(0, np.uint8)
            if len(read) < kept.n_bytes:
                raise TableError(f"The cache in {self._folder} has been changed: {kept.where} is not there any more.")
            x, y, weight = _split(read, kept.kinds)
            yield Piece(x, y, weight, kept.where, block, kept.first)


def _remove(folder: Path, process: int) -> None:
    if process == os.getpid():  # a fork has this object, too, but not the folder
        shutil.rmtree(folder, ignore_errors=True)


def cached(source: Source, folder: str | os.PathLike[str] | None = None) -> Source:
    """Keep a source's rows on a disk when they are first read, for the epochs that follow.

    For files that take longer to decode than to train on, such as CSV and Parquet. The rows and their order stay what they are, so
    that a training gives the same bits. The copy takes as many bytes as the rows have in memory; it is removed when the source is
    no longer used, or when Python ends. Where the disk is full, a warning says so, and the rest is read from the source.

    Parameters
    ----------
    source : Source
        Of :func:`from_files` or :func:`from_blocks`; files that :func:`from_npy` reads are as fast as the copy.
    folder : path-like, optional
        Where the copy goes, into a folder of its own; the system's place for temporary files unless given.

    Returns
    -------
    Source

    Raises
    ------
    TypeError
        For anything but a source.
    FileNotFoundError
        If there is no such folder.
    """
    if not isinstance(source, Source):
        raise TypeError(f"cached takes a source, such as fastmlp.data.from_files(...), got {type(source).__name__}.")
    return CachedSource(source, folder)
