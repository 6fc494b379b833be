"""Files that are either whole or not there: written beside their place and renamed into it."""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import platform
import re
import secrets
import stat
import time
import zlib
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacement(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A file beside ``path`` to write to, which takes its place in one step when the block ends.

    Where ``path`` is a link, it stays one, and the file that it leads to is replaced.

    Content reaches the disk before the name does, and the name before the next statement: a machine that loses power has the old
    file or the new one.

    Raises
    ------
    OSError
        Where the file cannot be written; what was there before stays. It names the path.
    """
    named = Path(path)
    target, temporary, kept = _made_beside(named)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if kept is not None:
            os.chmod(temporary, kept)
        os.replace(temporary, target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _of(named, error) from error
        raise
    _sync_folder(target.parent)


def replace_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file, replacing what is there in one step.

    Raises
    ------
    OSError
        Where the file cannot be written; what was there before stays. It names the path.
    """
    with replacement(path) as temporary:
        temporary.write_bytes(content)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Try to make a file beside ``path``, and remove it: whether :func:`replacement` could write there is known before the work.

    Raises
    ------
    OSError
        Where it could not. It names the path.
    """
    _, temporary, _ = _made_beside(Path(path))
    temporary.unlink(missing_ok=True)


def _made_beside(named: Path) -> tuple[Path, Path, int | None]:
    """The file that links lead to, an empty one that can take its place, and its permissions; the errors have the given name."""
    if named.is_dir():
        raise IsADirectoryError(errno.EISDIR, "This is a folder; give the name of a file in it", os.fspath(named))
    target = Path(os.path.realpath(named))
    temporary = target.with_name(f".{target.name}.{_machine()}{os.getpid():08x}{secrets.token_hex(4)}.tmp")
    try:
        if named.exists() and not named.is_file():  # a pipe or a device, which somebody else reads
            raise OSError(errno.EINVAL, "This is no ordinary file; give the name of one, or a new name")
        kept = _permissions(target)
        mode = 0o666 if kept is None else kept | stat.S_IRUSR | stat.S_IWUSR
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode))  # of a new one, the system takes what umask says
    except OSError as error:
        raise _of(named, error) from error
    return target, temporary, kept


_STARTED = time.time()
"""When this process had begun already."""
_LEFT_SECONDS = 300
"""Whoever has not written for so long to a file beside its place has been killed, wherever that was."""


def _machine() -> str:
    """Tells this machine, or container, from others that may write to the same folder: four hexadecimal digits."""
    return f"{zlib.crc32(platform.node().encode()) & 0xFFFF:04x}"


def _is_left(temporary: Path) -> bool:
    """Whether the writer of a file beside its place is gone; several trainings may write to one path."""
    token = temporary.suffixes[-2][1:]
    if token[:4] == _machine() and os.name != "nt":  # where to ask for a process is to interrupt it
        process = int(token[4:12], 16)
        if process == os.getpid() and temporary.stat().st_mtime < _STARTED:  # in a container each may have the same number
            return True
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):  # it is somebody else's; or there is no such number
            pass
    return time.time() - temporary.stat().st_mtime > _LEFT_SECONDS


def remove_leftovers(path: str) -> None:
    """Delete what writers that were killed have left beside a file; ``{epoch}`` in its name stands for a number."""
    folder, name = os.path.split(os.path.realpath(path))  # where replacement writes
    pattern = re.compile(r"\." + r"\d+".join(map(re.escape, name.split("{epoch}"))) + r"\.[0-9a-f]{20}\.tmp")
    for leftover in Path(folder).glob(".*.tmp"):
        with contextlib.suppress(OSError):  # somebody else's, or gone
            if pattern.fullmatch(leftover.name) and _is_left(leftover):
                leftover.unlink()


def _sync_folder(folder: Path) -> None:
    """Have the new name on the disk, where the system can do that for a folder: Windows cannot, nor can some networks' disks."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _permissions(target: Path) -> int | None:
    """Who may do what with a file that is there; None for a new one, and on Windows, where only read-only ones differ."""
    if os.name == "nt":
        return None
    try:
        return target.stat().st_mode & 0o777
    except FileNotFoundError:
        return None


def _of(named: Path, error: OSError) -> OSError:
    """The same error, about the file that the person has named."""
    return type(error)(error.errno, error.strerror, os.fspath(named))


def no_file(path: str | os.PathLike[str]) -> str:
    """A sentence about a file that is not there, with the one that was probably meant."""
    path, names = Path(path), list[str]()
    if path.is_dir():
        return f"{str(path)!r} is a folder; give a file in it."
    if not path.parent.is_dir():
        return f"There is no file {str(path)!r}: there is no folder {str(path.parent)!r}."
    with contextlib.suppress(OSError):
        alike = [other for other in path.parent.iterdir() if other != path and difflib.get_close_matches(path.stem, [other.stem])]
        names = difflib.get_close_matches(path.name, [other.name for other in alike], 1)  # not for a long ending alone
    if names:
        return f"There is no file {str(path)!r}. Did you mean {str(path.with_name(names[0]))!r}?"
    return (
        f"There is no file {str(path)!r}. It was looked for in the folder {os.path.abspath(path.parent)!r}; give one that is there."
    )
