"""IFEval prompts -> those of their instructions that lm-eval's checkers refuse, or would put something of their own into.

The checkers are built, and read one answer, before any model is: an id that lm-eval does not know, or an argument that it
does not take, ends an evaluation only after every prompt has been answered. Not covered: the shape of the rows, which is
`records.read_prompts`'s.
"""

import difflib
import inspect
import json
import textwrap
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunetrail import UserError, answers
from tunetrail.data import hub, records, world

# Arguments of a checker; a published prompt has those of all checkers, and null for what is not its own.
Instruction = tuple[str, dict[str, Any]]

_ANSWER = "SECTION 1\nA cat sat. It was warm.\n\n***\n\n* one\n* two\n\nP.S. the end"
_SHOWN = 3  # of several faults of one file


def ask(values: dict[str, Any], root: Path) -> Callable[[], str]:
    """Begin to ask lm-eval for the prompts of the composed `values`; the result waits for what it has against them, or "".

    Prompts of the demo's own, or of the hub that are not in its cache, are not looked at. Raises, and so does the result:
        UserError: the file cannot be read, or lm-eval cannot be asked.
    """
    evaluate = values["evaluate"]
    if evaluate["path"] == world.SOURCE:
        return lambda: ""
    file = hub.cached(**evaluate["hub"], repo_type="dataset") if evaluate["hub"] else root / evaluate["path"]
    if not file:
        return lambda: ""
    prompts = records.read_prompts(file)
    waiting = answers.ask(
        "evaluation.instructions", _distinct(prompts), "asking lm-eval's checkers whether they take these prompts"
    )
    return lambda: _message(prompts, waiting(), evaluate["hub"]["filename"] if evaluate["hub"] else evaluate["path"])


def check(prompts: list[records.Row], file: Path) -> None:
    """As `ask`, here: importing the checkers takes seconds.

    Raises:
        UserError: lm-eval's checkers do not take the prompts.
    """
    if message := _message(prompts, answer(_distinct(prompts)), str(file)):
        raise UserError(message)


def _given(row: records.Row) -> list[Instruction]:
    """The instructions of a prompt; lm-eval leaves out arguments that are null, 0 or empty."""
    kwargs = [{name: value for name, value in given.items() if value} for given in row["kwargs"]]
    return list(zip(row["instruction_id_list"], kwargs, strict=True))


def _distinct(prompts: list[records.Row]) -> list[Instruction]:
    """Each instruction once, in the order of the prompts."""
    found = {json.dumps(one, sort_keys=True): one for row in prompts for one in _given(row)}
    return list(found.values())


def _message(prompts: list[records.Row], faults: list[str], name: str) -> str:
    """Which rows have which fault, and what to do; "" where there is none. `faults`: one text for each of `_distinct`."""
    by_instruction = {json.dumps(one, sort_keys=True): text for one, text in zip(_distinct(prompts), faults, strict=True)}
    first, rows = {}, Counter()
    for number, row in enumerate(prompts, 1):
        for text in {by_instruction[json.dumps(one, sort_keys=True)] for one in _given(row)} - {""}:
            first.setdefault(text, number)
            rows[text] += 1
    lines = [f"row {first[text]}: {text} ({rows[text]} of {len(prompts)} rows)" for text in list(first)[:_SHOWN]]
    more = f"; and {len(first) - _SHOWN} more" if len(first) > _SHOWN else ""
    return f"{name}, {'; '.join(lines)}{more}. Change or remove these rows." if lines else ""


def answer(instructions: list[Instruction]) -> list[str]:
    """What lm-eval has against each instruction, or "", in a process that may import it."""
    from tunetrail.evaluation.ifeval import checkers

    return [_fault(checkers, kind, kwargs) for kind, kwargs in instructions]


def _fault(checkers: Any, kind: str, kwargs: dict[str, Any]) -> str:
    known = checkers.known()
    if kind not in known:
        (near,) = difflib.get_close_matches(kind, known, n=1, cutoff=0)
        return f"lm-eval knows no instruction id {kind!r}; the nearest that it knows is {near!r}"
    takes = inspect.signature(known[kind].build_description).parameters.keys() - {"self"}
    if unknown := sorted(kwargs.keys() - takes):
        return f"{kind!r} takes no {', '.join(map(repr, unknown))}; it takes {', '.join(sorted(takes)) or 'no argument'}"
    given = textwrap.shorten(json.dumps(kwargs, ensure_ascii=False), 80)
    try:
        used, drew = checkers.built(kind, kwargs, _ANSWER)
    except Exception as error:
        named = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        return f"{kind!r} does not take {given} ({named}{textwrap.shorten(str(error), 120)})"
    # Two published prompts count a sign that is no letter, for which the checker draws a letter.
    a_sign = kind == "keywords:letter_frequency" and len(kwargs.get("letter", "")) == 1
    missing = sorted(takes - kwargs.keys())
    if drew and (missing or not a_sign):
        lacks = f"has no {', '.join(map(repr, missing))}" if missing else f"cannot use {given}"
        return f"{kind!r} {lacks}: its checker would draw a value at random, of which the prompt says nothing"
    other = [name for name, value in kwargs.items() if type((used or {}).get(name, value)) is not type(value)]
    if other:
        return f"{kind!r} takes another type for {', '.join(map(repr, other))} than in {given}"
    return ""
