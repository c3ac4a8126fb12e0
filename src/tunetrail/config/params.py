"""params.yaml: written from a checked config, read by the stages section by section."""

from pathlib import Path
from typing import Any

import yaml

from tunetrail import UserError

FILE = Path("params.yaml")
_HEADING = "# Composed by `tunetrail run` from conf/; the stages read it, DVC compares it. Edit conf/, not this file.\n"


class _Dumper(yaml.SafeDumper):
    """Write text of several lines as a block."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def read(section: str) -> dict[str, Any]:
    """Return one section of params.yaml: interpolations resolved, every key known."""
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))[section]


def load(file: Path) -> dict[str, Any]:
    """Return all sections of a params.yaml.

    Raises:
        UserError: the file cannot be read, or has no sections.
    """
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{file}: cannot be read as YAML ({error}). Give the params.yaml of a run.") from None
    if not isinstance(values, dict):
        raise UserError(f"{file}: no sections in it. Give the params.yaml of a run.")
    return values


def write(values: dict[str, Any], root: Path) -> None:
    """Write params.yaml. DVC compares its content, not its time."""
    write_yaml(root / FILE, values, _HEADING)


def write_yaml(path: Path, content: dict[str, Any], heading: str = "") -> None:
    """Write `content` as YAML in its own order; atomically, so that nobody reads half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    partial = path.with_suffix(".partial")
    partial.write_text(heading + text, encoding="utf-8")
    partial.replace(path)
