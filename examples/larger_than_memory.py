"""Train on a file that does not fit into memory: this process allows itself less memory than the file has bytes.

python examples/larger_than_memory.py                     # 256 MiB, through a buffer of 32 MiB
python examples/larger_than_memory.py --megabytes 8192 --buffer 256
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from fastmlp import MLP
from fastmlp.data import from_npy

FEATURES = 28
BLOCK_ROWS = 50_000


def make_files(folder: Path, rows: int) -> None:
    """Random numbers, and a teacher's labels: on which side of a curved surface each row is. Block by block, never whole."""
    rng = np.random.default_rng(0)
    inner, outer = rng.normal(size=(FEATURES, 8)), rng.normal(size=8)
    with (folder / "x.npy").open("wb") as x, (folder / "y.npy").open("wb") as y:
        for file, kind, shape in [(x, "<f4", (rows, FEATURES)), (y, "|u1", (rows,))]:
            np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
        for start in range(0, rows, BLOCK_ROWS):
            block = rng.standard_normal((min(BLOCK_ROWS, rows - start), FEATURES), dtype=np.float32)
            x.write(block.astype("<f4").tobytes())
            y.write((np.tanh(block @ inner) @ outer > 0).astype("|u1").tobytes())


def status(name: str) -> int | None:
    """Bytes of an entry of what Linux says about this process; None on other systems."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name + ":"))


def allow_no_more_than(extra: int) -> bool:
    """Limit this process to the memory that it has and so many bytes more; returns whether the system does that."""
    used = status("VmData")
    if used is None:
        return False
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (used + extra, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    return True


def network() -> MLP:
    return MLP((FEATURES, 64, 64, 2), ("relu", "relu", "softmax"), "cross_entropy", random_state=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=256, help="of the file")
    parser.add_argument("--buffer", type=int, default=32, help="megabytes for the rows that are in memory at a time")
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()
    rows, buffer_bytes = (options.megabytes << 20) // (4 * FEATURES), options.buffer << 20

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_files(folder, rows)
        source = from_npy(folder / "x.npy", folder / "y.npy")
        print(f"file: {rows:,} rows of {FEATURES} numbers, {options.megabytes} MiB; buffer: {options.buffer} MiB")

        # Kernels and threads first: the limit is for what comes after.
        network().fit(np.zeros((1000, FEATURES)), np.zeros(1000, int), epochs=1, batch_size=256, optimizer="adam")
        if allow_no_more_than(buffer_bytes + (96 << 20)):
            try:
                np.load(folder / "x.npy")
                print("reading it whole: works, so the file is too small to show anything")
            except MemoryError:
                print("reading it whole: MemoryError, as expected")

        net = network()
        began = time.perf_counter()
        net.fit(source, epochs=options.epochs, batch_size=256, optimizer="adam", buffer_bytes=buffer_bytes)
        seconds = time.perf_counter() - began
        print(f"trained: {options.epochs} epochs in {seconds:.1f} s, {options.epochs * rows / seconds / 1e6:.2f} million rows/s")
        print(f"loss: {net.loss_curve_[0]:.3f} in the first epoch, {net.loss_curve_[-1]:.3f} in the last")
        print(net.reading_)
        if (peak := status("VmHWM")) is not None:
            print(f"peak memory: {peak / 2**20:.0f} MiB, Python and all libraries included")


if __name__ == "__main__":
    main()
