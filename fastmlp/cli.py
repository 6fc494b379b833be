"""The command line. Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import json as json_format
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

if TYPE_CHECKING:
    from fastmlp.data.model import Plan, Split, TableModel
    from fastmlp.data.tables import TableSource

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
    except OSError as error:
        raise _end(f"{error.filename or 'A file'}: {error.strerror or error}.", FAILED) from None


def _free(path: Path | None, force: bool, option: str) -> None:
    """Refuse to replace a file, before any work is done for it."""
    if path is None:
        return
    if path.is_dir() or not path.parent.is_dir():
        raise _end(f"{option} must be a file in a folder that exists, got {str(path)!r}.", WRONG_USE)
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


def _widths(text: str) -> tuple[int, ...]:
    """64,64; none for a linear model."""
    words = [word.strip() for word in text.split(",") if word.strip() and word.strip() != "none"]
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise _end(f"--hidden must be widths of layers such as 64,64, or none, got {text!r}.", WRONG_USE)
    return tuple(map(int, words))


SETTINGS = ("learning_rate", "optimizer", "dropout", "weight_decay", "seed", "buffer_bytes")


def _set(plan: Plan, settings: list[str]) -> Plan:
    """The plan with ``--set key=value`` for each of some."""
    from fastmlp.optimizers import OPTIMIZERS

    for setting in settings:
        name, is_there, value = setting.partition("=")
        if not is_there or name not in SETTINGS:
            raise _end(f"--set must be one of {', '.join(f'{known}=...' for known in SETTINGS)}; got {setting!r}.", WRONG_USE)
        kind = type(getattr(plan, name))
        try:
            plan = dataclasses.replace(plan, **{name: kind(value)})
        except ValueError:
            raise _end(f"--set {name} must be a number, got {value!r}.", WRONG_USE) from None
    try:
        OPTIMIZERS.find(plan.optimizer, "--set optimizer")
    except ValueError as error:
        raise _end(str(error), WRONG_USE) from None
    if plan.buffer_bytes < 1:
        raise _end(f"--set buffer_bytes must be at least 1, got {plan.buffer_bytes}.", WRONG_USE)
    if not (plan.learning_rate > 0 and 0 <= plan.dropout < 1 and plan.weight_decay >= 0 and plan.seed >= 0):
        raise _end("--set: learning_rate must be above 0, dropout from 0 to below 1, weight_decay and seed at least 0.", WRONG_USE)
    return plan


@app.command()
def train(
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
    hidden: Annotated[str, typer.Option(help="Widths of the hidden layers; none for a linear model.")] = "64,64",
    epochs: Annotated[int | None, typer.Option(min=1, help="Exactly so many; by early stopping unless given.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Rows for each step; guessed from their number.")] = None,
    max_time: Annotated[str | None, typer.Option(help="No epoch begins after this: 60s, 5m, 2h.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "--output", help="The model (default: FILE.safetensors); of the demo a folder.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="A picture of the training (.png, .svg, .pdf).")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="A checkpoint: written after each epoch, gone on from if it is there.")
    ] = None,
    stream: Annotated[
        bool | None, typer.Option("--stream/--no-stream", help="Whether to read in parts while training; guessed from the size.")
    ] = None,
    setting: Annotated[list[str] | None, typer.Option("--set", help=f"key=value, of {', '.join(SETTINGS)}.")] = None,
    quiet: Quiet = False,
    json: Json = False,
    force: Force = False,
) -> None:
    """Train on a table and say how good the result is; without a table, on scikit-learn's digits, beside plain NumPy."""
    if file is None:
        _demo(out or Path("fastmlp-digits"), quiet)
        return
    from fastmlp.data.model import Plan

    if target is None:
        with _sentences():
            raise _end(f"--target is missing: which column is to be predicted?{_columns_of(file)}", WRONG_USE)
    if task not in (None, "classification", "regression"):
        raise _end(f"--task must be classification or regression, got {task!r}.", WRONG_USE)
    if test is not None and not 0 < test < 1:
        raise _end(f"--test must be a share between 0 and 1, got {test:g}.", WRONG_USE)
    if test is not None and validate is not None:
        raise _end("--test and --validate both say on what to report; give one of them.", WRONG_USE)
    plan = Plan(target, task, _widths(hidden), epochs, batch_size=batch_size, max_seconds=_seconds(max_time))
    plan = _set(plan, setting or [])
    out = out or Path(re.sub(r"\.(csv|tsv|txt|parquet|gz)$", "", file.name) + ".safetensors")
    _free(out, force, "--out")
    _free(plot, force, "--plot")
    with _sentences():
        _train_on_table(
            file, plan, 0.2 if test is None else test, validate, out, plot, resume, stream=stream, quiet=quiet or json, json=json
        )


def _columns_of(file: Path) -> str:
    """For the person who has forgotten to say which."""
    from fastmlp.data.files import names_of
    from fastmlp.data.tables import find_files

    names = names_of(find_files(file)[0])
    return f" {file} has {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}."


def _read(file: Path, target: str) -> tuple[Any, str, bool]:
    """A table, the name of its target, and whether it is made of pictures; labels may be in a file of their own."""
    from fastmlp.data.files import TableError, read_idx
    from fastmlp.data.preparation import missing_column
    from fastmlp.data.tables import find_files, read_tables

    table = read_tables(find_files(file))
    labels = Path(target)
    pictures = table.schema.names[0] == "pixel 0"
    if pictures and labels.is_file():
        values = read_idx(labels).reshape(-1)
        if len(values) != table.num_rows:
            raise TableError(f"{labels} has {len(values)} labels, but {file} has {table.num_rows} rows.")
        import pyarrow

        return table.append_column("label", pyarrow.array(values.astype("int64"))), "label", True
    if target not in table.schema.names:
        raise TableError(missing_column(target, table.schema.names))
    return table, target, pictures


def _train_on_table(
    file: Path,
    plan: Plan,
    share: float,
    validate: Path | None,
    out: Path,
    plot: Path | None,
    resume: Path | None,
    *,
    stream: bool | None,
    quiet: bool,
    json: bool,
) -> None:
    from fastmlp.callbacks import Callback, Checkpoint, Progress
    from fastmlp.data import model as models
    from fastmlp.data.evaluation import evaluate, figures
    from fastmlp.data.evaluation import plot as draw
    from fastmlp.data.tables import find_files, from_files

    began = time.perf_counter()
    paths = find_files(file)
    target = plan.target
    rows: Split | TableSource
    if models.is_large(paths) if stream is None else stream:
        rows_of_all = from_files(paths, target)
        model, rows, held_out, tested, batch_size = models.begin_streamed(rows_of_all, 0 if validate else share, plan)
    else:
        table, target, pictures = _read(file, target)
        plan = dataclasses.replace(plan, target=target)
        if validate is None:
            table, tested = models.split_table(table, share, plan.seed)
        model, rows, held_out, batch_size = models.begin(table, None, plan, shared_scale=pictures)
    if validate is not None:
        tested = _read(validate, plan.target)[0]
    if not quiet:
        _say_guesses(file, paths, model, plan, rows, held_out, tested.num_rows, batch_size)
    callbacks: list[Callback] = [Progress(file.name)] if not quiet and sys.stderr.isatty() else []
    if resume is not None:
        callbacks.append(Checkpoint(resume))
    interrupted = False
    try:
        models.learn(model, rows, held_out, batch_size, plan, callbacks, resume if resume is not None and resume.exists() else None)
    except KeyboardInterrupt:
        if not model.history["validation_loss"]:
            raise _end("Interrupted before the end of the first epoch: there is nothing to keep.", INTERRUPTED) from None
        interrupted = True
    except ValueError as error:  # of a checkpoint that is another training's
        raise _end(str(error), FAILED) from None
    model.save(out)
    result = evaluate(model, tested)
    if plot is not None:
        draw(model, result, str(plot), plan.learning_rate)
    seconds = time.perf_counter() - began
    if json:
        best = min(model.history["validation_loss"])
        typer.echo(json_format.dumps({
            "model": str(out), "target": target, "task": "regression" if model.classes is None else "classification",
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
        typer.echo(figures(result, target))
        typer.echo(f"Written: {out}" + (f", {plot}" if plot else ""))
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def _say_guesses(
    file: Path,
    paths: list[Path],
    model: TableModel,
    plan: Plan,
    rows: Split | TableSource,
    held_out: Split,
    tested: int,
    batch_size: int,
) -> None:
    """What has been decided, each with the option that decides otherwise."""
    from rich.console import Console
    from rich.table import Table

    from fastmlp.data.model import Split, memory_bytes
    from fastmlp.data.preparation import Number

    preparation = model.preparation
    train = len(rows.x) if isinstance(rows, Split) else rows.rows
    size = sum(path.stat().st_size for path in paths)
    reading = (
        "whole, into memory" if isinstance(rows, Split)
        else f"in parts, while training, through a buffer of {_bytes(plan.buffer_bytes)}"
    )  # fmt: skip
    files = f"{len(paths)} files" if len(paths) > 1 else "1 file"
    numbers = sum(isinstance(feature, Number) for feature in preparation.features)
    missing = sum(feature.flag for feature in preparation.features)
    classes = preparation.target.classes
    if classes is None:
        what = "regression"
    else:
        shown = ", ".join(classes[:5]) + (", ..." if len(classes) > 5 else "")
        what = f"classification: {len(classes)} classes ({shown})"
    columns = f"{numbers} of numbers, {len(preparation.features) - numbers} of categories, {missing} with missing values"
    lines = [
        ("target", f"{preparation.target.name}, {what}", "--target, --task"),
        ("columns", f"{columns}; {preparation.width} inputs", ""),
        *((f"  left out: {name}", reason, "") for name, reason in preparation.dropped.items()),
        ("rows", f"{train:,} to train, {len(held_out.x):,} to validate, {tested:,} to test", "--test, --validate"),
        ("reading", f"{reading}: {files} of {_bytes(size)}, {_bytes(memory_bytes())} of memory", "--stream, --no-stream"),
        ("network", "-".join(map(str, model.network.sizes)), "--hidden"),
        ("training", f"{plan.optimizer}, rate {plan.learning_rate:g}, batches of {batch_size}", "--batch-size, --set"),
        ("epochs", str(plan.epochs) if plan.epochs else "until the validation rows improve no more", "--epochs, --max-time"),
    ]
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value, option in lines:
        table.add_row(name, value, f"[dim]{option}[/dim]")
    console = Console(stderr=False, width=None if sys.stdout.isatty() else 110, highlight=False)
    console.print(f"[bold]{file}[/bold]")
    console.print(table)


def _bytes(number: float) -> str:
    """With a unit."""
    for unit in ("bytes", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def _demo(output: Path, quiet: bool) -> None:
    from fastmlp.demo import demonstrate

    if output.exists() and not output.is_dir():
        raise _end(f"--output must be a folder, but {output} is a file; give another name.", WRONG_USE)
    try:
        agreed = demonstrate(output, typer.echo, progress=not quiet and sys.stderr.isatty())
    except OSError as error:
        raise _end(f"Could not write to {output}: {error.strerror}.", FAILED) from None
    if not agreed:
        raise typer.Exit(FAILED)


@app.command()
def predict(
    model: ModelFile,
    file: Annotated[Path, typer.Argument(help="A table with the columns that the model was trained on.")],
    proba: Annotated[bool, typer.Option("--proba", help="Also the probability of each class.")] = False,
    out: Annotated[Path | None, typer.Option(help="A .csv or .parquet file (default: the terminal, as CSV).")] = None,
    force: Force = False,
) -> None:
    """Predict the rows of a table, in constant memory whatever their number."""
    from fastmlp.data.files import read_batches
    from fastmlp.data.model import TableModel

    _free(out, force, "--out")
    with _sentences():
        loaded = TableModel.load(model)
        if proba and loaded.classes is None:
            raise _end("--proba is for classes, and this model predicts numbers.", WRONG_USE)
        _check_columns(loaded, file)
        batches = read_batches(file, loaded.preparation.types)
        _write_predictions(loaded, batches, proba, out)


def _check_columns(model: TableModel, file: Path) -> None:
    """Before Arrow is told the types of columns that may not be there."""
    from fastmlp.data.files import TableError, header_of, is_csv
    from fastmlp.data.preparation import missing_column

    if is_csv(file) and (names := header_of(file)) is not None:
        for name in model.preparation.types:
            if name not in names:
                raise TableError(missing_column(name, names))


def _write_predictions(model: TableModel, batches: Iterator[Any], proba: bool, out: Path | None) -> None:
    def predicted(batch: Any) -> dict[str, Any]:
        outputs = model.outputs(batch)
        if model.classes is None:
            return {model.preparation.target.name: outputs.tolist()}
        names = [model.classes[place] for place in outputs.argmax(axis=1)]
        columns: dict[str, Any] = {model.preparation.target.name: names}
        if proba:
            columns |= {f"probability of {name}": outputs[:, place].tolist() for place, name in enumerate(model.classes)}
        return columns

    parts = (predicted(batch) for batch in batches if batch.num_rows)
    if out is None:
        _write_csv(parts, sys.stdout)
        return
    handle, aside = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.", suffix=".tmp")
    try:
        if out.suffix == ".parquet":
            os.close(handle)
            rows = _write_parquet(parts, aside)
        else:
            with os.fdopen(handle, "w", newline="", encoding="utf-8") as file:
                rows = _write_csv(parts, file)
        os.chmod(aside, 0o644)
        os.replace(aside, out)
    except BaseException:
        os.unlink(aside)
        raise
    typer.echo(f"Written: {out}, {rows:,} rows", err=True)


def _write_csv(parts: Iterable[dict[str, Any]], file: TextIO) -> int:
    """Columns, part by part; returns the number of rows."""
    writer = csv.writer(file, lineterminator="\n")
    rows = 0
    for columns in parts:
        if rows == 0:
            writer.writerow(columns)
        values = list(zip(*columns.values(), strict=True))
        writer.writerows(values)
        rows += len(values)
    return rows


def _write_parquet(parts: Iterable[dict[str, Any]], path: str) -> int:
    import pyarrow
    import pyarrow.parquet

    rows, writer = 0, None
    for columns in parts:
        table = pyarrow.table(columns)
        if writer is None:
            writer = pyarrow.parquet.ParquetWriter(path, table.schema)
        writer.write_table(table)
        rows += table.num_rows
    if writer is not None:
        writer.close()
    return rows


@app.command("evaluate")
def evaluate_(
    model: ModelFile,
    file: Annotated[Path, typer.Argument(help="A table with the columns that the model was trained on, and the target.")],
    json: Json = False,
) -> None:
    """Say how good a model is on a table."""
    from fastmlp.data.evaluation import evaluate, figures
    from fastmlp.data.files import read_table
    from fastmlp.data.model import TableModel

    with _sentences():
        loaded = TableModel.load(model)
        _check_columns(loaded, file)
        result = evaluate(loaded, read_table(file, loaded.preparation.types))
    if json:
        typer.echo(json_format.dumps(result))
        return
    typer.echo(figures(result, loaded.preparation.target.name))
    if loaded.classes is not None:
        from rich.console import Console
        from rich.table import Table

        table = Table("true \\ predicted", *loaded.classes)
        for name, row in zip(loaded.classes, result["confusion"], strict=True):
            table.add_row(name, *map(str, row))
        Console(width=None if sys.stdout.isatty() else 110).print(table)


@app.command()
def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A .safetensors model.")],
    file: Annotated[Path, typer.Argument(help="What to write: .onnx, or .py for a file that needs NumPy only.")],
    force: Force = False,
) -> None:
    """Write a model's network in another form."""
    from fastmlp import io

    writers: dict[str, Callable[[Any, Path], None]] = {".onnx": io.to_onnx, ".py": io.to_numpy_source}
    if file.suffix not in writers:
        raise _end(f"The name must end with {' or '.join(writers)}, got {file.name!r}.", WRONG_USE)
    _free(file, force, "the second argument")
    with _sentences():
        try:
            network = io.load(model)
        except ValueError as error:
            raise _end(str(error), FAILED) from None
        except FileNotFoundError as error:
            raise _end(str(error), FAILED) from None
        writers[file.suffix](network, file)
    typer.echo(
        f"Written: {file}. It takes the {network.sizes[0]} numbers that a row becomes (`fastmlp info {model}` says which), in "
        f"{network.dtype}."
    )


_HANDED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command(context_settings=_HANDED_ON, add_help_option=False)
def bench(context: typer.Context) -> None:
    """Measure how fast this machine trains, beside NumPy and the libraries that are installed; --help for what can be chosen."""
    try:
        run = importlib.import_module("fastmlp.benchmarks.__main__")
    except ModuleNotFoundError:  # in a working tree, they are beside the package
        run = importlib.import_module("benchmarks.__main__")
    raise typer.Exit(run.main(context.args, program="fastmlp bench"))


@app.command()
def warmup(
    dtype: Annotated[list[str] | None, typer.Option(help="float32, float64, or both by giving it twice.")] = None,
) -> None:
    """Compile the kernels now, so that the first training need not; for container images."""
    from fastmlp.engine import compile_kernels
    from fastmlp.kernels.cache import cache_directory
    from fastmlp.validation import check_dtype

    try:
        dtypes = [check_dtype(name) for name in dtype or ["float32", "float64"]]
    except ValueError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    for one in dtypes:
        compile_kernels(one)
    if not any(path.is_file() for path in cache_directory().glob("*")):
        typer.echo(f"Kernels were compiled, but could not be kept in {cache_directory()}: can you write there?", err=True)
        raise typer.Exit(1)
    typer.echo(f"Kernels are compiled and kept in {cache_directory()}.")


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
    from fastmlp.kernels.cache import cache_directory
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
        "kernel cache": str(cache_directory()),
    }
    if json:
        typer.echo(json_format.dumps(rows))
        return
    for name, value in rows.items():
        typer.echo(f"{name:18} {value}")


def _model_info(path: Path, json: bool) -> None:
    from fastmlp.data.files import TableError
    from fastmlp.data.model import TableModel
    from fastmlp.data.preparation import Number
    from fastmlp.io import load

    if not path.is_file():
        raise TableError(f"There is no file {str(path)!r}.")
    try:
        network = load(path)
    except ValueError as error:
        raise TableError(str(error)) from None
    rows = {
        "network": "-".join(map(str, network.sizes)),
        "parameters": f"{network.theta.size:,}",
        "activations": ", ".join(entry.name for entry in network._activations),
        "loss": network._loss.name,
        "dtype": network.dtype.name,
    }
    try:
        model = TableModel.load(path)
    except TableError:
        model = None
    if model is not None:
        target = model.preparation.target
        rows["target"] = target.name if target.classes is None else f"{target.name}: {', '.join(target.classes)}"
        rows["epochs"] = str(len(model.history.get("loss", [])))
        for feature in model.preparation.features:
            flag = ", and whether it is missing" if feature.flag else ""
            if isinstance(feature, Number):
                value = f"number, (value - {feature.mean:.6g}) / {feature.scale:.6g}{flag}"
            else:
                value = f"one of {', '.join(feature.categories[:8])}{', ...' if len(feature.categories) > 8 else ''}{flag}"
            rows[f"  {feature.name}"] = value
    if json:
        typer.echo(json_format.dumps(rows))
        return
    for name, value in rows.items():
        typer.echo(f"{name:18} {value}")
