"""Invariants 2 and 9: the same bits for any number of threads; threads that are safe, polite and never a loss."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import platform
import signal
import sys
import threading
import time

import numpy as np
import pytest

from fastmlp import MLP, ReferenceMLP
from fastmlp import pace as pace_module
from fastmlp import threads as threads_module
from fastmlp.callbacks import Callback
from fastmlp.engine import compile_kernels, limits
from fastmlp.engine import engine as engine_module
from fastmlp.engine.partition import share_blocks
from fastmlp.engine.prediction import Predictor
from fastmlp.engine.session import Session
from fastmlp.kernels.epoch import blocks_at_once
from fastmlp.kernels.jit import kernel
from fastmlp.kernels.operands import Worker
from fastmlp.kernels.plan import ABORT, ABSENT, PANEL_ROWS, PLACE, PLACES_LOCK, STATES, THREAD_STRIDE, TRAINS, WAITING, WORKING
from fastmlp.kernels.processors import CAN_MOVE, current_processor, take_place
from fastmlp.kernels.simd import atomic_add, atomic_load, atomic_store, yield_processor
from fastmlp.kernels.team import Team, barrier, return_tickets, take_ticket, wait_while
from fastmlp.memory import aligned_zeros
from fastmlp.pace import Pace, give_back_pace, take_pace, thread_candidates
from fastmlp.pool import Pool
from fastmlp.threads import Succession, available_threads, choose_threads
from tests.test_invariants import run_python

CASES = {
    "few rows": ((6, 5, 3), 15, "sgd", {}),
    "adam": ((28, 64, 64, 2), 256, "adam", {}),
    "clipped": ((28, 40, 2), 100, "momentum", {"max_grad_norm": 0.1, "l2": 0.01}),
    "weighted": ((28, 130, 5), 64, "nadam", {"sample_weight": np.arange(600.0) % 7}),
    "wide": ((28, 700, 6), 600, "rmsprop", {}),
    "layered": ((28, 600, 310, 6), 250, "adam", {"max_grad_norm": 0.1}),
    "layered, in many pieces": ((28, 1200, 700, 6), 250, "adam", {}),
    "few outputs": ((9, 100, 2), 150, "adam", {}),
}


def trained(case, n_threads, dtype):
    sizes, batch_size, optimizer, options = CASES[case]
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(600, sizes[0])), rng.integers(0, sizes[-1], 600)
    net = MLP(sizes, ["tanh"] * (len(sizes) - 2) + ["softmax"], "cross_entropy", dtype=dtype, random_state=5, n_threads=n_threads)
    net.fit(x, y, epochs=3, batch_size=batch_size, optimizer=optimizer, learning_rate=0.01, **options)
    return net.theta, net.predict(x), np.array(net.loss_curve_), net.loss_and_grad(net.theta, x, y)[1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_same_bits_for_any_number_of_threads(case, dtype):
    expected = trained(case, 1, dtype)
    for n_threads in (2, 3, 5):
        for ours, theirs in zip(trained(case, n_threads, dtype), expected, strict=True):
            assert np.array_equal(ours, theirs)  # equal, not close


@pytest.mark.parametrize("n_threads", [2, None])
def test_wide_samples_one_at_a_time_are_for_one_thread(n_threads):
    sizes = 3000, 64, 10
    assert MLP(sizes).engine.shape.bands(1, False) == 2
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, sizes[0])), rng.normal(size=(60, sizes[-1]))

    def fitted(n_threads):
        net = MLP(sizes, ("tanh", "identity"), random_state=0, n_threads=n_threads)
        return net.fit(x, y, epochs=3, batch_size=1, learning_rate=1e-4).theta

    np.testing.assert_array_equal(fitted(n_threads), fitted(1))


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="there are no such instructions")
@pytest.mark.parametrize(
    ("processor", "features", "dtype"),
    [("haswell", "+avx2,+fma,+avx,+sse4.2", "float64"), ("generic", "+sse2", "float32")],
)
def test_layered_networks_where_vectors_are_short(processor, features, dtype):
    code = f"""
        import numpy as np
        from fastmlp import MLP, ReferenceMLP
        sizes = 300, 372, 444, 10
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(100, sizes[0])), rng.normal(size=(100, sizes[-1]))
        theirs = ReferenceMLP(sizes, "tanh", dtype="float64", random_state=1)
        for n_threads in (1, 2):
            ours = MLP(sizes, "tanh", dtype={dtype!r}, random_state=1, n_threads=n_threads)
            assert ours.engine.shape.is_layered(len(x))
            theirs.theta = ours.theta
            for gradients, expected in zip(ours.backprop(x, y), theirs.backprop(x, y)):
                for one, other in zip(gradients, expected):
                    np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * np.abs(other).max())
    """
    run_python(code, NUMBA_CPU_NAME=processor, NUMBA_CPU_FEATURES=features)


def assert_same_bits(trained, case, dtype):
    """``trained(kind, case, dtype, n_threads)`` gives the same arrays for any number of threads."""
    expected = trained(MLP, case, dtype, 1)
    for n_threads in (2, 3, 4, 7):
        for ours, theirs in zip(trained(MLP, case, dtype, n_threads), expected, strict=True):
            assert np.array_equal(ours, theirs)


def assert_as_the_reference(trained, case, dtype):
    tolerance = {"rtol": 1e-8, "atol": 1e-9} if dtype == "float64" else {"rtol": 2e-3, "atol": 2e-3}
    for ours, theirs in zip(trained(MLP, case, dtype), trained(ReferenceMLP, case, dtype), strict=True):
        np.testing.assert_allclose(ours, theirs, **tolerance)


def assert_ends_change_nothing(monkeypatch, trained, case, n_threads):
    """Calls are cut by the clock, in the middle of batches, too."""
    expected = trained(MLP, case, "float32", n_threads)
    monkeypatch.setattr(limits, "CALL_SECONDS", 1e-9)
    for ours, theirs in zip(trained(MLP, case, "float32", n_threads), expected, strict=True):
        assert np.array_equal(ours, theirs)


def assert_giving_up_changes_nothing(monkeypatch, trained, case):
    """The others may never have begun: what they should have computed is not there."""
    unchanged = []

    def interrupted(team, kernel, *arguments):
        buffer = arguments[-14]
        before = buffer.copy()
        team._sync[ABORT] = 1
        kernel(1, 2, team._sync, *arguments)
        unchanged.append(np.array_equal(buffer, before))
        raise KeyboardInterrupt

    monkeypatch.setattr(Team, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trained(MLP, case, "float32", 2)
    assert unchanged == [True]


_SMALL, _LARGER = (4, 32, 16, 3), (28, 64, 64, 3)
SLOT_CASES = {  # sizes, batch_size, slots and rows of each, options
    "all rows": (_SMALL, 5001, (20, 256), {"optimizer": "adam"}),
    "clipped": (_SMALL, 5001, (20, 256), {"optimizer": "momentum", "max_grad_norm": 0.5, "l2": 0.01, "weight_decay": 0.01}),
    "two batches": (_SMALL, 2600, (11, 256), {"optimizer": "sgd"}),
    "dropout": (_SMALL, 2600, (11, 256), {"optimizer": "adam", "dropout": 0.3}),
    "chunks after chunks": ((64, 240, 240, 3), 5001, (13, 256), {"optimizer": "adam"}),
    "a chunk in four parts": (_LARGER, 256, (4, 64), {"optimizer": "sgd"}),
    "a chunk in two parts": (_LARGER, 200, (2, 112), {"optimizer": "adam", "max_grad_norm": 0.5}),
}


class TestSlots:
    """Batches of which each thread takes whole chunks."""

    @staticmethod
    def trained(kind, case, dtype, n_threads=None):
        sizes, batch_size, _, options = SLOT_CASES[case]
        rng = np.random.default_rng(3)
        x, y, weight = rng.normal(size=(5001, sizes[0])), rng.normal(size=(5001, 3)), rng.random(5001)
        net = kind(sizes, ("tanh", "tanh", "identity"), dtype=dtype, random_state=5, n_threads=n_threads)
        net.fit(x, y, epochs=3, batch_size=batch_size, learning_rate=0.01, sample_weight=weight, **options)
        loss, gradient, _ = net.loss_and_grad(net.theta, x, y, weight)
        return net.theta, np.array(net.loss_curve_), gradient, np.array([loss, net.eval_loss(x, y)])

    def test_how_many_there_are(self):
        for sizes, batch_size, slots, _ in SLOT_CASES.values():
            assert MLP(sizes).engine.shape.slots(batch_size, False) == slots
        engine = MLP(_LARGER).engine
        assert (
            engine.shape.slots(256, True) == engine.shape.slots(32, False) == MLP(_SMALL).engine.shape.slots(256, False) == (0, 0)
        )
        assert MLP((784, 128, 64, 10)).engine.shape.slots(256, False) == (0, 0)  # it has more weights to read than activations

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("case", SLOT_CASES)
    def test_same_bits_for_any_number_of_threads(self, case, dtype):
        assert_same_bits(self.trained, case, dtype)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("case", SLOT_CASES)
    def test_same_numbers_as_the_reference(self, case, dtype):
        assert_as_the_reference(self.trained, case, dtype)

    @pytest.mark.parametrize("n_threads", [1, 2])
    @pytest.mark.parametrize("case", ["two batches", "chunks after chunks", "a chunk in four parts"])
    def test_where_a_call_ends_changes_nothing(self, monkeypatch, case, n_threads):
        assert_ends_change_nothing(monkeypatch, self.trained, case, n_threads)

    def test_a_call_has_work_for_all_threads(self, monkeypatch):
        """However short calls are to be, as on trial: fewer chunks than slots would be those of some of the threads."""
        arguments, calls = Session.arguments, []

        def recorded(session, order, coefficients, start, stop, n_threads):
            calls.append(stop - start)
            return arguments(session, order, coefficients, start, stop, n_threads)

        monkeypatch.setattr(limits, "CALL_SECONDS", 1e-9)
        monkeypatch.setattr(Session, "arguments", recorded)
        self.trained(MLP, "chunks after chunks", "float32", 2)
        assert set(calls) == {13, 7}  # of 20 chunks

    @pytest.mark.parametrize("case", SLOT_CASES)
    def test_a_thread_that_is_told_to_give_up_changes_nothing(self, monkeypatch, case):
        assert_giving_up_changes_nothing(monkeypatch, self.trained, case)


BAND_CASES = {  # sizes, batch_size, options
    "few rows": ((401, 30, 3), 15, {"optimizer": "sgd"}),
    "one state": ((400, 40, 3), 13, {"optimizer": "momentum", "l2": 0.01, "weight_decay": 0.01}),
    "large layers above": ((900, 130, 100, 3), 60, {"optimizer": "adam"}),
    "a hidden layer more": ((300, 70, 40, 3), 50, {"optimizer": "adam", "dropout": 0.2}),
    "no hidden layer": ((500, 3), 60, {"optimizer": "nadam"}),
    "clipped": ((333, 20, 3), 100, {"optimizer": "momentum", "max_grad_norm": 0.5, "l2": 0.01, "weight_decay": 0.01}),
    "two chunks": ((300, 50, 3), 600, {"optimizer": "adam"}),
    "nearly layered": ((784, 300, 3), 50, {"optimizer": "adam"}),
    "more of one band than of the other": ((80, 30, 3), 100, {"optimizer": "adam"}),
}


class TestBands:
    """Wide samples, of which each thread takes some features."""

    @staticmethod
    def trained(kind, case, dtype, n_threads=None):
        sizes, batch_size, options = BAND_CASES[case]
        rng = np.random.default_rng(3)
        x, y, weight = rng.normal(size=(810, sizes[0])), rng.normal(size=(810, 3)), rng.random(810)
        net = kind(sizes, [*["tanh"] * (len(sizes) - 2), "identity"], dtype=dtype, random_state=5, n_threads=n_threads)
        net.fit(x, y, epochs=3, batch_size=batch_size, learning_rate=0.001, sample_weight=weight, **options)
        loss, gradient, _ = net.loss_and_grad(net.theta, x[:300], y[:300], weight[:300])
        return net.theta, np.array(net.loss_curve_), gradient, np.array([loss, net.eval_loss(x[:300], y[:300])])

    def test_when_there_are_some(self):
        for sizes, batch_size, _ in BAND_CASES.values():
            assert MLP(sizes).engine.shape.bands(batch_size, False) == 2
        engine = MLP((784, 30, 10)).engine
        assert engine.shape.bands(10, False) == 2
        assert engine.shape.bands(10, True) == engine.shape.bands(1, False) == 0  # sparse; and too little work
        assert MLP((784, 300, 10)).engine.shape.bands(128, False) == 0  # layered
        assert MLP((784, 30, 10)).engine.shape.bands(5000, False) == 0  # each thread takes whole chunks
        assert MLP((64, 64, 10)).engine.shape.bands(256, False) == MLP((100, 100, 100, 10)).engine.shape.bands(256, False) == 0

    @pytest.mark.parametrize("n_threads", [1, 2])
    def test_a_thread_has_the_weights_of_its_features(self, n_threads):
        blocks, bounds = share_blocks((784, 128, 64, 10), (784, 128, 64, 16), n_threads, 256, bands=(0, 400))
        for thread in range(n_threads):
            own = blocks[bounds[thread] : bounds[thread + 1]]
            rows = np.concatenate([np.arange(block["row"], block["row"] + block["rows"]) for block in own if block["layer"] == 0])
            assert np.array_equal(rows, np.arange(784) if n_threads == 1 else [np.arange(400), np.arange(400, 784)][thread])
            upper = sum((block["rows"] + block["bias"]) * block["columns"] for block in own if block["layer"] > 0)
            assert upper == pytest.approx((129 * 64 + 65 * 16) / n_threads, rel=0.1)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("case", BAND_CASES)
    def test_same_bits_for_any_number_of_threads(self, case, dtype):
        assert_same_bits(self.trained, case, dtype)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("case", BAND_CASES)
    def test_same_numbers_as_the_reference(self, case, dtype):
        assert_as_the_reference(self.trained, case, dtype)

    @pytest.mark.parametrize("n_threads", [1, 2])
    @pytest.mark.parametrize("case", ["two chunks", "a hidden layer more"])
    def test_where_a_call_ends_changes_nothing(self, monkeypatch, case, n_threads):
        assert_ends_change_nothing(monkeypatch, self.trained, case, n_threads)

    @pytest.mark.parametrize("case", BAND_CASES)
    def test_a_thread_that_is_told_to_give_up_changes_nothing(self, monkeypatch, case):
        assert_giving_up_changes_nothing(monkeypatch, self.trained, case)

    @pytest.mark.parametrize("n_threads", [1, 2, 3])
    @pytest.mark.parametrize("case", BAND_CASES)
    def test_who_has_a_copy_of_the_layers_above(self, monkeypatch, case, n_threads):
        """Each of two threads, where these layers are small, and a batch is one chunk whose gradient is not clipped."""
        records, found = Session._records, []

        def recorded(session, space, n_threads):
            _, job, _, blocks, bounds = result = records(session, space, n_threads)
            if job["mode"] == TRAINS:
                found.append((n_threads, blocks["layer"][bounds[-1] :].tolist(), bool(job["copies"])))  # everybody's
            return result

        monkeypatch.setattr(Session, "_records", recorded)
        self.trained(MLP, case, "float32", n_threads)
        sizes, batch_size, _ = BAND_CASES[case]
        used = min(n_threads, 2 * -(-batch_size // PANEL_ROWS))  # no more than there are panels of bands
        has_copies = used < 3 and case not in ("clipped", "two chunks", "large layers above")
        upper = list(range(1, len(sizes) - 1)) if has_copies else []
        assert {(n, tuple(sorted(set(layers))), copies) for n, layers, copies in found} == {(used, tuple(upper), has_copies)}


def test_same_bits_every_time():
    for ours, theirs in zip(trained("adam", None, "float32"), trained("adam", None, "float32"), strict=True):
        assert np.array_equal(ours, theirs)


def test_fits_beside_each_other_do_not_disturb_each_other():
    expected = trained("clipped", 2, "float32")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for results in pool.map(lambda _: trained("clipped", 2, "float32"), range(8)):
            for ours, theirs in zip(results, expected, strict=True):
                assert np.array_equal(ours, theirs)


@pytest.fixture
def threads_that_alternate():
    """Have Python change threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("threads_that_alternate")
def test_one_network_in_several_threads():
    """A network that is only read may be used by any number of threads at once."""
    rng = np.random.default_rng(0)
    net = MLP((20, 50, 3), ("tanh", "softmax"), "cross_entropy", random_state=0)
    parts = [(rng.normal(size=(30 + 10 * (i % 2), 20)), rng.integers(0, 3, 30 + 10 * (i % 2))) for i in range(8)]

    def use(part):
        return [(net.eval_loss(*part), net.backprop(*part)[0][0], net.predict(part[0])) for _ in range(100)]

    expected = [use(part)[0] for part in parts]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for results, (loss, gradient, outputs) in zip(pool.map(use, parts), expected, strict=True):
            for result in results:
                assert result[0] == loss
                assert np.array_equal(result[1], gradient)
                assert np.array_equal(result[2], outputs)


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_inside_joblib(backend):
    from joblib import Parallel, delayed

    expected = trained("adam", 2, "float32")
    for results in Parallel(2, backend=backend)(delayed(trained)("adam", 2, "float32") for _ in range(3)):
        assert np.array_equal(results[0], expected[0])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_after_a_fork():
    expected = trained("few rows", 2, "float32")[0]  # this process has had a team of threads
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def child():
        sender.send(trained("few rows", 2, "float32")[0])

    with pytest.warns(DeprecationWarning, match="fork") if _warns_of_fork() else _nothing():
        process = context.Process(target=child)
        process.start()
    assert receiver.poll(60)
    assert np.array_equal(receiver.recv(), expected)
    process.join(60)
    assert process.exitcode == 0


def _warns_of_fork():
    return sys.version_info >= (3, 12) and threading.active_count() > 1


class _nothing:  # noqa: N801
    def __enter__(self):
        return None

    def __exit__(self, *args):
        return None


def test_threads_end_with_the_fit():
    before = threading.active_count()
    trained("adam", 5, "float32")
    deadline = time.monotonic() + 30
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


def spend(pace, seconds, speeds):
    """Work for so long, at so many parts a second by each number of threads; how long each of them did."""
    spent = dict.fromkeys(speeds, 0.0)
    while sum(spent.values()) < seconds:
        n_threads, limit = pace.n_threads, pace.limit(0.1)
        spent[n_threads] += limit
        pace.record(speeds[n_threads] * limit, limit)
    return spent


class TestChoice:
    def test_small_networks_run_on_one_thread(self):
        for sizes, batch in (((64, 15, 10), 15), ((2, 3, 2), 1), ((30, 30, 2), 32)):
            assert MLP(sizes).engine.threads_for(batch) == 1

    def test_large_ones_on_all(self, monkeypatch):
        monkeypatch.setattr(threads_module, "available_threads", lambda: 2)
        for sizes, batch in (((784, 128, 64, 10), 128), ((28, 64, 64, 2), 256), ((1024, 2048, 2048, 10), 512)):
            assert MLP(sizes).engine.threads_for(batch, calls=100) == 2

    def test_no_threads_are_started_for_a_moment(self, monkeypatch):
        monkeypatch.setattr(threads_module, "available_threads", lambda: 2)
        engine = MLP((28, 64, 64, 2)).engine
        assert engine.threads_for(256) == 1
        assert engine.threads_for(10_000) == 2

    def test_no_more_than_there_are_panels_to_share(self, monkeypatch):
        monkeypatch.setattr(threads_module, "available_threads", lambda: 64)
        assert MLP((4000, 4000)).engine.threads_for(40) == 3

    @pytest.mark.usefixtures("clock")
    @pytest.mark.parametrize("fastest", [8, 4, 2, 1])
    def test_the_fastest_number_is_found(self, fastest):
        pace = Pace(thread_candidates(8, None))
        assert pace.n_threads == 8
        spent = dict.fromkeys((8, 4, 2, 1), 0.0)
        for _ in range(3000):
            n, seconds = pace.n_threads, pace.limit(0.1)
            spent[n] += seconds
            pace.record(10 if n == fastest else 7, seconds)
        assert min(spent.values()) > 0
        assert spent[fastest] > 0.98 * sum(spent.values())

    @pytest.mark.usefixtures("clock")
    def test_a_change_of_the_fastest_number_is_noticed(self):
        pace = Pace([2, 1])
        for better in (2, 1, 2):
            used = []
            for _ in range(400):
                used.append(pace.n_threads)
                pace.record(1, 0.1 if pace.n_threads == better else 0.2)
            assert used[100:].count(better) > 200

    @pytest.mark.usefixtures("clock")
    def test_and_sooner_where_it_costs_much(self):
        pace = Pace([2, 1])
        speeds = {2: 200, 1: 125}  # parts a second
        spend(pace, 20, speeds)
        while pace.limit(0.1) == 0.1:
            spend(pace, 0.1, speeds)
        while pace.limit(0.1) < 0.1:  # until they have just been tried
            spend(pace, 1e-3, speeds)
        spend(pace, 0.1, speeds)
        assert pace.n_threads == 2
        spent = spend(pace, 2, {2: 60, 1: 125})
        assert spent[2] < 0.4
        assert pace.n_threads == 1

    @pytest.mark.usefixtures("clock")
    @pytest.mark.parametrize("disturbed", [2, 1])
    def test_calls_that_were_disturbed_decide_nothing(self, disturbed):
        pace = Pace([2, 1])
        for call in range(30):
            undisturbed = 0.002 if pace.n_threads == 2 else 0.003
            pace.record(1, 0.01 if pace.n_threads == disturbed and call % 5 < 2 else undisturbed)
        assert pace.n_threads == 2

    @pytest.mark.usefixtures("clock")
    def test_nor_does_a_trial_that_was_disturbed_all_the_time_for_long(self):
        pace = Pace([2, 1])
        spend(pace, 20, {2: 200, 1: 125})
        while pace.n_threads == 2 or pace.limit(0.1) < 0.1:
            is_disturbed = pace.n_threads == 2 and pace.limit(0.1) < 0.1
            pace.record(0.5 if is_disturbed else 1, pace.limit(0.1))
        assert spend(pace, 2, {2: 200, 1: 125})[1] < 0.3

    @pytest.mark.usefixtures("clock")
    def test_numbers_that_are_as_good_are_not_tried_all_the_time(self):
        pace, random = Pace([2, 1]), np.random.default_rng(0)
        spent = on_trial = 0.0
        while spent < 60:
            limit = pace.limit(0.1)
            spent += limit
            on_trial += limit * (limit < 0.1)
            pace.record(100 * limit * random.uniform(0.97, 1.03), limit)
        assert on_trial < 0.02 * spent

    @pytest.mark.usefixtures("clock")
    @pytest.mark.parametrize("part", [0.001, 0.03, 0.2, 5.0])
    def test_long_parts_are_not_tried_for_long(self, part):
        """A chunk of a wide network may take a second: five of them on one thread would be a large part of a training."""
        pace = Pace([2, 1])
        parts = spent = 0.0
        while spent < 1000 * part:
            count = max(1, int(pace.limit(0.1) / part))
            seconds = count * part * (1 if pace.n_threads == 2 else 2)
            pace.record(count, seconds)
            parts, spent = parts + count, spent + seconds
        assert parts * part > 0.985 * spent

    def test_what_comes_after_a_break_is_not_on_trial(self, monkeypatch):
        """Threads that were asleep, and processors, are slower at first: that would speak against the first number of them."""
        clock = 0.0
        monkeypatch.setattr(pace_module.time, "perf_counter", lambda: clock)
        pace, used, was_trying, calls = Pace([2, 1]), [], False, 0
        for _ in range(4000):
            is_trying = pace.limit(0.1) < 0.1
            has_paused = is_trying and not was_trying  # where it would mislead, the very first time, too
            clock += 10.0 if has_paused else 1e-5
            was_trying, calls = is_trying, 0 if has_paused else calls + 1
            rate = (20 if calls < 6 else 200) if pace.n_threads == 2 else 125
            seconds = min(pace.limit(0.1), 0.01)
            used.append(pace.n_threads)
            clock += seconds
            pace.record(rate * seconds, seconds)
        assert used.count(1) < 0.05 * len(used)
        for _ in range(4000):  # but what is always like that is found, too
            clock += 10.0
            used.append(pace.n_threads)
            clock += 0.02
            pace.record(1 if pace.n_threads == 2 else 2, 0.02)
        assert used[4000:].count(1) > 0.85 * 4000

    def test_what_long_calls_after_breaks_cost_is_limited(self, monkeypatch):
        clock = 0.0
        monkeypatch.setattr(pace_module.time, "perf_counter", lambda: clock)
        pace, used = Pace([2, 1]), []
        for _ in range(1000):
            used.append(pace.n_threads)
            seconds = 2.0 if pace.n_threads == 2 else 1.0
            clock += 1.0 + seconds
            pace.record(1, seconds)
        assert used.count(2) < 0.03 * len(used)

    @pytest.mark.usefixtures("clock")
    def test_a_trial_that_was_disturbed_does_not_put_off_the_next_one_for_long(self):
        pace, spent = Pace([2, 1]), 0.0
        while spent < 3 or pace.limit(0.1) < 0.1:  # two, at least, one after the other
            seconds = 0.05 if pace.n_threads == 2 and spent < 0.5 else pace.limit(0.1)
            pace.record(1 if seconds == 0.05 else 200 * seconds if pace.n_threads == 2 else 125 * seconds, seconds)
            spent += seconds
        assert pace.n_threads == 2

    @pytest.mark.usefixtures("clock")
    def test_long_parts_that_were_disturbed_do_not_decide_for_long(self):
        pace, used = Pace([2, 1]), []
        for call in range(200):
            used.append(pace.n_threads)
            pace.record(1, 1.0 if call in (0, 1, 10) else 0.2 if pace.n_threads == 2 else 0.3)
        assert used.count(1) < 12

    @pytest.mark.usefixtures("clock")
    def test_and_a_call_that_was_disturbed_on_trial_does_not_put_off_the_next_trial(self):
        pace = Pace([2, 1])
        calls_on_trial = 0
        for better in (1, 2):
            spent = dict.fromkeys((2, 1), 0.0)
            while sum(spent.values()) < 10:
                is_on_trial = pace.limit(0.1) < 0.1
                calls_on_trial = calls_on_trial + 1 if is_on_trial else 0
                seconds = 0.1 if calls_on_trial % 5 == 4 else pace.limit(0.1)
                spent[pace.n_threads] += 0.0 if is_on_trial else seconds
                pace.record((1.0 if pace.n_threads == better else 0.9) * pace.limit(0.1), seconds)
            assert spent[better] > 0.7 * sum(spent.values())

    @pytest.mark.usefixtures("clock")
    def test_single_calls_that_were_disturbed_bring_no_trials(self):
        pace, used = Pace([2, 1]), []
        for call in range(2000):
            used.append(pace.n_threads)
            pace.record(1, (0.2 if pace.n_threads == 2 else 0.4) * (1.3 if call % 10 == 9 else 1))
        assert used.count(1) < 0.02 * len(used)

    def test_a_last_batch_of_few_rows_is_no_measure(self, monkeypatch):
        recorded, record = [], Pace.record

        def watched(pace, parts, seconds):
            recorded.append(parts)
            record(pace, parts, seconds)

        monkeypatch.setattr(Pace, "record", watched)
        monkeypatch.setattr(limits, "CALL_SECONDS", 1e-9)
        x = np.ones((5 * 64 + 3, 10), np.float32)
        MLP((10, 20, 2)).fit(x, x[:, :2], batch_size=64, epochs=3)
        assert set(recorded) == {64}

    @pytest.mark.usefixtures("clock")
    def test_what_is_far_off_is_not_tried(self):
        pace, used = Pace([16, 8, 4, 2, 1]), set()
        for _ in range(3000):
            used.add(pace.n_threads)
            pace.record(1, 0.1 * 1.8 ** (16 / pace.n_threads - 1))
        assert used == {16, 8}
        used.clear()
        for _ in range(3000):
            used.add(pace.n_threads)
            pace.record(1, 0.1 * 1.1**pace.n_threads)
        assert used == {16, 8, 4, 2, 1}
        assert pace.n_threads == 1

    @pytest.mark.usefixtures("clock")
    def test_one_number_is_never_on_trial(self):
        for pace in (Pace([1]), Pace(thread_candidates(3, 3))):
            for _ in range(100):
                assert pace.limit(0.1) == 0.1
                pace.record(1, 0.1)

    def test_what_was_found_out_is_used_again(self, monkeypatch):
        monkeypatch.setattr(threads_module, "available_threads", lambda: 2)
        monkeypatch.setattr(pace_module, "_paces", Pool(64))
        made = []
        monkeypatch.setattr(pace_module, "Pace", lambda candidates: made.append(candidates) or Pace(candidates))
        x, y = np.zeros((4096, 64), np.float32), np.zeros((4096, 2), np.float32)
        for n_features, n_made in ((64, 1), (64, 1), (32, 2)):
            MLP((n_features, 256, 2)).fit(x[:, :n_features], y, epochs=1, batch_size=1024)
            assert made == n_made * [[2, 1]]

    def test_of_kinds_of_work_that_are_many_the_last_are_known(self, monkeypatch):
        monkeypatch.setattr(pace_module, "_paces", Pool(64))
        paces = [take_pace(work, [2, 1]) for work in range(100)]
        for work, pace in enumerate(paces):
            give_back_pace(work, [2, 1], pace)
        assert take_pace(99, [2, 1]) is paces[99]
        assert take_pace(99, [2, 1]) is not paces[99]  # which is in use
        assert take_pace(0, [2, 1]) is not paces[0]

    def test_trials_do_not_change_the_bits(self, monkeypatch):
        monkeypatch.setattr(pace_module, "_TRIAL_SECONDS", 1e-5)
        monkeypatch.setattr(pace_module, "_HOLD_SECONDS", 2e-5)
        monkeypatch.setattr(threads_module, "available_threads", lambda: 3)
        monkeypatch.setattr(threads_module, "FLOP_OF_TEAM", 0)
        monkeypatch.setattr(threads_module, "_FLOP_PER_THREAD", 1)
        for ours, theirs in zip(trained("clipped", None, "float32"), trained("clipped", 1, "float32"), strict=True):
            assert np.array_equal(ours, theirs)

    @pytest.fixture
    def clock(self, monkeypatch):
        """A clock that stands still until it is set."""
        clock = {"now": 100.0}
        monkeypatch.setattr(threads_module.time, "perf_counter", lambda: clock["now"])
        return clock

    def test_calls_that_follow_each_other_are_counted(self, clock):
        succession = Succession()
        for pause, count in ((0.0, 1), (5e-5, 2), (5e-5, 3), (1.0, 1), (5e-5, 2)):
            clock["now"] += pause
            assert succession.begin() == count
            clock["now"] += 3.0  # how long the call takes does not matter
            succession.end()

    def test_calls_that_overlap_do_not_count(self, clock):
        succession = Succession()
        with concurrent.futures.ThreadPoolExecutor(1) as other:
            succession.begin()
            assert other.submit(succession.begin).result() == 1
            succession.end()
            other.submit(succession.end).result()
            assert [succession.begin(), succession.end(), succession.begin(), succession.end()] == [1, None, 1, None]
            clock["now"] += 1.0
            assert [succession.begin(), succession.end(), succession.begin()] == [1, None, 2]

    @pytest.mark.parametrize("rows", [33, 1000, 5007])
    def test_predictions_are_the_same_for_any_number_of_threads(self, rng, monkeypatch, rows):
        monkeypatch.setattr(engine_module, "FLOP_OF_TWO", 0)
        monkeypatch.setattr(limits, "PIECE_FLOP", 1)
        x = rng.normal(size=(rows, 28)).astype(np.float32)
        nets = [MLP((28, 64, 3), "tanh", random_state=0, n_threads=n_threads) for n_threads in (1, 2, 3, 5)]
        expected, *others = [net.predict(x) for net in nets]
        for net, outputs in zip(nets[1:], others, strict=True):
            assert np.array_equal(outputs, expected)
            (used,) = net.engine._predictors
            assert used == min(net.n_threads, -(-rows // 16))

    def test_predictions_by_many_numbers_of_threads_keep_few_buffers(self, rng, monkeypatch):
        monkeypatch.setattr(engine_module, "FLOP_OF_TWO", 0)
        monkeypatch.setattr(limits, "PIECE_FLOP", 1)
        net, x = MLP((28, 64, 3), "tanh", random_state=0), rng.normal(size=(200, 28)).astype(np.float32)
        for n_threads in (1, 2, 3, 4, 5, 6, 7):
            net.n_threads = n_threads
            net.predict(x)
        assert set(net.engine._predictors) == {1, 4, 5, 6, 7}

    def test_numbers_of_threads_in_turn_find_their_buffers(self, monkeypatch):
        net, x = MLP((4, 5, 1), random_state=0), np.zeros((64, 4), np.float32)
        made, init = [], Predictor.__init__
        monkeypatch.setattr(Predictor, "__init__", lambda self, *given: made.append(given[1]) or init(self, *given))
        for n_threads in (2, 3, 4) * 3:
            net.engine._outputs(net._buffer, x, n_threads)
        assert made == [2, 3, 4]

    def test_many_threads_that_predict_at_once_keep_few_buffers(self, monkeypatch):
        monkeypatch.setattr(limits, "MOST_PREDICTORS", 2)
        net, inside = MLP((2, 3, 1), random_state=0), threading.Barrier(5)
        run = Predictor.run

        def run_together(space, *arguments):
            inside.wait()
            return run(space, *arguments)

        monkeypatch.setattr(Predictor, "run", run_together)
        with concurrent.futures.ThreadPoolExecutor(5) as pool:
            list(pool.map(net.predict, [np.ones((1, 2))] * 5))
        assert len(net.engine._predictors[1]) == 2

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
    @pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
    def test_predictions_of_the_process_before_a_fork_are_forgotten(self):
        begun, done = threading.Event(), threading.Event()

        def predict():
            engine_module._PREDICTIONS.begin()
            begun.set()
            done.wait()
            engine_module._PREDICTIONS.end()

        thread = threading.Thread(target=predict)
        thread.start()
        begun.wait()
        try:
            child = os.fork()
            if child == 0:
                os._exit(len(engine_module._PREDICTIONS._callers))
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert engine_module._PREDICTIONS._callers
        finally:
            done.set()
            thread.join()

    def test_the_order_of_many_rows_is_not_kept(self, rng, monkeypatch):
        monkeypatch.setattr(limits, "KEPT_BYTES", 10_000)
        x = rng.normal(size=(20_000, 2)).astype(np.float32)
        net = MLP((2, 3, 1), "tanh", random_state=0, n_threads=1)
        net.fit(x, x[:, :1], epochs=1, batch_size=1, optimizer="sgd", schedule="cosine")
        kept = list(net.engine._sessions._kept.values())
        assert len(kept) == 1
        assert sum(session._order.nbytes + session._steps.nbytes for session in kept) <= 10_000

    @pytest.mark.parametrize("n_threads", [1, 2, 16])
    @pytest.mark.parametrize("sizes", [(64, 3072, 2048), (4096, 2048, 10), (8, 4, 1)])
    def test_a_call_that_predicts_has_whole_panels_for_all_threads(self, sizes, n_threads):
        rows, piece_panels = Predictor(MLP(sizes).engine, n_threads)._dense
        assert rows % PANEL_ROWS == 0
        assert rows >= n_threads * PANEL_ROWS
        assert piece_panels >= 1

    def test_threads_of_predictions_keep_no_samples(self, rng, monkeypatch):
        given, run = [], Team.run

        def watched(team, code, *arguments):
            given.extend(arguments)
            return run(team, code, *arguments)

        monkeypatch.setattr(Team, "run", watched)
        x = rng.normal(size=(4096, 64)).astype(np.float32)
        net = MLP((64, 15, 10), random_state=0, n_threads=2)
        outputs = net.predict(x)
        assert given
        assert not any(np.shares_memory(one, other) for one in given for other in (x, outputs))

    def test_a_kept_session_has_the_threads_of_now(self, rng, monkeypatch):
        x, y, made = rng.normal(size=(20_000, 64)).astype(np.float32), np.zeros((20_000, 10), np.float32), []
        net, init = MLP((64, 15, 10), random_state=0), Session.__init__

        def watched(session, *arguments, **options):
            init(session, *arguments, **options)
            made.append(session._most_threads)

        monkeypatch.setattr(Session, "__init__", watched)
        for available in (1, 2, 2):
            for module in (threads_module, engine_module):
                monkeypatch.setattr(module, "available_threads", lambda available=available: available)
            net.eval_loss(x, y)
        assert made == [1, 2]

    def test_predictions_in_succession_share_their_work(self, rng, monkeypatch):
        monkeypatch.setattr(threads_module, "available_threads", lambda: 2)
        monkeypatch.setattr(threads_module, "_TOGETHER_SECONDS", 100)
        monkeypatch.setattr("fastmlp.engine.engine._PREDICTIONS", Succession())
        net, x = MLP((64, 15, 10), ["relu", "softmax"], "cross_entropy", random_state=0), rng.normal(size=(4096, 64))
        used, expected = [], net.predict(x)
        for _ in range(6):
            assert np.array_equal(net.predict(x), expected)
            used.append(set(net.engine._predictors))
        assert used[0] == {1}
        assert used[-1] == {1, 2}

    def test_the_caller_decides(self):
        assert choose_threads(1.0, 1, 9, 7) == 7
        assert choose_threads(1.0, 1, 3, 7) == 3  # more would have nothing to do

    def test_available_threads_obey_the_environment(self, monkeypatch):
        monkeypatch.setenv("NUMBA_NUM_THREADS", "1")
        assert available_threads() == 1
        monkeypatch.setenv("NUMBA_NUM_THREADS", "nonsense")
        assert available_threads() >= 1

    @pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes cannot be bound on this system")
    def test_available_threads_obey_the_affinity(self, monkeypatch):
        monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
        allowed = os.sched_getaffinity(0)
        try:
            os.sched_setaffinity(0, {min(allowed)})
            assert available_threads() == 1
        finally:
            os.sched_setaffinity(0, allowed)

    @pytest.mark.parametrize(("text", "expected"), [("150000 100000", 2), ("50000 100000", 1), ("max 100000", None)])
    def test_available_threads_obey_the_container(self, monkeypatch, tmp_path, text, expected):
        monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
        monkeypatch.setattr(threads_module, "_CGROUP_LIMITS", ())
        unlimited = available_threads()
        limit = tmp_path / "cpu.max"
        limit.write_text(text)
        monkeypatch.setattr(threads_module, "_CGROUP_LIMITS", ((limit, None),))
        assert available_threads() == min(unlimited, expected or unlimited)


@pytest.mark.parametrize("n_threads", [2, 3, 8])
@pytest.mark.parametrize("n_blocks", [1, 33, 55, 64, 200, 513, 1536])
def test_no_turn_of_units_is_a_large_part_of_a_thread_s_work(n_blocks, n_threads):
    at_once = blocks_at_once.py_func(n_blocks, n_threads)
    assert 0 <= at_once <= n_blocks / (4 * n_threads)
    assert (at_once > 0) == (n_blocks >= 32 * n_threads)
    assert blocks_at_once.py_func(n_blocks, 1) == 0


class TestTeam:
    def test_an_error_in_one_thread_ends_the_others_and_is_raised(self):
        seen = []

        def kernel(thread, n_threads, sync, what):
            seen.append((thread, n_threads, what))
            if thread == 1 and what == "x":
                raise ZeroDivisionError("planted")
            if thread > 0:
                sync[STATES + THREAD_STRIDE * thread] = ABSENT
            while thread == 0 and (sync[STATES::THREAD_STRIDE] == WORKING).any():
                time.sleep(0)

        team = Team(3)
        with pytest.raises(ZeroDivisionError, match="planted"):
            team.run(kernel, "x")
        assert sorted(seen) == [(0, 3, "x"), (1, 3, "x"), (2, 3, "x")]
        seen.clear()
        team.run(kernel, "y")
        assert sorted(seen) == [(0, 3, "y"), (1, 3, "y"), (2, 3, "y")]

    @pytest.mark.parametrize("comes", ["before", "after"])
    def test_an_interrupt_while_a_helper_is_started(self, comes, monkeypatch):
        start, running, done = threading.Thread.start, threading.Event(), []

        def kernel(thread, n_threads, sync):
            assert thread == 1, "the first has been interrupted"
            running.set()
            while not sync[ABORT]:
                time.sleep(0)
            time.sleep(0.05)
            done.append(thread)
            sync[STATES + THREAD_STRIDE] = ABSENT

        def interrupted(thread):
            if comes == "before":
                start(thread)
                running.wait()
            else:
                later.append(thread)
            raise KeyboardInterrupt

        later, team = [], Team(2)
        monkeypatch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            team.run(kernel)
        assert done == ([1] if comes == "before" else [])  # nobody works any more
        assert team._sync[STATES + THREAD_STRIDE] == ABSENT
        monkeypatch.undo()
        for thread in later:
            thread.start()
            thread.join()
        assert running.is_set() == (comes == "before")

    @pytest.mark.parametrize("n_threads", [2, 3, 5, 8])
    def test_nobody_goes_on_before_all_have_come(self, n_threads):
        @kernel
        def meet(thread, n_threads, sync, times, came, wrong):
            meeting = 1
            for number in range(1, times + 1):
                atomic_store(came, 8 * thread, number)
                meeting = barrier(Worker(thread, n_threads, sync), meeting)
                for other in range(n_threads):
                    # Another may have come to the next meeting already, but not beyond it.
                    if atomic_load(came, 8 * other) < number or atomic_load(came, 8 * other) > number + 1:
                        wrong[thread] += 1
            sync[STATES + THREAD_STRIDE * thread] = ABSENT
            if thread == 0:
                wait_while(sync, n_threads, WORKING)
            return meeting

        team, came, wrong = Team(n_threads), np.zeros(8 * n_threads, np.int64), np.zeros(n_threads, np.int64)
        for _ in range(3):  # flags of one call must not count in the next
            came[:] = 0
            assert team.run(meet, 200, came, wrong) == 201
            assert not wrong.any()

    @pytest.mark.parametrize("n_threads", [1, 2, 3, 8])
    def test_each_piece_of_work_is_taken_by_one(self, n_threads):
        @kernel
        def take(thread, n_threads, sync, most, n_takers):
            meeting = 1
            for pieces in range(most):
                piece = take_ticket(Worker(thread, n_threads, sync), -1)
                while piece < pieces:
                    n_takers[pieces * most + piece] += 1
                    piece = take_ticket(Worker(thread, n_threads, sync), piece)
                return_tickets(Worker(thread, n_threads, sync), pieces)
                meeting = barrier(Worker(thread, n_threads, sync), meeting)
            sync[STATES + THREAD_STRIDE * thread] = ABSENT
            if thread == 0:
                wait_while(sync, n_threads, WORKING)

        team, most = Team(n_threads), 40
        for _ in range(3):  # the tickets of one call must not count in the next
            n_takers = np.zeros(most * most, np.int64)
            team.run(take, most, n_takers)
            assert np.array_equal(n_takers.reshape(most, most), np.tri(most, most, -1))

    def test_a_thread_that_is_kept_busy_leaves_the_rest_to_others(self):
        @kernel
        def take_unless_busy(thread, n_threads, sync, pieces, done):
            piece = take_ticket(Worker(thread, n_threads, sync), -1)
            while piece < pieces:
                looks = 0
                while piece == 0 and atomic_load(done, 0) < pieces - 1 and looks < 10_000_000:
                    yield_processor()
                    looks += 1
                done[1 + piece] = thread
                atomic_add(done, 0, 1)
                piece = take_ticket(Worker(thread, n_threads, sync), piece)
            sync[STATES + THREAD_STRIDE * thread] = ABSENT
            if thread == 0:
                wait_while(sync, n_threads, WORKING)

        done = np.zeros(21, np.int64)
        Team(2).run(take_unless_busy, 20, done)
        assert done[0] == 20
        assert (done[2:] == 1 - done[1]).all()

    def test_a_thread_that_never_comes_does_not_hang_those_that_wait(self):
        """Thread 0 is interrupted before it enters the kernel; thread 1 waits at the barrier until it is told to give up."""

        @kernel
        def wait(thread, n_threads, sync, out):
            out[thread] = barrier(Worker(thread, n_threads, sync), 1)

        out = np.zeros(2, np.int64)
        wait(0, 1, np.zeros(16, np.int64), out)  # compile

        def interrupted(thread, n_threads, sync, out):
            if thread == 0:
                time.sleep(0.05)
                raise KeyboardInterrupt
            wait(thread, n_threads, sync, out)
            sync[STATES + THREAD_STRIDE * thread] = ABSENT

        with pytest.raises(KeyboardInterrupt):
            Team(2).run(interrupted, out)
        assert out[1] == -1


class TestHelpers:
    @staticmethod
    def fit(callback, epochs=6):
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(100, 5)), rng.normal(size=(100, 2))
        net = MLP((5, 9, 2), "tanh", random_state=0, n_threads=2)
        net.fit(x, y, epochs=epochs, batch_size=20, optimizer="adam", callbacks=[callback])
        return net.theta

    @pytest.fixture
    def teams(self, monkeypatch):
        """All teams that are made in a test."""
        teams = []
        made = Team.__init__

        def watched(team, n_threads):
            made(team, n_threads)
            teams.append(team)

        monkeypatch.setattr(Team, "__init__", watched)
        return teams

    def test_helpers_stay_for_the_next_call_and_leave_with_the_training(self, teams):
        states = []

        class Look(Callback):
            def on_epoch_end(self, run):
                states.append(int(teams[0]._sync[STATES + THREAD_STRIDE]))

        self.fit(Look(), epochs=300)
        assert len(teams) == 1
        assert set(states) <= {ABSENT, WAITING}
        assert WAITING in states  # after one of three hundred, at least
        assert teams[0]._sync[STATES + THREAD_STRIDE] == ABSENT

    def test_the_longer_the_wait_the_fewer_helpers(self):
        class Sleep(Callback):
            def on_epoch_end(self, run):
                time.sleep(0.02 * (run.epoch % 2))  # every other time, they have left

        np.testing.assert_array_equal(self.fit(Sleep()), self.fit(Callback()))

    def test_an_interrupt_while_helpers_are_called_leaves_none_behind(self, monkeypatch, teams):
        from fastmlp.kernels import team

        called, real = [], team.signal_helpers

        def interrupted(sync, n_threads, state, reached):
            real(sync, n_threads, state, reached)
            called.append(state)
            if state == WORKING and reached.any():
                raise KeyboardInterrupt

        monkeypatch.setattr(team, "signal_helpers", interrupted)
        with pytest.raises(KeyboardInterrupt):
            self.fit(Callback(), epochs=3000)
        assert called
        assert all((one._sync[STATES::THREAD_STRIDE] != WORKING).all() for one in teams)
        monkeypatch.undo()

    def test_another_interrupt_while_helpers_come_to_their_end(self, monkeypatch, teams):
        """They write to arrays that whoever is interrupted would give back."""
        from fastmlp.kernels import team

        called, real = [], team.signal_helpers

        def interrupted(sync, n_threads, state, reached):
            real(sync, n_threads, state, reached)
            if state == WORKING and reached.any():
                monkeypatch.setattr(team.time, "sleep", again)
                raise KeyboardInterrupt

        def again(seconds):
            called.append(seconds)
            if len(called) == 2:
                monkeypatch.undo()
            raise KeyboardInterrupt

        monkeypatch.setattr(team, "signal_helpers", interrupted)
        with pytest.raises(KeyboardInterrupt):
            self.fit(Callback(), epochs=3000)
        assert len(called) == 2  # it went on waiting
        assert all((one._sync[STATES::THREAD_STRIDE] != WORKING).all() for one in teams)

    def test_no_thread_to_be_had(self, monkeypatch):
        """One does all of it then: the results are the same."""
        net, x = MLP((64, 128, 10), "tanh", random_state=0, n_threads=2), np.ones((2000, 64), np.float32)
        expected, outputs, gradient = self.fit(Callback()), net.predict(x), net.backprop(x, x[:, :10])[0][0]
        time.sleep(0.01)  # helpers leave

        def start(thread):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", start)
        np.testing.assert_array_equal(self.fit(Callback()), expected)
        np.testing.assert_array_equal(net.predict(x), outputs)
        np.testing.assert_array_equal(net.backprop(x, x[:, :10])[0][0], gradient)
        monkeypatch.undo()
        np.testing.assert_array_equal(self.fit(Callback()), expected)

    def test_no_more_threads_to_be_had_than_one(self, monkeypatch):
        """The helper that there is may have begun; nothing counts before all have met, so one thread does all of it."""
        start, started = threading.Thread.start, []

        def start_one(thread):
            if thread.name.startswith("fastmlp-") and started:
                raise RuntimeError("can't start new thread")
            started.append(thread)
            start(thread)
            time.sleep(0.05)

        def fit():
            x = np.random.default_rng(0).normal(size=(512, 28))
            net = MLP((28, 64, 64, 2), random_state=0, n_threads=3)
            return net.fit(x, x[:, :2], epochs=2, batch_size=256, learning_rate=1e-3).theta

        expected = fit()
        time.sleep(0.01)
        monkeypatch.setattr(threading.Thread, "start", start_one)
        np.testing.assert_array_equal(fit(), expected)
        monkeypatch.undo()
        np.testing.assert_array_equal(fit(), expected)

    def test_a_timeout_while_a_thread_is_being_started(self, monkeypatch):
        """A signal handler's error; threading makes a KeyError of it if the thread has begun."""
        name = "_start_new_thread" if hasattr(threading, "_start_new_thread") else "_start_joinable_thread"  # since Python 3.13
        start = getattr(threading, name)

        def interrupted(*arguments, **options):
            start(*arguments, **options)
            time.sleep(0.05)
            raise TimeoutError("too late")

        net, x = MLP((64, 128, 10), "tanh", random_state=0, n_threads=2), np.ones((2000, 64), np.float32)
        outputs = net.predict(x)
        time.sleep(0.1)  # helpers leave
        monkeypatch.setattr(threading, name, interrupted)
        with pytest.raises(TimeoutError, match="too late"):
            net.predict(x)
        monkeypatch.undo()
        np.testing.assert_array_equal(net.predict(x), outputs)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
    @pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
    def test_a_fork_in_the_middle_of_a_training(self, teams):
        """The child has the parent's records of its helpers, but not the helpers."""
        reader, writer = os.pipe()

        class Fork(Callback):
            child = None

            def on_epoch_end(self, run):
                if run.epoch == 3:
                    self.child = os.fork()
                    if self.child == 0:
                        signal.alarm(30)  # if it waits for helpers that there are not, it shall not do so for ever
                        teams[0]._sync[STATES + THREAD_STRIDE] = WAITING  # as it may well be at that moment

        fork = Fork()
        theta = self.fit(fork)
        if fork.child == 0:
            os.write(writer, theta.tobytes())
            os._exit(0)
        os.close(writer)
        with open(reader, "rb") as pipe:
            assert pipe.read() == theta.tobytes()
        os.waitpid(fork.child, 0)


class Interrupt(Callback):
    """Sends Ctrl-C a little after the training has begun, or after its first epoch."""

    after_an_epoch = False

    def on_train_begin(self, run):
        if not self.after_an_epoch:
            self._send()

    def on_epoch_end(self, run):
        if self.after_an_epoch and run.epoch == 1:
            self._send()

    def _send(self):
        self.sent = time.perf_counter() + 0.3
        signal.setitimer(signal.ITIMER_REAL, 0.3)


@pytest.fixture
def ctrl_c():
    """Ctrl-C on a timer, as signal SIGALRM."""

    def on_alarm(number, frame):
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, on_alarm)
    yield Interrupt()
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, previous)


needs_timers = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers on this system")


@needs_timers
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize(("sizes", "batch_size"), [((64, 15, 10), 15), ((64, 300, 300, 10), 64)])
def test_ctrl_c_leaves_what_was_learned(ctrl_c, sizes, batch_size, n_threads):
    rng = np.random.default_rng(0)
    x, y = rng.random((5000, 64)), rng.integers(0, 10, 5000)
    net = MLP(sizes, ["relu"] * (len(sizes) - 2) + ["softmax"], "cross_entropy", random_state=0, n_threads=n_threads)
    before = net.theta
    compile_kernels(net.dtype)
    ctrl_c.after_an_epoch = True  # which may take longer than Ctrl-C, where vectors are narrow or processors busy
    with pytest.raises(KeyboardInterrupt):
        net.fit(x, y, epochs=100_000, batch_size=batch_size, callbacks=[ctrl_c])
    assert 0 < len(net.loss_curve_) < 100_000
    assert not np.array_equal(net.theta, before)
    assert np.isfinite(net.predict(x[:10])).all()
    net.fit(x, y, epochs=1, batch_size=1000)  # and it goes on


@needs_timers
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("batch_size", [128, 200_000])
def test_ctrl_c_waits_neither_for_the_epoch_nor_for_the_minibatch(ctrl_c, batch_size, n_threads):
    """An epoch here takes many times the 0.3 s after which Ctrl-C comes, on any machine there is."""
    rng = np.random.default_rng(0)
    x, y = rng.random((200_000, 64), dtype=np.float32), rng.integers(0, 2, 200_000)
    net = MLP((64, 2000, 1000, 2), ("relu", "relu", "softmax"), "cross_entropy", random_state=0, n_threads=n_threads)
    compile_kernels(net.dtype)
    with pytest.raises(KeyboardInterrupt):
        net.fit(x, y, epochs=3, batch_size=batch_size, callbacks=[ctrl_c])
    waited = time.perf_counter() - ctrl_c.sent
    assert net.loss_curve_ == []
    assert waited < 5  # the promise is 0.5; a busy machine may take longer, and an epoch takes longer still
    assert np.isfinite(net.theta).all()


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("rows_of_the_last_batch", [1, 100, 1500])
def test_a_last_batch_of_few_rows_makes_no_call_long(monkeypatch, rows_of_the_last_batch, n_threads):
    """A chunk without rows, or with one, takes no time, which says nothing of the others."""
    x = np.random.default_rng(0).random((2048 * 3 + rows_of_the_last_batch, 512), dtype=np.float32)
    net = MLP((512, 512, 2), random_state=0, n_threads=n_threads)
    run, n_calls = Session.run, []

    def counted(session, *arguments):
        rows = list(run(session, *arguments))
        n_calls.append(len(rows))
        yield from rows

    monkeypatch.setattr(limits, "CALL_SECONDS", 1e-4)
    monkeypatch.setattr(Session, "run", counted)
    net.fit(x, x[:, :2], batch_size=2048, epochs=4)
    assert n_calls == [8] * 4  # each chunk in a call of its own: it takes milliseconds


@pytest.mark.skipif(not CAN_MOVE or available_threads() < 2, reason="no second processor to move to")
def test_a_thread_moves_away_from_where_another_of_its_team_is():
    @kernel
    def move(sync, thread):
        take_place(Worker(thread, 2, sync))
        return current_processor()

    allowed = os.sched_getaffinity(0)
    sync = aligned_zeros(STATES + THREAD_STRIDE * 2, np.dtype(np.int64))
    mine, other = STATES + THREAD_STRIDE + PLACE, STATES + PLACE
    here = move(sync, 1)
    assert sync[mine] == here + 1
    for _ in range(5):
        os.sched_setaffinity(0, {here})  # so that this thread is where the other one says it is
        os.sched_setaffinity(0, allowed)
        sync[other], sync[mine] = here + 1, 0
        assert move(sync, 1) != here
        assert sync[mine] - 1 in allowed - {here}
        assert os.sched_getaffinity(0) == allowed  # it is not bound
    os.sched_setaffinity(0, {here})
    sync[other], sync[mine] = here + 1, 0
    try:
        assert move(sync, 1) == here  # there is nowhere else to go to
        assert os.sched_getaffinity(0) == {here}
    finally:
        os.sched_setaffinity(0, allowed)
    assert sync[PLACES_LOCK] == 0
