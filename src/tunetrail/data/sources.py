"""data/raw/sources.json: where each kind of data came from, with its md5 and size; written by the stage `fetch`.

The record of a run's data is taken from there, not from the parameters.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from tunetrail import UserError
from tunetrail.data import world

Source = dict[str, Any]

_FILE = "sources.json"
_COUNTS = {"instructions": "rows", "text": "documents", "prompts": "prompts"}  # by kind: key of `generate`


def origins(fetch: dict[str, Any]) -> dict[str, Source]:
    """Return the origin of each kind of data by the section `fetch`: {"generator", "seed", "rows"}, {"hub"} or {"path"}."""
    generate = fetch["generate"]
    result = {}
    for kind, count in _COUNTS.items():
        section = fetch.get(kind)  # plain text comes only from the generator
        if generate and (kind != "prompts" or section["path"] == world.SOURCE):
            result[kind] = {"generator": world.SOURCE, "seed": generate["seed"], "rows": generate[count]}
        elif section:
            result[kind] = {"hub": section["hub"]} if section["hub"] else {"path": section["path"]}
    return result


def describe(file: Path, origin: Source) -> Source:
    """Return the source of a fetched file: its name, its md5 as DVC computes it, its size in bytes, and its origin."""
    return {"file": file.name, "md5": _md5(file), "bytes": file.stat().st_size} | origin


def write(folder: Path, sources: dict[str, Source]) -> None:
    """Write sources.json into the folder of the data."""
    (folder / _FILE).write_text(json.dumps(sources, indent=2) + "\n", encoding="utf-8")


def read(folder: Path) -> dict[str, Source]:
    """Read sources.json in the folder of the data.

    Raises:
        UserError: there is none.
    """
    if not (folder / _FILE).is_file():
        raise UserError(
            f"{folder}: no {_FILE}, which says where the data came from: an earlier version fetched them. Fetch them again: "
            "dvc repro --force --single-item fetch"
        )
    return json.loads((folder / _FILE).read_text(encoding="utf-8"))


def holds(folder: Path, fetch: dict[str, Any]) -> bool:
    """Return whether `folder` has the data that `fetch` names: of the same origin, or with the same bytes."""
    try:
        sources = read(folder)
    except UserError:
        return False
    wanted = origins(fetch)
    return sources.keys() == wanted.keys() and all(_matches(sources[kind], origin) for kind, origin in wanted.items())


def _matches(source: Source, origin: Source) -> bool:
    file = Path(origin.get("path") or "")
    return origin.items() <= source.items() or (file.is_file() and _md5(file) == source["md5"])


def name(source: Source) -> str:
    """Return the address of a source: a path, the generator's, or of the hub hf://datasets/REPO@REVISION/FILE."""
    if "hub" in source:
        return "hf://datasets/{repo_id}@{revision}/{filename}".format(**source["hub"])
    return source.get("generator") or source.get("path", source["file"])


def _md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()
