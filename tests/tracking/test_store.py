"""The address of a real SQLite store, and how runs are found in it."""

import contextlib
import os
import re
import subprocess
import sys

import pytest
from mlflow import MlflowClient

from tunetrail import UserError
from tunetrail.tracking import connection, mlflow_run, store, tags


def test_the_uri_is_made_absolute_once_and_passed_to_child_processes(root, monkeypatch):
    assert connection.uri(root) == f"sqlite:///{root}/mlflow.db" == os.environ["MLFLOW_TRACKING_URI"]
    monkeypatch.chdir("/")
    assert connection.uri(root) == f"sqlite:///{root}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert connection.uri(root) == "http://server:5000"


def test_a_run_is_found_by_its_id_by_a_prefix_of_it_or_by_its_name(root):
    made = []
    for name in ("demo", "it's 100%", "demo"):
        with mlflow_run.run(root, name) as run:
            made.append(run.id)

    def ids(query):
        return [run.id for run in store.matching(root, query)]

    assert ids(made[0]) == ids(made[0][:12]) == made[:1]
    assert ids("it's 100%") == [made[1]]
    assert ids("demo") == [made[2], made[0]]  # the newest first
    assert ids("") == made[::-1]
    assert ids("%") == ids("_") == ids("DEMO") == ids("no such") == []


def test_a_name_of_many_runs_lists_ten_of_them_and_counts_the_rest(root):
    client = MlflowClient(connection.uri(root))
    experiment = client.create_experiment("many")
    for _ in range(12):
        client.create_run(experiment, run_name="demo")
    for query, says in (("", "'': 12 runs match"), ("demo", "demo: 12 runs"), ("gone", "gone: no run has")):
        with pytest.raises(UserError) as error:
            store.find(root, query)
        lines = str(error.value).splitlines()
        assert lines[0].startswith(says)
        assert (len(lines), lines[-1]) == (12, "  and 2 more: tunetrail ls")


def test_an_unknown_alias_is_an_error_that_lists_the_existing_ones(root):
    with mlflow_run.run(root, "demo") as run:
        pass
    with pytest.raises(UserError) as error:
        store.find(root, "@champion")
    fix = "Make a champion: tunetrail promote RUN"
    assert str(error.value) == f"@champion: no registered model has the alias champion. {fix}"
    client = MlflowClient(connection.uri(root))
    client.create_registered_model("model")
    client.create_model_version("model", f"runs:/{run.id}/model", run.id)
    client.set_registered_model_alias("model", "champion", "1")
    assert store.find(root, "@champion").id == store.find(root, "model@champion").id == run.id
    for alias in ("@challenger", "model@challenger", "other@champion"):
        with pytest.raises(UserError, match=rf"{alias}: no registered model .*There are: model@champion\."):
            store.find(root, alias)


def test_a_sweep_in_place_of_a_run_is_refused_and_its_best_job_named(root):
    with mlflow_run.run(root, "sweep-1") as parent:
        parent.tags({"sweep": "sweep-1"})
    for number, loss in enumerate((2.0, 1.0)):
        with mlflow_run.run(root, f"seed={number}") as job:
            job.tags({"sweep": "sweep-1", tags.PARENT: parent.id, "job.number": number})
            job.metrics({"ifeval/tuned/prompt_strict": 0.5, "validation/loss": loss})
    best = re.escape(f"as the best of 2 equal: {job.id[:8]} (50.0 %, seed=1)")
    with pytest.raises(UserError, match=rf"\(sweep-1\) is a sweep.*{best}"):
        store.single(root, "sweep-1")
    assert store.single(root, job.id).id == job.id
    assert [child.name for child in store.children(root, parent.id)] == ["seed=0", "seed=1"]


@pytest.mark.stage
def test_creating_a_store_prints_nothing_about_its_tables(tmp_path):
    script = "import pathlib; from tunetrail.tracking import store; print(store.every(pathlib.Path.cwd()))"
    environ = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    made = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, env=environ)
    assert (made.stdout, made.stderr) == ("[]\n", "")


def test_files_of_a_run_are_downloaded_and_missing_ones_are_returned(root, capfd):
    (root / "params.yaml").write_text("seed: 1\n")
    with mlflow_run.run(root, "demo") as run:
        run.artifacts(root, "params.yaml")
    (root / "params.yaml").write_text("seed: 2\n")
    assert store.download(root, run.id, ("params.yaml", "dvc.lock"), root / "there") == ["dvc.lock"]
    assert (root / "there" / "params.yaml").read_text() == "seed: 1\n"
    assert "Downloading" not in capfd.readouterr().err


def test_a_file_in_a_folder_of_a_run_is_downloaded_to_its_own_path_and_as_text(root):
    (root / "report").mkdir()
    (root / "report" / "metrics.json").write_text("{}")
    with mlflow_run.run(root, "demo") as run:
        run.artifacts(root, "report")
    names = ["report/metrics.json", "report/verdicts.json"]
    assert store.download(root, run.id, names, root / "there") == names[1:]
    assert (root / "there" / "report" / "metrics.json").read_text() == "{}"
    assert store.read_artifacts(root, run.id, names) == {"report/metrics.json": "{}"}
    assert store.has_artifact(root, run.id, "report")
    assert not store.has_artifact(root, run.id, "changes.patch")


def test_a_recorded_run_has_its_status_params_metrics_tags_and_times(root):
    with mlflow_run.run(root, "demo") as parent, mlflow_run.run(root, "child") as run:
        run.params({"seed": 1})
        run.metrics({"a": 0.5})
        run.tags({tags.PARENT: parent.id, "x": "y"})
        (going,) = [stored for stored in store.every(root) if stored.id == run.id]
        assert (going.status, going.ended) == ("RUNNING", None)
    ended, above = store.every(root)
    assert (ended.name, ended.status, ended.parent, above.parent) == ("child", "FINISHED", parent.id, None)
    assert (ended.params, ended.metrics, ended.tags["x"]) == ({"seed": "1"}, {"a": 0.5}, "y")
    assert above.started <= ended.started <= ended.ended
    assert ended.artifacts.endswith(f"{run.id}/artifacts")


def test_a_curve_has_one_value_per_step_even_for_a_failed_run(root):
    with contextlib.suppress(ValueError), mlflow_run.run(root, "demo") as run:
        run.steps([{"step": 2, "time": 2.0, "train/loss": 1.0}, {"step": 1, "time": 1.0, "train/loss": 2.0}])
        run.client.log_metric(run.id, "train/loss", 0.5, 9000, 2)  # logged by a resumed run
        raise ValueError
    assert store.curves(root, run.id, ["train/loss", "validation/loss"]) == {
        "train/loss": [(1, 2.0), (2, 0.5)],
        "validation/loss": [],
    }


def test_registered_versions_are_listed_by_run_with_their_aliases(root):
    with mlflow_run.run(root, "demo") as run:
        pass
    assert store.registered(root) == {}
    client = MlflowClient(connection.uri(root))
    client.create_registered_model("model")
    for _ in range(2):
        client.create_model_version("model", f"runs:/{run.id}/model", run.id)
    client.set_registered_model_alias("model", "champion", "2")
    (versions,) = store.registered(root).values()
    assert sorted((version["model"], version["version"], version["aliases"]) for version in versions) == [
        ("model", 1, []),
        ("model", 2, ["@champion"]),
    ]


def test_files_are_uploaded_to_a_run_and_a_store_that_refuses_them_is_an_error(root):
    (root / "page.html").write_text("page")
    with mlflow_run.run(root, "demo") as run:
        pass
    store.attach(root, run.id, [root / "page.html"], "compare/a-b")
    assert store.read_artifacts(root, run.id, ["compare/a-b/page.html"]) == {"compare/a-b/page.html": "page"}
    with pytest.raises(UserError, match="does not take its files"):
        store.attach(root, run.id, [root / "gone.html"], "compare/a-b")
