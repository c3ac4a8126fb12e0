"""MLFLOW_RUN_ID -> the run that it names, if this call may write it: a new one, or an earlier attempt at the same.

`mlflow run` passes on a new run, a sweep the runs of its jobs. A run that has finished, or that belongs to something else,
is refused before anything of it changes. `locks.exclusive_lock` keeps two processes in one checkout from writing one run.
"""

import socket
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tunetrail import UserError
from tunetrail.tracking import connection, store, store_errors, tags
from tunetrail.tracking.recorded import RecordedRun

_NULL = "None"  # the param of a key that is null
_LISTED = 3  # params that differ


def run(client: MlflowClient, run_id: str, root: Path, sweep: str, params: dict[str, str] | None) -> RecordedRun:
    """Return the run of this id, for the experiment with these `params` (None: whatever the run has) in the checkout `root`,
    or for the sweep of this name.

    Raises:
        UserError: there is no such run, or this call may not write it.
    """
    try:
        stored = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise _refusal(run_id, f"{store_errors.store_title(client.tracking_uri)} has no such run") from None
    if stored.info.lifecycle_stage == "deleted":
        restore = f"mlflow runs restore --run-id {run_id}"
        experiment = client.get_experiment(stored.info.experiment_id)
        if experiment.lifecycle_stage == "deleted":
            restore = f"mlflow experiments restore -x {experiment.experiment_id}"
        raise _refusal(
            run_id, f"this run was deleted ({store_errors.command(client.tracking_uri, root)}{restore} restores it)"
        )
    run = store.recorded(stored)
    wanted = connection.wanted_experiment(client)
    if not {tags.PROJECT, tags.PARENT} & run.tags.keys() and wanted not in (None, run.experiment_id):
        reason = f"this run is of experiment {run.experiment_id}"
        raise _refusal(run_id, f"{reason}, and MLFLOW_EXPERIMENT_NAME or MLFLOW_EXPERIMENT_ID names another")
    reason = _why_not_for_sweep(run, root, sweep) if sweep else _why_not_for_experiment(run, root, params)
    if reason:
        raise _refusal(run_id, reason)
    return run


def is_new_project(run: RecordedRun) -> bool:
    """Return whether `mlflow run` has just made the run, so that nothing of an experiment is in it."""
    return tags.PROJECT in run.tags and "name" not in run.params


def unfinished(
    client: MlflowClient, root: Path, here: dict[str, str], experiment: str, params: dict[str, str], code: str
) -> RecordedRun | None:
    """Return the newest run with these params and this code in the checkout, which has the tags `here`, if it did not
    finish; None if it did, or there is none."""
    for run in store.search(client, here, order="DESC"):
        own = (run.experiment_id, run.tags.get(tags.CODE_DIGEST)) == (experiment, code)
        if own and not run.is_sweep and not _why_params_differ(run, params, own=False):
            return None if _why_not_for_experiment(run, root, params) else run
    return None


def running_elsewhere(run: RecordedRun, root: Path) -> str:
    """Return where the run of a sweep or job is RUNNING, as host:folder, if outside of the checkout `root`; else "".

    A job may run on any machine that shares the checkout's files, so for a job only the folder counts.
    """
    host, folder = run.checkout
    here = tags.JOB_DIGEST in run.tags or host == socket.gethostname()
    ours = not folder or (here and Path(folder).is_relative_to(root / "runs"))
    return "" if ours or run.status != "RUNNING" else f"{host}:{folder}"


def _refusal(run_id: str, reason: str) -> UserError:
    return UserError(
        f"MLFLOW_RUN_ID={run_id}: {reason}. Nothing was run, and nothing of it is changed. To record a new run: "
        "unset MLFLOW_RUN_ID"
    )


def _why_not_for_sweep(run: RecordedRun, root: Path, sweep: str) -> str:
    """Return why the sweep may not be recorded in the run; "" if it may: the run is its own, or new."""
    if run.parent:
        return "this run is the job of another sweep" if tags.JOB_DIGEST in run.tags else "this run is below another one"
    if elsewhere := running_elsewhere(run, root):
        return f"this run is RUNNING in {elsewhere}"
    if run.sweep == sweep:
        return ""
    if run.sweep is not None:
        return f"this run is another sweep's, {run.sweep}"
    if run.finished:
        return "this run is FINISHED"
    if "name" in run.params or (run.params and tags.PROJECT not in run.tags):
        return "this run has the params of an experiment, and a sweep has none"
    return ""


def _why_not_for_experiment(run: RecordedRun, root: Path, params: dict[str, str] | None) -> str:
    """Return why an experiment with these params may not be recorded in the run; "" if it may."""
    job = run.tags.get(tags.JOB_DIGEST)
    own = bool(job) and {run.sweep, job[:10]} <= set(root.parts)  # in the worktree that the sweep made
    if job and not own:
        return f"this run is a job of the sweep {run.sweep}, which runs it itself"
    if run.sweep is not None and not job:
        return f"this run is the sweep {run.sweep}, and no single experiment"
    if run.finished:
        return f"this run ({run.name}) is FINISHED"
    host, folder = run.checkout
    here = str(root) == folder and (own or host == socket.gethostname())  # a job may run on any machine
    if run.status == "RUNNING" and folder and not here:
        return f"this run is RUNNING in {host}:{folder}"
    return "" if params is None else _why_params_differ(run, params, own)


def _why_params_differ(run: RecordedRun, params: dict[str, str], own: bool) -> str:
    """Return which of the run's params would have to change; "" if none."""
    recorded = run.params
    started = "name" in recorded  # by tunetrail
    if tags.PROJECT in run.tags and (started or run.status == "RUNNING"):  # MLflow adds its entry point's params
        recorded = {key: value for key, value in recorded.items() if key in params}
    keys = [key for key, value in recorded.items() if params.get(key, _NULL) != value]
    # A key that is null now may be one that the version which made the run did not have.
    keys += [key for key, value in params.items() if started and not own and key not in recorded and value != _NULL]
    if not keys:
        return ""
    listed = ", ".join(f"{key}={recorded.get(key, 'unset')}" for key in keys[:_LISTED])
    more = f" and {len(keys) - _LISTED} more" if len(keys) > _LISTED else ""
    return f"this run ({run.name}, {run.status}) has other params, which MLflow does not change: {listed}{more}"
