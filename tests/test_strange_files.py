"""Tables as people have them, and what they may get wrong: a sensible result or one helpful sentence, never a traceback."""

from __future__ import annotations

import bz2
import errno
import gzip
import json
import lzma
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pyarrow
import pytest

from fastmlp.data import csv_form, from_files
from fastmlp.data.csv_form import form_of
from fastmlp.data.files import Csv, TableError, names_of, read_batches, read_table
from fastmlp.data.model import TableModel
from fastmlp.data.preparation import Number
from fastmlp.io import load
from tests.test_invariants import ROOT

ROWS = [(number % 100, ("red", "green")[number * 7 % 3 == 0]) for number in random.Random(0).sample(range(1000), 200)]


def label(age, colour):
    return "yes" if (age > 50) ^ (colour == "red") else "no"


def table(header="age,colour,y", line=lambda number, age, colour: f"{age},{colour},{label(age, colour)}", end="\n"):
    lines = [line(number, age, colour) for number, (age, colour) in enumerate(ROWS)]
    return "".join(f"{one}{end}" for one in ([header] if header else []) + lines)


Y = ["--target", "y"]
TRAIN = [*Y, "--epochs", "2", "--out", "m.safetensors", "--force"]

HOW = pytest.mark.parametrize("how", ["--no-stream", "--stream"])
"""Tables are read whole, or in parts while training; what is wrong with them is the same."""

GOOD = {
    "mark": ("\ufeff" + table()).encode(),
    "crlf": table(end="\r\n").encode(),
    "old mac": table(end="\r").encode(),
    "line breaks in quotes": table(line=lambda n, a, c: f'{a},"{c}\nand ""more"", here",{label(a, c)}').encode(),
    "tabs": table("age\tcolour\ty", lambda n, a, c: f"{a}\t{c}\t{label(a, c)}").encode(),
    "decimal commas": table("age;colour;y", lambda n, a, c: f"{a},5;{c};{label(a, c)}").encode(),
    "gzip": gzip.compress(table().encode()),
    "blank lines": table().replace("\n", "\n\n").encode(),
    "comma at the end": table("age,colour,y,", lambda n, a, c: f"{a},{c},{label(a, c)},").encode(),
    "no values": table("age,none,colour,y", lambda n, a, c: f"{a},,{c},{label(a, c)}").encode(),
    "one value": table("age,one,colour,y", lambda n, a, c: f"{a},5,{c},{label(a, c)}").encode(),
    "large whole numbers": table("age,n,colour,y", lambda n, a, c: f"{a},{2**63 - 1 - n},{c},{label(a, c)}").encode(),
    "larger ones": table("age,n,colour,y", lambda n, a, c: f"{a},{10**30 + n},{c},{label(a, c)}").encode(),
    "infinity": table(line=lambda n, a, c: f"{a if n % 9 else 'inf'},{c},{label(a, c)}").encode(),
    "dates": table("age,day,colour,y", lambda n, a, c: f"{a},2024-01-{n % 28 + 1:02},{c},{label(a, c)}").encode(),
    "truth values": table(line=lambda n, a, c: f"{a},{c},{str(label(a, c) == 'yes').lower()}").encode(),
    "a target with holes": table(line=lambda n, a, c: f"{a},{c},{label(a, c) if n % 5 else ''}").encode(),
    "spaces": table("age, colour, y", lambda n, a, c: f"{a}, {c}, {label(a, c)}").encode(),
    "separated by spaces": table("age colour y", lambda n, a, c: f"{a} {c} {label(a, c)}").encode(),
    "numbers beyond all squares": table("age,n,colour,y", lambda n, a, c: f"{a},{(-1) ** n}e308,{c},{label(a, c)}").encode(),
    "names that look like markup": table("[bold]age,[/red],y", lambda n, a, c: f"{a},[{c}],[/{label(a, c)}]").encode(),
    "comments": ("# made by hand\n#, for you, and you\n\n" + table()).encode(),
    "a comment before tabs": ("# made, by, hand\n" + table("age\tcolour\ty", lambda n, a, c: f"{a}\t{c}\t{label(a, c)}")).encode(),
    "a comment, crlf": gzip.compress(("# made by hand\n" + table()).replace("\n", "\r\n").encode()),
    "what is for Excel": ("sep=;\n" + table("age;colour;y", lambda n, a, c: f"{a};{c};{label(a, c)}")).encode(),
    "and a mark": ("\ufeffsep=|\r\n" + table("age|colour|y", lambda n, a, c: f"{a}|{c}|{label(a, c)}", "\r\n")).encode(),
    "a title": ("Report of 2024\n\n" + table()).encode(),
    "titles": ("Report of 2024\r\nmade by hand\r\n\r\n" + table().replace("\n", "\r\n")).encode(),
    "a title with a comma": ('"Report, 2024"\n' + table()).encode(),
    "a title as Excel writes it": ("Report of 2024,,\n,,\n" + table()).encode(),
    "a title before tabs": ("Report, 2024\n" + table("age\tcolour\ty", lambda n, a, c: f"{a}\t{c}\t{label(a, c)}")).encode(),
    "colons": table("age:colour:y", lambda n, a, c: f"{a}:{c}:{label(a, c)}").encode(),
    "circumflexes": table("age^colour^y", lambda n, a, c: f"{a}^{c}^{label(a, c)}").encode(),
    "names after #": ("# a comment\n" + table("#age,colour,y")).encode(),
    "numbers in the header": table("2023,colour,y").encode(),
    "a class of one row": table(line=lambda n, a, c: f"{a},{c},{'rare' if n == 7 else label(a, c)}").encode(),
}  # fmt: skip


@HOW
@pytest.mark.parametrize("name", GOOD)
def test_a_table_that_can_be_learned(command, tmp_path, name, how):
    """And predicted, with the same form."""
    (tmp_path / "t.csv").write_bytes(GOOD[name])
    code, out, errors = command("train", "t.csv", *TRAIN, how)
    assert (code, errors) == (0, "")
    assert "y, " in out
    code, out, errors = command("evaluate", "m.safetensors", "t.csv")
    assert (code, errors) == (0, "")
    code, out, errors = command("predict", "m.safetensors", "t.csv")
    assert (code, errors) == (0, "")
    assert len(out.splitlines()) == 201


@HOW
@pytest.mark.parametrize("rare", range(0, 200, 23))
def test_a_class_that_only_rows_held_out_have(command, tmp_path, rare, how):
    """Wherever its one row goes, the class is known, and the report is written."""
    (tmp_path / "t.csv").write_text(table(line=lambda n, a, c: f"{a},{c},{'rare' if n == rare else label(a, c)}"))
    assert command("train", "t.csv", *TRAIN, how)[0] == 0
    assert load(tmp_path / "m.safetensors").sizes[-1] == 3


@HOW
def test_whole_numbers_that_are_too_many_for_classes(command, tmp_path, how):
    """However few of them the rows to train on have: 21, one of which is rare."""
    (tmp_path / "t.csv").write_text(table(line=lambda n, a, c: f"{a},{c},{20 if n == 92 else n % 20}"))
    code, out, _ = command("train", "t.csv", *TRAIN, how, "--json")
    assert (code, json.loads(out)["task"]) == (0, "regression")


@HOW
def test_rows_without_a_target_are_counted(command, tmp_path, how):
    (tmp_path / "t.csv").write_text(table(line=lambda n, a, c: f"{a},{c},{label(a, c) if n % 5 else 'NA'}"))
    out = command("train", "t.csv", *TRAIN, how)[1]
    assert "40 without a target" in out
    to_train, to_validate, to_test = (int(word) for word in out.partition("\nrows")[2].split("\n")[0].split() if word.isdigit())
    assert to_train + to_validate + to_test == 160
    assert f"y, {to_test} rows" in out
    (tmp_path / "v.csv").write_text(table())
    assert "40 without a target" in command("train", "t.csv", *TRAIN, how, "--validate", "v.csv")[1]
    assert "without a target" not in command("train", "v.csv", *TRAIN, how)[1]


@pytest.mark.parametrize("target", ["y", "2023"])
def test_a_header_of_numbers_is_known_by_the_target(tmp_path, target):
    (tmp_path / "t.csv").write_text(table("2023,2024,y", lambda n, a, c: f"{a},{n},{a / 2}"))
    source = from_files(tmp_path / "t.csv", target)
    assert (source.rows, source.n_features) == (200, 2)


@pytest.mark.parametrize("before", ["", "# a comment\n"])
def test_rows_that_begin_with_a_hash_are_no_comments(tmp_path, before):
    (tmp_path / "t.csv").write_text(before + "#sale,a,x\n#new,b,y\nold,c,z\n")
    assert read_table(tmp_path / "t.csv").num_rows == 2  # and names
    (tmp_path / "t.csv").write_text(before + "#sale,1,x\n#new,2,y\nold,3,z\n")
    assert read_table(tmp_path / "t.csv").num_rows == 3


def parquet(path, **columns):
    import pyarrow.parquet

    ages, colours = zip(*ROWS, strict=True)
    there = {"age": pyarrow.array(ages), "colour": pyarrow.array(colours), "y": [label(*row) for row in ROWS]}
    pyarrow.parquet.write_table(pyarrow.table(there | columns), path)


@HOW
def test_columns_of_every_type(command, tmp_path, how):
    """Those that are of no use are left out."""
    n, a = len(ROWS), [age for age, _ in ROWS]
    columns = {
        "decimal": pyarrow.array(a, pyarrow.decimal128(10, 2)), "half": pyarrow.array(np.array(a, np.float16)),
        "unsigned": pyarrow.array(a, pyarrow.uint64()), "truth": pyarrow.array([age > 3 for age in a]),
        "view": pyarrow.array([str(age % 3) for age in a]).cast(pyarrow.string_view()),
        "dictionary": pyarrow.array([None if age % 5 == 0 else str(age % 3) for age in a]).dictionary_encode(),
        "numbers in a dictionary": pyarrow.array([age % 3 for age in a]).dictionary_encode(),
        "list": pyarrow.array([[1, 2]] * n), "struct": pyarrow.array([{"a": 1}] * n), "bytes": pyarrow.array([b"x"] * n),
        "day": pyarrow.array([1] * n, pyarrow.date32()), "moment": pyarrow.array([1] * n, pyarrow.timestamp("ns")),
        "nothing": pyarrow.nulls(n), "byte view": pyarrow.array([b"x"] * n).cast(pyarrow.binary_view()),
    }  # fmt: skip
    parquet(tmp_path / "t.parquet", **columns)
    code, out, errors = command("train", "t.parquet", *TRAIN, how)
    assert (code, errors) == (0, "")
    assert "5 of numbers, 4 of categories, 1 with missing values" in out
    assert out.count("left out") == 7
    for action in ("predict", "evaluate"):
        assert command(action, "m.safetensors", "t.parquet")[::2] == (0, "")


@HOW
@pytest.mark.parametrize("role", ["feature", "target"])
def test_hexadecimal_numbers_are_text(command, tmp_path, how, role):
    """Arrow reads them as whole numbers, unless it is told that there may be decimals, as it is of a column that is known."""
    (tmp_path / "t.csv").write_text(table(line=lambda n, a, c: f"{a},{('0x1A', '0xff')[c == 'red']},{label(a, c)}"))
    target = "y" if role == "feature" else "colour"
    code, _, errors = command("train", "t.csv", *TRAIN, "--target", target, how)
    assert (code, errors) == (0, "")
    preparation = TableModel.load(tmp_path / "m.safetensors").preparation
    codes = preparation.target.classes if role == "target" else preparation.features[1].categories
    assert codes == ("0x1A", "0xff")
    assert command("evaluate", "m.safetensors", "t.csv")[0] == 0


@HOW
def test_views_in_lists_and_records(command, tmp_path, how):
    """Arrow cannot filter them."""
    n, views = len(ROWS), pyarrow.string_view()
    record = pyarrow.struct({"list": pyarrow.list_(views), "n": pyarrow.int8()})
    nested = {
        "list": pyarrow.array([["u", None]] * n, pyarrow.list_(views)),
        "large": pyarrow.array([[["u"]]] * n, pyarrow.large_list(pyarrow.list_(views))),
        "two": pyarrow.array([["u", "v"]] * n, pyarrow.list_(views, 2)),
        "map": pyarrow.array([[("u", b"v")]] * n, pyarrow.map_(pyarrow.string(), pyarrow.binary_view())),
        "record": pyarrow.array([{"list": ["u"], "n": 1}] * n, record),
    }
    parquet(tmp_path / "t.parquet", **nested)
    code, _, errors = command("train", "t.parquet", *TRAIN, how)
    assert (code, errors) == (0, "")
    dropped = TableModel.load(tmp_path / "m.safetensors").preparation.dropped
    assert list(dropped) == list(nested)


@HOW
def test_bytes_in_a_dictionary_are_no_text(command, tmp_path, how):
    parquet(tmp_path / "t.parquet", code=pyarrow.array([b"\xff"] * len(ROWS)).dictionary_encode())
    code, out, errors = command("train", "t.parquet", *TRAIN, how)
    assert (code, errors) == (0, "")
    assert re.search(r"left out: code +it is of the type dictionary<values=binary", out)


@HOW
@pytest.mark.parametrize(
    ("target", "message"),
    [
        (pyarrow.array([[1, 2]] * 200), "The target 'y' is of the type list<element: int64>; it must be of numbers, text or truth"),
        (pyarrow.array([1] * 200, pyarrow.timestamp("s")), "The target 'y' is of the type timestamp"),
        (pyarrow.nulls(200), "The target 'y' has no values."),
    ],
)
def test_targets_of_other_types(command, tmp_path, how, target, message):
    parquet(tmp_path / "t.parquet", y=target)
    code, _, errors = command("train", "t.parquet", *TRAIN, how)
    assert (code, errors.count("\n")) == (1, 1)
    assert message in errors


@HOW
def test_a_parquet_file_with_two_columns_of_a_name(command, tmp_path, how):
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table([[1, 2], [3, 4], [5, 6]], names=["age", "age", "y"]), tmp_path / "t.parquet")
    assert command("train", "t.parquet", *TRAIN, how) == (1, "", "t.parquet has more than one column 'age'.\n")
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]


@HOW
def test_files_that_are_alike_only_in_what_matters(command, tmp_path, how):
    """The order of their columns, other columns, types of numbers and of text, and rows at all may differ."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "0.csv").write_text("age,colour,y")
    (tmp_path / "parts" / "00.csv").write_text("age,colour,y\n\n")
    (tmp_path / "parts" / "1.csv").write_text(table())
    (tmp_path / "parts" / "2.csv").write_text(table("y;more;colour;age", lambda n, a, c: f"{label(a, c)};1;{c};{a},5"))
    parquet(tmp_path / "parts" / "3.parquet", colour=pyarrow.array([c for _, c in ROWS]).dictionary_encode())
    parquet(tmp_path / "parts" / "4.parquet", age=pyarrow.array([float(a) for a, _ in ROWS]), y=pyarrow.array(
        [label(*row) for row in ROWS], pyarrow.large_string()))  # fmt: skip
    code, out, errors = command("train", "parts", *TRAIN, how)
    assert (code, errors) == (0, "")
    assert "1 of numbers, 1 of categories" in out
    _, _, written = command("predict", "m.safetensors", "parts", "--out", "p.csv")
    assert written == "Written: p.csv, 800 rows\n"
    assert command("evaluate", "m.safetensors", "parts")[0] == 0


@HOW
def test_a_column_that_some_files_have(command, tmp_path, how):
    (tmp_path / "parts").mkdir()
    for name, header in enumerate(("age,colour,y", "age,colour,y,more", "age,y")):
        (tmp_path / "parts" / f"{name}.csv").write_text(f"{header}\n" + "1,2,3,4\n"[: 2 * header.count(",") + 1] + "\n")
    code, _, errors = command("train", "parts", *TRAIN, how)
    assert (code, errors) == (1, f"{Path('parts', '2.csv')}: There is no column 'colour'. The columns are: age, y.\n")


@HOW
def test_files_without_any_rows(command, tmp_path, how):
    (tmp_path / "parts").mkdir()
    for name in "01":
        (tmp_path / "parts" / f"{name}.csv").write_text("age,colour,y\n")
    code, _, errors = command("train", "parts", *TRAIN, how)
    assert (code, errors) == (1, f"{Path('parts', '0.csv')} has no rows, nor has any other of the 2 files.\n")


def test_line_breaks_in_quotes_where_arrow_ends_a_block(tmp_path):
    rows = 300_000
    (tmp_path / "t.csv").write_text("note,y\n" + "".join(f'"one\ntwo\nthree {number}",{number}\n' for number in range(rows)))
    assert (tmp_path / "t.csv").stat().st_size > 3 * 2**20
    assert read_table(tmp_path / "t.csv").column("y").to_pylist() == list(range(rows))


def test_values_far_out_do_not_govern_the_loss():
    out = np.empty((4, 1), np.float32)
    Number("age", 40.0, 10.0, False).write(pyarrow.chunked_array([[1e9, -1e9, None, 45.0]]), out)
    assert out[:, 0].tolist() == [10, -10, 0, 0.5]


@pytest.mark.parametrize("header", [False, True])
def test_a_first_line_that_is_longer_than_what_is_looked_at(tmp_path, header):
    columns = 9001
    names = [f"the name {number}" for number in range(columns)] if header else [f"column {n + 1}" for n in range(columns)]
    row = ",".join(f"{number}.5555" for number in range(columns)) + "\n"
    (tmp_path / "t.csv").write_text((",".join(names) + "\n") * header + row * 2)
    assert names_of(tmp_path / "t.csv") == names
    assert read_table(tmp_path / "t.csv").shape == (2, columns)


def test_a_line_break_in_the_first_row(tmp_path):
    (tmp_path / "t.csv").write_text('"one\ntwo",5,x\nthree,6,y\n')
    assert read_table(tmp_path / "t.csv").column("column 1").to_pylist() == ["one\ntwo", "three"]


def test_texts_that_are_longer_than_python_allows_at_first(tmp_path):
    path, long = tmp_path / "t.csv", "x" * 200_000
    path.write_text(f"{long},1\ny,2\n")
    assert read_table(path).column("column 1").to_pylist() == [long, "y"]
    path.write_text(f"a,b\n{long},1\ny,2,3\n")
    with pytest.raises(TableError, match=r"t\.csv, line 3: 3 values where the other lines have 2\.$"):
        read_table(path)


DAMAGED = gzip.compress("".join(f"{n},{n * n % 7919},{'abc'[n * n % 3]}\n" for n in range(200_000)).encode())


@pytest.mark.parametrize(
    "content",
    [
        DAMAGED[: len(DAMAGED) // 2], DAMAGED[:-3], DAMAGED[:-8] + bytes(8), DAMAGED[:-90_000] + b"\xff" * 90_000,
        DAMAGED[:20] + b"\xff" * 90_000, DAMAGED[:2] + b"\xff" * 90_000,
    ],
    ids=["a half", "without its end", "a wrong sum", "changed further down", "changed at the beginning", "of no known way"],
)  # fmt: skip
def test_damaged_gzip_is_named(command, tmp_path, content):
    """Once, however it is read."""
    (tmp_path / "t.csv.gz").write_bytes(content)
    with pytest.raises(TableError, match=r"t\.csv\.gz is damaged: .*[^.]\.$"):
        list(read_batches(tmp_path / "t.csv.gz"))
    for how in ("--no-stream", "--stream"):
        code, _, errors = command("train", "t.csv.gz", "--target", "column 3", "--out", "m.safetensors", how, "--quiet")
        assert (code, errors.count("\n"), errors.count("t.csv.gz"), errors.count(" is damaged: ")) == (1, 1, 1, 1)


def test_a_damaged_first_line(tmp_path):
    """Which is looked for beyond the beginning that is looked at."""
    content = gzip.compress(b",".join(b"%d" % (n * n) for n in range(100_000)))
    (tmp_path / "t.csv.gz").write_bytes(content[:-1000])
    with pytest.raises(TableError, match=r"t\.csv\.gz is damaged: Compressed file ended"):
        names_of(tmp_path / "t.csv.gz")


def test_a_first_row_that_python_cannot_read(tmp_path):
    import csv

    (tmp_path / "t.csv").write_text("a long name,y\n1,2\n")
    limit = csv.field_size_limit(5)
    try:
        with pytest.raises(TableError, match=r"t\.csv cannot be read as CSV: field larger than field limit \(5\)\.$"):
            names_of(tmp_path / "t.csv")
    finally:
        csv.field_size_limit(limit)


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="all names of files are Unicode")
@pytest.mark.parametrize("form", ["csv", "csv.gz", "parquet"])
def test_a_name_that_is_not_utf8(tmp_path, form):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9." + form.encode()))
    if form == "parquet":
        parquet(tmp_path / "t.parquet")
        (tmp_path / "t.parquet").rename(path)
    else:
        path.write_bytes(gzip.compress(table().encode()) if form == "csv.gz" else table().encode())
    assert names_of(path) == ["age", "colour", "y"]
    assert read_table(path).num_rows == 200
    if Path("/proc/self/fd").exists():
        assert str(path) not in [os.path.realpath(one) for one in Path("/proc/self/fd").iterdir()]


@pytest.mark.parametrize(
    ("lines", "values"),
    [
        (["a\tb", "1,5\tx", "-20,25\ty"], [1.5, -20.25]),
        (["a|b", "1,5|x", "7|y"], [1.5, 7]),
        (["a b", "0,125 x", "7 y"], [0.125, 7]),
        (["a;b", "1,234;x", "7;y"], [1.234, 7]),
        (['"a";"b"', '"1,5";"x"', '"7";"y"'], [1.5, 7]),
        (["a;b", "1,5e-7;x", "7;y"], [1.5e-7, 7]),
        (["a\tb", "-1,5E+07\tx", "7\ty"], [-1.5e7, 7]),
        (["a;b", "1.5e-7;1,2", "7;1,3"], [1.5e-7, 7]),
        (["a\tb", "1,234\tx", "7\ty"], ["1,234", "7"]),  # thousands, perhaps
        (["a\tb", "1,5\tx", "1.5\ty"], ["1,5", "1.5"]),
        (["a,b", '"1,5",x', '"2,5",y'], ["1,5", "2,5"]),
    ],
)
def test_decimal_commas_are_guessed_whatever_separates_columns(tmp_path, lines, values):
    (tmp_path / "t.csv").write_text("\n".join(lines))
    assert read_table(tmp_path / "t.csv").column("a").to_pylist() == values


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('"a; b; c",y\n1,2\n', ["a; b; c", "y"]),
        ('x;"one, ""two"", three, four";y\n1;2;3\n', ["x", 'one, "two", three, four', "y"]),
        ("name, first;age\nAnn;5\nBob;7\n", ["name, first", "age"]),
        ('size in 5", 6";age|y\n1|2\n2|3\n', ['size in 5", 6";age', "y"]),
        ("a,b;c\n1,2\n3,4\n", ["a", "b;c"]),
        ("full name:age\nAnn:5\nBob Lee:7\n", ["full name", "age"]),
        ("a^b:c\n1^2\n3^4:5\n", ["a", "b:c"]),
        ("10:00 5 x\n11:00 7 y\n", ["column 1", "column 2", "column 3"]),
        ("time\n10:00\n11:00\n", ["time"]),
        ("text\nhello, world\ngood, bye, world\n", ["text"]),
    ],
)
def test_what_separates_columns_is_guessed(tmp_path, text, names):
    """Not by what is in quotes; and where two are in the first line, by the other lines."""
    (tmp_path / "t.csv").write_text(text)
    assert names_of(tmp_path / "t.csv") == names


def test_numbers_with_decimal_commas(command, tmp_path):
    (tmp_path / "t.csv").write_bytes(GOOD["decimal commas"])
    _, out, _ = command("train", "t.csv", *TRAIN)
    assert "CSV, columns separated by ';', header, decimal commas" in out
    assert "1 of numbers, 1 of categories" in out
    _, out, _ = command("train", "t.csv", *TRAIN, "--decimal", ".")
    assert "0 of numbers, 2 of categories" in out


def test_what_is_guessed_can_be_said(command, tmp_path):
    """Numbers that are names, numbers in the header, and a separator that occurs less often than another."""
    (tmp_path / "t.csv").write_text(table("2023!colour!y", lambda n, a, c: f"{a}!{c},a,b,c!{label(a, c)}"))
    options = ["--separator", "!", "--header"]
    code, out, errors = command("train", "t.csv", *TRAIN, *options, "--categories", "2023")
    assert (code, errors) == (0, "")
    assert "0 of numbers, 2 of categories" in out
    assert command("predict", "m.safetensors", "t.csv", *options)[0] == 0
    assert command("evaluate", "m.safetensors", "t.csv", *options, "--quiet")[0] == 0
    code, _, errors = command("train", "t.csv", *TRAIN, "--separator", "tab")
    assert (code, errors.count("\n")) == (1, 1)


@pytest.mark.parametrize("value", ["abc", "12%", "1 000", "€5"])
def test_a_column_that_is_nearly_all_numbers_is_pointed_out(command, tmp_path, value):
    (tmp_path / "t.csv").write_text(table(line=lambda n, a, c: f"{value if n == 150 else a},{c},{label(a, c)}"))
    assert f"nearly all are numbers, but {value!r} is not" in command("train", "t.csv", *TRAIN)[1]


@pytest.mark.parametrize("notation", ["{:,.2f}", "{:.1f}%", "€{:.2f}"])
def test_numbers_in_another_notation_are_pointed_out(command, tmp_path, notation):
    rows = [(notation.format(1234.5 + 7.3 * n), *ROWS[n % len(ROWS)]) for n in range(500)]
    lines = [f'{a},"{income}",{c},{label(a, c)}\n' for income, a, c in rows]
    (tmp_path / "t.csv").write_text("age,income,colour,y\n" + "".join(lines))
    out = command("train", "t.csv", *TRAIN)[1]
    assert "nearly every row has a text of its own (" in out
    assert re.search(r"; its numbers are written like '[^']+', which is read as text", " ".join(out.split()))
    errors = command("train", "t.csv", "--target", "income", *TRAIN[2:])[2]
    assert re.search(r"to learn them from; its numbers are written like '[^']+', which is read as text\.\n$", errors)


@pytest.mark.parametrize("mark", ["#N/A", "#DIV/0!", "<NA>", "-nan"])
def test_marks_of_spreadsheets_and_programs_are_no_values(tmp_path, mark):
    (tmp_path / "t.csv").write_text(table(line=lambda n, a, c: f"{a if n % 9 else mark},{c},{label(a, c) if n % 7 else mark}"))
    preparation = from_files(tmp_path / "t.csv", target="y").prepared().preparation
    assert (preparation.features[0].name, preparation.features[0].flag) == ("age", True)
    assert isinstance(preparation.features[0], Number)
    assert preparation.target.classes == ("no", "yes")


@pytest.mark.parametrize("mark", ["", "NA", "?"])
def test_missing_values_beside_spaces(tmp_path, mark):
    (tmp_path / "t.csv").write_text(f"age, size, y\n1, 2, a\n3, {mark}, b\n{mark} , 5, \n")
    found = read_table(tmp_path / "t.csv").to_pydict()
    assert found == {"age": [1, 3, None], "size": [2, None, 5], "y": [" a", " b", None]}


@HOW
def test_numbers_that_may_be_thousands_are_pointed_out(command, tmp_path, how):
    lines = table("age;price;y", lambda n, a, c: f"{a};{f'{n % 9}.{100 + n}' if n % 9 else 850};{label(a, c)}")
    (tmp_path / "t.csv").write_text(lines)
    out = " ".join(command("train", "t.csv", *TRAIN, how)[1].split())
    assert "as numbers: price 1.101 is read as 1.101; if it is a thousand and more" in out
    assert "as numbers" not in command("train", "t.csv", *TRAIN, how, "--decimal", ".")[1]
    (tmp_path / "t.csv").write_text(lines.replace("1.101", "1.66", 1))
    assert "as numbers" not in command("train", "t.csv", *TRAIN, how)[1]


@HOW
def test_numbers_that_lose_their_zeros_are_pointed_out(command, tmp_path, how):
    (tmp_path / "t.csv").write_text(table(line=lambda n, a, c: f"{a},{c},{('007', '7', '8')[n % 3]}"))
    out = " ".join(command("train", "t.csv", *TRAIN, how)[1].split())
    assert "as numbers: y 007 is read as 7; named among the --categories, it" in out
    assert "as numbers" not in command("train", "t.csv", *TRAIN, how, "--categories", "y")[1]


def test_thousands_with_points_beside_decimal_commas(tmp_path):
    lines = table("weight;price;y", lambda n, a, c: f"{a},5;{1 + n % 9}.{100 + n};{label(a, c)}")
    (tmp_path / "t.csv").write_text(lines)
    assert form_of(tmp_path / "t.csv").decimal == ","
    (tmp_path / "t.csv").write_text(lines.replace(".", ".4", 1))
    assert form_of(tmp_path / "t.csv").decimal == "."


def test_categories_of_numbers_that_a_program_has_written_with_a_point(tmp_path):
    (tmp_path / "t.csv").write_text(table("month,colour,y", lambda n, a, c: f"{1 + n % 12},{c},{label(a, c)}"))
    preparation = from_files(tmp_path / "t.csv", target="y", categories=["month"]).prepared().preparation
    months = pyarrow.table({"month": ["1.0", "12.0", "1", "1.5", None], "colour": ["red"] * 5})
    expected = pyarrow.table({"month": ["1", "12", "1", "13", None], "colour": ["red"] * 5})
    np.testing.assert_array_equal(preparation.rows(months), preparation.rows(expected))
    assert preparation.rows(months)[:4].sum() == 4 + 3


def test_categories_that_had_a_point_because_values_were_missing(tmp_path):
    """The other way round: new rows, of which none has no value, are written without it."""
    months = [f"{1 + number % 12}.0" if number % 9 else "" for number in range(len(ROWS))]
    (tmp_path / "t.csv").write_text(table("month,colour,y", lambda n, a, c: f"{months[n]},{c},{label(a, c)}"))
    preparation = from_files(tmp_path / "t.csv", target="y", categories=["month"]).prepared().preparation
    assert "12.0" in preparation.features[0].categories
    months = pyarrow.table({"month": ["1", "12", "1.0", "13", "1.5", None], "colour": ["red"] * 6})
    expected = pyarrow.table({"month": ["1.0", "12.0", "1.0", "13.0", "1.5", None], "colour": ["red"] * 6})
    np.testing.assert_array_equal(preparation.rows(months), preparation.rows(expected))
    assert preparation.rows(months).sum() == 6 + 4


BAD = {
    "Latin 1": (table("größe,colour,y").encode("latin-1"), "t.csv, line 1: the byte 0xf6 is not UTF-8; save the file as UTF-8."),
    "Latin 1 further down": (table().encode() * 600 + "1,grün,no\n".encode("latin-1"), "t.csv is not in UTF-8 as a whole"),
    "UTF-16": (table().encode("utf-16"), "t.csv is in UTF-16; save it as UTF-8."),
    "white space": (b"  \n \n", "t.csv has no rows."),
    "a header": (b"age,y\n", "t.csv has no rows."),
    "a header without its end": (b"age,y", "t.csv has no rows."),
    "a header and blank lines": (b"age,y\n\n\n", "t.csv has no rows."),
    "one row": (b"age,y\n1,no\n", "Of 1 rows, a share of 0.2 cannot be held out"),
    "two rows": (b"age,y\n1,no\n2,yes\n", "Of 2 rows, a share of 0.2 cannot be held out"),
    "an Excel file": (b"PK\x03\x04\0\0\1", "t.csv is not a table: it holds bytes that are no text; make CSV or"),
    "an array": (b"\x93NUMPY\1\0", "t.csv is an array of NumPy's; train on it in Python, with fastmlp.data.from_npy."),
    "half a gzip": (gzip.compress(table().encode())[:-20], "t.csv is damaged: Compressed file ended"),
    "a title with a comma": (
        b"Report, 2024\n" + table().encode(), "t.csv, line 2: 3 values where the first line has 2; if that is a title, remove it.",
    ),
    "another separator": (table("age!colour!y", lambda n, a, c: f"{a}!{c}!{label(a, c)}").encode(), "say --separator '!'"),
    "ragged": ((table() + "1,red\n").encode(), "t.csv, line 202: 2 values where the other lines have 3."),
    "an open quote": ((table() + '5,"red,no\n').encode(), "t.csv, line 202: 2 values where the other lines have 3."),
    "ragged after comments": (
        ("# a\n# b,c\n" + table() + "1,red\n").encode(), "t.csv, line 204: 2 values where the other lines have 3."
    ),
    "ragged gzip": (gzip.compress((table() + "1,red\n").encode()), "t.csv, line 202: 2 values where the other lines have 3."),
    "a constant that is not exact": (table(line=lambda n, a, c: f"{a},{c},0.1").encode(), "'y' has one value only, 0.1"),
    "a target beyond all squares": (
        table(line=lambda n, a, c: f"{a},{c},{(-1) ** n}e308").encode(),
        "The target 'y' has numbers too far apart to be learned, from -1e+308 to 1e+308.",
    ),
    "dates to predict": (table(line=lambda n, a, c: f"{a},{c},2024-01-01").encode(), "'y' is of the type date32[day]; it must"),
    "names that spaces tell apart": (table("age,age ,y").encode(), "t.csv has more than one column 'age'."),
    "two commas at the end": (
        table("age,colour,y,,", lambda n, a, c: f"{a},{c},{label(a, c)},,").encode(),
        "t.csv has 2 columns without a name; give each",
    ),
    "a constant": (table(line=lambda n, a, c: f"{a},{c},7.5").encode(), "The target 'y' has one value only, 7.5"),
    "names": (table(line=lambda n, a, c: f"{a},{c},name {n}").encode(), "'y' has 200 classes, but there are only 136 rows"),
    "one class, and NA": (
        table(line=lambda n, a, c: f"{a},{c},{'NA' if n % 2 else 'EU'}").encode(), "none: empty cells, NA, None and the like)"
    ),
    "nothing to learn from": (
        table("n,y", lambda n, a, c: f"{(-1) ** n}e308,{label(a, c)}").encode(),
        "no column to learn from beside the target ('n' is left out: its numbers are too far apart",
    ),
    "no header": (
        table("", lambda n, a, c: f"{a},{c},{label(a, c)}").encode(),
        "The columns are: column 1, column 2, column 3. The first line was taken for a row, not for their names; --header, or",
    ),
    "a footer": ((table() + "made by hand\n").encode(), "t.csv, line 202: 1 value where the other lines have 3."),
    "JSON": (b'{"age": 5, "y": 3}\n{"age": 7, "y": 3}\n', "t.csv is JSON; make CSV or Parquet of it."),
    "a list of JSON": (b'[\n  {"age": 5, "y": 3},\n  {"age": 7, "y": 3}\n]', "t.csv is JSON; make CSV or Parquet of it."),
    "bzip2": (bz2.compress(table().encode()), "t.csv is compressed by bzip2; unpack it, or compress it by gzip."),
    "xz": (lzma.compress(table().encode()), "t.csv is compressed by xz; unpack it, or compress it by gzip."),
    "zstandard": (b"\x28\xb5\x2f\xfd\x04\x00", "t.csv is compressed by zstandard; unpack it, or compress it by gzip."),
    "Parquet that is none": (b"PAR1" + bytes(90) + b"PAR1", "t.csv is not a usable Parquet file"),
}  # fmt: skip


NEEDS_THE_WHOLE = {
    "one row": "1 rows are too few to hold some of them out.",
    "two rows": "The target 'y' has one class only, 'yes', in the rows to train on: there is nothing to learn.",
    "a title with a comma": "There is no column 'y'. The columns are: column 1, column 2. The first line was taken for a row",
    "names": "'y' has 200 classes, but there are only ",
}
"""What is said of rows that are read in parts, where that is something else."""


@pytest.mark.parametrize("name", BAD)
def test_a_table_that_cannot(command, tmp_path, name):
    content, message = BAD[name]
    (tmp_path / "t.csv").write_bytes(content)
    for how in ("--no-stream", "--stream"):
        code, _, errors = command("train", "t.csv", *TRAIN, how)
        assert code == 1
        assert message in errors or (how == "--stream" and name in NEEDS_THE_WHOLE and NEEDS_THE_WHOLE[name] in errors)
        assert errors.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


@pytest.fixture
def model(command, tmp_path):
    (tmp_path / "t.csv").write_text(table())
    (tmp_path / "r.csv").write_text(table(line=lambda n, a, c: f"{a},{c},{a * 1.5}"))
    (tmp_path / "header.csv").write_text("age,colour,y\n")
    (tmp_path / "folder").mkdir()
    assert command("train", "t.csv", *TRAIN)[0] == 0
    return tmp_path


class TestUse:
    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (["train", "t.csv", *Y, "--out", "t.csv", "--force"], 2, "--out is t.csv, which this command needs"),
            (["train", "t.csv", *Y, "--plot", "t.csv", "--force"], 2, "--plot is t.csv, which this command needs"),
            (["train", "t.csv", *Y, "--plot", "x.xyz"], 2, "--plot must end with .png, .svg or .pdf, got 'x.xyz'."),
            (["train", "t.csv", *Y, "--resume", "t.csv"], 2, "--resume is t.csv, which is a table"),
            (["train", "t.csv", *Y, "--resume", "m.safetensors"], 1, "it is a model without the state of a training"),
            (["train", "t.csv", *Y, "--resume", "folder"], 2, "'folder' is a folder; give a file in it."),
            (["train", "t.csv", *Y, "--resume", "no/c"], 2, "Checkpoint cannot write to 'no/c': there is no folder 'no'"),
            (["train", "t.csv", *Y, "--out", "folder"], 2, "--out must be a file in a folder that exists, got 'folder'."),
            (["train", "t.csv", *Y, "--validate", "r.csv"], 1, "r.csv: Column 'y' has the class '"),
            (["train", "t.csv", *Y, "--validate", "none.csv"], 1, "There is no file 'none.csv'."),
            (["train", "t.csv", *Y, "--validate", "t.csv", "--test", "0.2"], 2, "both say on what to report"),
            (["train", "t.csv", *Y, "--test", "0.001"], 1, "Of 200 rows, a share of 0.001 cannot be held out"),
            (["train", "t.csv", *Y, "--test", "nan"], 2, "--test must be a share between 0 and 1, got nan."),
            (["train", "t.csv", *Y, "--categories", "colur"], 1, "There is no column 'colur'. Did you mean 'colour'?"),
            (["train", "t.csv", *Y, "--separator", ",,"], 2, "--separator must be one character, or tab, got ',,'."),
            (["train", "t.csv", *Y, "--decimal", "x"], 2, "--decimal must be . or a comma"),
            (["train", "t.csv", *Y, "--hidden", "1000000000000"], 1, "There is not enough memory"),
            (["train", "t.csv", *Y, "--set", "seed=1.5"], 2, "--set seed must be a whole number, got '1.5'."),
            (["train", "t.csv", *Y, "--set", "weight_decay=inf"], 2, "--set weight_decay must be at least 0, got inf."),
            (["train", "t.csv", *Y, "--set", "dropout=1"], 2, "--set dropout must be from 0 to below 1, got 1.0."),
            (["train", "t.csv", "--target", "Y"], 1, "There is no column 'Y'. Did you mean 'y'?"),
            (["train", "t.csv", *Y, "--set", "schedule=cosin"], 2, "Did you mean 'cosine'?"),
            (["train", "t.csv", *Y, "--set", "learning_rate=1e30"], 1, "Training diverged in epoch 1"),
            (["train", "t.csv", *Y, "--task", "regression"], 1, "The target 'y' holds text"),
            (["train", "r.csv", *Y, "--task", "classification"], 1, "is it the right column?"),
            (["predict", "t.csv", "t.csv"], 1, "'t.csv' is not a usable fastmlp model: it is damaged, or no .safetensors file"),
            (["predict", "none", "t.csv"], 1, "There is no file 'none'."),
            (["predict", "m.safetensor", "t.csv"], 1, "There is no file 'm.safetensor'. Did you mean 'm.safetensors'?"),
            (["predict", "m.safetensors", "tt.csv"], 1, "There is no file 'tt.csv'. Did you mean 't.csv'?"),
            (["train", "no/t.csv", *Y], 1, "There is no file 'no/t.csv': there is no folder 'no'."),
            (["predict", "folder", "t.csv"], 1, "'folder' is a folder; give a file in it."),
            (["predict", "m.safetensors", "folder"], 1, "The folder 'folder' has no tables, whose names would end with .parquet"),
            (["predict", "m.safetensors", "t.csv", "--out", "t.csv", "--force"], 2, "--out is t.csv, which this command needs"),
            (["predict", "m.safetensors", "t.csv", "--out", "p.xyz"], 2, "--out must end with .csv, .jsonl or .parquet"),
            (["evaluate", "m.safetensors", "header.csv"], 1, "header.csv: No row has a value of the target 'y'."),
            (["evaluate", "m.safetensors", "r.csv"], 1, "Column 'y' has the class '"),
            (["info", "t.csv"], 1, "'t.csv' is not a usable fastmlp model"),
            (["info", "folder"], 1, "'folder' is a folder; give a file in it."),
            (["export", "t.csv", "m.py"], 1, "'t.csv' is not a usable fastmlp model"),
            (["export", "m.safetensors", "no/m.py"], 2, "The second argument must be a file in a folder that exists"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )  # fmt: skip
    def test_one_sentence_each(self, command, model, arguments, code, message):
        before = {path: path.read_bytes() for path in model.iterdir() if path.is_file()}
        out = ["--out", "x.safetensors"] if arguments[0] == "train" and "--out" not in arguments else []
        found, _, errors = command(*arguments, *out)
        assert found == code
        assert message in errors
        assert errors.count("\n") == 1
        assert {path: path.read_bytes() for path in model.iterdir() if path.is_file()} == before

    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            ({"age": [[1]] * 200}, "Column 'age' is of the type list<element: int64> where there were numbers."),
            ({"age": ["old"] * 200}, "Column 'age' has something else where there were numbers: Failed to parse string: 'old'"),
            ({"colour": [["red"]] * 200}, "Column 'colour' is of the type list<element: string> where there was text."),
            ({"colour": [b"\xff"] * 200}, "Column 'colour' has something else where there was text: Invalid UTF8 payload."),
            ({"y": [[1]] * 200}, "Column 'y' is of the type list<element: int64> where there was text."),
        ],
    )
    def test_a_parquet_file_of_other_types(self, command, model, columns, message):
        parquet(model / "t.parquet", **columns)
        code, _, errors = command("evaluate", "m.safetensors", "t.parquet")
        assert (code, errors.count("\n")) == (1, 1)
        assert f"t.parquet: {message}" in errors

    @pytest.mark.parametrize("how", [[], ["--stream"]])
    def test_categories_that_cannot_be_text(self, command, model, how):
        parquet(model / "t.parquet", odd=[[1]] * 200)
        code, _, errors = command("train", "t.parquet", *TRAIN, "--categories", "odd", *how)
        assert (code, errors) == (1, "Column 'odd' is of the type list<element: int64> where there was text.\n")

    def test_numbers_that_are_too_large_to_square(self, command, model):
        """In a target, and in a column whose values are close to each other."""
        command("train", "r.csv", *TRAIN)
        (model / "huge.csv").write_text("age,colour,y\n1e308,red,1e308\n-1e308,red,-1e308\n")
        assert command("predict", "m.safetensors", "huge.csv")[::2] == (0, "")
        code, out, errors = command("evaluate", "m.safetensors", "huge.csv", "--json")
        assert (code, errors) == (0, "")
        assert json.loads(out)["rmse"] is None
        (model / "close.csv").write_text(table(line=lambda n, a, c: f"{a / 1e6},{c},{a / 1e6}"))
        command("train", "close.csv", *TRAIN)
        assert command("predict", "m.safetensors", "huge.csv")[::2] == (0, "")
        code, _, errors = command("evaluate", "m.safetensors", "huge.csv")
        assert (code, errors) == (1, "huge.csv: No row has a value of the target 'y'.\n")

    @pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
    def test_predictions_of_no_rows(self, command, model, ending):
        code, _, errors = command("predict", "m.safetensors", "header.csv", "--proba", "--out", f"p.{ending}")
        assert (code, errors) == (0, f"Written: p.{ending}, 0 rows\n")
        names = ["y", "probability of no", "probability of yes"]
        if ending == "parquet":
            import pyarrow.parquet

            assert command("predict", "m.safetensors", "t.csv", "--proba", "--out", "some.parquet")[0] == 0
            schema = pyarrow.parquet.read_schema(model / "p.parquet")
            assert (schema.names, schema) == (names, pyarrow.parquet.read_schema(model / "some.parquet"))
        else:
            assert (model / f"p.{ending}").read_text() == (",".join(names) + "\n" if ending == "csv" else "")

    @pytest.mark.parametrize("action", [["predict", "--out", "p.csv", "--force"], ["evaluate"]], ids=lambda action: action[0])
    def test_a_column_with_no_value_that_the_model_knows(self, command, model, action):
        def said(colour):
            (model / "n.csv").write_text(table(line=lambda n, a, c: f"{a},{colour(n, c)},{label(a, c)}"))
            code, _, errors = command(action[0], "m.safetensors", "n.csv", "--quiet", *action[1:])
            assert code == 0
            return errors

        assert said(lambda n, c: "rouge") == (
            "Column 'colour' has no value that the model knows, and tells it nothing: 'rouge', for example, where it knows "
            "'green', 'red'.\n"
        )
        assert said(lambda n, c: c if n == 199 else "rouge") == said(lambda n, c: "") == ""

    def test_predictions_for_programs(self, command, model):
        code, out, _ = command("predict", "m.safetensors", "t.csv", "--proba", "--json")
        assert code == 0
        rows = [json.loads(line) for line in out.splitlines()]
        assert len(rows) == 200
        assert rows[0]["probability of no"] + rows[0]["probability of yes"] == pytest.approx(1)
        assert command("predict", "m.safetensors", "t.csv", "--out", "p.jsonl", "--quiet") == (0, "", "")
        assert [json.loads(line)["y"] for line in (model / "p.jsonl").read_text().splitlines()] == [row["y"] for row in rows]

    def test_quiet_and_json(self, command, model):
        code, out, errors = command("evaluate", "m.safetensors", "t.csv", "--quiet")
        assert (code, out.count("\n"), errors) == (0, 1, "")
        assert json.loads(command("evaluate", "m.safetensors", "t.csv", "--json")[1])["rows"] == 200
        assert json.loads(command("info", "m.safetensors", "--json")[1])["classes"] == ["no", "yes"]
        _, out, errors = command("train", "t.csv", *TRAIN, "--quiet")
        assert out.splitlines()[1:] == ["Written: m.safetensors"]
        assert errors == ""

    @pytest.mark.skipif(os.name == "nt", reason="pipes of other systems")
    def test_an_output_that_nobody_reads_to_the_end(self, command, model):
        (model / "long.csv").write_text(table("age,colour,y") + table("") * 300)
        process = subprocess.Popen(
            [sys.executable, "-m", "fastmlp", "predict", "m.safetensors", "long.csv"],
            cwd=model, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout.readline() == "y\n"
        process.stdout.close()
        assert process.stderr.read() == ""
        process.stderr.close()
        assert process.wait() == 1


class TestResume:
    def test_a_training_that_is_gone_on_with_ends_the_same(self, command, model):
        """Early stopping, the best parameters and the picture's history included."""
        options = ["--target", "y", "--force", "--json", "--set", "learning_rate=0.01"]
        _, whole, _ = command("train", "t.csv", *options, "--out", "whole.safetensors")
        epochs = json.loads(whole)["epochs"]
        assert 21 < epochs < 200
        for part in (1, 3, epochs - 10, epochs):
            command("train", "t.csv", *options, "--out", "part.safetensors", "--resume", "c", "--epochs", part)
        _, again, _ = command("train", "t.csv", *options, "--out", "again.safetensors", "--resume", "c", "--plot", "p.svg")
        for name in ("epochs", "validation_loss", "test"):
            assert json.loads(again)[name] == json.loads(whole)[name]
        assert (model / "again.safetensors").read_bytes() == (model / "whole.safetensors").read_bytes()
        assert (model / "p.svg").stat().st_size > 10_000

    def test_a_checkpoint_is_the_best_model_so_far(self, command, model):
        command("train", "t.csv", "--target", "y", "--out", "best.safetensors", "--resume", "c")
        checkpoint, best = command("predict", "c", "t.csv", "--proba"), command("predict", "best.safetensors", "t.csv", "--proba")
        assert checkpoint == best

    def test_of_other_rows_that_teach_the_same(self, command, model):
        """Of categories, only their names are learned."""
        (model / "c.csv").write_text(table("size,colour,y", lambda n, a, c: f"{'sml'[a % 3]},{c},{label(a, c)}"))
        assert command("train", "c.csv", *TRAIN, "--resume", "c")[0] == 0
        code, _, errors = command("train", "c.csv", *TRAIN, "--resume", "c", "--quiet", "--set", "seed=1")
        assert code == 1
        assert "c is the checkpoint of a training on other rows or columns, or with another seed" in errors

    def test_of_another_network(self, command, model):
        command("train", "t.csv", *TRAIN, "--resume", "c")
        code, _, errors = command("train", "t.csv", *TRAIN, "--resume", "c", "--hidden", "8", "--quiet")
        assert (code, errors) == (
            1,
            "c is the checkpoint of a network 3-64-64-2, but this one is 3-8-2; leave --hidden as it was, or give another name "
            "with --resume.\n",
        )

    @pytest.mark.parametrize("other", [["r.csv", "--set", "seed=0"], ["t.csv", "--set", "seed=1"], ["t.csv", "--test", "0.3"]])
    def test_of_other_rows(self, command, model, other):
        command("train", "t.csv", *TRAIN, "--resume", "c")
        before = (model / "c").read_bytes()
        code, _, errors = command("train", *other, *TRAIN, "--resume", "c", "--quiet")
        assert code == 1
        assert "c is the checkpoint of a training on other rows or columns" in errors
        assert (model / "c").read_bytes() == before


def test_another_table_of_other_types_is_refused_before_the_training(command, model, monkeypatch):
    monkeypatch.setattr("fastmlp.data.model.learn", lambda *_: pytest.fail("the training has begun"))
    parquet(model / "v.parquet", age=["old"] * len(ROWS))
    code, _, errors = command("train", "t.csv", *Y, "--out", "v.safetensors", "--validate", "v.parquet", "--quiet")
    assert (code, errors.count("\n")) == (1, 1)
    assert errors.startswith("v.parquet: Column 'age' has something else where there were numbers")
    assert not (model / "v.safetensors").exists()


def test_ctrl_c_while_a_checkpoint_is_read(command, model, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    assert command("train", "t.csv", *TRAIN, "--resume", "c")[0] == 0
    monkeypatch.setattr("fastmlp.data.model.TableCheckpoint.restore", interrupted)
    code, _, errors = command("train", "t.csv", *TRAIN, "--resume", "c", "--quiet")
    assert (code, errors) == (130, "Interrupted before the end of the first epoch: there is nothing to keep.\n")


def test_ctrl_c_while_the_report_is_made(command, model, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("fastmlp.data.evaluation.evaluate", interrupted)
    (model / "m.safetensors").unlink()
    code, _, errors = command("train", "t.csv", *TRAIN, "--quiet")
    assert (code, errors) == (130, "Interrupted before the report; the model is written: m.safetensors.\n")
    assert load(model / "m.safetensors").sizes == (3, 64, 64, 2)


def test_a_picture_that_cannot_be_written(command, model, monkeypatch):
    """After a training that may have been long."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "p.png")

    monkeypatch.setattr("fastmlp.data.evaluation.plot", full)
    (model / "m.safetensors").unlink()
    code, _, errors = command("train", "t.csv", *TRAIN, "--quiet", "--plot", "p.png")
    assert (code, errors) == (1, "p.png: No space left on device; the model is written: m.safetensors.\n")
    assert load(model / "m.safetensors").sizes == (3, 64, 64, 2)


@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_model_for_which_there_is_no_room_any_more(command, model, monkeypatch, tmp_path_factory, elsewhere):
    """It is not lost, if there is room for it anywhere."""
    temporary = tmp_path_factory.mktemp("temporary")
    save = TableModel.save

    def full(self, path):
        if str(path) == "m.safetensors" or not elsewhere:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        save(self, path)

    monkeypatch.setattr(TableModel, "save", full)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    before = (model / "m.safetensors").read_bytes()
    code, out, errors = command("train", "t.csv", *TRAIN, "--quiet", "--force")
    assert (code, out, (model / "m.safetensors").read_bytes()) == (1, "", before)
    if elsewhere:
        (written,) = temporary.rglob("m.safetensors")
        assert errors == f"m.safetensors: No space left on device; the model is written to {written} instead.\n"
        assert load(written).sizes == (3, 64, 64, 2)
    else:
        assert (errors, list(temporary.iterdir())) == ("m.safetensors: No space left on device.\n", [])


@HOW
@pytest.mark.parametrize("name", ["t.csv", "r.csv"])
def test_a_training_that_diverges_in_its_last_step(command, model, name, how):
    """A loss of rows to train on is that before a step."""
    before = (model / "m.safetensors").read_bytes()
    options = ["--batch-size", "1000", "--epochs", "1", "--set", "learning_rate=1e12"]
    code, out, errors = command("train", name, *TRAIN, "--quiet", how, *options)
    assert (code, out) == (1, "")
    assert errors == (
        "Training diverged: the rows to validate on have no finite loss, at learning_rate=1e+12. No model is written. Try a lower "
        "rate, such as 1e+11.\n"
    )
    assert (model / "m.safetensors").read_bytes() == before


def test_predictions_that_are_not_finite_after_a_training(command, model, monkeypatch):
    """As rows may have that are neither to train nor to validate on."""
    monkeypatch.setattr(TableModel, "outputs", lambda _, rows: np.full(rows.num_rows, np.inf))
    code, _, errors = command("train", "r.csv", *TRAIN, "--quiet")
    assert (code, errors.count("\n")) == (1, 1)
    assert errors.startswith("the rows to test on: The predictions cannot be measured: ")


def test_a_picture_of_each_kind(command, model):
    for table_name, ending in (("t.csv", "png"), ("t.csv", "pdf"), ("r.csv", "svg")):
        assert command("train", table_name, *TRAIN, "--plot", f"p.{ending}")[0] == 0
    assert (model / "p.png").read_bytes().startswith(b"\x89PNG")
    assert (model / "p.pdf").read_bytes().startswith(b"%PDF")
    assert "</svg>" in (model / "p.svg").read_text()


def test_the_picture_shows_losses_the_rate_and_the_matrix(command, model, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    command("train", "t.csv", *TRAIN, "--plot", "p.png", "--epochs", "6", "--set", "schedule=cosine")
    losses, rates, matrix, scale = drawn[0].get_axes()
    assert [text.get_text().split(":")[0] for text in losses.get_legend().get_texts()] == [
        "training rows",
        "validation rows",
        "kept",
    ]
    assert [len(line.get_ydata()) for line in losses.get_lines()] == [6, 6, 1]
    assert list(rates.get_lines()[0].get_ydata()) == sorted(rates.get_lines()[0].get_ydata(), reverse=True)
    assert len(set(rates.get_lines()[0].get_ydata())) == 6
    assert (matrix.get_xlabel(), matrix.get_ylabel(), scale.get_ylabel()) == ("predicted", "true", "share of the true class")
    assert sum(int(text.get_text().split("\n")[0]) for text in matrix.texts) == 40


CLASSES = {
    "leading zeros": ("01", "02", "X1"), "truth and more": ("True", "False", "Maybe"), "numbers and a letter": ("1.0", "2.50", "x"),
    "times": ("12:00", "13:00", "x"), "moments": ("2020-01-02 10:00", "2020-01-03 10:00", "never"),
    "numbers": ("1", "2", "3"), "words": ("a", "b", "c"), "spies": ("007", "008", "009"),
}  # fmt: skip


@HOW
@pytest.mark.parametrize("classes", CLASSES.values(), ids=CLASSES)
def test_some_of_the_classes_are_the_same_classes(command, tmp_path, how, classes):
    """What a column is taken for depends on the values in it; a model knows better."""
    (tmp_path / "t.csv").write_text(table(line=lambda n, a, c: f"{a},{c},{classes[n % 3]}"))
    (tmp_path / "v.csv").write_text(table(line=lambda n, a, c: f"{a},{c},{classes[n % 2]}"))
    code, _, errors = command("train", "t.csv", *TRAIN, how, "--validate", "v.csv")
    assert (code, errors) == (0, "")
    code, out, errors = command("evaluate", "m.safetensors", "v.csv", "--json")
    assert (code, errors, json.loads(out)["rows"]) == (0, "", 200)


@HOW
@pytest.mark.parametrize("column", ["feature", "target"])
def test_decimals_after_a_megabyte_of_whole_numbers(command, tmp_path, how, column):
    rows = 300_000
    where = {
        "feature": lambda n: f"{n % 7}{'.5' * (n > 250_000)},{n % 2}",
        "target": lambda n: f"{n % 7},{n % 99}{'.5' * (n > 250_000)}",
    }
    (tmp_path / "t.csv").write_text("a,y\n" + "".join(f"{where[column](n)}\n" for n in range(rows)))
    code, out, errors = command("train", "t.csv", *Y, "--epochs", "1", "--out", "m.safetensors", how, "--json")
    assert (code, errors) == (0, "")
    assert json.loads(out)["task"] == ("classification" if column == "feature" else "regression")
    code, out, errors = command("evaluate", "m.safetensors", "t.csv", "--json")
    assert (code, errors, json.loads(out)["rows"]) == (0, "", rows)


LATER = pytest.mark.parametrize(
    ("first", "later", "kind"),
    [
        ("true", "maybe", "string"), ("", "red", "string"), ("", "7", "int64"), ("", "7.5", "double"), ("5", "7.5", "double"),
        ("2024-01-01", "never", "string"), ("2024-01-01 10:00:00", "never", "string"), ("10:00", "never", "string"),
        ("2024-01-01", "2024-01-01 10:00:00", "string"), ("True", "two\nlines", "string"),
    ],
)  # fmt: skip
"""Values of a column for more than a megabyte, and one after them."""
LATE = 200_000


def late(path, first, *later):
    rows = "".join(f'{n % 7},"{first}",{n % 2}\n' for n in range(LATE)) if first else "5,,0\n5,,1\n" * (LATE * 2)
    path.write_text("a,b,y\n" + rows + "".join(f'5,"{value}",0\n' for value in later))
    return path, rows.count("\n")


@LATER
def test_values_of_another_kind_after_a_megabyte(tmp_path, first, later, kind):
    """The whole column is read as what all of its values are."""
    path, rows = late(tmp_path / "t.csv", first, later)
    found = read_table(path)
    assert found.num_rows == rows + 1
    assert str(found.column("b").type) == kind
    assert str(found.column("b")[rows].as_py()) == later
    assert found.column("b")[0].as_py() == (None if first == "" else int(first) if first == "5" else first)


@LATER
def test_the_same_where_rows_are_read_in_parts(tmp_path, first, later, kind):
    path, rows = late(tmp_path / "t.csv", first, later)
    source = from_files(path, "y").prepared()
    learned = {type(feature).__name__ for feature in source.preparation.features if feature.name == "b"}
    assert learned == ({"Category"} if kind == "string" else {"Number"})
    assert sum(len(piece.x) for piece in source.pieces(0)) == source.rows == rows + 1
    counted = from_files(path, "y")
    assert counted.rows == rows + 1
    assert str(list(counted.batches())[-1].schema.field("b").type) == kind


def test_several_such_columns_and_kinds(tmp_path):
    """From nothing to whole numbers to decimals."""
    path = tmp_path / "t.csv"
    path.write_text("a,b,c,y\n" + ",,,1\n" * 300_000 + "7,x,,1\n" + ",,,2\n" * 300_000 + "7.5,,true,3.5\n")
    assert [str(kind) for kind in read_table(path).schema.types] == ["double", "string", "string", "double"]
    source = from_files(path, "y").prepared()
    assert [type(feature).__name__ for feature in source.preparation.features] == ["Number", "Category", "Category"]
    assert source.preparation.target.classes is None


def test_a_column_that_nobody_needs_may_change(tmp_path):
    """Where rows are read only once, for predictions."""
    path, rows = late(tmp_path / "t.csv", "true", "maybe", "7")
    batches = list(read_batches(path, {"a": "number"}))
    assert sum(batch.num_rows for batch in batches) == rows + 2
    assert batches[-1].column("b").to_pylist()[-2:] == ["maybe", "7"]
    assert [str(batch.schema.field("a").type) for batch in batches] == ["double"] * len(batches)


@pytest.mark.parametrize("action", ["predict", "evaluate"])
def test_text_after_a_megabyte_of_numbers_in_a_column_that_no_model_needs(command, tmp_path, action):
    """Neither command could have it read as text."""
    _, rows = late(tmp_path / "t.csv", "5", "A17")
    (tmp_path / "s.csv").write_text("a,y\n" + "".join(f"{n % 7},{n % 2}\n" for n in range(200)))
    assert command("train", "s.csv", *Y, "--epochs", 1, "--out", "m.safetensors", "--quiet")[0] == 0
    code, _, errors = command(action, "m.safetensors", "t.csv", *(["--out", "p.csv"] if action == "predict" else []))
    assert (code, errors) == (0, f"Written: p.csv, {rows + 1:,} rows\n" if action == "predict" else "")


@pytest.mark.parametrize("value", ["big", "two\nlines"])
@pytest.mark.parametrize("stream", [False, True])
def test_text_after_a_megabyte_of_numbers(tmp_path, stream, value):
    """Is more likely wrong than all the numbers."""
    path, rows = late(tmp_path / "t.csv", "5", "7.5", value)
    line = rows + 3 + value.count("\n")
    with pytest.raises(TableError) as error:
        from_files(path, "y").prepared() if stream else read_table(path)
    assert str(error.value) == (
        f"{path}, line {line}: column 'b' has the text {value!r} where there were numbers before; correct it, or name the column "
        "among the categories (--categories, or categories=['b']) to have it read as text."
    )
    assert from_files(path, "y", categories=["b"]).prepared().rows == rows + 2
    with pytest.raises(TableError, match=rf"t\.csv, line {line}: column 'b' has the text '.*' where there were numbers\.$"):
        list(read_batches(path, {"b": "number"}))


def test_decimal_commas_after_whole_numbers(tmp_path):
    (tmp_path / "t.csv").write_text("a;y\n" + "1;2\n" * 300_000 + "1,5;2\n")
    with pytest.raises(TableError) as error:
        read_table(tmp_path / "t.csv")
    assert str(error.value) == (
        f"{tmp_path / 't.csv'}, line 300002: column 'a' has the text '1,5' where there were numbers before; if it is one, say "
        "--decimal ',', or Csv(decimal=',')."
    )
    assert read_table(tmp_path / "t.csv", given=Csv(decimal=",")).column("a")[300_000].as_py() == 1.5


def test_a_target_that_turns_decimal_keeps_its_digits(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,y\n" + "1,2\n" * 300_000 + "1,2.75\n")
    source = from_files(path, "y")
    assert source.rows == 300_001
    assert max(float(piece.y.max()) for piece in source.pieces(0)) == 2.75
    assert from_files(path, "y").distinct_targets().tolist() == [2, 2.75]


def test_a_target_that_turns_from_truth_to_text(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,y\n" + "1,True\n2,False\n" * 150_000 + "1,Maybe\n")
    assert from_files(path, "y").classes.tolist() == ["False", "Maybe", "True"]
    source = from_files(path, "y")
    share = source.share(0, 0.1, 0)
    assert share.rows < 60_000
    assert share.classes.tolist() == source.classes.tolist() == ["False", "Maybe", "True"]
    assert source.prepared().preparation.target.classes == ("False", "Maybe", "True")


def test_a_target_that_no_loss_can_be_made_of(command, tmp_path):
    (tmp_path / "t.csv").write_text(table(line=lambda n, a, c: f"{a},{c},{1e30 if n == 30 else a + n}"))
    for seed in range(8):
        code, out, errors = command("train", "t.csv", *TRAIN, "--json", "--set", f"seed={seed}")
        if code == 1:
            assert "A row to validate on has a value of the target 'y' that is" in errors
            return
        assert json.loads(out)["validation_loss"] < 1e30
    raise AssertionError("row 30 has never been held out")


def test_classes_of_wide_letters_and_of_lines_leave_the_picture_its_room(command, tmp_path):
    """A letter of Chinese is as wide as two of Latin; and a name that goes over lines stood beside other rows than its own."""
    names = ["漢字" * 10, "a\nb", "c"]
    (tmp_path / "t.csv").write_text("x,y\n" + "".join(f'{n},"{names[n % 3]}"\n' for n in range(90)), "utf-8")
    with mpl.rc_context({"svg.fonttype": "none"}):
        code, _, errors = command("train", "t.csv", "--target", "y", "--epochs", "2", "--quiet", "--plot", "p.svg")
    assert (code, errors) == (0, "")
    drawn = (tmp_path / "p.svg").read_text("utf-8")
    assert all(drawn.count(f">{name}<") == 2 for name in ("漢字漢字…字漢字", r"'a\nb'", "c"))


def test_dollars_in_names(command, tmp_path):
    names = "$10_$20", "$x^$", "cost in $ or $^ of a class with a long name"
    (tmp_path / "t.csv").write_text(table(line=lambda n, a, c: f"{a},{c},{names[n % 3]}", header="age,colour,$y^"))
    code, _, errors = command("train", "t.csv", "--target", "$y^", "--epochs", "2", "--plot", "p.svg", "--out", "m.safetensors")
    assert (code, errors) == (0, "")
    assert "p.svg" in os.listdir(tmp_path)


def test_what_an_exported_regression_predicts(command, tmp_path):
    (tmp_path / "t.csv").write_text(table(line=lambda n, a, c: f"{a},{c},{1000 + 3 * a}"))
    assert command("train", "t.csv", *TRAIN)[0] == 0
    facts = json.loads(command("info", "m.safetensors", "--json")[1])
    out = command("export", "m.safetensors", "m.PY")[1]
    assert f"y is its output * {facts['target_scale']:.9g} + {facts['target_mean']:.9g}." in out
    assert f"y: output * {facts['target_scale']:.9g} + {facts['target_mean']:.9g}" in command("info", "m.safetensors")[1]
    (tmp_path / "d.csv").write_text(table('age,colour,"y\x1b[2J"', lambda n, a, c: f"{a},{c},{1000 + 3 * a}"))
    assert command("train", "d.csv", "--target", "y\x1b[2J", "--epochs", "1")[0] == 0
    assert " 'y\\x1b[2J' is its output * " in command("export", "d.safetensors", "d.py")[1]
    (tmp_path / "x.csv").write_text("age,colour\n60,red\n")
    predicted = float(command("predict", "m.safetensors", "x.csv")[1].split()[1])
    exec((tmp_path / "m.PY").read_text(), namespace := {})
    features = {feature["name"]: feature for feature in facts["features"]}
    age = (60 - features["age"]["mean"]) / features["age"]["scale"]
    (output,) = namespace["predict"]([[age, *(name == "red" for name in features["colour"]["categories"])]])[0]
    assert output * facts["target_scale"] + facts["target_mean"] == pytest.approx(predicted, rel=1e-5)


def test_a_table_of_many_classes_is_printed_whole(command, tmp_path):
    names = [f"a class with the number {n}" for n in range(30)]
    (tmp_path / "t.csv").write_text(table(line=lambda n, a, c: f"{a},{c},{names[n % 30]}"))
    assert command("train", "t.csv", *TRAIN)[0] == 0
    out = command("evaluate", "m.safetensors", "t.csv")[1]
    assert "…" not in out
    assert all(out.count(name) >= 2 for name in names)


@pytest.mark.parametrize("header", [True, False])
def test_lines_of_more_than_a_mebibyte(tmp_path, header):
    """Arrow reads so much at a time, and takes a longer first line for a file without rows."""
    names = [f"ENSG{number:011d}.14" for number in range(60_660)]
    row = ",".join(["7" if header else "0.1234567890123456789012345678901234567890"] * len(names))
    (tmp_path / "t.csv").write_text("\n".join([*([",".join(names)] if header else []), *[row] * 3]) + "\n")
    assert sum(batch.num_rows for batch in read_batches(tmp_path / "t.csv")) == 3


def test_a_row_of_megabytes_after_short_ones(tmp_path):
    (tmp_path / "t.csv").write_text("a,y\nshort,1\nshort,1\n" + f"{'x' * (3 << 20)},2\n")
    with pytest.raises(TableError, match=r"t\.csv has a row of more than a mebibyte, .* make Parquet of it"):
        read_table(tmp_path / "t.csv")


def test_few_rows_of_a_wide_table_are_looked_at_as_they_are_written(tmp_path, monkeypatch):
    seen, numbered = [], csv_form.numbered_rows
    monkeypatch.setattr(csv_form, "numbered_rows", lambda *given: (seen.append(row) or row for row in numbered(*given)))
    line = ",".join(["007"] + ["1"] * 19_999)
    (tmp_path / "t.csv").write_text("\n".join([",".join(f"c{n}" for n in range(20_000)), *[line] * 200]))
    assert "007 is read as 7" in csv_form.read_otherwise(tmp_path / "t.csv")["c0"]
    assert len(seen) <= 50


@HOW
def test_the_index_of_pandas_is_no_column(command, tmp_path, how):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"age": [age for age, _ in ROWS], "y": [label(*row) for row in ROWS]})
    frame.sample(frac=1, random_state=0).to_parquet(tmp_path / "t.parquet")
    frame[["age"]].to_parquet(tmp_path / "new.parquet")
    assert names_of(tmp_path / "t.parquet") == ["age", "y"]
    assert command("train", "t.parquet", *TRAIN, how)[0] == 0
    assert [feature["name"] for feature in json.loads(command("info", "m.safetensors", "--json")[1])["features"]] == ["age"]
    for name in ("new.parquet", "t.parquet"):
        code, out, errors = command("predict", "m.safetensors", name)
        assert (code, errors, len(out.splitlines())) == (0, "", 201)


@HOW
def test_classes_that_are_decimals_without_a_fraction(command, tmp_path, how):
    """As databases write whole numbers."""
    ages, classes = [age for age, _ in ROWS], [int(age > 50) for age, _ in ROWS]
    y = pyarrow.array(classes).cast(pyarrow.decimal128(38, 0))
    pyarrow.parquet.write_table(pyarrow.table({"age": ages, "y": y}), tmp_path / "t.parquet")
    code, out, _ = command("train", "t.parquet", *TRAIN, how, "--json")
    assert (code, json.loads(out)["task"]) == (0, "classification")
    assert set(command("predict", "m.safetensors", "t.parquet")[1].split()) <= {"y", "0", "1"}
    assert command("evaluate", "m.safetensors", "t.parquet", "--quiet")[0] == 0


def test_parquet_is_predicted_in_parts_of_what_is_needed(tmp_path):
    from fastmlp.cli.predictions import batches

    wide = {f"x{number}": np.zeros(5_000) for number in range(1_000)}
    pyarrow.parquet.write_table(pyarrow.table({**wide, "picture": [b"x" * 100] * 5_000}), tmp_path / "t.parquet")
    parts = [batch for _, batch in batches(dict.fromkeys(wide, "number"), [tmp_path / "t.parquet"], Csv())]
    assert sum(part.num_rows for part in parts) == 5_000
    assert all("picture" not in part.schema.names and part.num_rows * 1_000 <= 1 << 20 for part in parts)


def test_parquet_of_long_texts_that_repeat_is_read_in_parts(tmp_path):
    texts = [str(n % 4) * 50_000 for n in range(4096)]  # 200 MB; the file says some bytes a row
    pictures = [b"%07d" % n * 3000 for n in range(4096)]
    pyarrow.parquet.write_table(pyarrow.table({"t": texts, "b": pictures, "n": np.arange(4096)}), tmp_path / "t.parquet")
    assert max(batch.nbytes for batch in read_batches(tmp_path / "t.parquet", {"b": "unused"})) <= 1 << 25
    assert len(list(read_batches(tmp_path / "t.parquet", {"b": "unused", "t": "unused"}))) == 1


@pytest.mark.parametrize("mark", [";", "; ", "\t", "|"])
def test_decimal_commas_without_a_header(tmp_path, mark):
    path = tmp_path / "a.csv"
    path.write_text(
        "\n".join(mark.join(row) for row in (["1,5", "2,5", "3,5"], ["2,5", "3,5", "-4,5"], ["2,7", "3,5", "4,5"])) + "\n"
    )
    form = form_of(path)
    assert (form.delimiter, form.decimal, len(form.names)) == (mark[0], ",", 3)
    path.write_text("\n".join(mark.join(row) for row in (["1,5e-3", "2,5E-3", "3,5e+3"], ["2,5", "3,5e1", "-4,5"])) + "\n")
    assert form_of(path) == form


@pytest.mark.parametrize("text", ["x,,\na,b,c\nd,e,f\ng,h,i\n", '#u,"p, q",1\nv,p,2\nw,q,3\nx,y,4\n'])
def test_no_row_is_lost_without_a_header(tmp_path, text):
    (tmp_path / "a.csv").write_text(text)
    assert read_table(tmp_path / "a.csv", None, Csv(header=False)).num_rows == 4


def test_names_after_a_hash_beside_quoted_commas(tmp_path):
    (tmp_path / "a.csv").write_text('#id,name,label\n1,"Smith, John",a\n2,"Do, Jo",b\n')
    assert names_of(tmp_path / "a.csv") == ["#id", "name", "label"]


@pytest.mark.parametrize("before", ["", "\n\n"])
def test_an_empty_line_of_one_column_is_a_row(tmp_path, before):
    """Polars and Arrow write a row without a value like that."""
    (tmp_path / "a.csv").write_text(before + "x\n1.5\n\n3.0\n")
    assert read_table(tmp_path / "a.csv").column("x").to_pylist() == [1.5, None, 3.0]
    (tmp_path / "a.csv").write_text(before + "x,y\n1.5,1\n\n3.0,2\n")
    assert read_table(tmp_path / "a.csv").column("x").to_pylist() == [1.5, 3.0]


@pytest.mark.parametrize("mark", [",", ";"])
def test_a_first_name_of_two_lines(tmp_path, mark):
    (tmp_path / "a.csv").write_text('"Date\nof sale",n,y\n1,2,a\n3,4,b\n5,6,b\n'.replace(",", mark))
    assert names_of(tmp_path / "a.csv") == ["Date\nof sale", "n", "y"]
    assert read_table(tmp_path / "a.csv").column("n").to_pylist() == [2, 4, 6]


@pytest.mark.parametrize("padding", ["", ";;"])
def test_a_title_of_two_lines(tmp_path, padding):
    (tmp_path / "a.csv").write_text(f'"Report\nof 2020"{padding}\na;b;c\n1;2;x\n3;4;y\n')
    assert names_of(tmp_path / "a.csv") == ["a", "b", "c"]
