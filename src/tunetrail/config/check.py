"""A composed config -> plain values, or an error with every key that is unknown, missing, of a wrong type or a secret.

`inputs` and `contradictions` check whether the values go together.
"""

import difflib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jsonschema
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from tunetrail import UserError, table
from tunetrail.config import canonical, secret, synonyms
from tunetrail.config.canonical import Schema

_LONGEST = 80  # characters of a value in a message
_VALIDATOR = jsonschema.validators.extend(jsonschema.Draft202012Validator, type_checker=canonical.TYPES)
_LISTED = 20  # keys of a section that an error lists


@dataclass(frozen=True)
class Fault:
    """One key that is wrong. If it is `unknown`, no tool reads it, and `instead` is the one key with the same meaning, None
    if there is no such key or more than one."""

    key: str
    message: str
    unknown: bool = False
    instead: str | None = None


class Refused(UserError):
    """Every fault of a config, a line each; `values` is what the rest composes to, if known."""

    def __init__(self, faults: list[Fault], values: dict[str, Any] | None = None) -> None:
        super().__init__("\n".join(fault.message for fault in faults))
        self.faults = faults
        self.values = values or {}


def resolve(cfg: DictConfig) -> dict[str, Any]:
    """Return the composed config as plain values.

    Raises:
        UserError: a mandatory value is missing, an interpolation cannot be resolved, or one takes a secret.
    """
    secret.refuse(flatten(OmegaConf.to_container(cfg)))
    try:
        return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        missing = re.search(r"Missing mandatory value: (\S+)", str(error))
        key = error.full_key if isinstance(error, MissingMandatoryValue) else missing and missing[1]
        if key:
            raise UserError(f"{key} has no value. Give one on the command line: {key}=...") from None
        raise UserError(str(error).partition("\n")[0]) from None


def check(values: dict[str, Any], schema: Schema) -> None:
    """Check every key and type against the schema, as the tools will read them (`canonical`).

    Raises:
        Refused: naming each key that is unknown, missing, of a wrong type or not a finite number.
        UserError: naming a key that holds a secret.
    """
    secret.refuse(flatten(values))
    values = canonical.read(values, schema)
    errors = _VALIDATOR(schema).iter_errors(values)
    faults = [fault for error in errors for cause in _causes(error) for fault in _faults(cause, schema)]
    for key, value in flatten(values).items():
        if isinstance(value, float) and not math.isfinite(value):
            faults.append(Fault(key, f"{key}: {value} is not a finite number. Give one."))
    if faults:
        raise Refused(sorted(dict.fromkeys(faults), key=lambda fault: fault.key))


def _causes(error: jsonschema.ValidationError) -> list[jsonschema.ValidationError]:
    """Return the errors of the alternative of an anyOf that fits best: of the right type, with the fewest errors."""
    if not error.context:
        return [error]
    alternatives: dict[int, list[jsonschema.ValidationError]] = {}
    for cause in error.context:
        alternatives.setdefault(cause.relative_schema_path[0], []).append(cause)

    def misfit(causes: list[jsonschema.ValidationError]) -> tuple[bool, int]:
        wrong_type = any(cause.validator == "type" and cause.absolute_path == error.absolute_path for cause in causes)
        return wrong_type, sum(len(_undeclared(cause)) or 1 for cause in causes)

    return [part for cause in min(alternatives.values(), key=misfit) for part in _causes(cause)]


def _undeclared(error: jsonschema.ValidationError) -> list[str]:
    """Return the names of a section that its schema does not declare, if that is the error."""
    if error.validator != "additionalProperties":
        return []
    return sorted(set(error.instance) - set(error.schema["properties"]))


def _faults(error: jsonschema.ValidationError, schema: Schema) -> Iterator[Fault]:
    path = ".".join(map(str, error.absolute_path))
    if error.validator == "additionalProperties":
        # The keys of a list's items are not among `known_keys`; the error has them.
        known = known_keys(schema) + [f"{path}.{key}".strip(".") for key in error.schema["properties"]]
        for key in _undeclared(error):
            yield unknown(f"{path}.{key}".strip("."), known)
    elif error.schema.get("retired"):
        instead = synonyms.key(path, known_keys(schema))
        hint = f"Did you mean {instead}?" if instead else "Leave it out."
        yield Fault(path, f"{path}: no such key. Earlier versions of Axolotl had it. {hint}", True, instead)
    else:
        yield Fault(path, _explain(error, path))


def _explain(error: jsonschema.ValidationError, path: str) -> str:
    if error.validator in ("contains", "not"):  # a condition of `axolotl_schema` on another key
        key = error.schema_path[error.schema_path.index("dependentSchemas") + 1]
    if error.validator == "contains":
        plugin = error.validator_value["enum"][0]
        return f"{path} lacks {plugin}, without which {key} does nothing. Add it to the list."
    if error.validator == "not":
        both = [f"{path}.{name}" for name in (key, *error.validator_value["required"])]
        return f"{' and '.join(both)}: two names of one key, with two values. Leave out {both[0]}."
    if error.validator == "pattern" and path.endswith("hub.revision"):
        return f"{path}: {error.instance!r} is not a commit, so the file may change. Give the commit, 40 hexadecimal digits."
    if error.validator == "enum" and isinstance(error.instance, str):
        choices = [choice for choice in error.validator_value if choice]
        synonym = synonyms.value(path, error.instance)
        near = [synonym] if synonym in choices else difflib.get_close_matches(error.instance, choices, n=1)
        if near:
            return f"{path}: {error.instance!r} is not known. Did you mean {near[0]}?"
    if error.validator == "required":
        return f"{path}: {error.message}. Set it in conf/ or on the command line."
    if error.validator == "type" and error.validator_value == "array":
        value = table.cut(str(error.instance), _LONGEST)
        return f"{path}: {value!r} is not a list. Write {path}=[{value}]."
    fix = "a value of that type" if error.validator == "type" else "another value"
    value = repr(error.instance)
    return f"{path}: {error.message.replace(value, table.cut(value, _LONGEST))}. Give {fix}."


def unknown(key: str, known: list[str]) -> Fault:
    """Return the fault of a key that no tool reads.

    The message names the keys with the same meaning, or else the nearest one, or else those of its section; never one that
    holds a secret.
    """
    instead = synonyms.key(key, known)
    known = [name for name in known if not secret.has(name)]
    section, _, name = key.rpartition(".")
    # In an existing section only last parts are compared: with a long prefix in common all of its keys are alike.
    by_name = {other.rpartition(".")[2]: other for other in _inside(section, known)}
    meant = synonyms.unsure(key, known)
    spelled = difflib.get_close_matches(name, [*by_name, *secret.NAMES], n=1)
    if not meant and spelled and spelled[0] not in by_name:
        hint = "If it holds a secret, put that into the environment: params.yaml would publish it."
        return Fault(key, f"{key}: no such key. {hint}", True, instead)
    meant = meant or [by_name[spelling] for spelling in spelled]
    if not meant and not (section and by_name):
        meant = difflib.get_close_matches(key, known, n=1, cutoff=0.7)
    hint = f"Did you mean {' or '.join(meant)}?" if meant else _listing(section, known)
    return Fault(key, f"{key}: no such key. {hint}", True, instead)


def _listing(section: str, known: list[str]) -> str:
    """List the keys of the section, or of the nearest one around it that exists."""
    while section and not _inside(section, known):
        section = section.rpartition(".")[0]
    names = _inside(section, known)
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{section or 'The top level'} has: {', '.join(names[:_LISTED])}{more}."


def _inside(section: str, known: list[str]) -> list[str]:
    """Return the known keys directly in a section ("" is the top level); of two spellings the one with _."""
    prefix = f"{section}." if section else ""
    keys = {prefix + key.removeprefix(prefix).partition(".")[0] for key in known if key.startswith(prefix)}
    return sorted(key for key in keys if key == key.replace("-", "_") or key.replace("-", "_") not in keys)


def known_keys(schema: Schema) -> list[str]:
    """Return every dotted key that the schema declares, except inside lists."""
    return list(dict.fromkeys(_declared(schema, schema.get("$defs", {}), "")))


def _declared(schema: Schema, definitions: Schema, prefix: str) -> Iterator[str]:
    for option in canonical.alternatives_of(schema, definitions):
        for name, part in option.get("properties", {}).items():
            if not part.get("retired"):
                yield f"{prefix}{name}"
                yield from _declared(part, definitions, f"{prefix}{name}.")


def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested sections with dotted keys: {"train": {"seed": 1}} gives {"train.seed": 1}; list items are numbered."""
    if isinstance(values, dict):
        items = values.items()
    elif isinstance(values, list):
        items = enumerate(values)
    else:
        return {prefix: values}
    return {key: value for name, part in items for key, value in flatten(part, f"{prefix}.{name}".strip(".")).items()}
