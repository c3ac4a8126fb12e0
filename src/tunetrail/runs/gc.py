"""Runs -> their space freed, in DVC's cache by DVC's own `dvc gc`. `usage` knows who takes what.

Nothing is freed that another run, a commit, the checkout or a worktree names. Not covered: MLflow's record and its copies of
promoted models, which stay; DVC's remotes; what git keeps.
"""

import contextlib
import json
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tunetrail import UserError, launch
from tunetrail.checkout import git, locks, worktree
from tunetrail.runs import usage
from tunetrail.tracking import connection, mlflow_run, ranking, store

# What DVC itself keeps: all that the checkout, any commit of a branch or tag, and any experiment names.
_GC = ("gc", "--quiet", "--force", "--workspace", "--all-commits", "--all-experiments")


def named(root: Path, words: Iterable[str], sweep: str | None = None) -> tuple[list[dict[str, Any]], str]:
    """The runs that `words` mean (`store.find`), as `store.to_dict` has them, and the name of the sweep that `sweep` means.

    Raises:
        UserError: one of them means nothing, or several.
    """
    runs = [store.to_dict(store.find(root, word)) for word in words]
    return runs, "" if sweep is None else ranking.sweep(store.every(root), sweep)


def choose(
    found: usage.Space, runs: Iterable[dict[str, Any]], sweep: str = "", failed: bool = False, copies: bool = False
) -> list[usage.Part]:
    """The parts of these runs, of the runs of `sweep` that may be freed, all worktrees if `failed`, all copies if `copies`;
    runs and sweep are `named`'s.

    Raises:
        UserError: a run may not be freed, or takes nothing here; the message has each of them.
    """
    chosen, faults = [], []
    for run in runs:
        its = [part for part in found.parts if part.run and part.run["id"] == run["id"]]
        reasons = list(found.kept.get(run["id"], ()))
        if not its and not reasons:
            reasons.append(_why_nothing(run["tags"], run["parent"]))
        faults += [f"run {run['id'][:8]} ({run['name']}): {reason}" for reason in reasons]
        chosen += its
    if faults:
        raise UserError("nothing is freed:\n" + "\n".join(f"  - {fault}" for fault in faults))
    for part in found.parts:
        of_sweep = sweep and part.run and part.run["tags"].get("sweep") == sweep and part.run["id"] not in found.kept
        if of_sweep or (failed and part.kind == "worktree") or (copies and part.kind == "copy"):
            chosen.append(part)
    return list(dict.fromkeys(chosen))


def _why_nothing(tags: dict[str, str], parent: str | None) -> str:
    if tags.get("sweep") and not parent:
        return f"a sweep, whose jobs take space. To free those: --sweep {tags['sweep']}"
    return f"freed {tags[mlflow_run.FREED]}" if mlflow_run.FREED in tags else "takes no space here"


@contextlib.contextmanager
def still(root: Path) -> Iterator[None]:
    """Hold the checkout, every sweep and every worktree, so that nothing is made while something is freed.

    Raises:
        UserError: a run goes on; the message says which.
    """
    with contextlib.ExitStack() as held:
        held.enter_context(locks.wait_for_lock(git.repository_lock(root)))  # nor can a worktree be made
        for place, lock in _locks(root):
            try:
                held.enter_context(locks.exclusive_lock(lock.parent, lock.name))
            except locks.Busy as busy:
                raise UserError(_busy(root, place, busy.process)) from None
        yield


def _locks(root: Path) -> Iterator[tuple[Path, Path]]:
    """Where something may be running, and the file by which it is held (`locks.exclusive_lock`)."""
    yield root, root / "work" / "lock"
    for lock in (root / "runs").glob("*/lock"):  # of a sweep
        yield lock.parent, lock
    for lock in (root / "runs").glob("*.lock"):  # of a run that is reproduced, in the worktree of that name
        yield lock.with_suffix(""), lock
    for _, checkout in usage.worktrees(root):
        for lock in (checkout / "work").glob("*lock"):
            yield checkout, lock


def _busy(root: Path, place: Path, process: str) -> str:
    """That something goes on at `place`: which process, and which run, where the store knows one there."""
    here = {mlflow_run.CHECKOUT: f"{socket.gethostname()}:{place}"}
    with connection.open_client(root) as client:
        going = store.search(client, here, "attributes.status = 'RUNNING'", "DESC")
    run = f", run {going[0].info.run_id[:8]} ({going[0].info.run_name})" if going else ""
    return f"{place}: process {process}{run} is running here, and nothing is freed meanwhile. Wait for it, and ask again."


def free(found: usage.Space, chosen: list[usage.Part]) -> int:
    """Free the parts, and what nothing names; returns the bytes. The caller holds `still`.

    A run's experiment goes first, its objects last: cut off at any point, what is left of it is whole, or is named by
    nothing and goes the next time. The MLflow run is kept, with the tag `freed`.

    Raises:
        UserError: DVC or the store failed; the message is its own.
    """
    dvc, root = ["dvc", "--cd", str(found.root)], found.root
    runs = [part.run for part in chosen if part.kind == "run"]
    if names := usage.experiments(root).keys() & {run["tags"].get("dvc.experiment") for run in runs}:
        launch.output([*dvc, "exp", "remove", *sorted(names)])
    for run in runs:
        mlflow_run.tag(root, run["id"], {mlflow_run.FREED: datetime.now(UTC).date().isoformat()})
    for part in chosen:
        if part.kind == "worktree":
            worktree.remove(root, part.folder)
        elif part.folder:
            shutil.rmtree(part.folder)
    with tempfile.TemporaryDirectory() as folder:
        launch.output([*dvc, *_GC, "--projects", str(_project(Path(folder), found, found.staying(chosen)))])
    left = usage.survey(root)
    return found.total() - left.total()


def _project(folder: Path, found: usage.Space, objects: set[str]) -> Path:
    """Make `folder` a DVC project that names these objects, since DVC itself knows of no run without an experiment and of no
    worktree.
    """
    launch.output(["git", "init", "--quiet", str(folder)])  # --all-experiments needs one in every project
    (folder / ".dvc").mkdir()
    (folder / ".dvc" / "config").write_text(
        f"[cache]\ndir = {json.dumps(str(found.cache.parents[1]), ensure_ascii=False)}\n"
    )
    outs = [{"md5": name, "hash": "md5", "path": name} for name in sorted(objects)]
    (folder / "staying.dvc").write_text(json.dumps({"outs": outs}))  # JSON is YAML too
    return folder
