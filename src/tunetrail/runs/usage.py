"""A checkout -> what its runs take on the disk, to the byte: in DVC's cache, as worktrees, as copies.

Whatever names a file of the cache is read from lock files: a run's (its DVC experiment has it, or its MLflow record), the
checkout's, those of all commits, of other worktrees. Not covered: freeing it, which is `gc`'s; MLflow's own files.
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

from tunetrail import UserError, launch
from tunetrail.checkout import dvc, integrity
from tunetrail.tracking import mlflow_run, store
from tunetrail.training import token_cache

_MD5 = re.compile(r"md5: ([0-9a-f]{32}(?:\.dir)?)")  # as dvc.lock and .dvc files have it


@dataclass(frozen=True, eq=False)
class Part:
    """What is freed as a whole: a "run", a "worktree" of one below runs/, or a "copy", which is made again when needed.

    `objects` are the files of DVC's cache that it names, by md5; `folder`, of `size` bytes, is its own; `run` is the MLflow
    run whose it is (`store.to_dict`).
    """

    kind: str
    name: str
    run: dict[str, Any] | None
    objects: frozenset[str] = frozenset()
    folder: Path | None = None
    size: int = 0


@dataclass(frozen=True)
class Space:
    """`sizes` are the bytes of every file of DVC's cache by md5, `pinned` those files that something names which is no part.

    `kept` says of runs that may not be freed, by id, why.
    """

    root: Path
    cache: Path
    sizes: dict[str, int]
    pinned: frozenset[str]
    parts: list[Part]
    kept: dict[str, list[str]]

    @functools.cached_property
    def _names(self) -> collections.Counter[str]:
        """How many parts name an object."""
        return collections.Counter(name for part in self.parts for name in part.objects)

    def bytes(self, objects: Iterable[str]) -> int:
        """The bytes of these objects."""
        return sum(self.sizes[name] for name in objects)

    def own(self, part: Part) -> int:
        """The bytes that the part alone takes."""
        return part.size + self.bytes(name for name in part.objects - self.pinned if self._names[name] == 1)

    def shared(self) -> int:
        """The bytes of the cache that several parts name, or what is no part (a commit, the checkout), counted once."""
        return self.bytes(name for name in self.sizes if name in self.pinned or self._names[name] > 1)

    def unnamed(self) -> int:
        """The bytes of the cache that nothing names any more: they go whenever something is freed."""
        return self.bytes(self.sizes.keys() - self.pinned - self._names.keys())

    def total(self) -> int:
        """The bytes of the cache and of every part."""
        return sum(self.sizes.values()) + sum(part.size for part in self.parts)

    def staying(self, freed: list[Part]) -> set[str]:
        """The objects that are named once the parts `freed` are gone."""
        return set(self.pinned).union(*(part.objects for part in self.parts if part not in freed))

    def amount(self, freed: list[Part]) -> int:
        """The bytes that freeing these parts frees, with what nothing names."""
        return self.bytes(self.sizes.keys() - self.staying(freed)) + sum(part.size for part in freed)


def survey(root: Path) -> Space:
    """What takes space, the oldest run first; it asks git, DVC and MLflow, and holds nothing up.

    Raises:
        UserError: `root` is the worktree of a run, or the store cannot be reached.
    """
    root, others = root.resolve(), worktrees(root)
    if any(root.is_relative_to(checkout / "runs") for _, checkout in others):
        raise UserError(f"{root}: a run's worktree. Change into the checkout that started it.")
    cache = dvc.cache_objects(root)
    # What is not yet whole has a name with a dot before it.
    sizes = {f"{file.parent.name}{file.name}": file.stat().st_size for file in cache.glob("??/[!.]*")}
    named = functools.partial(_named, cache, sizes)

    runs, saved, versions = store.every(root)[::-1], experiments(root), store.registered(root)
    checkout = named(_text(root / "dvc.lock"))
    pinned = [checkout, *(named(_text(file)) for file in root.glob("*.dvc")), named(_committed(root))]
    ours = {run["tags"].get("dvc.experiment") for run in runs}
    pinned += [named(_lock(root, commit)) for name, commit in saved.items() if name not in ours]
    parts, kept = [], {}
    for run in runs:
        objects = named(_recorded(root, run, saved))
        if objects:
            parts.append(Part("run", run["id"], run, objects))
        if reasons := _kept(root, run, versions, bool(objects) and objects == checkout):
            kept[run["id"]] = reasons
    places = {run["tags"].get(mlflow_run.CHECKOUT, "").partition(":")[2]: run for run in runs}
    of = {run["id"]: run for run in runs}
    for folder, its in others:
        objects = named(_text(its / "dvc.lock"))
        if folder.is_relative_to(root / "runs"):
            job = folder.with_suffix(".json")  # of a sweep
            run = of.get(json.loads(job.read_text())["run"]) if job.is_file() else places.get(str(its))
            parts.append(Part("worktree", str(folder.relative_to(root)), run, objects, folder, _size(folder)))
        else:
            pinned.append(objects)
    for folder in (*sorted((root / "work" / "recorded").glob("*/")), *sorted((root / token_cache.PLACE).glob("*/"))):
        parts.append(Part("copy", str(folder.relative_to(root)), of.get(folder.name), frozenset(), folder, _size(folder)))
    return Space(root, cache, sizes, frozenset().union(*pinned), parts, kept)


def _named(cache: Path, sizes: dict[str, int], text: str) -> frozenset[str]:
    """The objects of the cache that lock files name, each folder with what is in it."""
    named = _MD5.findall(text)
    inside = (_inside(cache / name[:2] / name[2:]) for name in set(named) if name.endswith(".dir") and name in sizes)
    return frozenset().union(named, *inside) & sizes.keys()


@functools.cache
def _inside(folder: Path) -> frozenset[str]:
    """The objects of a folder's own object, which is named by its content.

    Raises:
        UserError: its content is another by now, so nobody knows which objects are the folder's.
    """
    if not integrity.is_whole(folder, f"{folder.parent.name}{folder.name}"):
        raise UserError(
            f"{folder}: this listing in DVC's cache is damaged, so what it names is not known, and nothing is freed. Remove "
            f"it (rm -f {shlex.quote(str(folder))}) and pull it again; without a remote its files cannot be had any more."
        )
    return frozenset(entry["md5"] for entry in json.loads(folder.read_bytes()))


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _lock(root: Path, commit: str) -> str:
    """The dvc.lock of a commit."""
    with contextlib.suppress(UserError):  # it has none
        return launch.output(["git", "-C", str(root), "show", f"{commit}:./dvc.lock"])
    return ""


def _committed(root: Path) -> str:
    """All lines that dvc.lock and .dvc files ever had in what `dvc gc --all-commits` keeps.

    Read from git: DVC would take its own lock from under a run that goes on.
    """
    log = ["log", "-m", "-p", "--no-color", "--no-ext-diff", "--format=", "HEAD", "--branches", "--tags", "--remotes"]
    return launch.output(["git", "-C", str(root), *log, "--", ":(top,glob)**/dvc.lock", ":(top,glob)**/*.dvc"])


def experiments(root: Path) -> dict[str, str]:
    """The commit of each DVC experiment by its name."""
    form = "--format=%(refname:lstrip=4) %(objectname)"
    lines = launch.output(["git", "-C", str(root), "for-each-ref", form, "refs/exps/*/*/*"]).splitlines()
    return dict(line.split() for line in lines)


def _recorded(root: Path, run: dict[str, Any], saved: dict[str, str]) -> str:
    """The dvc.lock of a run that finished and is not freed."""
    if commit := saved.get(run["tags"].get("dvc.experiment")):
        return _lock(root, commit)
    if "model.md5" not in run["tags"] or mlflow_run.FREED in run["tags"]:
        return ""
    return store.read_artifacts(root, run["id"], ["dvc.lock"]).get("dvc.lock", "")


def _kept(root: Path, run: dict[str, Any], versions: dict[str, list[dict[str, Any]]], held: bool) -> list[str]:
    """Why the run may not be freed."""
    reasons, place = [], run["tags"].get(mlflow_run.CHECKOUT, "elsewhere")
    names = [f"{one['model']}/{one['version']}" for one in versions.get(run["id"], [])]
    if names or run["tags"].get("promoted"):
        reasons.append(f"promoted as {', '.join(names) or run['tags']['promoted']}")
    if held:
        reasons.append("in the checkout")
    if run["status"] == "RUNNING" and not f"{place}/".startswith(f"{socket.gethostname()}:{root}/"):
        reasons.append(f"running, {place}")
    return reasons


def worktrees(root: Path) -> list[tuple[Path, Path]]:
    """Every worktree of git's, and the main one, each with the checkout in it; but not `root`."""
    git = ["git", "-C", str(root)]
    prefix = launch.output([*git, "rev-parse", "--show-prefix"])
    lines = launch.output([*git, "worktree", "list", "--porcelain"]).splitlines()
    folders = [Path(line.removeprefix("worktree ")) for line in lines if line.startswith("worktree ")]
    return [(folder, folder / prefix) for folder in folders if folder.is_dir() and folder / prefix != root.resolve()]


def _size(folder: Path) -> int:
    """The bytes of the files that are the folder's own: no links, nor what else has a second name, as in the cache."""
    found = (file.lstat() for file in folder.rglob("*"))
    return sum(one.st_size for one in found if stat.S_ISREG(one.st_mode) and one.st_nlink == 1)
