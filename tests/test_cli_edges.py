"""The command line at its edges: places that cannot be written, pipes, odd names of columns and files, Ctrl-C at the beginning."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from fastmlp import MLP
from fastmlp.data import cached, from_files
from fastmlp.data.files import Csv, TableError, names_of
from fastmlp.data.model import MOST_EPOCHS, TableModel
from fastmlp.data.preparation import missing_column
from fastmlp.io import load
from tests.test_cli import write_idx
from tests.test_invariants import ROOT, run_python

Y = ["--target", "y"]
pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes of other systems")


def write_table(path, header="x,z,y", rows=100):
    random = np.random.default_rng(0)
    lines = [f"{n % 5},{random.random():.3f},{'ab'[n % 5 > 2]}" for n in range(rows)]
    path.write_text("\n".join([header, *lines]), "utf-8")


@pytest.fixture
def table(tmp_path):
    write_table(tmp_path / "t.csv")
    return tmp_path


@pytest.fixture
def locked(tmp_path, monkeypatch):
    """A folder in which no file can be made; for the administrator, too, whom the system would let."""
    (tmp_path / "locked").mkdir()
    system = os.open

    def refusing(path, flags, *more, **options):
        if flags & os.O_CREAT and "locked" in os.fspath(path).split(os.sep):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return system(path, flags, *more, **options)

    monkeypatch.setattr(os, "open", refusing)


def refuse_to_work(*_, **__):
    pytest.fail("work has begun")


class TestPlacesThatCannotBeWritten:
    """Each is found before a table is read."""

    @pytest.fixture(autouse=True)
    def _before_the_work(self, table, locked, monkeypatch):
        monkeypatch.setattr("fastmlp.data.tables.read_tables", refuse_to_work)

    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (["--out", "no/m"], 2, "--out must be a file in a folder that exists, got 'no/m'.\n"),
            (["--plot", "no/m.png"], 2, "--plot must be a file in a folder that exists, got 'no/m.png'.\n"),
            (
                ["--out", "locked/m"], 1,
                "--out is locked/m, which cannot be written (Permission denied); give a name in another folder.\n",
            ),
            (
                ["--plot", "locked/m.png"], 1,
                "--plot is locked/m.png, which cannot be written (Permission denied); give a name in another folder.\n",
            ),
            (
                ["--resume", "no/c"], 2,
                "Checkpoint cannot write to 'no/c': there is no folder 'no'; give another name with --resume.\n",
            ),
            (
                ["--resume", "locked/c"], 1,
                "Checkpoint cannot write to 'locked/c': Permission denied; give another name with --resume.\n",
            ),
            (["--resume", "locked"], 2, "--resume must be a file, but 'locked' is a folder; give a file in it.\n"),
            (["--cache", "no"], 2, "--cache must be a folder that is there, got no.\n"),
            (
                ["--cache", "locked"], 1,
                "--cache is locked, which cannot be written to (Permission denied); give another folder.\n",
            ),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )  # fmt: skip
    def test_of_a_training(self, command, table, arguments, code, message):
        found, out, errors = command("train", "t.csv", *Y, *arguments)
        assert (found, out, errors.replace("\\", "/")) == (code, "", message)
        assert sorted(path.name for path in table.iterdir()) == ["locked", "t.csv"]
        assert list((table / "locked").iterdir()) == []

    def test_of_the_demonstration(self, command, monkeypatch):
        monkeypatch.setattr("fastmlp.cli.demo.Digits.load", refuse_to_work)
        assert command("train", "--out", "locked") == (1, "", "Could not write to locked: Permission denied.\n")

    def test_trying_leaves_what_is_there(self, table):
        from fastmlp.files import check_writable

        before = (table / "t.csv").read_bytes()
        check_writable(table / "t.csv")
        check_writable(table / "new")
        assert (table / "t.csv").read_bytes() == before
        assert sorted(path.name for path in table.iterdir()) == ["locked", "t.csv"]


class TestOddNamesOfFiles:
    @pytest.mark.parametrize("option", ["FILE", "--out", "--plot", "--resume", "--validate"])
    def test_longer_than_a_name_can_be(self, command, table, option):
        name = 300 * "n" + ".png"
        code, out, errors = command("train", *([name] if option == "FILE" else ["t.csv", option, name]), *Y)
        assert (code, out, errors.count("\n")) == (1, "", 1)
        assert "name too long" in errors

    @pytest.mark.parametrize("option", ["FILE", "--out", "--resume"])
    @pytest.mark.skipif(os.name == "nt", reason="links of other systems")
    def test_a_link_that_leads_to_itself(self, command, table, option):
        (table / "loop").symlink_to("loop")
        code, out, errors = command("train", *(["loop"] if option == "FILE" else ["t.csv", option, "loop"]), *Y)
        assert (code, out, errors.count("\n")) == (1, "", 1)
        assert "loop" in errors

    @pytest.mark.parametrize(
        "arguments",
        [
            ["train", "", *Y],
            *(["train", "t.csv", *Y, option, ""] for option in ("--validate", "--validate-target", "--out", "--plot", "--resume")),
            ["train", "t.csv", *Y, "--cache", ""],
            ["predict", "m", ""],
            ["predict", "m", "t.csv", "--out", ""],
            ["evaluate", "", "t.csv"],
            ["evaluate", "m", "t.csv", "--target", ""],
            ["info", ""],
        ],
        ids=" ".join,
    )
    def test_none_at_all_is_not_this_folder(self, command, table, arguments):
        code, out, errors = command(*arguments)
        assert (code, out) == (2, "")
        assert "The name is empty" in errors

    def test_one_that_is_not_there(self, command, tmp_path):
        (tmp_path / "data").mkdir()
        for name, folder in (("t.csv", tmp_path), ("data/t.csv", tmp_path / "data")):
            sentence = f"There is no file {name!r}. It was looked for in the folder {str(folder)!r}; give one that is there.\n"
            assert command("train", name, *Y) == (1, "", sentence)

    def test_a_long_ending_is_not_what_was_meant(self, command, tmp_path):
        (tmp_path / "people.safetensors").write_bytes(b"")
        assert "Did you mean" not in command("info", "nowhere.safetensors")[2]
        assert "Did you mean 'people.safetensors'?" in command("info", "poeple.safetensors")[2]

    @pipes
    def test_what_is_no_file_is_not_replaced(self, command, table):
        os.mkfifo(table / "device")
        code, _, errors = command("train", "t.csv", *Y, "--out", "device", "--force")
        assert (code, errors) == (2, "--out must be a file in a folder that exists, got 'device'.\n")
        assert (table / "device").is_fifo()


@pipes
class TestPipes:
    SAID = "pipe is a pipe or a device, which cannot be read twice; write its content to a file, and give that.\n"

    @pytest.mark.parametrize(
        "arguments",
        [
            ["train", "pipe", *Y],
            ["train", "pipe"],
            ["train", "t.csv", *Y, "--validate", "pipe"],
            ["train", "t.csv", *Y, "--resume", "pipe"],
            ["predict", "pipe", "t.csv"],
            ["predict", "m", "pipe"],
            ["evaluate", "pipe", "t.csv"],
            ["export", "pipe", "m.py"],
            ["info", "pipe"],
        ],
        ids=" ".join,
    )
    def test_cannot_be_read_twice(self, command, table, arguments):
        os.mkfifo(table / "pipe")
        assert command(*arguments) == (2, "", self.SAID)

    def test_in_a_folder(self, command, table):
        (table / "folder").mkdir()
        os.mkfifo(table / "folder" / "pipe.csv")
        code, _, errors = command("train", "folder", *Y)
        assert (code, errors) == (2, f"folder/{self.SAID}".replace("pipe", "pipe.csv", 1))

    def test_dash(self, command, table):
        sentence = "- is no file, and a pipe cannot be read twice; write its content to a file, and give that.\n"
        assert command("train", "-", *Y) == (2, "", sentence)


class TestResume:
    def test_with_fewer_epochs_than_there_are(self, command, table):
        options = ["--resume", "c", "--quiet", "--force", "--out", "m"]
        assert command("train", "t.csv", *Y, *options, "--epochs", "3")[0] == 0
        before = {path.name: path.read_bytes() for path in table.iterdir()}
        assert command("train", "t.csv", *Y, *options, "--epochs", "2") == (
            1, "",
            "c has 3 epochs already, but this training is to have 2 at most; give --epochs 3 or more, or another name with "
            "--resume.\n",
        )  # fmt: skip
        assert {path.name: path.read_bytes() for path in table.iterdir()} == before
        assert command("train", "t.csv", *Y, *options, "--epochs", "3")[0] == 0
        assert (table / "m").read_bytes() == before["m"]

    def test_a_file_for_each_epoch_is_none_to_go_on_from(self, command, table):
        said = "--resume is one file, which each epoch replaces, got 'c-{epoch}'; leave {epoch} out.\n"
        before = sorted(table.iterdir())
        assert command("train", "t.csv", *Y, "--epochs", "2", "--out", "m", "--resume", "c-{epoch}") == (2, "", said)
        assert sorted(table.iterdir()) == before

    def test_what_is_exported_is_the_best_so_far(self, command, table):
        """As what is predicted: a checkpoint has the parameters of the last epoch, too, which are others here."""
        options = ["--target", "z", "--set", "learning_rate=0.01", "--resume", "c", "--out", "m", "--quiet"]
        assert command("train", "t.csv", *options)[0] == 0
        assert not np.array_equal(load("c").theta, load("m").theta)
        for name in "cm":
            assert command("export", name, f"{name}.py")[0] == 0
        assert (table / "c.py").read_text() == (table / "m.py").read_text()


class TestNamesOfColumns:
    @pytest.mark.parametrize(
        "options",
        [
            ["--categories", '"x, or so",z'],
            ["--categories", 'z, "x, or so"'],
            ["--categories", '"x, or so"', "--categories", "z"],
        ],
    )
    def test_with_a_comma(self, command, table, options):
        write_table(table / "t.csv", '"x, or so",z,y')
        code, _, errors = command("train", "t.csv", *Y, "--epochs", "1", *options)
        assert (code, errors) == (0, "")
        info = json.loads(command("info", "t.safetensors", "--json")[1])
        assert info["features"][0]["name"] == "x, or so"
        assert info["features"][0]["categories"] == ["0", "1", "2", "3", "4"]
        assert "categories" in info["features"][1]

    def test_a_quote_without_its_other(self, command, table):
        code, _, errors = command("train", "t.csv", *Y, "--categories", 'z,"x')
        assert (code, errors) == (
            2, "--categories must be names such as zip,month, in quotes where they have a comma, as in CSV; got 'z,\"x'.\n"
        )  # fmt: skip

    def test_are_told_apart_in_errors(self, command, table):
        write_table(table / "t.csv", '"x, or so","z\n1",y')
        said = "--target is missing: which column is to be predicted? t.csv has 'x, or so', 'z\\n1', y.\n"
        assert command("train", "t.csv") == (2, "", said)

    @pytest.mark.parametrize("target", ["probability of a", "predicted probability of a"])
    def test_a_target_that_is_called_as_a_column_of_the_output(self, command, table, target):
        import pyarrow.parquet

        write_table(table / "t.csv", f"x,z,{target}")
        assert command("train", "t.csv", "--target", target, "--epochs", "1")[0] == 0
        predict = ["predict", "t.safetensors", "t.csv", "--proba"]
        first = json.loads(command(*predict, "--json")[1].splitlines()[0])
        assert len(first) == 3
        assert first[target] in ("a", "b")
        assert sum(value for name, value in first.items() if name != target) == pytest.approx(1)
        assert command(*predict)[1].splitlines()[0] == ",".join(first)
        assert command(*predict, "--out", "p.parquet")[0] == 0
        assert pyarrow.parquet.read_table("p.parquet").column_names == list(first)


class TestDemonstration:
    @pytest.fixture(autouse=True)
    def _soon_done(self, monkeypatch):
        monkeypatch.setattr("fastmlp.cli.demo.EPOCHS", 2)

    def test_quiet(self, command):
        code, out, errors = command("train", "--quiet")
        first, second, last = out.splitlines()
        assert (code, errors) == (0, "")
        assert first.startswith("squared_error: accuracy ")
        assert second.startswith("cross_entropy: accuracy ")
        assert last.startswith("Written: fastmlp-digits")

    def test_json(self, command, tmp_path):
        code, out, errors = command("train", "--json", "--out", "here")
        assert (code, errors, out.count("\n")) == (0, "", 1)
        done = json.loads(out)
        assert [result["loss"] for result in done["results"]] == ["squared_error", "cross_entropy"]
        assert all(result["agrees"] and 0 < result["accuracy"] <= 1 for result in done["results"])
        for name in (done["picture"], *(result["model"] for result in done["results"])):
            assert (tmp_path / name).is_file()

    def test_what_cannot_be_written_is_named(self, command, monkeypatch):
        def fail(*_, **__):
            raise OSError(errno.ENOSPC, "No space left on device", "elsewhere")

        monkeypatch.setattr("fastmlp.cli.demo.demonstrate", fail)
        assert command("train", "--quiet") == (1, "", "elsewhere: No space left on device.\n")

    @pytest.mark.parametrize("option", ["--quiet", "--json"])
    def test_a_difference_is_said_all_the_same(self, command, monkeypatch, option):
        monkeypatch.setattr("fastmlp.cli.demo.LOSS_TOLERANCE", -1.0)
        code, _, errors = command("train", option)
        assert (code, errors) == (1, "The losses of fastmlp and of plain NumPy differ, which they must not.\n")


def test_one_epoch_is_not_several(command, table):
    assert "Trained for 1 epoch, kept" in command("train", "t.csv", *Y, "--epochs", "1")[1]


class TestBytesThatAreNoText:
    @pytest.fixture(autouse=True)
    def _possible(self, tmp_path):
        try:
            (tmp_path / "\udcff").touch()
        except (OSError, UnicodeError):
            pytest.skip("names of files are text here")

    @pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
    def test_in_the_name_of_a_file(self, command, table, ending):
        write_table(table / "\udcff.csv")
        assert command("train", "\udcff.csv", *Y, "--epochs", "1", "--quiet", "--out", "m")[0] == 0
        assert command("predict", "m", "\udcff.csv", "--out", f"\udcff-p.{ending}", "--quiet") == (0, "", "")
        assert (table / f"\udcff-p.{ending}").stat().st_size > 0

    @pytest.mark.parametrize("options", [["--target", "\udcfe"], [*Y, "--categories", "\udcfe"]])
    def test_in_the_name_of_a_column(self, command, table, options):
        code, out, errors = command("train", "t.csv", *options)
        assert (code, out, errors.count("\n")) == (1, "", 1)


@pytest.mark.skipif(os.name == "nt", reason="descriptors of other systems")
def test_an_output_that_is_closed(command, table):
    assert command("train", "t.csv", *Y, "--epochs", "1")[0] == 0
    done = subprocess.run(
        [sys.executable, "-m", "fastmlp", "evaluate", "t.safetensors", "t.csv"],
        cwd=table, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        preexec_fn=lambda: os.close(1),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(os.name == "nt", reason="pipes and devices of other systems")
@pytest.mark.parametrize(
    "arguments",
    [["predict", "m", "t.csv"], ["predict", "m", "t.csv", "--json"], ["evaluate", "m", "t.csv"], ["info"]],
    ids=" ".join,
)
class TestOutputsThatTakeNothing:
    """What is said of them is a sentence or nothing, not what Python says of an output that it cannot flush."""

    @staticmethod
    def run(command, folder, arguments, output):
        assert command("train", "t.csv", *Y, "--epochs", "1", "--out", "m", "--quiet")[0] == 0
        done = subprocess.run(
            [sys.executable, "-m", "fastmlp", *arguments],
            cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}, stdout=output, stderr=subprocess.PIPE,
            text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, done.stderr

    def test_a_pipe_that_nobody_reads(self, command, table, arguments):
        reading, writing = os.pipe()
        os.close(reading)
        try:
            assert self.run(command, table, arguments, writing) == (1, "")
        finally:
            os.close(writing)

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
    def test_a_full_disk(self, command, table, arguments):
        with open("/dev/full", "w") as full:
            assert self.run(command, table, arguments, full) == (1, "No space left on device.\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"]], ids=" ".join)
def test_help_that_a_full_disk_does_not_take(tmp_path, arguments):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fastmlp", *arguments],
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
            check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "No space left on device.\n")


def test_predictions_that_were_killed_leave_no_room_taken(command, table):
    assert command("train", "t.csv", *Y, "--epochs", "1", "--quiet")[0] == 0
    left = table / f".p.csv.{'0' * 20}.tmp"
    left.write_text("half of the predictions")
    os.utime(left, (0, 0))
    assert command("predict", "t.safetensors", "t.csv", "--out", "p.csv", "--quiet")[0] == 0
    assert not left.exists()


@pytest.mark.skipif(os.name == "nt", reason="signals of other systems")
class TestTermination:
    """By timeout, a scheduler or a container that is stopped: it ends as Python ends."""

    @staticmethod
    def end(folder, arguments, begun):
        """Terminate a command as soon as it has written to a file or a folder; one that is empty may only be a trial."""

        def has_begun():
            with contextlib.suppress(FileNotFoundError):
                return any(path.stat().st_size for path in folder.glob(begun))
            return False

        process = subprocess.Popen(
            [sys.executable, "-m", "fastmlp", *arguments],
            cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        give_up = time.monotonic() + 60
        with process:
            while not (found := has_begun()) and process.poll() is None and time.monotonic() < give_up:
                time.sleep(0.01)
            process.terminate()
            _, errors = process.communicate(timeout=60)
        assert found
        return process.returncode, errors

    def test_no_half_of_the_predictions_is_left(self, command, table):
        assert command("train", "t.csv", *Y, "--epochs", "1", "--quiet")[0] == 0
        write_table(table / "long.csv", rows=1_000_000)
        arguments = ["predict", "t.safetensors", "long.csv", "--out", "p.csv"]
        assert self.end(table, arguments, ".p.csv.*.tmp") == (128 + signal.SIGTERM, "")
        assert not list(table.glob("*p.csv*"))

    def test_no_copy_of_the_rows_is_left(self, table):
        (table / "cache").mkdir()
        arguments = ["train", "t.csv", *Y, "--epochs", "1000000", "--stream", "--cache", "cache", "--quiet"]
        assert self.end(table, arguments, "cache/fastmlp-*/0") == (128 + signal.SIGTERM, "")
        assert not list((table / "cache").iterdir())


def test_kernels_that_cannot_be_kept_for_another_reason(command, monkeypatch):
    def fail(_):
        raise OSError(errno.EIO, "Input/output error", "kernels")

    monkeypatch.setattr("fastmlp.engine.compile_kernels", fail)
    assert command("warmup") == (1, "", "kernels: Input/output error.\n")


class TestSeparators:
    @pytest.mark.parametrize("separator", ["§", '"', "\n", "\r"])
    def test_that_cannot_be(self, command, table, separator):
        said = f"separator must be an ASCII character, and neither a quote nor a line end, got {separator!r}."
        assert command("train", "t.csv", *Y, "--separator", separator) == (2, "", f"--{said}\n")
        with pytest.raises(ValueError, match="separator must be an ASCII character"):
            Csv(separator)

    @pytest.mark.parametrize("separator", ["\t", " ", "!", "\x1f"])
    def test_that_can_be(self, table, separator):
        (table / "t.csv").write_text(f"x{separator}y\n1{separator}a\n")
        assert names_of(table / "t.csv", Csv(separator)) == ["x", "y"]

    @pytest.mark.parametrize("separator", ["§", '"'])
    def test_that_a_file_names(self, table, separator):
        (table / "t.csv").write_text(f"sep={separator}\nx,y\n1,a\n", "utf-8")
        with pytest.raises(TableError, match=r"t\.csv: The first line says 'sep=.'; only ASCII, and no quote, separates columns"):
            names_of(table / "t.csv")
        assert names_of(table / "t.csv", Csv(",")) == ["x", "y"]


def test_a_model_that_is_called_as_the_target(command, table):
    """Only of IDX is the target a file, which nobody wants replaced."""
    assert command("train", "t.csv", *Y, "--epochs", "1", "--out", "y", "--quiet")[0] == 0
    assert load(table / "y").sizes[-1] == 2
    write_idx(table / "pictures", np.arange(400).reshape(100, 2, 2) % 256)
    write_idx(table / "labels", np.arange(100) % 2)
    code, _, errors = command("train", "pictures", "--target", "labels", "--out", "labels", "--force")
    assert (code, errors) == (2, "--out is labels, which this command needs itself; give another name.\n")


class TestPredictionsWithoutLimits:
    @pytest.fixture(autouse=True)
    def _model(self, table):
        """The exponential of a number that is not scaled."""
        (table / "n.csv").write_text("x,y\n" + "".join(f"{n},{n}\n" for n in range(50)))
        source = from_files(table / "n.csv", "y").prepared(task="regression", scale=False)
        net = MLP((1, 1), "exponential", "poisson")
        net.w[0][:] = 1
        TableModel(net, source.preparation).save(table / "m")
        (table / "far.csv").write_text("x,y\n1,1\n1e5,1\n")
        (table / "farther.csv").write_text("x,y\n1,1\n1e300,1\n")

    def test_are_null_in_json(self, command, table):
        code, out, errors = command("predict", "m", "far.csv", "--json")
        first, second = map(json.loads, out.splitlines())
        assert (code, errors) == (0, "")
        assert first == {"y": pytest.approx(np.e)}
        assert second == {"y": None}
        assert command("predict", "m", "far.csv", "--out", "p.jsonl", "--quiet")[0] == 0
        assert (table / "p.jsonl").read_text() == out

    def test_cannot_be_evaluated(self, command):
        code, out, errors = command("evaluate", "m", "far.csv")
        assert (code, out, errors.count("\n")) == (1, "", 1)
        assert errors.startswith("far.csv: The predictions cannot be measured: ")

    @pytest.mark.parametrize("action", ["predict", "evaluate"])
    def test_nor_made_of_what_is_no_float32(self, command, action):
        said = "farther.csv: Column 'x' has a number that is too large for float32; correct it, or remove its row.\n"
        assert command(action, "m", "farther.csv") == (1, "", said)


def test_errors_that_are_no_number_are_no_empty_line(command, tmp_path):
    (tmp_path / "n.csv").write_text("x,y\n" + "".join(f"{n},{n / 3}\n" for n in range(90)))
    assert command("train", "n.csv", "--target", "y", "--epochs", "1", "--quiet")[0] == 0
    (tmp_path / "far.csv").write_text("x,y\n1,1e308\n2,-1e308\n")
    assert command("evaluate", "n.safetensors", "far.csv") == (0, "y, 2 rows: the errors are too large for a number\n", "")
    (tmp_path / "one.csv").write_text("x,y\n1,1\n")
    assert command("evaluate", "n.safetensors", "one.csv")[1].startswith("y, 1 row: mean absolute error ")


def words_of(shown):
    """Of help, which is drawn in boxes, and in colours where an environment asks for them, as CI's does."""
    return " ".join(re.sub(r"\x1b\[[\d;]*m|[^\w.,;]", " ", shown).split())


def test_how_many_epochs_there_are_at_most_is_said(command, table):
    """Where they are not given; the help says it without what would have to be imported for it."""
    code, out, _ = command("train", "t.csv", *Y, "--max-time", "0.001")
    assert code == 0
    assert f"until the validation rows improve no more, {MOST_EPOCHS} at most " in out
    assert f"unless given, by early stopping, {MOST_EPOCHS} at most." in words_of(command("train", "--help")[1])


@pytest.mark.parametrize("variable", ["GITHUB_ACTIONS", "FORCE_COLOR"])
def test_the_help_is_understood_in_colours(variable):
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    done = subprocess.run(
        [sys.executable, "-m", "fastmlp", "train", "--help"],
        env=environment | {"PYTHONPATH": str(ROOT), "TERM": "xterm", variable: "true"},
        capture_output=True, timeout=120, check=True,
    )  # fmt: skip
    shown = done.stdout.decode("utf-8", "replace")
    assert "\x1b[1" in shown
    assert f"unless given, by early stopping, {MOST_EPOCHS} at most." in words_of(shown)


def test_a_category_that_is_one_number(command, table):
    source = from_files(table / "t.csv", "z", categories=["x"]).prepared(task="regression", categories="ordinal")
    TableModel(MLP((source.n_features, 1), "identity"), source.preparation).save(table / "m")
    described = dict(line.strip().split(maxsplit=1) for line in command("info", "m")[1].splitlines())
    assert described["x"] == "its place among 0, 1, 2, 3, 4 as a number from 0 to 1, 0.5 if never seen"
    assert described["y"] == "its place among a, b as a number from 0 to 1, 0.5 if never seen"


class TestOptionsThatSayNothing:
    """They are refused, rather than ignored."""

    @pytest.fixture(autouse=True)
    def _files(self, command, table):
        import pyarrow.csv
        import pyarrow.parquet

        (table / "both").mkdir()
        for name in ("t.parquet", "both/t.parquet"):
            pyarrow.parquet.write_table(pyarrow.csv.read_csv(table / "t.csv"), table / name)
        (table / "both" / "t.csv").write_text((table / "t.csv").read_text().replace(",", "!"))
        write_idx(table / "pictures", np.arange(400).reshape(100, 2, 2) % 256)
        write_idx(table / "labels", np.arange(100) % 2)
        assert command("train", "t.csv", *Y, "--epochs", "1", "--out", "m", "--quiet")[0] == 0

    @pytest.mark.parametrize("option", [["--separator", ";"], ["--no-header"], ["--header"], ["--decimal", "."]], ids=" ".join)
    @pytest.mark.parametrize(
        "arguments",
        [
            ["train", "t.parquet", *Y, "--out", "x"],
            ["train", "pictures", "--target", "labels", "--out", "x"],
            ["predict", "m", "t.parquet"],
            ["evaluate", "m", "t.parquet"],
        ],
        ids=" ".join,
    )
    def test_about_csv_where_there_is_none(self, command, arguments, option):
        file = next(argument for argument in arguments if argument in ("t.parquet", "pictures"))
        said = f"{option[0]} is for CSV, which {file} is not; leave it out.\n"
        assert command(*arguments, *option) == (2, "", said)

    def test_about_csv_where_there_is_some(self, command, table):
        form = ["--separator", "!"]
        assert command("predict", "m", "both", *form, "--out", "p.csv", "--quiet")[0] == 0
        assert command("evaluate", "m", "both", *form, "--quiet")[0] == 0
        options = ["--epochs", "1", "--out", "x", "--quiet", "--force"]
        assert command("train", "both", *Y, *form, *options)[0] == 0
        assert command("train", "t.parquet", *Y, "--validate", "both/t.csv", *form, *options)[0] == 0

    @pytest.mark.parametrize("option", [["--cache", "both"], ["--set", "buffer_bytes=100000"]], ids=" ".join)
    def test_about_reading_in_parts(self, command, option):
        name = "--cache" if option[0] == "--cache" else "--set buffer_bytes"
        said = "{} is for rows that are read in parts, and {} is read whole; leave it out{}.\n"
        whole = command("train", "t.csv", *Y, "--out", "x", *option)
        assert whole == (2, "", said.format(name, "t.csv", ", or add --stream"))
        pictures = command("train", "pictures", "--target", "labels", "--out", "x", *option)
        assert pictures == (2, "", said.format(name, "pictures", ""))
        assert command("train", "t.csv", *Y, "--out", "x", "--epochs", "1", "--quiet", "--stream", *option)[0] == 0

    def test_about_a_file_that_is_not_written(self, command):
        assert command("predict", "m", "t.csv", "--force") == (2, "", "--force replaces the file of --out, which is missing.\n")

    def test_no_dropout_without_hidden_layers(self, command):
        options = ["--epochs", "1", "--out", "x", "--force"]
        assert "rate 0.001, dropout 0.1, batches" in command("train", "t.csv", *Y, *options)[1]
        assert "rate 0.001, batches" in command("train", "t.csv", *Y, *options, "--hidden", "none")[1]


def test_a_cache_that_is_full_has_a_name_on_the_command_line_too(table, monkeypatch):
    kept = cached(from_files(table / "t.csv", "y", categories=["y"]), table)
    monkeypatch.setattr(type(kept), "_path", lambda self, _: self._folder)  # which is no file
    with pytest.warns(UserWarning, match=r"Name a folder with more room, by --cache or cached\(source, folder\)"):
        assert sum(len(piece.x) for piece in kept.pieces(0)) == 100


def test_colons_in_names_are_no_emoji(command, table):
    (table / "t.csv").write_text((table / "t.csv").read_text().replace(",a", ",:a:").replace(",b", ",:b:"))
    code, out, errors = command("train", "t.csv", *Y, "--epochs", "1", "--out", "m")
    assert (code, errors) == (0, "")
    assert "2 classes (:a:, :b:)" in out
    code, out, _ = command("evaluate", "m", "t.csv")
    assert code == 0
    assert out.count(":a:") == out.count(":b:") == 2


class TestBeginning:
    """What happens before there is a command."""

    @pytest.mark.parametrize(
        "interrupted",
        ["os.kill(os.getpid(), signal.SIGINT)", "type('', (), {'__del__': lambda _: os.kill(os.getpid(), signal.SIGINT)})()"],
        ids=["in a module", "where Python swallows it"],
    )
    @pytest.mark.skipif(os.name == "nt", reason="signals of other systems")
    def test_ctrl_c_while_modules_are_imported(self, tmp_path, interrupted):
        (tmp_path / "typer.py").write_text(f"import os, signal, time\n{interrupted}\ntime.sleep(0.5)\n")
        done = subprocess.run(
            [sys.executable, "-c", "from fastmlp.__main__ import main; main()", "info"],
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}, capture_output=True, text=True,
            timeout=60, check=False, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (130, "", "")

    def test_ctrl_c_is_python_s_again_when_the_command_begins(self):
        printed = run_python(
            """
            import signal, sys
            import fastmlp.cli
            from fastmlp.__main__ import main

            fastmlp.cli.app = lambda **_: print(signal.getsignal(signal.SIGINT) is given)
            for given in (signal.default_int_handler, signal.SIG_IGN):
                signal.signal(signal.SIGINT, given)
                main()
            """
        )
        assert printed == "True\nTrue\n"

    def test_help_needs_no_kernels(self):
        printed = run_python(
            """
            import sys
            from fastmlp.__main__ import main

            sys.argv = ["fastmlp", "--help"]
            try:
                main()
            finally:
                print("numba" in sys.modules, "sklearn" in sys.modules, "pyarrow" in sys.modules)
            """
        )
        assert printed.endswith("False False False\n")


def test_a_table_that_cannot_be_read_to_its_end_is_named(command, table, monkeypatch):
    from fastmlp.data import files

    assert command("train", "t.csv", *Y, "--epochs", "1", "--out", "m.safetensors")[0] == 0
    whole = files.batches_as

    def failing(*arguments):
        yield from whole(*arguments)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files, "batches_as", failing)
    code, _, errors = command("predict", "m.safetensors", "t.csv", "--out", "p.csv")
    assert (code, errors) == (1, "t.csv cannot be read: Input/output error.\n")
    assert not list(table.glob("*p.csv*"))


@pytest.fixture
def other_table(tmp_path):
    random = np.random.default_rng(0)
    lines = [f"{n % 5},{random.random():.3f},{'ab'[n % 5 > 2]}" for n in range(100)]
    (tmp_path / "t.csv").write_text("\n".join(["x,z,y", *lines]), "utf-8")
    return tmp_path


def test_a_checkpoint_of_rows_to_train_on_that_have_changed(command, other_table):
    """Also where neither what is learned of the columns nor a row to validate on is another."""
    lines = (other_table / "t.csv").read_text().splitlines()
    options = ["train", "t.csv", *Y, "--resume", "c", "--out", "m", "--quiet", "--force"]
    assert command(*options, "--epochs", "1")[0] == 0
    before = (other_table / "c").read_bytes()
    for row in np.random.default_rng(0).permutation(100)[20:32]:  # the first 20 are for the report alone
        x, z, y = lines[1 + row].split(",")
        (other_table / "t.csv").write_text("\n".join([*lines[: 1 + row], f"{x},{z},{'ab'[y == 'a']}", *lines[2 + row :]]))
        code, _, errors = command(*options, "--epochs", "2")
        assert (code, errors.count("other rows or columns")) == (1, 1)
        assert (other_table / "c").read_bytes() == before


@pytest.mark.parametrize(
    ("hidden", "code"), [("9" * 18, 1), (",".join(["9" * 18] * 3), 1), ("9" * 5000, 2)], ids=["one", "three", "long"]
)
def test_layers_that_no_memory_holds(command, other_table, hidden, code):
    found, out, errors = command("train", "t.csv", *Y, "--hidden", hidden, "--quiet")
    assert (found, out, errors.count("\n")) == (code, "", 1)


@pytest.mark.parametrize("text", ["9" * 400, "9" * 308 + "h"], ids=["seconds", "hours"])
def test_times_that_are_no_number(command, other_table, text):
    assert command("train", "t.csv", *Y, "--max-time", text) == (
        2,
        "",
        f"--max-time must be a time such as 60s, 5m or 2h, got {text!r}.\n",
    )


def test_names_that_are_no_single_words(command, tmp_path):
    names = ["plain", "two\nlines", "a, b", "\x1b[31mred"]
    assert missing_column("y", names).endswith("The columns are: plain, 'two\\nlines', 'a, b', '\\x1b[31mred'.")
    lines = [f"{n},{n * n},{n % 7},{n % 3},{'ab'[n % 2]}" for n in range(60)]
    (tmp_path / "t.csv").write_text('plain,"two\nlines","a, b",\x1b[31mred,y\n' + "\n".join(lines))
    assert command("train", "t.csv", *Y, "--epochs", "1", "--quiet")[0] == 0
    code, out, _ = command("info", "t.safetensors")
    assert code == 0
    assert out.replace("\n", "").isprintable()
    assert out.count("\n") == 11


@pytest.mark.parametrize(
    "arguments", [["info", "t.safetensors"], ["evaluate", "t.safetensors", "t.csv"], ["predict", "t.safetensors", "t.csv"]]
)
@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_what_is_redirected_is_utf_8(command, tmp_path, arguments, encoding):
    (tmp_path / "t.csv").write_text("größe,y\n" + "\n".join(f"{n},{'äb'[n % 2]}" for n in range(60)), "utf-8")
    assert command("train", "t.csv", *Y, "--epochs", "1", "--quiet")[0] == 0
    out = subprocess.run(
        [sys.executable, "-m", "fastmlp", *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        timeout=60,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding},
    ).stdout.decode("utf-8")
    assert "\\" not in out.replace("true \\ predicted", "")
    assert "ä" in out


def test_what_info_says_is_enough_to_prepare_a_row(command, tmp_path):
    times = 1_700_000_000 + np.random.default_rng(0).integers(0, 259_200, 200)
    (tmp_path / "t.csv").write_text("when,y\n" + "\n".join(f"{time},{'ab'[time // 43_200 % 2]}" for time in times))
    assert command("train", "t.csv", *Y, "--epochs", "1", "--quiet")[0] == 0
    facts = json.loads(command("info", "t.safetensors", "--json")[1])
    (feature,) = facts["features"]
    said = command("info", "t.safetensors")[1].partition("(value - ")[2]
    mean, scale = float(said.partition(")")[0]), float(said.partition(") / ")[2].split()[0])
    assert abs((mean - feature["mean"]) / feature["scale"]) < 1e-6
    assert abs(scale / feature["scale"] - 1) < 1e-6
    assert facts["clipped_at"] == 10


def test_a_model_that_could_not_be_written_is_not_trained(command, other_table, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setattr("fastmlp.data.tables.read_tables", lambda *_: pytest.fail("work has begun"))
    code, out, errors = command("train", "t.csv", *Y)
    assert (code, out, errors) == (1, "", "safetensors is needed for this and is not installed: pip install 'fastmlp[cli]'.\n")
