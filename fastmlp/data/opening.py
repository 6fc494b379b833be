"""What kind of table a file is, by its first bytes, and its bytes, unpacked if they are compressed."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from fastmlp.data.errors import TableError
from fastmlp.files import no_file

_LOOK_BYTES = 1 << 16
IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


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


def is_idx(path: Path) -> bool:
    """Whether a file is IDX, gzip or not, by its first bytes."""
    head = head_of(path)
    return len(head) >= 4 and head[:2] == b"\0\0" and head[2] in IDX_TYPES


def is_csv(path: Path) -> bool:
    """Whether a file is read as CSV: it is none of the others."""
    return not is_parquet(path) and not is_idx(path)


def for_arrow(path: Path) -> AbstractContextManager[Any]:
    """What Arrow can read: a path, or an open file where the path is not UTF-8, which Arrow cannot open itself."""
    path = path.absolute()  # or a name with a colon in it may be taken for a URI
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return path.open("rb")
    return nullcontext(path)


def opened(path: Path) -> Any:
    """The bytes of a file, uncompressed."""
    return gzip.open(path, "rb") if is_gzip(path) else path.open("rb")


def is_gzip(path: Path) -> bool:
    """Whether a file is compressed by gzip, whatever its name says."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


@contextmanager
def undamaged(path: Path) -> Iterator[None]:
    """Errors about compressed bytes, with the name of the file, which neither Python nor Arrow says."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's: the file may be well
            raise
        raise TableError(f"{path} is damaged: {str(error).rstrip('.')}.") from None


def head_of(path: Path) -> bytes:
    """The first bytes of a file, uncompressed."""
    check_file(path)
    try:
        with undamaged(path), opened(path) as file:
            head: bytes = file.read(_LOOK_BYTES)
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error}.") from None
    return head
