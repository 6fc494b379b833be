"""What the command line checks before it works: options, and names of files; and how it ends where something is wrong."""

from __future__ import annotations

import csv as csv_format
import dataclasses
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from fastmlp.data.csv_form import Csv
    from fastmlp.data.model import Plan

FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130


def end(message: str, code: int) -> typer.Exit:
    """Say why, and end the program."""
    typer.echo(message, err=True)
    return typer.Exit(code)


def path_in(text: str) -> Path:
    """What a person gives as a file; an empty name is a variable that is not set, rather than this folder."""
    if not text:
        raise typer.BadParameter("The name is empty; is a variable not set? Give the name of a file or a folder.")
    return Path(text)


@contextmanager
def sentences() -> Iterator[None]:
    """Errors of files, tables and options as one sentence each, without a traceback."""
    from fastmlp.data.errors import TableError
    from fastmlp.exceptions import DivergenceError

    try:
        yield
        sys.stdout.flush()  # or Python does it at the end, and says in its own way what is wrong
    except (TableError, DivergenceError, ImportError) as error:
        raise end(str(error), FAILED) from None
    except BrokenPipeError:  # whoever read the output has seen enough, as head does
        _give_output_up()
        raise typer.Exit(FAILED) from None
    except OSError as error:
        raise end(failed_at(error), FAILED) from None
    except UnicodeEncodeError as error:
        raise end(f"{error.object!r} is not valid UTF-8, so no column can be called that.", FAILED) from None
    except MemoryError as error:
        raise end(f"There is not enough memory: {error}.", FAILED) from None


def failed_at(error: OSError) -> str:
    """A sentence about what the system refuses; if it is the output, what is left of that goes nowhere."""
    _give_output_up()
    said = ": ".join(str(part) for part in (error.filename, error.strerror) if part)
    return f"{said}." if said else " ".join(str(error).split())


def _give_output_up() -> None:
    """Where the output takes no more, what is left of it goes nowhere: Python would complain when it flushes at the end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def check_free(path: Path | None, force: bool, option: str, others: Iterable[Path | None] = ()) -> None:
    """Refuse a file that cannot be written, before any work is done for it, or that is there already.

    What else a command reads or writes is not replaced even by force.
    """
    from fastmlp.files import check_writable

    if path is None:
        return
    name = f"{option[0].upper()}{option[1:]}"
    if _is_one_of(path, (other for other in others if other is not None)):
        raise end(f"{name} is {path}, which this command needs itself; give another name.", WRONG_USE)
    if not path.parent.is_dir() or (path.exists() and not path.is_file()):  # a folder, or a device, which nobody wants replaced
        raise end(f"{name} must be a file in a folder that exists, got {str(path)!r}.", WRONG_USE)
    if path.exists() and not force:
        by = "with" if option.startswith("-") else "as"
        raise end(f"{path} is there already; give another name {by} {option}, or --force to replace it.", WRONG_USE)
    try:
        check_writable(path)
    except OSError as error:
        raise end(f"{name} is {path}, which cannot be written ({error.strerror}); give a name in another folder.", FAILED) from None


def _is_one_of(path: Path, others: Iterable[Path]) -> bool:
    return os.path.realpath(path) in map(os.path.realpath, others)  # Path.resolve raises where a link leads to itself


def check_checkpoint(path: Path | None, tables: Iterable[Path]) -> None:
    """Refuse what is no place for a checkpoint, before a table is read; what is in one that is there is looked at later."""
    from fastmlp.files import check_writable

    if path is None:
        return
    check_no_pipe(path)
    if "{epoch}" in str(path):
        raise end(f"--resume is one file, which each epoch replaces, got {str(path)!r}; leave {{epoch}} out.", WRONG_USE)
    if _is_one_of(path, tables):
        raise end(f"--resume is {path}, which is a table; give a name for the checkpoint.", WRONG_USE)
    if path.is_dir():
        raise end(f"--resume must be a file, but {str(path)!r} is a folder; give a file in it.", WRONG_USE)
    try:
        check_writable(path)
    except OSError as error:
        why, code = error.strerror, FAILED
        if not path.parent.is_dir():
            why, code = f"there is no folder {str(path.parent)!r}", WRONG_USE
        raise end(f"Checkpoint cannot write to {str(path)!r}: {why}; give another name with --resume.", code) from None


def check_cache(folder: Path | None) -> None:
    """Refuse what is no place for copies of rows, before a table is read."""
    from fastmlp.files import check_writable

    if folder is None:
        return
    if not folder.is_dir():
        raise end(f"--cache must be a folder that is there, got {folder}.", WRONG_USE)
    try:
        check_writable(folder / "rows")
    except OSError as error:
        raise end(f"--cache is {folder}, which cannot be written to ({error.strerror}); give another folder.", FAILED) from None


def check_no_pipe(path: Path | None) -> None:
    """Refuse what can be read only once: each file is looked into before its content is read."""
    if path is None:
        return
    if str(path) == "-" and not path.exists():
        raise end("- is no file, and a pipe cannot be read twice; write its content to a file, and give that.", WRONG_USE)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise end(
            f"{path} is a pipe or a device, which cannot be read twice; write its content to a file, and give that.", WRONG_USE
        )


def files_of(given: Path) -> list[Path]:
    """The files that a person means, one or all those of a folder or a glob."""
    from fastmlp.data.finding import find_files

    check_no_pipe(given)
    paths = find_files(given)
    for path in paths:
        check_no_pipe(path)
    return paths


def names_in(texts: Iterable[str] | None, option: str) -> list[str]:
    """Names from an option that may be given several times, each time as a line of CSV: quotes are around a name with a comma."""
    names = []
    for text in texts or ():
        try:
            names += [name.strip() for row in csv_format.reader([text], skipinitialspace=True, strict=True) for name in row]
        except csv_format.Error:
            raise end(
                f"{option} must be names such as zip,month, in quotes where they have a comma, as in CSV; got {text!r}.", WRONG_USE
            ) from None
    return [name for name in names if name]


def seconds_in(text: str | None) -> float | None:
    """60, 60s, 5m or 2h."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    seconds = float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]] if found else 0.0
    if not 0 < seconds < math.inf:
        raise end(f"--max-time must be a time such as 60s, 5m or 2h, got {text!r}.", WRONG_USE)
    return seconds


def widths_in(text: str | None) -> tuple[int, ...] | None:
    """64,64; none for a linear model."""
    if text is None:
        return None
    words = [word.strip() for word in text.split(",")]
    if words == ["none"]:
        return ()
    if not all(word.isdecimal() and len(word) < 20 and int(word) > 0 for word in words):  # Python reads no number of any length
        raise end(f"--hidden must be widths of layers such as 64,64, or none, got {text!r}.", WRONG_USE)
    return tuple(map(int, words))


def check_ending(path: Path | None, option: str, endings: tuple[str, ...]) -> None:
    """Refuse a name that says nothing about what is to be written."""
    if path is not None and path.suffix.lower() not in endings:
        raise end(f"{option} must end with {', '.join(endings[:-1])} or {endings[-1]}, got {str(path)!r}.", WRONG_USE)


def csv_of(separator: str | None, header: bool | None, decimal: str | None) -> Csv:
    """What a person says about CSV files."""
    from fastmlp.data.csv_form import Csv

    separator = {"tab": "\t", "\\t": "\t"}.get(separator or "", separator)
    if separator is not None and len(separator) != 1:
        raise end(f"--separator must be one character, or tab, got {separator!r}.", WRONG_USE)
    if decimal not in (None, ".", ",") or (decimal is not None and decimal == separator):
        raise end(f"--decimal must be . or a comma, and not what separates columns; got {decimal!r}.", WRONG_USE)
    try:
        return Csv(separator, header, decimal)
    except ValueError as error:  # of a character that cannot separate columns
        raise end(f"--{error}", WRONG_USE) from None


def check_csv(csv: Csv, paths: Sequence[Path]) -> None:
    """Refuse what is said about CSV where no file is CSV."""
    from fastmlp.data.opening import is_csv

    header = "--no-header" if csv.header is False else "--header"
    said = {"--separator": csv.separator, header: csv.header, "--decimal": csv.decimal}
    given = [option for option, value in said.items() if value is not None]
    if given and not any(map(is_csv, paths)):
        raise end(f"{given[0]} is for CSV, which {paths[0]} is not; leave it out.", WRONG_USE)


SETTINGS = ("learning_rate", "schedule", "optimizer", "dropout", "weight_decay", "seed", "buffer_bytes")
_LIMITS: dict[str, tuple[str, Callable[[float], bool]]] = {
    "learning_rate": ("above 0", lambda value: 0 < value < math.inf),
    "dropout": ("from 0 to below 1", lambda value: 0 <= value < 1),
    "weight_decay": ("at least 0", lambda value: 0 <= value < math.inf),
    "seed": ("a whole number below 2**64", lambda value: 0 <= value < 1 << 64),
    "buffer_bytes": ("at least 1", lambda value: value >= 1),
}
"""Of the settings that are numbers."""
WHICH_LABELS = "which file has the labels of {}?"


def with_settings(plan: Plan, settings: list[str]) -> Plan:
    """The plan with ``--set key=value`` for each of some."""
    from fastmlp.optimizers import OPTIMIZERS
    from fastmlp.schedules import SCHEDULES

    for setting in settings:
        name, is_there, value = setting.partition("=")
        if not is_there or name not in SETTINGS:
            raise end(f"--set must be one of {', '.join(f'{known}=...' for known in SETTINGS)}; got {setting!r}.", WRONG_USE)
        now = getattr(plan, name)
        kind: Any = float if now is None else type(now)
        try:
            plan = dataclasses.replace(plan, **{name: kind(value)})
        except ValueError:
            raise end(f"--set {name} must be a {'whole ' * (kind is int)}number, got {value!r}.", WRONG_USE) from None
    try:
        OPTIMIZERS.find(plan.optimizer, "--set optimizer")
        SCHEDULES.find(plan.schedule, "--set schedule")
    except ValueError as error:
        raise end(str(error), WRONG_USE) from None
    for name, (limits, is_within) in _LIMITS.items():
        value = getattr(plan, name)
        if value is not None and not is_within(value):
            raise end(f"--set {name} must be {limits}, got {value}.", WRONG_USE)
    return plan
