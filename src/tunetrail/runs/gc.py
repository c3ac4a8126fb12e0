"""Runs -> their disk space freed, in DVC's cache by DVC's own `dvc gc`. `usage` knows which part uses what.

Nothing is freed that another run, a commit, the checkout or a worktree uses. MLflow's record and its copies of promoted
models stay, and so do files on DVC's remotes and in git.
"""

import contextlib
import json
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from tunetrail import UserError, launch
from tunetrail.checkout import git, locks, worktree
from tunetrail.runs import usage
from tunetrail.tracking import other_runs, ranking, store, tags
from tunetrail.tracking.recorded import RecordedRun

# DVC itself keeps all that the checkout, any commit of a branch or tag, and any experiment names.
_GC = ("gc", "--quiet", "--force", "--workspace", "--all-commits", "--all-experiments")


def resolve(root: Path, references: Iterable[str], sweep: str | None = None) -> tuple[list[RecordedRun], str]:
    """Return the runs that `references` name (`store.find`), and the name of the sweep that `sweep` names.

    Raises:
        UserError: one of them names no run or sweep, or several.
    """
    runs = [store.find(root, reference) for reference in references]
    return runs, "" if sweep is None else ranking.sweep(store.every(root), sweep)


def choose(
    disk: usage.Usage, runs: Iterable[RecordedRun], sweep: str = "", failed: bool = False, copies: bool = False
) -> list[usage.Part]:
    """Return the parts of `runs`, those of `sweep` that may be freed, all worktrees if `failed`, and all `copies`.

    Raises:
        UserError: one of `runs` may not be freed, or takes no space here; the message has each of them.
    """
    chosen, faults = [], []
    for run in runs:
        parts = [part for part in disk.parts if part.run and part.run.id == run.id]
        reasons = disk.kept.get(run.id, [] if parts else [_why_nothing(run)])
        faults += [f"run {run.short_id} ({run.name}): {reason}" for reason in reasons]
        chosen += parts
    if faults:
        raise UserError("nothing is freed:\n" + "\n".join(f"  - {fault}" for fault in faults))
    for part in disk.parts:
        of_sweep = sweep and part.run and part.run.sweep == sweep and part.run.id not in disk.kept
        if of_sweep or (failed and part.kind == "worktree") or (copies and part.kind == "copy"):
            chosen.append(part)
    return list(dict.fromkeys(chosen))


def _why_nothing(run: RecordedRun) -> str:
    if run.is_sweep:
        return f"a sweep, whose jobs take space. To free those: --sweep {run.sweep}"
    return f"freed {run.tags[tags.FREED]}" if tags.FREED in run.tags else "takes no space here"


@contextlib.contextmanager
def all_locks(root: Path) -> Iterator[None]:
    """Hold the locks of the checkout, every sweep and every worktree, so that no run starts while something is freed.

    Raises:
        UserError: a run is still running; the message says which.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(locks.wait_for_lock(git.repository_lock(root)))  # no worktree can be made either
        for folder, lock in _locks(root):
            try:
                stack.enter_context(locks.exclusive_lock(lock.parent, lock.name))
            except locks.Busy as busy:
                raise UserError(_busy(root, folder, busy.process)) from None
        yield


def _locks(root: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the folders in which something may be running, each with its lock file (`locks.exclusive_lock`)."""
    yield root, root / "work" / "lock"
    for lock in (root / "runs").glob("*/lock"):  # of a sweep
        yield lock.parent, lock
    for lock in (root / "runs").glob("*.lock"):  # of a run that is reproduced, in the worktree of that name
        yield lock.with_suffix(""), lock
    for _, checkout in usage.worktrees(root):
        for lock in (checkout / "work").glob("*lock"):
            yield checkout, lock


def _busy(root: Path, folder: Path, process: str) -> str:
    running = store.running(root, f"{socket.gethostname()}:{folder}")
    run = f", run {running.short_id} ({running.name})" if running else ""
    return f"{folder}: process {process}{run} is running here, so nothing is freed. Wait until it has ended, and try again."


def free(disk: usage.Usage, chosen: list[usage.Part]) -> int:
    """Free the parts, and the objects that nothing uses; return the number of bytes. The caller holds `all_locks`.

    A run's DVC experiment is deleted first, its objects last: if this process is killed, the run is intact, or its objects
    are used by nothing and freed next time. The MLflow run stays, with the tag `freed`.

    Raises:
        UserError: DVC or the store failed; the message is its own.
    """
    root = disk.root
    runs = [part.run for part in chosen if part.kind == "run"]
    saved = usage.experiments(root)
    for run in runs:
        if reference := saved.get(run.tags.get(tags.DVC_EXPERIMENT)):
            git.run(root, "update-ref", "-d", reference)
        if run.dvc_cache in (None, disk.cache.parents[1].resolve()):  # else another checkout's cache has its files
            other_runs.tag(root, run.id, {tags.FREED: datetime.now(UTC).date().isoformat()})
    for part in chosen:
        if part.kind == "worktree":
            worktree.remove(root, part.folder)
        elif part.folder:
            shutil.rmtree(part.folder)
    with tempfile.TemporaryDirectory() as folder:
        _make_project(Path(folder), disk.cache, disk.remaining(chosen))
        launch.output(["dvc", "--cd", str(root), *_GC, "--projects", folder])
    remaining = sum(usage.object_sizes(disk.cache).values())
    return sum(disk.sizes.values()) - remaining + sum(part.size for part in chosen)


def _make_project(folder: Path, cache: Path, objects: set[str]) -> None:
    """Make `folder` a DVC project that names these objects, so that `dvc gc` keeps them. DVC itself does not see runs
    without an experiment, nor worktrees."""
    launch.output(["git", "init", "--quiet", str(folder)])  # --all-experiments needs one in every project
    (folder / ".dvc").mkdir()
    setting = json.dumps(str(cache.parents[1]), ensure_ascii=False)
    (folder / ".dvc" / "config").write_text(f"[cache]\ndir = {setting}\n")
    outs = [{"md5": name, "hash": "md5", "path": name} for name in sorted(objects)]
    (folder / "remaining.dvc").write_text(json.dumps({"outs": outs}))  # JSON is YAML too
