"""One experiment -> one MLflow run, written while it runs.

Stages write files, and this process uploads them, so training never waits for a server: it reads the history file as it
grows, and uploads what a cached stage left earlier in the same way. `store` finds runs.
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

from tunetrail.checkout.git import Code
from tunetrail.redaction import redact, redact_address
from tunetrail.tracking import connection, other_runs, reopening, store, tags
from tunetrail.tracking.other_runs import cut
from tunetrail.tracking.outbox import Outbox
from tunetrail.tracking.recorded import RecordedRun
from tunetrail.training import history

_SECONDS_BETWEEN_READS = 1.0
_MAX_METRICS, _MAX_PARAMS = 1000, 100  # in one log_batch (MLflow's REST limits)
_MAX_PARAM_LENGTH = 6000


@dataclass
class Run:
    """An open MLflow run; `sent` are the points of its curves that it has or will have, by name and step."""

    client: MlflowClient
    id: str
    experiment_id: str
    address: str  # of the store, without a password
    sent: set[tuple[str, int]] = field(default_factory=set)
    resumed: bool = False  # opened again after an earlier attempt
    tries: int = 1
    stop_event: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self):
        self._outbox = Outbox(self.client, self.id, self.address)

    @property
    def store_failed(self) -> bool:
        """Whether the record is incomplete, since the store failed."""
        return self._outbox.failed

    def params(self, values: dict[str, Any]) -> None:
        """Log dotted params; a value longer than MLflow takes ends in an ellipsis (params.yaml has it whole)."""
        entries = [Param(key, cut(value, _MAX_PARAM_LENGTH)) for key, value in values.items()]
        entries.sort(key=lambda entry: entry.key == "name")  # the last: a run that has it has them all
        for start in range(0, len(entries), _MAX_PARAMS):
            self._outbox.call("log_batch", params=entries[start : start + _MAX_PARAMS])

    def tags(self, values: dict[str, Any]) -> None:
        """Set the tags that have a value."""
        values = {key: value for key, value in values.items() if value not in (None, "")}
        entries = [RunTag(key, cut(value, other_runs.MAX_TAG_LENGTH)) for key, value in values.items()]
        self._outbox.call("log_batch", tags=entries)

    def code(self, code: Code) -> None:
        """Record the code: its commit, its digest and, as changes.patch, the uncommitted changes."""
        dirty = str(code.dirty).lower()
        self.tags({tags.GIT_COMMIT: code.commit, tags.GIT_DIRTY: dirty, tags.CODE_DIGEST: code.digest})
        if code.dirty:
            self.artifacts(code.patch.parent, code.patch.name)

    def metrics(self, values: dict[str, float]) -> None:
        """Log metrics that have one value in a run."""
        now = int(time.time() * 1000)
        self._outbox.call("log_batch", metrics=[Metric(key, value, now, 0) for key, value in values.items()])

    def steps(self, rows: list[dict[str, Any]]) -> None:
        """Log history rows, each at its own step and time; points that the run has are not sent again."""
        metrics = [
            Metric(key, value, int(row["time"] * 1000), row["step"])
            for row in rows
            for key, value in row.items()
            if key not in ("step", "time") and (key, row["step"]) not in self.sent
        ]
        for start in range(0, len(metrics), _MAX_METRICS):
            self._outbox.call("log_batch", metrics=metrics[start : start + _MAX_METRICS])
        self.sent |= {(metric.key, metric.step) for metric in metrics}

    def dataset(self, name: str, digest: str, path: str, profile: str) -> None:
        """Record which data the run was trained on."""
        data = Dataset(name=name, digest=digest[:36], source_type="local", source=redact(path), profile=profile)
        self._outbox.call("log_inputs", [DatasetInput(data, [InputTag("mlflow.data.context", "training")])])

    def artifacts(self, root: Path, *paths: str, into: str | None = None) -> None:
        """Upload files, into the folder `into` of the record, and whole folders; missing ones are left out."""
        for path in paths:
            if (root / path).is_dir():
                self._outbox.call("log_artifacts", str(root / path), path)
            elif (root / path).is_file():
                self._outbox.call("log_artifact", str(root / path), into)

    def text(self, name: str, text: str) -> None:
        """Record `text` as the file `name`."""
        self._outbox.call("log_text", text, name)

    def close(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED; an incomplete record is not FINISHED."""
        self._outbox.call("set_terminated", status)
        self._outbox.finish()
        if self.store_failed:
            with contextlib.suppress(*connection.FAULTS):
                self.client.set_terminated(self.id, "FAILED" if status == "FINISHED" else status)

    @contextlib.contextmanager
    def following(self, path: Path) -> Iterator[None]:
        """Log the lines added to the history file `path` while the body runs, not those of an earlier training."""
        thread = threading.Thread(target=self._follow, args=(path, *_end(path)), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.stop_event.set()
            thread.join()

    def _follow(self, path: Path, file: int, offset: int) -> None:
        while not self.stop_event.wait(_SECONDS_BETWEEN_READS):
            if _end(path)[0] != file:  # another training's folder, or a new file
                file, offset = _end(path)[0], 0
            rows, offset = history.read(path, offset)
            if rows:
                self.steps(rows)
            self._outbox.send()


def _end(path: Path) -> tuple[int, int]:
    """Return the number that the file system has for the file, and its size; 0 if there is none."""
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_ino, path.stat().st_size
    return 0, 0


@contextlib.contextmanager
def run(
    root: Path,
    name: str,
    folder: Path | None = None,
    params: dict[str, Any] | None = None,
    code: str | None = None,
    fresh: bool = False,
) -> Iterator[Run]:
    """Open the run that MLFLOW_RUN_ID names (from `mlflow run` or a sweep), or a new one, and close it with its status.

    `folder` is where it runs: a sweep's, or else the checkout. `params` are the dotted params that it will have (a
    sweep has none); those of an earlier attempt must be the same. If an earlier attempt with these params and this `code`
    (its digest) did not finish here, its run is opened instead of a new one, unless `fresh`.

    The status is FINISHED, KILLED after Ctrl-C or a signal, or FAILED after any other exception, which the tag `error` then
    has. Only one run at a time can be open in a folder (`locks.exclusive_lock`), so another that is still RUNNING there was
    left by kill -9: it is closed as KILLED first.

    Raises:
        UserError: the tracking server cannot be reached, or has no such run, or this call may not write the run, which then
            stays as it is.
    """
    run_id = os.environ.pop("MLFLOW_RUN_ID", "").strip()
    recorded = None if params is None else {key: cut(value, _MAX_PARAM_LENGTH) for key, value in params.items()}
    here = {tags.CHECKOUT: f"{socket.gethostname()}:{folder or root}"}
    with connection.open_client(root) as client:
        earlier = reopening.run(client, run_id, root, name if folder else "", recorded) if run_id else None
        if code and not fresh and (earlier is None or reopening.is_new_project(earlier)):
            experiment = earlier.experiment_id if earlier else connection.experiment(client, root)
            if unfinished := reopening.unfinished(client, root, here, experiment, recorded or {}, code):
                if earlier:  # MLflow Projects made it, and sets its status at the end
                    client.set_terminated(earlier.id, "KILLED")
                    client.delete_run(earlier.id)
                run_id, earlier = unfinished.id, unfinished
        for other in store.search(client, here, store.RUNNING):
            if other.id != run_id:
                client.set_terminated(other.id, "KILLED")
        address = redact_address(client.tracking_uri)
        if earlier:
            opened = Run(client, run_id, earlier.experiment_id, address)
            _reopen(opened, earlier, name, here)
        else:
            own = here | ({tags.CODE_DIGEST: code} if code else {})
            experiment = connection.experiment(client, root)
            opened = Run(client, other_runs.create_run(client, experiment, name, own), experiment, address)
    status = "FAILED"
    try:
        yield opened
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    except Exception as error:
        opened.tags({tags.ERROR: str(error)})
        raise
    finally:
        opened.close(status)


def _reopen(run: Run, earlier: RecordedRun, name: str, here: dict[str, str]) -> None:
    """Set the run RUNNING again, without the error and the passwords that an earlier attempt recorded."""
    run.resumed = "name" in earlier.params  # set by tunetrail; a new run of MLflow Projects has its entry point's params
    unnamed = tags.PROJECT in earlier.tags or (tags.CODE_DIGEST in earlier.tags and not run.resumed)
    run.client.update_run(run.id, status="RUNNING", name=name if unnamed else None)
    changed = here | {key: redact(value) for key, value in earlier.tags.items() if redact(value) != value}
    if run.resumed:
        run.tries = int(earlier.tags.get(tags.TRIES, 1)) + 1
        changed[tags.TRIES] = str(run.tries)
    run.client.log_batch(run.id, tags=[RunTag(key, value) for key, value in changed.items()])
    if tags.ERROR in earlier.tags:
        run.client.delete_tag(run.id, tags.ERROR)
    curves = [key for key in earlier.metrics if key.startswith(("train/", "validation/"))]
    run.sent = {(key, point.step) for key in curves for point in run.client.get_metric_history(run.id, key)}
