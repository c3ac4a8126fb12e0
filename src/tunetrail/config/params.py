"""params.yaml <-> the sections that the stages read. Composing and checking them is `compose`'s and `check`'s work."""

from pathlib import Path
from typing import Any

import yaml

from tunetrail import UserError

FILE = Path("params.yaml")


class _Dumper(yaml.SafeDumper):
    """Several lines of text stay several lines."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def read(section: str) -> dict[str, Any]:
    """One section of params.yaml, as `config.check` wrote it: interpolations resolved, every key known."""
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))[section]


def load(file: Path) -> dict[str, Any]:
    """All sections of a params.yaml.

    Raises:
        UserError: there is no such file, or it holds no sections.
    """
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{file}: cannot be read as YAML ({error}). Give the params.yaml of a run.") from None
    if not isinstance(values, dict):
        raise UserError(f"{file}: holds no sections. Give the params.yaml of a run.")
    return values


def write_yaml(path: Path, content: dict[str, Any], heading: str = "") -> None:
    """Write `content` as YAML in its own order; made whole beside its place and moved there, so none reads half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    partial = path.with_suffix(".partial")
    partial.write_text(heading + text, encoding="utf-8")
    partial.replace(path)
