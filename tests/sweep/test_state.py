import dataclasses
import json
import time

import pytest

from tunetrail import events
from tunetrail.sweep import state
from tunetrail.sweep.state import Step
from tunetrail.training import history


@pytest.fixture
def job(tmp_path):
    """Write one job's state, events and logged steps; return the job that `read` makes of them."""

    def write(*stages, logged=(), name="0123456789", **fields):
        fields = {"number": 0, "overrides": ["a=1"], "state": "running", "run": "r", "started": time.time() - 60} | fields
        (tmp_path / f"{name}.json").write_text(json.dumps(fields))
        (tmp_path / name / events.FILE).unlink(missing_ok=True)
        for event in stages:
            events.add(tmp_path / name, **event)
        file = tmp_path / name / "work" / "train" / "history.jsonl"
        for step, at in logged:
            history.append(file, step, at, {"loss": 1.0})
        return next(job for job in state.read(tmp_path) if job.name == name)

    (tmp_path / "0123456789").mkdir()
    return write


TRAIN = {"stage": "train"}
STEP = TRAIN | {"done": 320, "total": 504, "rate": 8.0}


def test_a_job_is_read_as_it_was_written(tmp_path):
    base = {"value": 0.1, "low": 0.0, "high": 0.2}
    figures = {"started": 10.0, "ended": 70.5, "score": 0.61, "low": 0.5, "high": 0.7, "loss": 1.5, "base": base}
    job = state.Job(tmp_path / "bbbbbbbbbb.json", 2, ["+a=1", "b=x=y"], "finished", run="r", **figures)
    job.write()
    assert [file.name for file in tmp_path.iterdir()] == ["bbbbbbbbbb.json"]
    (read,) = state.read(tmp_path)
    assert read == dataclasses.replace(job, written=read.written)
    assert read.written > 0
    assert (read.seconds, read.params) == (60.5, {"a": "1", "b": "x=y"})


def test_jobs_are_in_the_order_of_their_numbers(tmp_path, job):
    job(number=10, name="aaaaaaaaaa")
    job(number=2, name="bbbbbbbbbb")
    assert [job.number for job in state.read(tmp_path)] == [2, 10]


def test_files_that_hold_no_jobs_state_are_left_out(tmp_path, job):
    job()
    for name, text in {
        "0000000000.json": '{"number": 1, "overri',
        "0000000001.json": "[1, 2]",
        "0000000002.json": '{"number": 1, "overrides": [], "state": "dancing"}',
        "0000000003.json": '{"number": "one", "overrides": [], "state": "running"}',
        "0000000004.json": '{"number": 1, "overrides": null, "state": "running"}',
        "0000000005.json": '{"number": 1, "overrides": "a=1", "state": "running"}',
        "0000000006.json": "[" * 100_000,
        "results.json": '{"number": 1, "overrides": [], "state": "running"}',
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "0000000007.json").write_bytes(b"\xff\xfe{}")
    (tmp_path / "0000000008.json").mkdir()
    (tmp_path / "0000000009.json").symlink_to(tmp_path / "gone")
    assert [job.name for job in state.read(tmp_path)] == ["0123456789"]
    assert state.read(tmp_path / "gone") == []


def test_values_that_are_not_numbers_are_none_and_text_has_no_control_characters(job):
    read = job(
        state="failed", started="soon", ended=float("nan"), score=10**400, why="loss\x1b[2J is\nNaN", overrides=["a=\r1"]
    )
    assert (read.started, read.ended, read.score, read.seconds) == (None, None, None, None)
    assert (read.why, read.overrides) == ("loss [2J is NaN", ["a= 1"])


def test_the_stage_is_that_of_the_newest_event(job):
    assert job().stage == ""
    assert (job({"stage": "base"}, TRAIN).stage, job(TRAIN).step) == ("train", None)
    assert (job(STEP).stage, job(STEP).step) == ("train", Step(320, 504, 8.0))
    assert job(STEP).step.left == 23
    assert job(STEP | {"rate": None}).step == Step(320, 504, None)
    assert (job(STEP, {"stage": "report"}).stage, job(STEP, {"stage": "report"}).step) == ("report", None)
    assert job({"stage": "contract", "waiting": True}).stage == "contract, waits for another job"
    assert job({"stage": "contract", "waiting": True}, {"stage": "train"}).stage == "train"
    assert job(STEP, state="finished").stage == ""


def test_events_of_an_earlier_attempt_do_not_count(job):
    assert (job(STEP, started=time.time() + 5).stage, job(STEP, started=time.time() + 5).step) == ("", None)
    read = job(STEP, {"stage": "report"}, started=time.time() + 5)
    assert (read.state, read.stage) == ("running", "")


def test_the_history_of_the_training_is_newer_than_its_events(job):
    now = time.time()
    old = [(400, now - 3600)]
    steps = [(330, now - 20), (340, now - 15), (350, now - 10)]
    assert job(STEP, logged=old).step == Step(320, 504, 8.0)
    read = job(STEP, logged=steps)
    assert (read.step.done, read.step.total) == (350, 504)
    assert read.step.rate == pytest.approx(2, rel=1e-3)
    assert job(STEP | {"done": 400}).step == Step(400, 504, 8.0)
    assert job(STEP, {"stage": "evaluate_tuned"}).step is None


def test_broken_lines_of_a_history_are_ignored(tmp_path, job):
    job(TRAIN, logged=[(5, time.time())])
    with (tmp_path / "0123456789" / "work" / "train" / "history.jsonl").open("ab") as file:
        file.write(b'{"step": 1e999, "time": 9e99}\n[]\n{"step": 2}\n\xff\n{"step": 10, "ti')
    (read,) = state.read(tmp_path)
    assert read.step.done == 5


def test_broken_events_are_ignored(tmp_path, job):
    job(STEP)
    with (tmp_path / "0123456789" / events.FILE).open("ab") as file:
        file.write(b'[]\n{"stage": "x"}\n{"stage": "x", "time": 9e99, "done": "many", "total": 1}\n\xff\n{"stage": "repo')
    (read,) = state.read(tmp_path)
    assert (read.stage, read.step) == ("train", Step(320, 504, 8.0))


def test_only_the_end_of_a_large_file_is_read(tmp_path, job):
    job(STEP)
    file = tmp_path / "0123456789" / events.FILE
    line = file.read_bytes()
    with file.open("wb") as stream:
        stream.seek(20_000_000_000)  # a sparse file
        stream.write(b"\n" + b"word " * 800 + b"\n" + line)
    started = time.process_time()  # not wall time: the machine may be busy
    (read,) = state.read(tmp_path)
    assert time.process_time() - started < 1
    assert read.step == Step(320, 504, 8.0)
