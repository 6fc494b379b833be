"""The benchmarks measure real trainings, print what they write down, and notice who skips work. Never how long anything takes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import check, lab, machine, report, roofline
from benchmarks.__main__ import main
from benchmarks.peers import OWN_PEERS, PEERS
from benchmarks.peers.peer import Peer, Training
from benchmarks.peers.process import in_process
from benchmarks.problems import PROBLEMS, SEED, make_task
from benchmarks.run import Result, Timing, judged_loss, run_problem
from fastmlp import MLP, ReferenceMLP

ROOT = Path(__file__).parent.parent
QUICK = ("--problems", "digits", "--rounds", "1", "--quick")


@pytest.fixture
def plant(monkeypatch):
    """Put a peer into the table for the time of a test."""

    def planted(name, prepare):
        monkeypatch.setitem(PEERS, name, Peer(name, "planted", prepare))

    return planted


def columns_of(text):
    """The cells of the summary's first row, by its header."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("problem "))
    header, row = (re.split(r"\s{2,}", lines[number].strip()) for number in (start, start + 1))
    assert len(header) == len(row)
    return dict(zip(header, row, strict=True))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A run as a person starts it: exit code, what was printed, what was written."""
    path = tmp_path_factory.mktemp("benchmarks") / "out.json"
    process = subprocess.run(
        [sys.executable, "-W", "error", "-m", "benchmarks", *QUICK, "--json", str(path)],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    return process.stdout, json.loads(path.read_text())


class TestCommand:
    def test_table_and_json_agree(self, done):
        out, written = done
        (result,) = written["results"]
        row = columns_of(out)
        assert row["problem"] == result["problem"] == "digits"
        assert int(row["rows"]) == result["rows"] == 1797
        assert int(row["batch"]) == result["batch_size"] == 15
        assert float(row["first loss"]) == pytest.approx(result["initial_loss"], rel=1e-4)
        assert row["losses"] == "ok"
        for name, peer in result["peers"].items():
            assert float(row[f"{name} us"]) == pytest.approx(peer["microseconds_per_step"]["median"], rel=0.01)
            if peer["final_loss"] is not None:
                assert float(row[f"{name} loss"]) == pytest.approx(peer["final_loss"], rel=1e-4)
            if peer["ratio"] is not None:
                assert float(row[f"reference/{name}"]) == pytest.approx(peer["ratio"], rel=0.01)

    def test_json_is_made_of_the_raw_timings(self, done):
        (result,) = done[1]["results"]
        assert list(result["peers"]) == OWN_PEERS
        assert result["steps_per_epoch"] == 120
        steps = result["steps_per_epoch"] * result["epochs_per_round"]
        medians = {name: np.median(peer["seconds"]) for name, peer in result["peers"].items()}
        for name, peer in result["peers"].items():
            assert len(peer["seconds"]) == len(peer["seconds_waited"]) == done[1]["rounds"] == 1
            assert peer["microseconds_per_step"]["median"] == pytest.approx(medians[name] / steps * 1e6)
        for name in ("fastmlp-1", "fastmlp"):
            assert result["peers"][name]["ratio"] == pytest.approx(medians["reference"] / medians[name])
        assert result["peers"]["reference"]["ratio"] is result["peers"]["null"]["ratio"] is None

    def test_says_what_it_ran_on(self, done):
        out, written = done
        about = written["machine"]
        parts = [about[key] for key in ("cpu", "python", "numpy", "numba")] + [about["blas"]["name"], f"{about['cores']} cores"]
        assert all(part in out.splitlines()[0] for part in parts)
        assert about["numpy"] == np.__version__

    def test_all_end_at_the_same_lower_loss(self, done):
        (result,) = done[1]["results"]
        losses = [peer["final_loss"] for peer in result["peers"].values() if peer["final_loss"] is not None]
        assert len(losses) == 3
        assert max(losses) == pytest.approx(min(losses), rel=1e-3)
        assert max(losses) < 0.5 * result["initial_loss"]


class TestWrongUse:
    @pytest.mark.parametrize(("option", "known"), [("--problems", PROBLEMS), ("--peers", PEERS)])
    @pytest.mark.parametrize("names", ["digitz", "digits,reference,nobody", "", ","])
    def test_unknown_names(self, capsys, option, known, names):
        with pytest.raises(SystemExit) as caught:
            main([option, names])
        assert caught.value.code == 2
        err = capsys.readouterr().err
        assert option in err
        assert "known: " + ", ".join(known) in err

    @pytest.mark.parametrize("rounds", ["0", "-1", "1.5", "many"])
    def test_rounds(self, capsys, rounds):
        with pytest.raises(SystemExit) as caught:
            main(["--rounds", rounds])
        assert caught.value.code == 2
        assert "--rounds" in capsys.readouterr().err

    def test_file_that_cannot_be_written_is_found_before_measuring(self, capsys, tmp_path):
        for path in (tmp_path, tmp_path / "missing" / "out.json"):
            with pytest.raises(SystemExit) as caught:
                main(["--json", str(path)])
            assert caught.value.code == 2
            assert "--json" in capsys.readouterr().err


class TestDisagreement:
    def test_half_the_rows_are_noticed(self, capsys, plant, tmp_path):
        def prepare(task):
            half = task.rows // 2
            return PEERS["reference"].prepare(replace(task, x=task.x[:half], y=task.y[:half]))

        plant("lazy", prepare)
        path = tmp_path / "out.json"
        assert main([*QUICK, "--peers", "reference,lazy", "--json", str(path)]) == 1
        assert columns_of(capsys.readouterr().out)["losses"] == "DIFFERS: lazy"
        assert json.loads(path.read_text())["results"][0]["disagreeing"] == ["lazy"]

    def test_every_other_epoch_is_noticed(self, capsys, plant):
        def prepare(task):
            training = PEERS["reference"].prepare(task)
            calls = iter(range(10**6))
            return Training(lambda: training.epoch() if next(calls) % 2 else None, training.theta)

        plant("lazy", prepare)
        assert main([*QUICK, "--peers", "reference,lazy"]) == 1
        assert columns_of(capsys.readouterr().out)["losses"] == "DIFFERS: lazy"

    def test_no_training_is_noticed(self, capsys, plant):
        plant("lazy", PEERS["null"].prepare)
        assert main([*QUICK, "--peers", "lazy,reference"]) == 1  # whatever the order: the baseline is right
        assert columns_of(capsys.readouterr().out)["losses"] == "DIFFERS: lazy"

    @pytest.mark.parametrize("loss", [float("nan"), float("inf")])
    def test_no_finite_loss_never_agrees(self, loss):
        timings = {name: Timing((1.0,), 1, loss) for name in ("reference", "fastmlp")}
        assert Result(PROBLEMS["digits"], 1, 1.0, timings).disagreeing == ["reference", "fastmlp"]

    def test_one_peer_alone_has_nobody_to_agree_with(self, capsys):
        assert main([*QUICK, "--peers", "reference,null"]) == 0
        row = columns_of(capsys.readouterr().out)
        assert row["losses"] == "-"
        assert "reference/null" not in row


INSTALLED = [name for name, peer in PEERS.items() if not peer.missing]


class TestFairness:
    @pytest.mark.parametrize(("name", "kind"), [("reference", ReferenceMLP), ("fastmlp", MLP)])
    @pytest.mark.parametrize("problem", ["digits", "higgs"])
    def test_epochs_are_those_of_fit(self, name, kind, problem):
        problem = PROBLEMS[problem]
        task = make_task(problem, 600)
        with closing(PEERS[name].prepare(task)) as training:
            for _ in range(3):
                training.epoch()
            theta = training.theta()
        network = problem.network(kind)
        network._generator = np.random.default_rng(SEED)
        recipe = {"learning_rate": problem.learning_rate, "optimizer": problem.optimizer}
        network.fit(task.x, task.y, epochs=3, batch_size=problem.batch_size, **recipe)
        np.testing.assert_array_equal(theta, network.theta)

    @pytest.mark.parametrize("name", INSTALLED)
    def test_all_begin_with_the_same_weights(self, name):
        task = make_task(PROBLEMS["digits"], 30)
        with closing(PEERS[name].prepare(task)) as training:
            np.testing.assert_array_equal(training.theta(), task.theta)

    def test_peers_take_turns_after_a_warm_up_of_their_own(self):
        calls = []

        def peer(name):
            return Peer(name, "", lambda task: Training(lambda: calls.append(name), lambda: task.theta))

        problem = replace(PROBLEMS["digits"], epochs_per_round=1)
        result = run_problem(problem, [peer("a"), peer("b")], rows=30, rounds=3)
        assert "".join(calls) == "aabb" + "ababab"
        assert [len(timing.seconds) for timing in result.timings.values()] == [3, 3]

    def test_all_are_closed_even_if_one_fails(self):
        closed = []

        def peer(name, epoch):
            return Peer(name, "", lambda task: Training(epoch, lambda: task.theta, lambda: closed.append(name)))

        run_problem(PROBLEMS["digits"], [peer("a", int), peer("b", int)], rows=30, rounds=1)
        assert sorted(closed) == ["a", "b"]
        with pytest.raises(StopIteration):
            run_problem(PROBLEMS["digits"], [peer("c", int), peer("d", iter([]).__next__)], rows=30, rounds=1)
        assert sorted(closed) == ["a", "b", "c", "d"]

    def test_only_epochs_are_timed(self, monkeypatch):
        ticks = iter(range(100))
        monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
        assert Training(lambda: next(ticks), lambda: None).timed(epochs=5)[0] == 6


class TestPeers:
    @pytest.mark.parametrize("name", [name for name in INSTALLED if PEERS[name].trains and "compile" not in name])
    @pytest.mark.parametrize("problem", ["digits", "deep", "float64"])
    def test_peers_that_do_the_same_end_at_the_same_loss(self, name, problem):
        problem, peer = PROBLEMS[problem], PEERS[name]
        result = run_problem(problem, [PEERS["reference"], peer], rows=problem.batch_size * 3 + 1, rounds=1)
        assert result.timings[name].median > 0
        if peer.nearest(problem):
            assert result.losses.keys() == {"reference"}
        else:
            assert result.losses[name] != pytest.approx(result.initial_loss, rel=1e-4)
            assert not result.disagreeing

    def test_a_failure_in_another_process_is_reported(self):
        prepare = in_process(failing_preparation)
        with pytest.raises(RuntimeError, match="no luck"):
            prepare(make_task(PROBLEMS["digits"], 5))

    def test_packages_that_are_missing(self, capsys, monkeypatch):
        monkeypatch.setitem(PEERS, "absent", replace(PEERS["null"], name="absent", requires=("no_such_package",)))
        with pytest.raises(SystemExit):
            main(["--peers", "absent"])
        assert "pip install no_such_package" in capsys.readouterr().err


def failing_preparation(task):
    raise ValueError("no luck")


class TestProblems:
    @pytest.mark.parametrize("name", PROBLEMS)
    def test_data(self, name):
        problem = PROBLEMS[name]
        task, again = make_task(problem, 40), make_task(problem, 40)
        assert task.x.shape == (40, problem.sizes[0])
        assert task.x.dtype == np.dtype(problem.dtype)
        np.testing.assert_array_equal(task.x, again.x)
        np.testing.assert_array_equal(task.y, again.y)
        np.testing.assert_array_equal(task.theta, again.theta)
        assert np.isfinite(judged_loss(task, task.theta))
        assert np.unique(task.y, axis=0).shape[0] > 1

    @pytest.mark.parametrize("name", PROBLEMS)
    def test_quick_is_the_same_network_on_no_more_rows(self, name):
        problem = PROBLEMS[name]
        assert problem.name == name
        assert 0 < problem.quick_rows <= problem.rows
        assert len(problem.activation) == len(problem.sizes) - 1

    def test_digits_are_the_real_ones(self):
        task = make_task(PROBLEMS["digits"], 1797)
        assert len(task.x) == 1797
        assert (task.x.min(), task.x.max()) == (0, 1)


class TestReport:
    @pytest.mark.parametrize(("waited", "shown"), [((0.0, 0.1, 9.0), "-"), ((0.0, 1.0, 9.0), "fastmlp 50%"), ((None,) * 3, "?")])
    def test_waiting_for_processors_is_marked(self, waited, shown):
        result = Result(PROBLEMS["digits"], 30, 1.0, {"fastmlp": Timing((2.0,) * 3, 1, 0.5, waited)})
        text = report.text_report([result], 3, machine.machine())
        assert columns_of(text)["waited"] == shown
        assert ("WARNING: in digits threads waited" in text) == bool(result.disturbed) == shown.startswith("fastmlp")

    @pytest.mark.skipif(machine.seconds_waited() is None, reason="this system does not count waiting")
    def test_waiting_is_seen_when_processors_are_taken(self):
        # More spinners than processors: somebody must wait, whatever else the machine does.
        code = "import time; end = time.perf_counter() + 0.5\nwhile time.perf_counter() < end: pass"
        spinners = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2 * (os.cpu_count() or 1))]
        seconds, waited = Training(lambda: sum(range(10_000_000)), lambda: None).timed(epochs=1)
        for spinner in spinners:
            spinner.wait()
        assert waited > 0
        assert seconds > 0

    def test_statistics(self):
        timing = Timing((5e-6, 1e-6, 3e-6, 2e-6, 4e-6), 1, None)
        assert timing.microseconds_per_step() == pytest.approx({"median": 3, "min": 1, "q1": 2, "q3": 4})

    @pytest.mark.parametrize(
        ("value", "shown"), [(123456, "123456"), (123.4, "123"), (1.2345, "1.23"), (0.0123, "0.0123"), (0.0, "0"), (None, "-")]
    )
    def test_numbers(self, value, shown):
        assert report.number(value) == shown


class TestRoofline:
    def test_digits(self, capsys):
        assert roofline.main(["--problems", "digits,online", "--rounds", "1", "--quick"]) == 0
        lines = capsys.readouterr().out.splitlines()
        start = next(number for number, line in enumerate(lines) if line.startswith("problem "))
        header, digits, online = (re.split(r"\s{2,}", line.strip()) for line in lines[start : start + 3])
        row = dict(zip(header, digits, strict=True))
        # GFLOP/s are those of the products: 6 for each weight and row, but 4 in the first layer.
        flop = 15 * (6 * (64 * 15 + 15 * 10) - 2 * 64 * 15)
        assert lab.flop_per_step(PROBLEMS["digits"]) == flop
        assert float(row["GFLOP/s"]) > 0
        assert float(row["us, 1 thread"]) > 0
        shares = [int(row[name].rstrip("%")) for name in [*lab.PARTS, "rest"]]
        assert sum(shares) == pytest.approx(100, abs=len(shares))
        assert dict(zip(header, online, strict=True))["forward"] == "-"

    def test_a_share_is_of_all_cores(self):
        line = roofline.Roofline(PROBLEMS["digits"], tile=1e9, seconds_one=1.0, seconds=0.5, parts={})
        assert line.share(0.5, 2) == pytest.approx(lab.flop_per_step(PROBLEMS["digits"]) / 1e9)


class TestCheck:
    @pytest.fixture
    def stored(self, tmp_path, monkeypatch):
        path = tmp_path / "costs.json"
        path.write_text('{"costs": {"mnist: step": 1.0}}')
        monkeypatch.setattr(check, "STORED", path)
        assert check.main(["--store", "--problems", "digits", "--rounds", "1"]) == 0
        return path

    def test_stored_costs(self, stored):
        content = json.loads(stored.read_text())
        assert content["costs"].keys() == {"mnist: step", "digits: step"}
        assert content["machine"]["cpu"] == machine.cpu_model()

    @pytest.mark.parametrize("factor", [0.01, 100])
    def test_what_has_become_slower_is_named(self, stored, factor, capsys):
        content = json.loads(stored.read_text())
        content["costs"]["digits: step"] *= factor
        stored.write_text(json.dumps(content))
        assert check.main(["--problems", "digits", "--rounds", "1"]) == (factor < 1)
        assert ("SLOWER than 1.25 times what is stored: digits: step" in capsys.readouterr().out) == (factor < 1)

    def test_the_repository_stores_all_cases(self):
        stored = json.loads(check.STORED.read_text())["costs"]
        assert {name.split(":")[0] for name in stored} == {*PROBLEMS, "24-8-2"}
