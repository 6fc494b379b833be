"""What the benchmarks run on: a time means nothing without it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np


def cpu_model() -> str:
    """Name of the processor, as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def blas() -> dict[str, Any]:
    """NumPy's BLAS: name and version from its build, threads as it runs now."""
    from threadpoolctl import threadpool_info  # comes with scikit-learn

    build = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    threads = max((pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"), default=None)
    return {"name": build["name"], "version": build["version"], "threads": threads}


def available_processors() -> list[int]:
    """Numbers of the processors that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def one_of_each_core_first() -> list[int]:
    """The same numbers, but those that share a core with an earlier one come last: two threads are meant to have two cores."""
    siblings = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    cores = {number: _text(siblings.format(number)) or number for number in available_processors()}
    firsts = {core: number for number, core in reversed(cores.items())}
    return sorted(cores, key=lambda number: firsts[cores[number]] != number)


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def caches() -> dict[str, str]:
    """Sizes of the caches of the first processor, by level and kind, as Linux gives them."""
    found = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (_text(str(folder / name)) for name in ("level", "type", "size"))
        if level and kind and size:
            found[f"L{level} {kind.lower()}"] = size
    return found


def memory_bytes() -> int | None:
    """Of the machine."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def features() -> list[str]:
    """Those of the processor that matter for products of matrices."""
    from numba.core.codegen import get_host_cpu_features

    wanted = ("sse4.2", "avx", "avx2", "fma", "avx512f", "avx512vl", "avx512dq", "avx512bw", "avx512bf16", "neon", "sve")
    has = {feature[1:] for feature in get_host_cpu_features().split(",") if feature.startswith("+")}
    return [feature for feature in wanted if feature in has]


LIBRARIES = (
    "fastmlp", "numpy", "numba", "llvmlite", "scipy", "scikit-learn",
    "pyarrow", "torch", "jax", "jaxlib", "optax", "keras", "lightgbm", "onnxruntime",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Of the libraries that are installed."""
    found = {}
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def without_git() -> dict[str, str]:
    """The environment, but for what git tells its hooks: which repository is theirs, whatever folder a command is called in."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}


def _git(*arguments: str) -> str | None:
    folder = Path(__file__).parent.parent
    try:
        return subprocess.run(
            ["git", *arguments], cwd=folder, env=without_git(), capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


_MEASURED = ("--", "fastmlp", "benchmarks", ":(exclude)benchmarks/results")
"""What is measured, and what measures."""


def commit() -> str | None:
    """The last commit that has changed what is measured or how, marked if it has been changed since; None outside a repository."""
    last = _git("log", "-1", "--format=%h", "--abbrev=12", *_MEASURED)
    return last and last + ("-dirty" if _git("status", "--porcelain", *_MEASURED) else "")


def machine() -> dict[str, Any]:
    """Processor, system and versions."""
    import numba

    from fastmlp.kernels.simd import CPU_NAME

    return {
        "cpu": cpu_model(),
        "architecture": CPU_NAME,
        "cores": len(available_processors()),
        "features": features(),
        "caches": caches(),
        "governor": _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "memory_bytes": memory_bytes(),
        "system": f"{platform.system()} {platform.machine()}",
        "release": platform.release(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": blas(),
        "numba": numba.__version__,
        "versions": versions(),
        "commit": commit(),
    }


def load() -> float | None:
    """Average number of processes that wanted a processor in the last minute."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def megahertz() -> float | None:
    """Mean clock of the processors now, where the system knows it."""
    clocks = [float(line.partition(":")[2]) for line in (_text("/proc/cpuinfo") or "").splitlines() if line.startswith("cpu MHz")]
    return sum(clocks) / len(clocks) if clocks else None


def peak_memory() -> int | None:
    """Most bytes of memory that this process has had at once."""
    for line in (_text("/proc/self/status") or "").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if platform.system() == "Darwin" else most * 1024


def machine_line(about: dict[str, Any]) -> str:
    """The same in one line."""
    library = about["blas"]
    threads = f", {library['threads']} threads" if library["threads"] else ""
    return (
        f"{about['cpu']}, {about['cores']} cores, {about['system']}; Python {about['python']}, "
        f"NumPy {about['numpy']} ({library['name']} {library['version']}{threads}), numba {about['numba']}"
    )


def _scheduled(process: int | str) -> tuple[int, int] | None:
    """Nanoseconds that all threads of a process have run, and that they have waited for a processor; Linux counts them."""
    ran = waited = 0
    try:
        for thread in Path(f"/proc/{process}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread may end while we look
                fields = (thread / "schedstat").read_text().split()
                ran, waited = ran + int(fields[0]), waited + int(fields[1])
    except OSError:
        return None
    return ran, waited


def seconds_waited() -> float | None:
    """How long this process's threads, all together, have been ready to run without a processor to run on.

    It grows when other processes take the processors, and also when two of our own threads sit on the same one.
    """
    times = _scheduled("self")
    return times[1] / 1e9 if times and times[0] else None  # a kernel that does not count says 0, of what has run, too


MOST_REST = 0.25
_LOOK_SECONDS = 0.005


def rest(process: int) -> None:
    """Wait until a process does nothing any more.

    The threads of a BLAS go on spinning after each product, in case there is another: for a tenth of a second, as measured with
    OpenBLAS 0.3.31. Who is measured next would share its processors with them.
    """
    deadline = time.perf_counter() + MOST_REST
    before = _scheduled(process)
    while time.perf_counter() < deadline:
        time.sleep(_LOOK_SECONDS)
        now = _scheduled(process)
        if now and before and now[0] - before[0] < 0.1e9 * _LOOK_SECONDS:
            return
        before = now
