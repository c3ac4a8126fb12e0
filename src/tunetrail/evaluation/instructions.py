"""IFEval prompts -> the instructions in them that lm-eval's checkers refuse, or would complete with random values.

lm-eval fails at an unknown instruction id or argument only after every prompt has been answered, so the checkers are built,
and check one answer, before any model is. `records.read_prompts` checks the form of the rows.
"""

import difflib
import inspect
import json
import textwrap
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunetrail import UserError, tool_queries
from tunetrail.data import hub, records, world

# Instruction id and arguments. In a published prompt the arguments of other checkers are null.
Instruction = tuple[str, dict[str, Any]]

_ANSWER = "SECTION 1\nA cat sat. It was warm.\n\n***\n\n* one\n* two\n\nP.S. the end"
_SHOWN = 3  # faults of one file


def ask(values: dict[str, Any], root: Path) -> Callable[[], str]:
    """Start to check the prompts of the composed `values`; the result waits for lm-eval's errors, "" if there are none.

    The demo's own prompts are not checked, nor prompts of the hub that are not in its cache. Raises, as does the result:
        UserError: the file cannot be read, or lm-eval cannot be asked.
    """
    evaluate = values["evaluate"]
    if evaluate["path"] == world.SOURCE:
        return lambda: ""
    file = hub.cached(**evaluate["hub"], repo_type="dataset") if evaluate["hub"] else root / evaluate["path"]
    if not file:
        return lambda: ""
    prompts = records.read_prompts(file)
    waiting = tool_queries.ask(
        "evaluation.instructions", _distinct(prompts), "asking lm-eval's checkers whether they take these prompts"
    )
    return lambda: _message(prompts, waiting(), evaluate["hub"]["filename"] if evaluate["hub"] else evaluate["path"])


def check(prompts: list[records.Row], file: Path) -> None:
    """Check prompts in this process; importing the checkers takes seconds.

    Raises:
        UserError: lm-eval's checkers do not take the prompts.
    """
    if message := _message(prompts, answer(_distinct(prompts)), str(file)):
        raise UserError(message)


def _instructions(row: records.Row) -> list[Instruction]:
    """Return the instructions of a prompt; lm-eval leaves out arguments that are null, 0 or empty."""
    kwargs = [{name: value for name, value in arguments.items() if value} for arguments in row["kwargs"]]
    return list(zip(row["instruction_id_list"], kwargs, strict=True))


def _distinct(prompts: list[records.Row]) -> list[Instruction]:
    """Return each instruction once, in the order of the prompts."""
    return list({_key(instruction): instruction for row in prompts for instruction in _instructions(row)}.values())


def _key(instruction: Instruction) -> str:
    return json.dumps(instruction, sort_keys=True)


def _message(prompts: list[records.Row], faults: list[str], name: str) -> str:
    """Return which rows have which fault, and the fix; "" if there is none. `faults` has a text for each of `_distinct`."""
    by_key = {_key(instruction): fault for instruction, fault in zip(_distinct(prompts), faults, strict=True)}
    first: dict[str, int] = {}
    rows: Counter[str] = Counter()
    for number, row in enumerate(prompts, 1):
        for fault in {by_key[_key(instruction)] for instruction in _instructions(row)} - {""}:
            first.setdefault(fault, number)
            rows[fault] += 1
    lines = [f"row {first[fault]}: {fault} ({rows[fault]} of {len(prompts)} rows)" for fault in list(first)[:_SHOWN]]
    more = f"; and {len(first) - _SHOWN} more" if len(first) > _SHOWN else ""
    return f"{name}, {'; '.join(lines)}{more}. Change or remove these rows." if lines else ""


def answer(instructions: list[Instruction]) -> list[str]:
    """Return lm-eval's error for each instruction, or "". Imports lm-eval; `tool_queries` calls it in its own process."""
    from tunetrail.evaluation.ifeval import checkers

    return [_fault(checkers, kind, kwargs) for kind, kwargs in instructions]


def _fault(checkers: Any, kind: str, kwargs: dict[str, Any]) -> str:
    known = checkers.known()
    if kind not in known:
        (near,) = difflib.get_close_matches(kind, known, n=1, cutoff=0)
        return f"lm-eval has no instruction id {kind!r}; the nearest is {near!r}"
    takes = inspect.signature(known[kind].build_description).parameters.keys() - {"self"}
    if unknown := sorted(kwargs.keys() - takes):
        return f"{kind!r} takes no {', '.join(map(repr, unknown))}; it takes {', '.join(sorted(takes)) or 'no argument'}"
    shown = textwrap.shorten(json.dumps(kwargs, ensure_ascii=False), 80)
    try:
        used, is_random = checkers.build(kind, kwargs, _ANSWER)
    except Exception as error:
        name = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        return f"{kind!r} does not take {shown} ({name}{textwrap.shorten(str(error), 120)})"
    # Two published prompts ask to count a sign that is not a letter; the checker counts a random letter instead.
    is_sign = kind == "keywords:letter_frequency" and len(kwargs.get("letter", "")) == 1
    missing = sorted(takes - kwargs.keys())
    if is_random and (missing or not is_sign):
        problem = f"has no {', '.join(map(repr, missing))}" if missing else f"cannot use {shown}"
        return f"{kind!r} {problem}: its checker would use a random value, which is not in the prompt"
    other_type = [name for name, value in kwargs.items() if type((used or {}).get(name, value)) is not type(value)]
    if other_type:
        return f"{kind!r} takes another type for {', '.join(map(repr, other_type))} than in {shown}"
    return ""
