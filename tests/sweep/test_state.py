import json
import os
import threading
import time

import pytest
import yaml

from tests.conftest import ROOT
from tunetrail.checkout import workspace
from tunetrail.sweep import state
from tunetrail.sweep.state import Step
from tunetrail.training import history

SCREEN = """run 0123: demo, tracked in sqlite:///mlflow.db
Stage 'fetch' didn't change, skipping
Stage 'base' is cached - skipping run, checking out outputs
Running stage 'train':
> python -m tunetrail.stages.train
train, Tokenizing Prompts (num_proc=1): 949/949, 00:10 gone, 00:00 left, 1614.73 examples/s
"""


@pytest.fixture
def job(tmp_path):
    """Write one job's state, screen and logged steps; what `read` makes of them."""

    def write(screen="", logged=(), name="0123456789", **held):
        content = {"number": 0, "overrides": ["a=1"], "state": "running", "run": "r", "started": time.time() - 60} | held
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
        (tmp_path / f"{name}.log").write_bytes(screen.encode() if isinstance(screen, str) else screen)
        file = tmp_path / name / "work" / "train" / "history.jsonl"
        for step, at in logged:
            history.append(file, step, at, {"loss": 1.0})
        return next((found for found in state.read(tmp_path) if found.name == name), None)

    return write


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


def test_the_stage_is_the_last_that_dvc_named(job):
    assert job().stage == ""
    assert job("".join(SCREEN.splitlines(keepends=True)[:2])).stage == "fetch, cached"
    assert job("".join(SCREEN.splitlines(keepends=True)[:3])).stage == "base, cached"
    assert (job(SCREEN).stage, job(SCREEN).step) == ("train", None)
    assert job(SCREEN + "Running stage 'evaluate_tuned':\n").stage == "evaluate_tuned"
    assert job(SCREEN, state="finished").stage == ""


def test_a_stage_that_is_done_is_not_told_of_again_after_a_later_one(job):
    """DVC is called for each stage that jobs share, then for all, and names those before it each time."""
    done = "".join(f"Stage '{stage}' didn't change, skipping\n" for stage in ("fetch", "prepare"))
    assert job("Running stage 'base':\n" + done).stage == "base"
    assert (
        job("Running stage 'evaluate_base':\n" + done + "Stage 'base' is cached - skipping run\n").stage == "evaluate_base"
    )
    assert job("evaluate_base: 3/9, 1:00:36 gone, 00:21 left, 8.00s/it\n" + done).stage == "evaluate_base"  # all of the tail
    waits = "Stage 'base' is cached\ncontract: waits for another job that runs it\n"
    assert job(waits + done).stage == "contract, waits for another job"
    assert job(waits + done + "Stage 'contract' is cached - skipping run\n").stage == "contract, cached"
    assert job(waits + "Running stage 'contract':\n").stage == "contract"
    assert job("Running stage 'base':\nRunning stage 'mine':\n" + done).stage == "mine"


def test_what_an_earlier_try_came_to_says_nothing_of_this_one(job):
    again = SCREEN + "train: 320/504, 00:36 gone, 00:21 left, 8.00it/s\n" + SCREEN.splitlines()[0] + "\n"
    assert (job(again).stage, job(again).step) == ("", None)
    assert job(again + "Stage 'fetch' didn't change, skipping\n").stage == "fetch, cached"


def test_the_stages_are_known_in_the_order_of_dvc_yaml():
    assert tuple(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]) == state.STAGES


def test_a_job_that_waits_for_another_says_so(job, tmp_path, capsys):
    def second():
        with workspace.wait_for_lock(tmp_path / "turn", "contract"):
            pass

    with workspace.wait_for_lock(tmp_path / "turn"):
        waits = threading.Thread(target=second)
        waits.start()
        time.sleep(0.3)
    waits.join()
    assert job(SCREEN + capsys.readouterr().out).stage == "contract, waits for another job"


def test_the_step_is_that_of_the_stages_own_bar(job):
    bar = "train: 320/504, 00:36 gone, 00:21 left, 8.00it/s\n"
    assert job(SCREEN + bar).step == Step(320, 504, 8.0)
    assert job(SCREEN + bar).step.left == 23
    validation = "train: 31/63, 00:20 gone, 00:20 left, 1.50it/s\n"
    assert job(SCREEN + bar + validation).step == Step(320, 504, 8.0)
    slow = "train: 3/27, 1:00:06 gone, 8:00:00 left, 20.00s/it\n"
    assert job(SCREEN + bar + slow).step == Step(3, 27, 0.05)
    assert job(SCREEN + bar + "Running stage 'evaluate_tuned':\n").step is None
    asked = "evaluate_tuned, Running generate_until requests: 257/540, 00:23 gone, 00:17 left, 16.46it/s\n"
    assert job(SCREEN + bar + asked).step == Step(257, 540, 16.46)
    assert job(SCREEN + "train: 320/504, 00:36 gone, 00:21 le").step is None
    assert job(SCREEN + "train: 1/504, 00:36 gone, 00:21 left, 0.00s/it\n").step == Step(1, 504, None)


def test_while_it_trains_the_history_is_nearer_than_the_log(job):
    now = time.time()
    old = [(400, now - 3600)]
    steps = [(330, now - 20), (340, now - 15), (350, now - 10)]
    bar = "train: 320/504, 00:36 gone, 00:21 left, 8.00it/s\n"
    assert job(SCREEN + bar, old).step == Step(320, 504, 8.0)
    found = job(SCREEN + bar, steps)
    assert (found.step.done, found.step.total) == (350, 504)
    assert found.step.rate == pytest.approx(2, rel=1e-3)
    assert job(SCREEN + bar.replace("320", "400")).step == Step(400, 504, 8.0)
    assert job(SCREEN, name="aaaaaaaaaa", logged=steps).step.total is None
    assert job(SCREEN + bar + "Running stage 'evaluate_tuned':\n").step is None


def test_a_torn_history_gives_the_lines_that_are_whole(tmp_path, job):
    job(SCREEN, [(5, time.time())])
    with (tmp_path / "0123456789" / "work" / "train" / "history.jsonl").open("ab") as file:
        file.write(b'{"step": 1e999, "time": 9e99}\n[]\n{"step": 2}\n\xff\n{"step": 10, "ti')
    (found,) = state.read(tmp_path)
    assert found.step.done == 5


def test_a_log_of_carriage_returns_and_broken_letters_is_read(job):
    screen = SCREEN.encode() + b"\xff\xfe half a letter\rtrain: 7/9, 00:36 gone, 00:21 left, 8.00it/s\r\n\x00\n"
    assert job(screen).step == Step(7, 9, 8.0)
    assert job(b"9" * 100 + b"/" + b"9" * 5000 + b"\n").step is None


def test_the_log_of_an_earlier_attempt_says_nothing(tmp_path, job):
    job(SCREEN)
    os.utime(tmp_path / "0123456789.log", (1.0, 1.0))
    (found,) = state.read(tmp_path)
    assert (found.state, found.stage) == ("running", "")


def test_the_end_of_a_large_log_is_read_in_no_time(tmp_path, job):
    job("")
    with (tmp_path / "0123456789.log").open("wb") as file:
        file.seek(20_000_000_000)  # a file with a hole
        file.write(("\n" + "word " * 3_000 + "\n" + SCREEN + "train: 7/9, 00:36 gone, 00:21 left, 8.00it/s\n").encode())
    started = time.process_time()  # whatever else the machine does
    (found,) = state.read(tmp_path)
    assert time.process_time() - started < 1
    assert found.step == Step(7, 9, 8.0)
