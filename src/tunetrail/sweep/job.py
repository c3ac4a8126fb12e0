"""One job of a sweep, composed -> a run of its own, in a git worktree of its own, below the sweep's run.

The worktree's own code runs it, as `tunetrail run --params`, its screen going to a log. What became of it stands in a small
file beside it, which `progress` reads. Not covered: which jobs there are, and where they run, which is Hydra's.
"""

import contextlib
import hashlib
import json
import os
import re
import shlex
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunetrail import UserError, launch, redaction
from tunetrail.checkout import git, locks, worktree
from tunetrail.config import check, params
from tunetrail.sweep import gpus, state
from tunetrail.sweep.state import State
from tunetrail.tracking import ranking

# Hydra's launchers that know nothing of GPUs: side by side on one machine, their jobs would all take the first.
_SHARE_A_MACHINE = ("basic", "joblib")
# What launchers raise when a process of theirs has failed: it says which, not why.
_OF_LAUNCHERS = ("subprocess.CalledProcessError", "torch.distributed.elastic.multiprocessing.errors.ChildFailedError")
_SECONDS_TO_GIVE_BACK = 5.0
_SIGNALLED = 128  # a shell's code for a process that a signal ended is this and the signal's number


@dataclass(frozen=True)
class Sweep:
    """What the jobs of a sweep share: its folder below runs/, its MLflow run, its code, the keys that do not vary, and how
    many jobs there are, where that is known."""

    root: Path
    folder: Path
    parent: str
    code: git.Code
    constant: frozenset[str]
    total: int | None


def run_job(cfg: Any, sweep: Sweep) -> float | None:
    """Run the job that Hydra composed; returns its score, or None where it failed: the other jobs go on."""
    from hydra.core.hydra_config import HydraConfig

    hydra = HydraConfig.get()
    os.chdir(sweep.root)
    overrides = [word for word in hydra.overrides.task if word.partition("=")[0].lstrip("+") not in sweep.constant]
    state = State(hydra.job.num, overrides, started=time.time())
    values, fault = _resolved(cfg)
    key = digest(values or {"overrides": overrides}, sweep)
    folder = sweep.folder / key[:10]
    # A sampler may draw the same job twice: the second waits, and is told what came of the first.
    turn, file = folder.with_suffix(".turn"), folder.with_suffix(".json")
    with locks.wait_for_lock(turn), _record_outcome(state, file, sweep.root):
        from tunetrail.tracking import mlflow_run

        tags = {"sweep": sweep.folder.name, "sweep.overrides": " ".join(overrides), "job.digest": key}
        tags |= {ranking.NUMBER: str(hydra.job.num), "overrides": shlex.join(hydra.overrides.task)}
        name = " ".join(overrides) or (values or {}).get("name", "job")
        child = mlflow_run.child(sweep.root, sweep.parent, name, tags)
        state.run = child.info.run_id
        if child.info.status == "FINISHED":
            _finished_before(state, child, sweep.root)
            worktree.remove(sweep.root, folder)  # of one that was killed after its end
            return state.score
        if fault:
            raise fault
        alone = hydra.runtime.choices["hydra/launcher"] in _SHARE_A_MACHINE
        state.write(file)
        with _place(values["accelerate"], alone, sweep.root) as (place, holds):
            state.state, state.started = "running", time.time()
            state.write(file)
            _run(sweep, folder, values, state, place, holds)
    return state.score


def terminate_jobs(root: Path, folder: Path, name: str = "*") -> None:
    """End the jobs of the sweep in `folder` that this machine runs, or the one of this name, whoever started them, and wait
    until they have ended."""
    launch.terminate_holders(
        [*folder.glob(f"{name}.turn"), *_holds(root, folder, name, "job.lock"), *_holds(root, folder, name, "lock")]
    )
    # A process that ends gives its locks back after its files are no longer listed. Other machines' jobs keep theirs.
    deadline = time.monotonic() + _SECONDS_TO_GIVE_BACK
    while any(map(locks.is_locked, _holds(root, folder, name, "job.lock"))) and time.monotonic() < deadline:
        time.sleep(0.1)


def running_jobs(root: Path, folder: Path) -> set[str]:
    """The names of the jobs of the sweep in `folder` that still run, be it on another machine that shares the disk."""
    return {lock.relative_to(folder).parts[0] for lock in _holds(root, folder, "*", "job.lock") if locks.is_locked(lock)}


def orphaned_jobs(root: Path, folder: Path) -> set[str]:
    """Those of them whose launcher's process is dead, so that nobody will tell what becomes of them."""
    return {name for name in running_jobs(root, folder) if not locks.is_locked(folder / f"{name}.turn")}


def mark_stopped(root: Path, folder: Path) -> list[str]:
    """Call the jobs stopped that nobody runs any more; returns their MLflow runs."""
    alive = running_jobs(root, folder)
    left = [one for one in state.read(folder) if one.state in ("waiting", "running") and one.name not in alive]
    for one in left:
        kept = {name: getattr(one, name) for name in ("number", "run", "started", "ended", "score", "low", "high")}
        State(overrides=list(one.overrides), state="stopped", **kept).write(folder / f"{one.name}.json")
    return [one.run for one in left if one.run]


def _holds(root: Path, folder: Path, name: str, lock: str) -> list[Path]:
    inside = git.run(root, "rev-parse", "--show-prefix")
    return list(folder.glob(f"{name}/{inside}work/{lock}"))


class StillRunning(UserError):
    """An earlier try goes on without its sweep: its run is its own to close."""


def _resolved(cfg: Any) -> tuple[dict[str, Any] | None, UserError | None]:
    try:
        return check.resolve(cfg), None
    except UserError as error:
        return None, error


@contextlib.contextmanager
def _record_outcome(state: State, file: Path, root: Path) -> Iterator[None]:
    """Write how the job ends, into its file and its MLflow run, and keep a failure from the jobs that follow."""
    status = "FAILED"
    try:
        yield
        state.state = "finished" if state.state == "running" else state.state
        status = "KILLED" if state.state == "stopped" else ""  # else its own process has closed it
    except StillRunning as error:
        state.state, state.why, status = "failed", str(error), ""
    except UserError as error:
        state.state, state.why = "failed", str(error)
    except Exception as error:
        state.state, state.why = "failed", redaction.redact(f"{type(error).__name__}: {error}")
        with file.with_suffix(".log").open("a") as log:
            log.write(redaction.redact(traceback.format_exc()))
    except BaseException:  # Ctrl-C or a signal ends the sweep
        state.state, status = "stopped", "KILLED"
        raise
    finally:
        state.ended = state.ended or time.time()
        state.write(file)
        if status and state.run:
            from tunetrail.tracking import mlflow_run

            mlflow_run.close_run(root, state.run, status, state.why)


def digest(values: dict[str, Any], sweep: Sweep) -> str:
    """What makes a job the same job: its parameters, its code, and the files that it names, by size and time of change."""
    files = []
    named = (values.get(section, {}).get(name) for section, name in worktree.PATHS)
    for path in map(Path, filter(None, named)):  # Path("") would be the whole checkout
        for file in [path, *sorted(path.rglob("*"))] if path.is_dir() else [path]:
            if file.is_file():
                files.append((str(file), file.stat().st_size, file.stat().st_mtime_ns))
    known = ("conf/", "src/", *worktree.MADE)  # the code's digest has them, or the stages make them
    files = [file for file in files if not file[0].startswith(known)]
    return hashlib.sha256(json.dumps([values, sweep.code.digest, files], sort_keys=True).encode()).hexdigest()


def _finished_before(state: State, child: Any, root: Path) -> None:
    """Take over what the record has of a job that finished in an earlier call."""
    from tunetrail.tracking import store

    metrics = store.read_artifacts(root, child.info.run_id, ["report/metrics.json"])["report/metrics.json"]
    state.take(json.loads(metrics))
    state.started, state.ended = child.info.start_time / 1000, child.info.end_time / 1000
    state.state = "skipped"


@contextlib.contextmanager
def _place(accelerate: dict[str, Any], share: bool, root: Path) -> Iterator[tuple[dict[str, str], list[int]]]:
    """The environment with this job's GPUs and the holds on them, once they are free; nothing where it needs none, or a
    scheduler gives them."""
    variable, here = ("", []) if accelerate.get("cpu") or not share else gpus.here()
    if not here:  # without a GPU the tools fall back to the CPU
        yield {}, []
        return
    with gpus.taken(accelerate.get("num_processes", 1), variable, here, root / worktree.SHARED / "devices") as place:
        yield place


def _run(sweep: Sweep, folder: Path, values: dict[str, Any], state: State, place: dict[str, str], holds: list[int]) -> None:
    """Have the worktree's own code run `values`; its scores go into `state`, and the worktree goes when it has ended well.
    Somebody else may kill it: then it is stopped, and the sweep goes on.

    Raises:
        UserError: it failed, and why; the worktree stays.
    """
    from tunetrail.tracking import mlflow_run

    checkout = worktree.make(sweep.root, folder, sweep.code)
    worktree.share(sweep.root, checkout)
    worktree.link_all_untracked(sweep.root, checkout, values)
    composed, log = checkout / "work" / "composed.yaml", folder.with_suffix(".log")
    params.write_yaml(composed, values)
    with _alone(checkout) as held:
        start = log.stat().st_size if log.is_file() else 0
        command = [sys.executable, "-m", "tunetrail", "run", "--params", str(composed)]
        environment = launch.python_path(checkout / "src") | {"MLFLOW_RUN_ID": state.run} | place
        # More patience than that process has with its own, so that it ends first and leaves none behind.
        ended = launch.run(command, [held, *holds], checkout, environment, log, patience=60)
    if ended < 0 or ended > _SIGNALLED:
        state.state = "stopped"
        return
    if ended:
        raise UserError(why(log, start))
    if mlflow_run.status(sweep.root, state.run) != "FINISHED":
        raise UserError(f"the tracking store did not take all of its record; what it made stays in {checkout}")
    state.take(json.loads((checkout / "report" / "metrics.json").read_text()))
    worktree.remove(sweep.root, folder)


@contextlib.contextmanager
def _alone(checkout: Path) -> Iterator[int]:
    with contextlib.ExitStack() as stack:
        try:
            held = stack.enter_context(locks.exclusive_lock(checkout, "work/job.lock"))
        except UserError as error:
            raise StillRunning(str(error)) from None
        yield held


def why(log: Path, start: int) -> str:
    """Of what a failed run printed from byte `start` on: the last exception by name, or else the first error; one line."""
    with log.open("rb") as file:
        file.seek(start)
        text = file.read().decode(errors="replace")
    exceptions = re.findall(r"^(?:\[rank\d+\]: *)?((?:\w+\.)*\w*(?:Error|Exception)(?:: .*)?)$", text, re.MULTILINE)
    exceptions = [one for one in exceptions if not one.startswith(_OF_LAUNCHERS)]
    errors = re.findall(r"^error: (.*)$", text, re.MULTILINE)
    return f"{(exceptions[-1:] or errors[:1] or ['it ended without a word'])[0][:500]} (all of it: {log})"
