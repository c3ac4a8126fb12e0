"""Files of Alpaca rows or IFEval prompts -> checked rows, split in two. A fault names file, row and how many there are.

Not covered: what is no JSON (`jsonlines`, `formats`), and judging what the rows say: duplicates, overlap and length are
`contract`'s.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunetrail import UserError
from tunetrail.data import formats
from tunetrail.data.jsonlines import Row, read, write

__all__ = ["Row", "read", "write"]

FIELDS = ("instruction", "input", "output")
_OPTION = "prepare.field"  # the key of `jsonlines.read`, as a person gives it
# Fields of turns before the row's question: by these names where they hold a list or an object, by those text too; and of
# rows that are whole conversations.
_EARLIER = re.compile(r"(.*[_-]|chat|conversation|dialogue?)?history|(previous|prior|past|earlier)([_-].*)?", re.IGNORECASE)
_EARLIER_IN_TEXT = re.compile(r"((chat|conversation)[_-]?)?history", re.IGNORECASE)
_HALF = ("it has half a character (a lone surrogate)", "Give whole ones.")
_CHAT = ("messages", "conversations", "conversation", "dialogue", "dialog", "turns", "chat")


class _Fault(ValueError):
    """What is wrong with a row; rows with the same `kind` are counted together."""

    def __init__(self, what: str, fix: str = "Fix or remove the row.", kind: str | None = None):
        super().__init__(what)
        self.fix, self.kind = fix, kind or what


def read_instructions(path: Path, empty: str = "refuse", field: str | None = None) -> list[Row]:
    """`instructions` of a file's rows.

    Raises:
        UserError: as `read` and `instructions`.
    """
    return instructions(path, read(path, field, _OPTION), empty)


def instructions(path: Path, rows: list[Row], empty: str = "refuse") -> list[Row]:
    """Alpaca rows {"instruction", "input", "output"}; a missing or null input is "", other fields are left out (`left_out`).

    Rows without an instruction or an output are refused, left out where `empty` is "drop", or kept where it is "keep".

    Raises:
        UserError: a row of `path` whose fields are missing, empty or not text, or that has earlier turns: its number and how
            many there are. Or none is left.
    """
    fix = "Give each row an instruction and an output, both text"
    if any(not _lacks(row) for row in rows):
        fix += f", or leave out what is empty: {_OPTION.replace('field', 'empty')}=drop"

    def check(row: Row) -> Row:
        kept = {name: _text(row, name) for name in FIELDS}
        if empty == "refuse" and (lacking := _lacks(kept)):
            raise _Fault(f"'{lacking}' is empty", f"{fix}.")
        if any(map(has_half_character, kept.values())):
            raise _Fault(*_HALF)
        if earlier := [name for name, value in row.items() if _has_turns(name, value)]:
            raise _Fault(
                f"'{earlier[0]}' has what was said before the question, for which the template has no place",
                "Give each row as one question, with all of it in its instruction, or leave such rows out of the file.",
            )
        return kept

    kept = _checked(path, rows, check, _OPTION)
    kept = kept if empty == "keep" else [row for row in kept if not is_empty(row)]
    if not kept:
        raise UserError(f"{path}: no row with an instruction and an output. Give a file with at least one.")
    return kept


def _text(row: Row, field: str) -> str:
    """A field of an Alpaca row; null is empty, and so is an input that is not there."""
    if field not in row and field != "input":
        names = ", ".join(sorted(row)) or "none"
        fix = "Give each row an instruction and an output, and maybe an input."
        if chat := [name for name in _CHAT if isinstance(row.get(name), list)]:
            what = f"no field '{field}': a chat row, whose '{chat[0]}' holds {len(row[chat[0]])} turns"
            raise _Fault(what, f"Chat rows are not read. {fix}", "chat")
        raise _Fault(f"no field '{field}' (it has {names})", fix, f"no {field}")
    value = row.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        kind = {bool: "a boolean", int: "a number", float: "a number", list: "an array", dict: "an object"}[type(value)]
        what = f"'{field}' is not text but {kind}, {json.dumps(value)[:40]}"
        raise _Fault(what, f"Give text in quotation marks, or null for no {field}.", f"{field} {kind}")
    return value


def _lacks(row: Row) -> str | None:
    """The field of an Alpaca row that should say something and does not."""
    return next((name for name in ("instruction", "output") if not str(row.get(name) or "").strip()), None)


def _says_something(value: Any) -> bool:
    """Whether a value of JSON is or holds anything but nothing: null, "", [], {}."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return any(map(_says_something, parts)) if parts is not None else value not in (None, "")


def _has_turns(name: str, value: Any) -> bool:
    """Whether a field holds turns before the row's question. Not every history is one: a patient's, a number, a tense."""
    names = {str: _EARLIER_IN_TEXT, list: _EARLIER, dict: _EARLIER}.get(type(value))
    return bool(names and names.fullmatch(name)) and _says_something(value)


def left_out(rows: list[Row]) -> dict[str, int]:
    """The fields that hold something and are not read, and in how many rows."""
    return dict(Counter(name for row in rows for name in row if name not in FIELDS and _says_something(row[name])))


def listed(fields: dict[str, int]) -> str:
    """What `left_out` has, in words, the first eight fields of it; "" where there are none."""
    words = [f"{name} in {count:,} row{'s' * (count != 1)}" for name, count in list(fields.items())[:8]]
    more = f" and {len(fields) - 8} more fields" if len(fields) > 8 else ""
    return f"left out: {', '.join(words)}{more}" if words else ""


def has_half_character(text: str) -> bool:
    """Whether a lone surrogate is in `text`, which JSON can write and UTF-8 cannot."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def is_empty(row: Row) -> bool:
    """Whether an Alpaca row asks nothing or answers nothing."""
    return _lacks(row) is not None


def question(row: Row) -> str:
    """What an Alpaca row asks, by which rows are told apart: white space and case do not count."""
    return " ".join(f"{row['instruction']} {row.get('input', '')}".split()).casefold()


def split(rows: list[Row], take: int | None, held_out: float, seed: int) -> tuple[list[Row], list[Row]]:
    """The rows to train on and those to validate with, drawn by `seed`; `take` draws that many of the rows first.

    `held_out` is a number of rows, or below 1 a share of those drawn, at least one.

    A question that occurs in several rows is never held out: what is validated with was not trained on.

    Raises:
        UserError: there are not that many rows, or not that many with a question of their own.
    """
    if take and take > len(rows):
        raise UserError(f"prepare.take={take}: there are {len(rows)} rows. Take fewer, or all of them (null).")
    drawn = random.Random(seed).sample(rows, take or len(rows))
    times = Counter(map(question, drawn))
    single = [place for place, row in enumerate(drawn) if times[question(row)] == 1]
    count = int(held_out) if held_out >= 1 else max(1, round(held_out * len(drawn)))
    if count >= len(drawn) or count > len(single):
        share = f" ({count} rows)" if held_out < 1 else ""
        raise UserError(
            f"{len(drawn)} rows, {len(single)} of them with a question of their own, and prepare.validation_rows={held_out}"
            f"{share} leaves none to train on or asks for more than those. Give more rows or hold out fewer."
        )
    places = set(single[:count])
    kept = [row for place, row in enumerate(drawn) if place not in places]
    return kept, [drawn[place] for place in single[:count]]


def read_prompts(path: Path) -> list[Row]:
    """IFEval prompts {"key", "prompt", "instruction_id_list", "kwargs"}, one kwargs for each instruction id.

    Raises:
        UserError: as `read`, or a row of another shape (with its number).
    """

    def check(row: Row) -> Row:
        for field, kind in (("key", int), ("prompt", str), ("instruction_id_list", list), ("kwargs", list)):
            _require(row, field, kind)
        if not row["instruction_id_list"]:
            raise _Fault("'instruction_id_list' is empty")
        if not all(isinstance(kind, str) for kind in row["instruction_id_list"]):
            raise _Fault("'instruction_id_list' holds something that is not text")
        if not all(isinstance(arguments, dict) for arguments in row["kwargs"]):
            raise _Fault("'kwargs' holds something that is not an object")
        if len(row["instruction_id_list"]) != len(row["kwargs"]):
            raise _Fault("'instruction_id_list' and 'kwargs' differ in length")
        if has_half_character(json.dumps(row, ensure_ascii=False)):
            raise _Fault(*_HALF)
        return row

    return _checked(path, read(path), check)


def _checked(path: Path, rows: list[Row], check: Callable[[Row], Row], option: str | None = None) -> list[Row]:
    """The rows as `check` returns them.

    Raises:
        UserError: the first one that it has something against, and in how many rows it is the same.
    """
    kept, faults = [], []
    for number, row in enumerate(rows, 1):
        try:
            kept.append(check(row))
        except _Fault as fault:
            faults.append((number, fault))
    if not faults:
        return kept
    if len(rows) == 1 and faults[0][1].kind.startswith("no ") and (said := formats.keyed(path, rows[0], option)):
        raise UserError(f"{path}: {said}")
    number, first = faults[0]
    count = sum(fault.kind == first.kind for _, fault in faults)
    so = f"; so {'is' if count == 1 else 'are'} {count:,} of {len(rows):,} rows"
    raise UserError(f"{path}, row {number}: {first}{so}. {first.fix}")


def _require(row: Row, field: str, kind: type) -> None:
    if field not in row:
        raise _Fault(f"no field '{field}' (it has {', '.join(sorted(row)) or 'none'})", kind=f"no {field}")
    if type(row[field]) is not kind:
        raise _Fault(f"'{field}' is not {'text' if kind is str else f'a JSON {kind.__name__}'}")
