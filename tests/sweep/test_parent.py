"""Sweeps as a user runs them: their start, their end, and what is printed about their best job."""

import csv
import io
import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.conftest import ROOT
from tests.sweep.job_holder import start_holder
from tunetrail import UserError
from tunetrail.sweep import parent
from tunetrail.sweep.state import Job
from tunetrail.tracking import mlflow_run, other_runs


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
    """Return the runs in the store, without deleted ones."""
    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    return client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])


def test_a_launcher_that_cannot_start_is_a_one_line_error_and_leaves_no_run(checkout, capsys):
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
        child = other_runs.child(checkout, parent, "seed=1", {"job.digest": "a"}).id
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
    with mlflow_run.run(checkout, "sweep-1", folder=checkout / "runs") as sweep_run:
        parent.record(sweep_run, checkout / "runs", jobs, frozenset())
    (run,) = recorded(checkout)
    return run


@pytest.mark.parametrize(("overrides", "shown"), [("", ""), ("seed=1 method=lora", ", seed=1 method=lora")])
def test_the_best_job_is_printed_with_its_overrides(checkout, capsys, overrides, shown):
    jobs = [job(0, overrides, "finished", score=0.794, low=0.7, high=0.9, started=1.0, ended=61.0, run="0123456789")]
    record(checkout, jobs)
    assert f"\nbest: 79.4 % of the prompts (strict){shown}: tunetrail show 01234567\n" in capsys.readouterr().out


def test_a_best_job_below_its_base_is_described_as_such_on_the_screen_in_the_record_and_in_the_figure(checkout, capsys):
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
