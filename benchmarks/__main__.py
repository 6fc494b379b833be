"""``python -m benchmarks``: measure, print, and fail if two peers do not end at the same loss."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmarks.machine import machine
from benchmarks.peers import OWN_PEERS, PEERS
from benchmarks.problems import PROBLEMS
from benchmarks.report import text_report, write_json
from benchmarks.run import Result, run_problem

ROUNDS, QUICK_ROUNDS = 5, 3


def names_from(known: Iterable[str]) -> Callable[[str], list[str]]:
    """A type for argparse: names with commas between, each one known."""
    known = list(known)

    def parse(text: str) -> list[str]:
        names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
        unknown = [name for name in names if name not in known]
        if unknown or not names:
            problem = f"unknown: {', '.join(unknown)}" if unknown else "no name given"
            raise argparse.ArgumentTypeError(f"{problem}; known: {', '.join(known)}")
        return names

    return parse


def peers(text: str) -> list[str]:
    """A type for argparse: names of peers that can take part, or "all" of those."""
    if text.strip() == "all":
        return [name for name, peer in PEERS.items() if not peer.missing]
    chosen = names_from(PEERS)(text)
    missing = sorted({package for name in chosen for package in PEERS[name].missing})
    if missing:
        raise argparse.ArgumentTypeError(
            f"not installed: {', '.join(missing)}; `pip install {' '.join(missing)}`, or leave its peers out"
        )
    return chosen


def count(text: str) -> int:
    """A type for argparse: a whole number from 1 up."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 up, got {text!r}")
    return int(text)


def new_file(text: str) -> Path:
    """A type for argparse: a file that can be written, found out before minutes of measuring rather than after."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"must be a file in a folder that exists, got {text!r}")
    return path


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description="How fast peers train the same networks on the same data.")
    parser.add_argument("--quick", action="store_true", help="the same networks on fewer rows")
    parser.add_argument(
        "--problems", type=names_from(PROBLEMS), default=list(PROBLEMS), metavar="NAMES", help=f"default: {','.join(PROBLEMS)}"
    )
    parser.add_argument(
        "--peers", type=peers, default=OWN_PEERS, metavar="NAMES",
        help=f"default: {','.join(OWN_PEERS)}; all: those of {','.join(PEERS)} that are installed",
    )  # fmt: skip
    parser.add_argument("--rounds", type=count, metavar="N", help=f"default: {ROUNDS}, quick {QUICK_ROUNDS}")
    parser.add_argument("--json", type=new_file, metavar="FILE", help="also write all timings")
    options = parser.parse_args(argv)
    options.rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    return options


def measure(options: argparse.Namespace) -> list[Result]:
    results = []
    for name in options.problems:
        problem = PROBLEMS[name]
        rows = problem.quick_rows if options.quick else problem.rows
        print(f"{name}: {rows} rows ...", file=sys.stderr, flush=True)
        results.append(run_problem(problem, [PEERS[peer] for peer in options.peers], rows=rows, rounds=options.rounds))
    return results


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmarks; returns the exit code."""
    options = parse(argv)
    results = measure(options)
    about = machine()
    print(text_report(results, options.rounds, about))
    if options.json:
        write_json(options.json, results, options.rounds, options.quick, about)
    return 1 if any(result.disagreeing for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
