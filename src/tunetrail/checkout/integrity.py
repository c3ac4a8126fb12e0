"""What dvc.lock names -> whether the files hold it, by reading them.

DVC trusts its cache, and goes by size, time of change and inode for a file that it has seen before: it does not notice a
flipped bit. Not covered: bringing files out of the cache, which is `cache`'s.
"""

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_LONG = 4 * 10**9  # bytes, which take seconds to read
_SHOWN = 3  # files in a message


@dataclass(frozen=True)
class Fault:
    """A file whose md5 is `here` and not the `recorded` one: None where there is none, or should be none.

    `object` is where DVC's cache keeps the recorded file, and `state` what it keeps there.
    """

    path: str
    recorded: str | None
    here: str | None
    object: Path | None
    state: Literal["whole", "damaged", "missing"]

    def __str__(self) -> str:
        if self.recorded is None:
            return f"{self.path}: is not part of it"
        return f"{self.path}: md5 {self.recorded} is recorded, {self.here or 'no file'} is here"


def files(path: Path) -> dict[str, str] | None:
    """The md5 of every file below `path` by its path there, or of the file `path` as "."; None where nothing is."""
    if not path.exists():
        return None
    found = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    if (size := sum(file.stat().st_size for file in found)) > _LONG:
        print(f"{path}: {size / 1e9:.0f} GB are compared with the recorded md5", file=sys.stderr, flush=True)
    with ThreadPoolExecutor() as threads:  # hashing holds no other thread up
        return dict(zip((file.relative_to(path).as_posix() for file in found), threads.map(_md5, found), strict=True))


def digest(found: Mapping[str, str] | None) -> str | None:
    """The md5 by which DVC knows the `files` of a path: for a folder that of its listing, and ".dir"."""
    if found is None or "." in found:
        return found and found["."]
    listing = json.dumps([{"md5": found[name], "relpath": name} for name in sorted(found)], sort_keys=True)
    return hashlib.md5(listing.encode()).hexdigest() + ".dir"


def changed(folder: Path, outs: Mapping[str, str]) -> dict[str, dict[str, str] | None]:
    """The paths of `outs` (path: recorded md5) that `folder` does not hold as recorded, each with its `files`."""
    found = {path: files(folder / path) for path in outs}
    return {path: of for path, of in found.items() if digest(of) != outs[path]}


def faults(outs: Mapping[str, str], found: Mapping[str, dict[str, str] | None], objects: Path) -> Iterator[Fault]:
    """What is wrong with the paths that `changed` has found, file by file; `objects` is the folder of DVC's objects."""
    for path, here in found.items():
        recorded = outs[path]
        own = _fault(path, recorded, digest(here), objects)
        if not recorded.endswith(".dir") or own.state != "whole":
            yield own
            continue
        entries = {entry["relpath"]: entry["md5"] for entry in json.loads(own.object.read_bytes())}
        for name in sorted(entries.keys() | (here or {}).keys()):
            if entries.get(name) != (here or {}).get(name):
                yield _fault(f"{path}/{name}", entries.get(name), (here or {}).get(name), objects)


def shown(found: list[Fault]) -> str:
    """The first of them, a line each, and how many more there are."""
    more = [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    return "\n".join(f"  {line}" for line in [*map(str, found[:_SHOWN]), *more])


def whole(file: Path, name: str) -> bool:
    """Whether an object of DVC's cache is what its `name` says, an md5 with ".dir" at its end for a listing."""
    return _md5(file) == name.removesuffix(".dir")


def _fault(path: str, recorded: str | None, here: str | None, objects: Path) -> Fault:
    if recorded is None:
        return Fault(path, None, here, None, "whole")
    file = objects / recorded[:2] / recorded[2:]
    state = "missing" if not file.is_file() else "whole" if whole(file, recorded) else "damaged"
    return Fault(path, recorded, here, file, state)


def _md5(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "md5").hexdigest()
