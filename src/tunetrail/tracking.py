"""One experiment -> one MLflow run: the one file that talks to MLflow.

The files of the run are the truth and MLflow a view of them, so the training process never waits for a server: this
process reads the history file as it grows, and what a cached stage left long ago is uploaded in the same way.
Not covered: sweeps, and the model registry.
"""

import contextlib
import os
import platform
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from tunetrail import UserError, history

EXPERIMENT = "tunetrail"
_SECONDS_BETWEEN_READS = 1.0
_MAX_METRICS, _MAX_PARAMS = 1000, 100  # in one log_batch (MLflow's REST limits)
_MAX_PARAM_LENGTH, _MAX_TAG_LENGTH = 6000, 8000


def store(root: Path) -> str:
    """The tracking URI: MLFLOW_TRACKING_URI, or the checkout's own SQLite file. Made absolute, and handed to children."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    if uri.startswith("sqlite:///") and not uri.startswith("sqlite:////"):
        uri = f"sqlite:///{root / uri.removeprefix('sqlite:///')}"
    os.environ["MLFLOW_TRACKING_URI"] = uri
    return uri


@dataclass
class Run:
    """An open MLflow run; `logged` counts the history lines that it already has."""

    client: MlflowClient
    id: str
    experiment_id: str
    logged: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)

    def params(self, values: dict[str, Any]) -> None:
        """Log dotted params; a value longer than MLflow takes ends in an ellipsis (params.yaml has it whole)."""
        entries = [Param(key, _cut(value, _MAX_PARAM_LENGTH)) for key, value in values.items()]
        for start in range(0, len(entries), _MAX_PARAMS):
            self.client.log_batch(self.id, params=entries[start : start + _MAX_PARAMS])

    def tags(self, values: dict[str, Any]) -> None:
        """Set tags, those without a value left out."""
        entries = [RunTag(key, _cut(value, _MAX_TAG_LENGTH)) for key, value in values.items() if value not in (None, "")]
        self.client.log_batch(self.id, tags=entries)

    def metrics(self, values: dict[str, float]) -> None:
        """Log the figures that a run has once."""
        now = int(time.time() * 1000)
        self.client.log_batch(self.id, metrics=[Metric(key, value, now, 0) for key, value in values.items()])

    def steps(self, rows: list[dict[str, Any]]) -> None:
        """Log history lines, each at its own step and time."""
        metrics = [
            Metric(key, value, int(row["time"] * 1000), row["step"])
            for row in rows
            for key, value in row.items()
            if key not in ("step", "time")
        ]
        for start in range(0, len(metrics), _MAX_METRICS):
            self.client.log_batch(self.id, metrics=metrics[start : start + _MAX_METRICS])
        self.logged += len(rows)

    def dataset(self, name: str, digest: str, path: str, profile: str) -> None:
        """Name the data that the run was trained on."""
        data = Dataset(name=name, digest=digest[:36], source_type="local", source=path, profile=profile)
        self.client.log_inputs(self.id, [DatasetInput(data, [InputTag("mlflow.data.context", "training")])])

    def artifacts(self, root: Path, *paths: str) -> None:
        """Upload files, and folders whole; what is not there is left out."""
        for path in paths:
            if (root / path).is_dir():
                self.client.log_artifacts(self.id, str(root / path), path)
            elif (root / path).is_file():
                self.client.log_artifact(self.id, str(root / path))

    @contextlib.contextmanager
    def following(self, path: Path) -> Iterator[None]:
        """Log the lines that appear in the history file `path` while the body runs."""
        path.unlink(missing_ok=True)
        thread = threading.Thread(target=self._follow, args=(path,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.stopped.set()
            thread.join()

    def _follow(self, path: Path) -> None:
        offset = 0
        while not self.stopped.wait(_SECONDS_BETWEEN_READS):
            rows, offset = history.read(path, offset)
            if rows:
                # The file keeps what a server that is down does not take; the end of the run uploads the rest.
                try:
                    self.steps(rows)
                except MlflowException as error:
                    print(f"tracking: the live view stops here ({error})", flush=True)
                    return


@contextlib.contextmanager
def run(root: Path, name: str) -> Iterator[Run]:
    """Open the run that MLFLOW_RUN_ID names (`mlflow run` hands it on), or a new one, and close it with its true status.

    FINISHED; KILLED by Ctrl-C or SIGTERM; FAILED by any other exception. Runs of this machine that were left RUNNING by
    a process that is no more are closed as KILLED first.

    Raises:
        UserError: the tracking server cannot be reached, or has no such run.
    """
    uri = store(root)
    try:
        client = MlflowClient(uri)
        if given := os.environ.pop("MLFLOW_RUN_ID", None):
            info = client.get_run(given).info
        else:
            info = client.create_run(_experiment(client, uri, root), run_name=name).info
        opened = Run(client, info.run_id, info.experiment_id)
        _close_abandoned(opened)
        opened.tags({"tunetrail.host": socket.gethostname(), "tunetrail.pid": os.getpid(), "mlflow.runName": name})
    except MlflowException as error:
        raise UserError(
            f"tracking store {uri}: {error.message}. Start the server, or unset MLFLOW_TRACKING_URI and MLFLOW_RUN_ID to "
            "keep the run in this checkout."
        ) from None
    status = "FAILED"
    try:
        yield opened
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        client.set_terminated(opened.id, status)


def _experiment(client: MlflowClient, uri: str, root: Path) -> str:
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    found = client.get_experiment_by_name(name)
    if found:
        return found.experiment_id
    # A server keeps artifacts where it was told to; beside our own SQLite file they would else go to the current folder.
    local = (root / "mlartifacts").as_uri() if uri.startswith("sqlite:") else None
    return client.create_experiment(name, artifact_location=local)


def _close_abandoned(run: Run) -> None:
    """A process that got kill -9 closes nothing; its run is recognised by host and process id."""
    here = f"attributes.status = 'RUNNING' AND tags.`tunetrail.host` = '{socket.gethostname()}'"
    for other in run.client.search_runs([run.experiment_id], filter_string=here):
        if other.info.run_id != run.id and not Path(f"/proc/{other.data.tags['tunetrail.pid']}").exists():
            run.client.set_terminated(other.info.run_id, "KILLED")


def trained_in(run: Run, model_md5: str) -> str | None:
    """The earliest run that trained the model of this md5, or None: then it is not in this store."""
    same = f"tags.`model.md5` = '{model_md5}'"
    runs = run.client.search_runs([run.experiment_id], filter_string=same, order_by=["attributes.start_time ASC"])
    return next((found.info.run_id for found in runs if found.info.run_id != run.id), None)


def machine() -> dict[str, str]:
    """Where a run ran, as tags."""
    return {"hardware.cpu": f"{os.cpu_count()} x {platform.machine()}", "versions.python": platform.python_version()}


def _cut(value: Any, length: int) -> str:
    text = str(value)
    return text if len(text) <= length else text[: length - 1] + "…"
