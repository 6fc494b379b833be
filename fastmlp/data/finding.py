"""The files that a person means by a name, a folder or a glob, and a name for what is learned of them."""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Iterable
from pathlib import Path

from fastmlp.data.errors import TableError
from fastmlp.data.opening import check_file

_NAMELESS = "model"
_SUFFIXES = (".parquet", ".pq", ".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")


def find_files(given: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The files that a person means: one, all tables in a folder, those of a glob, or a list of any of these; sorted within each.

    Raises
    ------
    TableError
        Where there is none.
    TypeError
        For what is no name.
    """
    if isinstance(given, bytes) or not isinstance(given, str | os.PathLike | Iterable):
        raise TypeError(f"files must be the name of a file or folder, a glob, or a list of them, got {given!r}.")
    if not isinstance(given, str | os.PathLike):
        return [path for one in given for path in find_files(one)]
    path = Path(given)
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if _is_table(file, path))
        if not found:
            raise TableError(
                f"The folder {str(path)!r} has no tables, whose names would end with {', '.join(_SUFFIXES)}, and begin with "
                "neither '.' nor '_'."
            )
        return found
    if _is_pattern(path):
        matches = sorted(Path(name) for name in glob.glob(str(given), recursive=True) if os.path.isfile(name))
        if not matches:
            raise TableError(f"There is no file whose name matches {str(given)!r}.")
        return matches
    check_file(path)
    return [path]


def _is_table(file: Path, folder: Path) -> bool:
    """Whether something in a folder is meant: a file, by its ending, that is not hidden. Folders may end so, too."""
    hidden = any(part[0] in "._" for part in file.relative_to(folder).parts)
    return file.name.lower().endswith(_SUFFIXES) and not hidden and not file.is_dir()


def name_for(given: Path) -> str:
    """A name for what is learned of :func:`find_files`'s files, without an ending: that of the file or folder, or what a glob says.

    Of a glob, that is the beginning of the names that it is for (``sales`` of ``sales-*.csv``), or else the folder they are in.
    """
    if not _is_pattern(given):
        name = _last_name(given)
        return (name if given.is_dir() else _without_suffixes(name)) or _NAMELESS
    beginning = re.split(r"[*?[]", given.name)[0].rstrip("-_. ")
    folder = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), given.parts))
    return _without_suffixes(beginning) or _last_name(folder) or _NAMELESS


def _is_pattern(path: Path) -> bool:
    """Whether this is a glob, rather than the name of a file that has such characters in it."""
    return not path.exists() and glob.has_magic(str(path))


def _last_name(path: Path) -> str:
    """What a file or folder is called, also where it was given as a dot."""
    return os.path.basename(os.path.abspath(path))


def _without_suffixes(name: str) -> str:
    return re.sub(r"(\.(csv|tsv|txt|parquet|pq))?(\.gz)?$", "", name, flags=re.IGNORECASE)
