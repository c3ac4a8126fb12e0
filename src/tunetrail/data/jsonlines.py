"""A file of JSON or JSON Lines -> its rows, and back. A fault names the file, the line and how many there are.

Not covered: files that are no text (`formats`), and what the rows should hold (`records`).
"""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tunetrail import UserError
from tunetrail.data import formats

Row = dict[str, Any]


def read(path: Path, field: str | None = None, option: str | None = None) -> list[Row]:
    """The rows of a .json file (one array, or with `field` one object that has it under that key) or .jsonl file (one object
    a line; blank lines are skipped). `option` is the parameter by which a person gives `field`, where there is one.

    Raises:
        UserError: no such file, not UTF-8, not JSON (with the line), not rows, or no row at all.
    """
    text = formats.text(path)
    if field is not None:
        numbered = _under(path, text, field, option)
    else:
        numbered = _array(path, text) if text.lstrip().startswith("[") else _lines(path, text, option)
    if not numbered:
        raise UserError(f"{path}: no rows. Give a file with at least one row.")
    wrong = [(where, row) for where, row in numbered if not isinstance(row, dict)]
    if wrong:
        where, row = wrong[0]
        count = f"; {len(wrong):,} of {len(numbered):,} rows are none" if len(numbered) > 1 else ""
        raise UserError(f"{path}, {where}: {json.dumps(row)[:40]} is not an object{count}. Each row is one {{...}}.")
    return [row for _, row in numbered]


def _load(text: str) -> Any:
    """JSON as its standard has it: no NaN, no key twice.

    Raises:
        ValueError, RecursionError: it is not.
    """

    def constant(name: str) -> None:
        raise ValueError(f"{name} is no number of JSON")

    def unique(pairs: list[tuple[str, Any]]) -> Row:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
            raise ValueError(f"the key {twice!r} is there twice")
        return found

    return json.loads(text, parse_constant=constant, object_pairs_hook=unique)


def _fault(error: Exception) -> str:
    """What is wrong with a text of JSON, in words."""
    if isinstance(error, json.JSONDecodeError):
        before, after = error.doc[: error.pos].rstrip(), error.doc[error.pos :].strip()
        if before.endswith(",") and after[:1] in ("]", "}"):
            return "a comma before the closing bracket"
        if after == "," or (before.endswith(",") and not after):
            return "a comma after the last value"
    return str(getattr(error, "msg", error))


def _array(path: Path, text: str) -> list[tuple[str, Any]]:
    try:
        return [(f"row {number}", row) for number, row in enumerate(_load(text), 1)]
    except (ValueError, RecursionError) as error:
        line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ", line 1"
        raise UserError(f"{path}{line}: not JSON ({_fault(error)}). Fix or remove it.") from None


def _lines(path: Path, text: str, option: str | None) -> list[tuple[str, Any]]:
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
    if not rows or faults[0][0] < int(rows[0][0].split()[1]):  # from its beginning on it is something else
        if whole := _one_object(text):
            if said := formats.keyed(path, whole, option):
                raise UserError(f"{path}: {said}")
            return [("row 1", whole)]
        if _begins_with_an_object(text):
            raise UserError(
                f"{path}: its objects go over several lines. Give each on a line of its own, or all in one array."
            )
        if said := formats.guess(path, text):
            raise UserError(f"{path} is {said}")
    number, error = faults[0]
    count = f"; so are {len(faults):,} of {len(rows) + len(faults):,} lines" if len(faults) > 1 else ""
    fix = "Fix or remove the line" if rows or not count else "Give a JSON or JSON Lines file"
    raise UserError(f"{path}, line {number}: not JSON ({_fault(error)}){count}. {fix}.")


def _one_object(text: str) -> Row | None:
    """The object that a text is as a whole."""
    try:
        whole = _load(text)
    except (ValueError, RecursionError):
        return None
    return whole if isinstance(whole, dict) else None


def _begins_with_an_object(text: str) -> bool:
    """Whether what stands in the first lines, and not in the first alone, is one object."""
    try:
        found, end = json.JSONDecoder().raw_decode(text.lstrip())
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "\n" in text.lstrip()[:end]


def _under(path: Path, text: str, field: str, option: str | None) -> list[tuple[str, Any]]:
    whole = _one_object(text)
    if whole is None:
        raise UserError(
            f"{path}: {option}={field} is for a file of one JSON object, and this is none. Set {option}=null, unless its "
            "JSON is broken."
        )
    if field not in whole:
        raise UserError(f"{path}: no key '{field}' (it has {', '.join(whole) or 'none'}). Set {option} to one of them.")
    if not isinstance(whole[field], list):
        raise UserError(f"{path}: its '{field}' is no array of rows. Set {option} to a key that has one.")
    return [(f"row {number}", row) for number, row in enumerate(whole[field], 1)]


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write one JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
