"""Types for argparse: each returns what was meant, or says in one sentence what is wrong and what is known."""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from fastmlp.threads import available_threads

from .machine import available_processors


def names_from(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Names with commas between, each one known."""
    known = list(known)

    def parse(text: str) -> list[str]:
        names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
        unknown = [name for name in names if name not in known]
        if unknown or not names:
            problem = f"unknown: {', '.join(unknown)}" if unknown else "no name given"
            raise argparse.ArgumentTypeError(f"{problem}; known: {', '.join(known)}")
        return names

    return parse


def count(text: str) -> int:
    """A whole number from 1 up."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 up, got {text!r}")
    return int(text)


def thread_counts(text: str) -> list[int | None]:
    """Numbers of threads with commas between, None for "all"; those that are more than the processors are left out."""
    available = len(available_processors())
    counts: list[int | None] = []
    for word in text.split(","):
        one = None if word.strip() == "all" else count(word.strip())
        if one is None or one < available:
            counts.append(one)
        elif one == available:
            counts.append(None)
    if not counts:
        raise argparse.ArgumentTypeError(f"there are only {available} processors, got {text!r}")
    return list(dict.fromkeys(counts))


def thread_values(cores: int) -> list[int]:
    """1, 2, 4 and so on, and all."""
    values = [1]
    while 2 * values[-1] < cores:
        values.append(2 * values[-1])
    return values + ([cores] if cores > 1 else [])


def every_count() -> str:
    """All numbers of threads that fastmlp may choose from, for the others: 1, 2, 4 and so on, what a container allows, and all."""
    processors = len(available_processors())
    counts = {*thread_values(processors), min(processors, available_threads())}
    return ",".join(map(str, sorted(counts)))


def new_file(text: str) -> Path:
    """A file that can be written, found out before minutes of measuring rather than after."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"must be a file in a folder that exists, got {text!r}")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"must be in a folder that can be written to, got {text!r} ({error.strerror})") from None
    return path


def new_folder(text: str) -> Path:
    """A folder that is there, or can be made."""
    path = Path(text)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"must be a folder, or the name of a new one, got {text!r} ({error.strerror})") from None
    return path


def html_file(text: str) -> Path:
    """The same for a report with pictures, which needs packages."""
    missing = [name for name in ("jinja2", "matplotlib") if importlib.util.find_spec(name) is None]
    if missing:
        raise argparse.ArgumentTypeError(f"needs {' and '.join(missing)}; `pip install 'fastmlp[bench]'`")
    return new_file(text)
