"""What a page of Markdown shows is run, its Python blocks and commands in order, and what they print is compared with the page."""

from __future__ import annotations

import doctest
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.test_invariants import run_python

_FENCE = re.compile(r"^```(python|console|text)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_MARK = "\x1e"
"""Printed after each block."""


@dataclass
class Block:
    """A block of Python, or of commands, and the output that the page shows behind it."""

    kind: str
    code: str
    output: str | None = None


def blocks_of(page: str) -> list[Block]:
    """All that can be run of a page; a block of text is the output of the block before it."""
    found: list[Block] = []
    for kind, content in _FENCE.findall(page):
        if kind == "text":
            found[-1].output = content
        else:
            found.append(Block(kind, content))
    return found


def run_blocks(blocks: list[Block], folder: Path) -> list[str]:
    """Run them one after the other in one fresh process, whose working directory is ``folder``; what each of them has printed."""
    parts = [f"import sys; sys.path.insert(0, {str(folder)!r})", "from tests.snippets import run_commands as _run_commands"]
    for block in blocks:
        parts.append(block.code if block.kind == "python" else f"_run_commands({block.code!r})")
        parts.append(f"print({_MARK!r}, flush=True)")
    script = folder / "page.py"
    script.write_text("\n".join(parts), encoding="utf-8")
    printed = run_python(f"import os, runpy; os.chdir({str(folder)!r}); runpy.run_path({str(script)!r})")
    return printed.split(f"{_MARK}\n")[:-1]


def check_outputs(blocks: list[Block], printed: list[str]) -> None:
    """What was printed is what the page shows; ``...`` in it stands for anything."""
    checker, options = doctest.OutputChecker(), doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    for block, got in zip(blocks, printed, strict=True):
        if block.output is not None:
            example = doctest.Example(block.code, block.output)
            assert checker.check_output(example.want, got, options), checker.output_difference(example, got, options)


def commands_of(block: str) -> list[list[str]]:
    """The words of each line of a block of commands, without comments."""
    return [words for line in block.splitlines() if (words := shlex.split(line, comments=True))]


def is_run(command: list[str]) -> bool:
    """Whether a command is run: ours are, but for the one that measures for minutes."""
    return command[0] == "fastmlp" and command[1] != "bench"


def run_commands(block: str) -> None:
    """Run the commands of a block, as the installed program does, but for those that :func:`is_run` leaves out."""
    from fastmlp.__main__ import main

    for command in filter(is_run, commands_of(block)):
        sys.argv = command
        try:
            main()
        except SystemExit as end:
            if end.code:
                raise AssertionError(f"{shlex.join(command)}: exit code {end.code}") from None


def write_people(folder: Path) -> None:
    """The table of people that the pages speak of: ``people.csv``, and ``new.csv`` with the same columns."""
    rng = np.random.default_rng(0)
    rows = [(age, job, "high" if (age > 40) ^ (job == "nurse") else "low") for age, job in zip(
        rng.integers(20, 70, 400), rng.choice(["nurse", "baker", "?"], 400), strict=True)]  # fmt: skip
    for name in ("people.csv", "new.csv"):
        (folder / name).write_text("age,job,income\n" + "".join(f"{age},{job},{income}\n" for age, job, income in rows))
