"""From nothing: import, the first fit with an empty kernel cache and with a full one, the steady state; and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..machine import peak_memory
from ..peers import PEERS, Contestant
from ..problems import PROBLEMS, make_task
from ..process import environment_for
from .unit import Size, Unit

PROBLEM, ROWS = "higgs", 10_000
"""Its data need nothing but NumPy, so that no import is counted that is not the peer's."""

STEADY_EPOCHS = 5

_CACHES = ("FASTMLP_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "JAX_COMPILATION_CACHE_DIR", "NUMBA_CACHE_DIR")
"""Variables that say where compiled code is kept. JAX keeps none unless this one is set; here it is, as its best."""

_CODE = """\
import time
began = time.perf_counter()
for package in {packages!r}:
    __import__(package)
seconds = time.perf_counter() - began
import importlib, sys
importlib.import_module({module!r}).report({name!r}, seconds)
"""


def report(name: str, import_seconds: float) -> None:
    """Print what the peer takes, as JSON; called in a process that has only imported the peer's packages."""
    task = make_task(PROBLEMS[PROBLEM], ROWS)
    prepare = PEERS[name].prepare
    assert prepare is not None
    began = time.perf_counter()
    training = prepare(task, None)
    training.epoch()
    first = time.perf_counter() - began
    seconds = []
    for _ in range(STEADY_EPOCHS):
        began = time.perf_counter()
        training.epoch()
        seconds.append(time.perf_counter() - began)
    training.close()
    print(
        json.dumps(
            {"import": import_seconds, "first_fit": first, "epoch": sorted(seconds)[len(seconds) // 2], "peak": peak_memory()}
        )
    )


def _run(name: str, caches: Path) -> dict[str, Any]:
    """One process."""
    peer = PEERS[name]
    packages = list(peer.packages) or (["fastmlp"] if name == "fastmlp" else ["numpy"])
    code = _CODE.format(packages=packages, module=__name__, name=name)
    with environment_for(None):
        environment = os.environ | dict.fromkeys(_CACHES, str(caches)) | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment.pop("TORCHINDUCTOR_COMPILE_THREADS", None)  # nobody is measured beside it
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        return {"error": done.stderr}
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"error": None, "process": seconds, **figures}


def measure_peer(name: str, size: Size) -> dict[str, Any]:
    """A process with an empty cache, then some with what it has left there."""
    with tempfile.TemporaryDirectory(prefix="fastmlp-cold-") as folder:
        cold = _run(name, Path(folder))
        if size.quick and not PEERS[name].keeps_kernels:
            warm = [cold]  # it finds nothing that the first has left
        else:
            warm = [_run(name, Path(folder)) for _ in range(1 if size.quick else size.rounds)]
    return {"peer": name, "description": PEERS[name].description, "problem": PROBLEM, "rows": ROWS, "cold": cold, "warm": warm}


def units(contestants: Sequence[Contestant], size: Size) -> list[Unit]:
    """A unit for each peer that trains."""
    names = dict.fromkeys(one.peer.name for one in contestants if one.peer.prepare)

    def unit(name: str) -> Unit:
        return Unit(f"cold/{name}", 5.0 if size.quick else 30.0, lambda: measure_peer(name, size))

    return [unit(name) for name in names]
