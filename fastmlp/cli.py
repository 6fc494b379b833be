"""The command line. Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Multilayer perceptrons that train fast on a CPU.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def train(
    output: Annotated[Path, typer.Option(help="Folder for the models and the picture.")] = Path("fastmlp-digits"),
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bars.")] = False,
) -> None:
    """Train on scikit-learn's digits, beside the same training in plain NumPy."""
    from fastmlp.demo import demonstrate

    if output.exists() and not output.is_dir():
        typer.echo(f"--output must be a folder, but {output} is a file; give another name.", err=True)
        raise typer.Exit(2)
    try:
        agreed = demonstrate(output, typer.echo, progress=not quiet and sys.stderr.isatty())
    except OSError as error:
        typer.echo(f"Could not write to {output}: {error.strerror}.", err=True)
        raise typer.Exit(1) from None
    if not agreed:
        raise typer.Exit(1)


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
def info() -> None:
    """What the kernels are compiled for, and where they are kept."""
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
    for name, value in rows.items():
        typer.echo(f"{name:18} {value}")
