"""Recorded runs for tests that need no store; and a run and a sweep recorded in a real store."""

from mlflow import MlflowClient

from tests.checkouts import begin
from tunetrail.tracking import connection, mlflow_run, tags
from tunetrail.tracking.recorded import RecordedRun


def run(id="a", name="demo", parent=None, **also):
    """Return a run as `store.every` returns it."""
    fields = {"status": "FINISHED", "started": "2026-01-01T10:00:00.000+00:00", "ended": None, "experiment_id": "1"}
    fields |= {"artifacts": "a", "params": {}, "metrics": {}, "tags": {}}
    return RecordedRun(id=id, name=name, parent=parent, **(fields | also))


def scored(base, tuned):
    """Return the metrics of a run with these scores."""
    return {"ifeval/base/prompt_strict": base, "ifeval/tuned/prompt_strict": tuned}


def record_run_and_sweep(root, monkeypatch):
    """Record a run and a sweep of two jobs, one of which failed; return the ids by name."""
    begin(root, monkeypatch)
    ids = {}
    with mlflow_run.run(root, "demo") as own:
        own.metrics(scored(0.1, 0.6))
        own.params({"seed": 42})
    with mlflow_run.run(root, "sweep-1") as parent:
        parent.tags({"sweep": "sweep-1", "sweep.overrides": "seed=1,2"})
        ids |= {"demo": own.id, "sweep-1": parent.id}
    for seed, status in ((1, "FINISHED"), (2, "FAILED")):
        with mlflow_run.run(root, f"seed={seed}") as job:
            job.tags({"sweep": "sweep-1", "sweep.overrides": f"seed={seed}", tags.PARENT: parent.id})
            job.params({"seed": seed})
            job.metrics(scored(0.1, 0.2 * seed))
        MlflowClient(connection.uri(root)).set_terminated(job.id, status)
        ids[f"seed={seed}"] = job.id
    return ids
