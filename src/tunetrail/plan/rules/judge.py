"""Composed values, a plan's facts and the environment -> what is wrong with the run, and what of it refuses the run.

Not covered: the rules themselves (`stops`, `invalid`, `effects`, `unusual`, `risks`).
"""

import difflib
import shlex
import textwrap
from collections.abc import Mapping
from typing import Any

from tunetrail import UserError
from tunetrail.config import check, synonyms
from tunetrail.plan.rules import effects, invalid, risks, stops, unusual
from tunetrail.plan.rules.finding import ERROR, WARNING, Finding, at, overrides

_ERRORS = (*stops.RULES, *invalid.RULES, *effects.ERRORS)
RULES = (*_ERRORS, *unusual.RULES, *risks.RULES, *effects.WARNINGS)
UNKNOWN_KEY, AXOLOTL_REFUSES, CHECKERS_REFUSE = "UNKNOWN_KEY", "AXOLOTL_REFUSES", "CHECKERS_REFUSE"
NEVER_ALLOWED = (UNKNOWN_KEY, AXOLOTL_REFUSES, CHECKERS_REFUSE)  # the tool that owns it would stop
ALLOWABLE = tuple(rule.__name__.upper() for rule in _ERRORS)
CODES = (*NEVER_ALLOWED, *(rule.__name__.upper() for rule in (*RULES, risks.telemetry_on)))


def judge(values: dict[str, Any], facts: dict[str, Any], environ: Mapping[str, str]) -> list[Finding]:
    """What is wrong with the run of `values` (what params.yaml would hold), by its facts (`facts.make`): errors first."""
    found = [rule(values, facts) for rule in RULES] + [risks.telemetry_on(environ)]
    return [one for one in found if one]


def unknown_keys(refused: check.Refused, values: dict[str, Any], words: list[str]) -> list[Finding]:
    """A finding for each key that nobody reads, of what `config.check` has against the `values` that the words compose, or
    Hydra, which then composed none. The value of a key goes to the one that means the same; what is only spelled like it is
    for a person to decide.

    Raises:
        Refused: `refused` itself, where it is about something else, too.
    """
    if not all(fault.unknown for fault in refused.faults):
        raise refused
    why = "The tool would ignore the key without a word. plan.allow does not apply."
    meant = [one.instead for one in refused.faults] + [word.partition("=")[0].lstrip("+") for word in words]
    fixes = [_in_its_place(one, values or refused.values, words, meant.count(one.instead)) for one in refused.faults]
    return [Finding(UNKNOWN_KEY, ERROR, one.message, why, fix) for one, fix in zip(refused.faults, fixes, strict=True)]


def _in_its_place(fault: check.Fault, values: dict[str, Any], words: list[str], claims: int) -> str:
    """The overrides that give a key's value to the one that means the same, which `claims` keys set; or what a person must
    do."""
    if not fault.instead:
        return f"correct {fault.key}, or leave it out"
    if claims > 1:
        return f"leave out all but one of the keys that set {fault.instead}"
    try:
        value = at(values, fault.key)
    except KeyError:  # Hydra did not compose it: it was typed
        typed = next(word.partition("=")[2] for word in words if word.partition("=")[0].lstrip("+") == fault.key)
        plus = overrides(values, {fault.instead: None}).partition(fault.instead)[0]
        return f"~{fault.key} {shlex.quote(f'{plus}{fault.instead}={synonyms.value(fault.instead, typed)}')}"
    return f"~{fault.key} {overrides(values, {fault.instead: synonyms.value(fault.instead, value)})}"


def tools_refuse(values: dict[str, Any], axolotl: dict[str, Any], checkers: str, here: bool) -> list[Finding]:
    """What the tools themselves have against the run: `acceptance.ask`'s answer and `instructions.ask`'s.

    A package that is missing where the run is only planned (`here` is false) is said and does not refuse.
    """
    why = "Axolotl refuses its config when training starts, after the base was evaluated. plan.allow does not apply."
    found = []
    for section, refusal in axolotl.items():
        key = refusal["key"] and f"{section}.{refusal['key']}"
        shown = textwrap.shorten(f"{key}={at(values, key)}", 80) if key else section
        fix = overrides(values, {key: None}) if key else "another value for what it names"
        level = WARNING if refusal["package"] and not here else ERROR
        found.append(Finding(AXOLOTL_REFUSES, level, f"{shown}: {refusal['message']}", why, fix))
    if checkers:
        why = (
            "The evaluation would fail after every prompt was answered, or score something else. plan.allow does not apply."
        )
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
            fix = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(ALLOWABLE)}."
            raise UserError(f"plan.allow: {code}: no such code. {fix}")
    return [one for one in findings if one.level == ERROR and (one.code not in allow or one.code in NEVER_ALLOWED)]
