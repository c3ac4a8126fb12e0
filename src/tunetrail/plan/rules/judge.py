"""Composed values, a plan's facts and the environment -> all findings of the run, and those that refuse it.

The rules themselves are in `stops`, `invalid`, `effects`, `unusual` and `risks`.
"""

import difflib
import shlex
import textwrap
from collections.abc import Mapping
from typing import Any

from tunetrail import UserError
from tunetrail.config import check, synonyms
from tunetrail.plan.facts import Facts
from tunetrail.plan.rules import effects, invalid, risks, stops, unusual
from tunetrail.plan.rules.finding import ERROR, WARNING, Finding, Values, at, overrides

_ERRORS = (*stops.RULES, *invalid.RULES, *effects.ERRORS)
RULES = (*_ERRORS, *unusual.RULES, *risks.RULES, *effects.WARNINGS)
UNKNOWN_KEY, AXOLOTL_REFUSES, CHECKERS_REFUSE = "UNKNOWN_KEY", "AXOLOTL_REFUSES", "CHECKERS_REFUSE"
NEVER_ALLOWED = (UNKNOWN_KEY, AXOLOTL_REFUSES, CHECKERS_REFUSE)  # the tool that reads the key would fail
ALLOWABLE = tuple(rule.__name__.upper() for rule in _ERRORS)
CODES = (*NEVER_ALLOWED, *(rule.__name__.upper() for rule in (*RULES, risks.telemetry_on)))


def judge(values: Values, facts: Facts, environ: Mapping[str, str]) -> list[Finding]:
    """Return the findings of the rules about the run of `values` (what params.yaml would hold), errors first."""
    findings = [rule(values, facts) for rule in RULES] + [risks.telemetry_on(environ)]
    return [finding for finding in findings if finding]


def unknown_keys(refused: check.Refused, values: Values, words: list[str]) -> list[Finding]:
    """Return a finding for each unknown key that `config.check` found, or that Hydra found, which then composed no values.

    `values` and `words` are the composed values and the overrides. The fix gives the value of a key to the key of the same
    meaning; if a key is only spelled similarly, the user must decide.

    Raises:
        Refused: `refused` itself, if it also has other faults.
    """
    if not all(fault.unknown for fault in refused.faults):
        raise refused
    why = "The tool would ignore the key without a message. plan.allow does not apply."
    targets = [fault.instead for fault in refused.faults] + [word.partition("=")[0].lstrip("+") for word in words]
    fixes = [_renamed(fault, values or refused.values, words, targets.count(fault.instead)) for fault in refused.faults]
    return [Finding(UNKNOWN_KEY, ERROR, fault.message, why, fix) for fault, fix in zip(refused.faults, fixes, strict=True)]


def _renamed(fault: check.Fault, values: Values, words: list[str], claims: int) -> str:
    """Return the overrides that give a key's value to its synonym, which `claims` keys would set, or advice."""
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


def tools_refuse(values: Values, axolotl: dict[str, Any], checkers: str, here: bool) -> list[Finding]:
    """Return the tools' refusals, which `acceptance.ask` and `instructions.ask` answered, as findings.

    A package that is missing does not refuse a plan for another machine (`here` is false).
    """
    why = "Axolotl refuses its config when training starts, after the base was evaluated. plan.allow does not apply."
    findings = []
    for section, refusal in axolotl.items():
        key = refusal["key"] and f"{section}.{refusal['key']}"
        shown = textwrap.shorten(f"{key}={at(values, key)}", 80) if key else section
        fix = overrides(values, {key: None}) if key else "another value for what it names"
        level = WARNING if refusal["package"] and not here else ERROR
        findings.append(Finding(AXOLOTL_REFUSES, level, f"{shown}: {refusal['message']}", why, fix))
    if checkers:
        why = (
            "The evaluation would fail after every prompt was answered, or score something else. plan.allow does not apply."
        )
        findings.append(Finding(CHECKERS_REFUSE, ERROR, checkers, why, "other rows, or evaluate.path=FILE"))
    return findings


def refused(findings: list[Finding], allow: list[str]) -> list[Finding]:
    """Return the errors that `plan.allow` does not allow. What a tool refuses is never allowed.

    Raises:
        UserError: `allow` has a code that does not exist; the message has the nearest one.
    """
    for code in allow:
        if code not in CODES:
            near = difflib.get_close_matches(str(code).upper(), CODES, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(ALLOWABLE)}."
            raise UserError(f"plan.allow: {code}: no such code. {hint}")
    errors = [finding for finding in findings if finding.level == ERROR]
    return [error for error in errors if error.code not in allow or error.code in NEVER_ALLOWED]
