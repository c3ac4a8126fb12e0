"""Overrides with several values -> one MLflow run with a child for each job. `job` conducts one; Hydra says which and where.

The parent carries what was typed, the table of its jobs, the best of them and a figure. Not covered: composing and
launching, which are Hydra's sweepers and launchers (conf/sweep).
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

from tunetrail import UserError, redaction
from tunetrail.checkout import git, locks
from tunetrail.config.grid import constant, logarithmic, total
from tunetrail.report import plots
from tunetrail.sweep import job, plot, progress
from tunetrail.sweep.progress import Job
from tunetrail.tracking import ranking


class Failed(UserError):
    """Some jobs failed; the others are recorded."""

    code = 1


def run(root: Path, overrides: list[str], multirun: Callable[[Path, Callable[[Any], float | None]], None]) -> None:
    """Have `multirun` call a function for each job, in a folder of the sweep's own, and record what came of them.

    The same words over the same code are the same sweep: its run is opened again, finished jobs are skipped and the others
    go on. In `mlflow run`, the project's own run is the parent.

    Raises:
        Failed: a job failed.
        UserError: the sweep is running already, or no job could be composed.
    """
    from tunetrail.tracking import mlflow_run

    words = sorted(word for word in overrides if word not in ("-m", "--multirun"))
    count, scratch = total(root, words), root / "work" / f"changes-{os.getpid()}.patch"
    scratch.parent.mkdir(exist_ok=True)
    code = git.read_code(root, scratch)
    name = f"sweep-{hashlib.sha256(json.dumps([words, code.digest]).encode()).hexdigest()[:8]}"
    folder = root / "runs" / name
    folder.mkdir(parents=True, exist_ok=True)
    with locks.exclusive_lock(folder, "lock"):
        code = git.Code(code.commit, code.patch.replace(folder / "changes.patch"), code.digest)
        job.mark_stopped(root, folder)
        earlier, opened = os.environ.get("MLFLOW_RUN_ID") or mlflow_run.sweep(root, name), None
        if earlier:
            os.environ["MLFLOW_RUN_ID"] = earlier
        try:
            with mlflow_run.run(root, name, place=folder) as parent:
                opened = parent.id
                print(f"{name}: MLflow run {parent.id} in {parent.address}; logs in {folder}", flush=True)
                parent.tags({"sweep": name, "sweep.overrides": shlex.join(words), "git.commit": code.commit})
                parent.tags({"git.dirty": str(code.dirty).lower(), "code.digest": code.digest})
                parent.artifacts(folder, *(["changes.patch"] if code.dirty else []))
                started = time.time()
                _run_jobs(job.Sweep(root, folder, parent.id, code, constant(words), count), multirun)
                # What the words do not make any more is not this sweep's; a study's jobs are all its own.
                jobs = [one for one in progress.read(folder) if not count or one.written >= started]
                _record(parent, folder, jobs, logarithmic(words))
        finally:
            if not list(folder.glob("*.json")):  # nothing was composed: no sweep at all
                shutil.rmtree(folder)
                if opened and not earlier:
                    mlflow_run.delete_run(root, opened)


def _run_jobs(sweep: job.Sweep, multirun: Callable[..., None]) -> None:
    """Have the jobs run, and show them meanwhile."""
    from tunetrail.tracking import mlflow_run

    ended, interrupted, started = threading.Event(), False, time.time()
    watching = threading.Thread(target=progress.watch, args=(sweep.folder, ended, sweep.total), daemon=True)
    watching.start()
    try:
        multirun(sweep.folder.relative_to(sweep.root), lambda cfg: job.run_job(cfg, sweep))
    except UserError:  # of composing
        raise
    except Exception as error:  # of a sampler or a launcher: what the jobs did is told anyway
        if not any(one.written >= started for one in progress.read(sweep.folder)):
            raise UserError(
                f"no job started: {type(error).__name__}: {str(error).rstrip('.')}. Fix hydra.sweeper or hydra.launcher, "
                "which the options in conf/sweep/ set."
            ) from error
        print(redaction.redact(f"{sweep.folder.name}: {type(error).__name__}: {error}"), file=sys.stderr)
        while job.running_jobs(sweep.root, sweep.folder):  # elsewhere, as on a cluster
            for name in job.orphaned_jobs(sweep.root, sweep.folder):
                job.terminate_jobs(sweep.root, sweep.folder, name)
            time.sleep(2)
    except (KeyboardInterrupt, SystemExit):
        interrupted = True
        # A signal to all of a process group takes joblib's processes before they hand it on to their jobs.
        job.terminate_jobs(sweep.root, sweep.folder)
        raise
    finally:
        runs = job.mark_stopped(sweep.root, sweep.folder)
        ended.set()
        watching.join()
        for run in runs:
            mlflow_run.close_run(sweep.root, run, "KILLED")
        if interrupted:
            _say_how_to_continue(sweep)


def _say_how_to_continue(sweep: job.Sweep) -> None:
    if alive := job.running_jobs(sweep.root, sweep.folder):
        print(f"{len(alive)} still run on other machines. End them there, with scancel on a cluster.", file=sys.stderr)
    if progress.read(sweep.folder):
        print("The same command goes on with them.", file=sys.stderr)


def _record(parent: Any, folder: Path, jobs: list[Job], log: frozenset[str]) -> None:
    """Put the table, the best job and the figure into the sweep's run, and say them; `log` is `grid.logarithmic`'s.

    Raises:
        Failed: a job failed, or was stopped.
    """
    done = [one for one in jobs if one.score is not None]
    undone = [one for one in jobs if one.state not in ("finished", "skipped")]
    parent.text("sweep/jobs.csv", table(jobs))
    parent.metrics({"sweep/jobs": len(jobs), "sweep/failed": len(undone)})
    figure = plot.scores([_point(one) for one in jobs], log)
    plots.save(figure, folder / "scores")
    parent.artifacts(folder, "scores.png", "scores.svg", into="sweep")
    if done:
        best = min(done, key=lambda one: ranking.sort_key(one.score, one.loss, one.number))
        below = ranking.below(best.score, best.base["value"] if best.base else None)
        score = f"{100 * best.score:.1f} % of the prompts (strict){below}"
        line = f"{ranking.best_of(one.score for one in done)}: {', '.join(filter(None, [score, ' '.join(best.overrides)]))}"
        parent.tags({"sweep.best": best.run, "sweep.best_overrides": " ".join(best.overrides)})
        parent.tags({"mlflow.note.content": f"{line}: run `{best.run}`"})  # what MLflow shows as the run's description
        print(f"\n{line}: tunetrail show {best.run[:8]}")
    print(f"figure: {folder / 'scores.png'}\ntable:  tunetrail ls --sweep {folder.name}", flush=True)
    if undone:
        whys = "\n".join(f"  {one.state}: {' '.join(one.overrides)}: {one.why or 'stopped'}" for one in undone)
        raise Failed(
            f"{folder.name}: {len(undone)} of {len(jobs)} jobs did not finish. The same command goes on with "
            f"them and skips the others.\n{whys}"
        )


def table(jobs: list[Job]) -> str:
    """The jobs as CSV: what varies has a column each."""
    varied = list(dict.fromkeys(name for one in jobs for name in _varied(one)))
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(["job", *varied, "state", "prompt_strict", "low", "high", "seconds", "run", "why"])
    for one in jobs:
        seconds = round(one.seconds) if one.seconds else None
        values = [_varied(one).get(name) for name in varied]
        writer.writerow([one.number, *values, one.state, one.score, one.low, one.high, seconds, one.run, one.why])
    return lines.getvalue()


def _varied(one: Job) -> dict[str, str]:
    return {name.lstrip("+"): value for name, _, value in (word.partition("=") for word in one.overrides)}


def _point(one: Job) -> dict[str, Any]:
    status = {"failed": "FAILED", "stopped": "KILLED"}.get(one.state, "FINISHED")
    figures = {name: getattr(one, name) for name in ("score", "low", "high", "loss", "base")}
    return {"params": _varied(one), "status": status} | figures
