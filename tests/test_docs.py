"""What the pages under docs/ show works, and what they lead to is there. Nothing here needs what builds the site."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import pkgutil
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.snippets import blocks_of, check_outputs, commands_of, is_run, run_blocks, write_people
from tests.test_invariants import ROOT

DOCS = ROOT / "docs"
PAGES = {path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md"))}
API = "\n".join(path.read_text(encoding="utf-8") for path in sorted((DOCS / "api").glob("*.rst")))
OPTIONAL = ("onnx", "torch")
"""What is not installed everywhere that the tests run."""


def _cases():
    """Each page with blocks, without what needs an optional package; and the page as a whole for each that it needs."""
    for name, page in PAGES.items():
        code = [block.code for block in blocks_of(page)]
        if code:
            yield pytest.param(name, None, id=name)
            yield from (pytest.param(name, one, id=f"{name}-{one}") for one in OPTIONAL if any(one in part for part in code))


@pytest.mark.parametrize(("name", "package"), list(_cases()))
def test_blocks_do_what_the_page_says(tmp_path, name, package):
    if package is not None:
        pytest.importorskip(package)
    others = [one for one in OPTIONAL if one != package]
    blocks = [block for block in blocks_of(PAGES[name]) if not any(one in block.code for one in others)]
    write_people(tmp_path)
    check_outputs(blocks, run_blocks(blocks, tmp_path))


class TestRunner:
    """The checks of a page see what is wrong with it."""

    @pytest.mark.parametrize(
        ("page", "complaint"),
        [
            ("```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n", "Expected"),
            ("```python\nprint(unknown)\n```\n", "NameError"),
            ("```python\nimport warnings\nwarnings.warn('old')\n```\n", "UserWarning"),
            ("```console\nfastmlp info there-is-no-such.safetensors\n```\n", "exit code 1"),
        ],
        ids=["output", "error", "warning", "command"],
    )
    def test_a_page_that_is_wrong_fails(self, tmp_path, page, complaint):
        blocks = blocks_of(page)
        with pytest.raises(AssertionError, match=complaint):
            check_outputs(blocks, run_blocks(blocks, tmp_path))


COMMANDS = [
    command
    for page in PAGES.values() for block in blocks_of(page) if block.kind == "console"
    for command in commands_of(block.code) if not is_run(command)
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=shlex.join)
def test_commands_that_are_not_run_exist(command):
    """Nothing is installed or measured here: extras and options are looked up."""
    if command[0] == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
        (asked,) = re.findall(r"\[(\w+)\]", shlex.join(command))
        assert asked in extras
    else:
        assert command[:2] == ["fastmlp", "bench"]
        shown = subprocess.run([sys.executable, "-m", *command[:2], "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
        assert [word for word in command if word.startswith("--") and word not in shown.stdout] == []


def test_the_endings_of_tables_in_a_folder_are_those_that_are_looked_for():
    page = PAGES["how-to/tables.md"]
    found = re.search(r"whose names end with (.*?), but no file", page, re.DOTALL)
    assert found is not None
    assert re.findall(r"`([\w.]+)`", found[1]) == list(importlib.import_module("fastmlp.data.finding")._SUFFIXES)


# --- links ---------------------------------------------------------------------------------------------------------------------


def _anchors(page):
    """Of the headings of a page, as Markdown makes them."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _with_included(name):
    """A page together with the files that it includes."""
    page = PAGES[name]
    for target in re.findall(r"\{include\} (\S+)", page):
        page += (DOCS / name).parent.joinpath(target).read_text(encoding="utf-8")
    return page


def _links(page):
    prose = re.sub(r"^```.*?^```$", "", page, flags=re.DOTALL | re.MULTILINE)
    return {link for link in re.findall(r"\]\(([^)\s]+)\)", prose) if "://" not in link}


LINKS = [(name, link) for name, page in PAGES.items() for link in sorted(_links(page))]


@pytest.mark.parametrize(("name", "link"), LINKS, ids=[f"{name}-{link}" for name, link in LINKS])
def test_links_lead_somewhere(name, link):
    path, _, anchor = link.partition("#")
    target = (DOCS / name).parent.joinpath(path).resolve() if path else DOCS / name
    assert target.is_file()
    if anchor:
        assert anchor in _anchors(_with_included(target.relative_to(DOCS).as_posix()))


def _named_files():
    """What directives take from files: included pages, code, pictures."""
    for name, page in PAGES.items():
        for target in re.findall(r"\{(?:include|literalinclude)\} (\S+)|^:file: (\S+)$", page, re.MULTILINE):
            yield (DOCS / name).parent / "".join(target)


def test_files_that_pages_are_made_of_exist():
    named = list(_named_files())
    assert len(named) >= 5
    assert [path for path in named if not path.is_file()] == []


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page():
    entries = set()
    for path in [*DOCS.rglob("*.md"), *DOCS.rglob("*.rst")]:
        text = path.read_text(encoding="utf-8")
        for tree in [
            *re.findall(r"```\{toctree\}\n(.*?)```", text, re.DOTALL),
            *re.findall(r"\.\. toctree::\n(.*?)\Z", text, re.DOTALL),
        ]:
            names = [line.strip() for line in tree.splitlines() if line.strip() and not line.strip().startswith(":")]
            entries |= {(path.parent / name).relative_to(DOCS).as_posix() for name in names}
    pages = {path.relative_to(DOCS).with_suffix("").as_posix() for path in [*DOCS.rglob("*.md"), *DOCS.rglob("*.rst")]}
    assert entries == pages - {"index"}


# --- figures -------------------------------------------------------------------------------------------------------------------


def _times_of_training():
    """Microseconds per step in the report of the reference machine: {problem: {peer: time}}; a star: not just the same work."""
    report = (ROOT / "benchmarks/results/xeon-2-cores.md").read_text(encoding="utf-8")
    head, _, *rows = re.search(r"^\| problem \|.*?\n\n", report, re.MULTILINE | re.DOTALL)[0].strip().splitlines()
    names, *lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in (head, *rows)]
    return {cells[0]: dict(zip(names, cells, strict=True)) for cells in lines}


def test_how_much_sooner_than_scikit_learn_is_what_the_report_says():
    times, page = _times_of_training(), PAGES["how-to/scikit-learn.md"]
    found = re.search(r"([\d.]+) times on 784-128-64-10 .*?, ([\d.]+) times on\s+eight layers .*?, ([\d.]+) times where", page)
    assert found is not None
    for problem, figure in zip(("mnist", "deep", "wide"), found.groups(), strict=True):
        assert f"{float(times[problem]['sklearn']) / float(times[problem]['fastmlp']):.2g}" == figure, problem


# --- the API -------------------------------------------------------------------------------------------------------------------


def _public(module):
    """Names that a module offers: its own, and those that it takes from elsewhere in the package to offer them again."""
    names = {name for name in dir(module) if not name.startswith("_")}
    own = re.findall(
        r"^(?:from \S+|    from \S+) import \w+ as (\w+)$", Path(module.__file__).read_text(encoding="utf-8"), re.MULTILINE
    )
    defined = {name for name in names if getattr(getattr(module, name), "__module__", None) == module.__name__}
    return {*own, *defined}


@pytest.mark.parametrize("module", ["fastmlp", "fastmlp.io", "fastmlp.callbacks", "fastmlp.data"])
def test_every_public_name_is_on_an_api_page(module):
    documented = set(re.findall(r"^\.\. auto\w+:: (\S+)", API, re.MULTILINE))
    documented |= {f"fastmlp.{name}" for name in re.findall(r"^\.\. data:: (\S+)", API, re.MULTILINE)}
    assert {f"{module}.{name}" for name in _public(importlib.import_module(module))} - documented == set()


def _documented():
    """(name, object) of all that an API page shows; methods and members among them."""
    owner = ""
    for directive, name, members in re.findall(r"^ *\.\. auto(\w+):: (\S+)(?:\n +:members: (.+))?", API, re.MULTILINE):
        if directive in ("method", "property"):
            names = [f"{owner}.{name}"]
        else:
            owner = name
            names = [name, *(f"{name}.{member}" for member in members.split(", ") if members)]
        for one in names:
            with contextlib.suppress(ImportError):  # of what a package that is not installed would be needed for
                yield one, pkgutil.resolve_name(one)


@pytest.mark.parametrize(("name", "thing"), [pytest.param(*pair, id=pair[0]) for pair in _documented() if callable(pair[1])])
def test_each_parameter_is_documented(name, thing):
    """In its own docstring, or, of a network in plain NumPy, where that sends people."""
    if name == "fastmlp.ReferenceMLP":
        assert ":class:`fastmlp.MLP`" in thing.__doc__
        return
    if inspect.isclass(thing) and issubclass(thing, Exception) and "__init__" not in vars(thing):
        return
    section = thing.__doc__ if not inspect.isclass(thing) else f"{thing.__doc__}{thing.__init__.__doc__}"
    listed = {word for line in re.findall(r"^ *([\w*, ]+?)(?: : .*)?$", section, re.MULTILINE) for word in line.split(", ")}
    known = {word.strip("* ") for word in listed | set(re.findall(r"``(\w+)``", section))}
    assert {word for word in inspect.signature(thing).parameters if word != "self"} - known == set()


def test_what_is_public_is_seen():
    """The check above is about something."""
    import fastmlp
    from fastmlp import callbacks, io

    assert {"MLP", "MLPClassifier", "ACTIVATIONS", "make_loss", "DivergenceError"} <= _public(fastmlp)
    assert {"save", "to_onnx", "from_sklearn"} <= _public(io)
    assert {"Callback", "Checkpoint", "History"} <= _public(callbacks)


def test_the_picture_is_the_one_that_its_script_draws():
    drawing = runpy.run_path(str(DOCS / "draw_minibatch.py"))
    assert drawing["TARGET"].read_text(encoding="utf-8") == drawing["picture"]()
