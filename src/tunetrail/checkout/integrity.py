"""What dvc.lock records -> whether the files have that content; and outputs put back from DVC's cache or remotes.

DVC trusts its cache and does not read a file again whose size, time of change and inode are the same, so it does not notice
a flipped bit. Here every file is read.
"""

import contextlib
import hashlib
import json
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tunetrail import UserError, disk
from tunetrail.checkout import cache, dvc, dvc_config

_LARGE = 4 * 10**9  # bytes, which take seconds to read
_FAULTS_IN_MESSAGE = 3


class Changed(UserError):
    """Files are not what was recorded."""


class Missing(Changed):
    """Neither DVC's cache nor a remote of this checkout has the files any more."""


@dataclass(frozen=True)
class Fault:
    """A file whose md5 is `here` and not the `recorded` one; None if there is no file, or should be none.

    `object` is where DVC's cache keeps the recorded file, and `state` what is there.
    """

    path: str
    recorded: str | None
    here: str | None
    object: Path | None
    state: Literal["whole", "damaged", "missing"]

    def __str__(self) -> str:
        if self.recorded is None:
            return f"{self.path}: no such file is recorded"
        return f"{self.path}: md5 {self.recorded} is recorded, {self.here or 'no file'} is here"


def file_hashes(path: Path) -> dict[str, str] | None:
    """Return the md5 of each file below the folder `path` by its path there, or of a file as "."; None for nothing."""
    if not path.exists():
        return None
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    if (size := sum(file.stat().st_size for file in files)) > _LARGE:
        print(f"{path}: {size / 1e9:.0f} GB are compared with the recorded md5", file=sys.stderr, flush=True)
    with ThreadPoolExecutor() as threads:  # hashing releases Python's lock
        return dict(zip((file.relative_to(path).as_posix() for file in files), threads.map(_md5, files), strict=True))


def digest(hashes: Mapping[str, str] | None) -> str | None:
    """Return the md5 that DVC records for a path with these `file_hashes`: for a folder that of its listing, and ".dir"."""
    if hashes is None or "." in hashes:
        return hashes and hashes["."]
    listing = json.dumps([{"md5": hashes[name], "relpath": name} for name in sorted(hashes)], sort_keys=True)
    return hashlib.md5(listing.encode()).hexdigest() + ".dir"


def changed(folder: Path, outs: Mapping[str, str]) -> dict[str, dict[str, str] | None]:
    """Return the paths of `outs` (path: recorded md5) that are not as recorded in `folder`, each with its `file_hashes`."""
    hashes = {path: file_hashes(folder / path) for path in outs}
    return {path: here for path, here in hashes.items() if digest(here) != outs[path]}


def faults(outs: Mapping[str, str], differing: Mapping[str, dict[str, str] | None], objects: Path) -> Iterator[Fault]:
    """Yield the faults, file by file, of `differing`, the `changed` paths of `outs`; `objects` as in `dvc_config`."""
    for path, here in differing.items():
        recorded = outs[path]
        fault = _fault(path, recorded, digest(here), objects)
        if not recorded.endswith(".dir") or fault.state != "whole":
            yield fault
            continue
        entries = {entry["relpath"]: entry["md5"] for entry in json.loads(fault.object.read_bytes())}
        for name in sorted(entries.keys() | (here or {}).keys()):
            if entries.get(name) != (here or {}).get(name):
                yield _fault(f"{path}/{name}", entries.get(name), (here or {}).get(name), objects)


def summary(faults: list[Fault]) -> str:
    """Return the first of the faults, a line each, and how many more there are."""
    lines = [f"  {fault}" for fault in faults[:_FAULTS_IN_MESSAGE]]
    more = len(faults) - len(lines)
    return "\n".join([*lines, *([f"  and {more} more"] if more else [])])


def is_whole(file: Path, name: str) -> bool:
    """Return whether an object of DVC's cache has the content of its `name`, an md5, with ".dir" after that of a listing."""
    return _md5(file) == name.removesuffix(".dir")


def _fault(path: str, recorded: str | None, here: str | None, objects: Path) -> Fault:
    if recorded is None:
        return Fault(path, None, here, None, "whole")
    file = objects / recorded[:2] / recorded[2:]
    state = "missing" if not file.is_file() else "whole" if is_whole(file, recorded) else "damaged"
    return Fault(path, recorded, here, file, state)


def _md5(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "md5").hexdigest()


def verify(root: Path, folder: Path, outs: Mapping[str, str], name: str, remake: str) -> None:
    """Compare the paths `outs` of `folder` (path: recorded md5), whose objects are in the cache of `root`, with the record.

    `name` is what recorded them, `remake` the command that makes them again.

    Raises:
        Changed: they differ; the message has each file, both hashes, and the fix.
    """
    _compare(root, folder, outs, name, remake, restoring=False)


def _compare(root: Path, folder: Path, outs: Mapping[str, str], name: str, remake: str, restoring: bool) -> None:
    """Raise as `verify`. If `restoring`, the fix is to repeat the command, which itself removes what is in `folder`."""
    differing = changed(folder, outs)
    if not differing:
        return
    paths = shlex.join(differing)
    wrong = list(faults(outs, differing, dvc_config.cache_objects(root)))
    number = "1 file is" if len(wrong) == 1 else f"{len(wrong)} files are"
    text = f"{name}: {number} not as recorded in {folder}:\n{summary(wrong)}\n"
    damaged = list(dict.fromkeys(str(fault.object) for fault in wrong if fault.state == "damaged"))
    to_remove = damaged if restoring else [*damaged, *(str(folder / path) for path in differing)]
    remove = f"rm -r -f {shlex.join(to_remove)}\nThen"
    if damaged:
        pull = "run this again" if restoring else f"dvc pull {paths}"
        if dvc.remotes(root):
            remove += f" {pull}, which gets it from the remote. If it is damaged there too"
        raise Changed(f"{text}In DVC's cache it is damaged. Remove it: {remove}: {remake}")
    if any(fault.state == "missing" for fault in wrong):
        raise Missing(
            f"{text}DVC's cache no longer has it. If it was pushed, name the remote and run this again: "
            f"dvc remote add --default NAME URL. Otherwise {'' if restoring else f'{remove}: '}{remake}"
        )
    raise Changed(f"{text}DVC's cache has it as recorded. Put it back: rm -r -f {paths} && dvc checkout {paths}")


def store_outputs(root: Path) -> None:
    """Have DVC store the stages' outputs that dvc.lock records and its cache lacks: if the disk of the cache is full,
    `dvc repro` prints an error for each file and goes on.

    Raises:
        UserError: the cache still lacks them.
    """
    recorded, outputs = dvc.hashes(dvc.locked_stages(root)), dvc.outputs(root)
    outs = {path: md5 for path, md5 in recorded.items() if path in outputs}
    objects, reason = dvc_config.cache_objects(root), ""
    lacking = _not_stored(outs, objects)
    if not lacking:
        return
    try:
        dvc.run(root, "commit", "--quiet", *lacking)  # it refuses if what they were made from has changed since
    except UserError as error:
        reason = str(error).splitlines()[-1]
    if lacking := _not_stored(outs, objects):
        reason = disk.full(root, objects) or reason
        raise UserError(f"DVC's cache ({objects}) could not take {', '.join(lacking)}. {reason} Then run again.")


def _not_stored(outs: Mapping[str, str], objects: Path) -> list[str]:
    """Return the paths of `outs` of which the cache has not all files. Their content is not read."""
    return [path for path, recorded in outs.items() if not _is_stored(recorded, objects)]


def _is_stored(recorded: str, objects: Path) -> bool:
    file = objects / recorded[:2] / recorded[2:]
    if not file.is_file():
        return False
    if not recorded.endswith(".dir"):
        return True
    return all((objects / entry["md5"][:2] / entry["md5"][2:]).is_file() for entry in json.loads(file.read_bytes()))


def restore(
    root: Path, folder: Path, outs: Mapping[str, str], name: str, remake: str, other_cache: Path | None = None
) -> None:
    """Put the paths `outs` (path: recorded md5), which `folder`/dvc.lock names, into `folder`, unless they are there.

    They come from the cache of `root`, or else from `other_cache`, that of the checkout that made them, or else from the
    remotes of `root`. `name` and `remake` as in `verify`.

    Raises:
        Changed: neither has them as recorded.
        UserError: DVC failed otherwise; the message is its own.
    """
    if not changed(folder, outs):
        return
    for path in outs:  # DVC would leave a damaged file that it takes for unchanged
        remove(folder / path)
    try:
        _checkout_or_pull(root, folder, outs, other_cache)
    except UserError as failure:
        try:
            _compare(root, folder, outs, name, remake, restoring=True)
        except Changed as error:
            raise type(error)(f"{error}\n{failure}") from None
        raise
    _compare(root, folder, outs, name, remake, restoring=True)


def _checkout_or_pull(root: Path, folder: Path, outs: Mapping[str, str], other_cache: Path | None) -> None:
    try:
        dvc.run(folder, "checkout", "--force", *outs)
    except UserError:
        if other_cache and other_cache.resolve() != dvc_config.cache_folder(root).resolve():
            print(f"not in the cache: DVC takes them from {other_cache}", file=sys.stderr, flush=True)
            with contextlib.suppress(UserError):
                cache.pull(folder, other_cache, outs)
                return
        if not dvc.remotes(root):
            raise
        print("not in the cache: DVC pulls them from the remote", file=sys.stderr, flush=True)
        dvc.run(folder, "pull", "--force", *outs)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
