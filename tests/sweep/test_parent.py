"""A sweep as a person runs it, really trained, in a clone of its own: two jobs at a time, one of which cannot learn."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.checkouts import SMALLEST, clone, environment, left_running, run, start
from tests.conftest import ROOT
from tests.sweep.held import start_holder
from tunetrail import UserError
from tunetrail.sweep import parent
from tunetrail.sweep.state import Job
from tunetrail.tracking import mlflow_run, store

GRID = [*SMALLEST, "sweep=joblib", "train.learning_rate=1e-3,1e30,2e-3"]
STAGES = ("fetch", "prepare", "base", "contract", "evaluate_base", "train", "evaluate_tuned", "report")


def job(number, overrides, state, **fields):
    return Job(Path(f"{number:010x}.json"), number, overrides.split(), state, **fields)


def test_the_table_of_a_sweep_has_a_column_for_each_key_that_varies():
    jobs = [
        job(
            0, "method=full +train.max_steps=5", "finished", score=0.5, low=0.4, high=0.6, started=1.0, ended=61.4, run="ab"
        ),
        job(1, "method=lora", "failed", why="out, of memory"),
    ]
    keys = ("method", "train.max_steps", "prompt_strict", "seconds", "why")
    rows = [tuple(row[key] for key in keys) for row in csv.DictReader(io.StringIO(parent.table(jobs)))]
    assert rows == [("full", "5", "0.5", "60", ""), ("lora", "", "", "", "out, of memory")]


@pytest.fixture
def checkout(root):
    """A checkout with this conf/ and a store, for sweeps that train nothing."""
    shutil.copytree(ROOT / "conf", root / "conf")
    shutil.copy(ROOT / "dvc.yaml", root)
    (root / ".gitignore").write_text("/work/\n/runs/\n/mlflow.db\n/mlartifacts/\n")
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "start"]):
        subprocess.run(["git", *words], cwd=root, check=True)
    return root


def recorded(root):
    """The runs in the store, without deleted ones."""
    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    return client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])


def test_a_launcher_that_cannot_launch_is_an_error_of_one_line_and_leaves_nothing(checkout, capsys):
    def launch(folder, job):
        raise RuntimeError("the queue is closed.")

    with pytest.raises(UserError) as error:
        parent.run(checkout, ["seed=1,2"], launch)
    message = "no job started: RuntimeError: the queue is closed. Fix hydra.sweeper or hydra.launcher, which the options"
    assert str(error.value).startswith(message)
    assert list((checkout / "runs").iterdir()) == []
    assert recorded(checkout) == []
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("error", [SystemExit(143), SystemExit(130), KeyboardInterrupt()], ids=repr)
def test_a_sweep_that_is_stopped_ends_jobs_whose_launcher_is_dead_and_says_how_to_continue(checkout, capsys, error):
    """A signal to a whole process group ends joblib's processes; their jobs have groups of their own."""
    started = []

    def interrupted(folder, job):
        folder = checkout / folder
        parent = next(run.info.run_id for run in recorded(checkout))
        child = mlflow_run.child(checkout, parent, "seed=1", {"job.digest": "a"}).info.run_id
        (folder / "aaaaaaaaaa" / "work").mkdir(parents=True)
        Job(folder / "aaaaaaaaaa.json", 0, ["seed=1"], "running", run=child, started=time.time()).write()
        started.append(start_holder(folder / "aaaaaaaaaa"))
        raise error

    with pytest.raises(type(error)):
        parent.run(checkout, ["seed=1,2"], interrupted)
    assert started[0].wait(timeout=10) == -signal.SIGTERM
    assert {run.info.status for run in recorded(checkout)} == {"KILLED"}
    (state,) = [file.read_text() for file in (checkout / "runs").glob("*/*.json")]
    assert json.loads(state)["state"] == "stopped"
    last_lines = "2 jobs: 1 stopped, 1 to come\nTo continue the sweep, run the same command again.\n"
    assert capsys.readouterr().err.endswith(last_lines)


def record(checkout, jobs):
    """Record the jobs as those of a sweep, and return its run."""
    (checkout / "runs").mkdir()
    with mlflow_run.run(checkout, "sweep-1", place=checkout / "runs") as sweep_run:
        parent.record(sweep_run, checkout / "runs", jobs, frozenset())
    (run,) = recorded(checkout)
    return run


@pytest.mark.parametrize(("overrides", "shown"), [("", ""), ("seed=1 method=lora", ", seed=1 method=lora")])
def test_the_best_job_is_printed_with_its_overrides(checkout, capsys, overrides, shown):
    jobs = [job(0, overrides, "finished", score=0.794, low=0.7, high=0.9, started=1.0, ended=61.0, run="0123456789")]
    record(checkout, jobs)
    assert f"\nbest: 79.4 % of the prompts (strict){shown}: tunetrail show 01234567\n" in capsys.readouterr().out


def test_a_best_job_below_its_base_is_so_described_on_the_screen_in_the_record_and_in_the_figure(checkout, capsys):
    base = {"value": 0.081, "low": 0.05, "high": 0.12}
    jobs = [
        job(number, f"seed={number}", "finished", score=share, low=0.0, high=0.1, base=base, run=f"{number}" * 10)
        for number, share in ((1, 0.006), (2, 0.0))
    ]
    run = record(checkout, jobs)
    line = "best: 0.6 % of the prompts (strict), below its base (8.1 %), seed=1"
    assert f"\n{line}: tunetrail show 11111111\n" in capsys.readouterr().out
    assert run.data.tags["mlflow.note.content"] == f"{line}: run `1111111111`"
    figure = (checkout / "runs" / "scores.svg").read_text()
    assert "best: 0.6 %, below its base (8.1 %), seed=1" in figure


def test_of_equal_jobs_the_best_has_the_lowest_validation_loss(checkout, capsys):
    jobs = [
        job(number, f"seed={number}", "finished", score=0.5, low=0.4, high=0.6, loss=loss, run=f"{number}" * 10)
        for number, loss in enumerate((1.5, 1.25, 1.75))
    ]
    record(checkout, jobs)
    assert "\nbest of 3 equal: 50.0 % of the prompts (strict), seed=1: tunetrail show 11111111\n" in capsys.readouterr().out


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The folder of the clone, a client of its store, and how `mlflow run -e sweep` ended there."""
    folder = clone(tmp_path_factory.mktemp("sweep"))
    words = ["mlflow", "run", ".", "--env-manager", "local", "--experiment-name", "tunetrail", "-e", "sweep"]
    ended = run(folder, *words, "-P", f"overrides={' '.join(GRID)}")
    return folder, MlflowClient(f"sqlite:///{folder / 'mlflow.db'}"), ended


@pytest.fixture(scope="module")
def family(swept):
    """The sweep's own run, and those of its jobs by learning rate."""
    _, client, _ = swept
    runs = client.search_runs([client.get_experiment_by_name("tunetrail").experiment_id])
    (parent,) = (found for found in runs if store.PARENT not in found.data.tags)
    return parent, {found.data.params.get("train.learning_rate"): found for found in runs if found is not parent}


def artifact(client, run_id, path):
    return open(client.download_artifacts(run_id, path)).read()


@pytest.mark.end_to_end
class TestSweep:
    def test_the_projects_run_is_the_parent_and_each_job_a_child_with_its_true_status(self, swept, family):
        _, _, ended = swept
        parent, children = family
        assert ended.returncode == 1, ended.stdout + ended.stderr
        assert "mlflow.project.entryPoint" in parent.data.tags
        assert {rate: child.info.status for rate, child in children.items()} == {
            "0.001": "FINISHED",
            "1e+30": "FAILED",
            "0.002": "FINISHED",
        }
        assert {child.data.tags[store.PARENT] for child in children.values()} == {parent.info.run_id}
        assert {child.info.run_name for child in children.values()} == {f"train.learning_rate={rate}" for rate in children}
        assert "is NaN" in children["1e+30"].data.tags["error"]
        assert parent.info.status == "FAILED"
        assert "1 of 3 jobs" in parent.data.tags["error"]
        assert "1 of 3 jobs did not finish" in ended.stdout + ended.stderr

    def test_the_parent_has_what_was_typed_the_table_the_best_and_the_figure(self, swept, family):
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

    def test_what_the_jobs_share_is_done_once(self, swept, family):
        folder, client, _ = swept
        parent, children = family
        logs = "".join(file.read_text() for file in (folder / "runs" / parent.data.tags["sweep"]).glob("*.log"))
        counted = {stage: logs.count(f"Running stage '{stage}'") for stage in STAGES}
        once = dict.fromkeys(STAGES[:5], 1)
        assert counted == once | {"train": 3, "evaluate_tuned": 2, "report": 2}
        trained = [artifact(client, child.info.run_id, "logs/train/axolotl.log") for child in children.values()]
        # Axolotl says so for each of its two data sets, training and validation.
        assert sum(log.count("Unable to find prepared dataset") for log in trained) == 2
        assert sum(log.count("Loading prepared dataset from disk") for log in trained) == 4

    def test_each_finished_job_is_a_dvc_experiment_with_its_params_and_scores(self, swept, family):
        folder, _, _ = swept
        _, children = family
        shown = json.loads(run(folder, "dvc", "exp", "show", "--json").stdout)
        found = {}
        for baseline in shown:
            for experiment in baseline["experiments"] or []:
                state = experiment["revs"][0]
                found[state["name"]] = (
                    state["data"]["params"]["params.yaml"]["data"]["train"]["learning_rate"],
                    json.dumps(state["data"]["metrics"]),
                )
        finished = [child for child in children.values() if child.info.status == "FINISHED"]
        assert {name: rate for name, (rate, _) in found.items()} == {
            child.data.tags["dvc.experiment"]: float(child.data.params["train.learning_rate"]) for child in finished
        }
        assert all("prompt_strict" in metrics for _, metrics in found.values())

    def test_worktrees_go_with_the_jobs_that_finish_and_stay_with_those_that_fail(self, swept, family):
        folder, _, _ = swept
        parent, children = family
        left = [path.name for path in (folder / "runs" / parent.data.tags["sweep"]).iterdir() if path.is_dir()]
        assert left == [children["1e+30"].data.tags["job.digest"][:10]]
        status = run(folder, "git", "status", "--porcelain").stdout
        assert status == ""

    def test_the_same_sweep_again_skips_what_has_finished_and_tries_the_rest(self, swept, family):
        folder, client, _ = swept
        parent, children = family
        finished = [child.info for child in children.values() if child.info.status == "FINISHED"]
        again = run(folder, sys.executable, "-m", "tunetrail", "run", "-m", "experiment=demo", *GRID)
        assert again.returncode == 1, again.stdout + again.stderr
        assert "3 jobs" in again.stderr
        assert "2 skipped" in again.stderr
        assert "1 failed" in again.stderr
        runs = client.search_runs([parent.info.experiment_id])
        assert {found.info.run_id for found in runs} == {found.info.run_id for found in (parent, *children.values())}
        assert all(client.get_run(info.run_id).info.end_time == info.end_time for info in finished)

    @pytest.mark.slow
    def test_a_sweep_that_is_stopped_leaves_nobody_running_and_goes_on_from_its_checkpoint(self, swept):
        folder, client, _ = swept
        saving = ["train.save_strategy=steps", "+train.save_steps=20", "+train.auto_resume_from_checkpoints=true"]
        short = [word for word in SMALLEST if not word.startswith("+train.max_steps")]
        words = [sys.executable, "-m", "tunetrail", "run", "-m", *short, *saving, "+train.max_steps=120"]
        words += ["sweep=joblib", "train.weight_decay=choice(0.2)"]
        with (folder / "screen.txt").open("wb") as screen:
            streams = {"stdout": screen, "stderr": subprocess.STDOUT}
            process = subprocess.Popen(words, cwd=folder, env=environment(folder), start_new_session=True, **streams)
        deadline = time.monotonic() + 300
        while not list(folder.glob("runs/*/*/work/train/checkpoint-*/trainer_state.json")) and time.monotonic() < deadline:
            assert process.poll() is None, (folder / "screen.txt").read_text()
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGTERM)  # to all of its group, as `timeout` and a closed session do it
        assert process.wait(timeout=60) == 128 + signal.SIGTERM
        assert left_running(folder) == []
        assert (
            (folder / "screen.txt")
            .read_text()
            .endswith("1 job: 1 stopped\nTo continue the sweep, run the same command again.\n")
        )
        child, parent = client.search_runs([client.get_experiment_by_name("tunetrail").experiment_id])[:2]
        assert (child.info.status, parent.info.status) == ("KILLED", "KILLED")
        again = run(folder, *words)
        assert again.returncode == 0, again.stdout + again.stderr
        assert client.get_run(child.info.run_id).info.status == "FINISHED"
        assert client.get_run(parent.info.run_id).info.status == "FINISHED"
        assert "auto-resume functionality" in artifact(client, child.info.run_id, "logs/train/axolotl.log")
        curve = [point.step for point in client.get_metric_history(child.info.run_id, "train/loss")]
        assert curve == list(range(1, 121))

    def test_a_key_that_is_none_is_an_error_and_no_run(self, swept):
        folder, client, _ = swept
        experiments = [client.get_experiment_by_name("tunetrail").experiment_id]
        before = {found.info.run_id for found in client.search_runs(experiments)}
        ended = run(folder, sys.executable, "-m", "tunetrail", "run", "-m", "train.lerning_rate=1,2")
        assert ended.returncode == 2
        assert "train.learning_rate" in ended.stderr
        assert {found.info.run_id for found in client.search_runs(experiments)} == before

    @pytest.mark.slow
    def test_two_of_the_same_sweep_do_not_run_at_once(self, swept):
        folder, _, _ = swept
        words = [sys.executable, "-m", "tunetrail", "run", "-m", *SMALLEST, "sweep=submitit_local"]
        words += ["train.learning_rate=choice(4e-3)"]
        first = start(folder, *words)
        deadline = time.monotonic() + 120
        while "sweep-" not in (folder / "screen.txt").read_text() and time.monotonic() < deadline:
            time.sleep(0.2)
        second = subprocess.run(words, cwd=folder, env=environment(folder), capture_output=True, text=True)
        assert second.returncode == 2
        assert "is running here" in second.stderr
        assert first.wait(timeout=240) == 0
