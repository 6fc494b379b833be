"""Files that are damaged, foreign or made by somebody who means ill: one sentence, and nothing has happened."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tracemalloc

import numpy as np
import pyarrow
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from fastmlp import MLP
from fastmlp.callbacks import Checkpoint
from fastmlp.data.files import TableError
from fastmlp.data.model import Plan, TableModel, begin, learn
from fastmlp.io import load
from fastmlp.io.safetensors import _checksum, load_training, read, save
from tests.test_invariants import ROOT

TABLE = pyarrow.table(
    {"age": [31.0, None, 54.0] * 8, "job": ["nurse", "baker", None] * 8, "y": ["no", "yes", "yes"] * 8},
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damage")


@pytest.fixture(scope="module")
def originals(folder):
    """The bytes of a checkpoint of a network, and of one of a table: both are models, too."""
    x, y = np.eye(4, dtype=np.float32), [0, 1, 0, 1]
    net = MLP((4, 3, 2), ("tanh", "softmax"), "cross_entropy", random_state=0)
    net.fit(x, y, epochs=2, batch_size=2, optimizer="adam", callbacks=[Checkpoint(folder / "network")])
    plan = Plan("y", hidden=(3,), epochs=2)
    learn(*begin(TABLE, None, plan), plan, checkpoint=folder / "table")
    return {name: (folder / name).read_bytes() for name in ("network", "table")}


READERS = {
    "network": (load, load_training),
    "table": (load, load_training, TableModel.load),
}


def network_of(result):
    if isinstance(result, TableModel):
        return result.network
    return result[0] if isinstance(result, tuple) else result


def attempts(name, path, content, readers=None):
    """What each reader makes of a file: a network, or None where it says no as it should."""
    path.write_bytes(content)
    for reader in readers or READERS[name]:
        try:
            result = reader(path)
        except ValueError as error:
            text = str(error)
            assert len(text) < 600
            assert "\n" not in text
            assert path.name in text
            yield None
        else:
            if isinstance(result, TableModel):
                with contextlib.suppress(TableError):
                    result.predictions(TABLE)
            yield network_of(result)


def never_another_model(name, folder, content):
    """By the reader that looks at most; the others read the same."""
    reader = READERS[name][-1]
    (found,) = attempts(name, folder / "damaged", content, [reader])
    if found is not None:
        before = network_of(reader(folder / name))
        assert repr(found) == repr(before)
        np.testing.assert_array_equal(found.theta, before.theta)


names = st.sampled_from(sorted(READERS))


@given(names, st.binary(max_size=300), st.booleans())
@example("network", b"", False)
@example("table", b"\xff" * 8, False)
@example("table", b"{}", True)
@example("network", b'{"__metadata__":' + b"[" * 50_000, True)
def test_random_bytes(folder, name, content, as_header):
    if as_header:
        content = len(content).to_bytes(8, "little") + content
    assert set(attempts(name, folder / "random", content)) == {None}


@given(names, st.floats(0, 1, exclude_max=True))
def test_truncation(folder, originals, name, share):
    content = originals[name]
    assert set(attempts(name, folder / "short", content[: int(share * len(content))])) == {None}


@pytest.mark.parametrize("name", READERS)
def test_a_flipped_bit_in_every_byte(folder, originals, name):
    rng = np.random.default_rng(0)
    content = originals[name]
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        never_another_model(name, folder, bytes(damaged))


@given(names, st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=2, max_size=8))
def test_several_bytes_at_once(folder, originals, name, changes):
    damaged = bytearray(originals[name])
    for share, byte in changes:
        damaged[int(share * len(damaged))] = byte
    never_another_model(name, folder, bytes(damaged))


def description_of(path):
    with safe_open(path, framework="numpy") as file:
        return json.loads(file.metadata()["fastmlp"])


def places(node, path=()):
    """Every place in a description, as the keys that lead there."""
    yield path
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


def replaced(node, path, value):
    if not path:
        return value
    copy = dict(node) if isinstance(node, dict) else list(node)
    copy[path[0]] = replaced(node[path[0]], path[1:], value)
    return copy


HOSTILE = st.one_of(
    st.none(), st.booleans(), st.text(max_size=5), st.floats(), st.integers(-3, 3),
    st.sampled_from([10**12, -(2**63), 10**400, 1e308, -1e308, "x" * 10_000, "evil\nname", "float64", "softmax", "relu", "no"]),
    st.lists(st.integers(0, 10**10), max_size=4), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.just({"bit_generator": "Philox", "state": 3}),
)  # fmt: skip


def forged(content, description):
    """The file of somebody who has changed the description and knows how the checksum is made."""
    tensors = load_tensors(content)
    if isinstance(description, dict):
        description = {name: value for name, value in description.items() if name != "sha256"}
        description["sha256"] = _checksum(description, tensors)
    return save_tensors(tensors, {"fastmlp": json.dumps(description)})


@settings(max_examples=600)
@given(names, st.floats(0, 1, exclude_max=True), HOSTILE)
def test_a_description_that_somebody_has_changed(folder, originals, name, share, value):
    """Whatever is accepted is a network that has the file's parameters, and predicts."""
    description = description_of(folder / name)
    paths = list(places(description))
    content = forged(originals[name], replaced(description, paths[int(share * len(paths))], value))
    for found in attempts(name, folder / "forged", content):
        if found is not None:
            found.predict(np.zeros((1, found.sizes[0])))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("features", 0, "scale"), 10**400), (("features", 0, "scale"), 0), (("features", 0, "mean"), float("nan")),
        (("features", 0, "flag"), 1), (("features", 0, "name"), 7), (("features", 1, "categories"), [1, 2]),
        (("features", 1, "kind"), "text"), (("target", "classes"), [["no"], ["yes"]]), (("target", "name"), None),
    ],
    ids=str,
)  # fmt: skip
def test_a_preparation_that_there_cannot_be(folder, originals, place, value):
    description = replaced(description_of(folder / "table"), ("more", "preparation", "preparation", *place), value)
    (folder / "prepared").write_bytes(forged(originals["table"], description))
    load(folder / "prepared")  # the network is what it was
    with pytest.raises(TableError, match="the preparation of the table is damaged"):
        TableModel.load(folder / "prepared")


@pytest.mark.parametrize("bad", [np.nan, np.inf, None], ids=str)
def test_best_parameters_that_are_none(folder, originals, bad):
    """They take the place of the network's own."""
    (folder / "best").write_bytes(originals["table"])
    found = read(folder / "best", with_training=True)
    best = found.arrays["best_theta"][:-1] if bad is None else np.full_like(found.arrays["best_theta"], bad)
    save(found.network, folder / "best", training=found.training, more=found.more, arrays={"best_theta": best})
    with pytest.raises(TableError, match=r"best_theta is damaged; it should be \d+ finite numbers of float32"):
        TableModel.load(folder / "best")
    plan = Plan("y", hidden=(3,), epochs=2)
    with pytest.raises(TableError, match="best_theta is damaged"):
        learn(*begin(TABLE, None, plan), plan, checkpoint=folder / "best")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("more", "preparation"), 7, "the preparation of the table is damaged"),
        (("more", "preparation", "history"), {}, "it has 2 epochs, but 0 losses of the rows to validate on"),
        (("more", "preparation", "history", "validation_loss"), None, "the preparation of the table is damaged"),
        (("more", "preparation", "history", "validation_loss"), [1.0], "it has 2 epochs, but 1 losses"),
        (("training", "options", "epochs"), "many", "epochs must be a whole number, got 'many'"),
        (("training", "options", "epochs"), None, "epochs must be a whole number, got None"),
    ],
    ids=str,
)
def test_a_checkpoint_that_there_cannot_be(folder, originals, place, value, message):
    path, content = folder / "unusable", forged(originals["table"], replaced(description_of(folder / "table"), place, value))
    path.write_bytes(content)
    plan = Plan("y", hidden=(3,), epochs=3)
    with pytest.raises(ValueError, match=message):
        learn(*begin(TABLE, None, plan), plan, checkpoint=path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 50_000, "1" * 100_000, "NaN", "null", '"x"', "{", "[]", '{"format": 2}'])
def test_hostile_json(folder, originals, text):
    content = save_tensors(load_tensors(originals["table"]), {"fastmlp": text})
    assert set(attempts("table", folder / "json", content)) == {None}


def test_memory_follows_the_size_of_the_file(folder, originals):
    """Of descriptions that announce much, and of those that become much larger when they are read."""
    description = description_of(folder / "table")
    for hostile in (
        description | {"sizes": [10**6, 10**6, 2]},
        description | {"sizes": [10**6] * 20_000},
        description | {"training": description["training"] | {"optimizer_states": 10**12}},
        description | {"training": description["training"] | {"loss_curve": [[]] * 20_000}},
        description | {"more": {"preparation": [{}] * 20_000}},
    ):
        content = forged(originals["table"], hostile)
        tracemalloc.start()
        assert None in set(attempts("table", folder / "large", content))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 40 * len(content) + 2**20


LIMITED = """
import resource, sys
from fastmlp.io import load
load(sys.argv[1])
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**25, used + 2**25))
for path in sys.argv[2:]:
    try:
        load(path)
    except ValueError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_announced_sizes_are_never_allocated(folder, originals):
    """By the reader of safetensors, neither, which Python's own tracing does not see: 32 MiB are all there is."""
    header = originals["network"][8 : 8 + int.from_bytes(originals["network"][:8], "little")]
    tensors = originals["network"][8 + len(header) :]
    paths = []
    for number, (old, new) in enumerate([
        (b'"shape":[4,3]', b'"shape":[4,30000000000]'),
        (b'"shape":[4,3]', b'"shape":[4294967296,4294967296]'),
        (b"\\\"sizes\\\": [4, 3, 2]", b"\\\"sizes\\\": [4, 300000000, 2]"),
    ]):  # fmt: skip
        assert old in header
        changed = header.replace(old, new)
        paths.append(folder / f"announced{number}")
        paths[-1].write_bytes(len(changed).to_bytes(8, "little") + changed + tensors)
    for number, length in enumerate([2**63, 2**40, 99_000_000]):
        paths.append(folder / f"length{number}")
        paths[-1].write_bytes(length.to_bytes(8, "little") + header + tensors)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(folder / "network"), *map(str, paths)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.count("is not a usable fastmlp model") == len(paths)


def test_a_failed_resume_leaves_the_network_and_the_file(folder, originals):
    x, y = np.eye(4, dtype=np.float32), [0, 1, 0, 1]
    net = MLP((4, 3, 2), ("tanh", "softmax"), "cross_entropy", random_state=1)
    before, path = net.theta, folder / "resumed"
    description = description_of(folder / "network")
    states = description["training"] | {"optimizer_states": 1}
    for content in (
        originals["network"][:-3],
        originals["table"],
        forged(originals["network"], description | {"training": states}),
        forged(originals["network"], description | {"training": description["training"] | {"steps": 1e300}}),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="resume"):
            net.fit(x, y, epochs=4, batch_size=2, optimizer="adam", resume=path, callbacks=[Checkpoint(path)])
        np.testing.assert_array_equal(net.theta, before)
        assert path.read_bytes() == content
