"""A job's small parts; a whole sweep is test_end_to_end's."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tunetrail import UserError, launch
from tunetrail.checkout import git, locks
from tunetrail.sweep import job, state
from tunetrail.sweep.state import State
from tunetrail.tracking import mlflow_run, store

VALUES = {
    "name": "demo",
    "prepare": {"path": "rows.jsonl"},
    "evaluate": {"path": "conf/evaluate/ifeval.yaml"},
    "base": {"path": "models/mine", "base_model": "models/mine"},
    "train": {"base_model": "models/mine", "learning_rate": 1e-3},
}


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """A sweep of a checkout with the files that VALUES names."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("rows")
    (tmp_path / "models" / "mine").mkdir(parents=True)
    (tmp_path / "models" / "mine" / "weights").write_text("weights")
    code = git.Code("commit", tmp_path / "changes.patch", "digest")
    return job.Sweep(tmp_path, tmp_path / "runs" / "sweep-1", "parent", code, frozenset(), None)


def changed(sweep, **fields):
    code = git.Code(**{"commit": "commit", "patch": sweep.code.patch, "digest": "digest"} | fields)
    return job.Sweep(sweep.root, sweep.folder, sweep.parent, code, sweep.constant, sweep.total)


def test_the_same_parameters_over_the_same_code_and_files_are_the_same_job(sweep):
    key = job.digest(VALUES, sweep)
    assert re.fullmatch("[0-9a-f]{64}", key)
    assert job.digest(json.loads(json.dumps(VALUES)), sweep) == key
    assert job.digest(dict(reversed(VALUES.items())), sweep) == key
    assert job.digest(VALUES, changed(sweep, commit="another, with the same code")) == key


def test_other_parameters_code_or_files_are_another_job(sweep):
    keys = [job.digest(VALUES, sweep)]
    keys.append(job.digest(VALUES | {"train": VALUES["train"] | {"learning_rate": 2e-3}}, sweep))
    keys.append(job.digest(VALUES, changed(sweep, digest="another")))
    Path("rows.jsonl").write_text("more rows")
    keys.append(job.digest(VALUES, sweep))
    Path("models/mine/weights").write_text("other weights")
    keys.append(job.digest(VALUES, sweep))
    Path("models/mine/more").touch()
    keys.append(job.digest(VALUES, sweep))
    Path("models/mine/weights").unlink()
    keys.append(job.digest(VALUES, sweep))
    Path("data").mkdir()
    for text in ("a", "bc"):
        Path("data/mine.jsonl").write_text(text)
        keys.append(job.digest(VALUES | {"prepare": {"path": "data/mine.jsonl"}}, sweep))
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("place", ["outputs/base/model", "./outputs/base/model", "data/prepared", "conf", "src"])
def test_what_the_stages_make_and_what_the_codes_digest_has_does_not_count(sweep, place):
    values = VALUES | {"base": {"path": place, "base_model": place}}
    key = job.digest(values, sweep)
    Path(place).mkdir(parents=True)
    (Path(place) / "weights").write_text("weights")
    assert job.digest(values, sweep) == key


@pytest.mark.parametrize("nothing", [None, ""])
def test_a_path_that_is_not_given_names_no_file(sweep, nothing):
    """Not the whole checkout, in which the store of runs changes all the time."""
    values = VALUES | {"base": {"path": nothing, "base_model": "org/name"}}
    key = job.digest(values, sweep)
    Path("mlflow.db").write_text("another run")
    assert job.digest(values, sweep) == key


def test_what_cannot_be_resolved_is_known_by_its_overrides(sweep):
    key = job.digest({"overrides": ["a=1"]}, sweep)
    Path("mlflow.db").write_text("another run")
    assert job.digest({"overrides": ["a=1"]}, sweep) == key
    assert job.digest({"overrides": ["a=2"]}, sweep) != key


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
            "error: a stage failed: what it said is above.\n",
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
        ("all went well, but for the exit code\n", "it ended without a word"),
        ("", "it ended without a word"),
    ],
)
def test_why_a_run_failed_is_its_last_exception_or_its_first_error(tmp_path, text, reason):
    log = tmp_path / "job.log"
    log.write_text(text)
    assert job.why(log, 0) == f"{reason} (all of it: {log})"


def test_what_an_earlier_try_printed_is_no_reason(tmp_path):
    log = tmp_path / "job.log"
    log.write_text("ValueError: of the first try, with größe\n")
    start = log.stat().st_size
    assert "without a word" in job.why(log, start)
    with log.open("ab") as file:
        file.write(b"\xff\xfe\nerror: of the second\n")
    assert job.why(log, start).startswith("of the second (")


def test_a_page_long_reason_is_cut(tmp_path):
    (tmp_path / "job.log").write_text("ValueError: " + "x" * 9000)
    assert len(job.why(tmp_path / "job.log", 0)) < 700


@pytest.mark.stage
def test_the_reason_is_the_trainers_and_not_that_of_the_tool_which_launched_it(tmp_path):
    """accelerate ends with an exception of its own after the trainer's."""
    script, log = tmp_path / "train.py", tmp_path / "job.log"
    script.write_text("raise MemoryError('of the trainer')")
    with pytest.raises(UserError) as error:
        launch.accelerate_launch([str(script)], {"cpu": True, "num_processes": 1}, tmp_path / "train.log", "train", True)
    log.write_text(f"error: {error.value}\nERROR: failed to reproduce 'train'\nerror: a stage failed\n")
    assert job.why(log, 0).startswith("MemoryError: of the trainer (")


def test_a_state_is_written_whole(tmp_path):
    state = State(3, ["method=lora"], started=1.0)
    state.write(tmp_path / "job.json")
    assert State(**json.loads((tmp_path / "job.json").read_text())) == state
    assert [file.name for file in tmp_path.iterdir()] == ["job.json"]


def told(tmp_path, error=None, state="running"):
    """What is written of a job that ends so."""
    written = State(0, [], state)
    with job._record_outcome(written, tmp_path / "job.json", tmp_path):
        if error:
            raise error
    return json.loads((tmp_path / "job.json").read_text())


def test_a_failure_is_kept_from_the_jobs_that_follow_and_told(tmp_path):
    assert told(tmp_path)["state"] == "finished"
    assert told(tmp_path, state="skipped")["state"] == "skipped"
    found = told(tmp_path, UserError("the reason"))
    assert (found["state"], found["why"]) == ("failed", "the reason")
    assert found["ended"] > 0
    assert not (tmp_path / "job.log").exists()


def test_a_fault_of_ours_leaves_its_traceback_in_the_log(tmp_path):
    found = told(tmp_path, KeyError("key"))
    assert (found["state"], found["why"]) == ("failed", "KeyError: 'key'")
    assert "Traceback" in (tmp_path / "job.log").read_text()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_signal_ends_the_sweep(tmp_path, error):
    with pytest.raises(error):
        told(tmp_path, error())
    assert json.loads((tmp_path / "job.json").read_text())["state"] == "stopped"


def test_a_job_that_is_skipped_has_the_scores_and_the_times_of_when_it_ran(root):
    score = {"value": 0.5, "low": 0.4, "high": 0.6}
    (root / "report").mkdir()
    base = {"value": 0.125, "low": 0.05, "high": 0.25}
    metrics = {
        "ifeval": {"base": {"prompt_strict": base}, "tuned": {"prompt_strict": score}},
        "train": {"validation_loss": 1.5},
    }
    (root / "report" / "metrics.json").write_text(json.dumps(metrics))
    with mlflow_run.run(root, "demo") as run:
        run.artifacts(root, "report")
    child, state = store.find(root, run.id), State(4, ["a=1"], started=9000.0)
    job._finished_before(state, child, root)
    assert (state.number, state.state, state.score, state.low, state.high) == (4, "skipped", 0.5, 0.4, 0.6)
    assert (state.loss, state.base) == (1.5, base)
    assert (state.started, state.ended) == (child.info.start_time / 1000, child.info.end_time / 1000)


def test_a_job_that_goes_on_elsewhere_is_not_closed_and_another_is(root):
    parent = mlflow_run.create(root, "sweep", {})
    for error, status in ((job.StillRunning("is running here"), "RUNNING"), (UserError("bad"), "FAILED")):
        child = mlflow_run.child(root, parent, "one", {"job.digest": status})
        state = State(0, [], "running", run=child.info.run_id)
        with job._record_outcome(state, root / "job.json", root):
            raise error
        assert store.find(root, child.info.run_id).info.status == status
        assert state.state == "failed"


HOLDER = """
import pathlib, sys, time
from tunetrail.checkout import git, locks
with locks.exclusive_lock(pathlib.Path(sys.argv[1]), "work/job.lock"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def orphan(sweep):
    """A job's process as it is when its worker is dead: it holds the job's worktree, and nobody here has started it."""
    (sweep.root / "project").mkdir()  # the checkout may be a folder of its repository
    subprocess.run(["git", "init", "-q"], cwd=sweep.root, check=True)
    for name in ("aaaaaaaaaa", "bbbbbbbbbb"):
        (sweep.folder / name / "project" / "work").mkdir(parents=True)
        State(0, [f"name={name}"], "running", run=name).write(sweep.folder / f"{name}.json")
    State(2, ["a=3"], "finished", run="c").write(sweep.folder / "cccccccccc.json")
    place = sweep.folder / "aaaaaaaaaa" / "project"
    words = [sys.executable, "-c", HOLDER, str(place)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_job_whose_process_lives_is_not_called_stopped(sweep, orphan):
    root = sweep.root / "project"
    assert job.running_jobs(root, sweep.folder) == {"aaaaaaaaaa"}
    assert job.mark_stopped(root, sweep.folder) == ["bbbbbbbbbb"]
    assert {one.name: one.state for one in state.read(sweep.folder)} == {
        "aaaaaaaaaa": "running",
        "bbbbbbbbbb": "stopped",
        "cccccccccc": "finished",
    }


def test_jobs_that_nobody_has_by_the_hand_any_more_are_ended_before_they_are_called_stopped(sweep, orphan):
    root = sweep.root / "project"
    job.terminate_jobs(root, sweep.folder)
    assert orphan.wait(timeout=10) == -signal.SIGTERM
    assert job.running_jobs(root, sweep.folder) == set()
    assert sorted(job.mark_stopped(root, sweep.folder)) == ["aaaaaaaaaa", "bbbbbbbbbb"]


def test_a_job_is_an_orphan_when_who_launched_it_waits_for_it_no_more(sweep, orphan):
    root = sweep.root / "project"
    with locks.wait_for_lock(sweep.folder / "aaaaaaaaaa.turn"):
        assert job.orphaned_jobs(root, sweep.folder) == set()
    assert job.orphaned_jobs(root, sweep.folder) == {"aaaaaaaaaa"}
    job.terminate_jobs(root, sweep.folder, "bbbbbbbbbb")
    assert orphan.poll() is None


def test_a_job_that_needs_no_gpu_or_gets_it_from_a_scheduler_takes_none(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.version.hip", None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    one = {"num_processes": 1}
    for accelerate, share in ((one | {"cpu": True}, True), (one, False)):
        with job._place(accelerate, share, tmp_path) as place:
            assert place == ({}, [])
    with job._place(one, True, tmp_path) as first, job._place(one, True, tmp_path) as second:
        assert [first[0], second[0]] == [{"CUDA_VISIBLE_DEVICES": "5"}, {"CUDA_VISIBLE_DEVICES": "7"}]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with job._place(one, True, tmp_path) as place:
        assert place == ({}, [])
