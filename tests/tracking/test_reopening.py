"""MLFLOW_RUN_ID with a real SQLite store: which runs may be written, and that a refused one is unchanged."""

import os
import socket

import pytest
from mlflow import MlflowClient
from mlflow.entities import Param

from tunetrail import UserError
from tunetrail.tracking import connection, mlflow_run

PARAMS = {"name": "demo", "seed": 1, "train.learning_rate": 0.001}
PROJECT = {"mlflow.project.entryPoint": "main"}


@pytest.fixture
def client(root):
    return MlflowClient(connection.uri(root))


def made(client, status="RUNNING", params=None, tags=None, experiment="0"):
    """Create a run with this status, these params and tags; return its id."""
    run = client.create_run(experiment, run_name="earlier", tags=tags).info.run_id
    client.log_batch(run, params=[Param(key, str(value)) for key, value in (params or {}).items()])
    if status != "RUNNING":
        client.set_terminated(run, status)
    return run


def opened(root, monkeypatch, run, params=PARAMS, **more):
    monkeypatch.setenv("MLFLOW_RUN_ID", run)
    with mlflow_run.run(root, "demo", params=params, **more) as record:
        record.params(params or {})
    assert not record.store_failed
    return record.id


@pytest.mark.parametrize("status", ["FAILED", "KILLED", "RUNNING"])
@pytest.mark.parametrize(
    ("params", "tags"),
    [({}, {}), (PARAMS, {}), ({"experiment": "demo", "overrides": ""} | PARAMS, PROJECT)],
    ids=["fresh", "same params", "again in mlflow run"],
)
def test_a_fresh_run_or_an_earlier_attempt_at_the_same_run_is_continued(root, client, monkeypatch, status, params, tags):
    run = made(client, status, params, tags)
    assert opened(root, monkeypatch, run) == run
    assert client.get_run(run).info.status == "FINISHED"


def test_a_fresh_run_of_mlflow_run_is_used_in_any_experiment(root, client, monkeypatch):
    run = made(client, params={"experiment": "demo", "overrides": "seed=1"}, tags=PROJECT)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    assert opened(root, monkeypatch, run) == run


def test_an_empty_variable_names_no_run(root, client, monkeypatch):
    for empty in ("", " "):
        assert client.get_run(opened(root, monkeypatch, empty)).info.run_name == "demo"


HERE = {"tunetrail.checkout": f"{socket.gethostname()}:/elsewhere"}
OTHER = {"tunetrail.checkout": "otherhost:/home/ann/tunetrail/runs/sweep-1"}
JOB = {"mlflow.parentRunId": "a", "sweep": "sweep-1", "job.digest": "0123456789abcdef"}


@pytest.mark.parametrize(
    ("run", "says"),
    [
        ({"status": "FINISHED", "params": PARAMS}, "(earlier) is FINISHED"),
        ({"status": "FINISHED"}, "(earlier) is FINISHED"),
        ({"status": "FINISHED", "tags": PROJECT}, "(earlier) is FINISHED"),
        ({"status": "FAILED", "params": PARAMS | {"seed": 2}}, "has other params, which MLflow does not change: seed=2."),
        ({"status": "KILLED", "params": {"name": "demo"}}, "other params, which MLflow does not change: seed=unset, train"),
        ({"status": "RUNNING", "params": PARAMS | {"more": 1}}, "has other params, which MLflow does not change: more=1."),
        ({"status": "RUNNING", "params": {"alpha": 1}}, "has other params, which MLflow does not change: alpha=1."),
        ({"params": PARAMS, "tags": HERE}, f"is RUNNING in {socket.gethostname()}:/elsewhere"),
        ({"params": {f"a{n}": n for n in range(9)}}, "a0=0, a1=1, a2=2 and 6 more"),
        ({"status": "FAILED", "params": {"overrides": "seed=3"}, "tags": PROJECT}, "other params"),
        ({"tags": {"sweep": "sweep-1"}}, "is the sweep sweep-1, and no single experiment"),
        ({"tags": JOB, "status": "FAILED"}, "is a job of the sweep sweep-1, which runs it itself"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_run_that_ended_or_belongs_to_another_process_is_refused_and_not_changed(root, client, monkeypatch, run, says):
    run_id = made(client, **run)
    before = client.get_run(run_id).to_dictionary()
    with pytest.raises(UserError) as error:
        opened(root, monkeypatch, run_id)
    message = str(error.value)
    assert message.startswith(f"MLFLOW_RUN_ID={run_id}: ")
    assert says in message
    assert message.endswith("unset MLFLOW_RUN_ID")
    assert client.get_run(run_id).to_dictionary() == before
    assert len(client.search_runs(["0"])) == 1


def test_a_run_of_an_experiment_that_is_not_the_one_asked_for_is_refused(root, client, monkeypatch):
    run = made(client)
    for name, value in (("NAME", "mine"), ("ID", client.create_experiment("theirs"))):
        monkeypatch.setenv(f"MLFLOW_EXPERIMENT_{name}", value)
        with pytest.raises(UserError, match="is of experiment 0, and MLFLOW_EXP"):
            opened(root, monkeypatch, run)
        monkeypatch.delenv(f"MLFLOW_EXPERIMENT_{name}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "0")
    assert opened(root, monkeypatch, run) == run


@pytest.mark.parametrize("run_id", ["0" * 32, "not/an id"])
@pytest.mark.parametrize("sweep", [False, True])
def test_a_missing_run_is_an_error(root, monkeypatch, run_id, sweep):
    with pytest.raises(UserError, match=rf"MLFLOW_RUN_ID={run_id}: tracking store .*mlflow\.db has no such run\..*unset"):
        opened(root, monkeypatch, run_id, **({"folder": root} if sweep else {}))


def test_a_deleted_run_is_refused_with_the_command_that_restores_it(root, client, monkeypatch):
    experiment = client.create_experiment("other")
    run = made(client, experiment=experiment)
    client.delete_run(run)
    own = f"MLFLOW_TRACKING_URI=sqlite:///{root}/mlflow.db mlflow"
    with pytest.raises(UserError) as error:
        opened(root, monkeypatch, run)
    assert f"{own} runs restore --run-id {run} restores it" in str(error.value)
    client.delete_experiment(experiment)
    with pytest.raises(UserError) as error:
        opened(root, monkeypatch, run)
    assert f"{own} experiments restore -x {experiment} restores it" in str(error.value)


def test_a_job_is_continued_only_in_its_own_worktree(root, client, monkeypatch):
    run = made(client, "FAILED", PARAMS, JOB)
    worktree = root / "runs" / "sweep-1" / "0123456789"
    monkeypatch.setenv("MLFLOW_RUN_ID", run)
    with mlflow_run.run(worktree, "demo", params=PARAMS) as record:
        assert record.id == run
    with pytest.raises(UserError, match="FINISHED"):
        opened(worktree, monkeypatch, run)


def test_a_job_that_runs_in_another_checkout_is_refused_and_one_that_ended_there_is_not(root, client, monkeypatch):
    worktree = root / "runs" / "sweep-1" / "0123456789"
    tags = JOB | {"tunetrail.checkout": "otherhost:/home/ann/runs/sweep-1/0123456789"}
    with pytest.raises(UserError, match="is RUNNING in otherhost:/home/ann/runs/sweep-1/0123456789"):
        opened(worktree, monkeypatch, made(client, "RUNNING", PARAMS, tags))
    killed = made(client, "KILLED", PARAMS, tags)
    assert opened(worktree, monkeypatch, killed) == killed
    left = made(client, "RUNNING", PARAMS, JOB | {"tunetrail.checkout": f"node2:{worktree}"})  # on another machine
    assert opened(worktree, monkeypatch, left) == left


def test_a_sweep_that_was_left_open_here_is_continued(root, client, monkeypatch):
    tags = {"sweep": "sweep-1", "tunetrail.checkout": f"{socket.gethostname()}:{root}/runs/sweep-1"}
    run = made(client, tags=tags)
    monkeypatch.setenv("MLFLOW_RUN_ID", run)
    with mlflow_run.run(root, "sweep-1", folder=root / "runs" / "sweep-1") as again:
        assert again.id == run


def test_a_null_key_that_an_earlier_versions_run_lacks_is_no_different_param(root, client, monkeypatch):
    run = made(client, "KILLED", PARAMS)
    assert opened(root, monkeypatch, run, PARAMS | {"prepare.field": None}) == run
    with pytest.raises(UserError, match=r"other params, which MLflow does not change: prepare\.field=unset\."):
        opened(root, monkeypatch, made(client, "KILLED", PARAMS), PARAMS | {"prepare.field": "text"})


@pytest.mark.parametrize(
    ("run", "says"),
    [
        ({"tags": {"sweep": "sweep-1"}, "status": "FINISHED"}, ""),
        ({"tags": {"sweep": "sweep-1"}}, ""),
        ({"tags": PROJECT, "params": {"experiment": "demo", "overrides": "seed=1,2"}}, ""),
        ({}, ""),
        ({"tags": {"sweep": "sweep-1"} | OTHER, "status": "KILLED"}, ""),
        ({"tags": {"sweep": "sweep-1"} | OTHER, "status": "FAILED"}, ""),
        ({"tags": {"sweep": "sweep-1"} | OTHER}, "is RUNNING in otherhost:/home/ann/tunetrail/runs/sweep-1"),
        ({"tags": {"sweep": "sweep-1"} | HERE}, f"is RUNNING in {socket.gethostname()}:/elsewhere"),
        ({"tags": HERE}, f"is RUNNING in {socket.gethostname()}:/elsewhere"),
        ({"tags": {"sweep": "sweep-2"}, "status": "FAILED"}, "is another sweep's, sweep-2"),
        ({"tags": JOB}, "is the job of another sweep"),
        ({"status": "FINISHED"}, "is FINISHED"),
        ({"status": "FAILED", "params": PARAMS}, "has the params of an experiment, and a sweep has none"),
        ({"status": "RUNNING", "params": {"alpha": 1}}, "has the params of an experiment"),
    ],
)
def test_a_sweep_is_recorded_in_its_own_run_or_a_fresh_one(root, client, monkeypatch, run, says):
    run_id = made(client, **run)
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    if says:
        before = client.get_run(run_id).to_dictionary()
        with pytest.raises(UserError, match=says), mlflow_run.run(root, "sweep-1", folder=root / "runs"):
            pass
        assert client.get_run(run_id).to_dictionary() == before
        return
    with mlflow_run.run(root, "sweep-1", folder=root / "runs") as record:
        assert record.id == run_id
    assert "MLFLOW_RUN_ID" not in os.environ


def test_a_password_that_mlflow_run_left_in_a_tag_is_removed(root, client, monkeypatch):
    run = made(client, tags=PROJECT | {"mlflow.source.git.repoURL": "https://me:hunter2@host/a.git"})
    opened(root, monkeypatch, run)
    assert client.get_run(run).data.tags["mlflow.source.git.repoURL"] == "https://host/a.git"
