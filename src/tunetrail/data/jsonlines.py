"""A file of JSON or JSON Lines <-> its rows. An error names the file, the first line at fault and how many there are.

`formats` reports files that are not text; `records` checks what the rows have.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tunetrail import UserError
from tunetrail.data import formats

Row = dict[str, Any]


def read(path: Path, field: str | None = None, option: str | None = None) -> list[Row]:
    """Return the rows of a file: an array, or an object on each line (blank lines are skipped).

    With `field`, the file is one object that has the array under this key; `option` is the parameter that sets `field`.

    Raises:
        UserError: no such file, not UTF-8, not JSON (with the line), not rows, or no row at all.
    """
    text = formats.text(path)
    if field is not None:
        numbered = _rows_under(path, text, field, option)
    else:
        numbered = _rows_of_array(path, text) if text.lstrip().startswith("[") else _rows_of_lines(path, text, option)
    if not numbered:
        raise UserError(f"{path}: no rows. Give a file with at least one row.")
    wrong = [(line, row) for line, row in numbered if not isinstance(row, dict)]
    if wrong:
        line, row = wrong[0]
        count = f"; so are {len(wrong):,} of {len(numbered):,} rows" if len(numbered) > 1 else ""
        raise UserError(f"{path}, {line}: {json.dumps(row)[:40]} is not an object{count}. Each row is one {{...}}.")
    return [row for _, row in numbered]


def whole(content: bytes, **types: type | tuple[type, ...]) -> list[Row]:
    """Return the lines of a log that are an object with values of these `types`. Others are left out: a process that is
    killed leaves an incomplete line, and a full disk or a power cut any bytes."""
    rows = []
    for line in content.splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            row = json.loads(line)
            if isinstance(row, dict) and all(isinstance(row.get(key), kind) for key, kind in types.items()):
                rows.append(row)
    return rows


def _load(text: str) -> Any:
    """Parse JSON strictly: NaN and repeated keys are errors.

    Raises:
        ValueError, RecursionError: it is not JSON.
    """

    def constant(name: str) -> None:
        raise ValueError(f"JSON has no {name}")

    def unique(pairs: list[tuple[str, Any]]) -> Row:
        content = dict(pairs)
        if len(content) < len(pairs):
            repeated = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
            raise ValueError(f"the key {repeated!r} is given twice")
        return content

    return json.loads(text, parse_constant=constant, object_pairs_hook=unique)


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        before = error.doc[: error.pos].rstrip()
        after = error.doc[error.pos :].strip()
        if before.endswith(",") and after[:1] in ("]", "}"):
            return "a comma before the closing bracket"
        if after == "," or (before.endswith(",") and not after):
            return "a comma after the last value"
    return str(getattr(error, "msg", error))


def _rows_of_array(path: Path, text: str) -> list[tuple[str, Any]]:
    try:
        return [(f"row {number}", row) for number, row in enumerate(_load(text), 1)]
    except (ValueError, RecursionError) as error:
        line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ", line 1"
        raise UserError(f"{path}{line}: not JSON ({_reason(error)}). Fix or remove it.") from None


def _rows_of_lines(path: Path, text: str, option: str | None) -> list[tuple[str, Any]]:
    rows, faults = [], []
    # Not splitlines(): it also breaks at U+2028 and the like, which JSON allows inside a string.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append((f"line {number}", _load(line)))
        except (ValueError, RecursionError) as error:
            faults.append((number, error))
    if not faults:
        return rows
    if not rows or faults[0][0] < int(rows[0][0].split()[1]):  # the first line is at fault: perhaps another format
        if content := _one_object(text):
            if kind := formats.keyed(path, content, option):
                raise UserError(f"{path}: {kind}")
            return [("row 1", content)]
        if _starts_with_an_object(text):
            raise UserError(f"{path}: its objects span several lines. Write each on one line, or all in one array.")
        if kind := formats.guess(path, text):
            raise UserError(f"{path} is {kind}")
    number, error = faults[0]
    count = f"; so are {len(faults):,} of {len(rows) + len(faults):,} lines" if len(faults) > 1 else ""
    fix = "Fix or remove the line" if rows or not count else "Give a JSON or JSON Lines file"
    raise UserError(f"{path}, line {number}: not JSON ({_reason(error)}){count}. {fix}.")


def _one_object(text: str) -> Row | None:
    """Return the object if the whole text is a single one."""
    try:
        content = _load(text)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _starts_with_an_object(text: str) -> bool:
    """Return whether the text starts with an object that spans several lines."""
    try:
        content, end = json.JSONDecoder().raw_decode(text.lstrip())
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and "\n" in text.lstrip()[:end]


def _rows_under(path: Path, text: str, field: str, option: str | None) -> list[tuple[str, Any]]:
    content = _one_object(text)
    if content is None:
        raise UserError(
            f"{path}: {option}={field} is for a file of one JSON object, which this is not. Set {option}=null, unless its "
            "JSON is broken."
        )
    if field not in content:
        raise UserError(f"{path}: no key '{field}' (it has {', '.join(content) or 'none'}). Set {option} to one of them.")
    if not isinstance(content[field], list):
        raise UserError(f"{path}: its '{field}' is not an array of rows. Set {option} to a key that has one.")
    return [(f"row {number}", row) for number, row in enumerate(content[field], 1)]


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write one JSON object on each line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
