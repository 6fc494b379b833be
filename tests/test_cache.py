"""Invariant 5: compiled kernels on disk are found again, never stale, and never a reason to fail.

The tests compile small kernels of their own, in a copy of the package, because what is tested is the cache.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastmlp.kernels import cache
from fastmlp.kernels.cache import KernelCache
from fastmlp.kernels.team import signal_helpers
from tests.test_invariants import run_python

ROOT = Path(__file__).parent.parent

HELPER = "from fastmlp.kernels.jit import device\n\n@device\ndef helper(x):\n    return x + 1\n"
PROBE = """
from fastmlp.kernels.helper import helper
from fastmlp.kernels.jit import kernel

@kernel
def probe(x):
    return helper(x)
"""
RUN = (
    "from fastmlp.kernels.probe import probe\n"
    "print(probe(41.0), probe.dispatcher.stats.cache_hits.total() if hasattr(probe.dispatcher.stats.cache_hits, 'total')"
    " else sum(probe.dispatcher.stats.cache_hits.values()))"
)


@pytest.fixture
def package(tmp_path):
    """A copy of the package with a kernel that calls a function in another file."""
    copy = tmp_path / "site"
    shutil.copytree(ROOT / "fastmlp", copy / "fastmlp", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "fastmlp/kernels/helper.py").write_text(HELPER)
    (copy / "fastmlp/kernels/probe.py").write_text(PROBE)
    return copy


def start(package, cache, code=RUN, **environment):
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | {"PYTHONPATH": str(package), "FASTMLP_CACHE_DIR": str(cache)} | environment,
        cwd=package, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def run(package, cache, **environment):
    """The result of the probe, how many kernels came from the disk, and what was said on stderr."""
    process = start(package, cache, **environment)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    result, hits = out.split()
    return float(result), int(hits), err


def files(cache):
    return sorted(path for path in Path(cache).rglob("*") if path.is_file())


@pytest.mark.parametrize("closed", ["sys.stderr.close()", "sys.stderr = None"])
def test_a_stderr_that_takes_nothing_is_no_reason_to_stop(package, tmp_path, closed):
    process = start(package, tmp_path, f"import sys\n{closed}\n{RUN}")
    out, _ = process.communicate(timeout=120)
    assert (process.returncode, out.split()[0]) == (0, "42.0")


def test_is_found_again_and_says_so_only_when_it_compiles(package, tmp_path):
    cache = tmp_path / "cache"
    result, hits, said = run(package, cache)
    assert (result, hits) == (42, 0)
    assert said.startswith("fastmlp: compiling kernels")
    assert f"(once; kept in {cache / 'fastmlp'})" in said
    assert str(cache) in said
    assert len(files(cache)) == 1
    assert run(package, cache) == (42, 1, "")


FIRST_FIT = """
import sys
import numpy as np
import fastmlp
x, y = np.random.default_rng(0).normal(size=(30, 4)), np.arange(30) % 3
net = fastmlp.MLP((4, 5, 3), ("tanh", "softmax"), "cross_entropy", random_state=0).fit(x, y, epochs=2, batch_size=10)
net.predict(x)
compilers = [name for name in ("numba.np.linalg", "numba.np.arraymath", "scipy.linalg") if name in sys.modules]
assert not compilers, compilers
"""
AND_COMPILE = """
import numba
assert numba.njit(lambda a: np.sort(a).sum())(x[:, 0].copy()) == np.sort(x[:, 0]).sum()
own = fastmlp.MLP((4, 5, 3), (lambda z: z / (1 + abs(z)), "softmax"), "cross_entropy", random_state=0)
own.fit(x, y, epochs=2, batch_size=10)
assert own.loss_curve_[1] < own.loss_curve_[0]
"""


def test_who_finds_all_kernels_does_not_wait_for_what_the_compiler_needs():
    """Most of a first fit's time; and what is compiled afterwards finds it."""
    run_python(FIRST_FIT.partition("compilers")[0])
    run_python(FIRST_FIT + AND_COMPILE)


def test_an_edit_of_a_file_that_is_only_called_recompiles(package, tmp_path):
    cache = tmp_path / "cache"
    no_bytecode = {"PYTHONDONTWRITEBYTECODE": "1"}  # which Python takes for up to date by the time alone
    run(package, cache, **no_bytecode)
    helper = package / "fastmlp/kernels/helper.py"
    before = helper.stat()
    helper.write_text(HELPER.replace("x + 1", "x + 2"))
    os.utime(helper, ns=(before.st_atime_ns, before.st_mtime_ns))  # the content counts, not the time
    assert run(package, cache, **no_bytecode)[:2] == (43, 0)
    helper.write_text(HELPER)
    assert run(package, cache, **no_bytecode)[:2] == (42, 1)  # and the old content finds its old kernel


@pytest.mark.parametrize("table", ["activations", "losses", "optimizers"])
def test_an_edit_of_a_table_recompiles(package, tmp_path, table):
    cache = tmp_path / "cache"
    run(package, cache)
    with (package / f"fastmlp/{table}.py").open("a") as file:
        file.write("\n# changed\n")
    assert run(package, cache)[:2] == (42, 0)


def test_every_file_with_compiled_code_is_part_of_the_stamp():
    from fastmlp.kernels.cache import compiled_sources

    stamped = {path.resolve() for path in compiled_sources()}
    makers = ("@device", "@elementary", "@formula", "@part", "@kernel", "@intrinsic", "Kernel(")
    for path in (ROOT / "fastmlp").rglob("*.py"):
        if any(maker in path.read_text() for maker in makers):
            assert path.resolve() in stamped, path


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "directory"])
def test_a_damaged_file_costs_a_compilation_and_is_replaced(package, tmp_path, damage):
    cache = tmp_path / "cache"
    run(package, cache)
    (path,) = files(cache)
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
        path.mkdir()
    assert run(package, cache)[:2] == (42, 0)
    if damage != "directory":
        assert run(package, cache)[:2] == (42, 1)


def test_a_directory_that_cannot_be_made_is_no_reason_to_fail(package, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    result, hits, said = run(package, blocked / "cache")
    assert (result, hits) == (42, 0)
    assert "(each time, because" in said
    if sys.platform == "linux":  # elsewhere it can be made, and would stay
        assert run(package, "/proc/nowhere")[:2] == (42, 0)


def test_a_full_disk_is_no_reason_to_fail(package, tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no device that is always full")
    (package / "sitecustomize.py").write_text(
        "import os\nreal = os.open\ndef make(path, flags, *mode, **options):\n    handle = real(path, flags, *mode, **options)\n"
        "    if flags & os.O_EXCL and str(path).endswith('.tmp'):\n        os.unlink(path)\n        os.symlink('/dev/full', path)\n"
        "    return handle\nos.open = make\n"
    )
    cache = tmp_path / "cache"
    assert run(package, cache)[:2] == (42, 0)
    assert files(cache) == []  # nothing half-written is left


def test_several_processes_at_once(package, tmp_path):
    cache = tmp_path / "cache"
    processes = [start(package, cache) for _ in range(4)]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert float(out.split()[0]) == 42
    assert len(files(cache)) == 1
    assert run(package, cache)[:2] == (42, 1)


def test_nothing_is_written_beside_the_code(package, tmp_path):
    run(package, tmp_path / "cache", PYTHONDONTWRITEBYTECODE="1")
    assert not [path for path in package.rglob("*") if path.suffix in (".nbi", ".nbc", ".kernel")]


@pytest.mark.parametrize(
    ("variable", "expected"), [("FASTMLP_CACHE_DIR", "fastmlp"), ("NUMBA_CACHE_DIR", "fastmlp"), ("XDG_CACHE_HOME", "fastmlp")]
)
def test_where_it_is(monkeypatch, tmp_path, variable, expected):
    import platform

    from fastmlp.kernels.cache import cache_directory

    for other in ("FASTMLP_CACHE_DIR", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setenv(variable, str(tmp_path))
    assert cache_directory() == tmp_path / expected
    for name in ("HOME", "USERPROFILE"):  # the second one counts on Windows
        monkeypatch.setenv(name, str(tmp_path / "home"))
    for nothing in ("", "a/relative/one"):
        monkeypatch.delenv(variable)
        monkeypatch.setenv("XDG_CACHE_HOME", nothing)
        assert cache_directory() == tmp_path / "home" / ".cache" / "fastmlp"
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert cache_directory() == tmp_path / expected  # it is not even asked for


def test_to_forget_what_was_never_kept_touches_no_file(tmp_path, monkeypatch):
    from fastmlp.kernels.cache import KernelCache
    from fastmlp.kernels.shuffle import fill_order

    cache = KernelCache(fill_order.py_func)
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / f"{cache._name}-mine.kernel"
    mine.touch()
    monkeypatch.setattr(KernelCache, "cache_path", "")
    cache.flush()
    assert mine.exists()


def test_what_nobody_has_used_for_long_is_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTMLP_CACHE_DIR", str(tmp_path))
    folder = tmp_path / "fastmlp"
    folder.mkdir()
    old, used, of_another = folder / "signal_helpers-00.kernel", folder / "signal_helpers-01.kernel", folder / "other-00.kernel"
    for path in (old, used, of_another):
        path.touch()
        os.utime(path, (0, 0))
    cache._say_used(used)
    KernelCache(signal_helpers.py_func)._remove_old()
    assert [path.exists() for path in (old, used, of_another)] == [False, True, True]


@pytest.mark.parametrize("variable", ["NUMBA_BOUNDSCHECK", "NUMBA_DEBUGINFO", "NUMBA_OPT"])
def test_what_changes_machine_code_changes_the_stamp(variable):
    code = "from fastmlp.kernels.cache import source_stamp; print(source_stamp())"
    assert run_python(code) != run_python(code, **{variable: "1"})
