"""Values as a person may write them -> as the tool that reads them has them: today's names, numbers that are numbers.

Pydantic takes "2e-5" for a number and true for 1, and a field by an older name. What this package computes from a section,
and what it records, is what the tool will have. The schema marks where that holds: with `lenient` a section that pydantic
reads, with `same_as` a second name (`axolotl_schema`).
"""

import re
from typing import Any

Schema = dict[str, Any]
# Names of this package's own that conf/ had before, and a params.yaml or a record of then still has.
_EARLIER = {
    "tunetrail.live.HistoryPlugin": "tunetrail.training.plugin.HistoryPlugin",
    "src/tunetrail/world.py": "src/tunetrail/data/world.py",
}
_FLAGS = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "off", "0"), False),
}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


def read(values: Any, schema: Schema) -> Any:
    """`values` anew, as the tools will have them. What does not agree with the schema stays as it is, for `config.check`."""
    return _read(renamed(values), schema, schema.get("$defs", {}), False)


def renamed(values: Any) -> Any:
    """`values` anew, with today's names for what an earlier version of this package called otherwise."""
    if isinstance(values, dict):
        return {key: renamed(value) for key, value in values.items()}
    if isinstance(values, list):
        return [renamed(value) for value in values]
    return _EARLIER.get(values, values) if isinstance(values, str) else values


def options(schema: Schema, definitions: Schema) -> list[Schema]:
    """The alternatives of a schema, or it alone, with what they refer to in place of the reference."""
    if "$ref" in schema:
        return options(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        return [one for part in schema["anyOf"] for one in options(part, definitions)]
    return [schema]


def _read(value: Any, schema: Schema, definitions: Schema, lenient: bool) -> Any:
    found = options(schema, definitions)
    lenient = lenient or any(one.get("lenient") for one in found)
    if isinstance(value, dict):
        return _section(value, [one["properties"] for one in found if "properties" in one], definitions, lenient)
    if isinstance(value, list):
        items = {"anyOf": [one["items"] for one in found if isinstance(one.get("items"), dict)]}
        return [_read(part, items, definitions, lenient) if items["anyOf"] else part for part in value]
    return _scalar(value, found) if lenient else value


def _section(values: dict[str, Any], declared: list[Schema], definitions: Schema, lenient: bool) -> dict[str, Any]:
    """The keys by today's names; where both names have a value, which differ, both stay."""
    made: dict[str, Any] = {}
    for key, value in values.items():
        part = next((properties[key] for properties in declared if key in properties), None)
        value = _read(value, part, definitions, lenient) if part is not None else value
        name = part.get("same_as", key) if part else key
        other = made.get(name) if name in made else values.get(name) if name != key else None
        if name == key:
            made[key] = value if value is not None or key not in made else made[key]
        elif other is None or value is None or other == value:
            made[name] = value if other is None else other
        else:
            made[key] = value
    return made


def _scalar(value: Any, found: list[Schema]) -> Any:
    """The value as one of the types that `found` has, where it is of none and pydantic would make it one."""
    types = {one.get("type") for one in found}
    if any(not one or _has(value, one) for one in found):
        return value
    if isinstance(value, str):
        text = value.strip()
        number = float(text) if _NUMBER.fullmatch(text) else None
        if number is not None and types & {"integer", "number"}:
            value = number if not re.fullmatch(r"[+-]?\d+", text) else int(text)
        elif "boolean" in types:
            return _FLAGS.get(text.lower(), value)
    if isinstance(value, bool) and types & {"integer", "number"}:
        return int(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if "integer" in types and "number" not in types and float(value).is_integer():
            return int(value)
        if "boolean" in types and not types & {"integer", "number"} and value in (0, 1):
            return bool(value)
    return value


def _has(value: Any, schema: Schema) -> bool:
    """Whether a scalar is what an alternative takes, as far as its type, or the list of its values, says."""
    if "enum" in schema or "const" in schema:
        return value in schema.get("enum", [schema.get("const")])
    kinds = {"string": (str,), "boolean": (bool,), "null": (type(None),), "integer": (int,), "number": (int, float)}
    kind = kinds.get(schema.get("type"))
    return kind is not None and isinstance(value, kind) and (isinstance(value, bool) <= (schema["type"] == "boolean"))
