"""How a job's end is recorded."""

import json
from datetime import datetime

import pytest

from tunetrail import UserError, launch
from tunetrail.checkout import locks
from tunetrail.sweep import outcome
from tunetrail.sweep.state import Job
from tunetrail.tracking import mlflow_run, other_runs, store

ELASTIC = """
E1122 10:00:00.000000 77 torch/distributed/elastic/multiprocessing/api.py:984] failed (exitcode: 1) local_rank: 0 (pid: 9)
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
Root Cause (first observed failure):
  exitcode  : 1 (pid: 9)
  error_file: <N/A>
"""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "Running stage 'train':\ntrain: 3/9, 00:36 gone\nerror: train failed with code 1. The end of log:\n"
            "Traceback (most recent call last):\n  File 'x.py', line 1, in f\n    raise KeyError\nKeyError: 'inner'\n\n"
            "During handling of the above exception, another exception occurred:\n\n  File 'y.py', line 1\n"
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB\n"
            "ERROR: failed to reproduce 'train': failed to run: python -m tunetrail.stages.train, exited with 2\n"
            "error: a stage failed\n",
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
        ),
        (
            "error: rows.jsonl: no such file\nERROR: failed to reproduce 'fetch'\nerror: a stage failed: above\n",
            "rows.jsonl: no such file",
        ),
        ("[rank1]: Traceback (most recent call last):\n[rank1]: ValueError: of one rank\n", "ValueError: of one rank"),
        ("[rank0]:   File 'x'\n[rank0]: tunetrail.UserError: dotted\n" + ELASTIC, "tunetrail.UserError: dotted"),
        ("    raise ValueError('in a line of code: no reason')\nerror: the reason\n", "the reason"),
        ("Traceback (most recent call last):\n  File 'x'\nAssertionError\nerror: a stage failed\n", "AssertionError"),
        ("no error here\n", "it ended without an error message"),
        ("", "it ended without an error message"),
    ],
)
def test_why_a_run_failed_is_its_last_exception_or_its_first_error(tmp_path, text, reason):
    log = tmp_path / "job.log"
    log.write_text(text)
    assert outcome.why(log, 0) == f"{reason} (whole log: {log})"


def test_what_an_earlier_attempt_printed_is_not_the_reason(tmp_path):
    log = tmp_path / "job.log"
    log.write_text("ValueError: of the first attempt, with größe\n")
    start = log.stat().st_size
    assert "without an error message" in outcome.why(log, start)
    with log.open("ab") as file:
        file.write(b"\xff\xfe\nerror: of the second\n")
    assert outcome.why(log, start).startswith("of the second (")


def test_a_long_reason_is_cut(tmp_path):
    (tmp_path / "job.log").write_text("ValueError: " + "x" * 9000)
    assert len(outcome.why(tmp_path / "job.log", 0)) < 700


@pytest.mark.stage
def test_the_reason_is_the_trainers_exception_and_not_its_launchers(tmp_path):
    """accelerate raises an exception of its own after the trainer's."""
    script, log = tmp_path / "train.py", tmp_path / "job.log"
    script.write_text("raise MemoryError('of the trainer')")
    with pytest.raises(UserError) as error:
        launch.accelerate_launch([str(script)], {"cpu": True, "num_processes": 1}, tmp_path / "train.log", "train", True)
    log.write_text(f"error: {error.value}\nERROR: failed to reproduce 'train'\nerror: a stage failed\n")
    assert outcome.why(log, 0).startswith("MemoryError: of the trainer (")


def ended(tmp_path, error=None, state="running"):
    """Return what is written for a job that ends with `error`."""
    job = Job(tmp_path / "job.json", 0, [], state)
    with outcome.record(job, tmp_path):
        if error:
            raise error
    return json.loads(job.file.read_text())


def test_a_failure_is_written_and_not_raised(tmp_path):
    assert ended(tmp_path)["state"] == "finished"
    assert ended(tmp_path, state="skipped")["state"] == "skipped"
    failed = ended(tmp_path, UserError("the reason"))
    assert (failed["state"], failed["why"]) == ("failed", "the reason")
    assert failed["ended"] > 0
    assert not (tmp_path / "job.log").exists()


def test_an_unexpected_exception_leaves_its_traceback_in_the_log(tmp_path):
    failed = ended(tmp_path, KeyError("key"))
    assert (failed["state"], failed["why"]) == ("failed", "KeyError: 'key'")
    assert "Traceback" in (tmp_path / "job.log").read_text()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_signal_ends_the_sweep(tmp_path, error):
    with pytest.raises(error):
        ended(tmp_path, error())
    assert json.loads((tmp_path / "job.json").read_text())["state"] == "stopped"


def test_a_skipped_job_takes_over_the_scores_and_times_of_its_run(root):
    score = {"value": 0.5, "low": 0.4, "high": 0.6}
    base = {"value": 0.125, "low": 0.05, "high": 0.25}
    metrics = {
        "ifeval": {"base": {"prompt_strict": base}, "tuned": {"prompt_strict": score}},
        "train": {"validation_loss": 1.5},
    }
    (root / "report").mkdir()
    (root / "report" / "metrics.json").write_text(json.dumps(metrics))
    with mlflow_run.run(root, "demo") as run:
        run.artifacts(root, "report")
    child = store.find(root, run.id)
    job = Job(root / "job.json", 4, ["a=1"], started=9000.0)
    outcome.take_over(job, child, root)
    assert (job.number, job.state, job.score, job.low, job.high) == (4, "skipped", 0.5, 0.4, 0.6)
    assert (job.loss, job.base) == (1.5, base)
    assert (job.started, job.ended) == (
        datetime.fromisoformat(child.started).timestamp(),
        datetime.fromisoformat(child.ended).timestamp(),
    )


def test_the_run_of_a_failed_job_is_closed_unless_another_process_still_writes_it(root):
    parent = other_runs.create(root, "sweep", {})
    for error, status in ((locks.Busy(root, "1", ""), "RUNNING"), (UserError("bad"), "FAILED")):
        child = other_runs.child(root, parent, "one", {"job.digest": status})
        job = Job(root / "job.json", 0, [], "running", run=child.id)
        with outcome.record(job, root):
            raise error
        assert store.find(root, child.id).status == status
        assert job.state == "failed"
