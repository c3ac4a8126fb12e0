"""A file that should be JSON -> its text, or what the file is instead, by its marks, and what turns it into JSON Lines.

Commands fail where the file is not what it seems. Not covered: what the JSON says (`records`).
"""

import csv
import itertools
import json
import re
import shlex
import zipfile
from pathlib import Path
from typing import Any

from tunetrail import UserError

_INTO = "converted.jsonl"
_PANDAS = """python -c 'import sys, pandas; pandas.{}.to_json(sys.argv[1], orient="records", lines=True)' {} {}"""
_ARROW = """python -c 'import sys, pyarrow; pyarrow.ipc.{}(open(sys.argv[2], "rb")).read_pandas().to_json(sys.argv[1], \
orient="records", lines=True)' {} {}"""
_YAML = """python -c 'import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[2], encoding="utf-8")), \
open(sys.argv[1], "w"))' {} {}"""
_KEY = """python -c 'import json, sys; json.dump(json.load(open(sys.argv[2], encoding="utf-8"))[sys.argv[3]], \
open(sys.argv[1], "w"))' {} {} {}"""
_UNPACK = "Unpack it: {} --decompress --stdout {} > {}"
_FETCH = "It stands for the file, which is not here yet. Fetch that: git lfs pull --include {}"
_SAVE = "Save its rows as CSV in the program that wrote it, and convert that."
_GIVE = "Give a JSON or JSON Lines file."

# The first bytes of a file -> what it is.
_MARKS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PAR1": "Parquet",
    b"ARROW1": "an Arrow file",
    b"\xff\xff\xff\xff": "an Arrow stream",
    b"FEA1": "Feather",
    b"SQLite format 3\x00": "an SQLite database",
    b"version https://git-lfs": "a git-LFS pointer",
    b"\xd0\xcf\x11\xe0": "an old Excel or Word file",
    b"%PDF": "a PDF",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\x04\x22\x4d\x18": "lz4",
    b"Obj\x01": "Avro",
    b"ORC": "ORC",
    b"\x89HDF": "HDF5",
    b"\x93NUMPY": "a NumPy array",
}


def text(path: Path) -> str:
    """The text of a file in UTF-8, without a byte order mark.

    Raises:
        UserError: it is not there or cannot be read, or is not UTF-8: what it is instead.
    """
    data = _bytes(path)
    if kind := _marked(path, data):
        raise UserError(f"{path} is {kind[0]}, not JSON. {kind[1]}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        start = error.start + (3 if data.startswith(b"\xef\xbb\xbf") else 0)
        line = data.count(b"\n", 0, start) + 1
        raise UserError(
            f"{path}, line {line}: not UTF-8, byte 0x{data[start]:02X} at {start:,}. Give it in "
            "UTF-8: find out from who made it in which encoding it is. A wrong guess changes letters, and no tool notices."
        ) from None


def check(path: Path) -> None:
    """Look whether a file is there.

    Raises:
        UserError: it is not, or is no file.
    """
    try:
        if path.is_symlink() and not path.exists():
            raise UserError(f"{path}: a link to {path.readlink()}, which is not there. {_GIVE}")
        if not path.exists():
            raise UserError(f"{path}: no such file in {Path.cwd()}. Give the path of a JSON or JSON Lines file.")
        if path.is_dir():
            raise UserError(f"{path} is a folder. Give the path of a JSON or JSON Lines file in it.")
        if not path.is_file():
            raise UserError(
                f"{path} is a pipe, a socket or a device, which can be read once only. Write what it gives into a file and "
                "give that."
            )
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}. Give a file that you may read.") from None


def _bytes(path: Path) -> bytes:
    check(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}. Give a file that you may read.") from None


def _marked(path: Path, data: bytes) -> tuple[str, str] | None:
    """What a file is by its marks, and what to do with it; None where it may be text."""
    name, into = shlex.quote(str(path)), _INTO
    kind = next((kind for mark, kind in _MARKS.items() if data.startswith(mark)), None)
    if data.startswith(b"PK\x03\x04"):
        return _zip(path, name)
    if kind in ("gzip", "bzip2", "xz", "zstd"):
        return f"packed with {kind}", _UNPACK.format(kind, name, into)
    commands = {
        "Parquet": _PANDAS.format("read_parquet(sys.argv[2])", into, name),
        "Feather": _PANDAS.format("read_feather(sys.argv[2])", into, name),
        "an Arrow file": _ARROW.format("open_file", into, name),
        "an Arrow stream": _ARROW.format("open_stream", into, name),
    }
    if kind in commands:
        return kind, f"Convert it: {commands[kind]}"
    if kind == "an SQLite database":
        query = _PANDAS.replace("sys, pandas", "sqlite3, sys, pandas")
        query = query.format('read_sql("select * from TABLE", sqlite3.connect(sys.argv[2]))', into, name)
        return kind, f"Convert one of its tables: {query}"
    if kind:
        return kind, _FETCH.format(name) if "LFS" in kind else _GIVE
    if data[257:262] == b"ustar":
        return "a tar archive", f"Unpack it: tar --extract --file {name}"
    if data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a Python pickle", "To load one runs what is in it. Have who made it write JSON Lines."
    return _wide(data, name, into)


def _zip(path: Path, name: str) -> tuple[str, str]:
    try:
        names = zipfile.ZipFile(path).namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return "a damaged zip archive", "Fetch or write it again, and unpack it."
    if any(inside.startswith(("xl/", "word/")) for inside in names) or "mimetype" in names:
        return "a file of an office program (as xlsx)", _SAVE
    listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"a zip archive of {listed or 'nothing'}", f"Unpack it: python -m zipfile --extract {name} unpacked"


def _wide(data: bytes, name: str, into: str) -> tuple[str, str] | None:
    """Text of 16 or 32 bits a character, with a byte order mark or without; and other data with NULs."""
    encoding = json.detect_encoding(data)
    if encoding.startswith("utf-8"):
        return ("not text (it has bytes of value 0)", _GIVE) if b"\x00" in data else None
    try:
        data.decode(encoding)
    except UnicodeDecodeError as error:
        return f"{encoding.upper()} by its first bytes, and damaged at byte {error.start:,}", "Give a whole file in UTF-8."
    iconv = encoding.upper().replace("-LE", "LE").replace("-BE", "BE")
    return iconv, f"Convert it: iconv -f {iconv} -t UTF-8 {name} > {into}"


def guess(path: Path, text: str) -> str | None:
    """What a text is that is not JSON, and what to do with it; None where there is no telling."""
    head, name = text.lstrip()[:100_000], shlex.quote(str(path))
    if head[:1] in ("{", "[", '"', ""):
        return None
    if re.match(r"<(!doctype|html|head|body)", head, re.IGNORECASE):
        return "an HTML page, not the file itself. Download that: on the Hugging Face hub, /resolve/ in place of /blob/"
    if head.startswith("<"):
        return f"XML, not JSON. {_GIVE}"
    for delimiter, kind, given in (
        ("\t", "TSV", ', sep="\\t"'),
        (",", "CSV", ""),
        (";", "CSV with semicolons", ', sep=";"'),
    ):
        if _is_table(head, delimiter):
            table = f"read_csv(sys.argv[2], dtype=str, keep_default_na=False{given})"
            return f"{kind}, not JSON. Convert it: {_PANDAS.format(table, _INTO, name)}"
    if re.match(r"---\s*$|(- )?[\w\"'-]+:(\s|$)", head, re.MULTILINE):
        return f"YAML, not JSON. Convert it: {_YAML.format(_INTO, name)}"
    return None


def _is_table(text: str, delimiter: str) -> bool:
    """Whether the lines have columns, and the first of them names."""
    try:
        rows = [row for row in itertools.islice(csv.reader(text.splitlines(True), delimiter=delimiter), 20) if row]
    except csv.Error:
        return False
    names = rows[0] if rows else []
    return (
        len(names) > 1 and len(rows) > 1 and len(rows[1]) > 1 and all(re.fullmatch(r"[\w .-]{1,40}", one) for one in names)
    )


def keyed(path: Path, whole: dict[str, Any], option: str | None) -> str | None:
    """What one object is that holds rows, and what to do with it; None where it holds none.

    `option` is the parameter that names the key, where there is one.
    """
    name = shlex.quote(str(path))
    arrays = {key: len(value) for key, value in whole.items() if _all(value, dict)}
    if arrays:
        key = max(arrays, key=lambda key: arrays[key])
        fix = f"Add {option}={key}" if option else f"Take it out: {_KEY.format(_INTO, name, shlex.quote(key))}"
        return f"one object; its '{key}' is an array of {arrays[key]:,} rows. {fix}"
    columns = {len(value) for value in whole.values() if isinstance(value, list | dict)}
    if len(columns) == 1 and 0 not in columns and all(isinstance(value, list | dict) for value in whole.values()):
        table = _PANDAS.format("read_json(sys.argv[2], dtype=False, convert_dates=False)", _INTO, name)
        return f"one object of {len(whole)} columns, each of {columns.pop():,} rows. Convert it: {table}"
    return None


def _all(value: Any, kind: type) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, kind) for one in value)
