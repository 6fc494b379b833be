"""Stage one: measure, and keep what is measured in a JSON file as it comes."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from .lab import Tile
from .machine import load, machine, megahertz
from .peers import PEERS, contestants
from .problems import PROBLEMS
from .sections import cold, estimators, inference, kernels, quality, scaling, training
from .sections.unit import Size, Unit

FORMAT = 1
"""Of the JSON. A file of another one is refused."""

SECTIONS = ("training", "quality", "inference", "cold", "estimators", "kernels", "scaling")
"""In the order in which they are measured."""

_TILE_SAMPLES = 7

Document = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """What is to be measured.

    Parameters
    ----------
    quick : bool
    problems, peers, sections : list of str
    threads : list of (int or None)
    rounds : int
    """

    quick: bool
    problems: list[str]
    peers: list[str]
    sections: list[str]
    threads: list[int | None]
    rounds: int

    @property
    def size(self) -> Size:
        """How much of it."""
        return Size(self.quick, self.rounds, 0.06 if self.quick else 0.2)

    def units(self) -> list[Unit]:
        """All that is measured, in order."""
        peers = [PEERS[name] for name in self.peers]
        everyone = contestants(peers, self.threads)
        problems = [PROBLEMS[name] for name in self.problems]
        size = self.size
        of_section: dict[str, Callable[[], list[Unit]]] = {
            "training": lambda: training.units(problems, everyone, size),
            "quality": lambda: quality.units(contestants(peers, [None]), size),
            "inference": lambda: inference.units(problems, everyone, size),
            "cold": lambda: cold.units(everyone, size),
            "estimators": lambda: estimators.units(everyone, size),
            "kernels": lambda: kernels.units(problems, size),
            "scaling": lambda: scaling.units(peers, size),
        }
        return [unit for name in SECTIONS if name in self.sections for unit in of_section[name]()]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "quick": self.quick, "problems": self.problems, "peers": self.peers, "sections": self.sections,
            "threads": ["all" if count is None else count for count in self.threads], "rounds": self.rounds,
        }  # fmt: skip


class UnreadableError(ValueError):
    """A file is not what this module writes."""


def read(path: Path) -> Document:
    """A document from a file."""
    try:
        document = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}.") from None
    except json.JSONDecodeError as error:
        raise UnreadableError(f"{path} is not JSON: {error}.") from None
    parts = {"units": dict, "machine": dict, "options": dict}
    whole = isinstance(document, dict) and all(isinstance(document.get(name), kind) for name, kind in parts.items())
    if not whole or not document["machine"]:
        raise UnreadableError(f"{path} does not hold measurements of `python -m benchmarks`; give another file.")
    if document.get("format") != FORMAT:
        raise UnreadableError(f"{path} has format {document.get('format')!r}; this version reads format {FORMAT}. Measure again.")
    return document


def write(path: Path, document: Document) -> None:
    """Aside, then renamed: whoever reads the file finds a whole one."""
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".new")
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(document, file, indent=1, allow_nan=True)
            file.write("\n")
        os.chmod(aside, 0o644)
        os.replace(aside, path)
    except BaseException:
        os.unlink(aside)
        raise


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def begin(options: Options, path: Path) -> Document:
    """A new document, or an interrupted one of the same machine, commit and options, to go on with."""
    about = machine()
    if path.exists() and path.stat().st_size:
        before = read(path)
        same = before["options"] == options.as_dict() and before["machine"] == about
        if same and not before["complete"]:
            print(f"Going on with {path}, which was interrupted after {len(before['units'])} measurements.", file=sys.stderr)
            return before
    missing = {name: peer.missing for name, peer in PEERS.items() if peer.missing}
    return {
        "format": FORMAT, "began": _now(), "ended": None, "complete": False, "options": options.as_dict(),
        "machine": about, "missing": missing, "units": {},
    }  # fmt: skip


def conditions() -> dict[str, Any]:
    """What the machine is like at this moment; the tile says how fast one core computes now."""
    tiles = {dtype: _tile_now(Tile(np.dtype(dtype))) for dtype in ("float32", "float64")}
    return {"load": load(), "megahertz": megahertz(), "tile": tiles}


def _tile_now(tile: Tile) -> float:
    """The median of some samples: each takes two milliseconds, in which a machine may do something else."""
    return float(np.median([tile.flop_per_second() for _ in range(_TILE_SAMPLES)]))


def measure(options: Options, path: Path, progress: Callable[[Sequence[Unit]], Any]) -> Document:
    """Measure all that is not in the file yet; the file is complete after each unit.

    ``progress(units)`` iterates over units and shows how far it is.
    """
    document = begin(options, path)
    units = [unit for unit in options.units() if unit.name not in document["units"]]
    write(path, document)
    conditions()  # compiles the tile
    for unit in progress(units):
        before = conditions()
        began = time.perf_counter()
        measured = unit.measure()
        measured["took"] = time.perf_counter() - began
        measured["conditions"] = [before, conditions()]
        document["units"][unit.name] = measured
        write(path, document)
    document["complete"], document["ended"] = True, _now()
    write(path, document)
    return document
