"""Files of Alpaca rows or IFEval prompts -> checked rows, split in two; rows -> JSON Lines. A fault names file and place.

Not covered: judging what the rows say. Duplicates, overlap and length are `contract`'s.
"""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tunetrail import UserError

Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """The rows of a .json file (one array) or .jsonl file (one object a line; blank lines are skipped).

    Raises:
        UserError: no such file, not UTF-8, not JSON (with the line), not rows, or no row at all.
    """
    if not path.is_file():
        raise UserError(missing(path))
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path}, line {line}: not UTF-8. Convert it from what it is: iconv -f LATIN1 -t UTF-8 {path}"
        ) from None
    numbered = _array(path, text) if text.lstrip().startswith("[") else _lines(path, text)
    if not numbered:
        raise UserError(f"{path}: no rows. Give a file with at least one row.")
    for where, row in numbered:
        if not isinstance(row, dict):
            raise UserError(f"{path}, {where}: {json.dumps(row)[:40]} is not an object. Each row is one {{...}}.")
    return [row for _, row in numbered]


def missing(path: Path | str) -> str:
    """The message for a file that is not there."""
    return f"{path}: no such file in {Path.cwd()}. Give the path of a JSON or JSON Lines file."


def _array(path: Path, text: str) -> list[tuple[str, Any]]:
    try:
        return [(f"row {number}", row) for number, row in enumerate(json.loads(text), 1)]
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise UserError(f"{path}, line {line}: not JSON ({getattr(error, 'msg', error)}). Mend or remove it.") from None


def _lines(path: Path, text: str) -> list[tuple[str, Any]]:
    rows = []
    # Not splitlines(): it also breaks at U+2028 and the like, which JSON allows inside a string.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append((f"line {number}", json.loads(line)))
        except (ValueError, RecursionError) as error:
            what = getattr(error, "msg", error)
            raise UserError(f"{path}, line {number}: not JSON ({what}). Mend or remove the line.") from None
    return rows


def read_instructions(path: Path, empty: str = "refuse") -> list[Row]:
    """Alpaca rows {"instruction", "input", "output"}; a missing input is "", and other fields are left out.

    Rows without an instruction or an output are refused, or left out where `empty` is "drop".

    Raises:
        UserError: as `read`, or a row whose instruction or output is missing, empty or not text (with its number), or none
            is left.
    """

    def check(row: Row) -> Row:
        for field in ("instruction", "output"):
            _require(row, field, str)
            if empty == "refuse" and not row[field].strip():
                raise ValueError(f"'{field}' is empty")
        if not isinstance(row.get("input") or "", str):
            raise ValueError("'input' is not text")
        kept = {"instruction": row["instruction"], "input": row.get("input") or "", "output": row["output"]}
        if any(map(has_half_character, kept.values())):
            raise ValueError("it has half a character (a lone surrogate)")
        return kept

    rows = [row for row in _checked(path, check) if not is_empty(row)]
    if not rows:
        raise UserError(f"{path}: no row with an instruction and an output. Give a file with at least one.")
    return rows


def has_half_character(text: str) -> bool:
    """Whether a lone surrogate is in `text`, which JSON can write and UTF-8 cannot."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def is_empty(row: Row) -> bool:
    """Whether an Alpaca row asks nothing or answers nothing."""
    return not (row["instruction"].strip() and row["output"].strip())


def question(row: Row) -> str:
    """What an Alpaca row asks, by which rows are told apart: white space and case do not count."""
    return " ".join(f"{row['instruction']} {row.get('input') or ''}".split()).casefold()


def split(rows: list[Row], take: int | None, held_out: int, seed: int) -> tuple[list[Row], list[Row]]:
    """The rows to train on and those to validate with, drawn by `seed`; `take` draws that many of the rows first.

    A question that occurs in several rows is never held out: what is validated with was not trained on.

    Raises:
        UserError: there are not that many rows, or not that many with a question of their own.
    """
    if take and take > len(rows):
        raise UserError(f"prepare.take={take}: there are {len(rows)} rows. Take fewer, or all of them (null).")
    drawn = random.Random(seed).sample(rows, take or len(rows))
    times = Counter(map(question, drawn))
    single = [place for place, row in enumerate(drawn) if times[question(row)] == 1]
    if held_out >= len(drawn) or held_out > len(single):
        raise UserError(
            f"{len(drawn)} rows, {len(single)} of them with a question of their own, and prepare.validation_rows={held_out} "
            "leaves none to train on or asks for more than those. Give more rows or hold out fewer."
        )
    places = set(single[:held_out])
    kept = [row for place, row in enumerate(drawn) if place not in places]
    return kept, [drawn[place] for place in single[:held_out]]


def read_prompts(path: Path) -> list[Row]:
    """IFEval prompts {"key", "prompt", "instruction_id_list", "kwargs"}, one kwargs for each instruction id.

    Raises:
        UserError: as `read`, or a row of another shape (with its number).
    """

    def check(row: Row) -> Row:
        for field, kind in (("key", int), ("prompt", str), ("instruction_id_list", list), ("kwargs", list)):
            _require(row, field, kind)
        if not row["instruction_id_list"]:
            raise ValueError("'instruction_id_list' is empty")
        if not all(isinstance(kind, str) for kind in row["instruction_id_list"]):
            raise ValueError("'instruction_id_list' holds something that is not text")
        if not all(isinstance(arguments, dict) for arguments in row["kwargs"]):
            raise ValueError("'kwargs' holds something that is not an object")
        if len(row["instruction_id_list"]) != len(row["kwargs"]):
            raise ValueError("'instruction_id_list' and 'kwargs' differ in length")
        return row

    return _checked(path, check)


def _checked(path: Path, check: Callable[[Row], Row]) -> list[Row]:
    rows = []
    for number, row in enumerate(read(path), 1):
        try:
            rows.append(check(row))
        except ValueError as error:
            raise UserError(f"{path}, row {number}: {error}. Mend or remove the row.") from None
    return rows


def _require(row: Row, field: str, kind: type) -> None:
    if field not in row:
        raise ValueError(f"no field '{field}' (it has {', '.join(sorted(row)) or 'none'})")
    if not isinstance(row[field], kind):
        raise ValueError(f"'{field}' is not {'text' if kind is str else f'a JSON {kind.__name__}'}")


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write one JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
