"""Files that are either whole or not there: written beside their place and renamed into it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def replace_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file, replacing what is there in one step.

    Raises
    ------
    OSError
        Where the file cannot be written; what was there before stays. It names the path.
    """
    target = Path(path)
    try:
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    except OSError as error:
        raise _of(target, error) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException as error:
        os.unlink(temporary)
        if isinstance(error, OSError):
            raise _of(target, error) from error
        raise


def _of(target: Path, error: OSError) -> OSError:
    """The same error, about the file that the person has named."""
    return type(error)(error.errno, error.strerror, os.fspath(target))


def _umask() -> int:
    """Permissions that new files do not have, which can only be asked for by setting them."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
