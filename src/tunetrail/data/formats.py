"""A file that should be JSON -> its text, or what the file is instead and the command that converts it to JSON Lines.

The commands fail if the file is not what it seems to be. `records` checks what the JSON says.
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

_GIVE = "Give a JSON or JSON Lines file."
_SAVE = "Save its rows as CSV in the program that wrote it, and convert that."
_INTO = "converted.jsonl"


def _pandas(table: str, imports: str = "sys, pandas") -> str:
    """Return a command that writes a data frame as JSON Lines; {name} is the file, as for the other commands here."""
    code = f'import {imports}; {table}.to_json(sys.argv[1], orient="records", lines=True)'
    return f"python -c '{code}' {_INTO} {{name}}"


def _json(value: str, imports: str = "json, sys") -> str:
    """Return a command that writes a value as one JSON document."""
    return f"python -c 'import {imports}; json.dump({value}, open(sys.argv[1], \"w\"))' {_INTO} {{name}}"


def _arrow(reader: str) -> str:
    return "Convert it: " + _pandas(f'pyarrow.ipc.{reader}(open(sys.argv[2], "rb")).read_pandas()', "sys, pyarrow")


def _unpack(tool: str) -> str:
    return f"Unpack it: {tool} --decompress --stdout {{name}} > {_INTO}"


_SQLITE = _pandas('pandas.read_sql("select * from TABLE", sqlite3.connect(sys.argv[2]))', "sqlite3, sys, pandas")
_TEXT = 'open(sys.argv[2], encoding="utf-8")'
# The first bytes of a file, what it is, and how to convert it.
_MARKS = (
    (b"\x1f\x8b", "packed with gzip", _unpack("gzip")),
    (b"BZh", "packed with bzip2", _unpack("bzip2")),
    (b"\xfd7zXZ\x00", "packed with xz", _unpack("xz")),
    (b"\x28\xb5\x2f\xfd", "packed with zstd", _unpack("zstd")),
    (b"PAR1", "Parquet", "Convert it: " + _pandas("pandas.read_parquet(sys.argv[2])")),
    (b"FEA1", "Feather", "Convert it: " + _pandas("pandas.read_feather(sys.argv[2])")),
    (b"ARROW1", "an Arrow file", _arrow("open_file")),
    (b"\xff\xff\xff\xff", "an Arrow stream", _arrow("open_stream")),
    (b"SQLite format 3\x00", "an SQLite database", f"Convert one of its tables: {_SQLITE}"),
    (
        b"version https://git-lfs",
        "a git-LFS pointer",
        "The file itself is not here yet. Fetch it: git lfs pull --include {name}",
    ),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file", _GIVE),
    (b"%PDF", "a PDF", _GIVE),
    (b"7z\xbc\xaf", "a 7z archive", _GIVE),
    (b"Rar!", "a RAR archive", _GIVE),
    (b"\x04\x22\x4d\x18", "lz4", _GIVE),
    (b"Obj\x01", "Avro", _GIVE),
    (b"ORC", "ORC", _GIVE),
    (b"\x89HDF", "HDF5", _GIVE),
    (b"\x93NUMPY", "a NumPy array", _GIVE),
)
# A delimiter, what a table with it is, and how pandas reads it.
_TABLES = (("\t", "TSV", ', sep="\\t"'), (",", "CSV", ""), (";", "CSV with semicolons", ', sep=";"'))


def text(path: Path) -> str:
    """Return the text of a file in UTF-8, without a byte order mark.

    Raises:
        UserError: it does not exist, cannot be read, or is not UTF-8; says what it is instead.
    """
    check(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None
    if kind := _by_bytes(path, data):
        raise UserError(f"{path} is {kind[0]}, not JSON. {kind[1].format(name=shlex.quote(str(path)))}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        start = error.start + (3 if data.startswith(b"\xef\xbb\xbf") else 0)
        line = data.count(b"\n", 0, start) + 1
        raise UserError(
            f"{path}, line {line}: not UTF-8, byte 0x{data[start]:02X} at {start:,}. Give it in "
            "UTF-8: ask its author which encoding it has. A wrong guess changes letters, and no tool notices."
        ) from None


def check(path: Path) -> None:
    """Check that a path is a file.

    Raises:
        UserError: it is not.
    """
    try:
        if path.is_symlink() and not path.exists():
            raise UserError(f"{path}: a link to {path.readlink()}, which does not exist. {_GIVE}")
        if not path.exists():
            raise UserError(f"{path}: no such file in {Path.cwd()}. Give the path of a JSON or JSON Lines file.")
        if path.is_dir():
            raise UserError(f"{path} is a folder. Give the path of a JSON or JSON Lines file in it.")
        if not path.is_file():
            raise UserError(
                f"{path} is a pipe, a socket or a device, which can be read only once. Write its content into a file and "
                "give that."
            )
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"{path} cannot be read: {error.strerror}. Give a file that you may read.")


def _by_bytes(path: Path, data: bytes) -> tuple[str, str] | None:
    """Return what a file is by its bytes, and what to do with it; None if it may be text in UTF-8."""
    for mark, kind, fix in _MARKS:
        if data.startswith(mark):
            return kind, fix
    if data.startswith(b"PK\x03\x04"):
        return _zip(path)
    if data[257:262] == b"ustar":
        return "a tar archive", "Unpack it: tar --extract --file {name}"
    if data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a Python pickle", "Loading it would run the code in it. Ask its author for JSON Lines."
    encoding = json.detect_encoding(data)
    if encoding.startswith("utf-8"):
        return ("not text (it has bytes of value 0)", _GIVE) if b"\x00" in data else None
    try:
        data.decode(encoding)
    except UnicodeDecodeError as error:
        return f"{encoding.upper()} by its first bytes, and damaged at byte {error.start:,}", "Give a whole file in UTF-8."
    name = encoding.upper().replace("-LE", "LE").replace("-BE", "BE")  # as iconv calls it
    return name, f"Convert it: iconv -f {name} -t UTF-8 {{name}} > {_INTO}"


def _zip(path: Path) -> tuple[str, str]:
    try:
        names = zipfile.ZipFile(path).namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return "a damaged zip archive", "Fetch or write it again, and unpack it."
    if any(name.startswith(("xl/", "word/")) for name in names) or "mimetype" in names:
        return "a file of an office program (as xlsx)", _SAVE
    listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"a zip archive of {listed or 'nothing'}", "Unpack it: python -m zipfile --extract {name} unpacked"


def guess(path: Path, text: str) -> str | None:
    """Return what a text is that is not JSON, and what to do with it; None if that is unknown."""
    head, name = text.lstrip()[:100_000], shlex.quote(str(path))
    if head[:1] in ("{", "[", '"', ""):
        return None
    if re.match(r"<(!doctype|html|head|body)", head, re.IGNORECASE):
        return (
            "an HTML page, not the file itself. Download the file: on the Hugging Face hub, use /resolve/ instead of /blob/"
        )
    if head.startswith("<"):
        return f"XML, not JSON. {_GIVE}"
    for delimiter, kind, option in _TABLES:
        if _is_table(head, delimiter):
            table = f"pandas.read_csv(sys.argv[2], dtype=str, keep_default_na=False{option})"
            return f"{kind}, not JSON. Convert it: {_pandas(table).format(name=name)}"
    if re.match(r"---\s*$|(- )?[\w\"'-]+:(\s|$)", head, re.MULTILINE):
        command = _json(f"yaml.safe_load({_TEXT})", "json, sys, yaml").format(name=name)
        return f"YAML, not JSON. Convert it: {command}"
    return None


def _is_table(text: str, delimiter: str) -> bool:
    """Return whether the lines have columns, the first with their names."""
    try:
        rows = [row for row in itertools.islice(csv.reader(text.splitlines(True), delimiter=delimiter), 20) if row]
    except csv.Error:
        return False
    if len(rows) < 2 or min(len(rows[0]), len(rows[1])) < 2:
        return False
    return all(re.fullmatch(r"[\w .-]{1,40}", column) for column in rows[0])


def keyed(path: Path, content: dict[str, Any], option: str | None) -> str | None:
    """Return what a single object is that holds rows, and what to do with it; None if it holds none.

    `option` is the parameter that names the key of the rows, if there is one.
    """
    name = shlex.quote(str(path))
    arrays = {key: len(value) for key, value in content.items() if _is_rows(value)}
    if arrays:
        key = max(arrays, key=lambda key: arrays[key])
        command = _json(f"json.load({_TEXT})[sys.argv[3]]").format(name=name)
        fix = f"Add {option}={key}" if option else f"Take it out: {command} {shlex.quote(key)}"
        return f"one object; its '{key}' is an array of {arrays[key]:,} rows. {fix}"
    columns = {len(value) for value in content.values() if isinstance(value, list | dict)}
    if len(columns) == 1 and 0 not in columns and all(isinstance(value, list | dict) for value in content.values()):
        table = _pandas("pandas.read_json(sys.argv[2], dtype=False, convert_dates=False)").format(name=name)
        return f"one object of {len(content)} columns, each of {columns.pop():,} rows. Convert it: {table}"
    return None


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)
