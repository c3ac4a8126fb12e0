"""A sweep as a person runs it, really trained, in a checkout of its own: two jobs at a time, one of which cannot learn.

The checkout has what the demo's run left in DVC's cache, so that the base model is not made anew.
"""

import collections
import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from mlflow import MlflowClient

from tests.checkouts import SHRUNKEN, branch, environment, left_running, run, start
from tunetrail.tracking import tags

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

SMALL = [
    *(override for override in SHRUNKEN if "max_gen_toks" not in override),
    "evaluate.task.generation_kwargs.max_gen_toks=8",
    "+train.max_steps=4",
    "train.logging_steps=1",
]
GRID = [*SMALL, "sweep=joblib", "train.learning_rate=1e-3,1e30,2e-3"]


@pytest.fixture(scope="module")
def swept(trained, tmp_path_factory):
    """The folder of the clone, a client of its store, and how `mlflow run -e sweep` ended there."""
    folder = branch(trained, tmp_path_factory.mktemp("sweep"))
    words = ["mlflow", "run", ".", "--env-manager", "local", "--experiment-name", "tunetrail", "-e", "sweep"]
    ended = run(folder, *words, "-P", f"overrides={' '.join(GRID)}")
    return folder, MlflowClient(f"sqlite:///{folder / 'mlflow.db'}"), ended


@pytest.fixture(scope="module")
def family(swept):
    """The sweep's own run, and those of its jobs by learning rate."""
    _, client, _ = swept
    runs = client.search_runs([client.get_experiment_by_name("tunetrail").experiment_id])
    (parent,) = (entry for entry in runs if tags.PARENT not in entry.data.tags)
    return parent, {entry.data.params.get("train.learning_rate"): entry for entry in runs if entry is not parent}


def artifact(client, run_id, path):
    return open(client.download_artifacts(run_id, path)).read()


def test_the_projects_run_is_the_parent_and_each_job_a_child_with_its_true_status(swept, family):
    _, _, ended = swept
    parent, children = family
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "mlflow.project.entryPoint" in parent.data.tags
    assert {rate: child.info.status for rate, child in children.items()} == {
        "0.001": "FINISHED",
        "1e+30": "FAILED",
        "0.002": "FINISHED",
    }
    assert {child.data.tags[tags.PARENT] for child in children.values()} == {parent.info.run_id}
    assert {child.info.run_name for child in children.values()} == {f"train.learning_rate={rate}" for rate in children}
    assert "is NaN" in children["1e+30"].data.tags["error"]
    assert parent.info.status == "FAILED"
    assert "1 of 3 jobs" in parent.data.tags["error"]
    assert "1 of 3 jobs did not finish" in ended.stdout + ended.stderr


def test_the_parent_has_what_was_typed_the_table_the_best_and_the_figure(swept, family):
    _, client, _ = swept
    parent, children = family
    assert "train.learning_rate=1e-3,1e30,2e-3" in parent.data.tags["sweep.overrides"]
    kept = {file.path for file in client.list_artifacts(parent.info.run_id, "sweep")}
    assert kept >= {"sweep/jobs.csv", "sweep/scores.png", "sweep/scores.svg"}
    rows = list(csv.DictReader(io.StringIO(artifact(client, parent.info.run_id, "sweep/jobs.csv"))))
    assert [row["train.learning_rate"] for row in rows] == ["0.001", "1e+30", "0.002"]
    assert [row["state"] for row in rows] == ["finished", "failed", "finished"]
    scores = {child.info.run_id: child.data.metrics.get("ifeval/tuned/prompt_strict") for child in children.values()}
    for row in rows:
        assert (float(row["prompt_strict"]) if row["prompt_strict"] else None) == scores[row["run"]]
    assert scores[parent.data.tags["sweep.best"]] == max(score for score in scores.values() if score is not None)


def test_what_the_jobs_share_is_done_once(swept, family):
    folder, client, _ = swept
    parent, children = family
    logs = "".join(file.read_text() for file in (folder / "runs" / parent.data.tags["sweep"]).glob("*.log"))
    # What stands before these is in DVC's cache. The answers of the base are not: they are shorter here than the demo's.
    counted = collections.Counter(re.findall("Running stage '(.*)'", logs))
    assert counted == {"evaluate_base": 1, "train": 3, "evaluate_tuned": 2, "report": 2}
    trained = [artifact(client, child.info.run_id, "logs/train/axolotl.log") for child in children.values()]
    # Axolotl says so for each of its two data sets, training and validation.
    assert sum(log.count("Unable to find prepared dataset") for log in trained) == 2
    assert sum(log.count("Loading prepared dataset from disk") for log in trained) == 4


def test_each_finished_job_is_a_dvc_experiment_with_its_params_and_scores(swept, family):
    folder, _, _ = swept
    _, children = family
    shown = json.loads(run(folder, "dvc", "exp", "show", "--json").stdout)
    experiments = {}
    for baseline in shown:
        for experiment in baseline["experiments"] or []:
            state = experiment["revs"][0]
            experiments[state["name"]] = (
                state["data"]["params"]["params.yaml"]["data"]["train"]["learning_rate"],
                json.dumps(state["data"]["metrics"]),
            )
    finished = [child for child in children.values() if child.info.status == "FINISHED"]
    assert {name: rate for name, (rate, _) in experiments.items()} == {
        child.data.tags["dvc.experiment"]: float(child.data.params["train.learning_rate"]) for child in finished
    }
    assert all("prompt_strict" in metrics for _, metrics in experiments.values())


def test_worktrees_go_with_the_jobs_that_finish_and_stay_with_those_that_fail(swept, family):
    folder, _, _ = swept
    parent, children = family
    left = [path.name for path in (folder / "runs" / parent.data.tags["sweep"]).iterdir() if path.is_dir()]
    assert left == [children["1e+30"].data.tags["job.digest"][:10]]
    status = run(folder, "git", "status", "--porcelain").stdout
    assert status == ""


def test_the_same_sweep_again_skips_what_has_finished_and_tries_the_rest(swept, family):
    folder, client, _ = swept
    parent, children = family
    again = run(folder, sys.executable, "-m", "tunetrail", "run", "-m", "experiment=demo", *GRID)
    assert again.returncode == 1, again.stdout + again.stderr
    assert "3 jobs" in again.stderr
    assert "2 skipped" in again.stderr
    assert "1 failed" in again.stderr
    runs = client.search_runs([parent.info.experiment_id])
    assert {entry.info.run_id for entry in runs} == {entry.info.run_id for entry in (parent, *children.values())}
    ends = {child.info.run_id: child.info.end_time for child in children.values() if child.info.status == "FINISHED"}
    assert {run.info.run_id: run.info.end_time for run in runs if run.info.run_id in ends} == ends


def _checkpoints(folder):
    return {*folder.glob("runs/*/*/work/train/checkpoint-*/manifest.json")}


def test_a_sweep_that_is_stopped_leaves_nobody_running_and_goes_on_from_its_checkpoint(swept):
    folder, client, _ = swept
    short = [word for word in SMALL if not word.startswith("+train.max_steps")]
    words = [sys.executable, "-m", "tunetrail", "run", "-m", *short, "train.save_steps=20", "+train.max_steps=120"]
    words += ["sweep=joblib", "train.weight_decay=choice(0.2)"]
    before = _checkpoints(folder)  # of jobs that failed
    with (folder / "screen.txt").open("wb") as screen:
        streams = {"stdout": screen, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(words, cwd=folder, env=environment(folder), start_new_session=True, **streams)
    deadline = time.monotonic() + 300
    while not _checkpoints(folder) - before and time.monotonic() < deadline:
        assert process.poll() is None, (folder / "screen.txt").read_text()
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGTERM)  # to all of its group, as `timeout` and a closed session do it
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert left_running(folder) == []
    last_lines = "1 job: 1 stopped\nTo continue the sweep, run the same command again.\n"
    assert (folder / "screen.txt").read_text().endswith(last_lines)
    child, parent = client.search_runs([client.get_experiment_by_name("tunetrail").experiment_id])[:2]
    assert (child.info.status, parent.info.status) == ("KILLED", "KILLED")
    again = run(folder, *words)
    assert again.returncode == 0, again.stdout + again.stderr
    assert client.get_run(child.info.run_id).info.status == "FINISHED"
    assert client.get_run(parent.info.run_id).info.status == "FINISHED"
    assert client.get_run(child.info.run_id).data.tags["train.resumed"] == "exact"
    curve = [point.step for point in client.get_metric_history(child.info.run_id, "train/loss")]
    assert curve == list(range(1, 121))


def test_a_key_that_is_none_is_an_error_and_no_run(swept):
    folder, client, _ = swept
    experiments = [client.get_experiment_by_name("tunetrail").experiment_id]
    before = {entry.info.run_id for entry in client.search_runs(experiments)}
    ended = run(folder, sys.executable, "-m", "tunetrail", "run", "-m", "train.lerning_rate=1,2")
    assert ended.returncode == 2
    assert "train.learning_rate" in ended.stderr
    assert {entry.info.run_id for entry in client.search_runs(experiments)} == before


def test_two_of_the_same_sweep_do_not_run_at_once(swept):
    folder, _, _ = swept
    words = [sys.executable, "-m", "tunetrail", "run", "-m", *SMALL, "sweep=submitit_local"]
    words += ["train.learning_rate=choice(4e-3)"]
    first = start(folder, *words)
    deadline = time.monotonic() + 120
    while "sweep-" not in (folder / "screen.txt").read_text() and time.monotonic() < deadline:
        time.sleep(0.2)
    second = subprocess.run(words, cwd=folder, env=environment(folder), capture_output=True, text=True)
    assert second.returncode == 2
    assert "is running here" in second.stderr
    assert first.wait(timeout=240) == 0
