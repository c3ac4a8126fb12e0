"""Runs that this process does not have open (`mlflow_run`): they are made for others, found, tagged, closed, deleted."""

import uuid
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import RunTag

from tunetrail.redaction import redact
from tunetrail.tracking import connection, reopening, store, tags
from tunetrail.tracking.recorded import RecordedRun

MAX_TAG_LENGTH, _MAX_NAME_LENGTH = 8000, 250


def child(root: Path, parent: str, name: str, values: dict[str, str]) -> RecordedRun:
    """Return the run below `parent` with the tags `values`: that of an earlier attempt, unless another checkout is running
    it, or else a new one, RUNNING."""
    with connection.open_client(root) as client:
        values = {tags.PARENT: parent} | values
        known = {key: values[key] for key in (tags.PARENT, tags.JOB_DIGEST)}  # overrides may hold quotes
        for earlier in store.search(client, known, order="DESC"):
            if not reopening.running_elsewhere(earlier, root):
                return earlier
        experiment = client.get_run(parent).info.experiment_id
        short = {key: cut(value, MAX_TAG_LENGTH) for key, value in values.items()}
        return store.recorded(client.get_run(create_run(client, experiment, cut(name, _MAX_NAME_LENGTH), short)))


def create(root: Path, name: str, values: dict[str, str]) -> str:
    """Return the id of a new run with the tags `values`, for another process to open."""
    with connection.open_client(root) as client:
        return create_run(client, connection.experiment(client, root), name, values)


def create_run(client: MlflowClient, experiment: str, name: str, values: dict[str, str]) -> str:
    """Return the id of a new run. A server that makes it and then fails to say so is asked again, by MLflow too: of several
    runs that were made so, one is kept."""
    own = {tags.CREATED: uuid.uuid4().hex}
    try:
        client.create_run(experiment, run_name=name, tags=values | own)
    except connection.FAULTS:
        if not store.search(client, own):
            raise
    first, *more = store.search(client, own)
    for run in more:
        client.delete_run(run.id)
    return first.id


def tag(root: Path, run_id: str, values: dict[str, str]) -> None:
    """Set tags of a run that this process does not have open."""
    with connection.open_client(root) as client:
        client.log_batch(run_id, tags=[RunTag(key, redact(value)) for key, value in values.items()])


def sweep(root: Path, name: str) -> str | None:
    """Return the id of the sweep's newest run, in the environment's experiment, that is not running elsewhere."""
    with connection.open_client(root) as client:
        runs = store.search(client, {tags.SWEEP: name}, order="DESC")
        experiment = connection.wanted_experiment(client)
    own = [run for run in runs if run.is_sweep and not reopening.running_elsewhere(run, root)]
    return next((run.id for run in own if experiment in (None, run.experiment_id)), None)


def delete_run(root: Path, run_id: str) -> None:
    """Delete a run in which nothing ran; MLflow can restore it."""
    with connection.open_client(root) as client:
        client.delete_run(run_id)


def close_run(root: Path, run_id: str, status: str, error: str | None = None) -> None:
    """Close a run that its own process could not close, because it ended before it opened the run, or was killed."""
    with connection.open_client(root) as client:
        if client.get_run(run_id).info.status == "RUNNING":
            client.set_terminated(run_id, status)
        if error:
            client.set_tag(run_id, tags.ERROR, cut(error, MAX_TAG_LENGTH))


def cut(value: Any, length: int) -> str:
    """Return the value as text without passwords, of at most `length` characters."""
    text = redact(str(value))
    return text if len(text) <= length else text[: length - 1] + "…"
