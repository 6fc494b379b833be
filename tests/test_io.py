"""Models as files."""

from __future__ import annotations

import base64
import json
import os
import pickle
import sys
import textwrap
import time

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from fastmlp import ACTIVATIONS, LOSSES, MLP
from fastmlp.files import check_writable, remove_leftovers, replace_file, replacement
from fastmlp.io import load, save, to_numpy_source, to_torch
from fastmlp.io.extras import require
from fastmlp.io.safetensors import read
from tests.test_invariants import run_python


@pytest.fixture
def net():
    net = MLP((5, 7, 3), [ACTIVATIONS["leaky_relu"](0.2), "sigmoid"], LOSSES["huber"](0.7), reduction="sum", random_state=0)
    return net.fit(np.eye(5), np.ones((5, 3)), epochs=3, batch_size=2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_goes_there_and_back(tmp_path, dtype):
    net = MLP((5, 7, 3), [ACTIVATIONS["leaky_relu"](0.2), "softmax"], "cross_entropy", dtype=dtype, random_state=0)
    save(net, tmp_path / "model.safetensors")
    twin = load(tmp_path / "model.safetensors")
    assert np.array_equal(twin.theta, net.theta)
    assert twin.dtype == net.dtype
    assert repr(twin) == repr(net)
    x = np.random.default_rng(0).normal(size=(4, 5))
    assert np.array_equal(twin.predict(x), net.predict(x))
    assert twin.eval_loss(x, [0, 1, 2, 0]) == net.eval_loss(x, [0, 1, 2, 0])


def test_weights_are_plain_arrays_under_readable_names(tmp_path, net):
    save(net, tmp_path / "model.safetensors")
    tensors = load_file(tmp_path / "model.safetensors")
    assert {name: array.shape for name, array in tensors.items()} == {
        "layers.0.weight": (5, 7), "layers.0.bias": (1, 7), "layers.1.weight": (7, 3), "layers.1.bias": (1, 3),
    }  # fmt: skip
    assert np.array_equal(tensors["layers.0.weight"], net.w[0])


def test_replaces_and_leaves_nothing_else(tmp_path, net):
    path = tmp_path / "model.safetensors"
    path.write_text("old")
    save(net, path)
    assert [one.name for one in tmp_path.iterdir()] == ["model.safetensors"]
    assert np.array_equal(load(path).theta, net.theta)


def test_a_file_that_cannot_be_written_keeps_the_old_one(tmp_path, net, monkeypatch):
    import os

    path = tmp_path / "model.safetensors"
    save(net, path)
    before = path.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save(MLP((1, 1)), path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file .*nothing\.safetensors"):
        load(tmp_path / "nothing.safetensors")


def with_description(net, path, **changes):
    """A file of format 1, which has no checksum, with something else in its description."""
    save(net, path)
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        description = json.loads(file.metadata()["fastmlp"])
    del description["sha256"]
    save_file(load_file(path), path, {"fastmlp": json.dumps(description | {"format": 1} | changes)})


def test_a_file_of_format_1(tmp_path, net):
    with_description(net, tmp_path / "model.safetensors")
    assert np.array_equal(load(tmp_path / "model.safetensors").theta, net.theta)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 3}, "its format is 3, and this version reads up to 2; update fastmlp"),
        ({"format": 0}, "its format is 0, which there has never been"),
        ({"format": "1"}, "its format is '1', which there has never been"),
        ({"format": 2}, "does not match its checksum"),
        ({"sizes": [5, 8, 3]}, r"layers.0.weight has the shape \[5, 7\], but the sizes of the network ask for \[5, 8\]"),
        ({"sizes": [5, 7, 3, 2]}, "not a usable fastmlp model"),
        ({"activation": [["evil", 0], ["relu", 0]]}, "not a usable fastmlp model"),
        ({"dtype": "object"}, "dtype must be 'float32' or 'float64'"),
        ({"loss": None}, "its description is damaged"),
        ({"dtype": "float64"}, "layers.0.weight is of the type F32, but the network is of float64"),
    ],
)
def test_a_description_that_does_not_fit(tmp_path, net, changes, message):
    path = tmp_path / "model.safetensors"
    with_description(net, path, **changes)
    with pytest.raises(ValueError, match=message):
        load(path)


def test_a_damaged_or_foreign_file(tmp_path, net):
    path = tmp_path / "model.safetensors"
    save(net, path)
    content = path.read_bytes()
    for damaged in (b"", content[:40], content[:-8], b"\x80\x04\x95pickle", bytes(reversed(content))):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="not a usable fastmlp model"):
            load(path)
    save_file({"x": np.zeros(3)}, path)
    with pytest.raises(ValueError, match="no description of a network"):
        load(path)


def test_a_missing_extra_is_named(monkeypatch, tmp_path, net):
    import sys

    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ImportError, match=r"safetensors is needed .*pip install 'fastmlp\[cli\]'"):
        save(net, tmp_path / "x.safetensors")


def test_permissions_are_those_of_any_new_file(tmp_path, net):
    save(net, tmp_path / "model.safetensors")
    (tmp_path / "other").touch()
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.skipif(sys.platform == "win32", reason="a file of Windows is read-only or not, and no more")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_permissions_of_a_file_that_is_replaced_stay(tmp_path, mode):
    path = tmp_path / "file"
    path.touch()
    path.chmod(mode)
    with replacement(path) as aside:
        assert aside.stat().st_mode & 0o077 & ~mode == 0  # nobody else may read it meanwhile
        aside.write_bytes(b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == mode


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
@pytest.mark.parametrize("content", [b"old", None])
def test_a_link_stays_one(tmp_path, content):
    """To another disk, perhaps: the file there is replaced, or made."""
    (tmp_path / "disk").mkdir()
    real, link = tmp_path / "disk" / "real", tmp_path / "link"
    if content:
        real.write_bytes(content)
    link.symlink_to(real)
    with replacement(link) as aside:
        assert aside.parent == real.parent
        aside.write_bytes(b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    assert [entry.name for entry in real.parent.iterdir()] == ["real"]
    half = real.with_name(".real.00000000000a0a1b2c3d.tmp")
    half.touch()
    remove_leftovers(str(link))
    assert half.exists()  # somebody may be writing to it
    os.utime(half, (0, 0))
    remove_leftovers(str(link))
    assert not half.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_a_link_to_nowhere_and_one_to_itself_are_named(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "missing" / "real")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("link", "loop"):
        with pytest.raises(OSError, match=name):
            replace_file(tmp_path / name, b"new")
        assert (tmp_path / name).is_symlink()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes of other systems")
@pytest.mark.parametrize("write", [check_writable, lambda path: replace_file(path, b"new")])
def test_what_is_no_ordinary_file_stays(tmp_path, write):
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link):
        with pytest.raises(OSError, match=rf"This is no ordinary file; give the name of one, or a new name: '{path}'"):
            write(path)
    assert pipe.is_fifo()
    assert len(list(tmp_path.iterdir())) == 2


def test_permissions_of_other_threads_files_stay(tmp_path, monkeypatch):
    """What new files do not have is the whole process's: nobody may set it, not even for a moment."""
    monkeypatch.delattr(os, "umask")
    replace_file(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_sizes_are_compared_before_memory_is_asked_for(tmp_path, net):
    path = tmp_path / "model.safetensors"
    save(net, path)
    content = path.read_bytes()
    sizes = json.dumps(list(net.sizes)).replace('"', "")
    claimed = sizes.replace(str(net.sizes[0]), "10000000", 1)
    changed = content.replace(sizes.encode(), claimed.encode())
    assert changed != content
    header = int.from_bytes(content[:8], "little") + len(changed) - len(content)
    path.write_bytes(header.to_bytes(8, "little") + changed[8:])
    with pytest.raises(ValueError, match=r"has the shape .* but the sizes of the network ask for"):
        load(path)


def test_parameters_that_are_not_finite(tmp_path, net, monkeypatch):
    """As earlier versions wrote them, too."""
    monkeypatch.setattr("fastmlp.io.safetensors._check_parameters", lambda *_: None)
    net.w[0][0, 0] = np.nan
    save(net, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="layer 0 has parameters that are not finite"):
        load(tmp_path / "model.safetensors")


class TestNumpySource:
    def test_lines_of_a_hundred_characters(self, tmp_path, net):
        to_numpy_source(net, tmp_path / "model.py")
        written = (tmp_path / "model.py").read_text().splitlines()
        lines = [line.strip(' ",') for line in written if line.startswith(" " * 12 + '"')]
        assert lines == [line for layer in zip(net.w, net.b, strict=True) for array in layer for line in wrapped(array)]

    def test_the_time_grows_with_the_number_of_weights(self, tmp_path):
        """Not with its square: a million weights took a minute."""

        def seconds(width):
            began = time.perf_counter()
            to_numpy_source(MLP((width, width, 2), initializer="zeros"), tmp_path / "model.py")
            return time.perf_counter() - began

        assert seconds(1024) < 60 * min(seconds(256) for _ in range(3))  # of 16 times as many weights


def wrapped(array):
    """Its bytes as text, as lines."""
    return textwrap.wrap(base64.b64encode(array.tobytes()).decode(), 100)


def test_a_module_of_pytorch_can_be_kept(tmp_path):
    """Also in another process, that has not made one."""
    torch = pytest.importorskip("torch")
    net = MLP((5, 4, 3), ["tanh", "exponential"], random_state=0)
    module = to_torch(net)
    assert type(pickle.loads(pickle.dumps(module))[3]) is type(module[3])
    torch.save(module, tmp_path / "module.pt")
    printed = run_python(f"""
        import torch
        module = torch.load({str(tmp_path / "module.pt")!r}, weights_only=False)
        print(module(torch.ones(1, 5)).tolist()[0])
    """)
    np.testing.assert_allclose(json.loads(printed), net.predict(np.ones(5))[0], rtol=1e-5)
    with pytest.raises(ImportError, match="cannot import name 'Nothing'"):
        from fastmlp.io.torch import Nothing  # noqa: F401  # that it cannot be imported is the test


@pytest.mark.parametrize(
    "array",
    [
        np.arange(3, dtype=">f4"), np.arange(12.0).reshape(3, 4)[:, ::2], np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.broadcast_to(np.float32(1), (3, 2)), np.array(3.0),
    ],
    ids=["big endian", "strided", "Fortran order", "broadcast", "one number"],
)  # fmt: skip
def test_what_is_kept_beside_a_network_comes_back(tmp_path, net, array):
    save(net, tmp_path / "model.safetensors", arrays={"it": array}, more={1: "a", "1": "b"})
    found = read(tmp_path / "model.safetensors")
    assert found.arrays["it"].shape == array.shape
    assert np.array_equal(found.arrays["it"], array)
    assert found.more == {"1": "b"}


class TestPackagesThatAreNeeded:
    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("raise ImportError('libgomp.so.1: cannot open shared object file')", "libgomp.so.1: cannot open shared object file."),
            ("import no_such_module", "No module named 'no_such_module'."),
        ],
    )
    def test_one_that_is_there_is_not_said_to_be_missing(self, tmp_path, monkeypatch, source, message):
        (tmp_path / "half_installed.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(ImportError) as caught:
            require("half_installed", "cli")
        assert str(caught.value) == f"half_installed is needed for this and is installed, but cannot be imported: {message}"

    @pytest.mark.parametrize("module", ["no_such_module", "no_such_module.part"])
    def test_one_that_is_not(self, module):
        with pytest.raises(ImportError) as caught:
            require(module, "cli")
        assert str(caught.value) == "no_such_module is needed for this and is not installed: pip install 'fastmlp[cli]'."

    def test_ctrl_c_while_one_is_imported(self, tmp_path, monkeypatch):
        """As matplotlib's compiled modules hand it on, and others that pybind11 makes."""
        (tmp_path / "interrupted.py").write_text("raise ImportError('initialization failed') from KeyboardInterrupt()")
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(KeyboardInterrupt):
            require("interrupted", "cli")
