"""The work of ``fastmlp train`` on a table, and what it says about it."""

from __future__ import annotations

import dataclasses
import json as json_format
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fastmlp.cli.checks import FAILED, INTERRUPTED, WHICH_LABELS, WRONG_USE, check_no_pipe, end, files_of

if TYPE_CHECKING:
    from fastmlp.data.csv_form import Csv
    from fastmlp.data.model import Plan, Split, TableModel
    from fastmlp.data.preparation import Preparation
    from fastmlp.data.sources import Source


@dataclasses.dataclass(frozen=True)
class Begun:
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
    doubts: dict[str, str]
    cache: Path | None


def begin(
    file: Path,
    plan: Plan,
    share: float,
    validate: Path | None,
    validate_labels: Path | None,
    csv: Csv,
    categories: list[str],
    stream: bool | None,
    cache: Path | None,
) -> tuple[Begun, Plan]:
    """Read the table, whole or for the first time, and learn its preparation; also the plan, with the target by its name."""
    from fastmlp.data import cached
    from fastmlp.data import model as models
    from fastmlp.data.opening import is_idx
    from fastmlp.data.tables import from_files
    from fastmlp.feed import BUFFER_BYTES

    paths = files_of(file)
    labels = Path(plan.target) if is_idx(paths[0]) else None
    if labels is not None and stream:
        raise end(f"--stream is for tables, and {file} is IDX, which is read whole; leave it out.", WRONG_USE)
    rows: Split | Source
    if labels is None and (models.is_large(paths) if stream is None else stream):
        source = from_files(paths, plan.target, categories=categories, csv=csv)
        model, rows, held_out, tested, batch_size = models.begin_streamed(source, 0 if validate else share, plan)
        in_all, train = source.rows, rows.rows
        if cache is not None:
            rows = cached(rows, cache)
    else:
        for_parts = {"--cache": cache is not None, "--set buffer_bytes": plan.buffer_bytes != BUFFER_BYTES}
        given = [option for option, is_given in for_parts.items() if is_given]
        if given:
            or_else = "" if labels is not None else ", or add --stream"
            raise end(f"{given[0]} is for rows that are read in parts, and {file} is read whole; leave it out{or_else}.", WRONG_USE)
        plan = plan if labels is None else dataclasses.replace(plan, target="label")
        whole = read_whole(file, plan.target, labels, "--target", csv, categories)
        table, tested = (whole, None) if validate else models.split_table(whole, share, plan.seed)
        model, rows, held_out, batch_size = models.begin(table, None, plan, shared_scale=labels is not None, whole=whole)
        in_all, train = whole.num_rows, len(rows.x)
    if validate is not None:
        types = model.preparation.types | model.preparation.target.types
        tested = read_whole(validate, plan.target, validate_labels, "--validate-target", csv, categories, types)
    name = str(validate or "the rows to test on")
    with_target = models.check_table(model, tested, name)
    without = in_all - train - len(held_out.x) - (0 if validate else with_target)
    doubts = _doubts(model, paths[0], csv, categories)
    form = _form(paths[0], csv)
    return Begun(model, rows, held_out, tested, name, batch_size, paths, with_target, without, form, doubts, cache), plan


def _doubts(model: TableModel, file: Path, csv: Csv, categories: list[str]) -> dict[str, str]:
    """Columns of numbers that may not be meant as they are read, and why."""
    from fastmlp.data.csv_form import read_otherwise
    from fastmlp.data.preparation import Number

    numbers = {one.name for one in model.preparation.features if isinstance(one, Number)} | {model.preparation.target.name}
    return {name: how for name, how in read_otherwise(file, csv).items() if name in numbers and name not in categories}


def read_whole(
    file: Path,
    target: str,
    labels: Path | None,
    option: str,
    csv: Csv,
    categories: Sequence[str] = (),
    types: Mapping[str, str] | None = None,
) -> Any:
    """A whole table with its target; that of IDX files is in the file of labels, which an option names."""
    from fastmlp.data.errors import TableError
    from fastmlp.data.idx import with_labels
    from fastmlp.data.preparation import missing_column
    from fastmlp.data.tables import read_tables

    paths = files_of(file)
    _check_labels(paths, target, labels, option)
    table = read_tables(paths, csv, categories, types, target)
    if labels is not None:
        table = with_labels(table, str(file), labels, target)
    for name in (target, *categories):
        if name not in table.schema.names:
            raise TableError(f"{file}: {missing_column(name, table.schema.names)}")
    return table


def _check_labels(paths: Iterable[Path], target: str, labels: Path | None, option: str) -> None:
    """IDX files, and no others, have their labels in a file of their own."""
    from fastmlp.data.opening import is_idx

    check_no_pipe(labels)
    for path in paths:
        if is_idx(path) and labels is None:
            raise end(f"{option} is missing: {WHICH_LABELS.format(path)}", WRONG_USE)
        if labels is not None and not is_idx(path):
            raise end(
                f"{option} is the labels of IDX files, but {path} is a table, where they are the column {target!r}; leave it out.",
                WRONG_USE,
            )


def _form(file: Path, csv: Csv) -> str:
    """How a file is read, for people."""
    from fastmlp.data.csv_form import form_of
    from fastmlp.data.opening import is_csv

    if not is_csv(file):
        return ""
    form = form_of(file, csv)
    separator = {"\t": "tabs", " ": "spaces"}.get(form.delimiter, repr(form.delimiter))
    decimal = ", decimal commas" if form.decimal == "," else ""
    skipped = f", {form.skip} line{'s' * (form.skip > 1)} before it left out" if form.skip else ""
    return f"CSV, columns separated by {separator}, {'no header' if form.names else 'header'}{decimal}{skipped}"


def train_and_report(
    file: Path,
    begun: Begun,
    plan: Plan,
    out: Path,
    plot: Path | None,
    resume: Path | None,
    *,
    began: float,
    quiet: bool,
    json: bool,
) -> None:
    """Train, write the model, and say how good it is on the rows that were held out."""
    from fastmlp.callbacks import Callback, Progress
    from fastmlp.data import model as models
    from fastmlp.data.evaluation import evaluate, figures, finite_or_none
    from fastmlp.data.evaluation import plot as draw
    from fastmlp.data.tables import PIECE_ROWS

    model = begun.model
    if not quiet:
        _say_guesses(file, begun, plan)
    callbacks: list[Callback] = [Progress(file.name)] if not quiet and sys.stderr.isatty() else []
    interrupted = False
    try:
        models.learn(model, begun.rows, begun.held_out, begun.batch_size, plan, callbacks, resume)
    except KeyboardInterrupt:
        if not model.history.get("validation_loss"):
            raise end("Interrupted before the end of the first epoch: there is nothing to keep.", INTERRUPTED) from None
        interrupted = True
    except ValueError as error:  # of a checkpoint that is another training's
        raise end(str(error), FAILED) from None
    losses = model.history["validation_loss"]
    best = finite_or_none(losses[models.best_epoch(losses)])
    if best is None:  # the step that did it was the last one of an epoch: no loss of rows to train on has seen it
        rate = plan.learning_rate
        raise end(
            f"Training diverged: the rows to validate on have no finite loss, at learning_rate={rate:g}. No model is written. "
            f"Try a lower rate, such as {rate / 10:g}.",
            FAILED,
        )
    _save(model, out)
    try:
        parts = ((begun.tested_name, batch) for batch in begun.tested.to_batches(max_chunksize=PIECE_ROWS))
        result = evaluate(model, begun.tested_name, parts)
        if plot is not None:
            draw(model, result, plot)
    except KeyboardInterrupt:
        raise end(f"Interrupted before the report; the model is written: {out}.", INTERRUPTED) from None
    except OSError as error:
        raise end(f"{plot}: {error.strerror}; the model is written: {out}.", FAILED) from None
    seconds = time.perf_counter() - began
    if json:
        typer.echo(json_format.dumps({
            "model": str(out), "target": plan.target, "task": "regression" if model.classes is None else "classification",
            "epochs": len(model.history["loss"]), "validation_loss": best, "seconds": seconds, "interrupted": interrupted,
            "test": result,
        }))  # fmt: skip
    else:
        if not quiet:
            epochs = len(model.history["loss"])
            typer.echo(
                f"{'Interrupted after' if interrupted else 'Trained for'} {epochs} epoch{'s' * (epochs != 1)}, kept the one that "
                f"was best on the validation rows; {seconds:.1f} s in all."
            )
            if model.network.reading_ is not None:
                typer.echo(str(model.network.reading_))
        typer.echo(figures(result, plan.target))
        typer.echo(f"Written: {out}" + (f", {plot}" if plot else ""))
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def _save(model: TableModel, out: Path) -> None:
    """Write a model; where there is no room for it any more, among temporary files: the training may have taken hours."""
    try:
        model.save(out)
    except OSError as error:
        folder = Path(tempfile.mkdtemp(prefix="fastmlp-"))
        try:
            model.save(folder / out.name)
        except OSError:
            folder.rmdir()
            raise error from None
        raise end(f"{out}: {error.strerror}; the model is written to {folder / out.name} instead.", FAILED) from None


def _say_guesses(file: Path, begun: Begun, plan: Plan) -> None:
    """What has been decided, each with the option that decides otherwise."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from fastmlp.data.model import MOST_EPOCHS, Split, dropout_of, memory_bytes
    from fastmlp.data.preparation import Number, shown

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
        some = ", ".join(map(shown, classes[:5])) + (", ..." if len(classes) > 5 else "")
        what = f"classification: {len(classes)} classes ({some})"
    columns = f"{numbers} of numbers, {len(preparation.features) - numbers} of categories, {missing} with missing values"
    hidden = "-".join(map(str, model.network.sizes))
    dropout = f", dropout {dropout_of(plan, model.network.sizes):g}" if len(model.network.sizes) > 2 else ""
    until = f"until the validation rows improve no more, {MOST_EPOCHS} at most"
    lines = [
        *([("read as", begun.form, "--separator, --header, --decimal")] if begun.form else []),
        ("target", f"{shown(preparation.target.name)}, {what}", "--target, --task, --categories"),
        ("columns", f"{columns}; {preparation.width} inputs", "--categories"),
        *((f"  left out: {shown(name)}", reason, "") for name, reason in preparation.dropped.items()),
        *((f"  categories: {shown(name)}", reason, "") for name, reason in _nearly_numbers(preparation)),
        *((f"  as numbers: {shown(name)}", how, "") for name, how in begun.doubts.items()),
        (
            "rows",
            f"{train:,} to train, {len(begun.held_out.x):,} to validate, {begun.test_rows:,} to test",
            "--test, --validate",
        ),
        *(
            [("  left out", f"{begun.without_target:,} without a target: empty, NA, inf and the like", "")]
            if begun.without_target
            else []
        ),
        ("reading", f"{reading}: {files} of {_bytes(size)}, {_bytes(memory_bytes())} of memory", "--stream, --no-stream, --cache"),
        ("network", hidden, "--hidden"),
        (
            "training",
            f"{plan.optimizer}, rate {plan.learning_rate:g}{dropout}, batches of {begun.batch_size}",
            "--batch-size, --set",
        ),
        ("epochs", str(plan.epochs) if plan.epochs else until, "--epochs, --max-time"),
    ]
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value, option in lines:
        table.add_row(escape(name), escape(value), f"[dim]{option}[/dim]")
    console = Console(stderr=False, width=None if sys.stdout.isatty() else 120, highlight=False, emoji=False)
    console.print(f"[bold]{escape(str(file))}[/bold]")
    console.print(table)


def _nearly_numbers(preparation: Preparation) -> Iterator[tuple[str, str]]:
    """Columns that a few texts have made categories of, and one of these texts."""
    from fastmlp.data.learning import nearly_numbers
    from fastmlp.data.preparation import Category

    for feature in preparation.features:
        if isinstance(feature, Category) and len(feature.categories) > 10:
            reason = nearly_numbers(feature.categories)
            if reason is not None:
                yield feature.name, reason


def _bytes(number: float) -> str:
    """With a unit."""
    for unit in ("bytes", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"
