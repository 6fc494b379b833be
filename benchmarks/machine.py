"""What the benchmarks run on: a time means nothing without it."""

from __future__ import annotations

import contextlib
import os
import platform
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


def machine() -> dict[str, Any]:
    """Processor and versions."""
    import numba

    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": blas(),
        "numba": numba.__version__,
    }


def machine_line(about: dict[str, Any]) -> str:
    """The same in one line."""
    library = about["blas"]
    threads = f", {library['threads']} threads" if library["threads"] else ""
    return (
        f"{about['cpu']}, {about['cores']} cores, {about['system']}; Python {about['python']}, "
        f"NumPy {about['numpy']} ({library['name']} {library['version']}{threads}), numba {about['numba']}"
    )


def seconds_waited() -> float | None:
    """How long this process's threads, all together, have been ready to run without a processor to run on; Linux counts it.

    It grows when other processes take the processors, and also when two of our own threads sit on the same one.
    """
    nanoseconds = 0
    try:
        for thread in Path("/proc/self/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread may end while we look
                nanoseconds += int((thread / "schedstat").read_text().split()[1])
    except OSError:
        return None
    return nanoseconds / 1e9 if nanoseconds else None  # a kernel that does not count says 0
