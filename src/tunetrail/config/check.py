"""What Hydra composed -> params.yaml: resolved, every key known to the tool that owns it, no secret in it.

Not covered: whether the tools accept the values together; each says so itself when its stage begins.
"""

import difflib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from tunetrail import UserError
from tunetrail.config import canonical, params, secret, synonyms

Schema = dict[str, Any]

# JSON Schema takes 8.0 for an integer; the tools slice and count with it.
_WHOLE = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
_VALIDATOR = jsonschema.validators.extend(jsonschema.Draft202012Validator, type_checker=_WHOLE)

HEADING = "# Composed by `tunetrail run` from conf/; the stages read it, DVC compares it. Edit conf/, not this file.\n"


@dataclass(frozen=True)
class Fault:
    """One key that is wrong, in a sentence or two. Where nobody reads it: `unknown`, and `instead` the key that means the
    same, which is no guess."""

    key: str
    says: str
    unknown: bool = False
    instead: str | None = None


class Refused(UserError):
    """Every fault of a config, a line each; `values` is what was composed of the rest, where that is known."""

    def __init__(self, faults: list[Fault], values: dict[str, Any] | None = None) -> None:
        super().__init__("\n".join(fault.says for fault in faults))
        self.faults, self.values = faults, values or {}


def resolve(cfg: DictConfig) -> dict[str, Any]:
    """The composed config as plain values.

    Raises:
        UserError: a value that must be given is not, an interpolation cannot be resolved, or one takes a secret.
    """
    secret.refuse(flatten(OmegaConf.to_container(cfg)))
    try:
        return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        key = error.full_key
        raise UserError(f"{key} has no value. Give one on the command line: {key}=...") from None
    except OmegaConfBaseException as error:
        if missing := re.search(r"Missing mandatory value: (\S+)", str(error)):
            raise UserError(f"{missing[1]} has no value. Give one on the command line: {missing[1]}=...") from None
        raise UserError(str(error).partition("\n")[0]) from None


def check(values: dict[str, Any], schema: Schema) -> None:
    """Check every key and type against the schema, as the tools will have them (`canonical`).

    Raises:
        Refused: naming each key that is unknown (with the one that was meant, where that is known, or the nearest), missing
            or of a wrong type, or that is no finite number.
        UserError: naming a key that holds a secret.
    """
    flat = flatten(values)
    secret.refuse(flat)
    errors = _VALIDATOR(schema).iter_errors(canonical.read(values, schema))
    faults = [fault for error in errors for cause in _causes(error) for fault in _faults(cause, schema)]
    for key, value in flat.items():
        if isinstance(value, float) and not math.isfinite(value):
            faults.append(Fault(key, f"{key}: {value} is not a finite number. Give one."))
    if faults:
        raise Refused(sorted(dict.fromkeys(faults), key=lambda fault: fault.key))


def _causes(error: jsonschema.ValidationError) -> list[jsonschema.ValidationError]:
    """Of the alternatives of an anyOf, what is wrong with the one of the right kind that finds the least wrong."""
    if not error.context:
        return [error]
    alternatives: dict[int, list[jsonschema.ValidationError]] = {}
    for cause in error.context:
        alternatives.setdefault(cause.relative_schema_path[0], []).append(cause)

    def misfit(causes: list[jsonschema.ValidationError]) -> tuple[bool, int]:
        wrong_kind = any(one.validator == "type" and one.absolute_path == error.absolute_path for one in causes)
        return wrong_kind, sum(len(_unknown(one)) or 1 for one in causes)

    return [part for cause in min(alternatives.values(), key=misfit) for part in _causes(cause)]


def _unknown(error: jsonschema.ValidationError) -> list[str]:
    extra = error.validator == "additionalProperties"
    return sorted(set(error.instance) - set(error.schema["properties"])) if extra else []


def _faults(error: jsonschema.ValidationError, schema: Schema) -> Iterator[Fault]:
    place = ".".join(map(str, error.absolute_path))
    if error.validator == "additionalProperties":
        # A list's items are no keys of the whole, and their own are known here alone.
        known = known_keys(schema) + [f"{place}.{key}".strip(".") for key in error.schema["properties"]]
        for key in _unknown(error):
            yield unknown(f"{place}.{key}".strip("."), known)
    elif error.schema.get("retired"):
        meant = synonyms.key(place, known_keys(schema))
        hint = f"Did you mean {meant}?" if meant else "Leave it out."
        yield Fault(place, f"{place}: no such key. Axolotl read it once and does no more. {hint}", True, meant)
    else:
        yield Fault(place, _explain(error, place))


def _explain(error: jsonschema.ValidationError, place: str) -> str:
    if error.validator in ("contains", "not"):
        key = error.schema_path[error.schema_path.index("dependentSchemas") + 1]
    if error.validator == "contains":
        plugin = error.validator_value["enum"][0]
        return f"{place} lacks {plugin}, without which {key} does nothing. Add it to the list."
    if error.validator == "not":
        both = [f"{place}.{name}" for name in (key, *error.validator_value["required"])]
        return f"{' and '.join(both)}: two names of one key, with two values. Leave out {both[0]}."
    if error.validator == "pattern" and place.endswith("hub.revision"):
        return f"{place}: {error.instance!r} may be another file tomorrow. Give the commit, 40 hexadecimal digits."
    if error.validator == "enum" and isinstance(error.instance, str):
        choices = [one for one in error.validator_value if one]
        meant = synonyms.value(place, error.instance)
        near = [meant] if meant in choices else difflib.get_close_matches(error.instance, choices, n=1)
        if near:
            return f"{place}: {error.instance!r} is not known. Did you mean {near[0]}?"
    if error.validator == "required":
        return f"{place}: {error.message}. Set it in conf/ or on the command line."
    if error.validator == "type" and error.validator_value == "array":
        return f"{place}: {error.instance!r} is no list. Write {place}=[{error.instance}]."
    fix = "a value of that type" if error.validator == "type" else "another value"
    return f"{place}: {error.message}. Give {fix}."


def unknown(key: str, known: list[str]) -> Fault:
    """A key that nobody reads."""
    return Fault(key, unknown_key(key, known), True, synonyms.key(key, known))


def unknown_key(key: str, known: list[str]) -> str:
    """The message for a key that nobody reads: with the one that means the same, or the nearest one that somebody does read,
    or those of its section; never with one that holds a secret."""
    known = [one for one in known if not secret.has(one)]
    place, _, name = key.rpartition(".")
    # In a section that there is by the last word alone: the longer the section's name, the more alike are all of its keys.
    last = {one.rpartition(".")[2]: one for one in _inside(place, known)}
    near = synonyms.unsure(key, known)
    spelled = difflib.get_close_matches(name, [*last, *secret.NAMES], n=1)
    if not near and spelled and spelled[0] in secret.NAMES and spelled[0] not in last:
        return f"{key}: no such key. If it holds a secret, put that into the environment: params.yaml would publish it."
    near = near or [last[word] for word in spelled]
    if not near and not (place and last):
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.7)
    while place and not _inside(place, known):
        place = place.rpartition(".")[0]
    inside = _inside(place, known)
    more = f" and {len(inside) - 20} more" if len(inside) > 20 else ""
    listed = f"{place or 'The top level'} has: {', '.join(inside[:20])}{more}."
    return f"{key}: no such key. " + (f"Did you mean {' or '.join(near)}?" if near else listed)


def _inside(place: str, known: list[str]) -> list[str]:
    """The known keys of a section, or of the top level, not those of its own sections; of two spellings the one with _."""
    prefix = f"{place}." if place else ""
    found = {prefix + key.removeprefix(prefix).partition(".")[0] for key in known if key.startswith(prefix)}
    return sorted(key for key in found if key == key.replace("-", "_") or key.replace("-", "_") not in found)


def known_keys(schema: Schema) -> list[str]:
    """Every dotted key that the schema declares, lists left out."""
    return list(dict.fromkeys(_declared(schema, schema.get("$defs", {}), "")))


def _declared(schema: Schema, definitions: Schema, place: str) -> Iterator[str]:
    for option in canonical.options(schema, definitions):
        for name, part in option.get("properties", {}).items():
            if not part.get("retired"):
                yield f"{place}{name}"
                yield from _declared(part, definitions, f"{place}{name}.")


def flatten(values: Any, place: str = "") -> dict[str, Any]:
    """Nested sections as dotted keys: {"train": {"seed": 1}} gives {"train.seed": 1}; list items are numbered."""
    if isinstance(values, dict):
        items = values.items()
    elif isinstance(values, list):
        items = enumerate(values)
    else:
        return {place: values}
    return {key: value for name, part in items for key, value in flatten(part, f"{place}.{name}".strip(".")).items()}


def write(values: dict[str, Any], root: Path) -> None:
    """Write params.yaml, of which DVC compares what it says and not when it was written."""
    params.write_yaml(root / params.FILE, values, HEADING)


def composition_fault(error: Exception, known: list[str]) -> str:
    """What Hydra or OmegaConf has against an override, with the nearest known key where a key is unknown.

    Hydra itself lists the options of a group; `known` has the keys of the tools that conf/ does not set, too.
    """
    message = str(error)
    if merged := re.fullmatch(r"Error merging override ([^=]+)=(.*)", message):
        why = str(error.__cause__).partition("\n")[0]
        typed = re.fullmatch(r"Value (.*) of type '\w+' could not be converted to (\w+)", why)
        why = f"{typed[1]} is not of type '{typed[2].lower()}'" if typed else why
        return f"{merged[1].lstrip('+')}: {why}. Give a value of that type."
    if "Could not find 'hydra/launcher/ray'" in message:
        return (
            "sweep=ray: its plug-in is not installed. Install the extra that has it: uv pip install --constraint "
            "requirements/default.txt --editable '.[ray]'"
        )
    key = not_composed(error)
    if not key:
        return message.partition("\nConfig search path")[0].strip()
    if key in known:
        return f"{key}: conf/ does not set this key yet. Add it with a plus: +{key}=..."
    return unknown_key(key, known)


def not_composed(error: Exception) -> str | None:
    """The key that Hydra or OmegaConf does not find in conf/, where that is what it has against the overrides."""
    key = re.search(r"Could not override '([^']+)'|Key '[^']+' is not in struct\s+full_key: (\S+)", str(error))
    return key and (key[1] or key[2])
