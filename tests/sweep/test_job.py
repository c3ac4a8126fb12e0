"""How a job is identified, and which jobs are running; a job that is really run is in test_parent.py."""

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.sweep.job_holder import start_holder
from tunetrail.checkout import git, locks
from tunetrail.sweep import job, state
from tunetrail.sweep.state import Job

VALUES = {
    "name": "demo",
    "prepare": {"path": "rows.jsonl"},
    "evaluate": {"path": "conf/evaluate/ifeval.yaml"},
    "base": {"path": "models/mine", "base_model": "models/mine"},
    "train": {"base_model": "models/mine", "learning_rate": 1e-3},
}


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """Make a sweep of a checkout with the files that VALUES names."""
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
    assert job.digest(VALUES, changed(sweep, commit="another commit with the same code")) == key


def test_different_parameters_code_or_files_make_a_different_job(sweep):
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


@pytest.mark.parametrize("path", ["outputs/base/model", "./outputs/base/model", "data/prepared", "conf", "src"])
def test_files_that_stages_make_or_that_the_code_digest_covers_do_not_count(sweep, path):
    values = VALUES | {"base": {"path": path, "base_model": path}}
    key = job.digest(values, sweep)
    Path(path).mkdir(parents=True)
    (Path(path) / "weights").write_text("weights")
    assert job.digest(values, sweep) == key


@pytest.mark.parametrize("nothing", [None, ""])
def test_a_path_without_a_value_is_no_file(sweep, nothing):
    """An empty path must not mean the whole checkout, whose store of runs changes all the time."""
    values = VALUES | {"base": {"path": nothing, "base_model": "org/name"}}
    key = job.digest(values, sweep)
    Path("mlflow.db").write_text("another run")
    assert job.digest(values, sweep) == key


def test_a_job_that_cannot_be_resolved_is_identified_by_its_overrides(sweep):
    key = job.digest({"overrides": ["a=1"]}, sweep)
    Path("mlflow.db").write_text("another run")
    assert job.digest({"overrides": ["a=1"]}, sweep) == key
    assert job.digest({"overrides": ["a=2"]}, sweep) != key


@pytest.fixture
def orphan(sweep):
    """Start the process of job "aaaaaaaaaa", whose launcher is dead; the process of "bbbbbbbbbb" is dead too."""
    (sweep.root / "project").mkdir()  # the checkout may be a folder of its repository
    subprocess.run(["git", "init", "-q"], cwd=sweep.root, check=True)
    for name in ("aaaaaaaaaa", "bbbbbbbbbb"):
        (sweep.folder / name / "project" / "work").mkdir(parents=True)
        Job(sweep.folder / f"{name}.json", 0, [f"name={name}"], "running", run=name).write()
    Job(sweep.folder / "cccccccccc.json", 2, ["a=3"], "finished", run="c").write()
    process = start_holder(sweep.folder / "aaaaaaaaaa" / "project")
    yield process
    process.kill()
    process.wait()


def test_a_job_whose_process_is_running_is_not_marked_as_stopped(sweep, orphan):
    root = sweep.root / "project"
    assert job.running_jobs(root, sweep.folder) == {"aaaaaaaaaa"}
    assert job.mark_stopped(root, sweep.folder) == ["bbbbbbbbbb"]
    assert {read.name: read.state for read in state.read(sweep.folder)} == {
        "aaaaaaaaaa": "running",
        "bbbbbbbbbb": "stopped",
        "cccccccccc": "finished",
    }


def test_terminated_jobs_have_ended_and_can_be_marked_as_stopped(sweep, orphan):
    root = sweep.root / "project"
    job.terminate_jobs(root, sweep.folder)
    assert orphan.wait(timeout=10) == -signal.SIGTERM
    assert job.running_jobs(root, sweep.folder) == set()
    assert sorted(job.mark_stopped(root, sweep.folder)) == ["aaaaaaaaaa", "bbbbbbbbbb"]


def test_a_running_job_is_an_orphan_if_its_launcher_does_not_hold_its_turn(sweep, orphan):
    root = sweep.root / "project"
    with locks.wait_for_lock(sweep.folder / "aaaaaaaaaa.turn"):
        assert job.orphaned_jobs(root, sweep.folder) == set()
    assert job.orphaned_jobs(root, sweep.folder) == {"aaaaaaaaaa"}
    job.terminate_jobs(root, sweep.folder, "bbbbbbbbbb")
    assert orphan.poll() is None
