import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tunetrail import UserError
from tunetrail.data import jsonlines

ROW = {"instruction": "Name a colour.", "output": "Red."}


def test_a_line_separator_inside_a_string_does_not_break_the_line(tmp_path):
    file = tmp_path / "rows.jsonl"
    jsonlines.write(file, [ROW | {"output": "one\u2028two"}])
    assert jsonlines.read(file)[0]["output"] == "one\u2028two"


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + json.dumps([ROW]).encode(),
        json.dumps(ROW).encode() + b"\r\n\r\n",
        json.dumps([ROW], indent=1).encode().replace(b"\n", b"\r\n"),
        json.dumps(ROW, indent=1).encode(),
    ],
)
def test_a_byte_order_mark_line_ends_and_white_space_are_accepted(tmp_path, content):
    (tmp_path / "rows").write_bytes(content)
    assert jsonlines.read(tmp_path / "rows") == [ROW]


def test_a_line_may_be_long(tmp_path):
    jsonlines.write(tmp_path / "rows", [ROW | {"output": "x" * 5_000_000}])
    assert len(jsonlines.read(tmp_path / "rows")[0]["output"]) == 5_000_000


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"a": 1}\n{"a": \n', "line 2: not JSON (Expecting value). Fix or remove the line"),
        ('{"a": 1}\n{"a": \n{}\n{"b"', "line 2: not JSON (Expecting value); so are 2 of 4 lines"),
        ('[{"a": 1},\n {"b" "b"}]', "line 2: not JSON"),
        ('{"a": 1,}', "line 1: not JSON (a comma before the closing bracket)"),
        ('[{"a": 1},\n]', "line 2: not JSON (a comma before the closing bracket)"),
        ('{"a": 1},\n{"a": 1},', "line 1: not JSON (a comma after the last value); so are 2 of 2 lines. Give a JSON"),
        ('{"a": 1}\n{"a": NaN}', "line 2: not JSON (JSON has no NaN)"),
        ('[{"a": -Infinity}]', "line 1: not JSON (JSON has no -Infinity)"),
        ('{"a": 1}\n{"a": 1, "b": {"c": 1, "c": 2}}', "line 2: not JSON (the key 'c' is given twice)"),
        ("[" * 100_000, "line 1: not JSON"),
        ('{"a": ' + "1" * 5000 + "}", "line 1: not JSON"),
        ('{\n"a": 1\n}\n{\n"a": 2\n}', "its objects span several lines. Write each on one line"),
        ("some text\nof two lines", "line 1: not JSON (Expecting value); so are 2 of 2 lines. Give a JSON"),
        ("", "no rows. Give"),
        ("[]", "no rows"),
        ("[1, {}, 2]", "row 1: 1 is not an object; so are 2 of 3 rows. Each row is one"),
        ('"text"', 'line 1: "text" is not an object. Each row is one'),
        ("12", "line 1: 12 is not an object"),
        ("a,b\n1,2", "is CSV, not JSON. Convert it: python"),
        ('{"data": [{}, {}],\n "n": 1}', "one object; its 'data' is an array of 2 rows. Take it out: python"),
    ],
)
def test_each_fault_names_the_file_the_line_and_a_fix(tmp_path, content, says):
    file = tmp_path / "rows"
    file.write_text(content)
    with pytest.raises(UserError) as error:
        jsonlines.read(file)
    assert str(error.value).startswith(str(file))
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("content", "field", "says"),
    [
        ('{"data": [{}]}', "rows", r"no key 'rows' \(it has data\)\. Set prepare\.field"),
        ('{"data": {"a": 1}}', "data", r"its 'data' is not an array of rows"),
        ('{"data": []}', "data", "no rows"),
        ('{"data": [1]}', "data", "row 1: 1 is not an object"),
        ("{}\n{}", "data", r"prepare\.field=data is for a file of one JSON object.*prepare\.field=null"),
        ("[{}]", "data", r"prepare\.field=data is for a file of one JSON object"),
    ],
)
def test_a_key_without_rows_is_an_error(tmp_path, content, field, says):
    (tmp_path / "rows").write_text(content)
    with pytest.raises(UserError, match=says):
        jsonlines.read(tmp_path / "rows", field, "prepare.field")


@pytest.mark.parametrize(
    ("content", "whole"),
    [
        (b'{"step": 1, "time": 0.5}\n{"step": 2, "ti', [1]),
        (
            b'{"step": 1, "time": 0}\n\xff\xfe\n[1]\n{"step": "2", "time": 1}\n{"time": 1}\n\n{"step": 3, "time": 1.0}',
            [1, 3],
        ),
        (b"[[" * 3000, []),
        (b"", []),
    ],
)
def test_lines_of_a_log_that_are_not_whole_are_left_out(content, whole):
    assert [row["step"] for row in jsonlines.whole(content, step=int, time=(int, float))] == whole


@pytest.mark.slow
def test_damaged_files_are_errors_that_name_them():
    """The short form of benchmarks/faults/files.py."""
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks/faults/files.py", "--files", "500"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
