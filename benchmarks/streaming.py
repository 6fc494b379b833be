"""Rows from files beside rows in memory: the same training from .npy, Parquet and arrays, and scikit-learn's partial_fit.

    python -m benchmarks.streaming [--rows 11000000] [--threads 1] [--folder DIR] [--json FILE]
    python -m benchmarks.streaming --report FILE

makes the files (a teacher's labels of random numbers), measures each way in a process of its own and prints a table in Markdown; or
prints that of an earlier run.
The first epoch from a file is told apart: it also gets the memory of the buffer from the system, where rows in memory have theirs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from .machine import machine, machine_line, peak_memory
from .options import count, new_file, new_folder

FEATURES, BATCH_SIZE = 28, 256
BLOCK_ROWS = 1 << 16
ROWS = 11_000_000
EPOCHS = 3
SKLEARN_ROWS = 1_000_000
"""Of so many of the rows, scikit-learn's rate is known; all of them would take minutes."""

WAYS = {
    "memory": "arrays in memory",
    "npy": "`.npy` through 256 MiB",
    "parquet": "Parquet through 256 MiB",
    "plain_parquet": "Parquet without dictionaries",
    "cached_parquet": "Parquet, `cached`",
    "sklearn": "scikit-learn, `partial_fit` on blocks of the `.npy`",
}


def make_files(folder: Path, rows: int) -> None:
    """x.npy, y.npy, rows.parquet and plain.parquet, block by block.

    By itself, pyarrow keeps the different numbers of a column in a dictionary, which measurements, nearly all different, only
    make slower to read: the second file is written without.
    """
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    rng = np.random.default_rng(0)
    hidden, output = rng.normal(size=(FEATURES, 16)).astype(np.float32), rng.normal(size=16).astype(np.float32)
    x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, (rows, FEATURES))
    y = np.lib.format.open_memmap(folder / "y.npy", "w+", np.int64, (rows,))
    names = [f"feature {number}" for number in range(FEATURES)]
    schema = arrow.schema([*((name, arrow.float32()) for name in names), ("label", arrow.int64())])
    with (
        parquet.ParquetWriter(folder / "rows.parquet", schema) as writer,
        parquet.ParquetWriter(folder / "plain.parquet", schema, use_dictionary=False) as plain_writer,
    ):
        for start in range(0, rows, BLOCK_ROWS * 8):
            stop = min(start + BLOCK_ROWS * 8, rows)
            block = rng.standard_normal((stop - start, FEATURES), dtype=np.float32)
            labels = (np.tanh(block @ hidden) @ output > 0).astype(np.int64)
            x[start:stop], y[start:stop] = block, labels
            table = arrow.table([*block.T, labels], schema=schema)
            writer.write_table(table)
            plain_writer.write_table(table)
    x.flush()
    y.flush()


def measure(way: str, folder: Path, threads: int | None = None) -> dict[str, Any]:
    """Seconds of the first epoch and of one after it, once all is imported and compiled."""
    if way == "sklearn":
        return _measure_sklearn(folder)
    from fastmlp import MLP
    from fastmlp.callbacks import Callback
    from fastmlp.data import cached, from_files, from_npy

    class Clock(Callback):
        def on_train_begin(self, run: Any) -> None:
            self.times = [began]

        def on_epoch_end(self, run: Any) -> None:
            self.times.append(time.perf_counter())

    def network() -> MLP:
        sizes, activations = (FEATURES, 64, 64, 2), ("relu", "relu", "softmax")
        return MLP(sizes, activations, "cross_entropy", random_state=0, n_threads=threads)

    options: dict[str, Any] = {"batch_size": BATCH_SIZE, "optimizer": "adam"}
    network().fit(np.zeros((1000, FEATURES), np.float32), np.zeros(1000, np.int64), epochs=1, **options)
    data: tuple[Any, ...]
    if way == "memory":
        data = np.load(folder / "x.npy"), np.load(folder / "y.npy")
    elif way == "npy":
        data = (from_npy(folder / "x.npy", folder / "y.npy"),)
    else:
        source = from_files(folder / ("plain.parquet" if way == "plain_parquet" else "rows.parquet"), target="label")
        data = (cached(source, folder) if way == "cached_parquet" else source,)
    net, clock = network(), Clock()
    began = time.perf_counter()
    net.fit(*data, epochs=EPOCHS, callbacks=[clock], **options)
    first, *later = np.diff(clock.times).tolist()
    return {
        "first": first, "later": min(later), "rows": len(data[0]) if way == "memory" else data[0].rows, "peak": peak_memory(),
        "loss": net.loss_curve_[0], "reading": str(net.reading_ or ""),
    }  # fmt: skip


def _measure_sklearn(folder: Path) -> dict[str, Any]:
    from sklearn.neural_network import MLPClassifier
    from threadpoolctl import threadpool_limits

    x, y = np.load(folder / "x.npy", mmap_mode="r"), np.load(folder / "y.npy", mmap_mode="r")
    rows = min(SKLEARN_ROWS, len(x))
    model = MLPClassifier((64, 64), batch_size=BATCH_SIZE, random_state=0)
    began = time.perf_counter()
    with threadpool_limits(1):  # matrices of 64 columns are too small for more
        for start in range(0, rows, BLOCK_ROWS):
            stop = min(start + BLOCK_ROWS, rows)
            model.partial_fit(np.array(x[start:stop]), np.array(y[start:stop]), classes=[0, 1])
    seconds = (time.perf_counter() - began) * len(x) / rows
    return {"first": seconds, "later": seconds, "rows": len(x), "peak": peak_memory(), "loss": float(model.loss_), "reading": ""}


_USED_BEFORE = "import numpy; numpy.ones(1 << 27)"


def in_own_process(way: str, folder: Path, threads: int | None) -> dict[str, Any]:
    """The same, in a fresh interpreter.

    Memory that a virtual machine has not used yet comes slowly from its host, half a gigabyte a second: so another process has used
    some just before.
    """
    subprocess.run([sys.executable, "-c", _USED_BEFORE], check=True)
    chosen = [] if threads is None else ["--threads", str(threads)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.streaming", "--way", way, "--folder", str(folder), *chosen],
        stdout=subprocess.PIPE, text=True, check=True,  # what is wrong there is for a person to read
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def table(results: dict[str, dict[str, Any]]) -> str:
    """Markdown, with the rate of memory as 100%."""
    memory = results["memory"]
    lines = [
        "| rows from | first epoch | each after it | million rows/s | of the rate from memory: first, after it | peak memory |",
        "| --- | --: | --: | --: | --: | --: |",
    ]
    for way, one in results.items():
        shares = ", ".join(f"{memory[epoch] / one[epoch]:.0%}" for epoch in ("first", "later"))
        note = "" if way != "sklearn" or one["rows"] <= SKLEARN_ROWS else f" (from {SKLEARN_ROWS / 1e6:g} million rows)"
        seconds = f"{one['first']:.2f} s{note} | {one['later']:.2f} s"
        peak = "-" if one["peak"] is None else f"{one['peak'] / 2**20:,.0f} MiB"
        lines.append(f"| {WAYS[way]} | {seconds} | {one['rows'] / one['later'] / 1e6:.2f} | {shares} | {peak} |")
    return "\n".join(lines)


def report(document: dict[str, Any]) -> str:
    """Markdown: the machine, the table, and what was waited for."""
    version, turns, threads = document["machine"]["versions"]["pyarrow"], document["rounds"], document["threads"]
    training = "" if threads is None else f"; training with {threads} thread{'s' * (threads > 1)}"
    lines = [
        f"{machine_line(document['machine'])}, pyarrow {version}{training}; files in the page cache, best of {turns} turns; "
        "scikit-learn once, with one thread.",
        "", table(document["results"]), "",
    ]  # fmt: skip
    lines += [f"{WAYS[way]}: {one['reading']}" for way, one in document["results"].items() if one["reading"]]
    return "\n".join(lines)


def run(folder: Path, rows: int, rounds: int, threads: int | None) -> dict[str, Any]:
    """Make the files and measure; of each way the best epochs of some rounds, which take turns."""
    make_files(folder, rows)
    results: dict[str, dict[str, Any]] = {}
    for round_ in range(rounds):
        for way in WAYS:
            if way == "sklearn" and round_:
                continue
            one = in_own_process(way, folder, threads)
            best = results.setdefault(way, one)
            best |= {epoch: min(best[epoch], one[epoch]) for epoch in ("first", "later")}
    return {"machine": machine(), "rounds": rounds, "threads": threads, "results": results}


def measured(text: str) -> dict[str, Any]:
    """A type for argparse: what such a run has written with --json."""
    try:
        document: dict[str, Any] = json.loads(Path(text).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text}: {getattr(error, 'strerror', None) or 'not JSON'}") from None
    if not isinstance(document, dict) or document.keys() != {"machine", "rounds", "threads", "results"}:
        raise argparse.ArgumentTypeError(f"{text} is not of a run of benchmarks.streaming")
    return document


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=count, default=ROWS)
    parser.add_argument("--rounds", type=count, default=3)
    parser.add_argument("--threads", type=count, help="of the training; one leaves a processor to what reads")
    parser.add_argument("--folder", type=new_folder, help="for the files, which stay; a temporary one unless given")
    parser.add_argument("--json", type=new_file, help="write the figures to this file, too")
    parser.add_argument("--report", type=measured, help="measure nothing: print the table of such a file")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.way:
        print(json.dumps(measure(options.way, options.folder, options.threads)))
        return
    if options.report:
        print(report(options.report))
        return
    with ExitStack() as resources:
        folder = options.folder or Path(resources.enter_context(tempfile.TemporaryDirectory()))
        document = run(folder, options.rows, options.rounds, options.threads)
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(report(document))


if __name__ == "__main__":
    main()
