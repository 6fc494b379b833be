"""The benchmarks measure real trainings, show what they write down, and notice who skips work. Never how long anything takes."""

from __future__ import annotations

import copy
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import types
import warnings
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import analyse, check, compare, machine, pictures, report, run
from benchmarks.__main__ import main
from benchmarks.lab import PARTS
from benchmarks.options import thread_counts
from benchmarks.peers import PEERS, Contestant, contestants
from benchmarks.peers.peer import Peer, Training
from benchmarks.problems import PROBLEMS, SEED, make_task
from benchmarks.process import Here, PeerError, Remote, use_only
from benchmarks.sections import cold, estimators, inference, kernels, quality, scaling, training
from benchmarks.sections.training import Trainee, judged_loss
from benchmarks.sections.unit import Size
from benchmarks.tables import number
from fastmlp import MLP, ReferenceMLP

ROOT = Path(__file__).parent.parent
QUICK = ("--quick", "--problems", "digits", "--rounds", "1", "--sections", "training")
SMALL = Size(quick=True, rounds=2, round_seconds=0.0)
OWN = "reference,fastmlp,null"
INSTALLED = [name for name, peer in PEERS.items() if not peer.missing]
STORED = sorted((ROOT / "benchmarks/results").glob("*.json"))


def here(contestant, problem, rows):
    return Here(Trainee, contestant, problem, rows)


def measured(problem, peers, rows, size=SMALL):
    """A problem in this process: quick, and open to peers that no other process could import."""
    return training.measure_problem(problem, [Contestant(peer, None) for peer in peers], rows, size, here)


def trainee_of(training_):
    return Trainee(Contestant(planted("planted", lambda task, threads: training_), None), PROBLEMS["digits"], 30)


def document_of(**units):
    """As a run writes it."""
    moment = {"load": 0.1, "megahertz": 3000.0, "tile": {"float32": 1e11, "float64": 5e10}}
    found = {}
    for name, unit in units.items():
        section, _, what = name.partition("__")
        found[f"{section}/{what}"] = unit | {"conditions": [copy.deepcopy(moment), copy.deepcopy(moment)], "took": 1.0}
    options = {"quick": True, "problems": ["digits"], "peers": OWN.split(","), "sections": [], "threads": ["all"], "rounds": 2}
    return {
        "format": run.FORMAT, "began": "2026-01-01T00:00:00+00:00", "ended": None, "complete": False, "options": options,
        "machine": machine.machine(), "missing": {"keras": ["keras"]}, "units": found,
    }  # fmt: skip


class Imports(quality.Learner):
    """What its process has imported before it begins, but for what this module needs."""

    def imported(self):
        return [name for name in ("sklearn", "torch", "jax", "lightgbm") if name in sys.modules]


class Variable:
    """Of its process's environment."""

    def __init__(self, name):
        self._name = name

    def value(self):
        return os.environ.get(self._name)


def half_the_rows(task, threads):
    half = task.rows // 2
    return PEERS["reference"].prepare(replace(task, x=task.x[:half], y=task.y[:half]), threads)


def every_other_epoch(task, threads):
    training_ = PEERS["reference"].prepare(task, threads)
    calls = iter(range(10**6))
    return Training(lambda: training_.epoch() if next(calls) % 2 else None, training_.theta)


def no_training(task, threads):
    return PEERS["null"].prepare(task, threads)


def failing(task, threads):
    raise ValueError("no luck")


def planted(name, prepare, **options):
    return Peer(name, "planted", "", prepare, **options)


def columns_of(text, first="problem "):
    """The cells of a table's first row, by its header."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(first))
    header, row = (re.split(r"\s{2,}", lines[number].strip()) for number in (start, start + 1))
    assert len(header) == len(row)
    return dict(zip(header, row, strict=True))


def command(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "benchmarks", *arguments],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=280, check=False, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A run as a person starts it: what was printed, the JSON, and the folder with the reports."""
    folder = tmp_path_factory.mktemp("benchmarks")
    process = command(
        *QUICK, "--peers", OWN, "--threads", "1,all", "--json", str(folder / "out.json"), "--html", str(folder / "out.html"),
        "--markdown", str(folder / "out.md"),
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    return process.stdout, json.loads((folder / "out.json").read_text()), folder


class TestCommand:
    def test_table_and_json_agree(self, done):
        out, written, _ = done
        row = columns_of(out)
        unit = written["units"]["training/digits"]
        assert row["problem"] == "digits"
        assert unit["rows"] == 1797
        assert unit["steps"] == 120
        medians = {}
        for name, one in unit["contestants"].items():
            assert len(one["seconds"]) == len(one["waited"]) == written["options"]["rounds"] == 1
            medians[name] = np.median(one["seconds"]) * 1e6 / one["epochs"] / unit["steps"]
        assert float(row["fastmlp"]) == pytest.approx(medians["fastmlp"], rel=0.01)
        if "fastmlp-1" in medians:  # of one processor, all are one
            assert float(row["fastmlp, 1 thread"]) == pytest.approx(medians["fastmlp-1"], rel=0.01)
        best = min(median for name, median in medians.items() if name.startswith("reference"))
        assert float(row["reference"]) == pytest.approx(best, rel=0.01)
        assert float(row["reference / fastmlp"]) == pytest.approx(best / medians["fastmlp"], rel=0.01)

    def test_all_end_at_the_same_lower_loss(self, done):
        unit = done[1]["units"]["training/digits"]
        losses = [one["loss"] for one in unit["contestants"].values() if one["loss"] is not None]
        assert len(losses) == 2 * len(done[1]["options"]["threads"])
        assert max(losses) == pytest.approx(min(losses), rel=1e-4)
        assert max(losses) < 0.8 * unit["initial_loss"]

    def test_says_what_it_ran_on(self, done):
        out, written, _ = done
        about = written["machine"]
        parts = [about[key] for key in ("cpu", "python", "numpy", "numba")] + [about["blas"]["name"], f"{about['cores']} cores"]
        assert all(part in out.splitlines()[0] for part in parts)
        assert about["versions"]["numpy"] == about["numpy"] == np.__version__
        assert about["features"]
        for moment in written["units"]["training/digits"]["conditions"]:
            assert moment["tile"].keys() == {"float32", "float64"}
            assert min(moment["tile"].values()) > 0

    def test_memory_is_that_of_the_processes(self, done):
        peaks = {name: one["peak_bytes"] for name, one in done[1]["units"]["training/digits"]["contestants"].items()}
        if None not in peaks.values():
            assert 10e6 < peaks["null"] < peaks["fastmlp"] < 2e9  # who compiles or loads kernels needs more than who does nothing

    def test_a_report_can_be_made_again(self, done, tmp_path, capsys):
        again = tmp_path / "again.html"
        assert main(["--report", str(done[2] / "out.json"), "--html", str(again)]) == 0
        assert capsys.readouterr().out.strip() == done[0].strip()
        assert again.read_text() == (done[2] / "out.html").read_text()

    def test_fastmlp_bench_is_the_same(self, done, capsys):
        from typer.testing import CliRunner

        from fastmlp.cli import app

        result = CliRunner().invoke(app, ["bench", "--report", str(done[2] / "out.json")])
        assert result.exit_code == 0, result.output
        assert result.stdout.strip() == done[0].strip()
        assert "usage: fastmlp bench" in CliRunner().invoke(app, ["bench", "--help"]).stdout


class TestResuming:
    @pytest.mark.skipif(os.name == "nt", reason="signals of other systems")
    def test_an_interrupted_run_goes_on(self, tmp_path):
        path = tmp_path / "out.json"
        arguments = [
            "--quick", "--problems", "online,digits", "--peers", "null,reference", "--sections", "training", "--rounds", "1",
            "--json", str(path),
        ]  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks", *arguments],
            cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        # The second measurement is announced when the first has been written.
        lines = iter(process.stderr.readline, "")
        assert any("[2/2] training/digits" in line for line in lines)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 130, errors
        assert f"is in {path}" in errors
        before = json.loads(path.read_text())
        assert not before["complete"]
        assert list(before["units"]) == ["training/online"]
        again = command(*arguments)
        assert again.returncode == 0, again.stderr
        assert "Going on with" in again.stderr
        after = json.loads(path.read_text())
        assert after["complete"]
        assert list(after["units"]) == ["training/online", "training/digits"]
        assert after["units"]["training/online"] == before["units"]["training/online"]

    def test_other_options_begin_anew(self, tmp_path, capsys):
        path = tmp_path / "out.json"
        options = run.Options(True, ["digits"], ["null"], [], [None], 1)
        unfinished = run.begin(options, path)
        unfinished["units"]["training/digits"] = {}
        run.write(path, unfinished)
        assert run.begin(options, path)["units"]
        assert not run.begin(replace(options, rounds=2), path)["units"]
        run.write(path, unfinished | {"complete": True})
        assert not run.begin(options, path)["units"]

    @pytest.mark.parametrize("content", ["", "{", "[1]", "{}", '{"format": 99, "machine": {}, "units": {}}', "\x00\xff"])
    def test_other_files_are_refused_and_stay(self, tmp_path, capsys, content):
        path = tmp_path / "other.json"
        path.write_text(content)
        assert main(["--report", str(path)]) == 2
        assert str(path) in capsys.readouterr().err
        if content:  # an empty file is where nothing has been measured yet
            assert main([*QUICK, "--json", str(path)]) == 2
            assert path.read_text() == content

    def test_a_missing_file(self, tmp_path, capsys):
        assert main(["--report", str(tmp_path / "missing.json")]) == 2
        assert "No such file" in capsys.readouterr().err


class TestWrongUse:
    @pytest.mark.parametrize(("option", "known"), [("--problems", PROBLEMS), ("--peers", PEERS), ("--sections", run.SECTIONS)])
    @pytest.mark.parametrize("names", ["digitz", "digits,reference,nobody", "", ","])
    def test_unknown_names(self, capsys, option, known, names):
        with pytest.raises(SystemExit) as caught:
            main([option, names])
        assert caught.value.code == 2
        err = capsys.readouterr().err
        assert option in err
        assert "known: " + ", ".join(known) in err

    @pytest.mark.parametrize("option", ["--rounds", "--threads"])
    @pytest.mark.parametrize("value", ["0", "-1", "1.5", "many"])
    def test_counts(self, capsys, option, value):
        with pytest.raises(SystemExit) as caught:
            main([option, value])
        assert caught.value.code == 2
        assert option in capsys.readouterr().err

    def test_threads_are_those_there_are(self, monkeypatch):
        monkeypatch.setattr("benchmarks.options.available_processors", lambda: [0, 1, 2, 3])
        assert thread_counts("1,2,all") == [1, 2, None]
        assert thread_counts("4,all,64,1") == [None, 1]

    @pytest.mark.parametrize(
        ("processors", "allowed", "expected"),
        [(1, 1, [None]), (2, 2, [1, None]), (16, 16, [1, 2, 4, 8, None]), (64, 6, [1, 2, 4, 6, 8, 16, 32, None])],
    )
    def test_the_others_may_have_any_number_that_ours_chooses_from(self, monkeypatch, processors, allowed, expected):
        monkeypatch.setattr("benchmarks.options.available_processors", lambda: list(range(processors)))
        monkeypatch.setattr("benchmarks.options.available_threads", lambda: allowed)
        assert main_options("--rounds", "1").threads == expected
        assert main_options("--quick").threads == [None]

    def test_file_that_cannot_be_written_is_found_before_measuring(self, capsys, tmp_path):
        for option in ("--json", "--html", "--markdown"):
            for path in (tmp_path, tmp_path / "missing" / "out.json"):
                with pytest.raises(SystemExit) as caught:
                    main([option, str(path)])
                assert caught.value.code == 2
                assert option in capsys.readouterr().err

    @pytest.mark.parametrize("content", ["no marks", "<!-- speed -->\n", None])
    def test_a_file_without_a_place_for_the_table_is_found_before_measuring(self, capsys, tmp_path, monkeypatch, content):
        monkeypatch.setattr(run, "measure", lambda *arguments: pytest.fail("it has measured"))
        readme = tmp_path / "README.md"
        if content is not None:
            readme.write_text(content)
        with pytest.raises(SystemExit) as caught:
            main([*QUICK, "--json", str(tmp_path / "out.json"), "--readme", str(readme)])
        assert caught.value.code == 2
        assert ("No such file" if content is None else "the file must hold") in capsys.readouterr().err
        assert content is None or readme.read_text() == content

    def test_packages_that_are_missing(self, capsys, monkeypatch):
        monkeypatch.setitem(PEERS, "absent", replace(PEERS["null"], name="absent", packages=("no_such_package",)))
        with pytest.raises(SystemExit):
            main(["--peers", "absent"])
        assert "pip install 'fastmlp[bench]'" in capsys.readouterr().err

    def test_what_is_not_installed_is_left_out_with_a_line(self, capsys, monkeypatch, tmp_path):
        monkeypatch.setitem(PEERS, "absent", replace(PEERS["null"], name="absent", packages=("no_such_package",)))
        monkeypatch.chdir(tmp_path)  # where a folder for what is measured is made
        assert "absent" not in main_options().peers
        document = run.begin(run.Options(True, ["digits"], ["null"], [], [None], 1), tmp_path / "new.json")
        assert "Left out: absent, because no_such_package is not installed" in report.text_report(document)


def main_options(*arguments):
    from benchmarks.__main__ import parse

    return parse(["--json", os.devnull, *arguments], "test") if arguments else parse([], "test")


class TestSameWork:
    @pytest.mark.parametrize("lazy", [half_the_rows, every_other_epoch, no_training])
    @pytest.mark.parametrize("first", [False, True])  # whatever the order: the baseline is right
    def test_who_skips_work_is_marked(self, lazy, first):
        peers = [PEERS["reference"], planted("lazy", lazy)]
        unit = measured(PROBLEMS["digits"], peers[::-1] if first else peers, 300)
        found = analyse.comparison(unit)
        assert found.disagreeing == ["lazy"]
        assert "lazy" not in found.rivals
        document = document_of(training__digits=unit)
        assert any(line.startswith("NOT COMPARABLE: lazy on digits") for line in analyse.marks(document))
        assert "NOT COMPARABLE: lazy" in report.html_report(document)

    @pytest.mark.parametrize("problem", ["mnist", "higgs", "deep"])
    def test_rounding_that_grows_hides_nobody(self, problem):
        """On few rows, as these are, half of them are as good as all."""
        peers = [PEERS["reference"], planted("lazy", half_the_rows), PEERS["fastmlp"]]
        unit = measured(PROBLEMS[problem], peers, 40 * PROBLEMS[problem].batch_size, replace(SMALL, rounds=1))
        assert analyse.comparison(unit).disagreeing == ["lazy"]
        for one in unit["contestants"].values():
            one["loss"] = 1.0  # whatever has become of it later
        assert analyse.comparison(unit).disagreeing == ["lazy"]

    def test_the_loss_that_gives_somebody_away_is_named(self):
        problem = PROBLEMS["mnist"]
        unit = measured(problem, [PEERS["reference"], planted("lazy", half_the_rows)], 40 * problem.batch_size, SMALL)
        for one in unit["contestants"].values():
            one["loss"] = 1.0
        (said,) = [mark for mark in analyse.marks(document_of(training__mnist=unit)) if mark.startswith("NOT COMPARABLE")]
        assert f"its loss after the first steps is {unit['contestants']['lazy']['first_loss']:.5g}, not" in said

    def test_curves_and_predictions_hide_nobody(self, tmp_path, capsys):
        problem = scaling.AXES["rows"].problem(300)
        point = measured(problem, [PEERS["reference"], planted("lazy", half_the_rows), PEERS["null"]], 300)
        point["contestants"]["null"]["error"] = "a peer failed:\nMemoryError"
        point |= {"axis": "rows", "title": "", "value": 300, "cores": 2}
        peer = planted("wrong", None, predictor=lambda task, threads: lambda x: np.full((len(x), 10), 0.1, np.float32))
        predicted = inference.measure_problem(
            PROBLEMS["mnist"], [Contestant(peer, None)], SMALL, lambda *arguments: Here(inference.Server, *arguments)
        )
        document = document_of(**{"scaling__rows=300": point, "inference__mnist": predicted})
        path = tmp_path / "out.json"
        run.write(path, document)
        assert main(["--report", str(path)]) == 1
        said = capsys.readouterr().out
        assert "NOT COMPARABLE: lazy on rows=300" in said
        assert "NOT COMPARABLE: wrong, inference on mnist" in said
        assert "FAILED: null on rows=300: MemoryError" in said

    def test_how_near_losses_must_be_is_said(self):
        units = {f"training__{name}": measured(PROBLEMS[name], [PEERS["reference"]], 20) for name in ("digits", "mnist", "float64")}
        text = report.markdown_report(document_of(**units))
        assert "within 0.0001% (float64), 0.1% (digits), 2% (mnist)" in text
        assert "After its first steps, in a training on few rows, it must be within 0.0001% (float64), 0.1% (digits, mnist)" in text
        for unit in units.values():
            unit.pop("first_tolerance")  # as in documents of before
        assert "After its first steps" not in report.markdown_report(document_of(**units))

    def test_the_command_fails_and_says_so(self, capsys, monkeypatch, tmp_path):
        """In a process of its own, as all peers are."""
        monkeypatch.setitem(PEERS, "lazy", planted("lazy", half_the_rows))
        path = tmp_path / "out.json"
        assert main([*QUICK, "--peers", "reference,lazy", "--json", str(path)]) == 1
        assert "NOT COMPARABLE: lazy on digits" in capsys.readouterr().out

    @pytest.mark.parametrize("loss", [float("nan"), float("inf")])
    def test_no_finite_loss_never_agrees(self, loss):
        unit = measured(PROBLEMS["digits"], [PEERS["reference"], planted("other", every_other_epoch)], 100)
        for one in unit["contestants"].values():
            one["loss"] = loss
        assert analyse.comparison(unit).disagreeing == ["reference", "other"]

    def test_who_does_the_nearest_thing_is_not_judged(self):
        peer = planted("nearest", every_other_epoch, nearest=other_words)
        unit = measured(PROBLEMS["digits"], [PEERS["reference"], peer], 100)
        assert unit["contestants"]["nearest"]["loss"] is None
        found = analyse.comparison(unit)
        assert not found.disagreeing
        assert "nearest" in found.rivals
        assert not any(loss.peer == "nearest" for loss in analyse.losses(document_of(training__digits=unit)))

    def test_a_failure_is_reported_and_the_others_go_on(self):
        peers = [Contestant(planted("failing", failing), None), Contestant(PEERS["null"], None)]
        unit = training.measure_problem(PROBLEMS["digits"], peers, 100, SMALL)
        assert "no luck" in unit["contestants"]["failing"]["error"]
        assert unit["contestants"]["null"]["seconds"]
        assert analyse.comparison(unit).failed.keys() == {"failing"}
        assert "FAILED: failing on digits: ValueError: no luck" in analyse.marks(document_of(training__digits=unit))


def other_words(problem):
    return "something else"


class TestFairness:
    @pytest.mark.parametrize(("name", "kind"), [("reference", ReferenceMLP), ("fastmlp", MLP)])
    @pytest.mark.parametrize("problem", ["digits", "higgs"])
    def test_epochs_are_those_of_fit(self, name, kind, problem):
        problem = PROBLEMS[problem]
        task = make_task(problem, 600)
        with closing(PEERS[name].prepare(task, None)) as training:
            for _ in range(3):
                training.epoch()
            theta = training.theta()
        network = problem.network(kind)
        network._generator = np.random.default_rng(SEED)
        recipe = {"learning_rate": problem.learning_rate, "optimizer": problem.optimizer}
        network.fit(task.x, task.y, epochs=3, batch_size=problem.batch_size, **recipe)
        np.testing.assert_array_equal(theta, network.theta)

    @pytest.mark.parametrize("name", [name for name in INSTALLED if PEERS[name].prepare])
    def test_all_begin_with_the_same_weights(self, name):
        """In another process: some of them change settings for good."""
        with closing(Remote(Beginner, name)) as remote:
            np.testing.assert_array_equal(remote.ask("theta"), make_task(PROBLEMS["digits"], 30).theta)

    def test_peers_take_turns_after_a_warm_up_of_their_own(self):
        calls = []

        def peer(name):
            return planted(name, lambda task, threads: Training(lambda: calls.append(name), lambda: task.theta))

        unit = measured(PROBLEMS["digits"], [peer("a"), peer("b")], 30, replace(SMALL, rounds=3))
        order = "".join(name for name, before in zip(calls, [None, *calls], strict=False) if name != before)
        assert order == "ab" + "ababab"  # a peer's epochs of a round follow one another
        assert [len(one["seconds"]) for one in unit["contestants"].values()] == [3, 3]

    def test_all_are_closed_even_if_one_fails(self):
        closed = []

        def peer(name, epoch):
            return planted(name, lambda task, threads: Training(epoch, lambda: task.theta, lambda: closed.append(name)))

        measured(PROBLEMS["digits"], [peer("a", int), peer("b", int)], 30)
        assert sorted(closed) == ["a", "a", "b", "b"]  # the training of the first steps, too
        with pytest.raises(StopIteration):
            measured(PROBLEMS["digits"], [peer("c", int), peer("d", iter([]).__next__)], 30)
        assert sorted(closed)[4:] == ["c", "c", "d", "d"]

    @pytest.mark.parametrize("question", ["timed", "peak_memory"])
    def test_a_peer_that_dies_in_the_rounds_is_left_out(self, question):
        class Mortal(Here):
            def ask(self, method, *arguments):
                if method == question and self._served._contestant.name == "null":
                    raise PeerError("the process of a peer ended unexpectedly")
                return super().ask(method, *arguments)

        both = [Contestant(PEERS[name], None) for name in ("null", "reference")]
        unit = training.measure_problem(PROBLEMS["digits"], both, 30, SMALL, lambda *arguments: Mortal(Trainee, *arguments))
        found = analyse.comparison(unit)
        assert list(found.failed) == (["null"] if question == "timed" else [])
        assert len(unit["contestants"]["reference"]["seconds"]) == SMALL.rounds

    def test_only_epochs_that_count_are_timed(self, monkeypatch):
        trainee = trainee_of(Training(lambda: next(ticks), lambda: None))
        ticks = iter(range(1000))
        monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
        assert trainee.timed(epochs=5, before=3)[0] == 6

    def test_every_peer_with_every_number_of_threads(self):
        names = [one.name for one in contestants([PEERS["reference"], PEERS["null"]], [1, 2, None])]
        assert names == ["reference-1", "reference-2", "reference", "null"]

    @pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not bind processes")
    def test_threads_are_those_of_the_process(self):
        with closing(Remote(Beginner, "reference", threads=1)) as remote:
            processors, blas = remote.ask("limits")
        assert processors == 1
        assert blas == 1

    @pytest.mark.parametrize(
        ("siblings", "expected"),
        [
            (["0-1", "0-1", "2-3", "2-3"], [0, 2, 1, 3]),  # as many virtual machines number them
            (["0,2", "1,3", "0,2", "1,3"], [0, 1, 2, 3]),  # as most others do
            (["0", "1", "2", "3"], [0, 1, 2, 3]),
            ([None] * 4, [0, 1, 2, 3]),
        ],
    )
    def test_threads_have_cores_of_their_own_where_there_are_enough(self, siblings, expected, monkeypatch):
        files = {f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list": text for number, text in enumerate(siblings)}
        monkeypatch.setattr(machine, "available_processors", lambda: list(range(4)))
        monkeypatch.setattr(machine, "_text", files.get)
        bound = []
        monkeypatch.setattr(os, "sched_setaffinity", lambda process, numbers: bound.append(numbers), raising=False)
        for threads in range(1, 5):
            use_only(threads)
        assert bound == [expected[:threads] for threads in range(1, 5)]

    def test_a_process_that_rests_has_come_to_rest(self):
        with closing(Remote(Beginner, "reference")) as remote:
            remote.ask("spin", 0.3)
            began = time.perf_counter()
            remote.rest()
            assert time.perf_counter() - began < 5


class Beginner:
    """Lives in another process."""

    def __init__(self, name):
        self._prepare = PEERS[name].prepare
        self._threads = []

    def theta(self):
        with closing(self._prepare(make_task(PROBLEMS["digits"], 30), None)) as begun:
            return begun.theta()

    def limits(self):
        return len(machine.available_processors()), machine.blas()["threads"]

    def spin(self, seconds):
        end = time.perf_counter() + seconds

        def work():
            while time.perf_counter() < end:
                pass

        threading.Thread(target=work, daemon=True).start()


class TestPeers:
    @pytest.mark.parametrize(
        "name", [name for name in INSTALLED if PEERS[name].prepare and PEERS[name].trains and "compile" not in name]
    )
    @pytest.mark.parametrize("problem", ["digits", "deep", "float64"])
    def test_peers_that_do_the_same_end_at_the_same_loss(self, name, problem):
        problem, peer = PROBLEMS[problem], PEERS[name]
        both = [Contestant(one, None) for one in dict.fromkeys([PEERS["reference"], peer])]
        unit = training.measure_problem(problem, both, problem.batch_size * 3 + 1, replace(SMALL, rounds=1))
        one = unit["contestants"][name]
        assert one["error"] is None
        assert one["seconds"][0] > 0
        if peer.nearest(problem):
            assert one["loss"] is None
        else:
            assert one["loss"] != pytest.approx(unit["initial_loss"], rel=1e-4)
            assert not analyse.comparison(unit).disagreeing

    def test_a_failure_in_another_process_is_reported(self):
        with closing(Remote(failing, None, None)) as remote, pytest.raises(PeerError, match="no luck"):
            remote.ready()

    def test_a_process_that_ends_between_two_questions_is_reported(self):
        with closing(Remote(Beginner, "reference")) as remote:
            remote.ready()
            remote._process.kill()  # as the system does where memory is short
            remote._process.join()
            with pytest.raises(PeerError, match="ended unexpectedly"):
                remote.ask("theta")

    @pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not bind processes")
    def test_a_process_that_ends_before_it_has_read_everything_is_reported(self):
        with closing(Remote(Beginner, "x" * 10**7, threads=0)) as remote, pytest.raises(PeerError):
            remote.ready()

    @pytest.mark.parametrize("name", [name for name in INSTALLED if PEERS[name].predictor and PEERS[name].trains])
    def test_predictions_are_the_reference_s(self, name):
        problem, one = PROBLEMS["mnist"], Contestant(PEERS[name], None)
        unit = inference.measure_problem(problem, [one], replace(SMALL, rounds=1))
        (prediction,) = analyse.predictions(unit)
        assert prediction.comparable, unit["contestants"][name]
        assert 0 < prediction.median <= prediction.p99

    def test_other_predictions_are_marked(self):
        peer = planted("wrong", None, predictor=lambda task, threads: lambda x: np.full((len(x), 10), 0.1, np.float32))
        unit = inference.measure_problem(
            PROBLEMS["mnist"], [Contestant(peer, None)], SMALL, lambda *arguments: Here(inference.Server, *arguments)
        )
        assert not analyse.predictions(unit)[0].comparable


class TestSections:
    def test_cold_start(self):
        figures = cold.measure_peer("fastmlp", replace(SMALL, quick=True))
        (start,) = analyse.starts(document_of(cold__fastmlp=figures))
        assert start.first_cold > start.first_warm > start.epoch > 0  # compiled, loaded, there
        assert start.import_ > 0
        assert start.peak is None or start.peak > 10e6

    def test_a_peer_that_does_not_start_is_named(self, monkeypatch):
        monkeypatch.setitem(PEERS, "failing", planted("failing", failing))
        figures = cold.measure_peer("failing", replace(SMALL, quick=True))  # where it is started, nobody knows it
        document = document_of(cold__failing=figures)
        assert analyse.starts(document) == []
        assert analyse.marks(document) == ["FAILED: failing, cold start: KeyError: 'failing'"]

    def test_time_to_quality(self):
        goal = replace(quality.GOALS["digits-97"], target=0.85)
        both = [Contestant(PEERS[name], None) for name in ("reference", "fastmlp")]
        unit = quality.measure_goal(goal, both, SMALL, lambda *arguments: Here(quality.Learner, *arguments))
        for way in analyse.ways(unit):
            assert way.reached
            values = [value for _, value in way.points]
            assert values[-1] >= 0.85 > max(values[:-1])  # it ends with the first epoch that is good enough
            seconds = [second for second, _ in way.points]
            assert seconds == sorted(seconds)
            assert way.ready + way.training == pytest.approx(seconds[-1])

    def test_who_keeps_kernels_has_had_an_epoch_before_and_jax_does(self):
        started = []

        def start(one, goal, whole):
            started.append((one.peer.name, goal.most_epochs, os.environ["JAX_COMPILATION_CACHE_DIR"]))
            return Here(quality.Learner, one, goal, whole)

        goal, before = replace(quality.GOALS["digits-97"], target=0.3), os.environ.get("JAX_COMPILATION_CACHE_DIR")
        both = [Contestant(PEERS[name], None) for name in ("reference", "fastmlp")]
        unit = quality.measure_goal(goal, both, replace(SMALL, quick=True), start)
        assert [(name, epochs) for name, epochs, _ in started] == [("reference", 200), ("fastmlp", 1), ("fastmlp", 200)]
        assert len({folder for *_, folder in started}) == 2  # nobody finds what another peer has left
        assert [len(one["runs"]) for one in unit["contestants"].values()] == [1, 1]
        assert os.environ.get("JAX_COMPILATION_CACHE_DIR") == before
        with quality.jax_keeps_kernels(), closing(Remote(Variable, "JAX_COMPILATION_CACHE_DIR")) as remote:
            assert remote.ask("value") == os.environ["JAX_COMPILATION_CACHE_DIR"]

    def test_scikit_learn_is_judged_by_what_it_predicts(self):
        """Its network for two classes has one output."""
        problem = replace(quality.GOALS["teacher-1M"].problem, rows=4000)
        goal = replace(quality.GOALS["teacher-1M"], problem=problem, target=0.65, most_epochs=10)
        unit = quality.measure_goal(goal, [Contestant(PEERS["sklearn"], None)], SMALL, lambda *a: Here(quality.Learner, *a))
        (way,) = analyse.ways(unit)
        assert way.reached

    def test_imports_count_in_time_to_quality(self):
        goal = quality.GOALS["digits-97"]
        whole = make_task(goal.problem, 100)  # which imports scikit-learn, here
        with closing(Remote(Imports, Contestant(PEERS["sklearn"], None), goal, whole)) as remote:
            assert remote.ask("imported") == []

    def test_a_goal_that_is_not_reached(self):
        goal = replace(quality.GOALS["digits-97"], target=2.0, most_epochs=2)
        unit = quality.measure_goal(goal, [Contestant(PEERS["fastmlp"], None)], SMALL, lambda *a: Here(quality.Learner, *a))
        (way,) = analyse.ways(unit)
        assert not way.reached
        assert way.epochs == 2
        table = report.chapters(document_of(quality__digits=unit))[1].table
        assert table[1][-1].startswith("no: 0.")

    def test_scaling_points_have_what_their_axis_says(self):
        for axis in scaling.AXES.values():
            for value in axis.values:
                problem = axis.problem(value)
                assert len(problem.activation) == len(problem.sizes) - 1
                assert axis.rows(value, True) <= axis.rows(value, False)
        assert scaling.AXES["width"].problem(16).sizes == (28, 16, 16, 2)
        assert scaling.AXES["depth"].problem(3).sizes == (32, 32, 32, 32, 10)
        assert scaling.AXES["batch"].problem(4).batch_size == 4
        assert scaling.AXES["rows"].rows(1000, False) == 1000
        assert scaling.thread_values(1) == [1]
        assert scaling.thread_values(2) == [1, 2]
        assert scaling.thread_values(12) == [1, 2, 4, 8, 12]
        assert scaling.AXES["threads of wide"].problem(4).sizes == PROBLEMS["wide"].sizes
        assert scaling.AXES["threads of matexp"].rows(4, False) == PROBLEMS["matexp"].rows

    def test_who_chooses_the_threads_of_a_curve_is_said(self):
        unit = measured(PROBLEMS["digits"], [PEERS["fastmlp"]], 15)
        document = document_of(scaling__threads=unit | {"axis": "threads of digits", "title": "", "value": 2, "cores": 2})
        (chapter,) = [one for one in report.chapters(document) if one.name == "scaling"]
        assert "along the axes of threads all peers, fastmlp, too, have as many as the row says" in chapter.text[0]

    @pytest.mark.parametrize("cores", [1, 2, 16])
    def test_curves_over_threads_for_more_problems_where_there_are_more_processors(self, cores, monkeypatch):
        monkeypatch.setattr(scaling, "available_processors", lambda: list(range(cores)))
        names = [unit.name for unit in scaling.units([PEERS["fastmlp"]], Size(False, 3, 0.1))]
        expected = scaling.thread_values(cores)
        assert [f"scaling/threads={value}" for value in expected] == [name for name in names if name.startswith("scaling/threads=")]
        others = [name for name in names if name.startswith("scaling/threads of ")]
        assert len(others) == (5 * len(expected) if cores > 2 else 0)

    @pytest.mark.parametrize(("axis", "value"), [("threads", 64), ("batch", 1)])
    def test_the_floor_is_that_of_the_cores_of_the_container(self, axis, value, monkeypatch):
        """64 processors, of which it may use 4."""
        monkeypatch.setattr(scaling, "available_processors", lambda: list(range(64)))
        monkeypatch.setattr(scaling, "available_threads", lambda: 4)
        unit = measured(PROBLEMS["digits"], [PEERS["null"]], 15)
        monkeypatch.setattr(scaling, "measure_problem", lambda *arguments: unit)
        (point,) = [
            one.measure() for one in scaling.units([PEERS["fastmlp"]], Size(False, 3, 0.1)) if one.name == f"scaling/{axis}={value}"
        ]
        (found,) = analyse.scalings(document_of(scaling__point=point))
        assert found.floor == ((value, pytest.approx(1e6 * unit["flop_per_row"] * unit["batch_size"] / (4 * 1e11))),)

    def test_kernels(self):
        problems = [PROBLEMS["digits"], PROBLEMS["online"]]
        units = kernels.units(problems, replace(SMALL, rounds=1), lambda: Here(kernels.Profiler))
        digits, online = (unit.measure() for unit in units)
        # 6 for each weight and row, but 4 in the first layer.
        assert digits["flop_per_step"] == 15 * (6 * (64 * 15 + 15 * 10) - 2 * 64 * 15)
        assert online["parts"] == {}  # one sample a step is not taken apart
        table = next(
            c for c in report.chapters(document_of(kernels__digits=digits, kernels__online=online)) if c.name == "kernels"
        ).table
        row = dict(zip(table[0], table[1], strict=True))
        assert list(digits["parts"]) == list(PARTS)
        for name, seconds in digits["parts"].items():
            assert seconds > 0
            assert row[name] == f"{seconds / digits['one_thread']:.0%}"
        share = digits["flop_per_step"] / digits["one_thread"] / digits["tile"]
        assert row["of the tile"] == f"{share:.0%}"


def both_estimators(case, rounds=1):
    """A case, measured in this process."""
    both = [Contestant(PEERS[name], None) for name in estimators.MODULES]
    return estimators.measure_case(
        case, both, replace(SMALL, rounds=rounds), lambda *arguments: Here(estimators.Fitter, *arguments)
    )


def module_with(name, fit, monkeypatch):
    """A peer of whose module the classifier fits as ``fit`` does."""
    module = types.ModuleType(name)
    module.MLPClassifier = type("MLPClassifier", (estimators.importlib.import_module("fastmlp").MLPClassifier,), {"fit": fit})
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(estimators.MODULES, name, name)
    return planted(name, None)


@functools.cache
def measured_iris():
    return both_estimators(estimators.CASES["iris"].quick(), rounds=2)


class TestEstimators:
    @pytest.mark.parametrize("name", estimators.CASES)
    def test_both_end_at_the_same_lower_loss_and_nothing_warns(self, name):
        case = estimators.CASES[name].quick()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            unit = both_estimators(case)
            again = both_estimators(replace(case, max_iter=1))
        assert not analyse.comparison(unit).disagreeing
        for peer, one in unit["contestants"].items():
            assert one["error"] is None
            assert one["iterations"] == one["epochs"] == case.max_iter
            assert one["loss"] < again["contestants"][peer]["loss"]
            assert len(one["seconds"]) == len(one["one_row"]) == len(one["all_rows"]) == 1
            assert len(one["partial_fit"]) == (0 if name == "digits" else 1)  # L-BFGS has none

    def test_a_quick_run_makes_the_section_and_its_reports_show_the_figures(self, tmp_path, monkeypatch, capsys):
        """As a person starts it, but for the cases that take longer."""
        monkeypatch.setattr(estimators, "CASES", {name: estimators.CASES[name] for name in ("diabetes", "digits")})
        files = {kind: tmp_path / f"out.{kind}" for kind in ("json", "html", "md")}
        arguments = ["--json", str(files["json"]), "--html", str(files["html"]), "--markdown", str(files["md"])]
        assert main(["--quick", "--sections", "estimators", "--rounds", "2", "--threads", "1,all", *arguments]) == 0
        written = json.loads(files["json"].read_text())
        assert list(written["units"]) == ["estimators/diabetes", "estimators/digits"]
        out = capsys.readouterr().out
        ones = written["units"]["estimators/diabetes"]["contestants"]
        best = {}
        for one in ones.values():
            assert len(one["seconds"]) == 2
            assert one["epochs"] % 20 == 0
            best.setdefault(one["peer"], []).append(1e3 * np.median(one["seconds"]) / one["epochs"])
            assert f"{one['loss']:.6g}" in out
        row = columns_of(out.partition("== Estimators ==")[2], "case ")
        assert (row["case"], row["rows x columns"], row["what"]) == ("diabetes", "442 x 10", "MLPRegressor(), 20 epochs")
        assert float(row["fastmlp ms"]) == pytest.approx(best["fastmlp"][0], rel=0.01)
        assert float(row["sklearn ms"]) == pytest.approx(min(best["sklearn"]), rel=0.01)
        assert float(row["sklearn / fastmlp"]) == pytest.approx(min(best["sklearn"]) / best["fastmlp"][0], rel=0.01)
        for call, what in analyse.CALLS.items():
            for peer in best:
                fastest = min(1e6 * np.median(one[call]) for one in ones.values() if one["peer"] == peer)
                assert float(row[f"{what}, {peer} us"]) == pytest.approx(fastest, rel=0.01)
        (chapter,) = [one for one in report.chapters(written) if one.name == "estimators"]
        assert chapter.table[2][-2:] == ["-", "-"]  # no partial_fit of L-BFGS
        for line in chapter.table[1:]:
            assert "| " + " | ".join(line) + " |" in files["md"].read_text()
            cells = "".join(f"<td>{cell}</td>" for cell in line)
            assert f"<tr>{cells}</tr>" in files["html"].read_text().replace("&#39;", "'")

    def test_both_have_the_same_parameters(self):
        fitters = [
            estimators.Fitter(Contestant(PEERS[name], 1), estimators.CASES["friedman"].quick()) for name in estimators.MODULES
        ]
        theirs, ours = (fitter._new().get_params() for fitter in fitters)
        assert {name: ours[name] for name in theirs} == theirs
        assert ours["n_threads"] == 1
        assert [fitter.shape() for fitter in fitters] == [(2000, 10)] * 2

    def test_who_does_other_work_is_marked(self, monkeypatch, tmp_path):
        from fastmlp import MLPClassifier

        lazy = module_with("lazy", lambda self, x, y: MLPClassifier.fit(self, x[::2], y[::2]), monkeypatch)
        ones = [Contestant(peer, None) for peer in (PEERS["sklearn"], lazy)]
        unit = estimators.measure_case(
            estimators.CASES["iris"].quick(), ones, SMALL, lambda *arguments: Here(estimators.Fitter, *arguments)
        )
        document = document_of(estimators__iris=unit)
        said = [line for line in analyse.marks(document) if line.startswith("NOT COMPARABLE: lazy on estimators/iris")]
        assert len(said) == 1
        assert said[0] in report.markdown_report(document)
        path = tmp_path / "lazy.json"
        run.write(path, document)
        assert main(["--report", str(path)]) == 1

    def test_a_failure_is_said_and_the_other_goes_on(self, monkeypatch):
        monkeypatch.setitem(estimators.MODULES, "failing", "no_such_module")  # of which its process knows nothing
        ones = [Contestant(planted("failing", failing), None), Contestant(PEERS["fastmlp"], None)]
        unit = estimators.measure_case(estimators.CASES["iris"].quick(), ones, SMALL)
        assert len(unit["contestants"]["fastmlp"]["seconds"]) == SMALL.rounds
        document = document_of(estimators__iris=unit)
        said = "FAILED: failing on estimators/iris: KeyError: 'failing'"
        assert analyse.marks(document)[0] == said
        assert said in report.text_report(document)
        assert said in report.html_report(document).replace("&#39;", "'")

    @pytest.mark.parametrize("question", ["check", "timed", "calls"])
    def test_who_dies_on_the_way_is_left_out(self, question):
        class Mortal(Here):
            def ask(self, method, *arguments):
                if method == question and self._served._class.__module__.startswith("sklearn"):
                    raise PeerError("the process of a peer ended unexpectedly")
                return super().ask(method, *arguments)

        both = [Contestant(PEERS[name], None) for name in estimators.MODULES]
        unit = estimators.measure_case(
            estimators.CASES["iris"].quick(), both, SMALL, lambda *arguments: Mortal(estimators.Fitter, *arguments)
        )
        found = analyse.comparison(unit)
        assert list(found.failed) == ["sklearn"]
        assert len(found.timings["fastmlp"].rounds) == SMALL.rounds

    def test_scikit_learn_has_every_number_of_threads_and_ours_chooses(self, monkeypatch):
        monkeypatch.setattr(estimators, "measure_case", lambda case, ones, size: [one.name for one in ones])
        peers = [PEERS[name] for name in ("reference", "fastmlp", "sklearn", "null")]

        def names(threads, peers=peers):
            return [unit.measure() for unit in estimators.units(contestants(peers, threads), SMALL)]

        assert names([1, None]) == [["sklearn-1", "sklearn", "fastmlp"]] * len(estimators.CASES)
        assert names([1])[0] == ["sklearn-1", "fastmlp-1"]
        assert names([1, None], [PEERS["reference"]]) == []

    def test_long_fits_have_fewer_rounds(self, monkeypatch):
        monkeypatch.setattr(estimators, "MOST_SECONDS", 0.0)
        unit = both_estimators(estimators.CASES["iris"].quick(), rounds=3)
        assert [len(one["seconds"]) for one in unit["contestants"].values()] == [1, 1]

    @pytest.mark.parametrize(("ratio", "listed"), [(0.5, True), (1.05, True), (1.2, False)])
    @pytest.mark.parametrize("figure", ["seconds", *analyse.CALLS])
    def test_where_we_lose(self, ratio, listed, figure):
        unit = copy.deepcopy(measured_iris())
        for peer, one in unit["contestants"].items():
            one["epochs"] = 1
            for name in ("seconds", *analyse.CALLS):
                one[name] = [ratio if (peer, name) == ("sklearn", figure) else 1.0 if peer == "fastmlp" else 10.0] * 2
        document = document_of(estimators__iris=unit)
        found = [(loss.where, loss.peer, loss.ratio) for loss in analyse.losses(document)]
        where = f"estimators/iris, {analyse.CALLS.get(figure, 'fit')}"
        assert found == ([(where, "sklearn", pytest.approx(ratio))] if listed else [])
        assert (where in report.markdown_report(document)) == listed

    def test_a_typical_call_is_the_median_after_one_that_does_not_count(self, monkeypatch):
        now, lasts = [0.0], iter([100.0, 1.0, 5.0, 2.0])
        monkeypatch.setattr(time, "perf_counter", lambda: now[0])

        def call():
            now[0] += next(lasts)

        assert estimators.typical(call, 8.0) == 2.0


class TestLosses:
    @pytest.fixture
    def document(self):
        unit = measured(PROBLEMS["digits"], [PEERS["reference"], PEERS["fastmlp"]], 100)
        document = document_of(training__digits=unit)
        return document

    @pytest.mark.parametrize(("ratio", "listed"), [(0.5, True), (1.05, True), (1.2, False)])
    def test_who_is_faster_or_nearly_is_listed(self, document, ratio, listed):
        ones = document["units"]["training/digits"]["contestants"]
        for name, seconds in (("fastmlp", 1.0), ("reference", ratio)):
            ones[name] |= {"seconds": [seconds, seconds], "epochs": 1}
        found = analyse.losses(document)
        assert [(loss.where, loss.peer) for loss in found] == [("training digits", "reference")] * listed
        if listed:
            assert found[0].ratio == pytest.approx(ratio)
            assert "training digits" in report.html_report(document)
        else:
            assert "In this run there is none." in report.text_report(document)

    def test_ours_chooses_its_threads_and_the_others_are_at_their_best(self, document):
        ones = document["units"]["training/digits"]["contestants"]
        for name, seconds in (("fastmlp", 2.0), ("reference", 4.0)):
            ones[name] |= {"seconds": [seconds, seconds], "epochs": 1}
            ones[f"{name}-1"] = copy.deepcopy(ones[name]) | {"threads": 1, "seconds": [seconds / 4, seconds / 4]}
        found = analyse.comparisons(document)[0]
        assert found.ours.name == "fastmlp"
        assert found.rivals["reference"].name == "reference-1"
        assert found.ratio(found.rivals["reference"]) == pytest.approx(0.5)

    @pytest.mark.parametrize("threads", [[1], [1, None]])
    def test_predictions_count_with_any_numbers_of_threads(self, threads):
        seconds = {"fastmlp-1": 1.0, "fastmlp": 2.0, "onnx_runtime-1": 0.5, "onnx_runtime": 0.8}
        ones = {
            one.name: {
                "peer": one.peer.name, "threads": one.threads, "error": None, "difference": 0.0, "trains": True,
                "one_row": {"median": seconds[one.name], "p99": seconds[one.name]}, "many_rows": [seconds[one.name]],
            }
            for one in contestants([PEERS["fastmlp"], PEERS["onnx_runtime"]], threads)
        }  # fmt: skip
        unit = {"problem": "higgs", "network": "28-64-64-2", "rows": 4096, "calls": 1, "tolerance": 1.0, "contestants": ones}
        ours = 1e6 * seconds["fastmlp" if None in threads else "fastmlp-1"]
        found = [(loss.where, loss.peer, loss.ours, loss.theirs) for loss in analyse.losses(document_of(inference__higgs=unit))]
        wheres = [f"inference higgs, {what}" for what in ("one row", "one row, p99", "4096 rows")]
        assert found == [(where, "onnx_runtime", ours, 5e5) for where in wheres]
        labels = {label.get_text() for axes in pictures.inference([unit]).axes for label in axes.get_yticklabels()}
        assert labels == {"fastmlp", "onnx_runtime"}


class TestCompare:
    @pytest.fixture
    def documents(self):
        """A run, and what it would be if each epoch took twice the time: measuring both lets the machine decide, too."""
        unit = measured(PROBLEMS["digits"], [PEERS["fastmlp"]], 100, replace(SMALL, rounds=compare.FEWEST_ROUNDS))
        for one in unit["contestants"].values():
            one["seconds"] = [one["seconds"][0] * (1 + 0.01 * turn) for turn in range(len(one["seconds"]))]
        tile = run.conditions()
        old = document_of(training__digits=unit | {"conditions": [tile, tile]})
        new = copy.deepcopy(old)
        for one in new["units"]["training/digits"]["contestants"].values():
            one["seconds"] = [2 * seconds for seconds in one["seconds"]]
        return old, new

    def test_a_slower_kernel_is_found(self, documents, tmp_path, capsys):
        paths = [tmp_path / "old.json", tmp_path / "new.json"]
        for path, document in zip(paths, documents, strict=True):
            run.write(path, document)
        assert main(["--report", str(paths[1]), "--compare", str(paths[0])]) == 1
        row = columns_of(capsys.readouterr().out.partition("Since then")[2])
        assert row["verdict"] == "slower"
        assert float(row["cost after / before"]) == pytest.approx(2, rel=0.01)
        assert main(["--report", str(paths[0]), "--compare", str(paths[1])]) == 0
        assert columns_of(capsys.readouterr().out.partition("Since then")[2])["verdict"] == "faster"
        assert main(["--report", str(paths[0]), "--compare", str(paths[0])]) == 0
        assert columns_of(capsys.readouterr().out.partition("Since then")[2])["verdict"] == "no difference"

    def test_few_rounds_say_nothing(self, documents):
        for document in documents:
            for one in document["units"]["training/digits"]["contestants"].values():
                one["seconds"] = one["seconds"][:1]
                one["waited"] = one["waited"][:1]
        assert [change.verdict for change in compare.changes(*documents)] == ["too few rounds to tell"]

    def test_a_slower_machine_is_no_change(self, documents):
        old, new = documents
        assert [change.verdict for change in compare.changes(old, new)] == ["slower"]
        for moment in new["units"]["training/digits"]["conditions"]:
            moment["tile"] = {dtype: rate / 2 for dtype, rate in moment["tile"].items()}
        assert [change.verdict for change in compare.changes(old, new)] == ["no difference"]

    @pytest.mark.parametrize("rounds", [compare.FEWEST_DRAWN, 15])
    def test_interval_holds_the_ratio_as_often_as_it_says(self, rounds):
        rng = np.random.default_rng(0)
        held = 0
        for trial in range(300):
            before, after = rng.normal(1.0, 0.1, rounds), rng.normal(1.3, 0.1, rounds)
            ratio, low, high = compare.interval(before, after, seed=trial)
            assert low <= ratio <= high
            held += low <= 1.3 <= high
        assert held >= 0.97 * 300

    @pytest.mark.parametrize("rounds", [compare.FEWEST_ROUNDS, compare.FEWEST_DRAWN])
    def test_what_few_rounds_say_is_called_a_range(self, documents, rounds):
        for document in documents:
            for one in document["units"]["training/digits"]["contestants"].values():
                one["seconds"] = [one["seconds"][0] * (1 + 0.01 * turn) for turn in range(rounds)]
                one["waited"] = [None] * rounds
        (change,) = compare.changes(*documents)
        assert change.verdict == "slower"
        few = rounds < compare.FEWEST_DRAWN
        assert ("(range)" if few else "(99% interval)") in report.comparison_report([change])
        if few:
            assert (change.low, change.high) == pytest.approx((2 / 1.02, 2 * 1.02))

    def test_only_what_both_have_measured(self):
        unit = measured(PROBLEMS["digits"], [PEERS["fastmlp"]], 100)
        other = copy.deepcopy(unit) | {"rows": 99}
        assert compare.changes(document_of(training__digits=other), document_of(training__digits=unit)) == []


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
    @pytest.mark.parametrize(("share", "marked"), [(0.0, False), (0.5, True), (None, False)])
    def test_waiting_for_processors_is_marked(self, share, marked):
        unit = measured(PROBLEMS["digits"], [PEERS["fastmlp"]], 100)
        one = unit["contestants"]["fastmlp"]
        one["waited"] = [None if share is None else share * seconds for seconds in one["seconds"]]
        document = document_of(training__digits=unit)
        assert any("threads waited for a processor (fastmlp 50%" in line for line in analyse.marks(document)) == marked

    @pytest.mark.parametrize(("rounds", "marked"), [((1.0, 1.0, 1.0, 1.1), False), ((1.0, 1.0, 1.5, 1.6), True)])
    def test_unstable_rounds_are_marked(self, rounds, marked):
        unit = measured(PROBLEMS["digits"], [PEERS["fastmlp"]], 100)
        unit["contestants"]["fastmlp"] |= {"seconds": list(rounds), "waited": [0.0] * 4}
        lines = analyse.marks(document_of(training__digits=unit))
        assert any(line.startswith("UNSTABLE: on digits the rounds of fastmlp") for line in lines) == marked

    @pytest.mark.skipif(machine.seconds_waited() is None, reason="this system does not count waiting")
    def test_waiting_is_seen_when_processors_are_taken(self):
        trainee = trainee_of(Training(lambda: sum(range(10_000_000)), lambda: None))
        # More spinners than processors: somebody must wait, whatever else the machine does.
        code = "import time; end = time.perf_counter() + 0.5\nwhile time.perf_counter() < end: pass"
        spinners = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2 * (os.cpu_count() or 1))]
        seconds, waited = trainee.timed(epochs=1)
        for spinner in spinners:
            spinner.wait()
        assert waited > 0
        assert seconds > 0

    @pytest.mark.parametrize(("counted", "seconds"), [((5, 0), 0.0), ((5, 2 * 10**9), 2.0), ((0, 0), None), (None, None)])
    def test_who_has_not_waited_yet_is_counted(self, counted, seconds, monkeypatch):
        """A system that does not count says that nothing has even run."""
        monkeypatch.setattr(machine, "_scheduled", lambda process: counted)
        assert machine.seconds_waited() == seconds

    def test_statistics(self):
        unit = measured(PROBLEMS["digits"], [PEERS["null"]], 15)
        unit["contestants"]["null"] |= {"seconds": [5e-6, 1e-6, 3e-6, 2e-6, 4e-6], "waited": [None] * 5, "epochs": 1}
        assert analyse.comparison(unit).timings["null"].quartiles == pytest.approx((1, 2, 3, 4))

    @pytest.mark.parametrize(
        ("value", "shown"), [(123456, "123456"), (123.4, "123"), (1.2345, "1.23"), (0.0123, "0.0123"), (0.0, "0"), (None, "-")]
    )
    def test_numbers(self, value, shown):
        assert number(value) == shown

    @pytest.mark.parametrize(
        ("counts", "said"),
        [
            (["all"], "Each peer with all threads; fastmlp has to choose itself."),
            ([1], "Each peer, fastmlp, too, with 1 thread."),
            ([1, "all"], "Each peer with 1 or all threads, whichever was fastest, found afterwards; fastmlp has to choose itself."),
            ([1, 2, 4], "Each peer, fastmlp, too, with 1, 2 or 4 threads, whichever was fastest, found afterwards."),
        ],
    )
    def test_which_numbers_of_threads_were_measured_is_said(self, counts, said):
        document = document_of(training__digits=measured(PROBLEMS["digits"], [PEERS["null"]], 15))
        document["options"]["threads"] = counts
        assert said in report.text_report(document)

    def test_markdown_holds_the_same_tables(self, done):
        text = (done[2] / "out.md").read_text()
        for chapter in report.chapters(done[1]):
            assert f"## {chapter.title}" in text
            for row in chapter.table:
                assert "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" in text

    def test_html_is_one_file_with_everything_in_it(self, done):
        text = (done[2] / "out.html").read_text()
        assert not re.search(r"(src|href)=.(https?:)?//", text)
        assert "<script" not in text
        ids = re.findall(r'\bid="([^"]+)"', text)
        assert len(ids) == len(set(ids))
        assert text.count("<svg") == sum(chapter.picture is not None for chapter in report.chapters(done[1]))

    def test_what_is_shown_is_escaped(self):
        unit = measured(PROBLEMS["digits"], [PEERS["null"]], 15)
        document = document_of(training__digits=unit | {"problem": "<script>alert(1)</script>"})
        assert "<script" not in report.html_report(document).replace("<svg", "").split("<svg")[0]

    def test_readme_between_the_marks(self, done, tmp_path):
        readme = tmp_path / "README.md"
        readme.write_text("before\n<!-- speed -->\nold\n<!-- /speed -->\nafter\n")
        assert main(["--report", str(done[2] / "out.json"), "--readme", str(readme)]) == 0
        text = readme.read_text()
        assert text.startswith("before\n<!-- speed -->\n")
        assert text.endswith("\n<!-- /speed -->\nafter\n")
        assert "old" not in text
        assert "| digits | 64-15-10 |" in text


def git(folder, *arguments):
    """In the repository of a folder, also where a hook of another one runs the tests: what it tells git would lead there."""
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *arguments], cwd=folder, env=machine.without_git(), check=True, capture_output=True)


needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git on this system")


@needs_git
def test_a_commit_is_of_what_is_measured_and_of_what_measures(tmp_path, monkeypatch):
    for folder in ("fastmlp", "benchmarks/results"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.py").write_text("1")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "benchmarks/machine.py"))
    first = machine.commit()
    assert len(first) == 12
    (tmp_path / "benchmarks/results/a.py").write_text("2")
    assert machine.commit() == first
    for folder in ("fastmlp", "benchmarks"):
        (tmp_path / folder / "a.py").write_text("2")
        assert machine.commit() == f"{first}-dirty"
        git(tmp_path, "add", folder)
        git(tmp_path, "commit", "-m", "another")
        assert machine.commit() not in (first, f"{first}-dirty")
        first = machine.commit()


@needs_git
def test_a_commit_is_that_of_the_folder_also_in_a_hook_of_another_repository(tmp_path, monkeypatch):
    for folder in ("own", "other"):
        (tmp_path / folder / "fastmlp").mkdir(parents=True)
        (tmp_path / folder / "fastmlp/a.py").write_text(folder)
        for arguments in (["init"], ["add", "."], ["commit", "-m", folder]):
            git(tmp_path / folder, *arguments)
    (tmp_path / "own/benchmarks").mkdir()
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "own/benchmarks/machine.py"))
    expected = machine.commit()
    assert len(expected) == 12
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other/.git"))
    assert machine.commit() == expected


class TestStored:
    @pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
    def test_results_can_be_read_and_are_whole(self, path):
        document = run.read(path)
        assert document["complete"]
        assert not document["options"]["quick"]
        sections = {key.partition("/")[0] for key in document["units"]}
        assert sections == set(document["options"]["sections"]) == set(run.SECTIONS)
        assert {one.problem for one in analyse.comparisons(document)} == set(PROBLEMS)
        assert not any(one.disagreeing for one in analyse.comparisons(document))

    @pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
    def test_the_report_beside_them_is_theirs(self, path):
        assert path.with_suffix(".md").read_text(encoding="utf-8") == report.markdown_report(run.read(path))

    def test_the_readme_s_table_is_theirs(self):
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        assert report.with_table(readme, report.readme_table(run.read(STORED[0]))) == readme


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of the stored results: every chapter and picture there is."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(report.html_report(run.read(STORED[0])), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser():
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium with its driver on this system")
class TestInBrowser:
    @pytest.mark.parametrize("width", [390, 1400])
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_report(self, browser, page, width, scheme):
        document = run.read(STORED[0])
        chapters = report.chapters(document)
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme_ = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme_)
        browser.get(page.as_uri())
        assert browser.execute_script("return window.innerWidth") == width
        headings = browser.execute_script("return [...document.querySelectorAll('h2')].map(e => e.textContent)")
        assert headings == [chapter.title for chapter in chapters]
        pictures = browser.execute_script(
            "return [...document.querySelectorAll('figure svg')].map(e => { const b = e.getBoundingClientRect();"
            "return [b.width, b.height, e.querySelectorAll('path').length] })"
        )
        assert len(pictures) == sum(chapter.picture is not None for chapter in chapters)
        assert all(w > 300 and h > 100 and paths > 10 for w, h, paths in pictures)
        colours = browser.execute_script(
            "return [...new Set([...document.querySelectorAll('#training figure path')].map(e => getComputedStyle(e).fill))]"
        )
        assert len(colours) > 5  # a bar's is its peer's
        # Nothing is wider than the page but what can be scrolled by itself.
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        over = browser.execute_script(
            "return [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll')"
            "&& e.getBoundingClientRect().right > window.innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
        )
        assert over == []
        cells = browser.execute_script(
            "return [...document.querySelectorAll('table')].map(t => [...t.rows].map(r => [...r.cells].map(c => c.textContent)))"
        )
        assert cells == [chapter.table for chapter in chapters if chapter.table]
        ink, paper = browser.execute_script(
            "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor].map(c => c.match(/\\d+/g).map(Number))"
        )
        assert (sum(ink) > sum(paper)) == (scheme == "dark")


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

    @pytest.mark.parametrize("architecture", [None, "another"])
    def test_costs_of_another_processor_are_said_to_be(self, stored, architecture, capsys):
        content = json.loads(stored.read_text())
        content["machine"]["architecture"] = architecture or content["machine"]["architecture"]
        stored.write_text(json.dumps(content))
        check.main(["--problems", "digits", "--rounds", "1"])
        said = f"Stored on another processor, {machine.cpu_model()} (another)"
        assert (said in capsys.readouterr().out) == (architecture is not None)

    def test_a_case_that_is_compared_with_nothing_is_named(self, stored, capsys):
        stored.write_text('{"costs": {"digits: another": 1.0}}')
        assert check.main(["--problems", "digits", "--rounds", "1"]) == 1
        assert "NOT COMPARED: digits: step" in capsys.readouterr().out

    def test_of_all_problems_nothing_may_be_stored_that_is_not_measured(self):
        costs, stored = {"a": 1.0}, {"a": 1.0, "b": 1.0}
        assert check.uncompared(costs, stored, list(PROBLEMS)) == ["b"]
        assert check.uncompared(costs, stored, ["digits"]) == []

    def test_no_number_is_slower(self):
        assert check.slower({"a": float("nan")}, {"a": 1.0}) == ["a"]

    def test_the_repository_stores_all_cases(self):
        stored = json.loads(check.STORED.read_text())["costs"]
        with check.cases(list(PROBLEMS)) as cases:
            assert stored.keys() == cases.keys()
