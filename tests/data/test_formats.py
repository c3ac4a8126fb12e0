"""Files that are not JSON, as other programs write them; every command in an error message is run."""

import bz2
import gzip
import json
import lzma
import os
import pickle
import re
import sqlite3
import subprocess
import tarfile
import zipfile

import pandas
import pyarrow
import pytest
import yaml
import zstandard

from tunetrail import UserError
from tunetrail.data import formats, jsonlines, records

ROWS = [{"instruction": f"Say {n}.", "input": "", "output": f"It is {n}; é, NA."} for n in range(4)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def zipped(file, inside):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(inside, LINES)


def arrow(file, write):
    table = pyarrow.Table.from_pylist(ROWS)
    with pyarrow.OSFile(str(file), "wb") as out, write(out, table.schema) as writer:
        writer.write_table(table)


def database(file):
    with sqlite3.connect(file) as connection:
        pandas.DataFrame(ROWS).to_sql("TABLE", connection, index=False)
    connection.close()


def tarred(file):
    with tarfile.open(file, "w") as archive:
        file.with_name("inside.jsonl").write_text(LINES)
        archive.add(file.with_name("inside.jsonl"), "converted.jsonl")


FRAME = pandas.DataFrame(ROWS)
CONVERTED = {
    "packed with gzip": lambda file: file.write_bytes(gzip.compress(LINES.encode())),
    "packed with bzip2": lambda file: file.write_bytes(bz2.compress(LINES.encode())),
    "packed with xz": lambda file: file.write_bytes(lzma.compress(LINES.encode())),
    "packed with zstd": lambda file: file.write_bytes(zstandard.compress(LINES.encode())),
    "a tar archive": tarred,
    "Parquet": FRAME.to_parquet,
    "an Arrow file": lambda file: arrow(file, pyarrow.ipc.new_file),
    "an Arrow stream": lambda file: arrow(file, pyarrow.ipc.new_stream),
    "an SQLite database": database,
    "CSV,": lambda file: FRAME.to_csv(file, index=False),
    "TSV,": lambda file: FRAME.to_csv(file, index=False, sep="\t"),
    "CSV with semicolons": lambda file: FRAME.to_csv(file, index=False, sep=";"),
    "YAML": lambda file: file.write_text(yaml.safe_dump(ROWS, allow_unicode=True)),
    "one object of 3 columns, each of 4 rows": lambda file: file.write_text(json.dumps(FRAME.to_dict("list"), indent=1)),
    "columns, each of 4 rows": FRAME.to_json,
    "one object; its 'rows' is an array of 4 rows": lambda file: file.write_text(json.dumps({"rows": ROWS}, indent=1)),
    **{
        encoding: lambda file, encoding=encoding: file.write_bytes(LINES.encode(encoding))
        for encoding in ("UTF-16", "UTF-16LE", "UTF-16BE", "UTF-32", "UTF-32LE", "UTF-32BE")
    },
}


def refusal(file):
    with pytest.raises(UserError) as error:
        records.read_prompts(file)
    assert str(error.value).startswith(str(file))
    return str(error.value)


@pytest.mark.parametrize("kind", CONVERTED)
def test_the_error_names_the_format_and_a_command_that_converts_it_and_fails_for_other_files(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "my rows"
    CONVERTED[kind](file)
    message = refusal(file)
    assert kind in message
    command = re.search(r"(?:Convert|Unpack|Take)[\w ]*: (.*)", message, re.DOTALL)[1]
    subprocess.run(command.replace("TABLE", "[TABLE]"), shell=True, check=True)
    assert jsonlines.read(tmp_path / "converted.jsonl") == ROWS
    if "python" not in command or kind == "Parquet":  # to import pandas takes a second
        file.write_bytes(b"\x00\xff something else \xd8\x00\xdf")
        assert subprocess.run(command, shell=True, capture_output=True).returncode != 0


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (pickle.dumps(ROWS), "is a Python pickle, not JSON. Loading it would run the code in it"),
        (b"<!DOCTYPE html>\n<html></html>", "is an HTML page"),
        (b"  <HTML lang='en'>", "is an HTML page"),
        (b"<?xml version='1.0'?><a/>", "is XML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "is a git-LFS pointer"),
        (b"%PDF-1.7", "is a PDF"),
        (b'{"a": "b\x00"}', "is not text (it has bytes of value 0)"),
        (LINES.encode("utf-16")[:-1], "is UTF-16 by its first bytes, and damaged at byte"),
        (b'{"a": 1}\n{"a": "caf\xe9"}', "line 2: not UTF-8, byte 0xE9 at 19. Give it in UTF-8"),
        (b'\xef\xbb\xbf{"a": "caf\xe9"}', "line 1: not UTF-8, byte 0xE9 at 13."),
    ],
)
def test_a_format_that_no_command_converts_is_named(tmp_path, content, says):
    (tmp_path / "rows").write_bytes(content)
    message = refusal(tmp_path / "rows")
    assert says in message
    assert "iconv" not in message


def test_zip_archives_and_office_files_are_distinguished(tmp_path):
    zipped(tmp_path / "a", "rows.jsonl")
    zipped(tmp_path / "b", "xl/workbook.xml")
    assert "is a zip archive of rows.jsonl" in refusal(tmp_path / "a")
    assert "an office program (as xlsx)" in refusal(tmp_path / "b")


def test_a_damaged_archive_is_named(tmp_path):
    zipped(tmp_path / "whole", "rows.jsonl")
    data = (tmp_path / "whole").read_bytes()
    directory = data.index(b"PK\x01\x02")
    damaged = {
        "cut": data[:-30],
        "cut off early": data[:40],
        "no directory": data[:directory] + b"\0" * 4 + data[directory + 4 :],
    }
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
        assert "is a damaged zip archive, not JSON" in refusal(tmp_path / name)


def test_a_path_that_is_not_a_file_is_an_error(tmp_path):
    (tmp_path / "link").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    assert "no such file in" in refusal(tmp_path / "nowhere")
    assert "a link to nowhere, which does not exist" in refusal(tmp_path / "link")
    assert "is a folder" in refusal(tmp_path)
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(UserError, match="a pipe, a socket or a device"):
            formats.text(tmp_path / path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_an_error(tmp_path):
    (tmp_path / "inside").mkdir()
    for path, locked in ((tmp_path / "rows", tmp_path / "rows"), (tmp_path / "inside" / "rows", tmp_path / "inside")):
        path.write_text("{}")
        locked.chmod(0)
        assert "cannot be read: Permission denied" in refusal(path)
        locked.chmod(0o700)


@pytest.mark.parametrize("text", ["hello there\nworld", "", "one word", "a,b", '{"a": 1', "[1, 2"])
def test_the_format_of_unknown_text_is_not_guessed(tmp_path, text):
    assert formats.guess(tmp_path / "rows", text) is None
