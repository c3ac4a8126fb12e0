"""Values as a user may write them -> as the tool will read them: current names, numbers instead of text.

Pydantic takes "2e-5" as a number, true as 1, and a field by an older name. This package computes and records what the tool
will read. The schema says where: `lenient` marks a section that pydantic reads, `same_as` a second name (`axolotl_schema`).
"""

import contextlib
import copy
from typing import Any

import jsonschema

Schema = dict[str, Any]
# Names of this package's own in a params.yaml or a record of an earlier version.
_EARLIER = {
    "tunetrail.live.HistoryPlugin": "tunetrail.training.plugin.HistoryPlugin",
    "src/tunetrail/world.py": "src/tunetrail/data/world.py",
}
# JSON Schema takes 8.0 as an integer; the tools slice and count with it.
TYPES = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)


def read(values: Any, schema: Schema) -> Any:
    """Return a copy of `values` as the tools will read them. What does not fit the schema is left for `check`."""
    return _read(renamed(values), schema, schema.get("$defs", {}), False)


def renamed(values: Any) -> Any:
    """Return a copy of `values` with the current names of what an earlier version of this package called otherwise."""
    if isinstance(values, dict):
        return {key: renamed(value) for key, value in values.items()}
    if isinstance(values, list):
        return [renamed(value) for value in values]
    return _EARLIER.get(values, values) if isinstance(values, str) else values


def migrated(values: dict[str, Any]) -> dict[str, Any]:
    """Return a params.yaml of this or an earlier version as this version takes it.

    Earlier, `base.seed` was for the random weights of a made model; now Axolotl makes them. What no version writes so
    is left for `check`.
    """
    values = copy.deepcopy(values)
    base = values.get("base")
    if isinstance(base, dict) and base.pop("seed", None) is not None:
        with contextlib.suppress(KeyError, TypeError):
            base["make"]["train"]["reinit_weights"] = True
    return values


def alternatives_of(schema: Schema, definitions: Schema) -> list[Schema]:
    """Return the alternatives of a schema, or the schema alone, with references resolved."""
    if "$ref" in schema:
        return alternatives_of(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        return [option for part in schema["anyOf"] for option in alternatives_of(part, definitions)]
    return [schema]


def _read(value: Any, schema: Schema, definitions: Schema, lenient: bool) -> Any:
    alternatives = alternatives_of(schema, definitions)
    lenient = lenient or any(option.get("lenient") for option in alternatives)
    if isinstance(value, dict):
        declared = [option["properties"] for option in alternatives if "properties" in option]
        return _section(value, declared, definitions, lenient)
    if isinstance(value, list):
        items = {"anyOf": [option["items"] for option in alternatives if isinstance(option.get("items"), dict)]}
        return [_read(part, items, definitions, lenient) if items["anyOf"] else part for part in value]
    return _scalar(value, alternatives) if lenient else value


def _section(values: dict[str, Any], declared: list[Schema], definitions: Schema, lenient: bool) -> dict[str, Any]:
    """Return the section with current names. Two names of one key with different values both stay, for `check`."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        part = next((properties[key] for properties in declared if key in properties), None)
        value = _read(value, part, definitions, lenient) if part is not None else value
        name = part.get("same_as", key) if part else key
        if name == key:
            if value is not None or key not in result:
                result[key] = value
            continue
        other = result[name] if name in result else values.get(name)
        if other is None or value is None or other == value:
            result[name] = value if other is None else other
        else:
            result[key] = value
    return result


def _scalar(value: Any, alternatives: list[Schema]) -> Any:
    """Convert the value to a type of the alternatives as pydantic does, if it has none of their types."""
    from pydantic import TypeAdapter, ValidationError

    if any(not option or _fits(value, option) for option in alternatives):
        return value
    types = {option.get("type") for option in alternatives}
    for name, kind in (("integer", int), ("number", int | float), ("boolean", bool)):
        if name in types:
            with contextlib.suppress(ValidationError):
                return TypeAdapter(kind).validate_python(value)
    return value


def _fits(value: Any, schema: Schema) -> bool:
    """Return whether a scalar has the type of an alternative, or is one of its listed values."""
    if "enum" in schema or "const" in schema:
        return value in schema.get("enum", [schema.get("const")])
    return "type" in schema and TYPES.is_type(value, schema["type"])
