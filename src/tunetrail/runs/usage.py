"""A checkout -> what its runs take on the disk, in bytes: in DVC's cache, as worktrees, as copies.

Which objects of the cache are used is read from lock files: of runs (in their DVC experiments or MLflow records), of the
checkout, of all commits, of other worktrees. `gc` frees the space. MLflow's own files are not counted.
"""

import collections
import contextlib
import functools
import json
import re
import shlex
import socket
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunetrail import UserError
from tunetrail.checkout import dvc, git, integrity
from tunetrail.tracking import store, tags
from tunetrail.tracking.recorded import RecordedRun
from tunetrail.training import resume, token_cache

_MD5 = re.compile(r"md5: ([0-9a-f]{32}(?:\.dir)?)")  # as dvc.lock and .dvc files have it

_COPIES = (Path("work/recorded"), token_cache.PLACE, resume.UNFINISHED)


@dataclass(frozen=True, eq=False)
class Part:
    """What is freed as a unit: a "run", a "worktree" below runs/, or a "copy" that is made again when needed, such as an
    unfinished training.

    `objects` are the objects of DVC's cache that it uses, by md5; `folder`, of `size` bytes, is its own; `run` is the run
    that it belongs to.
    """

    kind: str
    name: str
    run: RecordedRun | None
    objects: frozenset[str] = frozenset()
    folder: Path | None = None
    size: int = 0


@dataclass(frozen=True)
class Usage:
    """`sizes` has the bytes of every object of DVC's cache by md5; `pinned` are the objects that something other than a part
    uses, such as a commit; `kept` has the reasons why a run may not be freed, by its id."""

    root: Path
    cache: Path
    sizes: dict[str, int]
    pinned: frozenset[str]
    parts: list[Part]
    kept: dict[str, list[str]]

    @functools.cached_property
    def _users(self) -> collections.Counter[str]:
        """The number of parts that use each object."""
        return collections.Counter(name for part in self.parts for name in part.objects)

    def bytes(self, objects: Iterable[str]) -> int:
        """Return the bytes of these objects."""
        return sum(self.sizes[name] for name in objects)

    def own(self, part: Part) -> int:
        """Return the bytes that only this part uses."""
        return part.size + self.bytes(name for name in part.objects - self.pinned if self._users[name] == 1)

    def shared(self) -> int:
        """Return the bytes of the cache that several parts use, or that something other than a part uses, counted once."""
        return self.bytes(name for name in self.sizes if name in self.pinned or self._users[name] > 1)

    def unused(self) -> int:
        """Return the bytes of the cache that nothing uses any more; they are freed with whatever else is freed."""
        return self.bytes(self.sizes.keys() - self.pinned - self._users.keys())

    def total(self) -> int:
        """Return the bytes of the cache and of every part."""
        return sum(self.sizes.values()) + sum(part.size for part in self.parts)

    def remaining(self, freed: list[Part]) -> set[str]:
        """Return the objects that are in use after these parts are freed."""
        return set(self.pinned).union(*(part.objects for part in self.parts if part not in freed))

    def amount(self, freed: list[Part]) -> int:
        """Return the bytes that freeing these parts frees, with those that nothing uses."""
        return self.bytes(self.sizes.keys() - self.remaining(freed)) + sum(part.size for part in freed)


def survey(root: Path) -> Usage:
    """Return what takes space, the oldest run first. Asks git, DVC and MLflow, and takes no lock.

    Raises:
        UserError: `root` is the worktree of a run, or the store cannot be reached.
    """
    root = root.resolve()
    others = worktrees(root)
    if any(root.is_relative_to(checkout / "runs") for _, checkout in others):
        raise UserError(f"{root}: a run's worktree. Change into the checkout that started it.")
    folder = Path(dvc.run(root, "cache", "dir")) / "files" / "md5"  # asked, since what it has may be deleted
    sizes = object_sizes(folder)
    objects = functools.partial(_objects, folder, sizes)

    runs = store.every(root)[::-1]
    saved = experiments(root)
    in_checkout = objects(_text(root / "dvc.lock"))
    recorded = {run.tags.get(tags.DVC_EXPERIMENT) for run in runs}
    pinned = [in_checkout, *(objects(_text(file)) for file in root.glob("*.dvc")), objects(_committed(root))]
    pinned += [objects(_saved_lock(root, reference)) for name, reference in saved.items() if name not in recorded]
    versions = store.registered(root)
    parts, reasons_by_id = [], {}
    for run in runs:
        used = objects(_recorded_lock(root, run, saved))
        if used:
            parts.append(Part("run", run.id, run, used))
        if reasons := _reasons_to_keep(root, run, versions.get(run.id, []), bool(used) and used == in_checkout):
            reasons_by_id[run.id] = reasons
    by_id = {run.id: run for run in runs}
    by_folder = {run.checkout[1]: run for run in runs}
    for worktree, checkout in others:
        used = objects(_text(checkout / "dvc.lock"))
        if worktree.is_relative_to(root / "runs"):
            job = worktree.with_suffix(".json")  # of a sweep
            run = by_id.get(json.loads(job.read_text())["run"]) if job.is_file() else by_folder.get(str(checkout))
            parts.append(Part("worktree", str(worktree.relative_to(root)), run, used, worktree, _size(worktree)))
        else:
            pinned.append(used)
    for copy in (copy for folder in _COPIES for copy in sorted((root / folder).glob("*/"))):
        parts.append(Part("copy", str(copy.relative_to(root)), by_id.get(copy.name), folder=copy, size=_size(copy)))
    return Usage(root, folder, sizes, frozenset().union(*pinned), parts, reasons_by_id)


def object_sizes(folder: Path) -> dict[str, int]:
    """Return the bytes of each object of DVC's cache by its md5, without incomplete ones, which start with a dot."""
    return {f"{file.parent.name}{file.name}": file.stat().st_size for file in folder.glob("??/[!.]*")}


def _objects(folder: Path, sizes: dict[str, int], text: str) -> frozenset[str]:
    """Return the objects of the cache that the text of a lock file names, each folder with its files."""
    names = set(_MD5.findall(text))
    files = [_listed(folder / name[:2] / name[2:]) for name in names if name.endswith(".dir") and name in sizes]
    return frozenset().union(names, *files) & sizes.keys()


@functools.cache
def _listed(listing: Path) -> frozenset[str]:
    """Return the objects that the listing of a folder names. The listing is itself an object, named by its content.

    Raises:
        UserError: its content has changed, so the objects of the folder are not known.
    """
    if not integrity.is_whole(listing, f"{listing.parent.name}{listing.name}"):
        raise UserError(
            f"{listing}: this listing in DVC's cache is damaged, so the files it names are not known, and nothing is freed. "
            f"Remove it (rm -f {shlex.quote(str(listing))}) and pull it again; without a remote its files are lost."
        )
    return frozenset(entry["md5"] for entry in json.loads(listing.read_bytes()))


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _saved_lock(root: Path, reference: str) -> str:
    with contextlib.suppress(UserError):  # it has none
        return git.run(root, "show", f"{reference}:./dvc.lock")
    return ""


def _committed(root: Path) -> str:
    """Return all lines that dvc.lock and .dvc files ever had in the commits that `dvc gc --all-commits` keeps.

    Read from git, since DVC would take its own lock, which a running stage holds.
    """
    log = ["log", "-m", "-p", "--no-color", "--no-ext-diff", "--format=", "HEAD", "--branches", "--tags", "--remotes"]
    return git.run(root, *log, "--", ":(top,glob)**/dvc.lock", ":(top,glob)**/*.dvc")


def experiments(root: Path) -> dict[str, str]:
    """Return the git reference of each DVC experiment by its name."""
    lines = git.run(root, "for-each-ref", "--format=%(refname)", "refs/exps/*/*/*").split()
    return {line.rpartition("/")[2]: line for line in lines}


def _recorded_lock(root: Path, run: RecordedRun, saved: dict[str, str]) -> str:
    """Return the dvc.lock of a run that finished and is not freed."""
    if reference := saved.get(run.tags.get(tags.DVC_EXPERIMENT)):
        return _saved_lock(root, reference)
    if tags.MODEL_MD5 not in run.tags or tags.FREED in run.tags:
        return ""
    return store.read_artifacts(root, run.id, ["dvc.lock"]).get("dvc.lock", "")


def _reasons_to_keep(root: Path, run: RecordedRun, versions: list[dict[str, Any]], in_checkout: bool) -> list[str]:
    reasons = []
    names = [f"{version['model']}/{version['version']}" for version in versions]
    if promoted := ", ".join(names) or run.tags.get(tags.PROMOTED):
        reasons.append(f"promoted as {promoted}")
    if in_checkout:
        reasons.append("in the checkout")
    location = run.tags.get(tags.CHECKOUT, "elsewhere")
    if run.status == "RUNNING" and not f"{location}/".startswith(f"{socket.gethostname()}:{root}/"):
        reasons.append(f"running, {location}")
    return reasons


def worktrees(root: Path) -> list[tuple[Path, Path]]:
    """Return the repository's worktrees other than `root`, including the main one, each with the checkout in it."""
    prefix = git.run(root, "rev-parse", "--show-prefix")
    lines = git.run(root, "worktree", "list", "--porcelain").splitlines()
    folders = [Path(line.removeprefix("worktree ")) for line in lines if line.startswith("worktree ")]
    return [(folder, folder / prefix) for folder in folders if folder.is_dir() and folder / prefix != root.resolve()]


def _size(folder: Path) -> int:
    """Return the bytes of the folder's own files: without links, and without files with a second name, as in the cache."""
    stats = (file.lstat() for file in folder.rglob("*"))
    return sum(status.st_size for status in stats if stat.S_ISREG(status.st_mode) and status.st_nlink == 1)
