"""Composed values, a plan's facts and the environment -> what is wrong with the run, and what of it refuses the run.

Not covered: the rules themselves (`refusals`, `validity`, `effects`, `proportions`, `cautions`).
"""

import contextlib
import difflib
import re
import textwrap
from collections.abc import Mapping
from typing import Any

from tunetrail import UserError
from tunetrail.plan import cautions, effects, proportions, refusals, validity
from tunetrail.plan.finding import ERROR, WARNING, Finding, at, overrides

_ERRORS = (*refusals.RULES, *validity.RULES, *effects.ERRORS)
RULES = (*_ERRORS, *proportions.RULES, *cautions.RULES, *effects.WARNINGS)
UNKNOWN_KEY, AXOLOTL_REFUSES, CHECKERS_REFUSE = "UNKNOWN_KEY", "AXOLOTL_REFUSES", "CHECKERS_REFUSE"
NEVER_ALLOWED = (UNKNOWN_KEY, AXOLOTL_REFUSES, CHECKERS_REFUSE)  # the tool that owns it would stop
ALLOWABLE = tuple(rule.__name__.upper() for rule in _ERRORS)
CODES = (*NEVER_ALLOWED, *(rule.__name__.upper() for rule in (*RULES, cautions.telemetry_on)))


def judge(values: dict[str, Any], facts: dict[str, Any], environ: Mapping[str, str]) -> list[Finding]:
    """What is wrong with the run of `values` (what params.yaml would hold), by its facts (`facts.make`): errors first."""
    found = [rule(values, facts) for rule in RULES] + [cautions.telemetry_on(environ)]
    return [one for one in found if one]


def unknown_key(fault: UserError, values: dict[str, Any], words: list[str]) -> Finding:
    """What was said of an unknown key, by `config.check` of the `values` that the words compose, or by Hydra, which then
    composed none. Its value goes to the key that was meant, unless that is among the words too.

    Raises:
        UserError: `fault` itself, where it is about something else.
    """
    said = re.fullmatch(r"(\S+): no such key\. (.*)", str(fault), re.DOTALL)
    if not said:
        raise fault
    key, near = said[1], re.match(r"Did you mean (\S+)\?", said[2])
    value = next((word.partition("=")[2] for word in words if word.partition("=")[0].lstrip("+") == key), "VALUE")
    mend = f"{near[1]}={value} in its place" if near else "leave it out"
    with contextlib.suppress(KeyError):  # where nothing was composed
        typed = near and any(word.lstrip("+").partition("=")[0] == near[1] for word in words)
        value = at(values, key)
        mend = f"~{key} {overrides(values, {near[1]: value})}" if near and not typed else f"~{key}"
    why = "The tool that owns it would take it in silence and do as if it were not there. It cannot be allowed."
    return Finding(UNKNOWN_KEY, ERROR, str(fault), why, mend)


def tools_refuse(values: dict[str, Any], axolotl: dict[str, Any], checkers: str, here: bool) -> list[Finding]:
    """What the tools themselves have against the run: `acceptance.ask`'s answer and `instructions.ask`'s.

    A package that is missing where the run is only planned (`here` is false) is said and does not refuse.
    """
    why = (
        "Axolotl refuses its config as the stage begins, after the base model was made and evaluated. It cannot be allowed."
    )
    found = []
    for section, refusal in axolotl.items():
        key = refusal["key"] and f"{section}.{refusal['key']}"
        shown = textwrap.shorten(f"{key}={at(values, key)}", 80) if key else section
        mend = overrides(values, {key: None}) if key else "another value for what it names"
        level = WARNING if refusal["package"] and not here else ERROR
        found.append(Finding(AXOLOTL_REFUSES, level, f"{shown}: {refusal['message']}", why, mend))
    if checkers:
        why = "The evaluation would stop when every prompt has been answered, or score something else. It cannot be allowed."
        found.append(Finding(CHECKERS_REFUSE, ERROR, checkers, why, "other rows, or evaluate.path=FILE"))
    return found


def refused(findings: list[Finding], allow: list[str]) -> list[Finding]:
    """The errors that `plan.allow` does not let pass. What a tool refuses is never let pass.

    Raises:
        UserError: `allow` has a code that does not exist; the message has the nearest one.
    """
    for code in allow:
        if code not in CODES:
            near = difflib.get_close_matches(str(code).upper(), CODES, n=1)
            remedy = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(ALLOWABLE)}."
            raise UserError(f"plan.allow: {code}: no such code. {remedy}")
    return [one for one in findings if one.level == ERROR and (one.code not in allow or one.code in NEVER_ALLOWED)]
