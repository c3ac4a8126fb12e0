import contextlib
import io
import os
import re
import shutil
import threading
import time
from pathlib import Path

import pytest

from tunetrail import events
from tunetrail.sweep import progress
from tunetrail.sweep.state import Job, Step
from tunetrail.training import history

OVERRIDES = ["method=lora", "train.learning_rate=0.001"]


def job(number, state, **fields):
    return Job(Path(f"{number:010x}.json"), number, OVERRIDES, state, **fields)


def test_a_line_says_state_stage_step_rate_and_time_left():
    going = job(3, "running", stage="train", step=Step(120, 504, 8.72))
    line = progress.line(going, 120)
    assert line == f"  3  running   {'train 120/504  8.7 it/s  0:44 left':<45}  method=lora train.learning_rate=0.001"
    assert progress.line(going, 80) == "  3  running   train 120/504  8.7 it/s  0:44 left    method=lora train.learning…"
    slow = job(3, "running", stage="train", step=Step(3, 27, 0.05))
    assert "train 3/27  20.0 s/it  8:00 left" in progress.line(slow, 120)
    hours = job(3, "running", stage="evaluate_tuned", step=Step(1, 541, 0.1))
    assert "evaluate_tuned 1/541  10.0 s/it  1:30:00 left  method=lora" in progress.line(hours, 120)
    assert "train 5  2.0 it/s  " in progress.line(job(3, "running", stage="train", step=Step(5, None, 2.0)), 120)
    assert progress.line(Job(Path("a.json"), 0, [], "running"), 120) == "  0  running   starting"


def test_a_line_says_how_a_job_ended():
    assert "finished  61.0 %  in 1:00:05" in progress.line(job(0, "finished", started=0.0, ended=3605.0, score=0.61), 120)
    # The times of a job that finished in an earlier call are of two calls.
    assert "skipped   61.0 %   " in progress.line(job(0, "skipped", started=0.0, ended=3605.0, score=0.61), 120)
    broken = job(0, "failed", stage="train", step=Step(7, 9, 1.0), why="ValueError: the loss is NaN")
    assert "failed    train 7/9: ValueError: the loss is NaN  " in progress.line(broken, 120)
    assert "waiting     " in progress.line(job(0, "waiting"), 120)


@pytest.mark.parametrize("width", [1, 20, 60, 80, 120, 300])
def test_no_line_is_wider_than_the_limit_and_a_long_reason_leaves_room_for_the_overrides(width):
    for state in ("running", "failed", "finished", "waiting"):
        assert len(progress.line(job(1, state, why="because " * 60), width)) <= width
    assert ("method=lora" in progress.line(job(1, "failed", why="because " * 60), width)) == (width >= 80)


def test_the_summary_counts_the_jobs_and_those_to_come():
    jobs = [
        job(0, "finished"),
        job(1, "finished"),
        job(2, "running"),
        job(3, "failed"),
        job(4, "waiting"),
        job(5, "waiting"),
    ]
    assert progress.summary(jobs, 6) == "6 jobs: 2 finished, 1 running, 1 failed, 2 waiting"
    assert progress.summary(jobs, 9) == "9 jobs: 2 finished, 1 running, 1 failed, 2 waiting, 3 to come"
    assert progress.summary(jobs) == "6 jobs so far: 2 finished, 1 running, 1 failed, 2 waiting"
    assert progress.summary(jobs[:1], 1) == "1 job: 1 finished"
    assert progress.summary([], 2) == "2 jobs: 2 to come"
    assert progress.summary([]) == "0 jobs so far"


def test_the_time_left_is_shown_if_it_can_be_estimated():
    now = time.time()
    ended = [job(n, "finished", started=now - 1000, ended=now - 1000 + seconds) for n, seconds in enumerate((500, 700))]
    going = [job(n, "running", started=now - 300) for n in (2, 3)]
    # Two at once, 300 s left of each and six of 600 s to come: 300 + 3 x 600.
    assert progress.summary([*ended, *going], 10).endswith("; about 35 min left")
    assert progress.summary([*ended, *going], 4).endswith("; about 5 min left")
    assert progress.summary([*ended, *going], 100).endswith("; about 8.1 h left")
    assert progress.summary([*ended, *going, job(4, "waiting")], 5).endswith("; about 15 min left")
    late = [job(2, "running", started=now - 6000)]
    for unknown in (progress.summary([*ended, *going]), progress.summary(going, 9), progress.summary(ended, 9)):
        assert "left" not in unknown
    assert "left" not in progress.summary([*ended, *late], 3)


class Sweep:
    """The folder of a sweep, as jobs write it."""

    def __init__(self, folder):
        self.folder = folder

    def state(self, number, state, **fields):
        file = self.folder / f"{number:010x}.json"
        Job(file, number, [f"seed={number}"], state, started=time.time() - 60, **fields).write()

    def event(self, number, stage, **fields):
        (self.folder / f"{number:010x}").mkdir(exist_ok=True)
        events.add(self.folder / f"{number:010x}", stage, **fields)

    def step(self, number, step):
        history.append(self.folder / f"{number:010x}" / "work" / "train" / "history.jsonl", step, time.time(), {"loss": 1.0})


@pytest.fixture
def sweep(tmp_path):
    return Sweep(tmp_path)


class Watching:
    """`watch` in a thread, as in a sweep; `text` returns what it wrote to stderr, `until` waits for a pattern in it."""

    def __init__(self, folder, screen, total=None):
        self.screen, self.text = screen
        self.stopped = threading.Event()
        self.errors = []
        self.thread = threading.Thread(target=self.watch, args=(folder, total))

    def watch(self, folder, total):
        try:
            with contextlib.redirect_stderr(self.screen):
                progress.watch(folder, self.stopped, total)
        except BaseException as error:
            self.errors.append(error)
            raise

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join(20)
        assert not self.thread.is_alive()
        assert not self.errors

    def until(self, pattern):
        deadline = time.monotonic() + 20
        while not re.search(pattern, self.text()):
            assert time.monotonic() < deadline, (pattern, self.text())
            time.sleep(0.01)


@pytest.fixture
def printed(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_READS", 0.02)
    return screen, screen.getvalue


def test_without_a_width_nothing_is_cut():
    broken = job(1, "failed", stage="train", why="because " * 60)
    assert progress.line(broken) == f"  1  failed    train: {'because ' * 60}  method=lora train.learning_rate=0.001"


def test_without_a_terminal_a_line_is_printed_when_a_state_or_stage_changes_and_none_twice(sweep, printed):
    with Watching(sweep.folder, printed, total=3) as watching:
        sweep.state(0, "waiting")
        watching.until("0  waiting")
        sweep.state(0, "running")
        watching.until("0  running   starting")
        sweep.event(0, "train", done=3, total=504, rate=8.7)
        watching.until("running   train ")
        for step in range(4, 10):
            sweep.step(0, step)
            time.sleep(0.03)
        sweep.state(1, "failed", why="the loss is NaN")
        watching.until("1  failed")
        sweep.state(0, "finished", ended=time.time(), score=0.61)
        watching.until("0  finished  61.0 %  in 1:00")
        sweep.state(2, "finished", score=0.5)  # read after the watch has stopped
    lines = watching.text().splitlines()
    assert sum("running   train" in line for line in lines) == 1
    assert [line.split()[:2] for line in lines[-4:-1]] == [["1", "failed"], ["0", "finished"], ["2", "finished"]]
    assert lines[-1] == "3 jobs: 2 finished, 1 failed"
    assert len(set(lines)) == len(lines)
    assert "\x1b" not in watching.text()


def test_a_running_job_has_a_line_at_intervals(sweep, printed, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.1)
    sweep.state(0, "running")
    sweep.state(1, "finished")
    with Watching(sweep.folder, printed) as watching:
        watching.until("starting")
        time.sleep(0.3)  # nothing new to print
        sweep.event(0, "train")
        for step in (4, 5):
            sweep.step(0, step)
            watching.until(f"train {step}")
    lines = watching.text().splitlines()
    assert len(set(lines)) == len(lines)
    assert watching.text().count("1  finished") == 1


def test_a_sweep_in_which_no_job_started_has_no_lines(sweep, printed):
    with Watching(sweep.folder, printed, total=3) as watching:
        time.sleep(0.1)
    assert watching.text() == ""


def test_broken_and_missing_files_do_not_end_the_watch(sweep, printed):
    with Watching(sweep.folder, printed) as watching:
        sweep.state(0, "running")
        watching.until("0  running")
        (sweep.folder / "0000000000.json").write_bytes(b'{"number"')
        (sweep.folder / "0000000000" / events.FILE).mkdir(parents=True)
        time.sleep(0.1)
        shutil.rmtree(sweep.folder)
        time.sleep(0.1)
    assert re.search(r"0  running .*\n1 job: 1 running\n$", watching.text())


@pytest.fixture
def terminal(monkeypatch):
    """Open a terminal of 100 columns and 12 lines; yield a file to write to and a function that returns the text."""
    main, end = os.openpty()
    written = bytearray()

    def collect():
        try:
            while received := os.read(main, 65536):
                written.extend(received)
        except OSError:  # the other end is closed
            pass

    reader = threading.Thread(target=collect)
    reader.start()
    for name, value in {"TERM": "xterm", "COLUMNS": "100", "LINES": "12"}.items():
        monkeypatch.setenv(name, value)
    with open(end, "w") as screen:
        monkeypatch.setattr(progress, "_SECONDS_BETWEEN_READS", 0.05)
        yield screen, written.decode
    reader.join(10)
    os.close(main)


def plain(text):
    return re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", text).replace("\r", "")


def test_on_a_terminal_the_lines_are_redrawn_and_the_last_state_stays(sweep, terminal):
    sweep.state(0, "running")
    sweep.event(0, "train", done=3, total=504, rate=8.7)
    sweep.step(0, 4)
    with Watching(sweep.folder, terminal, total=1) as watching:
        watching.until("train 4/504")
        sweep.step(0, 5)
        watching.until("train 5/504")
        sweep.state(0, "finished", score=0.5)
    deadline = time.monotonic() + 10
    while not plain(watching.text()).endswith("1 job: 1 finished\n") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "\x1b[1A" in watching.text()  # drawn over
    assert "\x1b[1A" in watching.text().split("1 job: 1 finished")[-2]  # the last frame too: each job stays once
    assert "\x1b[?25h" in watching.text()  # the cursor is back
    assert re.search(r"  0  finished  50.0 % +seed=0\n1 job: 1 finished\n$", plain(watching.text()))


def test_of_more_jobs_than_fit_running_and_failed_ones_come_first_and_the_rest_are_counted(sweep, terminal):
    for number in range(40):
        sweep.state(number, "finished", ended=1000.0 + number, score=0.5)
    for number, state in ((3, "failed"), (20, "running"), (50, "waiting")):
        sweep.state(number, state)
    with Watching(sweep.folder, terminal) as watching:
        watching.until("jobs so far")
        drawn = plain(watching.text()).splitlines()
    heads = [int(line.split()[0]) for line in drawn if re.match(r" +\d+  \w", line)]
    assert heads[:9] == [3, 20, 33, 34, 35, 36, 37, 38, 39]
    assert "     and 32 more: 31 finished, 1 waiting" in drawn
    assert len(plain(watching.text()).partition("so far")[0].splitlines()) <= 12
