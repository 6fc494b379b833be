"""Compiled kernels on disk, so that only the first process ever waits for the compiler.

numba's own cache stamps a function with its own source file: an edit of another file that it calls runs stale code. Here the
stamp covers every file that compiled code comes from, and the versions of everything that compiles it. One file per
compiled signature, named by the hash of all that it depends on, written aside and renamed: two processes at once can only write
the same thing twice. A file that cannot be read or written, or whose content is damaged, costs a compilation and nothing else.

Like numba's own, the files hold pickled machine code: whoever can write to the directory can run code. It is a directory of the
user's own.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import importlib.metadata
import os
import pickle
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
from numba.core import caching, serialize
from numba.core.compiler import CompileResult

from fastmlp.files import replace_file

_PACKAGE = Path(__file__).parent.parent
_DIGEST_BYTES = 32


def compiled_sources() -> list[Path]:
    """The files that compiled code comes from: the kernels, and the tables of formulas that they are made with."""
    tables = [_PACKAGE / f"{name}.py" for name in ("activations", "losses", "optimizers", "own")]
    return sorted((_PACKAGE / "kernels").rglob("*.py")) + tables


@functools.cache
def source_stamp() -> str:
    """Hash of everything but the processor that the machine code depends on."""
    stamp = hashlib.sha256()
    for name in ("fastmlp", "numba", "llvmlite", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            stamp.update(f"{name}={importlib.metadata.version(name)};".encode())
    flags = numba.config.OPT, numba.config.BOUNDSCHECK, numba.config.DEBUGINFO_DEFAULT
    stamp.update(f"{sys.implementation.cache_tag};flags={flags};".encode())
    for path in compiled_sources():
        stamp.update(path.name.encode() + b"\0" + path.read_bytes())
    return stamp.hexdigest()


def _given(variable: str) -> Path | None:
    """A directory that a system's variable names; a relative one does not count (XDG Base Directory Specification)."""
    path = Path(os.environ.get(variable, ""))
    return path if path.is_absolute() else None


def cache_directory() -> Path:
    """Where compiled kernels are kept: ``FASTMLP_CACHE_DIR``, else ``NUMBA_CACHE_DIR``, else the user's cache directory.

    Raises
    ------
    RuntimeError
        Where there is no home directory to have one in.
    """
    for variable in ("FASTMLP_CACHE_DIR", "NUMBA_CACHE_DIR"):
        if os.environ.get(variable):
            return Path(os.environ[variable]) / "fastmlp"
    if platform.system() == "Windows":
        return (_given("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "fastmlp" / "kernels"
    if platform.system() == "Darwin":
        return Path.home() / "Library" / "Caches" / "fastmlp"
    return (_given("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastmlp"


@functools.cache
def _announce_compilation(directory: str) -> None:
    with contextlib.suppress(OSError):
        os.makedirs(directory, exist_ok=True)
    if os.path.isdir(directory) and os.access(directory, os.W_OK):
        how = f"once; kept in {directory}"
    else:
        how = f"each time, because {directory} takes no files; FASTMLP_CACHE_DIR names another folder"
    if sys.stderr is None:
        return
    with contextlib.suppress(OSError, ValueError):  # it may be closed, or a pipe that nobody reads
        print(f"fastmlp: compiling kernels for this processor ({how})", file=sys.stderr, flush=True)


def _content_of(function: Callable[..., Any]) -> tuple[Any, ...]:
    """What tells a kernel from another of its name: one that is not of this package may change without any of its files."""
    code = function.__code__
    constants = [one for one in code.co_consts if isinstance(one, (int, float, str))]
    return code.co_code, code.co_names, code.co_varnames, constants


_OLD_SECONDS, _DAY = 90 * 86400, 86400
"""A kernel that has not been used for so long is removed when another version of it is written; once a day its file says that it
has been."""


def _say_used(path: Path) -> None:
    with contextlib.suppress(OSError):  # in a folder that takes no changes
        if time.time() - path.stat().st_mtime > _DAY:
            os.utime(path)


class KernelCache(caching._Cache):
    """The cache of one kernel, in the place of numba's own.

    Parameters
    ----------
    function : callable
        Its name is the kernel's.
    announces : bool
        Whether to say on stderr that it has to be compiled.

    Attributes
    ----------
    not_kept : int
        How many compiled results could not be written, of all kernels.
    """

    not_kept = 0

    def __init__(self, function: Callable[..., Any], *, announces: bool = True) -> None:
        self._name, self._announces = function.__name__, announces
        self._code = _content_of(function)
        self._enabled = True

    @property
    def cache_path(self) -> str:
        """The directory, for numba's own messages; empty where there can be none."""
        try:
            return str(cache_directory())
        except RuntimeError:  # no home directory can be determined
            return ""

    def _path(self, signature: Any, codegen: Any) -> Path:
        key = repr((self._name, self._code, signature, codegen.magic_tuple(), source_stamp()))
        return Path(self.cache_path) / f"{self._name}-{hashlib.sha256(key.encode()).hexdigest()[:32]}.kernel"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled result for a signature, or None where there is none that can be used.

        numba's own cache first has all that code can be compiled from, SciPy's linear algebra among it, imported and registered,
        which takes longer than everything else here. Machine code that holds no references (``_nrt=False``) needs none of it.
        """
        if not self._enabled or not self.cache_path:
            return None
        path = self._path(sig, target_context.codegen())
        try:
            content = path.read_bytes()
            digest, payload = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
            if hashlib.sha256(payload).digest() == digest:
                _say_used(path)
                return CompileResult._rebuild(target_context, *pickle.loads(payload))
        except Exception:  # whatever is wrong with a file in the cache, compiling is the answer to it
            pass
        if self._announces:
            _announce_compilation(self.cache_path)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled result; a disk that is full or read-only is no reason to stop."""
        if not self._enabled:
            return
        if not self.cache_path:
            KernelCache.not_kept += 1
            return
        path = self._path(sig, data.codegen)
        try:
            payload = serialize.dumps(data._reduce())
        except RuntimeError:  # numba has no machine code to give away: somebody pressed Ctrl-C just when it arrived
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, hashlib.sha256(payload).digest() + payload)
        except OSError:
            KernelCache.not_kept += 1
        self._remove_old()

    def _remove_old(self) -> None:
        """Delete what nobody has used for long, of this kernel: it is of older versions, or of a processor that is not there."""
        with contextlib.suppress(OSError):
            for path in self._files():
                with contextlib.suppress(OSError):
                    if time.time() - path.stat().st_mtime > _OLD_SECONDS:
                        path.unlink()

    def enable(self) -> None:
        """Use the disk (the default)."""
        self._enabled = True

    def disable(self) -> None:
        """Neither read from the disk nor write to it."""
        self._enabled = False

    def flush(self) -> None:
        """Forget what is kept of this kernel, whatever wrote it."""
        if not self.cache_path:  # where there is no place for them; as a path, it would be the current folder
            return
        with contextlib.suppress(OSError):
            for path in self._files():
                path.unlink()

    def _files(self) -> Iterator[Path]:
        """All that is kept of this kernel, for any signature and processor, by any version."""
        return Path(self.cache_path).glob(f"{glob.escape(self._name)}-*.kernel")
