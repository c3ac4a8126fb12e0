"""Runs in a real SQLite store, made, found, tagged and closed by a process that does not have them open."""

import time

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tunetrail.tracking import connection, mlflow_run, other_runs, store, tags


def stored(root, run):
    return MlflowClient(f"sqlite:///{root / 'mlflow.db'}").get_run(run)


def test_a_run_that_was_made_twice_because_the_store_did_not_say_so_is_kept_once(root, monkeypatch):
    client = MlflowClient(connection.uri(root))
    experiment = connection.experiment(client, root)
    create = MlflowClient.create_run

    def twice(client, *arguments, **keywords):
        create(client, *arguments, **keywords)
        create(client, *arguments, **keywords)
        raise MlflowException("done, and then a fault")

    monkeypatch.setattr(MlflowClient, "create_run", twice)
    with mlflow_run.run(root, "demo") as run:
        pass
    (left,) = client.search_runs([experiment])
    assert (left.info.run_id, left.info.status) == (run.id, "FINISHED")


JOB = {"sweep": "sweep-1", "sweep.overrides": "method=lora train.learning_rate=0.001", "job.digest": "of the job"}


@pytest.fixture
def parent(root):
    return other_runs.create(root, "sweep-1", {"sweep": "sweep-1"})


def test_a_child_is_a_run_below_its_parent_and_found_again_by_its_tags(root, parent):
    above = store.find(root, parent)
    child = other_runs.child(root, parent, "method=lora", JOB)
    assert child.status == "RUNNING"
    saved = store.find(root, child.id)
    assert saved.tags.items() >= (JOB | {tags.PARENT: parent}).items()
    assert (saved.name, saved.experiment_id) == ("method=lora", above.experiment_id)
    other_runs.close_run(root, child.id, "FINISHED")
    again = other_runs.child(root, parent, "method=lora", JOB)
    assert (again.id, again.status) == (child.id, "FINISHED")
    other = other_runs.child(root, parent, "method=lora", JOB | {"job.digest": "of other code"})
    assert other.id != child.id
    elsewhere = other_runs.create(root, "sweep-1", {"sweep": "sweep-1"})
    third = other_runs.child(root, elsewhere, "method=lora", JOB)
    assert third.id not in (child.id, other.id)


@pytest.mark.parametrize("override", ["name='my run'", 'name="my run"', "template.with_input='`%{a}'", "a=" + "x" * 9000])
def test_overrides_may_have_any_letter_and_length(root, parent, override):
    values = JOB | {"sweep.overrides": override}
    child = other_runs.child(root, parent, override, values)
    assert other_runs.child(root, parent, override, values).id == child.id
    assert store.find(root, child.id).tags["sweep.overrides"][:40] == override[:40]


def test_a_deleted_child_is_not_continued(root, parent):
    child = other_runs.child(root, parent, "method=lora", JOB).id
    other_runs.delete_run(root, child)
    assert MlflowClient(connection.uri(root)).get_run(child).info.lifecycle_stage == "deleted"
    assert other_runs.child(root, parent, "method=lora", JOB).id != child


def test_a_run_made_for_another_process_is_open_and_in_the_same_experiment(root):
    with mlflow_run.run(root, "demo") as run:
        pass
    created = other_runs.create(root, "demo again", {"reproduces": run.id})
    saved = MlflowClient(connection.uri(root)).get_run(created)
    assert (saved.info.status, saved.info.run_name, saved.data.tags["reproduces"]) == ("RUNNING", "demo again", run.id)
    assert saved.info.experiment_id == run.experiment_id


def test_a_run_that_has_ended_can_be_tagged(root):
    with mlflow_run.run(root, "demo") as run:
        pass
    other_runs.tag(root, run.id, {"agrees": "bit for bit"})
    assert store.find(root, run.id).tags["agrees"] == "bit for bit"
    assert store.find(root, run.id).status == "FINISHED"


def test_a_sweep_is_its_newest_run_without_a_parent(root, parent):
    assert other_runs.sweep(root, "sweep-2") is None
    assert other_runs.sweep(root, "sweep-1") == parent
    other_runs.child(root, parent, "method=lora", JOB)
    assert other_runs.sweep(root, "sweep-1") == parent
    time.sleep(0.01)  # the store orders by milliseconds
    newer = other_runs.create(root, "sweep-1", {"sweep": "sweep-1"})
    assert other_runs.sweep(root, "sweep-1") == newer
    other_runs.delete_run(root, newer)
    assert other_runs.sweep(root, "sweep-1") == parent


def test_a_sweep_and_jobs_that_another_checkout_is_running_are_not_taken_over(root, parent):
    client = MlflowClient(connection.uri(root))
    client.set_tag(parent, tags.CHECKOUT, "otherhost:/home/ann/runs/sweep-1")
    job = other_runs.child(root, parent, "method=lora", JOB).id
    client.set_tag(job, tags.CHECKOUT, f"node2:{root}/runs/sweep-1/0123456789")  # this checkout on another machine
    assert other_runs.child(root, parent, "method=lora", JOB).id == job
    client.set_tag(job, tags.CHECKOUT, "otherhost:/home/ann/runs/sweep-1/0123456789")
    assert other_runs.sweep(root, "sweep-1") is None
    own = other_runs.child(root, parent, "method=lora", JOB).id
    assert own != job
    other_runs.delete_run(root, own)
    client.set_terminated(parent, "KILLED")
    client.set_terminated(job, "FAILED")
    assert other_runs.sweep(root, "sweep-1") == parent
    assert other_runs.child(root, parent, "method=lora", JOB).id == job


def test_a_run_that_its_process_left_open_is_closed_and_one_that_is_closed_keeps_its_status(root):
    client = MlflowClient(connection.uri(root))
    created = other_runs.create(root, "demo", {})
    other_runs.close_run(root, created, "FAILED", "because " * 2000)
    saved = client.get_run(created)
    assert saved.info.status == "FAILED"
    assert len(saved.data.tags["error"]) == 8000
    other_runs.close_run(root, created, "KILLED")
    assert client.get_run(created).info.status == "FAILED"
    assert client.get_run(created).data.tags["error"].startswith("because")
