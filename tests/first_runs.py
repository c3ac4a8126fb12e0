"""Many processes that open a fresh store at once, each for a run of its own checkout."""

import multiprocessing
import os

from tunetrail.tracking import connection, mlflow_run


def made_at_once(root, many):
    """Let `many` processes record a run each; return how many ended without an error, and the runs of the store."""
    context = multiprocessing.get_context("fork")  # MLflow is imported once
    ready = context.Barrier(many)
    processes = [context.Process(target=_make, args=(root / str(number), ready)) for number in range(many)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=300)
    with connection.open_client(root) as client:
        (experiment,) = client.search_experiments(filter_string="name = 'tunetrail'")
        return [process.exitcode for process in processes].count(0), client.search_runs([experiment.experiment_id])


def _make(root, ready):
    root.mkdir()
    ready.wait()
    with mlflow_run.run(root, "demo", params={"name": "demo"}, code=str(os.getpid())) as run:
        run.params({"name": "demo"})
    assert not run.store_failed
