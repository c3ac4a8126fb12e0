"""One job of a sweep, as Hydra composed it -> a child run, made in a git worktree of its own.

The worktree's code runs it, as `tunetrail run --params`, and prints into a log. The job's state is in a small file beside
the worktree (`state`). Which jobs there are and where they run is decided by Hydra.
"""

import contextlib
import hashlib
import json
import os
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunetrail import UserError, launch, processes
from tunetrail.checkout import git, locks, worktree
from tunetrail.config import check, params
from tunetrail.sweep import gpus, outcome, state
from tunetrail.sweep.state import Job
from tunetrail.tracking import tags

# Hydra's launchers that know nothing of GPUs: several jobs on one machine would all use the first.
_LOCAL_LAUNCHERS = ("basic", "joblib")
_SECONDS_TO_UNLOCK = 5.0
_SIGNALLED = 128  # a shell's exit code for a process that a signal ended is this plus the signal's number


@dataclass(frozen=True)
class Sweep:
    """What the jobs of a sweep share: the checkout's `root`, the sweep's `folder` below runs/, its MLflow run `parent`, the
    code, the keys that are `constant`, and how many jobs there are in `total` (None: not known)."""

    root: Path
    folder: Path
    parent: str
    code: git.Code
    constant: frozenset[str]
    total: int | None


def run_job(cfg: Any, sweep: Sweep) -> float | None:
    """Run the job that Hydra composed. Return its score, or None if it failed: the other jobs continue."""
    from hydra.core.hydra_config import HydraConfig

    hydra = HydraConfig.get()
    os.chdir(sweep.root)
    overrides = [line for line in hydra.overrides.task if line.partition("=")[0].lstrip("+") not in sweep.constant]
    values, fault = _resolve(cfg)
    key = digest(values or {"overrides": overrides}, sweep)
    job = Job(sweep.folder / f"{key[:10]}.json", hydra.job.num, overrides, started=time.time())
    # A sampler may draw the same job twice: the second waits for the first and takes over its scores.
    with locks.wait_for_lock(job.file.with_suffix(".turn")), outcome.record(job, sweep.root):
        from tunetrail.tracking import other_runs

        recorded = {tags.SWEEP: sweep.folder.name, tags.SWEEP_OVERRIDES: " ".join(overrides), tags.JOB_DIGEST: key}
        recorded |= {tags.JOB_NUMBER: str(hydra.job.num), tags.OVERRIDES: shlex.join(hydra.overrides.task)}
        name = " ".join(overrides) or (values or {}).get("name", "job")
        child = other_runs.child(sweep.root, sweep.parent, name, recorded)
        job.run = child.id
        if child.finished:
            outcome.take_over(job, child, sweep.root)
            worktree.remove(sweep.root, job.file.with_suffix(""))  # still there if the job was killed after it finished
            return job.score
        if fault:
            raise fault
        job.write()
        local = hydra.runtime.choices["hydra/launcher"] in _LOCAL_LAUNCHERS
        reserved = gpus.reserve(values["accelerate"], sweep.root / worktree.SHARED / "devices")
        with reserved if local else contextlib.nullcontext(({}, [])) as (environment, lock_fds):
            job.state = "running"
            job.started = time.time()
            job.write()
            _run(sweep, job, values, environment, lock_fds)
    return job.score


def terminate_jobs(root: Path, folder: Path, name: str = "*") -> None:
    """Terminate the jobs of the sweep in `folder` that run on this machine, or the one with this name, whoever started them,
    and wait until they have ended."""
    turns = folder.glob(f"{name}.turn")
    processes.terminate_holders([*turns, *_locks(root, folder, name, "job.lock"), *_locks(root, folder, name, "lock")])
    # A process that ends releases its locks after its files are no longer listed. Jobs on other machines keep theirs.
    deadline = time.monotonic() + _SECONDS_TO_UNLOCK
    while any(map(locks.is_locked, _locks(root, folder, name, "job.lock"))) and time.monotonic() < deadline:
        time.sleep(0.1)


def running_jobs(root: Path, folder: Path) -> set[str]:
    """Return the names of the jobs of the sweep in `folder` that are running, also on other machines that share the disk."""
    return {lock.relative_to(folder).parts[0] for lock in _locks(root, folder, "*", "job.lock") if locks.is_locked(lock)}


def orphaned_jobs(root: Path, folder: Path) -> set[str]:
    """Return the names of the running jobs whose launcher has died, so that nothing records how they end."""
    return {name for name in running_jobs(root, folder) if not locks.is_locked(folder / f"{name}.turn")}


def mark_stopped(root: Path, folder: Path) -> list[str]:
    """Mark as stopped the jobs that did not finish and are no longer running; return their MLflow runs."""
    running = running_jobs(root, folder)
    stopped = [job for job in state.read(folder) if job.state in ("waiting", "running") and job.name not in running]
    for job in stopped:
        job.state = "stopped"
        job.write()
    return [job.run for job in stopped if job.run]


def _locks(root: Path, folder: Path, name: str, lock: str) -> list[Path]:
    below_repository = git.run(root, "rev-parse", "--show-prefix")
    return list(folder.glob(f"{name}/{below_repository}work/{lock}"))


def _resolve(cfg: Any) -> tuple[dict[str, Any] | None, UserError | None]:
    try:
        return check.resolve(cfg), None
    except UserError as error:
        return None, error


def digest(values: dict[str, Any], sweep: Sweep) -> str:
    """Return the SHA-256 of a job's parameters, its code, and the size and mtime of the files that it names."""
    files = []
    paths = (values.get(section, {}).get(name) for section, name in worktree.PATHS)
    for path in map(Path, filter(None, paths)):  # Path("") would be the whole checkout
        for file in [path, *sorted(path.rglob("*"))] if path.is_dir() else [path]:
            if file.is_file():
                files.append((str(file), file.stat().st_size, file.stat().st_mtime_ns))
    known = ("conf/", "src/", *worktree.MADE_BY_STAGES)  # in the code's digest, or made by the stages
    files = [file for file in files if not file[0].startswith(known)]
    return hashlib.sha256(json.dumps([values, sweep.code.digest, files], sort_keys=True).encode()).hexdigest()


def _run(sweep: Sweep, job: Job, values: dict[str, Any], environment: dict[str, str], lock_fds: list[int]) -> None:
    """Run `values` with the code of a worktree, set the job's scores, and remove the worktree. If it was killed, the job is
    `stopped`.

    Raises:
        UserError: the run failed; the message says why, and the worktree stays.
    """
    from tunetrail.tracking import store

    folder = job.file.with_suffix("")
    checkout = worktree.make(sweep.root, folder, sweep.code)
    worktree.share(sweep.root, checkout)
    worktree.link_all_untracked(sweep.root, checkout, values)
    composed = checkout / "work" / "composed.yaml"
    params.write_yaml(composed, values)
    log = job.file.with_suffix(".log")
    with locks.exclusive_lock(checkout, "work/job.lock") as lock_fd:
        start = log.stat().st_size if log.is_file() else 0
        command = [sys.executable, "-m", "tunetrail", "run", "--params", str(composed)]
        environment = launch.python_path(checkout / "src") | {"MLFLOW_RUN_ID": job.run} | environment
        # Wait longer than that process waits for its own children, so that it can end first and leave none behind.
        code = launch.run(command, [lock_fd, *lock_fds], checkout, environment, log, patience=60)
    if code < 0 or code > _SIGNALLED:
        job.state = "stopped"
        return
    if code:
        raise UserError(outcome.why(log, start))
    if not store.find(sweep.root, job.run).finished:
        raise UserError(f"the tracking store did not record all of the run; its files stay in {checkout}")
    job.set_scores(json.loads((checkout / "report" / "metrics.json").read_text()))
    worktree.remove(sweep.root, folder)
