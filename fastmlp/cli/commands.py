"""The command line. Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted, 143 terminated."""

from __future__ import annotations

import dataclasses
import importlib
import json as json_format
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastmlp.cli.checks import (
    FAILED,
    SETTINGS,
    WHICH_LABELS,
    WRONG_USE,
    check_cache,
    check_checkpoint,
    check_csv,
    check_ending,
    check_free,
    check_no_pipe,
    csv_of,
    end,
    files_of,
    names_in,
    path_in,
    seconds_in,
    sentences,
    widths_in,
    with_settings,
)

if TYPE_CHECKING:
    from fastmlp.data.csv_form import Csv
    from fastmlp.data.model import TableModel
    from fastmlp.data.preparation import UnknownValues
    from fastmlp.mlp import MLP

app = typer.Typer(
    help="Multilayer perceptrons that train fast on a CPU.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Quiet = Annotated[bool, typer.Option("--quiet", help="Nothing but the result: no guesses, no progress.")]
Json = Annotated[bool, typer.Option("--json", help="The result as JSON, for programs.")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that are there.")]
Separator = Annotated[str | None, typer.Option(help="Of CSV: one character, or tab; guessed.")]
Header = Annotated[bool | None, typer.Option("--header/--no-header", help="Of CSV: whether the first line names columns; guessed.")]
Decimal = Annotated[str | None, typer.Option(help="Of CSV: the decimal point, . or a comma; guessed.")]
ModelFile = Annotated[Path, typer.Argument(metavar="MODEL", parser=path_in, help="A model that `fastmlp train` has written.")]


def _path(what: str, *names: str, metavar: str = "PATH") -> Any:
    """An option that names a file or a folder."""
    return typer.Option(*names, metavar=metavar, parser=path_in, help=what)


def _rows_for_a_model(more: str) -> Any:
    """The argument that names a table, of which the model needs ``more`` than its columns."""
    what = f"A table with the columns that the model was trained on{more}; a folder or a glob of them."
    return typer.Argument(metavar="FILE", parser=path_in, help=what)


PICTURES = (".png", ".svg", ".pdf")
_ANY_WIDTH = 100_000


@app.command()
@sentences()
def train(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            parser=path_in,
            help="A table: CSV, Parquet or IDX; a folder or a glob of them. Without one: handwritten digits, as a demo.",
        ),
    ] = None,
    target: Annotated[str | None, typer.Option(help="The column to predict; of IDX the file with the labels.")] = None,
    task: Annotated[str | None, typer.Option(help="classification or regression; guessed from the target.")] = None,
    test: Annotated[float | None, typer.Option(help="Share of the rows that is held out for the report (default: 0.2).")] = None,
    validate: Annotated[Path | None, _path("Another table for the report, instead of a share.")] = None,
    validate_target: Annotated[Path | None, _path("Of IDX: the file with the labels of --validate.")] = None,
    hidden: Annotated[
        str | None, typer.Option(help="Widths of the hidden layers, such as 64,64, or none; guessed from the inputs.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Exactly so many; unless given, by early stopping, 200 at most.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Rows for each step; guessed from their number.")] = None,
    max_time: Annotated[str | None, typer.Option(help="No epoch begins after this: 60s, 5m, 2h.")] = None,
    out: Annotated[
        Path | None,
        _path(
            "The model (default: named after the file or folder, in the current folder); of the demo a folder.",
            "--out",
            "--output",
        ),
    ] = None,
    plot: Annotated[Path | None, _path("A picture of the training (.png, .svg, .pdf).")] = None,
    resume: Annotated[Path | None, _path("A checkpoint: written after each epoch, gone on from if it is there.")] = None,
    categories: Annotated[
        list[str] | None,
        typer.Option(
            help="Columns whose numbers are only names, such as zip,month; text is taken for categories anyway. May be given "
            "several times. Quotes are around a name with a comma, as in CSV: 'zip,\"month, year\"'."
        ),
    ] = None,
    separator: Separator = None,
    header: Header = None,
    decimal: Decimal = None,
    stream: Annotated[
        bool | None, typer.Option("--stream/--no-stream", help="Whether to read in parts while training; guessed from the size.")
    ] = None,
    cache: Annotated[
        Path | None,
        _path("Where to keep, until the end, rows that are read in parts: later epochs are faster.", metavar="FOLDER"),
    ] = None,
    setting: Annotated[list[str] | None, typer.Option("--set", help=f"key=value, of {', '.join(SETTINGS)}.")] = None,
    quiet: Quiet = False,
    json: Json = False,
    force: Force = False,
) -> None:
    """Train on a table and say how good the result is; without a table, on scikit-learn's digits, beside plain NumPy."""
    if file is None:
        _without_table(context)
        _demo(out, quiet, json, force)
        return
    from fastmlp.cli.training import begin, train_and_report
    from fastmlp.data.finding import name_for
    from fastmlp.data.model import Plan
    from fastmlp.data.opening import is_idx
    from fastmlp.io.extras import require

    csv = csv_of(separator, header, decimal)
    if target is None:
        raise end(f"--target is missing: {_which_target(file, csv)}", WRONG_USE)
    _check_choices(task, test, validate, validate_target)
    csv = dataclasses.replace(csv, known=(target,))
    plan = Plan(target, task, widths_in(hidden), epochs, batch_size=batch_size, max_seconds=seconds_in(max_time))
    plan = with_settings(plan, setting or [])
    out = out or Path(f"{name_for(file)}.safetensors")
    tables = [*files_of(file), *(files_of(validate) if validate else [])]
    check_csv(csv, tables)
    labels = Path(target) if is_idx(tables[0]) else None
    _check_places(out, plot, resume, cache, tables, (labels, validate_target), force=force)
    for package in ("safetensors", *(["matplotlib"] if plot else [])):
        require(package, "cli")  # rather than after the training
    began = time.perf_counter()
    share, names = 0.2 if test is None else test, names_in(categories, "--categories")
    begun, plan = begin(file, plan, share, validate, validate_target, csv, names, stream, cache)
    train_and_report(file, begun, plan, out, plot, resume, began=began, quiet=quiet or json, json=json)


def _check_choices(task: str | None, test: float | None, validate: Path | None, validate_target: Path | None) -> None:
    """Refuse what cannot be chosen, or not together."""
    if task not in (None, "classification", "regression"):
        raise end(f"--task must be classification or regression, got {task!r}.", WRONG_USE)
    if test is not None and not 0 < test < 1:
        raise end(f"--test must be a share between 0 and 1, got {test:g}.", WRONG_USE)
    if test is not None and validate is not None:
        raise end("--test and --validate both say on what to report; give one of them.", WRONG_USE)
    if validate_target is not None and validate is None:
        raise end("--validate-target is the labels of --validate, which is missing.", WRONG_USE)


def _check_places(
    out: Path,
    plot: Path | None,
    resume: Path | None,
    cache: Path | None,
    tables: Sequence[Path],
    labels: Iterable[Path | None],
    *,
    force: bool,
) -> None:
    """Refuse places that cannot be written, or that are read, before a table is."""
    read = (*tables, resume, *labels)
    check_free(out, force, "--out", read)
    check_free(plot, force, "--plot", (*read, out))
    check_ending(plot, "--plot", PICTURES)
    check_checkpoint(resume, tables)
    check_cache(cache)


def _without_table(context: typer.Context) -> None:
    """Refuse options that say something about a table where there is none."""
    sources = {parameter.opts[0]: context.get_parameter_source(parameter.name or "") for parameter in context.command.params}
    given = [option for option, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    others = [option for option in given if option not in ("--out", "--quiet", "--json", "--force")]
    if others:
        verb = "is" if len(others) == 1 else "are"
        raise end(f"{' and '.join(others)} {verb} about a table, but FILE is missing; give its name, such as table.csv.", WRONG_USE)


def _which_target(file: Path, csv: Csv) -> str:
    """For the person who has forgotten to say."""
    from fastmlp.data.files import names_of
    from fastmlp.data.opening import is_idx
    from fastmlp.data.preparation import shown

    first = files_of(file)[0]
    if is_idx(first):
        return WHICH_LABELS.format(file)
    names = [shown(name) for name in names_of(first, csv)]
    return f"which column is to be predicted? {file} has {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}."


def _demo(given: Path | None, quiet: bool, json: bool, force: bool) -> None:
    from fastmlp.cli.demo import FOLDER, as_dict, demonstrate, files_in, in_a_line
    from fastmlp.files import check_writable
    from fastmlp.io.extras import require

    require("matplotlib", "cli")  # rather than after the training
    output, says_more = given or Path(FOLDER), not quiet and not json
    if output.exists() and not output.is_dir():
        raise end(f"--out must be a folder, but {output} is a file; give another name.", WRONG_USE)
    for path in files_in(output) if given else ():  # the folder that it chooses itself is its own
        if path.exists():
            check_free(path, force, "--out")
    try:
        output.mkdir(parents=True, exist_ok=True)
        for path in files_in(output):
            check_writable(path)
    except OSError as error:
        raise end(f"Could not write to {output}: {error.strerror}.", FAILED) from None
    outcomes = demonstrate(output, typer.echo if says_more else None, progress=says_more and sys.stderr.isatty())
    if json:
        typer.echo(json_format.dumps(as_dict(output, outcomes)))
    elif quiet:
        for outcome in outcomes:
            typer.echo(in_a_line(outcome))
        typer.echo(f"Written: {', '.join(map(str, files_in(output)))}")
    if not all(outcome.agrees for outcome in outcomes):
        raise end("The losses of fastmlp and of plain NumPy differ, which they must not.", FAILED)


@app.command()
@sentences()
def predict(
    model: ModelFile,
    file: Annotated[Path, _rows_for_a_model("")],
    proba: Annotated[bool, typer.Option("--proba", help="Also the probability of each class.")] = False,
    out: Annotated[Path | None, _path("A .csv, .jsonl or .parquet file (default: the terminal, as CSV).")] = None,
    separator: Separator = None,
    header: Header = None,
    decimal: Decimal = None,
    quiet: Quiet = False,
    json: Annotated[bool, typer.Option("--json", help="To the terminal as JSON, a line for each row.")] = False,
    force: Force = False,
) -> None:
    """Predict the rows of a table, in constant memory whatever their number; but IDX is read whole."""
    from fastmlp.cli.predictions import batches, in_utf8, predicted, predicted_names, write_csv, write_file, write_json_lines
    from fastmlp.data.model import TableModel
    from fastmlp.data.preparation import UnknownValues
    from fastmlp.data.tables import check_columns

    check_no_pipe(model)
    paths = files_of(file)
    check_free(out, force, "--out", (model, *paths))
    check_ending(out, "--out", (".csv", ".jsonl", ".parquet"))
    if json and out is not None:
        raise end(f"--json is for the terminal; of --out {out}, the ending chooses: .jsonl, .csv or .parquet.", WRONG_USE)
    if force and out is None:
        raise end("--force replaces the file of --out, which is missing.", WRONG_USE)
    csv = csv_of(separator, header, decimal)
    check_csv(csv, paths)
    loaded = TableModel.load(model)
    if proba and loaded.classes is None:
        raise end("--proba is for classes, and this model predicts numbers.", WRONG_USE)
    csv = dataclasses.replace(csv, known=tuple(loaded.preparation.types))
    check_columns(paths, loaded.preparation.types, csv)
    unknown = UnknownValues(loaded.preparation)
    read = unknown.watching(batches(loaded.preparation.types, paths, csv))
    parts = (predicted(loaded, source, batch, proba) for source, batch in read)
    names = predicted_names(loaded, proba)
    if out is None and json:
        write_json_lines(names, parts, sys.stdout, ascii_only=True)
    elif out is None:
        write_csv(names, parts, in_utf8(sys.stdout))
    else:
        rows = write_file(names, parts, out, of_numbers=loaded.classes is None)
        if not quiet:
            typer.echo(f"Written: {out}, {rows:,} rows", err=True)
    _say_unknown(unknown)


def _say_unknown(unknown: UnknownValues) -> None:
    """Also to those who want it quiet: without it, predictions look like any others."""
    for sentence in unknown.sentences():
        typer.echo(sentence, err=True)


@app.command("evaluate")
@sentences()
def evaluate_(
    model: ModelFile,
    file: Annotated[Path, _rows_for_a_model(", and the target")],
    target: Annotated[Path | None, _path("Of IDX: the file with the labels.")] = None,
    separator: Separator = None,
    header: Header = None,
    decimal: Decimal = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="One line, without the table of classes.")] = False,
    json: Json = False,
) -> None:
    """Say how good a model is on a table."""
    from fastmlp.data.evaluation import evaluate, figures
    from fastmlp.data.model import TableModel
    from fastmlp.data.preparation import UnknownValues

    csv = csv_of(separator, header, decimal)
    check_no_pipe(model)
    loaded = TableModel.load(model)
    unknown = UnknownValues(loaded.preparation)
    result = evaluate(loaded, file, unknown.watching(_with_target(loaded, file, target, csv)))
    _say_unknown(unknown)
    if json:
        typer.echo(json_format.dumps(result))
        return
    typer.echo(figures(result, loaded.preparation.target.name))
    if loaded.classes is not None and not quiet:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        from fastmlp.data.preparation import shown

        names = [escape(shown(name)) for name in loaded.classes]
        table = Table(r"true \ predicted", *names)
        for name, row in zip(names, result["confusion"], strict=True):
            table.add_row(name, *map(str, row))
        console = Console(emoji=False)
        needed = console.measure(table, options=console.options.update(max_width=_ANY_WIDTH)).maximum
        if not sys.stdout.isatty():
            console = Console(width=needed, emoji=False)
        elif needed > console.width:
            typer.echo(
                f"The table of {len(loaded.classes)} classes is {needed} characters wide: use --json, write the output to a file, "
                "or pipe it into less -S."
            )
            return
        console.print(table)


def _with_target(model: TableModel, file: Path, labels: Path | None, csv: Csv) -> Iterable[tuple[Path, Any]]:
    """Rows to evaluate a model on, each part with the file that it is from."""
    from fastmlp.cli.predictions import batches
    from fastmlp.cli.training import read_whole
    from fastmlp.data.opening import is_idx
    from fastmlp.data.tables import check_columns

    paths, target = files_of(file), model.preparation.target.name
    check_csv(csv, paths)
    if labels is not None or is_idx(paths[0]):
        return [(file, read_whole(file, target, labels, "--target", csv))]
    csv = dataclasses.replace(csv, known=tuple(model.preparation.types))
    check_columns(paths, [*model.preparation.types, target], csv)
    return batches(model.preparation.types | model.preparation.target.types, paths, csv, target)


@app.command()
@sentences()
def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", parser=path_in, help="A .safetensors model.")],
    file: Annotated[
        Path, typer.Argument(metavar="FILE", parser=path_in, help="What to write: .onnx, or .py for a file that needs NumPy only.")
    ],
    force: Force = False,
) -> None:
    """Write a model's network in another form."""
    from fastmlp import io
    from fastmlp.data.preparation import shown

    writers: dict[str, Callable[[Any, Path], None]] = {".onnx": io.to_onnx, ".py": io.to_numpy_source}
    if file.suffix.lower() not in writers:
        raise end(f"The name must end with {' or '.join(writers)}, got {file.name!r}.", WRONG_USE)
    check_free(file, force, "the second argument", (model,))
    check_no_pipe(model)
    network, table = _loaded(model)
    writers[file.suffix.lower()](network, file)
    target = None if table is None else table.preparation.target
    back = ""
    if target is not None and target.is_scaled:
        back = f" {shown(target.name)} is its output * {target.scale:.9g} + {target.mean:.9g}."
    typer.echo(
        f"Written: {file}. It takes the {network.sizes[0]} numbers that a row becomes (`fastmlp info {model}` says which), in "
        f"{network.dtype}.{back}"
    )


def _loaded(path: Path) -> tuple[MLP, TableModel | None]:
    """The network of a file, the best so far of a checkpoint; and the model that it is part of, if it is one of a table."""
    from fastmlp.data.errors import TableError
    from fastmlp.data.model import TableModel, has_table
    from fastmlp.io import load

    try:
        model = TableModel.load(path) if has_table(path) else None
        return (load(path) if model is None else model.network), model
    except (FileNotFoundError, ValueError) as error:
        raise TableError(str(error)) from None


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
@sentences()
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
        raise end(str(error), WRONG_USE) from None
    for one in dtypes:
        compile_kernels(one)
    if KernelCache.not_kept:
        raise end(f"Kernels were compiled, but could not be kept in {_cache_place()}: can you write there?", FAILED)
    typer.echo(f"Kernels are compiled and kept in {_cache_place()}.")


def _cache_place() -> str:
    """Where compiled kernels are kept, in words."""
    from fastmlp.kernels.cache import cache_directory

    try:
        return str(cache_directory())
    except RuntimeError:
        return "a directory that FASTMLP_CACHE_DIR names (it is not set, and there is no home directory)"


@app.command()
@sentences()
def info(
    model: Annotated[
        Path | None, typer.Argument(metavar="MODEL", parser=path_in, help="A model; without one, the machine.")
    ] = None,
    json: Json = False,
) -> None:
    """What is in a model; without one, what the kernels are compiled for, and where they are kept."""
    if model is not None:
        check_no_pipe(model)
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
    from fastmlp.data.preparation import FARTHEST

    network, model = _loaded(path)
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
            "inputs": model.preparation.width, "features": content["features"], "clipped_at": FARTHEST,
            "left_out": content["dropped"],
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
    from fastmlp.data.preparation import FARTHEST, Number, Ordinal, shown

    yield "network", facts["network"]
    yield "parameters", f"{facts['parameters']:,}"
    yield "activations", ", ".join(facts["activations"])
    yield "loss", facts["loss"]
    yield "dtype", facts["dtype"]
    if model is None:
        return
    target = model.preparation.target
    scaled = f": output * {target.scale:.9g} + {target.mean:.9g}" if target.is_scaled else ""
    yield "target", shown(target.name) + (f": {', '.join(map(shown, model.classes))}" if model.classes else scaled)
    yield "epochs", str(facts["epochs"])
    for feature in model.preparation.features:
        flag = ", and whether it is missing" if feature.flag else ""
        if isinstance(feature, Number):
            limits = f" from -{FARTHEST:g} to {FARTHEST:g}" if feature.clipped else ""
            # Digits of float64 for the mean, which is taken off first: that of times is large beside their scale.
            scaled = f"(value - {feature.mean:.16g}) / {feature.scale:.9g}{limits}"
            value = f"number, {scaled}, {feature.filler:.9g} where it is missing{flag}"
        elif isinstance(feature, Ordinal):
            value = f"its place among {_some(feature.categories)} as a number from 0 to 1, 0.5 if never seen{flag}"
        else:
            value = f"one of {_some(feature.categories)}{flag}"
        yield f"  {shown(feature.name)}", value
    for name, reason in model.preparation.dropped.items():
        yield f"  {shown(name)}", f"left out: {reason}"


def _some(categories: tuple[str, ...]) -> str:
    """The first of them."""
    from fastmlp.data.preparation import shown

    return f"{', '.join(map(shown, categories[:8]))}{', ...' if len(categories) > 8 else ''}"
