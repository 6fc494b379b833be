"""A training that was stopped, however it was, goes on to the same bits."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import stat
import subprocess
import sys
import time

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from fastmlp import ACTIVATIONS, LOSSES, MLP, OPTIMIZERS, MLPRegressor, ReferenceMLP, files
from fastmlp.callbacks import Callback, Checkpoint, EarlyStopping
from fastmlp.data import from_npy
from fastmlp.io import load, save
from fastmlp.io.safetensors import load_training
from fastmlp.schedules import Schedule, Step, WarmUp
from fastmlp.training_state import TrainingState, generator_state
from tests.test_invariants import ROOT

SIZES = (6, 10, 8, 3)


def data(rows=150, dtype="float32"):
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, SIZES[0])).astype(dtype), rng.integers(0, SIZES[-1], rows)


def network(kind=MLP, dtype="float32", seed=0):
    return kind(SIZES, ("relu", "tanh", "softmax"), "cross_entropy", dtype=dtype, random_state=seed)


def fit(net, epochs=8, **options):
    options = {"batch_size": 16, "learning_rate": 0.01, "optimizer": "adam"} | options
    return net.fit(*data(dtype=net.dtype.name), epochs=epochs, **options)


class Stop(Callback):
    """Ends the process's interest in the middle of an epoch, or after one."""

    def __init__(self, epoch, *, middle):
        self._epoch, self._middle = epoch, middle

    def on_rows(self, run):
        if self._middle and run.epoch == self._epoch:
            raise KeyboardInterrupt

    def on_epoch_end(self, run):
        run.stop = run.epoch == self._epoch


@pytest.mark.parametrize("kind", [MLP, ReferenceMLP])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_goes_on_to_the_same_bits(tmp_path, kind, optimizer):
    path = tmp_path / "checkpoint.safetensors"
    whole = fit(network(kind), optimizer=optimizer)
    first = fit(network(kind), optimizer=optimizer, callbacks=[Checkpoint(path), Stop(3, middle=False)])
    assert len(first.loss_curve_) == 3
    again = fit(network(kind, seed=99), optimizer=optimizer, resume=path)
    np.testing.assert_array_equal(again.theta, whole.theta)
    assert again.loss_curve_ == whole.loss_curve_
    np.testing.assert_array_equal(fit(again).theta, fit(whole).theta)  # the random numbers go on, too


@pytest.mark.parametrize(
    "options",
    [
        {"dropout": 0.3}, {"schedule": "cosine"}, {"shuffle": False}, {"batch_size": 1000}, {"batch_size": 1, "optimizer": "sgd"},
        {"l2": 0.1, "weight_decay": 0.01, "max_grad_norm": 0.5}, {"optimizer": OPTIMIZERS["adam"](beta1=0.5)},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_option(tmp_path, options, dtype):
    path = tmp_path / "checkpoint.safetensors"
    whole = fit(network(dtype=dtype), **options)
    fit(network(dtype=dtype), **options, callbacks=[Checkpoint(path), Stop(5, middle=False)])
    again = fit(network(dtype=dtype, seed=99), **options, resume=path)
    np.testing.assert_array_equal(again.theta, whole.theta)


def test_many_rows_whose_order_is_computed(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    x, y = data(70_000)
    options = {"epochs": 3, "batch_size": 256, "learning_rate": 0.01}
    whole = network().fit(x, y, **options)
    network().fit(x, y, **options, callbacks=[Checkpoint(path), Stop(1, middle=False)])
    np.testing.assert_array_equal(network(seed=9).fit(x, y, **options, resume=path).theta, whole.theta)


def test_an_interrupt_in_the_middle_of_an_epoch_leaves_the_last_whole_one(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    whole = fit(network())
    net = network()
    with pytest.raises(KeyboardInterrupt):
        fit(net, callbacks=[Checkpoint(path), Stop(4, middle=True)])
    assert not np.array_equal(load(path).theta, net.theta)  # what was learned since is in the network only
    again = fit(network(), resume=path)
    np.testing.assert_array_equal(again.theta, whole.theta)
    assert again.loss_curve_ == whole.loss_curve_


def test_early_stopping_remembers(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    options = {"epochs": 60, "learning_rate": 0.05}
    whole = fit(network(), callbacks=[EarlyStopping(3, tolerance=0.02)], **options)
    assert 5 < len(whole.loss_curve_) < 60
    stop = len(whole.loss_curve_) - 1
    fit(network(), callbacks=[EarlyStopping(3, tolerance=0.02), Checkpoint(path), Stop(stop, middle=False)], **options)
    again = fit(network(), callbacks=[EarlyStopping(3, tolerance=0.02)], resume=path, **options)
    assert again.loss_curve_ == whole.loss_curve_
    fit(network(), callbacks=[EarlyStopping(3, tolerance=0.02), Checkpoint(path)], **options)
    again = fit(network(), callbacks=[EarlyStopping(3, tolerance=0.02)], resume=path, **options)  # it had stopped
    np.testing.assert_array_equal(again.theta, whole.theta)


def test_a_checkpoint_is_a_model(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    net = fit(network(), callbacks=[Checkpoint(path, every=3)])
    np.testing.assert_array_equal(load(path).theta, net.theta)


def test_nothing_is_left_to_do(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    net = fit(network(), callbacks=[Checkpoint(path)])
    again = fit(network(), resume=path)
    np.testing.assert_array_equal(again.theta, net.theta)
    assert again.loss_curve_ == net.loss_curve_


class TestRefusals:
    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "checkpoint.safetensors"
        fit(network(), epochs=2, callbacks=[Checkpoint(path)])
        return path

    @staticmethod
    def refused(net, path, error, message, **options):
        before, state = net.theta, net._generator.bit_generator.state
        with pytest.raises(error, match=message):
            fit(net, resume=path, **options)
        np.testing.assert_array_equal(net.theta, before)
        assert net._generator.bit_generator.state == state

    def test_other_constants_of_a_plain_class(self, path):
        class Falling(Schedule):
            def __init__(self, by):
                self.by, self._seen, self.of = by, object(), lambda: by

            def factor(self, step, total_steps, steps_per_epoch):
                return self.by ** (step / steps_per_epoch)

        fit(network(), epochs=2, callbacks=[Checkpoint(path)], schedule=Falling(0.5))
        message = r"written with schedule_constants='.*Falling\(by=0\.5\)'"
        self.refused(network(), path, ValueError, message, schedule=Falling(0.9))
        fit(network(), epochs=2, resume=path, schedule=Falling(0.5))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"batch_size": 32}, "written with batch_size=16, but this training has batch_size=32"),
            ({"optimizer": "sgd"}, "written with optimizer='adam'"),
            ({"optimizer": OPTIMIZERS["adam"](beta1=0.5)}, "written with optimizer_options="),
            ({"learning_rate": 0.02}, "written with learning_rate=0.01"),
            ({"dropout": 0.5}, "written with dropout="),
            ({"schedule": "cosine"}, "written with schedule='constant'"),
        ],
    )
    def test_another_training(self, path, options, message):
        self.refused(network(), path, ValueError, message, **options)

    @pytest.mark.parametrize(
        ("before", "after", "message"),
        [
            ({"schedule": Step(2)}, {"schedule": Step(5)}, r"written with schedule_constants='Step\(epochs=2, gamma=0.5\)'"),
            ({"schedule": WarmUp()}, {"schedule": WarmUp(then="cosine")}, "but this training has .*then=Cosine"),
            ({"sample_weight": np.ones(150)}, {}, "written with weighted=True, but this training has weighted=False"),
            ({}, {"sample_weight": np.ones(150)}, "written with weighted=False"),
        ],
    )
    def test_other_constants_and_weights(self, path, before, after, message):
        fit(network(), callbacks=[Checkpoint(path), Stop(2, middle=False)], **before)
        self.refused(network(), path, ValueError, message, **after)
        fit(network(), resume=path, **before)

    def test_numbers_of_numpy_are_the_same_constants(self, path):
        fit(network(), callbacks=[Checkpoint(path), Stop(2, middle=False)], schedule=Step(np.int64(3), np.float32(0.5)))
        fit(network(), resume=path, schedule=Step(3, 0.5))

    def test_more_epochs_than_there_are_to_be(self, path):
        message = "the checkpoint has 2 epochs already, but this training has epochs=1; give 2 or more"
        self.refused(network(), path, ValueError, message, epochs=1)
        assert len(fit(network(), resume=path, epochs=2).loss_curve_) == 2

    @pytest.mark.parametrize("resumed", [False, True])
    def test_a_callback_that_refuses(self, path, tmp_path, resumed):
        """After the checkpoint has been read, the network is as it was, too."""
        net = fit(network(seed=5), epochs=1)
        curve, reading = list(net.loss_curve_), net.reading_
        callbacks = [Checkpoint(tmp_path / "nofolder" / "q.safetensors")]
        message = "Checkpoint cannot write to .*there is no folder"
        self.refused(net, path if resumed else None, OSError, message, callbacks=callbacks)
        assert (net.loss_curve_, net.reading_) == (curve, reading)
        np.testing.assert_array_equal(fit(net).theta, fit(fit(network(seed=5), epochs=1)).theta)

    def test_another_length_where_the_schedule_depends_on_it(self, path):
        fit(network(), epochs=2, callbacks=[Checkpoint(path)], schedule="cosine")
        self.refused(
            network(),
            path,
            ValueError,
            "with epochs=2, but this training has epochs=8, and the sch",
            schedule="cosine",
        )
        little = WarmUp(0.02)  # 2 and 16 steps of 20 and of 80
        fit(network(), epochs=2, callbacks=[Checkpoint(path)], schedule=little)
        self.refused(network(), path, ValueError, "and the schedule warm_up depends on it", schedule=little, epochs=80)

        class Tabled(Schedule):
            """Knows no more steps than a training of eight epochs has."""

            def factor(self, step, total_steps, steps_per_epoch):
                return np.linspace(1, 0.1, 80)[step.astype(int)]

        tabled = Tabled()
        fit(network(), epochs=2, callbacks=[Checkpoint(path)], schedule=tabled)
        assert len(fit(network(), resume=path, schedule=tabled).loss_curve_) == 8
        fit(network(), epochs=2, callbacks=[Checkpoint(path)], schedule="step")
        assert len(fit(network(), resume=path, schedule="step").loss_curve_) == 8

    def test_another_buffer(self, path, tmp_path):
        x, y = data()
        np.save(tmp_path / "x.npy", x)
        np.save(tmp_path / "y.npy", y)
        source = from_npy(tmp_path / "x.npy", tmp_path / "y.npy")
        options = {"epochs": 1, "batch_size": 16, "buffer_bytes": 1100}
        network().fit(source, **options, callbacks=[Checkpoint(path)])
        with pytest.raises(ValueError, match="written with buffer_bytes=1100, but this training has buffer_bytes=2000"):
            network().fit(source, **options | {"epochs": 2, "buffer_bytes": 2000}, resume=path)
        assert len(network().fit(source, **options | {"epochs": 2}, resume=path).loss_curve_) == 2

    @pytest.mark.parametrize(("before", "after"), [(1100, 1 << 20), (1 << 20, 1100)])
    def test_rows_that_are_read_in_the_place_of_rows_in_memory(self, path, tmp_path, before, after):
        """They come in another order."""
        x, y = data()
        np.save(tmp_path / "x.npy", x)
        np.save(tmp_path / "y.npy", y)
        source = from_npy(tmp_path / "x.npy", tmp_path / "y.npy")
        network().fit(source, epochs=1, batch_size=16, buffer_bytes=before, callbacks=[Checkpoint(path)])
        options = {"epochs": 2, "batch_size": 16, "resume": path}
        shown = {1100: 1100, 1 << 20: None}
        with pytest.raises(ValueError, match=f"buffer_bytes={shown[before]}, but this training has buffer_bytes={shown[after]}"):
            network().fit(source, buffer_bytes=after, **options)
        assert len(network().fit(source, buffer_bytes=before, **options).loss_curve_) == 2

    def test_a_checkpoint_that_does_not_know_an_option(self):
        """As earlier versions wrote them."""
        TrainingState(0, 0, [], {}, [], {"rows": 5}).check_options({"rows": 5, "buffer_bytes": None})

    def test_another_network(self, path):
        other = MLP((6, 10, 9, 3), ("relu", "tanh", "softmax"), "cross_entropy", random_state=0)
        self.refused(other, path, ValueError, r"sizes=\(6, 10, 8, 3\), but this one has sizes=\(6, 10, 9, 3\)")
        self.refused(network(dtype="float64"), path, ValueError, "dtype=float32, but this one has dtype=float64")
        other = MLP(SIZES, ("relu", "relu", "softmax"), "cross_entropy", random_state=0)
        self.refused(other, path, ValueError, "a network with tanh, where this one has relu")

    def test_another_parameter_of_the_same_function(self, path):
        def net(slope, delta):
            return MLP(SIZES, (ACTIVATIONS["leaky_relu"](slope), "tanh", "identity"), LOSSES["huber"](delta), random_state=0)

        x, y = data()
        options = {"epochs": 2, "batch_size": 16}
        net(0.2, 1.5).fit(x, np.eye(3)[y], **options, callbacks=[Checkpoint(path)])
        for other, message in (
            (net(0.01, 1.5), r"a network with leaky_relu\(0\.2\), where this one has leaky_relu\(0\.01\)"),
            (net(0.2, 1.0), r"a network with huber\(1\.5\), where this one has huber\(1\.0\)"),
        ):
            with pytest.raises(ValueError, match=message):
                other.fit(x, np.eye(3)[y], **options, resume=path)

    def test_a_model_without_a_training(self, tmp_path):
        save(network(), tmp_path / "model.safetensors")
        self.refused(network(), tmp_path / "model.safetensors", ValueError, "a model without the state of a training")

    def test_an_estimator_s_checkpoint(self, tmp_path):
        path = tmp_path / "model.safetensors"
        x, y = data()
        with pytest.warns(ConvergenceWarning):
            MLPRegressor(hidden_layer_sizes=SIZES[1:-1], max_iter=1, callbacks=[Checkpoint(path)]).fit(x, y * 1.0)
        self.refused(network(), path, ValueError, "without the state of a training")

    def test_no_file(self, tmp_path):
        self.refused(network(), tmp_path / "none.safetensors", FileNotFoundError, "There is no file")

    @pytest.mark.parametrize("keep", [0, 7, 200, -1])
    def test_a_truncated_file(self, path, keep):
        path.write_bytes(path.read_bytes()[:keep])
        self.refused(network(), path, ValueError, "is not a usable fastmlp checkpoint")

    @pytest.mark.parametrize(
        "change",
        [
            {"generator": {"bit_generator": "MT19937"}}, {"generator": {"bit_generator": "PCG64"}}, {"generator": 3},
            {"epoch": "x"}, {"epoch": -1}, {"steps": True}, {"steps": 2**64},
            {"optimizer_states": 3}, {"optimizer_states": 1}, {"loss_curve": 5},
            {"options": None}, {"options": {"optimizer": "none"}},
        ],
        ids=str,
    )  # fmt: skip
    def test_a_changed_description(self, path, change):
        from safetensors import safe_open
        from safetensors.numpy import load_file, save_file

        with safe_open(path, framework="numpy") as file:
            description = json.loads(file.metadata()["fastmlp"])
        description["training"] |= change
        del description["sha256"]
        description["format"] = 1
        save_file(load_file(path), path, {"fastmlp": json.dumps(description)})
        self.refused(network(), path, ValueError, "is not a usable fastmlp checkpoint")


def processes():
    """Processes that have imported what they need before they begin, where the system can fork them off one that has."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.killed"])
    return context


class Unheard:
    """The end of a pipe that never fills up."""

    def send(self, word):
        pass


def test_killed_fifty_times(tmp_path):
    """At random moments of the training, the writing of checkpoints included; after each kill there is a whole checkpoint."""
    path, theta = tmp_path / "checkpoint.safetensors", tmp_path / "theta.npy"
    from tests.killed import train_to_the_end

    moments, context = random.Random(0), processes()
    seen, kills, epochs = False, 0, []
    while kills < 50:
        hear, say = context.Pipe(duplex=False)
        process = context.Process(target=train_to_the_end, args=(tmp_path, say))
        process.start()
        say.close()
        assert hear.recv() == "begun"
        with contextlib.suppress(EOFError):  # it may come to its end
            for _ in range(moments.randrange(3)):  # of its epochs, however long a disk takes to keep one
                assert hear.recv() == "epoch"
        time.sleep(moments.uniform(0, 0.03))
        process.kill()
        process.join()
        kills += not theta.exists()
        seen = seen or path.exists()
        if seen:
            epochs.append(load_training(path)[1].epoch)
        if theta.exists():  # it was faster: once more, from the beginning
            theta.unlink()
            path.unlink()
            seen = False
    assert len(set(epochs)) > 20
    train_to_the_end(tmp_path, Unheard())
    np.testing.assert_array_equal(np.load(theta), fit(network(), epochs=400).theta)
    # Also nothing of writes that were killed; where nobody can ask whether a process is there, it goes after a while.
    whole = [entry.name for entry in tmp_path.iterdir() if os.name != "nt" or entry.suffix != ".tmp"]
    assert sorted(whole) == [path.name, theta.name]


@pytest.mark.parametrize("kind", [np.random.MT19937, np.random.PCG64DXSM, np.random.Philox, np.random.SFC64])
def test_generators_of_other_kinds(tmp_path, kind):
    path = tmp_path / "checkpoint.safetensors"
    whole = fit(network(seed=np.random.Generator(kind(3))), epochs=4)
    fit(network(seed=np.random.Generator(kind(3))), epochs=2, callbacks=[Checkpoint(path)])
    np.testing.assert_array_equal(fit(network(), epochs=4, resume=path).theta, whole.theta)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (np.random.MT19937, {"state": {"pos": 10**9}}), (np.random.MT19937, {"state": {"pos": -1}}),
        (np.random.MT19937, {"state": {"key": [1] * 1000, "pos": 900}}), (np.random.MT19937, {"state": {"key": [0] * 624}}),
        (np.random.Philox, {"buffer_pos": -(2**30)}), (np.random.Philox, {"buffer_pos": 5}),
        (np.random.PCG64, {"state": {"inc": 2**64}}), (np.random.PCG64DXSM, {"state": {"inc": 0}}),
    ],
)  # fmt: skip
def test_states_that_no_generator_has(kind, change):
    """NumPy takes them, and would read beside its arrays, or draw one number for ever."""
    state = generator_state(np.random.Generator(kind(0)))
    for name, value in change.items():
        state[name] = state[name] | value if isinstance(value, dict) else value
    with pytest.raises(ValueError, match=f"the state of the random numbers is none that {kind.__name__} can have"):
        TrainingState(0, 0, [], state, [], {}).make_generator()


FULL = """
import resource, signal, sys
from fastmlp.callbacks import Callback, Checkpoint
from tests.test_resume import fit, network

class Fill(Callback):
    def on_epoch_end(self, run):
        if run.epoch == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

try:
    fit(network(), callbacks=[Checkpoint(sys.argv[1]), Fill()])
except OSError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of resources")
def test_a_disk_that_has_become_full(tmp_path):
    """No byte beyond the first thousand can be written after the second epoch."""
    path = tmp_path / "checkpoint.safetensors"
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "File too large" in done.stdout
    assert repr(str(path)) in done.stdout
    assert load_training(path)[1].epoch == 2
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    np.testing.assert_array_equal(fit(network(), resume=path).theta, fit(network()).theta)


@pytest.mark.parametrize("name", ["", "folder", "folder {epoch}"])
def test_a_folder_is_no_place_for_a_checkpoint(tmp_path, monkeypatch, name):
    """Said before the first epoch, rather than at its end."""
    monkeypatch.chdir(tmp_path)
    for folder in ("folder", "folder 1"):
        (tmp_path / folder).mkdir()
    net = network()
    before = net.theta
    with pytest.raises(OSError, match=rf"^Checkpoint cannot write to '{name}': This is a folder; give the name of a file in it\.$"):
        fit(net, callbacks=[Checkpoint(name)])
    np.testing.assert_array_equal(net.theta, before)


def test_a_path_of_bytes(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    net = fit(network(), callbacks=[Checkpoint(os.fsencode(path))])
    np.testing.assert_array_equal(load(path).theta, net.theta)


def test_an_optimizer_with_numbers_of_numpy(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    options = {"optimizer": OPTIMIZERS["adam"](beta1=np.float32(0.5), beta2=np.float64(0.9))}
    whole = fit(network(), **options)
    fit(network(), **options, callbacks=[Checkpoint(path), Stop(3, middle=False)])
    np.testing.assert_array_equal(
        fit(network(), resume=path, optimizer=OPTIMIZERS["adam"](beta1=0.5, beta2=0.9)).theta, whole.theta
    )


@pytest.mark.parametrize("name", ["checkpoint.safetensors", "[epoch] {epoch}.safetensors"])
def test_leftovers_of_killed_writes_are_removed(tmp_path, monkeypatch, name):
    monkeypatch.setattr(files, "_LEFT_SECONDS", 1e9)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    own, here = name.replace("{epoch}", "17"), files._machine()
    left, at_work, restarted, elsewhere, long_ago, another = (
        tmp_path / f".{named}.{machine}{process:08x}{number:08x}.tmp"
        for number, (named, machine, process) in enumerate([
            (own, here, gone.pid), (own, here, os.getpid()), (own, here, os.getpid()), (own, "0000", gone.pid),
            (own, "0000", gone.pid), ("other.safetensors", here, gone.pid),
        ])
    )  # fmt: skip
    for path in (left, at_work, restarted, elsewhere, long_ago, another):
        path.write_text("half a checkpoint")
    os.utime(restarted, (files._STARTED - 1, files._STARTED - 1))  # by a process that had the same number
    os.utime(long_ago, (0, 0))
    fit(network(), epochs=1, callbacks=[Checkpoint(tmp_path / name)])
    assert left.exists() == (os.name == "nt")  # where nobody can ask, until a while has passed
    assert not restarted.exists()
    assert not long_ago.exists()
    assert all(path.exists() for path in (at_work, elsewhere, another))


def test_content_is_on_the_disk_before_the_name_and_the_name_after(tmp_path, monkeypatch):
    """A machine that loses power has the old file or the new one, never a name without its content."""
    events = []
    fsync, replace = os.fsync, os.replace

    def synced(handle):
        events.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def renamed(*names):
        events.append("rename")
        replace(*names)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    fit(network(), epochs=1, callbacks=[Checkpoint(tmp_path / "checkpoint.safetensors")])
    assert events == ["file", "rename", "folder"] if hasattr(os, "O_DIRECTORY") else ["file", "rename"]
