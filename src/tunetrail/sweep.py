"""Overrides with several values -> one MLflow run with a child for each job. `job` conducts one; Hydra says which and where.

The parent carries what was typed, the table of its jobs, the best of them and a figure. Not covered: composing and
launching, which are Hydra's sweepers and launchers (conf/sweep).
"""

import csv
import fcntl
import hashlib
import io
import json
import os
import shlex
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunetrail import UserError, config, job, plots, progress, sweep_plot, workspace
from tunetrail.progress import Job
from tunetrail.states import State


class Failed(UserError):
    """Some jobs failed; the others are recorded."""

    code = 1


def run(
    root: Path, overrides: list[str], count: int | None, multirun: Callable[[Path, Callable[[Any], float | None]], None]
) -> None:
    """Have `multirun` call a function for each of `count` jobs (None: not known), in a folder of the sweep's own, and record
    what came of them.

    The same words over the same code are the same sweep: its run is opened again, finished jobs are skipped and the others
    go on. In `mlflow run`, the project's own run is the parent.

    Raises:
        Failed: a job failed.
        UserError: the sweep is running already, or no job could be composed.
    """
    from tunetrail import tracking

    words, scratch = _words(overrides), root / "work" / f"changes-{os.getpid()}.patch"
    scratch.parent.mkdir(exist_ok=True)
    code = workspace.code(root, scratch)
    name = f"sweep-{hashlib.sha256(json.dumps([words, code.digest]).encode()).hexdigest()[:8]}"
    folder = root / "runs" / name
    folder.mkdir(parents=True, exist_ok=True)
    with workspace.alone(folder, "lock"):
        code = workspace.Code(code.commit, code.patch.replace(folder / "changes.patch"), code.digest)
        _stop(folder)
        earlier, opened = os.environ.get("MLFLOW_RUN_ID") or tracking.sweep(root, name), None
        if earlier:
            os.environ["MLFLOW_RUN_ID"] = earlier
        try:
            with tracking.run(root, name, place=folder) as parent:
                opened = parent.id
                print(f"{name}: MLflow run {parent.id} in {parent.address}; logs in {folder}", flush=True)
                parent.tags({"sweep": name, "sweep.overrides": shlex.join(words), "git.commit": code.commit})
                parent.tags({"git.dirty": str(code.dirty).lower(), "code.digest": code.digest})
                parent.artifacts(folder, *(["changes.patch"] if code.dirty else []))
                started = time.time()
                _conduct(job.Sweep(root, folder, parent.id, code, constant(words), count), multirun)
                # What the words do not make any more is not this sweep's; a study's jobs are all its own.
                _record(parent, folder, [one for one in progress.read(folder) if not count or one.written >= started])
        finally:
            if opened and not earlier and not list(folder.glob("*.json")):  # nothing was composed: no sweep at all
                tracking.forget(root, opened)


def _conduct(sweep: job.Sweep, multirun: Callable[..., None]) -> None:
    """Have the jobs run, and show them meanwhile."""
    from tunetrail import tracking

    ended = threading.Event()
    watching = threading.Thread(target=progress.watch, args=(sweep.folder, ended, sweep.total), daemon=True)
    watching.start()
    try:
        multirun(sweep.folder.relative_to(sweep.root), lambda cfg: job.conduct(cfg, sweep))
    except UserError:  # of composing
        raise
    except Exception as error:  # of a sampler or a launcher: what the jobs did is told all the same
        print(f"{sweep.folder.name}: {type(error).__name__}: {error}", file=sys.stderr)
        if not list(sweep.folder.glob("*.json")):
            raise
        while any(_goes_on(file) for file in sweep.folder.glob("*/work/job.lock")):  # elsewhere, as on a cluster
            time.sleep(2)
    finally:
        runs = _stop(sweep.folder)
        ended.set()
        watching.join()
        for run in runs:
            tracking.settle(sweep.root, run, "KILLED")


def _goes_on(lock: Path) -> bool:
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _stop(folder: Path) -> list[str]:
    """Call the jobs stopped that nobody runs any more; returns their MLflow runs."""
    left = [one for one in progress.read(folder) if one.state in ("waiting", "running")]
    for one in left:
        kept = {name: getattr(one, name) for name in ("number", "run", "started", "ended", "score", "low", "high")}
        State(overrides=list(one.overrides), state="stopped", **kept).write(folder / f"{one.name}.json")
    return [one.run for one in left if one.run]


def _record(parent: Any, folder: Path, jobs: list[Job]) -> None:
    """Put the table, the best job and the figure into the sweep's run, and say them.

    Raises:
        Failed: a job failed, or was stopped.
    """
    done = [one for one in jobs if one.score is not None]
    undone = [one for one in jobs if one.state not in ("finished", "skipped")]
    parent.text("sweep/jobs.csv", table(jobs))
    parent.metrics({"sweep/jobs": len(jobs), "sweep/failed": len(undone)})
    figure = sweep_plot.scores([_point(one) for one in jobs])
    plots.save(figure, folder / "scores")
    parent.artifacts(folder, "scores.png", "scores.svg", into="sweep")
    if done:
        best = max(done, key=lambda one: one.score)
        parent.tags({"sweep.best": best.run, "sweep.best_overrides": " ".join(best.overrides)})
        print(f"\nbest: {best.score:.1%} of the prompts (strict), {' '.join(best.overrides)}: tunetrail show {best.run[:8]}")
    print(f"figure: {folder / 'scores.png'}\ntable:  tunetrail ls --sweep {folder.name}", flush=True)
    if undone:
        whys = "\n".join(f"  {one.state}: {' '.join(one.overrides)}: {one.why or 'stopped'}" for one in undone)
        raise Failed(
            f"{folder.name}: {len(undone)} of {len(jobs)} jobs did not come to their end. The same command goes on with "
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
    return {"params": _varied(one), "score": one.score, "low": one.low, "high": one.high, "status": status}


def total(root: Path, overrides: list[str]) -> int | None:
    """How many jobs the words make, or None where a sampler decides that as it goes. The first one is composed to see.

    Raises:
        HydraException, OmegaConfBaseException: it cannot be.
    """
    from hydra import compose, initialize_config_dir

    first, count, parsed = [], 1, _parsed(_words(overrides))
    config.refuse_secrets(one.key_or_group for one in parsed)
    for one in parsed:
        if not one.is_sweep_override():
            first.append(one.input_line)
        elif one.is_interval_sweep():
            first.append(f"{one.get_key_element()}={one.value().start}")
        elif one.is_choice_sweep() or one.is_range_sweep():
            values = list(one.sweep_string_iterator())
            first.append(f"{one.get_key_element()}={values[0]}")
            count *= len(values)
        else:  # a glob, which Hydra alone can resolve
            count = 0
    with initialize_config_dir(str(root / "conf")):
        sweeper = compose("config", first, return_hydra_config=True).hydra.sweeper
    return count if count and sweeper._target_.endswith("BasicSweeper") and not sweeper.params else None


def constant(words: list[str]) -> frozenset[str]:
    """The keys that are the same in every job."""
    return frozenset(one.key_or_group for one in _parsed(words) if not one.is_sweep_override())


def _words(overrides: list[str]) -> list[str]:
    return sorted(word for word in overrides if word not in ("-m", "--multirun"))


def _parsed(words: list[str]) -> list[Any]:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_overrides(words)
