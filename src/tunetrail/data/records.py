"""Files of Alpaca rows or IFEval prompts -> checked rows, and their split. An error names file, row and how many there are.

`jsonlines` and `formats` report files that are not JSON; `contract` counts duplicates, overlap and lengths.
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
_OPTION = "prepare.field"  # sets `field` of `jsonlines.read`
# Names of fields with earlier turns of the conversation, if the field has a list or an object; if it has text; and names of
# fields with a whole conversation.
_EARLIER = re.compile(r"(.*[_-]|chat|conversation|dialogue?)?history|(previous|prior|past|earlier)([_-].*)?", re.IGNORECASE)
_EARLIER_IN_TEXT = re.compile(r"((chat|conversation)[_-]?)?history", re.IGNORECASE)
_HALF_CHARACTER = ("it has half a character (a lone surrogate)", "Give whole ones.")
_CHAT = ("messages", "conversations", "conversation", "dialogue", "dialog", "turns", "chat")


class _Fault(ValueError):
    """What is wrong with a row; rows with the same `kind` are counted together."""

    def __init__(self, message: str, fix: str = "Fix or remove the row.", kind: str | None = None):
        super().__init__(message)
        self.fix = fix
        self.kind = kind or message


def read_instructions(path: Path, empty: str = "refuse", field: str | None = None) -> list[Row]:
    """Return `instructions` of a file.

    Raises:
        UserError: as `read` and `instructions`.
    """
    return instructions(path, read(path, field, _OPTION), empty)


def instructions(path: Path, rows: list[Row], empty: str = "refuse") -> list[Row]:
    """Return Alpaca rows {"instruction", "input", "output"}; a missing or null input is "", other fields are left out.

    `empty` says what to do with rows without an instruction or an output: "refuse", "drop" or "keep" them.

    Raises:
        UserError: a row of `path` has missing or empty fields, fields that are not text, or earlier turns; or none is left.
    """
    fix = "Give each row an instruction and an output, both text"
    if any(not _lacks(row) for row in rows):
        fix += f", or leave out what is empty: {_OPTION.replace('field', 'empty')}=drop"

    def check(row: Row) -> Row:
        fields = {name: _text(row, name) for name in FIELDS}
        if empty == "refuse" and (missing := _lacks(fields)):
            raise _Fault(f"'{missing}' is empty", f"{fix}.")
        if any(map(has_half_character, fields.values())):
            raise _Fault(*_HALF_CHARACTER)
        if earlier := [name for name, value in row.items() if _has_turns(name, value)]:
            raise _Fault(
                f"'{earlier[0]}' has earlier turns, for which the template has no place",
                "Give each row as one question, all of it in its instruction, or leave such rows out of the file.",
            )
        return fields

    checked = _checked(path, rows, check, _OPTION)
    if empty != "keep":
        checked = [row for row in checked if not is_empty(row)]
    if not checked:
        raise UserError(f"{path}: no row with an instruction and an output. Give a file with at least one.")
    return checked


def _text(row: Row, field: str) -> str:
    """Return a field of an Alpaca row; null is empty, and so is a missing input."""
    if field not in row and field != "input":
        names = ", ".join(sorted(row)) or "none"
        fix = "Give each row an instruction and an output, and maybe an input."
        if chat := [name for name in _CHAT if isinstance(row.get(name), list)]:
            message = f"no field '{field}': a chat row, whose '{chat[0]}' has {len(row[chat[0]])} turns"
            raise _Fault(message, f"Chat rows are not read. {fix}", "chat")
        raise _Fault(f"no field '{field}' (it has {names})", fix, f"no {field}")
    value = row.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        kind = {bool: "a boolean", int: "a number", float: "a number", list: "an array", dict: "an object"}[type(value)]
        message = f"'{field}' is not text but {kind}, {json.dumps(value)[:40]}"
        raise _Fault(message, f"Give text in quotation marks, or null for no {field}.", f"{field} {kind}")
    return value


def _lacks(row: Row) -> str | None:
    """Return the field of an Alpaca row that must have text and has none."""
    return next((name for name in ("instruction", "output") if not str(row.get(name) or "").strip()), None)


def _has_content(value: Any) -> bool:
    """Return whether a JSON value is more than null, "", [] and {}, at any depth."""
    if isinstance(value, dict | list):
        return any(map(_has_content, value.values() if isinstance(value, dict) else value))
    return value not in (None, "")


def _has_turns(name: str, value: Any) -> bool:
    """Return whether a field has turns before the row's question. A `history` that is a number or a patient's has none."""
    names = {str: _EARLIER_IN_TEXT, list: _EARLIER, dict: _EARLIER}.get(type(value))
    return bool(names and names.fullmatch(name)) and _has_content(value)


def left_out(rows: list[Row]) -> dict[str, int]:
    """Return the fields that have content and are not read, with the number of rows."""
    return dict(Counter(name for row in rows for name in row if name not in FIELDS and _has_content(row[name])))


def listed(fields: dict[str, int]) -> str:
    """Return the first eight fields of `left_out` in words; "" if there are none."""
    parts = [f"{name} in {count:,} {'row' if count == 1 else 'rows'}" for name, count in list(fields.items())[:8]]
    more = f" and {len(fields) - 8} more fields" if len(fields) > 8 else ""
    return f"left out: {', '.join(parts)}{more}" if parts else ""


def has_half_character(text: str) -> bool:
    """Return whether `text` has a lone surrogate, which JSON can express and UTF-8 cannot."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def is_empty(row: Row) -> bool:
    """Return whether an Alpaca row has no instruction or no output."""
    return _lacks(row) is not None


def question(row: Row) -> str:
    """Return the question of an Alpaca row, in lower case and without repeated white space, to compare rows by."""
    return " ".join(f"{row['instruction']} {row.get('input', '')}".split()).casefold()


def split(rows: list[Row], take: int | None, held_out: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Return the rows to train on and those to validate with, drawn with `seed`; `take` draws that many rows first.

    `held_out` is a number of rows, or below 1 a share of those drawn, at least one row. A question that occurs in several
    rows is never held out, so that no validation question is trained on.

    Raises:
        UserError: there are not enough rows, or not enough with a unique question.
    """
    if take and take > len(rows):
        raise UserError(f"prepare.take={take}: there are {len(rows)} rows. Take fewer, or all of them (null).")
    drawn = random.Random(seed).sample(rows, take or len(rows))
    times = Counter(map(question, drawn))
    unique = [index for index, row in enumerate(drawn) if times[question(row)] == 1]
    count = int(held_out) if held_out >= 1 else max(1, round(held_out * len(drawn)))
    if count >= len(drawn) or count > len(unique):
        share = f" ({count} rows)" if held_out < 1 else ""
        raise UserError(
            f"{len(drawn)} rows, {len(unique)} of them with a unique question, and prepare.validation_rows={held_out}"
            f"{share} leaves none to train on or asks for more than those. Give more rows or hold out fewer."
        )
    validation = set(unique[:count])
    train = [row for index, row in enumerate(drawn) if index not in validation]
    return train, [drawn[index] for index in unique[:count]]


def read_prompts(path: Path) -> list[Row]:
    """Return IFEval prompts {"key", "prompt", "instruction_id_list", "kwargs"}, one kwargs for each instruction id.

    Raises:
        UserError: as `read`, or a row has another form.
    """

    def check(row: Row) -> Row:
        for field, kind in (("key", int), ("prompt", str), ("instruction_id_list", list), ("kwargs", list)):
            _require(row, field, kind)
        if not row["instruction_id_list"]:
            raise _Fault("'instruction_id_list' is empty")
        if not all(isinstance(kind, str) for kind in row["instruction_id_list"]):
            raise _Fault("'instruction_id_list' has something that is not text")
        if not all(isinstance(arguments, dict) for arguments in row["kwargs"]):
            raise _Fault("'kwargs' has something that is not an object")
        if len(row["instruction_id_list"]) != len(row["kwargs"]):
            raise _Fault("'instruction_id_list' and 'kwargs' differ in length")
        if has_half_character(json.dumps(row, ensure_ascii=False)):
            raise _Fault(*_HALF_CHARACTER)
        return row

    return _checked(path, read(path), check)


def _checked(path: Path, rows: list[Row], check: Callable[[Row], Row], option: str | None = None) -> list[Row]:
    """Return the rows as `check` returns them.

    Raises:
        UserError: `check` raised a `_Fault`: the first one, and the number of rows with the same.
    """
    checked, faults = [], []
    for number, row in enumerate(rows, 1):
        try:
            checked.append(check(row))
        except _Fault as fault:
            faults.append((number, fault))
    if not faults:
        return checked
    number, first = faults[0]
    if len(rows) == 1 and first.kind.startswith("no ") and (kind := formats.keyed(path, rows[0], option)):
        raise UserError(f"{path}: {kind}")
    count = sum(fault.kind == first.kind for _, fault in faults)
    verb = "is" if count == 1 else "are"
    raise UserError(f"{path}, row {number}: {first}; so {verb} {count:,} of {len(rows):,} rows. {first.fix}")


def _require(row: Row, field: str, kind: type) -> None:
    if field not in row:
        raise _Fault(f"no field '{field}' (it has {', '.join(sorted(row)) or 'none'})", kind=f"no {field}")
    if type(row[field]) is not kind:
        raise _Fault(f"'{field}' is not {'text' if kind is str else f'a JSON {kind.__name__}'}")
