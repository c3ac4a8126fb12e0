import json
import os
import time

import pytest

from tunetrail import events
from tunetrail.sweep import state
from tunetrail.sweep.state import Step
from tunetrail.training import history


@pytest.fixture
def job(tmp_path):
    """Write one job's state, events and logged steps; what `read` makes of them."""

    def write(*given, logged=(), name="0123456789", **held):
        content = {"number": 0, "overrides": ["a=1"], "state": "running", "run": "r", "started": time.time() - 60} | held
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
        (tmp_path / name / events.FILE).unlink(missing_ok=True)
        for event in given:
            events.add(tmp_path / name, **event)
        file = tmp_path / name / "work" / "train" / "history.jsonl"
        for step, at in logged:
            history.append(file, step, at, {"loss": 1.0})
        return next((found for found in state.read(tmp_path) if found.name == name), None)

    (tmp_path / "0123456789").mkdir()
    return write


TRAIN = {"stage": "train"}
STEP = TRAIN | {"done": 320, "total": 504, "rate": 8.0}


def test_jobs_come_by_number_with_what_their_files_hold(tmp_path, job):
    job(number=10, name="aaaaaaaaaa")
    found = job(number=2, name="bbbbbbbbbb", state="finished", started=10.0, ended=70.5, score=0.61, low=0.5, high=0.7)
    assert [one.number for one in state.read(tmp_path)] == [2, 10]
    assert (found.overrides, found.run, found.score, found.low, found.high) == (("a=1",), "r", 0.61, 0.5, 0.7)
    assert found.seconds == 60.5


def test_what_is_no_jobs_state_is_left_out(tmp_path, job):
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
    assert [one.name for one in state.read(tmp_path)] == ["0123456789"]
    assert state.read(tmp_path / "gone") == []


def test_values_that_are_no_numbers_are_none_and_text_cannot_move_the_cursor(job):
    found = job(
        state="failed", started="soon", ended=float("nan"), score=10**400, why="loss\x1b[2J is\nNaN", overrides=["a=\r1"]
    )
    assert (found.started, found.ended, found.score, found.seconds) == (None, None, None, None)
    assert (found.why, found.overrides) == ("loss [2J is NaN", ("a= 1",))


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


def test_what_an_earlier_attempt_came_to_says_nothing_of_this_one(tmp_path, job):
    assert (job(STEP, started=time.time() + 5).stage, job(STEP, started=time.time() + 5).step) == ("", None)
    job(STEP)
    os.utime(tmp_path / "0123456789" / events.FILE, (1.0, 1.0))
    (found,) = state.read(tmp_path)
    assert (found.state, found.stage) == ("running", "")


def test_while_it_trains_the_history_is_nearer_than_the_events(job):
    now = time.time()
    old = [(400, now - 3600)]
    steps = [(330, now - 20), (340, now - 15), (350, now - 10)]
    assert job(STEP, logged=old).step == Step(320, 504, 8.0)
    found = job(STEP, logged=steps)
    assert (found.step.done, found.step.total) == (350, 504)
    assert found.step.rate == pytest.approx(2, rel=1e-3)
    assert job(STEP | {"done": 400}).step == Step(400, 504, 8.0)
    assert job(STEP, {"stage": "evaluate_tuned"}).step is None


def test_a_torn_history_gives_the_lines_that_are_whole(tmp_path, job):
    job(TRAIN, logged=[(5, time.time())])
    with (tmp_path / "0123456789" / "work" / "train" / "history.jsonl").open("ab") as file:
        file.write(b'{"step": 1e999, "time": 9e99}\n[]\n{"step": 2}\n\xff\n{"step": 10, "ti')
    (found,) = state.read(tmp_path)
    assert found.step.done == 5


def test_events_that_are_no_events_are_passed_over(tmp_path, job):
    job(STEP)
    with (tmp_path / "0123456789" / events.FILE).open("ab") as file:
        file.write(b'[]\n{"stage": "x"}\n{"stage": "x", "time": 9e99, "done": "many", "total": 1}\n\xff\n{"stage": "repo')
    (found,) = state.read(tmp_path)
    assert (found.stage, found.step) == ("train", Step(320, 504, 8.0))


def test_the_end_of_a_large_file_is_read_in_no_time(tmp_path, job):
    job(STEP)
    file = tmp_path / "0123456789" / events.FILE
    line = file.read_bytes()
    with file.open("wb") as stream:
        stream.seek(20_000_000_000)  # a file with a hole
        stream.write(b"\n" + b"word " * 800 + b"\n" + line)
    started = time.process_time()  # whatever else the machine does
    (found,) = state.read(tmp_path)
    assert time.process_time() - started < 1
    assert found.step == Step(320, 504, 8.0)
