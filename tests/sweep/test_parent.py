"""A sweep as a person runs it, really trained, in a clone of its own: two jobs at a time, one of which cannot learn."""

import csv
import io
import json
import shutil
import signal
import subprocess
import sys
import time

import pytest
from mlflow import MlflowClient

from tests.conftest import ROOT
from tunetrail import UserError
from tunetrail.sweep import parent
from tunetrail.sweep.state import Job, State
from tunetrail.tracking import mlflow_run


def job(number, overrides, state, **figures):
    return Job(f"{number:010x}", number, tuple(overrides.split()), state, **figures)


def test_the_table_of_a_sweep_has_a_column_for_each_key_that_varies():
    jobs = [
        job(
            0, "method=full +train.max_steps=5", "finished", score=0.5, low=0.4, high=0.6, started=1.0, ended=61.4, run="ab"
        ),
        job(1, "method=lora", "failed", why="out, of memory"),
    ]
    one, two = csv.DictReader(io.StringIO(parent.table(jobs)))
    assert (one["method"], one["train.max_steps"], one["prompt_strict"], one["seconds"]) == ("full", "5", "0.5", "60")
    assert (two["method"], two["train.max_steps"], two["prompt_strict"], two["why"]) == ("lora", "", "", "out, of memory")


@pytest.fixture
def checkout(root):
    """A checkout with this conf/ and a store, in which sweeps are begun of which nothing is trained."""
    shutil.copytree(ROOT / "conf", root / "conf")
    shutil.copy(ROOT / "dvc.yaml", root)
    (root / ".gitignore").write_text("/work/\n/runs/\n/mlflow.db\n/mlartifacts/\n")
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "start"]):
        subprocess.run(["git", *words], cwd=root, check=True)
    return root


def recorded(root):
    """The runs in the store, deleted ones left out."""
    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    return client.search_runs([one.experiment_id for one in client.search_experiments()])


def test_a_launcher_that_cannot_launch_is_an_error_of_one_line_and_leaves_nothing(checkout, capsys):
    def launch(place, job):
        raise RuntimeError("the queue is closed.")

    with pytest.raises(UserError) as error:
        parent.run(checkout, ["seed=1,2"], launch)
    said = "no job started: RuntimeError: the queue is closed. Fix hydra.sweeper or hydra.launcher, which the options"
    assert str(error.value).startswith(said)
    assert list((checkout / "runs").iterdir()) == []
    assert recorded(checkout) == []
    assert capsys.readouterr().err == ""


HOLDER = """
import pathlib, sys, time
from tunetrail.checkout import locks
with locks.exclusive_lock(pathlib.Path(sys.argv[1]), "work/job.lock"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("error", [SystemExit(143), SystemExit(130), KeyboardInterrupt()], ids=repr)
def test_a_sweep_that_is_stopped_ends_the_jobs_whose_launcher_died_first_and_says_how_to_go_on(checkout, capsys, error):
    """A signal to a whole process group takes joblib's processes, whose jobs have groups of their own."""
    begun = []

    def interrupted(place, job):
        folder = checkout / place
        parent = next(one.info.run_id for one in recorded(checkout))
        child = mlflow_run.child(checkout, parent, "seed=1", {"job.digest": "a"}).info.run_id
        (folder / "aaaaaaaaaa" / "work").mkdir(parents=True)
        State(0, ["seed=1"], "running", run=child, started=time.time()).write(folder / "aaaaaaaaaa.json")
        words = [sys.executable, "-c", HOLDER, str(folder / "aaaaaaaaaa")]
        begun.append(subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True))
        assert begun[0].stdout.readline() == b"held\n"
        raise error

    with pytest.raises(type(error)):
        parent.run(checkout, ["seed=1,2"], interrupted)
    begun[0].stdout.close()
    assert begun[0].wait(timeout=10) == -signal.SIGTERM
    assert {one.info.status for one in recorded(checkout)} == {"KILLED"}
    (state,) = [file.read_text() for file in (checkout / "runs").glob("*/*.json")]
    assert json.loads(state)["state"] == "stopped"
    assert capsys.readouterr().err.endswith("2 jobs: 1 stopped, 1 to come\nThe same command goes on with them.\n")


@pytest.mark.parametrize(("overrides", "told"), [("", ""), ("seed=1 method=lora", ", seed=1 method=lora")])
def test_the_best_job_is_told_with_what_it_overrides_if_it_does(checkout, capsys, overrides, told):
    done = job(0, overrides, "finished", score=0.794, low=0.7, high=0.9, started=1.0, ended=61.0, run="0123456789")
    with mlflow_run.run(checkout, "sweep-1", place=checkout / "runs") as sweep_run:
        (checkout / "runs").mkdir()
        parent._record(sweep_run, checkout / "runs", [done], frozenset())
    assert f"\nbest: 79.4 % of the prompts (strict){told}: tunetrail show 01234567\n" in capsys.readouterr().out


def test_a_best_job_below_its_base_is_told_so_on_the_screen_in_the_description_and_in_the_figure(checkout, capsys):
    base = {"value": 0.081, "low": 0.05, "high": 0.12}
    done = [
        job(number, f"seed={number}", "finished", score=share, low=0.0, high=0.1, base=base, run=f"{number}" * 10)
        for number, share in ((1, 0.006), (2, 0.0))
    ]
    with mlflow_run.run(checkout, "sweep-1", place=checkout / "runs") as sweep_run:
        (checkout / "runs").mkdir()
        parent._record(sweep_run, checkout / "runs", done, frozenset())
    line = "best: 0.6 % of the prompts (strict), below its base (8.1 %), seed=1"
    assert f"\n{line}: tunetrail show 11111111\n" in capsys.readouterr().out
    (kept,) = recorded(checkout)
    assert kept.data.tags["mlflow.note.content"] == f"{line}: run `1111111111`"
    figure = (checkout / "runs" / "scores.svg").read_text()
    assert "best: 0.6 %, below its base (8.1 %), seed=1" in figure


def test_of_equal_jobs_the_one_with_the_lower_validation_loss_is_the_best(checkout, capsys):
    jobs = [
        job(number, f"seed={number}", "finished", score=0.5, low=0.4, high=0.6, loss=loss, run=f"{number}" * 10)
        for number, loss in enumerate((1.5, 1.25, 1.75))
    ]
    with mlflow_run.run(checkout, "sweep-1", place=checkout / "runs") as sweep_run:
        (checkout / "runs").mkdir()
        parent._record(sweep_run, checkout / "runs", jobs, frozenset())
    assert "\nbest of 3 equal: 50.0 % of the prompts (strict), seed=1: tunetrail show 11111111\n" in capsys.readouterr().out
