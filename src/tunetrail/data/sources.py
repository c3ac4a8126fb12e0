"""What the stage `fetch` reads, and data/raw/sources.json: of each kind of data where it came from, its md5 and its bytes.

What is recorded of a run's data is taken from there, and not from what the parameters name.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from tunetrail import UserError
from tunetrail.data import world

Source = dict[str, Any]

_FILE = "sources.json"
_COUNTS = {"instructions": "rows", "text": "documents", "prompts": "prompts"}  # keys of `generate`, by kind


def origins(fetch: dict[str, Any]) -> dict[str, Source]:
    """Where each kind of data comes from by params.yaml's `fetch`: {"generator", "seed", "rows"}, {"hub"} or {"path"}."""
    sizes, found = fetch["generate"], {}
    for kind, count in _COUNTS.items():
        section = fetch.get(kind)  # plain text comes from the generator alone
        if sizes and (kind != "prompts" or section["path"] == world.SOURCE):
            found[kind] = {"generator": world.SOURCE, "seed": sizes["seed"], "rows": sizes[count]}
        elif section:
            found[kind] = {"hub": section["hub"]} if section["hub"] else {"path": section["path"]}
    return found


def describe(file: Path, origin: Source) -> Source:
    """A fetched file: its name, its md5 as DVC knows it, its bytes, and where it came from."""
    return {"file": file.name, "md5": _md5(file), "bytes": file.stat().st_size} | origin


def write(folder: Path, found: dict[str, Source]) -> None:
    """Write what `describe` says of each kind beside the data."""
    (folder / _FILE).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def read(folder: Path) -> dict[str, Source]:
    """What was written beside the data in `folder`.

    Raises:
        UserError: nothing was.
    """
    if not (folder / _FILE).is_file():
        raise UserError(
            f"{folder}: no {_FILE}, which says where the data came from: an earlier version fetched them. Fetch them again: "
            "dvc repro --force --single-item fetch"
        )
    return json.loads((folder / _FILE).read_text(encoding="utf-8"))


def holds(folder: Path, fetch: dict[str, Any]) -> bool:
    """Whether `folder` has what `fetch` names: from the same places, or files with the same bytes."""
    try:
        found = read(folder)
    except UserError:
        return False
    asked = origins(fetch)
    return found.keys() == asked.keys() and all(_is(found[kind], origin) for kind, origin in asked.items())


def _is(source: Source, origin: Source) -> bool:
    file = Path(origin.get("path") or "")
    return origin.items() <= source.items() or (file.is_file() and _md5(file) == source["md5"])


def name(source: Source) -> str:
    """The source in one word: a path, the generator's, or a file of the hub as hf://datasets/REPO@REVISION/FILE."""
    if "hub" in source:
        return "hf://datasets/{repo_id}@{revision}/{filename}".format(**source["hub"])
    return source.get("generator") or source.get("path", source["file"])


def _md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()
