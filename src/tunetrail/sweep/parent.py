"""Overrides with several values -> one MLflow run with a child run for each job.

The parent has the overrides as typed, a table of its jobs, the best of them and a figure. Hydra's sweepers and launchers
(conf/sweep) compose and start the jobs; `job` runs one.
"""

import csv
import hashlib
import io
import json
import os
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunetrail import UserError, launch, redaction
from tunetrail.checkout import git, locks
from tunetrail.config.grid import constant, logarithmic, total
from tunetrail.report import plots
from tunetrail.sweep import plot, progress, state
from tunetrail.sweep.job import Sweep, mark_stopped, orphaned_jobs, run_job, running_jobs, terminate_jobs
from tunetrail.sweep.state import Job
from tunetrail.tracking import ranking, tags


class Failed(UserError):
    """Some jobs failed; the others are recorded."""

    code = 1


def run(root: Path, overrides: list[str], multirun: Callable[[Path, Callable[[Any], float | None]], None]) -> None:
    """Call `multirun` with the sweep's folder and the function that runs a job, and record how the jobs ended.

    The same overrides over the same code are the same sweep: its MLflow run is opened again, finished jobs are skipped and
    the others continue. In `mlflow run`, the project's own run is the parent.

    Raises:
        Failed: a job failed.
        UserError: the sweep is running already, or no job could be composed.
    """
    from tunetrail.tracking import mlflow_run, other_runs

    overrides = sorted(word for word in overrides if word not in ("-m", "--multirun"))
    count = total(root, overrides)
    patch = root / "work" / f"changes-{os.getpid()}.patch"
    patch.parent.mkdir(exist_ok=True)
    code = git.read_code(root, patch)
    name = f"sweep-{hashlib.sha256(json.dumps([overrides, code.digest]).encode()).hexdigest()[:8]}"
    folder = root / "runs" / name
    folder.mkdir(parents=True, exist_ok=True)
    with locks.exclusive_lock(folder, "lock") as lock_fd:
        code = git.Code(code.commit, code.patch.replace(folder / "changes.patch"), code.digest)
        mark_stopped(root, folder)
        existing = os.environ.get("MLFLOW_RUN_ID") or other_runs.sweep(root, name)
        if existing:
            os.environ["MLFLOW_RUN_ID"] = existing
        opened = None
        try:
            with mlflow_run.run(root, name, folder=folder) as parent:
                opened = parent.id
                print(f"{name}: MLflow run {parent.id} in {parent.address}; logs in {folder}", flush=True)
                parent.tags({tags.SWEEP: name, tags.SWEEP_OVERRIDES: shlex.join(overrides)})
                parent.code(code)
                started = time.time()
                with launch.children_end_with_this([lock_fd]):  # joblib's processes among them
                    _run_jobs(Sweep(root, folder, parent.id, code, constant(overrides), count), multirun)
                # A grid's folder may hold jobs that the overrides no longer make; all jobs of a search are its own.
                jobs = [job for job in state.read(folder) if not count or job.written >= started]
                record(parent, folder, jobs, logarithmic(overrides))
        finally:
            if not list(folder.glob("*.json")):  # no job was composed
                shutil.rmtree(folder)
                if opened and not existing:
                    other_runs.delete_run(root, opened)


def _run_jobs(sweep: Sweep, multirun: Callable[..., None]) -> None:
    from tunetrail.tracking import other_runs

    started = time.time()
    interrupted = False
    ended = threading.Event()
    watcher = threading.Thread(target=progress.watch, args=(sweep.folder, ended, sweep.total), daemon=True)
    watcher.start()
    try:
        multirun(sweep.folder.relative_to(sweep.root), lambda cfg: run_job(cfg, sweep))
    except UserError:  # a job cannot be composed
        raise
    except Exception as error:  # a sampler or a launcher failed: the jobs that ran are recorded all the same
        if not any(job.written >= started for job in state.read(sweep.folder)):
            raise UserError(
                f"no job started: {type(error).__name__}: {str(error).rstrip('.')}. Fix hydra.sweeper or hydra.launcher, "
                "which the options in conf/sweep/ set."
            ) from error
        print(redaction.redact(f"{sweep.folder.name}: {type(error).__name__}: {error}"), file=sys.stderr)
        while running_jobs(sweep.root, sweep.folder):  # on other machines, as on a cluster
            for name in orphaned_jobs(sweep.root, sweep.folder):
                terminate_jobs(sweep.root, sweep.folder, name)
            time.sleep(2)
    except (KeyboardInterrupt, SystemExit):
        interrupted = True
        # A signal to the whole process group ends joblib's processes before they can pass it on to their jobs.
        terminate_jobs(sweep.root, sweep.folder)
        raise
    finally:
        runs = mark_stopped(sweep.root, sweep.folder)
        ended.set()
        watcher.join()
        for run in runs:
            other_runs.close_run(sweep.root, run, "KILLED")
        if interrupted:
            _say_how_to_continue(sweep)


def _say_how_to_continue(sweep: Sweep) -> None:
    if running := running_jobs(sweep.root, sweep.folder):
        print(f"{len(running)} still running on other machines: stop them there (Slurm: scancel).", file=sys.stderr)
    if state.read(sweep.folder):
        print("To continue the sweep, run the same command again.", file=sys.stderr)


def record(parent: Any, folder: Path, jobs: list[Job], log: frozenset[str]) -> None:
    """Put the table, the best job and the figure into the sweep's run `parent`, and print where they are; `log` are the keys
    on a logarithmic scale (`grid.logarithmic`).

    Raises:
        Failed: a job failed or was stopped.
    """
    unfinished = [job for job in jobs if job.state not in ("finished", "skipped")]
    parent.text("sweep/jobs.csv", table(jobs))
    parent.metrics({"sweep/jobs": len(jobs), "sweep/failed": len(unfinished)})
    plots.save(plot.scores(jobs, log), folder / "scores")
    parent.artifacts(folder, "scores.png", "scores.svg", into="sweep")
    if best := state.best(jobs):
        below = ranking.below(best.score, best.base["value"] if best.base else None)
        label = ranking.best_of(job.score for job in jobs if job.scored)
        overrides = " ".join(best.overrides)
        line = f"{label}: {100 * best.score:.1f} % of the prompts (strict){below}{overrides and f', {overrides}'}"
        parent.tags({tags.SWEEP_BEST: best.run, tags.SWEEP_BEST_OVERRIDES: overrides})
        parent.tags({tags.NOTE: f"{line}: run `{best.run}`"})
        print(f"\n{line}: tunetrail show {best.run[:8]}")
    print(f"figure: {folder / 'scores.png'}\ntable:  tunetrail ls --sweep {folder.name}", flush=True)
    if unfinished:
        reasons = "\n".join(f"  {job.state}: {' '.join(job.overrides)}: {job.why or 'stopped'}" for job in unfinished)
        raise Failed(
            f"{folder.name}: {len(unfinished)} of {len(jobs)} jobs did not finish. The same command runs them again and "
            f"skips the others.\n{reasons}"
        )


def table(jobs: list[Job]) -> str:
    """Return the jobs as CSV, with a column for each key that varies."""
    keys = list(dict.fromkeys(key for job in jobs for key in job.params))
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(["job", *keys, "state", "prompt_strict", "low", "high", "seconds", "run", "why"])
    for job in jobs:
        seconds = round(job.seconds) if job.seconds else None
        values = [job.params.get(key) for key in keys]
        writer.writerow([job.number, *values, job.state, job.score, job.low, job.high, seconds, job.run, job.why])
    return lines.getvalue()
