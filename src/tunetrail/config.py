"""What Hydra composed -> params.yaml: resolved, every key known to the tool that owns it, no secret in it.

Not covered: whether the tools accept the values together; each says so itself when its stage begins.
"""

import difflib
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jsonschema
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from tunetrail import UserError, params

Schema = dict[str, Any]

# JSON Schema takes 8.0 for an integer; the tools slice and count with it.
_WHOLE = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
_VALIDATOR = jsonschema.validators.extend(jsonschema.Draft202012Validator, type_checker=_WHOLE)

HEADING = "# Composed by `tunetrail run` from conf/; the stages read it, DVC compares it. Edit conf/, not this file.\n"
_SECRET = re.compile(r"(api_?key|secret|password|(auth|access|hf)_?token|(^|\.)token)$", re.IGNORECASE)


def resolve(cfg: DictConfig) -> dict[str, Any]:
    """The composed config as plain values.

    Raises:
        UserError: a value that must be given is not, or an interpolation cannot be resolved.
    """
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
    """Hold every key and type against the schema.

    Raises:
        UserError: naming the first key that is unknown (with the nearest known one), missing or of a wrong type, that
            is no finite number, or that holds a secret.
    """
    errors = sorted(_VALIDATOR(schema).iter_errors(values), key=lambda e: list(map(str, e.path)))
    if errors:
        raise UserError(_explain(_cause(errors[0])))
    for key, value in flatten(values).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{key}: {value} is no number to compute with. Give one that is.")
    refuse_secrets([key for key, value in flatten(values).items() if isinstance(value, str)])


def refuse_secrets(keys: Iterable[str]) -> None:
    """Whether one of these dotted keys, which have values, would publish a secret.

    Raises:
        UserError: naming it.
    """
    for key in keys:
        if _SECRET.search(key):
            raise UserError(f"{key} holds a secret, which params.yaml would publish. Put it into the environment instead.")


def _cause(error: jsonschema.ValidationError) -> jsonschema.ValidationError:
    """Of the alternatives of an anyOf, the one of the right kind that finds the least wrong."""
    while error.context:
        alternatives: dict[int, list[jsonschema.ValidationError]] = {}
        for found in error.context:
            alternatives.setdefault(found.relative_schema_path[0], []).append(found)
        place = error.absolute_path

        def misfit(found: list[jsonschema.ValidationError], place: Any = place) -> tuple[bool, int]:
            return any(e.validator == "type" and e.absolute_path == place for e in found), len(found)

        error = min(alternatives.values(), key=misfit)[0]
    return error


def _explain(error: jsonschema.ValidationError) -> str:
    place = ".".join(map(str, error.absolute_path))
    if error.validator == "additionalProperties":
        known = error.schema["properties"]
        unknown = sorted(set(error.instance) - set(known))[0]
        return unknown_key(f"{place}.{unknown}".strip("."), [f"{place}.{key}".strip(".") for key in known])
    if error.validator == "contains":
        key = error.schema_path[error.schema_path.index("dependentSchemas") + 1]
        return f"{place} lacks {error.validator_value['const']}, without which {key} does nothing. Add it to the list."
    if error.validator == "pattern" and place.endswith("hub.revision"):
        return f"{place}: {error.instance!r} may be another file tomorrow. Give the commit, 40 hexadecimal digits."
    if error.validator == "enum" and isinstance(error.instance, str):
        near = difflib.get_close_matches(error.instance, filter(None, error.validator_value), n=1)
        if near:
            return f"{place}: {error.instance!r} is not known. Did you mean {near[0]}?"
    if error.validator == "required":
        return f"{place}: {error.message}. Set it in conf/ or on the command line."
    if error.validator == "type" and error.validator_value == "array":
        return f"{place}: {error.instance!r} is no list. Write {place}=[{error.instance}]."
    remedy = "a value of that type" if error.validator == "type" else "another value"
    return f"{place}: {error.message}. Give {remedy}."


def unknown_key(key: str, known: list[str]) -> str:
    """The message for a key that nobody reads, with the nearest one that somebody does, or with those of its section."""
    place, _, name = key.rpartition(".")
    # In a section that there is by the last word alone: the longer the section's name, the more alike are all of its keys.
    last = {one.rpartition(".")[2]: one for one in _inside(place, known)}
    near = [last[word] for word in difflib.get_close_matches(name, last, n=1)]
    if not near and not (place and last):
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.7)
    while place and not _inside(place, known):
        place = place.rpartition(".")[0]
    inside = _inside(place, known)
    more = f" and {len(inside) - 20} more" if len(inside) > 20 else ""
    listed = f"{place or 'The top level'} has: {', '.join(inside[:20])}{more}."
    return f"{key}: no such key. {f'Did you mean {near[0]}?' if near else listed}"


def _inside(place: str, known: list[str]) -> list[str]:
    """The known keys of a section, or of the top level, not those of its own sections; of two spellings the one with _."""
    prefix = f"{place}." if place else ""
    found = {prefix + key.removeprefix(prefix).partition(".")[0] for key in known if key.startswith(prefix)}
    return sorted(key for key in found if key == key.replace("-", "_") or key.replace("-", "_") not in found)


def known_keys(schema: Schema, place: str = "") -> list[str]:
    """Every dotted key that the schema declares, lists left out."""
    keys = []
    for name, part in schema.get("properties", {}).items():
        keys.append(f"{place}{name}")
        for option in (part, *part.get("anyOf", ())):
            keys += known_keys(option, f"{place}{name}.")
    return keys


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
    unknown = re.search(r"Could not override '([^']+)'|Key '[^']+' is not in struct\s+full_key: (\S+)", message)
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
    if not unknown:
        return message.partition("\nConfig search path")[0].strip()
    key = unknown.group(1) or unknown.group(2)
    if key in known:
        return f"{key}: conf/ does not set this key yet. Add it with a plus: +{key}=..."
    return unknown_key(key, known)
