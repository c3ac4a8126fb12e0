"""MLFLOW_RUN_ID -> the run that it names, if it may be written: a fresh one, or an earlier try of the same.

`mlflow run` hands on a fresh run, a sweep those of its jobs. A run that has ended, or is another's, is refused before
anything of it is changed. Not covered: two processes that write one run in one checkout, which `locks.exclusive_lock`
prevents.
"""

import socket
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tunetrail import UserError
from tunetrail.tracking import connection, outage
from tunetrail.tracking.store import PARENT

PROJECT = "mlflow.project.entryPoint"  # on a run that `mlflow run` opened, under a name drawn at random
CHECKOUT = "tunetrail.checkout"  # the tag that says where a run runs
_NULL = "None"  # the param of a key that is null
_LISTED = 3  # params that differ


def run(client: MlflowClient, given: str, root: Path, sweep: str, params: dict[str, str] | None) -> Any:
    """The run whose id is `given`, for the experiment with these `params` (None: whatever the run has) in the checkout
    `root`, or for the sweep of this name.

    Raises:
        UserError: there is no such run, or it may not be written.
    """
    try:
        found = client.get_run(given)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise _refusal(given, f"{outage.named(client.tracking_uri)} has no such run") from None
    if found.info.lifecycle_stage == "deleted":
        back = f"mlflow runs restore --run-id {given}"
        experiment = client.get_experiment(found.info.experiment_id)
        if experiment.lifecycle_stage == "deleted":
            back = f"mlflow experiments restore -x {experiment.experiment_id}"
        raise _refusal(given, f"this run was deleted ({outage.command(client.tracking_uri, root)}{back} brings it back)")
    asked = connection.asked_for(client)
    if not {PROJECT, PARENT} & found.data.tags.keys() and asked not in (None, found.info.experiment_id):
        where = f"this run is of experiment {found.info.experiment_id}"
        raise _refusal(given, f"{where}, and MLFLOW_EXPERIMENT_NAME or MLFLOW_EXPERIMENT_ID names another")
    if reason := _against_sweep(found, root, sweep) if sweep else _against(found, root, params):
        raise _refusal(given, reason)
    return found


def elsewhere(run: Any, root: Path) -> str:
    """Where the run of a sweep or of its job is RUNNING, as host:folder, if that is not in the checkout `root`; else "".

    A job may run on any machine that shares the checkout's files, so its folder alone counts.
    """
    host, _, folder = run.data.tags.get(CHECKOUT, "").partition(":")
    here = "job.digest" in run.data.tags or host == socket.gethostname()
    ours = not folder or (here and Path(folder).is_relative_to(root / "runs"))
    return "" if ours or run.info.status != "RUNNING" else f"{host}:{folder}"


def _refusal(given: str, reason: str) -> UserError:
    return UserError(
        f"MLFLOW_RUN_ID={given}: {reason}. Nothing was run, and nothing of it is changed. To record a new run: "
        "unset MLFLOW_RUN_ID"
    )


def _against_sweep(found: Any, root: Path, sweep: str) -> str:
    """Why a sweep of this name may not be recorded in the run; "" where it may: in its own of an earlier call, or a fresh
    one."""
    tags, params = found.data.tags, found.data.params
    if PARENT in tags:
        return "this run is the job of another sweep" if "job.digest" in tags else "this run is below another one"
    if other := elsewhere(found, root):
        return f"this run is RUNNING in {other}"
    if tags.get("sweep") == sweep:
        return ""
    if "sweep" in tags:
        return f"this run is another sweep's, {tags['sweep']}"
    if found.info.status == "FINISHED":
        return "this run is FINISHED"
    if "name" in params or (params and PROJECT not in tags):
        return "this run has the params of an experiment, and a sweep has none"
    return ""


def _against(found: Any, root: Path, params: dict[str, str] | None) -> str:
    """Why an experiment with these params may not be recorded in the run; "" where it may."""
    tags, status = found.data.tags, found.info.status
    job = "job.digest" in tags
    own = job and {tags.get("sweep"), tags["job.digest"][:10]} <= set(root.parts)  # in the worktree that the sweep made
    if job and not own:
        return f"this run is a job of the sweep {tags.get('sweep')}, which runs it itself"
    if "sweep" in tags and not job:
        return f"this run is the sweep {tags['sweep']}, and no single experiment"
    if status == "FINISHED":
        return f"this run ({found.info.run_name}) is FINISHED"
    host, _, folder = tags.get(CHECKOUT, "").partition(":")
    here = str(root) == folder and (own or host == socket.gethostname())  # a job may run on any machine
    if status == "RUNNING" and folder and not here:
        return f"this run is RUNNING in {host}:{folder}"
    return "" if params is None else _other(found, params, own)


def _other(found: Any, params: dict[str, str], own: bool) -> str:
    """Which params the run has that MLflow would have to change; "" where none."""
    stored, again = found.data.params, "name" in found.data.params  # one of ours
    if PROJECT in found.data.tags and (again or found.info.status == "RUNNING"):  # which adds its entry point's
        stored = {key: value for key, value in stored.items() if key in params}
    keys = [key for key, value in stored.items() if params.get(key, _NULL) != value]
    # A key that is null now may be one that the version which made the run did not have.
    keys += [key for key, value in params.items() if again and not own and key not in stored and value != _NULL]
    if not keys:
        return ""
    listed = ", ".join(f"{key}={stored.get(key, 'unset')}" for key in keys[:_LISTED])
    more = f" and {len(keys) - _LISTED} more" if len(keys) > _LISTED else ""
    run = f"this run ({found.info.run_name}, {found.info.status})"
    return f"{run} has other params, which MLflow does not change: {listed}{more}"
