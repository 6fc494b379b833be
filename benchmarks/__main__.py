"""``python -m benchmarks``, or ``fastmlp bench``: measure, print, write reports, compare."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from .options import count, every_count, html_file, names_from, new_file, thread_counts
from .peers import PEERS
from .problems import PROBLEMS
from .sections.unit import Unit

ROUNDS, QUICK_ROUNDS = 5, 3
QUICK_PROBLEMS = ["digits", "online", "higgs"]
QUICK_PEERS = ["reference", "fastmlp", "sklearn", "torch_eager", "jax_scan", "onnx_runtime", "null"]
QUICK_SECTIONS = ["training", "quality", "inference", "cold"]
LAST = Path(".benchmarks/last.json")
"""Where measurements go that were not given another place."""

AGREED, DIFFERENT, WRONG_USE, INTERRUPTED = 0, 1, 2, 130
"""Exit codes. Different: a peer did not do the same work, or something of ours has become slower."""


def peers(text: str) -> list[str]:
    """A type for argparse: names of peers that can take part, or "all" of those."""
    if text.strip() == "all":
        return [name for name, peer in PEERS.items() if not peer.missing]
    chosen = names_from(PEERS)(text)
    missing = sorted({package for name in chosen for package in PEERS[name].missing})
    if missing:
        raise argparse.ArgumentTypeError(
            f"not installed: {', '.join(missing)}; `pip install 'fastmlp[bench]'`, or leave the peers out that need it"
        )
    return chosen


def readme_file(text: str) -> Path:
    """A type for argparse: a file with a place for the table, found out before minutes of measuring rather than after."""
    from .report import with_table

    path = Path(text)
    try:
        with_table(path.read_text(encoding="utf-8"), "")
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text}: {getattr(error, 'strerror', None) or error}") from None
    return path


def parse(argv: Sequence[str] | None, program: str) -> argparse.Namespace:
    """Options; leaves the program with a sentence if they make no sense."""
    from .run import SECTIONS

    parser = argparse.ArgumentParser(
        program, description="How fast peers train the same networks on the same data, and predict with them."
    )
    parser.add_argument("--quick", action="store_true", help="in a minute and a half: fewer rows, rounds, problems and peers")
    parser.add_argument(
        "--problems", type=names_from(PROBLEMS), metavar="NAMES", help=f"some of {','.join(PROBLEMS)} (default: all)"
    )
    parser.add_argument("--peers", type=peers, metavar="NAMES", help=f"some of {','.join(PEERS)} (default: all that are installed)")
    parser.add_argument(
        "--sections",
        type=names_from(SECTIONS),
        metavar="NAMES",
        help=f"some of {','.join(SECTIONS)} (default: all; quick: the first four)",
    )
    parser.add_argument(
        "--threads", type=thread_counts, metavar="COUNTS", help="as in 1,2,all (default: 1, 2, 4 and so on, and all; quick: all)"
    )
    parser.add_argument("--rounds", type=count, metavar="N", help=f"default: {ROUNDS}, quick {QUICK_ROUNDS}")
    parser.add_argument("--json", type=new_file, metavar="FILE", help=f"all that is measured (default: {LAST})")
    parser.add_argument(
        "--html", type=html_file, metavar="FILE", help="write a report for a browser: one file with everything in it"
    )
    parser.add_argument("--markdown", type=new_file, metavar="FILE", help="write a report for GitHub and the like")
    parser.add_argument("--readme", type=readme_file, metavar="FILE", help="write the short table between the marks of this file")
    parser.add_argument("--report", type=Path, metavar="JSON", help="measure nothing: report on what has been measured before")
    parser.add_argument("--compare", type=Path, metavar="OLD.json", help="tell what has become faster or slower since")
    options = parser.parse_args(argv)
    quick = options.quick
    installed = [name for name, peer in PEERS.items() if not peer.missing]
    options.problems = options.problems or (QUICK_PROBLEMS if quick else list(PROBLEMS))
    options.peers = options.peers or [name for name in installed if not quick or name in QUICK_PEERS]
    options.sections = options.sections or (QUICK_SECTIONS if quick else list(SECTIONS))
    options.threads = options.threads or thread_counts("all" if quick else every_count())
    options.rounds = options.rounds or (QUICK_ROUNDS if quick else ROUNDS)
    if options.json is None and options.report is None:
        try:
            LAST.parent.mkdir(exist_ok=True)
            options.json = new_file(str(LAST))
        except (OSError, argparse.ArgumentTypeError) as error:
            parser.error(f"{LAST.parent} cannot be a folder for what is measured ({error}); give --json another place")
    return options


def with_progress(units: Sequence[Unit]) -> Iterator[Unit]:
    """A bar on a terminal, a line for each measurement elsewhere; both with the time that is left, by the units' weights."""
    from tqdm import tqdm

    total = sum(unit.weight for unit in units)
    form = "{desc:<24} {percentage:3.0f}%|{bar}| {elapsed} gone, {remaining} left"
    with tqdm(total=total, bar_format=form, file=sys.stderr, disable=not sys.stderr.isatty(), leave=False) as bar:
        for number, unit in enumerate(units, 1):
            bar.set_description_str(unit.name)
            if bar.disable:
                print(f"[{number}/{len(units)}] {unit.name}", file=sys.stderr, flush=True)
            yield unit
            bar.update(unit.weight)


def main(argv: Sequence[str] | None = None, program: str = "python -m benchmarks") -> int:
    """Run the benchmarks; returns the exit code."""
    options = parse(argv, program)
    from . import compare, report
    from .analyse import disagreements
    from .run import Options, UnreadableError, measure, read

    try:
        old = read(options.compare) if options.compare else None
        if options.report:
            document = read(options.report)
        else:
            chosen = Options(options.quick, options.problems, options.peers, options.sections, options.threads, options.rounds)
            document = measure(chosen, options.json, with_progress)
    except UnreadableError as error:
        print(error, file=sys.stderr)
        return WRONG_USE
    except KeyboardInterrupt:
        print(f"\nInterrupted. What has been measured is in {options.json}; the same command goes on from there.", file=sys.stderr)
        return INTERRUPTED
    print(report.text_report(document))
    for path, make in ((options.html, report.html_report), (options.markdown, report.markdown_report)):
        if path is not None:
            _write(path, make(document))
    if options.readme:
        _write(options.readme, report.with_table(options.readme.read_text(encoding="utf-8"), report.readme_table(document)))
    slower = False
    if old is not None:
        changes = compare.changes(old, document)
        print("\n== Since then ==\n" + report.comparison_report(changes))
        slower = any(change.verdict == "slower" for change in changes)
    return DIFFERENT if slower or disagreements(document) else AGREED


def _write(path: Path, text: str) -> None:
    aside = path.with_name(path.name + ".new")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)
    print(f"\nWritten: {path}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
