"""Runs in a real SQLite store; test_ui tests what a user sees of them in the browser."""

import contextlib
import os
import subprocess
import sys
import time

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tunetrail import UserError
from tunetrail.tracking import connection, mlflow_run, other_runs, outbox, record, store, tags
from tunetrail.training import history


def stored(root, run):
    return MlflowClient(f"sqlite:///{root / 'mlflow.db'}").get_run(run.id)


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "FINISHED"), (ValueError("x"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (SystemExit(143), "KILLED")],
)
def test_the_status_says_how_the_run_ended(root, error, status):
    opened = []

    def body():
        with mlflow_run.run(root, "demo") as run:
            opened.append(run)
            assert stored(root, run).info.status == "RUNNING"
            if error:
                raise error

    with pytest.raises(type(error)) if error else contextlib.nullcontext():
        body()
    assert stored(root, opened[0]).info.status == status


def test_params_tags_metrics_data_and_files_are_recorded(root):
    (root / "report").mkdir()
    (root / "report" / "metrics.json").write_text("{}")
    with mlflow_run.run(root, "demo") as run:
        run.params({f"train.key{number}": number for number in range(150)} | {"long": "x" * 7000})
        run.tags({"a": "b", "none": None})
        run.metrics({"ifeval/base/prompt_strict": 0.25})
        run.steps([{"step": 3, "time": 7.5, "train/loss": 0.5}])
        run.dataset("alpaca", "0123456789abcdef0123456789abcdef", "alpaca.jsonl", "{}")
        run.artifacts(root, "report", "not-there.txt")
    saved = stored(root, run)
    assert len(saved.data.params) == 151
    assert len(saved.data.params["long"]) == 6000
    assert saved.data.tags["a"] == "b"
    assert "none" not in saved.data.tags
    assert saved.data.metrics["ifeval/base/prompt_strict"] == 0.25
    (point,) = run.client.get_metric_history(run.id, "train/loss")
    assert (point.step, point.timestamp, point.value) == (3, 7500, 0.5)
    assert saved.inputs.dataset_inputs[0].dataset.name == "alpaca"
    assert [file.path for file in run.client.list_artifacts(run.id, "report")] == ["report/metrics.json"]
    assert (root / "mlartifacts").is_dir()


def test_steps_are_recorded_during_training(root):
    file = root / "history.jsonl"
    history.append(file, 99, 1.0, {"loss": 9})  # steps of an earlier run, not of this one
    with mlflow_run.run(root, "demo") as run, run.following(file):
        history.append(file, 1, 1.0, {"loss": 2})
        deadline = time.monotonic() + 20
        while not run.sent and time.monotonic() < deadline:
            time.sleep(0.1)
        (point,) = run.client.get_metric_history(run.id, "train/loss")
        assert (point.step, point.value) == (1, 2.0)


@pytest.mark.parametrize(("tags", "name"), [({"mlflow.project.entryPoint": "main"}, "demo"), ({}, "method=lora")])
def test_a_run_opened_by_mlflow_is_used_and_its_id_is_not_passed_on(root, monkeypatch, tags, name):
    """`mlflow run` gives a random name, which is replaced; a sweep's name for its job is kept."""
    client = MlflowClient(connection.uri(root))
    opened = client.create_run("0", run_name="method=lora", tags=tags)
    client.set_terminated(opened.info.run_id, "FAILED")
    monkeypatch.setenv("MLFLOW_RUN_ID", opened.info.run_id)
    with mlflow_run.run(root, "demo") as run:
        assert run.id == opened.info.run_id
        assert "MLFLOW_RUN_ID" not in os.environ
        assert stored(root, run).info.status == "RUNNING"
    assert stored(root, run).info.run_name == name
    assert stored(root, run).info.status == "FINISHED"


def again(root, monkeypatch, run_id):
    """Open the run again, as the next attempt of a sweep's job does."""
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    return mlflow_run.run(root, "demo")


def test_a_run_counts_as_resumed_if_an_earlier_attempt_left_parameters_and_not_if_mlflow_projects_did(root, monkeypatch):
    with contextlib.suppress(ValueError), mlflow_run.run(root, "demo") as run:
        assert not run.resumed
        run.client.log_param(run.id, "experiment", "demo")
        raise ValueError
    with contextlib.suppress(ValueError), again(root, monkeypatch, run.id) as second:
        assert not second.resumed
        second.params({"name": "demo"})
        raise ValueError
    with again(root, monkeypatch, run.id) as third:
        assert third.resumed


def test_a_run_that_is_opened_again_gets_no_point_twice_and_loses_its_error(root, monkeypatch):
    rows = [{"step": step, "time": float(step), "train/loss": 1 / step, "validation/loss": 2.0} for step in (1, 2, 3)]
    with contextlib.suppress(ValueError), mlflow_run.run(root, "demo") as run:
        run.params({"a": 1})
        run.metrics({"ifeval/base/prompt_strict": 0.25})
        run.steps(rows[:2])
        run.steps(rows[:2])
        raise ValueError("the reason")
    assert stored(root, run).data.tags["error"] == "the reason"
    with again(root, monkeypatch, run.id) as second:
        assert "error" not in stored(root, run).data.tags
        second.params({"a": 1})
        second.steps(rows)
        second.metrics({"ifeval/base/prompt_strict": 0.5})
        assert not second.store_failed
    saved = stored(root, run)
    assert (saved.info.status, saved.info.run_name) == ("FINISHED", "demo")
    assert saved.data.metrics["ifeval/base/prompt_strict"] == 0.5
    for name in ("train/loss", "validation/loss"):
        assert [point.step for point in second.client.get_metric_history(run.id, name)] == [1, 2, 3]


def test_each_step_is_sent_once_although_the_followed_file_is_cut(root, monkeypatch):
    monkeypatch.setattr(mlflow_run, "_SECONDS_BETWEEN_READS", 0.05)
    file = root / "history.jsonl"
    with mlflow_run.run(root, "demo") as run, run.following(file):
        for step in (1, 2, 3):
            history.append(file, step, 1.0, {"loss": step})
        until(lambda: len(run.sent) == 3)
        history.cut(file, 1)
        time.sleep(0.3)
        for step in (2, 3, 4):
            history.append(file, step, 2.0, {"loss": step})
        until(lambda: len(run.sent) == 4)
    assert [point.step for point in run.client.get_metric_history(run.id, "train/loss")] == [1, 2, 3, 4]


def until(true):
    deadline = time.monotonic() + 20
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert true()


def test_a_run_left_open_by_kill_9_is_closed_when_next_seen(root):
    script = f"""
import os, pathlib
from tunetrail.tracking import mlflow_run, other_runs
with mlflow_run.run(pathlib.Path({str(root)!r}), "demo") as run:
    print(run.id, flush=True)
    os.kill(os.getpid(), 9)
"""
    left = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.strip()
    client = MlflowClient(connection.uri(root))
    assert client.get_run(left).info.status == "RUNNING"
    with mlflow_run.run(root, "demo") as run:
        assert client.get_run(left).info.status == "KILLED"
        assert stored(root, run).info.status == "RUNNING"


def test_the_run_that_trained_a_cached_model_is_found(root):
    with mlflow_run.run(root, "first") as first:
        first.tags({"model.md5": "abc"})
    with mlflow_run.run(root, "second") as second:
        second.tags({"model.md5": "abc"})
        assert record.trained_in(second, "abc") == first.id
        assert record.trained_in(second, "other") is None


def test_a_server_that_does_not_answer_is_an_error_within_seconds(root, monkeypatch):
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter2@127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9.*Start it") as error, mlflow_run.run(root, "demo"):
        pass
    assert "hunter2" not in str(error.value)
    assert time.monotonic() - started < 15


def test_a_run_continues_without_a_record_if_the_store_fails_later(root, monkeypatch, capsys):
    def fail(*args, **kwargs):
        raise MlflowException("connection refused")

    monkeypatch.setattr(outbox, "_SECONDS_AT_THE_END", 1.0)
    with mlflow_run.run(root, "demo") as run:
        monkeypatch.setattr(run.client, "log_batch", fail)
        monkeypatch.setattr(run.client, "set_terminated", fail)
        run.metrics({"a": 1.0})
        run.steps([{"step": 1, "time": 1.0, "train/loss": 1.0}])
        run.artifacts(root, "mlflow.db")
    assert run.store_failed
    output = capsys.readouterr().out
    assert output.count("does not store the record") == output.count("failed to store the record") == 1
    assert "uploads the whole record" in output


def test_the_same_experiment_goes_on_in_the_run_of_an_attempt_that_did_not_finish(root):
    params = {"name": "demo", "seed": 1}
    with contextlib.suppress(ValueError), mlflow_run.run(root, "demo", params=params, code="c") as first:
        first.params(params)
        raise ValueError("the reason")
    with contextlib.suppress(KeyboardInterrupt), mlflow_run.run(root, "demo", params=params, code="c") as second:
        assert (second.id, second.tries) == (first.id, 2)
        raise KeyboardInterrupt
    with mlflow_run.run(root, "demo", params=params, code="c") as third:
        assert (third.id, third.tries) == (first.id, 3)
    saved = stored(root, first)
    assert (saved.info.status, saved.data.tags[tags.TRIES]) == ("FINISHED", "3")
    assert tags.ERROR not in saved.data.tags
    with mlflow_run.run(root, "demo", params=params, code="c") as fourth:
        assert (fourth.id != first.id, fourth.tries) == (True, 1)  # that one has finished


@pytest.mark.parametrize(
    "changed", [{"code": "d"}, {"params": {"name": "demo", "seed": 2}}, {"fresh": True}, {"params": {"name": "demo"}}]
)
def test_another_experiment_other_code_and_a_fresh_start_have_runs_of_their_own(root, changed):
    same = {"params": {"name": "demo", "seed": 1}, "code": "c"}
    with contextlib.suppress(ValueError), mlflow_run.run(root, "demo", **same) as first:
        first.params(same["params"])
        raise ValueError
    with mlflow_run.run(root, "demo", **(same | changed)) as second:
        assert second.id != first.id


def test_a_run_that_was_killed_before_its_params_were_recorded_is_the_next_attempts(root):
    with contextlib.suppress(ValueError), mlflow_run.run(root, "demo", params={"name": "demo"}, code="c") as first:
        raise ValueError
    with mlflow_run.run(root, "other", params={"name": "other"}, code="c") as second:
        assert second.id == first.id
    assert stored(root, first).info.run_name == "other"


def test_the_run_that_mlflow_run_opens_gives_way_to_the_one_that_did_not_finish(root, monkeypatch):
    params = {"name": "demo", "seed": 1}
    with contextlib.suppress(ValueError), mlflow_run.run(root, "demo", params=params, code="c") as first:
        first.params(params)
        raise ValueError
    opened = other_runs.create(root, "fine-owl-1", {tags.PROJECT: "main"})
    client = MlflowClient(connection.uri(root))
    client.log_param(opened, "experiment", "demo")
    monkeypatch.setenv("MLFLOW_RUN_ID", opened)
    with mlflow_run.run(root, "demo", params=params, code="c") as second:
        assert second.id == first.id
    removed = client.get_run(opened).info
    assert (removed.lifecycle_stage, removed.status) == ("deleted", "KILLED")  # so MLflow leaves it as it is at the end


def test_a_run_of_another_folder_is_not_taken_for_one_that_was_left_open(root):
    with mlflow_run.run(root, "parent", folder=root / "runs" / "sweep-1") as parent, mlflow_run.run(root, "demo"):
        assert stored(root, parent).info.status == "RUNNING"


def test_why_a_run_failed_is_its_tag_and_a_long_reason_is_cut(root):
    with pytest.raises(UserError), mlflow_run.run(root, "demo") as run:
        raise UserError("because " * 2000)
    error = stored(root, run).data.tags["error"]
    assert len(error) == 8000
    assert error.startswith("because because")


def test_text_and_a_file_are_uploaded_into_a_folder_of_the_run(root):
    (root / "scores.png").touch()
    with mlflow_run.run(root, "demo") as run:
        run.text("sweep/jobs.csv", "größe,1\n")
        run.artifacts(root, "scores.png", "none.png", into="sweep")
        assert not run.store_failed
    assert sorted(file.path for file in run.client.list_artifacts(run.id, "sweep")) == ["sweep/jobs.csv", "sweep/scores.png"]
    assert store.read_artifacts(root, run.id, ["sweep/jobs.csv"]) == {"sweep/jobs.csv": "größe,1\n"}
