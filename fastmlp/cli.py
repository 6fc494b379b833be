"""The command line. Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted."""

from __future__ import annotations

import csv as csv_format
import dataclasses
import importlib
import json as json_format
import math
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

if TYPE_CHECKING:
    from fastmlp.data.files import Csv
    from fastmlp.data.model import Plan, Split, TableModel
    from fastmlp.data.preparation import Preparation
    from fastmlp.data.sources import Source

app = typer.Typer(
    help="Multilayer perceptrons that train fast on a CPU.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130

Quiet = Annotated[bool, typer.Option("--quiet", help="Nothing but the result: no guesses, no progress.")]
Json = Annotated[bool, typer.Option("--json", help="The result as JSON, for programs.")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that are there.")]
Separator = Annotated[str | None, typer.Option(help="Of CSV: one character, or tab; guessed.")]
Header = Annotated[bool | None, typer.Option("--header/--no-header", help="Of CSV: whether the first line names columns; guessed.")]
Decimal = Annotated[str | None, typer.Option(help="Of CSV: the decimal point, . or a comma; guessed.")]
ModelFile = Annotated[Path, typer.Argument(metavar="MODEL", help="A model that `fastmlp train` has written.")]


def _end(message: str, code: int) -> typer.Exit:
    """Say why, and end the program."""
    typer.echo(message, err=True)
    return typer.Exit(code)


@contextmanager
def _sentences() -> Iterator[None]:
    """Errors of files, tables and options as one sentence each, without a traceback."""
    from fastmlp.data.files import TableError
    from fastmlp.exceptions import DivergenceError

    try:
        yield
    except (TableError, DivergenceError, ImportError) as error:
        raise _end(str(error), FAILED) from None
    except BrokenPipeError:  # whoever read the output has seen enough, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would complain when it flushes
        raise typer.Exit(FAILED) from None
    except OSError as error:
        said = f"{error.filename}: {error.strerror}." if error.filename else " ".join(str(error).split())
        raise _end(said, FAILED) from None
    except MemoryError as error:
        raise _end(f"There is not enough memory: {error}.", FAILED) from None


def _free(path: Path | None, force: bool, option: str, others: Iterable[Path | None] = ()) -> None:
    """Refuse to replace a file, before any work is done for it; what else a command reads or writes is not even forced."""
    if path is None:
        return
    if path.resolve() in {other.resolve() for other in others if other is not None}:
        raise _end(f"{option[0].upper()}{option[1:]} is {path}, which this command needs itself; give another name.", WRONG_USE)
    if path.is_dir() or not path.parent.is_dir():
        raise _end(f"{option[0].upper()}{option[1:]} must be a file in a folder that exists, got {str(path)!r}.", WRONG_USE)
    if path.exists() and not force:
        raise _end(f"{path} is there already; give another name with {option}, or --force to replace it.", WRONG_USE)


def _seconds(text: str | None) -> float | None:
    """60, 60s, 5m or 2h."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if not found or float(found[1]) <= 0:
        raise _end(f"--max-time must be a time such as 60s, 5m or 2h, got {text!r}.", WRONG_USE)
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def _widths(text: str | None) -> tuple[int, ...] | None:
    """64,64; none for a linear model."""
    if text is None:
        return None
    words = [word.strip() for word in text.split(",") if word.strip() and word.strip() != "none"]
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise _end(f"--hidden must be widths of layers such as 64,64, or none, got {text!r}.", WRONG_USE)
    return tuple(map(int, words))


def _ending(path: Path | None, option: str, endings: tuple[str, ...]) -> None:
    """Refuse a name that says nothing about what is to be written."""
    if path is not None and path.suffix.lower() not in endings:
        raise _end(f"{option} must end with {', '.join(endings[:-1])} or {endings[-1]}, got {str(path)!r}.", WRONG_USE)


def _csv(separator: str | None, header: bool | None, decimal: str | None) -> Csv:
    from fastmlp.data.files import Csv

    separator = {"tab": "\t", "\\t": "\t"}.get(separator or "", separator)
    if separator is not None and len(separator) != 1:
        raise _end(f"--separator must be one character, or tab, got {separator!r}.", WRONG_USE)
    if decimal not in (None, ".", ",") or (decimal is not None and decimal == separator):
        raise _end(f"--decimal must be . or a comma, and not what separates columns; got {decimal!r}.", WRONG_USE)
    return Csv(separator, header, decimal)


SETTINGS = ("learning_rate", "schedule", "optimizer", "dropout", "weight_decay", "seed", "buffer_bytes")
_LIMITS: dict[str, tuple[str, Callable[[float], bool]]] = {
    "learning_rate": ("above 0", lambda value: 0 < value < math.inf),
    "dropout": ("from 0 to below 1", lambda value: 0 <= value < 1),
    "weight_decay": ("at least 0", lambda value: 0 <= value < math.inf),
    "seed": ("a whole number below 2**64", lambda value: 0 <= value < 1 << 64),
    "buffer_bytes": ("at least 1", lambda value: value >= 1),
}
"""Of the settings that are numbers."""
PICTURES = (".png", ".svg", ".pdf")
_ANY_WIDTH = 100_000
_WHICH_LABELS = "which file has the labels of {}?"


def _set(plan: Plan, settings: list[str]) -> Plan:
    """The plan with ``--set key=value`` for each of some."""
    from fastmlp.optimizers import OPTIMIZERS
    from fastmlp.schedules import SCHEDULES

    for setting in settings:
        name, is_there, value = setting.partition("=")
        if not is_there or name not in SETTINGS:
            raise _end(f"--set must be one of {', '.join(f'{known}=...' for known in SETTINGS)}; got {setting!r}.", WRONG_USE)
        now = getattr(plan, name)
        kind: Any = float if now is None else type(now)
        try:
            plan = dataclasses.replace(plan, **{name: kind(value)})
        except ValueError:
            raise _end(f"--set {name} must be a {'whole ' * (kind is int)}number, got {value!r}.", WRONG_USE) from None
    try:
        OPTIMIZERS.find(plan.optimizer, "--set optimizer")
        SCHEDULES.find(plan.schedule, "--set schedule")
    except ValueError as error:
        raise _end(str(error), WRONG_USE) from None
    for name, (limits, is_within) in _LIMITS.items():
        value = getattr(plan, name)
        if value is not None and not is_within(value):
            raise _end(f"--set {name} must be {limits}, got {value}.", WRONG_USE)
    return plan


@app.command()
def train(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(
            help="A table: CSV, Parquet or IDX; a folder or a glob of them. Without one: handwritten digits, as a demo."
        ),
    ] = None,
    target: Annotated[str | None, typer.Option(help="The column to predict; of IDX the file with the labels.")] = None,
    task: Annotated[str | None, typer.Option(help="classification or regression; guessed from the target.")] = None,
    test: Annotated[float | None, typer.Option(help="Share of the rows that is held out for the report (default: 0.2).")] = None,
    validate: Annotated[Path | None, typer.Option(help="Another table for the report, instead of a share.")] = None,
    validate_target: Annotated[Path | None, typer.Option(help="Of IDX: the file with the labels of --validate.")] = None,
    hidden: Annotated[
        str | None, typer.Option(help="Widths of the hidden layers, such as 64,64, or none; guessed from the inputs.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Exactly so many; by early stopping unless given.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Rows for each step; guessed from their number.")] = None,
    max_time: Annotated[str | None, typer.Option(help="No epoch begins after this: 60s, 5m, 2h.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "--output", help="The model (default: FILE.safetensors; FOLDER.safetensors); of the demo a folder."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="A picture of the training (.png, .svg, .pdf).")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="A checkpoint: written after each epoch, gone on from if it is there.")
    ] = None,
    categories: Annotated[
        str | None,
        typer.Option(help="Columns whose numbers are only names, such as zip,month; text is taken for categories anyway."),
    ] = None,
    separator: Separator = None,
    header: Header = None,
    decimal: Decimal = None,
    stream: Annotated[
        bool | None, typer.Option("--stream/--no-stream", help="Whether to read in parts while training; guessed from the size.")
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where to keep, until the end, rows that are read in parts: later epochs are faster."),
    ] = None,
    setting: Annotated[list[str] | None, typer.Option("--set", help=f"key=value, of {', '.join(SETTINGS)}.")] = None,
    quiet: Quiet = False,
    json: Json = False,
    force: Force = False,
) -> None:
    """Train on a table and say how good the result is; without a table, on scikit-learn's digits, beside plain NumPy."""
    if file is None:
        _without_table(context)
        with _sentences():
            _demo(out, quiet, force)
        return
    from fastmlp.data.model import Plan
    from fastmlp.data.tables import find_files, name_for
    from fastmlp.io.extras import require

    csv = _csv(separator, header, decimal)
    if target is None:
        with _sentences():
            raise _end(f"--target is missing: {_which_target(file, csv)}", WRONG_USE)
    if task not in (None, "classification", "regression"):
        raise _end(f"--task must be classification or regression, got {task!r}.", WRONG_USE)
    if test is not None and not 0 < test < 1:
        raise _end(f"--test must be a share between 0 and 1, got {test:g}.", WRONG_USE)
    if test is not None and validate is not None:
        raise _end("--test and --validate both say on what to report; give one of them.", WRONG_USE)
    if validate_target is not None and validate is None:
        raise _end("--validate-target is the labels of --validate, which is missing.", WRONG_USE)
    csv = dataclasses.replace(csv, known=(target,))
    plan = Plan(target, task, _widths(hidden), epochs, batch_size=batch_size, max_seconds=_seconds(max_time))
    plan = _set(plan, setting or [])
    out = out or Path(f"{name_for(file)}.safetensors")
    with _sentences():
        tables = [*find_files(file), *(find_files(validate) if validate else [])]
    read = (*tables, resume, Path(target), validate_target)
    _free(out, force, "--out", read)
    _free(plot, force, "--plot", (*read, out))
    _ending(plot, "--plot", PICTURES)
    if resume is not None and resume.resolve() in {path.resolve() for path in tables}:
        raise _end(f"--resume is {resume}, which is a table; give a name for the checkpoint.", WRONG_USE)
    with _sentences():
        if plot is not None:
            require("matplotlib", "cli")  # rather than after the training
        began = time.perf_counter()
        named = [name for name in map(str.strip, (categories or "").split(",")) if name]
        begun, plan = _begin(file, plan, 0.2 if test is None else test, validate, validate_target, csv, named, stream, cache)
        _train_on_table(file, begun, plan, out, plot, resume, began=began, quiet=quiet or json, json=json)


def _without_table(context: typer.Context) -> None:
    """Refuse options that say something about a table where there is none."""
    sources = {parameter.opts[0]: context.get_parameter_source(parameter.name or "") for parameter in context.command.params}
    given = [option for option, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    others = [option for option in given if option not in ("--out", "--quiet", "--force")]
    if others:
        raise _end(f"FILE is missing, which {' and '.join(others)} must be of; give its name, such as table.csv.", WRONG_USE)


def _which_target(file: Path, csv: Csv) -> str:
    """For the person who has forgotten to say."""
    from fastmlp.data.files import is_idx, names_of
    from fastmlp.data.tables import find_files

    first = find_files(file)[0]
    if is_idx(first):
        return _WHICH_LABELS.format(file)
    names = names_of(first, csv)
    return f"which column is to be predicted? {file} has {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}."


@dataclasses.dataclass(frozen=True)
class _Begun:
    """What is there before the first step: rows to train on, to validate on and to report on, and the network."""

    model: TableModel
    rows: Split | Source
    held_out: Split
    tested: Any
    tested_name: str
    batch_size: int
    paths: list[Path]
    test_rows: int
    without_target: int
    form: str
    cache: Path | None


def _begin(
    file: Path,
    plan: Plan,
    share: float,
    validate: Path | None,
    validate_labels: Path | None,
    csv: Csv,
    categories: list[str],
    stream: bool | None,
    cache: Path | None,
) -> tuple[_Begun, Plan]:
    """Read the table, whole or for the first time, and learn its preparation; also the plan, with the target by its name."""
    from fastmlp.data import cached
    from fastmlp.data import model as models
    from fastmlp.data.files import is_idx
    from fastmlp.data.tables import find_files, from_files

    if cache is not None and not cache.is_dir():
        raise _end(f"--cache must be a folder that is there, got {cache}.", WRONG_USE)
    paths = find_files(file)
    labels = Path(plan.target) if is_idx(paths[0]) else None
    if labels is not None and stream:
        raise _end(f"--stream is for tables, and {file} is IDX, which is read whole; leave it out.", WRONG_USE)
    rows: Split | Source
    if labels is None and (models.is_large(paths) if stream is None else stream):
        source = from_files(paths, plan.target, categories=categories, csv=csv)
        model, rows, held_out, tested, batch_size = models.begin_streamed(source, 0 if validate else share, plan)
        in_all, train = source.rows, rows.rows
        if cache is not None:
            rows = cached(rows, cache)
    else:
        if cache is not None:
            raise _end(
                f"--cache is for rows that are read in parts, and {file} is read whole; leave it out, or add --stream.", WRONG_USE
            )
        plan = plan if labels is None else dataclasses.replace(plan, target="label")
        whole = _read(file, plan.target, labels, "--target", csv, categories)
        table, tested = (whole, None) if validate else models.split_table(whole, share, plan.seed)
        model, rows, held_out, batch_size = models.begin(table, None, plan, shared_scale=labels is not None, whole=whole)
        in_all, train = whole.num_rows, len(rows.x)
    if validate is not None:
        types = model.preparation.types | model.preparation.target.types
        tested = _read(validate, plan.target, validate_labels, "--validate-target", csv, categories, types)
    name = str(validate or "the rows to test on")
    with_target = models.check_table(model, tested, name)
    without = in_all - train - len(held_out.x) - (0 if validate else with_target)
    return _Begun(model, rows, held_out, tested, name, batch_size, paths, with_target, without, _form(paths[0], csv), cache), plan


def _read(
    file: Path,
    target: str,
    labels: Path | None,
    option: str,
    csv: Csv,
    categories: Sequence[str] = (),
    types: Mapping[str, str] | None = None,
) -> Any:
    """A whole table with its target; that of IDX files is in the file of labels, which an option names."""
    from fastmlp.data.files import TableError, with_labels
    from fastmlp.data.preparation import missing_column
    from fastmlp.data.tables import find_files, read_tables

    paths = find_files(file)
    _check_labels(paths, target, labels, option)
    table = read_tables(paths, csv, categories, types)
    if labels is not None:
        table = with_labels(table, str(file), labels, target)
    for name in (target, *categories):
        if name not in table.schema.names:
            raise TableError(f"{file}: {missing_column(name, table.schema.names)}")
    return table


def _check_labels(paths: Iterable[Path], target: str, labels: Path | None, option: str) -> None:
    """IDX files, and no others, have their labels in a file of their own."""
    from fastmlp.data.files import is_idx

    for path in paths:
        if is_idx(path) and labels is None:
            raise _end(f"{option} is missing: {_WHICH_LABELS.format(path)}", WRONG_USE)
        if labels is not None and not is_idx(path):
            raise _end(
                f"{option} is the labels of IDX files, but {path} is a table, where they are the column {target!r}; leave it out.",
                WRONG_USE,
            )


def _form(file: Path, csv: Csv) -> str:
    """How a file is read, for people."""
    from fastmlp.data.files import form_of, is_csv

    if not is_csv(file):
        return ""
    form = form_of(file, csv)
    separator = {"\t": "tabs", " ": "spaces"}.get(form.delimiter, repr(form.delimiter))
    decimal = ", decimal commas" if form.decimal == "," else ""
    skipped = f", {form.skip} line{'s' * (form.skip > 1)} before it left out" if form.skip else ""
    return f"CSV, columns separated by {separator}, {'no header' if form.names else 'header'}{decimal}{skipped}"


def _train_on_table(
    file: Path,
    begun: _Begun,
    plan: Plan,
    out: Path,
    plot: Path | None,
    resume: Path | None,
    *,
    began: float,
    quiet: bool,
    json: bool,
) -> None:
    from fastmlp.callbacks import Callback, Progress
    from fastmlp.data import model as models
    from fastmlp.data.evaluation import evaluate, figures, finite_or_none
    from fastmlp.data.evaluation import plot as draw

    model = begun.model
    if not quiet:
        _say_guesses(file, begun, plan)
    callbacks: list[Callback] = [Progress(file.name)] if not quiet and sys.stderr.isatty() else []
    interrupted = False
    try:
        models.learn(model, begun.rows, begun.held_out, begun.batch_size, plan, callbacks, resume)
    except KeyboardInterrupt:
        if not model.history["validation_loss"]:
            raise _end("Interrupted before the end of the first epoch: there is nothing to keep.", INTERRUPTED) from None
        interrupted = True
    except ValueError as error:  # of a checkpoint that is another training's
        raise _end(str(error), FAILED) from None
    model.save(out)
    try:
        result = evaluate(model, begun.tested_name, [(begun.tested_name, begun.tested)])
        if plot is not None:
            draw(model, result, plot)
    except KeyboardInterrupt:
        raise _end(f"Interrupted before the report; the model is written: {out}.", INTERRUPTED) from None
    seconds = time.perf_counter() - began
    if json:
        losses = model.history["validation_loss"]
        best = finite_or_none(losses[models.best_epoch(losses)])
        typer.echo(json_format.dumps({
            "model": str(out), "target": plan.target, "task": "regression" if model.classes is None else "classification",
            "epochs": len(model.history["loss"]), "validation_loss": best, "seconds": seconds, "interrupted": interrupted,
            "test": result,
        }))  # fmt: skip
    else:
        if not quiet:
            typer.echo(
                f"{'Interrupted after' if interrupted else 'Trained for'} {len(model.history['loss'])} epochs, kept the one that "
                f"was best on the validation rows; {seconds:.1f} s in all."
            )
            if model.network.reading_ is not None:
                typer.echo(str(model.network.reading_))
        typer.echo(figures(result, plan.target))
        typer.echo(f"Written: {out}" + (f", {plot}" if plot else ""))
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def _say_guesses(file: Path, begun: _Begun, plan: Plan) -> None:
    """What has been decided, each with the option that decides otherwise."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from fastmlp.data.model import Split, memory_bytes
    from fastmlp.data.preparation import Number

    model, rows, preparation = begun.model, begun.rows, begun.model.preparation
    train = len(rows.x) if isinstance(rows, Split) else rows.rows
    size = sum(path.stat().st_size for path in begun.paths)
    copied = "" if begun.cache is None else f", and from the second epoch on from a copy in {begun.cache}"
    reading = (
        "whole, into memory" if isinstance(rows, Split)
        else f"in parts, while training{copied}, through a buffer of {_bytes(plan.buffer_bytes)}"
    )  # fmt: skip
    files = f"{len(begun.paths)} files" if len(begun.paths) > 1 else "1 file"
    numbers = sum(isinstance(feature, Number) for feature in preparation.features)
    missing = sum(feature.flag for feature in preparation.features)
    classes = preparation.target.classes
    if classes is None:
        what = "regression"
    else:
        shown = ", ".join(classes[:5]) + (", ..." if len(classes) > 5 else "")
        what = f"classification: {len(classes)} classes ({shown})"
    columns = f"{numbers} of numbers, {len(preparation.features) - numbers} of categories, {missing} with missing values"
    hidden = "-".join(map(str, model.network.sizes))
    lines = [
        *([("read as", begun.form, "--separator, --header, --decimal")] if begun.form else []),
        ("target", f"{preparation.target.name}, {what}", "--target, --task"),
        ("columns", f"{columns}; {preparation.width} inputs", "--categories"),
        *((f"  left out: {name}", reason, "") for name, reason in preparation.dropped.items()),
        *((f"  categories: {name}", reason, "") for name, reason in _nearly_numbers(preparation)),
        (
            "rows",
            f"{train:,} to train, {len(begun.held_out.x):,} to validate, {begun.test_rows:,} to test",
            "--test, --validate",
        ),
        *(
            [("  left out", f"{begun.without_target:,} without a target: empty, NA, None and the like", "")]
            if begun.without_target
            else []
        ),
        ("reading", f"{reading}: {files} of {_bytes(size)}, {_bytes(memory_bytes())} of memory", "--stream, --no-stream, --cache"),
        ("network", hidden, "--hidden"),
        (
            "training",
            f"{plan.optimizer}, rate {plan.learning_rate:g}, dropout {plan.dropout:g}, batches of {begun.batch_size}",
            "--batch-size, --set",
        ),
        ("epochs", str(plan.epochs) if plan.epochs else "until the validation rows improve no more", "--epochs, --max-time"),
    ]
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value, option in lines:
        table.add_row(escape(name), escape(value), f"[dim]{option}[/dim]")
    console = Console(stderr=False, width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(f"[bold]{escape(str(file))}[/bold]")
    console.print(table)


def _nearly_numbers(preparation: Preparation) -> Iterator[tuple[str, str]]:
    """Columns that a few texts have made categories of, and one of these texts."""
    from fastmlp.data.files import is_number_text
    from fastmlp.data.preparation import Category

    for feature in preparation.features:
        if isinstance(feature, Category) and len(feature.categories) > 10:
            texts = [text for text in feature.categories if not is_number_text(text)]
            unlike = [text for text in texts if not is_number_text(re.sub(r"[%€$£,\s]", "", text))]
            if texts and len(unlike) < 0.2 * len(feature.categories):
                yield feature.name, f"nearly all are numbers, but {(unlike or texts)[0]!r} is not"


def _bytes(number: float) -> str:
    """With a unit."""
    for unit in ("bytes", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def _demo(given: Path | None, quiet: bool, force: bool) -> None:
    from fastmlp.demo import FOLDER, demonstrate, files_in

    output = given or Path(FOLDER)
    if output.exists() and not output.is_dir():
        raise _end(f"--output must be a folder, but {output} is a file; give another name.", WRONG_USE)
    for path in files_in(output) if given else ():  # the folder that it chooses itself is its own
        if path.exists():
            _free(path, force, "--out")
    try:
        agreed = demonstrate(output, typer.echo, progress=not quiet and sys.stderr.isatty())
    except BrokenPipeError:  # of the terminal, not of the folder
        raise
    except OSError as error:
        raise _end(f"Could not write to {output}: {error.strerror}.", FAILED) from None
    if not agreed:
        raise typer.Exit(FAILED)


@app.command()
def predict(
    model: ModelFile,
    file: Annotated[
        Path, typer.Argument(help="A table with the columns that the model was trained on; a folder or a glob of them.")
    ],
    proba: Annotated[bool, typer.Option("--proba", help="Also the probability of each class.")] = False,
    out: Annotated[Path | None, typer.Option(help="A .csv, .jsonl or .parquet file (default: the terminal, as CSV).")] = None,
    separator: Separator = None,
    header: Header = None,
    decimal: Decimal = None,
    quiet: Quiet = False,
    json: Annotated[bool, typer.Option("--json", help="To the terminal as JSON, a line for each row.")] = False,
    force: Force = False,
) -> None:
    """Predict the rows of a table, in constant memory whatever their number."""
    from fastmlp.data.model import TableModel
    from fastmlp.data.tables import check_columns, find_files

    with _sentences():
        paths = find_files(file)
    _free(out, force, "--out", (model, *paths))
    _ending(out, "--out", (".csv", ".jsonl", ".parquet"))
    if json and out is not None:
        raise _end(f"--json is for the terminal; of --out {out}, the ending chooses: .jsonl, .csv or .parquet.", WRONG_USE)
    csv = _csv(separator, header, decimal)
    with _sentences():
        loaded = TableModel.load(model)
        if proba and loaded.classes is None:
            raise _end("--proba is for classes, and this model predicts numbers.", WRONG_USE)
        csv = dataclasses.replace(csv, known=tuple(loaded.preparation.types))
        check_columns(paths, loaded.preparation.types, csv)
        parts = (_predicted(loaded, source, batch, proba) for source, batch in _batches(loaded.preparation.types, paths, csv))
        names = list(_predicted_names(loaded, proba))
        if out is None:
            (_write_json_lines if json else _write_csv)(names, parts, sys.stdout)
            return
        rows = _write_file(names, parts, out)
    if not quiet:
        typer.echo(f"Written: {out}, {rows:,} rows", err=True)


def _batches(types: Mapping[str, str], paths: Iterable[Path], csv: Csv) -> Iterator[tuple[Path, Any]]:
    """The rows of some files, one batch after the other, each with the file that it is from."""
    from fastmlp.data.files import read_batches

    for path in paths:
        yield from ((path, batch) for batch in read_batches(path, types, csv) if batch.num_rows)


def _predicted_names(model: TableModel, proba: bool) -> Iterator[str]:
    yield model.preparation.target.name
    if proba and model.classes is not None:
        yield from (f"probability of {name}" for name in model.classes)


def _predicted(model: TableModel, source: Path, batch: Any, proba: bool) -> list[list[Any]]:
    """Columns."""
    from fastmlp.data.files import naming

    with naming(source):
        outputs = model.outputs(batch)
    if model.classes is None:
        return [outputs.tolist()]
    names = [model.classes[place] for place in outputs.argmax(axis=1)]
    return [names, *outputs.T.tolist()] if proba else [names]


def _write_file(names: list[str], parts: Iterable[list[list[Any]]], out: Path) -> int:
    """Write predictions by the ending of the name; returns the number of rows."""
    from fastmlp.files import replacement

    with replacement(out) as aside:
        if out.suffix.lower() == ".parquet":
            return _write_parquet(names, parts, str(aside))
        with aside.open("w", newline="", encoding="utf-8") as file:
            return (_write_json_lines if out.suffix.lower() == ".jsonl" else _write_csv)(names, parts, file)


def _write_csv(names: list[str], parts: Iterable[list[list[Any]]], file: TextIO) -> int:
    """A line of names, then the rows, part by part; returns their number."""
    writer = csv_format.writer(file, lineterminator="\n")
    rows = 0
    for number, columns in enumerate(parts):
        if number == 0:  # not before the first rows could be read
            writer.writerow(names)
        writer.writerows(zip(*columns, strict=True))
        rows += len(columns[0])
    if rows == 0:
        writer.writerow(names)
    return rows


def _write_json_lines(names: list[str], parts: Iterable[list[list[Any]]], file: TextIO) -> int:
    """An object for each row; returns their number."""
    rows = 0
    for columns in parts:
        for values in zip(*columns, strict=True):
            file.write(json_format.dumps(dict(zip(names, values, strict=True)), ensure_ascii=False) + "\n")
        rows += len(columns[0])
    return rows


def _write_parquet(names: list[str], parts: Iterable[list[list[Any]]], path: str) -> int:
    import pyarrow
    import pyarrow.parquet

    rows, writer = 0, None
    try:
        for columns in parts:
            table = pyarrow.table(columns, names)
            writer = writer or pyarrow.parquet.ParquetWriter(path, table.schema)
            writer.write_table(table)
            rows += table.num_rows
    finally:
        if writer is not None:
            writer.close()
    if writer is None:
        pyarrow.parquet.write_table(pyarrow.table({name: pyarrow.nulls(0) for name in names}), path)
    return rows


@app.command("evaluate")
def evaluate_(
    model: ModelFile,
    file: Annotated[
        Path,
        typer.Argument(help="A table with the columns that the model was trained on, and the target; a folder or a glob of them."),
    ],
    target: Annotated[Path | None, typer.Option(help="Of IDX: the file with the labels.")] = None,
    separator: Separator = None,
    header: Header = None,
    decimal: Decimal = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="One line, without the table of classes.")] = False,
    json: Json = False,
) -> None:
    """Say how good a model is on a table."""
    from fastmlp.data.evaluation import evaluate, figures
    from fastmlp.data.model import TableModel

    csv = _csv(separator, header, decimal)
    with _sentences():
        loaded = TableModel.load(model)
        result = evaluate(loaded, file, _with_target(loaded, file, target, csv))
    if json:
        typer.echo(json_format.dumps(result))
        return
    typer.echo(figures(result, loaded.preparation.target.name))
    if loaded.classes is not None and not quiet:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        table = Table(r"true \ predicted", *map(escape, loaded.classes))
        for name, row in zip(loaded.classes, result["confusion"], strict=True):
            table.add_row(escape(name), *map(str, row))
        console = Console()
        needed = console.measure(table, options=console.options.update(max_width=_ANY_WIDTH)).maximum
        if not sys.stdout.isatty():
            console = Console(width=needed)
        elif needed > console.width:
            typer.echo(
                f"The table of {len(loaded.classes)} classes is {needed} characters wide: --json has it, or a file or less -S."
            )
            return
        console.print(table)


def _with_target(model: TableModel, file: Path, labels: Path | None, csv: Csv) -> Iterable[tuple[Path, Any]]:
    """Rows to evaluate a model on, each part with the file that it is from."""
    from fastmlp.data.files import is_idx
    from fastmlp.data.tables import check_columns, find_files

    paths, target = find_files(file), model.preparation.target.name
    if labels is not None or is_idx(paths[0]):
        return [(file, _read(file, target, labels, "--target", csv))]
    csv = dataclasses.replace(csv, known=tuple(model.preparation.types))
    check_columns(paths, [*model.preparation.types, target], csv)
    return _batches(model.preparation.types | model.preparation.target.types, paths, csv)


@app.command()
def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A .safetensors model.")],
    file: Annotated[Path, typer.Argument(help="What to write: .onnx, or .py for a file that needs NumPy only.")],
    force: Force = False,
) -> None:
    """Write a model's network in another form."""
    from fastmlp import io
    from fastmlp.data.model import TableModel, has_table

    writers: dict[str, Callable[[Any, Path], None]] = {".onnx": io.to_onnx, ".py": io.to_numpy_source}
    if file.suffix.lower() not in writers:
        raise _end(f"The name must end with {' or '.join(writers)}, got {file.name!r}.", WRONG_USE)
    _free(file, force, "the second argument", (model,))
    with _sentences():
        try:
            network = io.load(model)
        except (ValueError, FileNotFoundError) as error:
            raise _end(str(error), FAILED) from None
        writers[file.suffix.lower()](network, file)
        target = TableModel.load(model).preparation.target if has_table(model) else None
    back = (
        "" if target is None or not target.is_scaled else f" {target.name} is its output * {target.scale:.9g} + {target.mean:.9g}."
    )
    typer.echo(
        f"Written: {file}. It takes the {network.sizes[0]} numbers that a row becomes (`fastmlp info {model}` says which), in "
        f"{network.dtype}.{back}"
    )


_HANDED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command(context_settings=_HANDED_ON, add_help_option=False)
def bench(context: typer.Context) -> None:
    """Measure how fast this machine trains, beside NumPy and the libraries that are installed; --help for what can be chosen."""
    try:
        run = importlib.import_module("fastmlp.benchmarks.__main__")
    except ModuleNotFoundError as error:
        if error.name not in ("fastmlp.benchmarks", "fastmlp.benchmarks.__main__"):  # which is there, but needs something else
            raise
        # In a working tree, they are beside the package.
        run = importlib.import_module("benchmarks.__main__")
    raise typer.Exit(run.main(context.args, program="fastmlp bench"))


@app.command()
def warmup(
    dtype: Annotated[list[str] | None, typer.Option(help="float32, float64, or both by giving it twice.")] = None,
) -> None:
    """Compile the kernels now, so that the first training need not; for container images."""
    from fastmlp.engine import compile_kernels
    from fastmlp.kernels.cache import KernelCache
    from fastmlp.validation import check_dtype

    try:
        dtypes = [check_dtype(name) for name in dtype or ["float32", "float64"]]
    except ValueError as error:
        raise _end(str(error), WRONG_USE) from None
    for one in dtypes:
        compile_kernels(one)
    if KernelCache.not_kept:
        raise _end(f"Kernels were compiled, but could not be kept in {_cache_place()}: can you write there?", FAILED)
    typer.echo(f"Kernels are compiled and kept in {_cache_place()}.")


def _cache_place() -> str:
    """Where compiled kernels are kept, in words."""
    from fastmlp.kernels.cache import cache_directory

    try:
        return str(cache_directory())
    except RuntimeError:
        return "a directory that FASTMLP_CACHE_DIR names (it is not set, and there is no home directory)"


@app.command()
def info(
    model: Annotated[Path | None, typer.Argument(metavar="[MODEL]", help="A model; without one, the machine.")] = None,
    json: Json = False,
) -> None:
    """What is in a model; without one, what the kernels are compiled for, and where they are kept."""
    if model is not None:
        with _sentences():
            _model_info(model, json)
        return
    import numba
    import numpy as np

    import fastmlp
    from fastmlp.kernels.simd import CPU_NAME, MACHINE
    from fastmlp.threads import available_threads

    rows = {
        "fastmlp": fastmlp.__version__,
        "Python": platform.python_version(),
        "numba, NumPy": f"{numba.__version__}, {np.__version__}",
        "processor": f"{CPU_NAME} ({platform.machine()})",
        "vector registers": f"{8 * MACHINE.vector_bytes} bit, {'with' if MACHINE.fma else 'without'} fused multiply-add",
        "register tile": f"{MACHINE.tile_rows} rows x {MACHINE.tile_vectors} vectors",
        "threads available": str(available_threads()),
        "kernel cache": _cache_place(),
    }
    if json:
        typer.echo(json_format.dumps(rows))
        return
    for name, value in rows.items():
        typer.echo(f"{name:18} {value}")


def _model_info(path: Path, json: bool) -> None:
    from fastmlp.data.files import TableError
    from fastmlp.data.model import TableModel, has_table
    from fastmlp.io import load

    try:
        model = TableModel.load(path) if has_table(path) else None
        network = load(path) if model is None else model.network
    except (FileNotFoundError, ValueError) as error:
        raise TableError(str(error)) from None
    facts = {
        "network": "-".join(map(str, network.sizes)),
        "parameters": network.theta.size,
        "activations": list(network.activation),
        "loss": network.loss,
        "dtype": network.dtype.name,
    }
    if model is not None:
        content = model.preparation.as_dict()
        facts |= {
            "target": model.preparation.target.name, "classes": model.classes, "epochs": len(model.history.get("loss", [])),
            "inputs": model.preparation.width, "features": content["features"], "left_out": content["dropped"],
        }  # fmt: skip
        if model.classes is None:
            facts |= {"target_mean": model.preparation.target.mean, "target_scale": model.preparation.target.scale}
    if json:
        typer.echo(json_format.dumps(facts))
        return
    for name, value in _for_people(facts, model):
        typer.echo(f"{name:18} {value}")


def _for_people(facts: dict[str, Any], model: TableModel | None) -> Iterator[tuple[str, str]]:
    """The facts about a model, each as a name and a few words."""
    from fastmlp.data.preparation import FARTHEST, Number

    yield "network", facts["network"]
    yield "parameters", f"{facts['parameters']:,}"
    yield "activations", ", ".join(facts["activations"])
    yield "loss", facts["loss"]
    yield "dtype", facts["dtype"]
    if model is None:
        return
    target = model.preparation.target
    scaled = f": output * {target.scale:.6g} + {target.mean:.6g}" if target.is_scaled else ""
    yield "target", facts["target"] + (f": {', '.join(model.classes)}" if model.classes else scaled)
    yield "epochs", str(facts["epochs"])
    for feature in model.preparation.features:
        flag = ", and whether it is missing" if feature.flag else ""
        if isinstance(feature, Number):
            limits = f" from -{FARTHEST:g} to {FARTHEST:g}" if feature.clipped else ""
            value = f"number, (value - {feature.mean:.6g}) / {feature.scale:.6g}{limits}, 0 where it is missing{flag}"
        else:
            value = f"one of {', '.join(feature.categories[:8])}{', ...' if len(feature.categories) > 8 else ''}{flag}"
        yield f"  {feature.name}", value
    for name, reason in model.preparation.dropped.items():
        yield f"  {name}", f"left out: {reason}"
