"""Hydra's overrides as a user types them: parsed, replaced, and checked before anything is composed.

`compose` reports what Hydra has against them.
"""

import json
import re
import shlex
from typing import Any

from tunetrail import UserError
from tunetrail.config import check, secret

# Hydra's own options. It also accepts an unambiguous prefix, but `--experiment` must not mean `--experimental-rerun`.
_HYDRA_OPTIONS = ("--cfg", "--resolve", "--package", "--info", "--multirun", "--hydra-help", "--shell-completion")
_HYDRA_OPTIONS += ("-c", "-p", "-i", "-m")
_TAKE_A_VALUE = ("--cfg", "-c", "--package", "-p", "--info", "-i")
_SECOND_OVERRIDE = re.compile(r"\s+(?=[~+]{0,2}[A-Za-z_][\w./@]*=)")


def parse(words: list[str]) -> list[Any]:
    """Return Hydra's `Override` of each word, options such as `-m` left out.

    Raises:
        HydraException: a word is not an override.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_overrides([word for word in words if not word.startswith("-")])


def replace(words: list[str], changes: list[str]) -> list[str]:
    """Return the overrides `words` with `changes` applied at their end.

    A change replaces the override of the same key or group, and keeps its `+` or `++`. `~key`, where `words` set that key,
    only leaves that override out.
    """
    last = {change.key_or_group: change for change in parse(changes)}
    result, prefixes = [], {}
    for override in parse(words):
        key = override.key_or_group
        if key not in last or override.is_delete():
            result.append(override.input_line)
        elif last[key].is_delete():
            prefixes[key] = ""
        elif override.is_add() or override.is_force_add():
            prefixes[key] = "+" if override.is_add() else "++"
    for key, change in last.items():
        if change.is_delete() and key in prefixes:
            continue
        has_prefix = change.is_add() or change.is_force_add()
        result.append(("" if has_prefix else prefixes.get(key, "")) + change.input_line)
    return result


def validate(words: list[str], multirun: bool = False) -> None:
    """Check that each word is an option of Hydra or an override, and publishes no secret.

    Several values of one key are for a sweep: `multirun`.

    Raises:
        UserError: naming the word and how to write it; of a secret only its key.
    """
    for previous, word in zip(["", *words], words, strict=False):
        if word.startswith("-"):
            _check_option(word)
        elif previous not in _TAKE_A_VALUE:
            _check_override(word, multirun)


def _check_option(word: str) -> None:
    if word.partition("=")[0] in _HYDRA_OPTIONS:
        return
    secret.refuse_text(word)
    key = word.lstrip("-").partition("=")[0]
    hint = f"An override has no dashes: {key}=VALUE. " if word.startswith("--") else ""
    raise UserError(f"{word}: no such option. {hint}See tunetrail run --help.")


def _check_override(word: str, multirun: bool) -> None:
    from hydra.core.override_parser.types import ValueType
    from hydra.errors import OverrideParseException

    try:
        (override,) = parse([word])
    except OverrideParseException:
        secret.refuse_text(word if "=" in word else "=".join(word.split()))
        raise UserError(_unreadable(word)) from None
    refuse_secrets(override)
    if not override.key_or_group:
        raise UserError(f"{word}: no key. An override is KEY=VALUE.")
    try:
        if override.is_discrete_sweep() and override.value_type != ValueType.GLOB_CHOICE_SWEEP:
            next(iter(override.sweep_iterator()), None)
    except (ValueError, TypeError, ArithmeticError) as error:  # such as a range whose step is 0
        raise UserError(f"{word}: {error}. Give other values.") from None
    if override.is_sweep_override() and not multirun:
        key = word.partition("=")[0]
        raise UserError(
            f"{word}: several values, and this is one run. Give one, or run a sweep: tunetrail run -m {shlex.quote(word)}. "
            f"A list is written in brackets: {key}=[...]"
        )


def _unreadable(word: str) -> str:
    """Return the message that Hydra's grammar does not accept the word, with how to write it."""
    key, equals, value = word.partition("=")
    if not equals:
        return f"{word}: no value. An override is KEY=VALUE: {word}=VALUE; ~{word} removes the key."
    if len(parts := _SECOND_OVERRIDE.split(word)) > 1:
        return f"{word}: several overrides in one word. Separate them: {' '.join(map(shlex.quote, parts))}"
    quoted = shlex.quote(f"{key}=" + json.dumps(value, ensure_ascii=False))
    return f"{word}: Hydra cannot read this. Quote a value that has special characters: {quoted}"


def refuse_secrets(override: Any) -> None:
    """Check the value of one of Hydra's overrides, or each value of a sweep's.

    Raises:
        UserError: a value would publish a secret; names the key, not the value.
    """
    value = override.value()
    for single in getattr(value, "list", [value]):
        flat = check.flatten(_unquoted(single), override.key_or_group)
        secret.refuse(
            {key: value if value is None or isinstance(value, bool) else str(value) for key, value in flat.items()}
        )


def _unquoted(value: Any) -> Any:
    """Return a value of Hydra's grammar with plain text in place of its class for quoted strings."""
    if isinstance(value, dict):
        return {str(_unquoted(key)): _unquoted(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_unquoted(part) for part in value]
    return getattr(value, "text", value)
