"""One experiment -> one MLflow run, written while it goes on.

The files of the run are the truth and MLflow a view of them, so the training process never waits for a server: this
process reads the history file as it grows, and what a cached stage left long ago is uploaded in the same way.
Not covered: finding runs, which is `store`'s.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

from tunetrail.redaction import redact, redact_address
from tunetrail.tracking import connection, reopening, store
from tunetrail.tracking.reopening import CHECKOUT as CHECKOUT
from tunetrail.training import history

_SECONDS_BETWEEN_READS = 1.0
_ERROR = "error"
FREED = "freed"  # the day on which `tunetrail gc` took the run's models away
_MAX_METRICS, _MAX_PARAMS = 1000, 100  # in one log_batch (MLflow's REST limits)
_MAX_PARAM_LENGTH, _MAX_TAG_LENGTH, _MAX_NAME_LENGTH = 6000, 8000, 250


@dataclass
class Run:
    """An open MLflow run; `sent` holds the points of its curves that it already has, by name and step.

    If the store fails later: warn once, stop logging, keep training.
    """

    client: MlflowClient
    id: str
    experiment_id: str
    address: str  # of the store, without a password
    sent: set[tuple[str, int]] = field(default_factory=set)
    store_failed: bool = False
    resumed: bool = False  # opened once more, after an earlier try
    stop_event: threading.Event = field(default_factory=threading.Event)

    def _call(self, method: str, *given: Any, **named: Any) -> None:
        if self.store_failed:
            return
        try:
            getattr(self.client, method)(self.id, *given, **named)
        except connection.FAULTS as error:
            self.store_failed = True
            print(
                f"tracking: {self.address} does not take the record ({redact(str(error))[:300]}). The run goes on, and "
                "its files are kept here. The same command, given again later, trains nothing and uploads all of it.",
                flush=True,
            )

    def params(self, values: dict[str, Any]) -> None:
        """Log dotted params; a value longer than MLflow takes ends in an ellipsis (params.yaml has it whole)."""
        entries = [Param(key, _cut(value, _MAX_PARAM_LENGTH)) for key, value in values.items()]
        for start in range(0, len(entries), _MAX_PARAMS):
            self._call("log_batch", params=entries[start : start + _MAX_PARAMS])

    def tags(self, values: dict[str, Any]) -> None:
        """Set tags, those without a value left out."""
        entries = [RunTag(key, _cut(value, _MAX_TAG_LENGTH)) for key, value in values.items() if value not in (None, "")]
        self._call("log_batch", tags=entries)

    def metrics(self, values: dict[str, float]) -> None:
        """Log the figures that a run has once."""
        now = int(time.time() * 1000)
        self._call("log_batch", metrics=[Metric(key, value, now, 0) for key, value in values.items()])

    def steps(self, rows: list[dict[str, Any]]) -> None:
        """Log history lines, each at its own step and time; points that the run has are not sent twice."""
        metrics = [
            Metric(key, value, int(row["time"] * 1000), row["step"])
            for row in rows
            for key, value in row.items()
            if key not in ("step", "time") and (key, row["step"]) not in self.sent
        ]
        for start in range(0, len(metrics), _MAX_METRICS):
            self._call("log_batch", metrics=metrics[start : start + _MAX_METRICS])
        self.sent |= set() if self.store_failed else {(metric.key, metric.step) for metric in metrics}

    def dataset(self, name: str, digest: str, path: str, profile: str) -> None:
        """Name the data that the run was trained on."""
        data = Dataset(name=name, digest=digest[:36], source_type="local", source=redact(path), profile=profile)
        self._call("log_inputs", [DatasetInput(data, [InputTag("mlflow.data.context", "training")])])

    def artifacts(self, root: Path, *paths: str, into: str | None = None) -> None:
        """Upload files, below the folder `into` of the record, and folders whole; what is not there is left out."""
        for path in paths:
            if (root / path).is_dir():
                self._call("log_artifacts", str(root / path), path)
            elif (root / path).is_file():
                self._call("log_artifact", str(root / path), into)

    def text(self, name: str, text: str) -> None:
        """Keep `text` as the file `name` of the record."""
        self._call("log_text", text, name)

    def close(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED; a record that is not whole is not FINISHED."""
        with contextlib.suppress(*connection.FAULTS):
            self.client.set_terminated(self.id, "FAILED" if self.store_failed and status == "FINISHED" else status)

    @contextlib.contextmanager
    def following(self, path: Path) -> Iterator[None]:
        """Log the lines that appear in the history file `path` while the body runs, not those of an earlier training."""
        offset = path.stat().st_size if path.is_file() else 0
        thread = threading.Thread(target=self._follow, args=(path, offset), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.stop_event.set()
            thread.join()

    def _follow(self, path: Path, offset: int) -> None:
        while not self.stop_event.wait(_SECONDS_BETWEEN_READS):
            rows, offset = history.read(path, offset)
            if rows:
                self.steps(rows)


@contextlib.contextmanager
def run(root: Path, name: str, place: Path | None = None, params: dict[str, Any] | None = None) -> Iterator[Run]:
    """Open the run that MLFLOW_RUN_ID names (`mlflow run` hands it on, and a sweep), or a new one, and close it with its
    true status. `params` are the dotted ones that it will have (a sweep has none), with which an earlier try must agree.

    FINISHED; KILLED by Ctrl-C or a signal; FAILED by any other exception, which its tag `error` tells. A run of `place` (the
    checkout, if not given) that is still RUNNING was left by kill -9, since one runs there at a time
    (`locks.exclusive_lock`): it is closed as KILLED first.

    Raises:
        UserError: the tracking server cannot be reached; or it has no such run, or the run is another's to write or has
            ended, and nothing of it is changed.
    """
    given = os.environ.pop("MLFLOW_RUN_ID", "").strip()
    kept = None if params is None else {key: _cut(value, _MAX_PARAM_LENGTH) for key, value in params.items()}
    with connection.open_client(root) as client:
        found = reopening.run(client, given, root, name if place else "", kept) if given else None
        here = {CHECKOUT: f"{socket.gethostname()}:{place or root}"}
        for other in store.search(client, here, "attributes.status = 'RUNNING'"):
            if other.info.run_id != given:
                client.set_terminated(other.info.run_id, "KILLED")
        sent: set[tuple[str, int]] = set()
        resumed = False
        if found:
            info = found.info
            client.update_run(given, status="RUNNING", name=name if reopening.PROJECT in found.data.tags else None)
            clean = {key: redact(value) for key, value in found.data.tags.items() if redact(value) != value}
            client.log_batch(given, tags=[RunTag(key, value) for key, value in (here | clean).items()])
            if _ERROR in found.data.tags:
                client.delete_tag(given, _ERROR)
            resumed = "name" in found.data.params  # one of ours; MLflow Projects begins a run with its entry point's
            curves = [key for key in found.data.metrics if key.startswith(("train/", "validation/"))]
            sent = {(key, point.step) for key in curves for point in client.get_metric_history(given, key)}
        else:
            info = client.create_run(connection.experiment(client, root), run_name=name, tags=here).info
        opened = Run(client, info.run_id, info.experiment_id, redact_address(client.tracking_uri), sent, resumed=resumed)
    status = "FAILED"
    try:
        yield opened
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    except Exception as error:
        opened.tags({_ERROR: str(error)})
        raise
    finally:
        opened.close(status)


def child(root: Path, parent: str, name: str, tags: dict[str, str]) -> Any:
    """The run, as MLflow's object, below `parent` that has these tags: one of an earlier try, or a new one, RUNNING. One
    that another checkout is running is not taken."""
    with connection.open_client(root) as client:
        tags = {store.PARENT: parent} | tags
        known = {key: tags[key] for key in (store.PARENT, "job.digest")}  # what a person typed may hold quotes
        for earlier in store.search(client, known, order="DESC"):
            if not reopening.elsewhere(earlier, root):
                return earlier
        experiment = client.get_run(parent).info.experiment_id
        kept = {key: _cut(value, _MAX_TAG_LENGTH) for key, value in tags.items()}
        return client.create_run(experiment, run_name=_cut(name, _MAX_NAME_LENGTH), tags=kept)


def create(root: Path, name: str, tags: dict[str, str]) -> str:
    """The id of a new run, for another process to open."""
    with connection.open_client(root) as client:
        return client.create_run(connection.experiment(client, root), run_name=name, tags=tags).info.run_id


def tag(root: Path, run_id: str, tags: dict[str, str]) -> None:
    """Set tags of a run that has ended."""
    with connection.open_client(root) as client:
        client.log_batch(run_id, tags=[RunTag(key, redact(value)) for key, value in tags.items()])


def sweep(root: Path, name: str) -> str | None:
    """The id of the newest run of this sweep that is nobody's child, in the experiment that the environment names, unless
    another checkout is running it."""
    with connection.open_client(root) as client:
        found, asked = store.search(client, {"sweep": name}, order="DESC"), connection.asked_for(client)
    own = [run.info for run in found if store.PARENT not in run.data.tags and not reopening.elsewhere(run, root)]
    return next((info.run_id for info in own if asked in (None, info.experiment_id)), None)


def delete_run(root: Path, run_id: str) -> None:
    """Delete a run that came to nothing; MLflow keeps it among the deleted."""
    with connection.open_client(root) as client:
        client.delete_run(run_id)


def status(root: Path, run_id: str) -> str:
    """FINISHED, FAILED, KILLED or RUNNING."""
    with connection.open_client(root) as client:
        return client.get_run(run_id).info.status


def close_run(root: Path, run_id: str, status: str, error: str | None = None) -> None:
    """Close a run whose own process could not: it ended before it opened the run, or was killed."""
    with connection.open_client(root) as client:
        if client.get_run(run_id).info.status == "RUNNING":
            client.set_terminated(run_id, status)
        if error:
            client.set_tag(run_id, _ERROR, _cut(error, _MAX_TAG_LENGTH))


def trained_in(run: Run, model_md5: str) -> str | None:
    """The earliest run with the model of this md5, or None: then it is not in this store."""
    try:
        runs = store.search(run.client, {"model.md5": model_md5})
    except connection.FAULTS:
        return None
    return next((found.info.run_id for found in runs if found.info.run_id != run.id), None)


def _cut(value: Any, length: int) -> str:
    text = redact(str(value))
    return text if len(text) <= length else text[: length - 1] + "…"
