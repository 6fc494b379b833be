"""Print and write down what was measured."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import machine_line
from benchmarks.peers import BASELINE, PEERS
from benchmarks.run import Result


def number(value: float | None) -> str:
    """Three digits that count, never an exponent: columns of them can be compared at a glance."""
    if value is None or not math.isfinite(value):
        return "-"
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:.{max(digits, 0)}f}"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A table: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )


def verdict(result: Result) -> str:
    """Whether all peers that train end at the same loss."""
    if result.disagreeing:
        return "DIFFERS: " + ", ".join(result.disagreeing)
    return "ok" if len(result.losses) > 1 else "-"


def waits(result: Result) -> str:
    """Whose times say little, because threads waited for processors; and for which share of the time."""
    if all(timing.waiting is None for timing in result.timings.values()):
        return "?"
    return ", ".join(f"{name} {share:.0%}" for name, share in result.disturbed.items()) or "-"


def warning(results: Sequence[Result]) -> list[str]:
    """What to make of marked rows."""
    disturbed = [result.problem.name for result in results if result.disturbed]
    if not disturbed:
        return []
    return [
        "",
        f"WARNING: in {', '.join(disturbed)} threads waited for a processor (last column: for which share of the time), because "
        "other processes used the machine or threads shared a processor. Those times and ratios are not to be relied on.",
    ]


def summary_table(results: Sequence[Result]) -> str:
    """A row for each problem: medians, ratios and losses."""
    timings = results[0].timings
    trained = list(results[0].losses)
    compared = [name for name in trained if name != BASELINE and BASELINE in timings]
    header = [
        "problem", "rows", "batch",
        *(f"{name} us" for name in timings),
        *(f"{BASELINE}/{name}" for name in compared),
        "first loss", *(f"{name} loss" for name in trained), "losses", "waited",
    ]  # fmt: skip
    rows = [
        [
            result.problem.name, str(result.rows), str(result.problem.batch_size),
            *(number(timing.median) for timing in result.timings.values()),
            *(number(result.ratio(name)) for name in compared),
            f"{result.initial_loss:.5g}", *(f"{result.losses[name]:.5g}" for name in trained), verdict(result), waits(result),
        ]
        for result in results
    ]  # fmt: skip
    return aligned([header, *rows])


def spread_table(results: Sequence[Result]) -> str:
    """A row for each problem and peer: how much the rounds differ."""
    rows = [["problem", "peer", "min us", "quartile", "median", "quartile"]]
    for result in results:
        for name, timing in result.timings.items():
            steps = timing.microseconds_per_step()
            rows.append([result.problem.name, name, *(number(steps[key]) for key in ("min", "q1", "median", "q3"))])
    return aligned(rows)


def text_report(results: Sequence[Result], rounds: int, about: dict[str, Any]) -> str:
    """All that is printed."""
    peers = "\n".join(f"  {name}: {PEERS[name].description}" for name in results[0].timings)
    return "\n".join(
        [
            machine_line(about),
            f"Microseconds per step, medians of {rounds} rounds; set-up and compilation are not in them. Peers:",
            peers,
            "",
            summary_table(results),
            "",
            spread_table(results),
            *warning(results),
        ]
    )


def write_json(path: Path, results: Sequence[Result], rounds: int, quick: bool, about: dict[str, Any]) -> None:
    """All raw timings, with what they were measured on."""
    content = {
        "machine": about,
        "rounds": rounds,
        "quick": quick,
        "results": [result.as_dict() for result in results],
    }
    path.write_text(json.dumps(content, indent=2) + "\n")
