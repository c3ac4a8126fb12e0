"""Against a real SQLite store; what a person sees of it in the browser is test_end_to_end's."""

import contextlib
import os
import subprocess
import sys
import time

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tunetrail import UserError, history, store, tracking


def stored(root, run):
    return MlflowClient(f"sqlite:///{root / 'mlflow.db'}").get_run(run.id)


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "FINISHED"), (ValueError("x"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (SystemExit(143), "KILLED")],
)
def test_the_status_is_true(root, error, status):
    opened = []

    def body():
        with tracking.run(root, "demo") as run:
            opened.append(run)
            assert stored(root, run).info.status == "RUNNING"
            if error:
                raise error

    with pytest.raises(type(error)) if error else contextlib.nullcontext():
        body()
    assert stored(root, opened[0]).info.status == status


def test_params_tags_metrics_data_and_files_are_kept(root):
    (root / "report").mkdir()
    (root / "report" / "metrics.json").write_text("{}")
    with tracking.run(root, "demo") as run:
        run.params({f"train.key{number}": number for number in range(150)} | {"long": "x" * 7000})
        run.tags({"a": "b", "none": None})
        run.metrics({"ifeval/base/prompt_strict": 0.25})
        run.steps([{"step": 3, "time": 7.5, "train/loss": 0.5}])
        run.dataset("alpaca", "0123456789abcdef0123456789abcdef", "alpaca.jsonl", "{}")
        run.artifacts(root, "report", "not-there.txt")
    found = stored(root, run)
    assert len(found.data.params) == 151
    assert len(found.data.params["long"]) == 6000
    assert found.data.tags["a"] == "b"
    assert "none" not in found.data.tags
    assert found.data.metrics["ifeval/base/prompt_strict"] == 0.25
    (point,) = run.client.get_metric_history(run.id, "train/loss")
    assert (point.step, point.timestamp, point.value) == (3, 7500, 0.5)
    assert found.inputs.dataset_inputs[0].dataset.name == "alpaca"
    assert [file.path for file in run.client.list_artifacts(run.id, "report")] == ["report/metrics.json"]
    assert (root / "mlartifacts").is_dir()


def test_steps_appear_while_training_goes_on(root):
    file = root / "history.jsonl"
    history.append(file, 99, 1.0, {"loss": 9})  # of an earlier run: not this one's
    with tracking.run(root, "demo") as run, run.following(file):
        history.append(file, 1, 1.0, {"loss": 2})
        deadline = time.monotonic() + 20
        while not run.logged and time.monotonic() < deadline:
            time.sleep(0.1)
        (point,) = run.client.get_metric_history(run.id, "train/loss")
        assert (point.step, point.value) == (1, 2.0)


def test_the_run_that_mlflow_run_opened_is_taken_and_handed_on_no_further(root, monkeypatch):
    client = MlflowClient(store.uri(root))
    given = client.create_run("0")
    client.set_terminated(given.info.run_id, "FAILED")
    monkeypatch.setenv("MLFLOW_RUN_ID", given.info.run_id)
    with tracking.run(root, "demo") as run:
        assert run.id == given.info.run_id
        assert "MLFLOW_RUN_ID" not in os.environ
        assert stored(root, run).info.status == "RUNNING"
    assert stored(root, run).info.run_name == "demo"
    assert stored(root, run).info.status == "FINISHED"


def test_a_run_left_open_by_kill_9_is_closed_when_next_seen(root):
    script = f"""
import os, pathlib
from tunetrail import tracking
with tracking.run(pathlib.Path({str(root)!r}), "demo") as run:
    print(run.id, flush=True)
    os.kill(os.getpid(), 9)
"""
    left = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.strip()
    client = MlflowClient(store.uri(root))
    assert client.get_run(left).info.status == "RUNNING"
    with tracking.run(root, "demo") as run:
        assert client.get_run(left).info.status == "KILLED"
        assert stored(root, run).info.status == "RUNNING"


def test_who_trained_a_cached_model_is_found(root):
    with tracking.run(root, "first") as first:
        first.tags({"model.md5": "abc"})
    with tracking.run(root, "second") as second:
        second.tags({"model.md5": "abc"})
        assert tracking.trained_in(second, "abc") == first.id
        assert tracking.trained_in(second, "other") is None


def test_a_server_that_is_not_there_is_said_at_once(root, monkeypatch):
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter2@127.0.0.1:9")
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9.*Start it") as error, tracking.run(root, "demo"):
        pass
    assert "hunter2" not in str(error.value)


def test_a_store_that_fails_later_costs_the_record_and_not_the_run(root, monkeypatch, capsys):
    def fail(*given, **named):
        raise MlflowException("connection refused")

    with tracking.run(root, "demo") as run:
        monkeypatch.setattr(run.client, "log_batch", fail)
        monkeypatch.setattr(run.client, "set_terminated", fail)
        run.metrics({"a": 1.0})
        run.steps([{"step": 1, "time": 1.0, "train/loss": 1.0}])
        run.artifacts(root, "mlflow.db")
    assert run.lost
    assert run.logged == 0
    said = capsys.readouterr().out
    assert said.count("does not take the record") == 1
    assert "uploads all of it" in said
