"""A run's state restored in a real DVC project with a real MLflow store."""

import contextlib
import os
import shutil
import subprocess
import sys

import pytest

from tests import finished_runs
from tests.finished_runs import change, object_of
from tests.projects import commit, flip, run
from tunetrail import UserError
from tunetrail.checkout import dvc
from tunetrail.runs import restore
from tunetrail.tracking import mlflow_run, other_runs

pytestmark = pytest.mark.stage


@pytest.fixture
def root(finished, tmp_path, monkeypatch):
    return finished_runs.copied(finished, tmp_path, monkeypatch)


def has_code_and_model(root, code, model):
    return (root / "src" / "tunetrail" / "code.py").read_text() == code and (root / "outputs" / "model").read_text() == model


CODE, MODEL = "value = 1\n", "new: 1\nvalue = 1\n"  # of run one


def test_params_models_and_results_are_restored_and_the_code_is_unchanged(root, capsys):
    assert has_code_and_model(root, "one = 1\n", "one = 1\none = 1\n")
    change(root, 7)
    (root / "conf" / "mine.yaml").write_text("mine: 1\n")
    assert restore.restore(root, "one").startswith("one (")
    assert has_code_and_model(root, "value = 7\n", MODEL)
    assert "changed outs" not in run(root, "dvc", "status")
    assert (root / "conf" / "mine.yaml").read_text() == "mine: 1\n"
    assert "conf/new.yaml" in (root / "params.yaml").read_text()
    output = capsys.readouterr().out
    assert "the code differs from the run's" in output
    replaced = "were another run's or your own, and are replaced by this run's"
    assert f"params.yaml and dvc.lock {replaced}" in output
    restore.restore(root, "one")
    assert replaced not in capsys.readouterr().out
    assert restore.restore(root, "two").startswith("two (")
    assert has_code_and_model(root, "value = 7\n", "one = 1\none = 1\n")


def test_files_that_a_person_put_under_dvc_keep_their_changes(root):
    (root / "notes").mkdir()
    (root / "notes" / "mine.txt").write_text("first")
    run(root, "dvc", "add", "notes/mine.txt")
    (root / "notes" / "mine.txt").write_text("second")
    restore.restore(root, "one")
    dvc.checkout_outputs(root)
    assert (root / "notes" / "mine.txt").read_text() == "second"


def test_on_a_later_commit_the_code_is_unchanged_and_the_rest_is_restored(root, capsys):
    change(root, 3)
    (root / "conf" / "later.yaml").touch()
    commit(root, "src", "conf")
    change(root, 4)  # and uncommitted changes stay too
    restore.restore(root, "one")
    assert has_code_and_model(root, "value = 4\n", MODEL)
    assert "conf/new.yaml" in (root / "params.yaml").read_text()
    assert run(root, "git", "diff", "--cached", "--name-only") == ""
    assert "the code differs from the run's" in capsys.readouterr().out


def test_missing_models_are_pulled_from_the_remote(root, capsys):
    run(root, "dvc", "remote", "add", "--default", "--local", "store", str(root.parent / "store"))
    shutil.copytree(root / ".dvc" / "cache", root.parent / "store")  # as pushed after each run
    shutil.rmtree(root / ".dvc" / "cache")
    restore.restore(root, "one")
    assert has_code_and_model(root, "one = 1\n", MODEL)
    assert "pulls them" in capsys.readouterr().err


def test_models_that_cannot_be_found_are_an_error_and_change_nothing(root):
    shutil.rmtree(root / ".dvc" / "cache")
    before = {name: (root / name).read_bytes() for name in ("params.yaml", "dvc.lock", "outputs/model")}
    with pytest.raises(UserError, match=r"(?i)cache"):
        restore.restore(root, "one")
    assert {name: (root / name).read_bytes() for name in ("params.yaml", "dvc.lock")} == {
        name: before[name] for name in ("params.yaml", "dvc.lock")
    }


@pytest.mark.parametrize("fault", ["flipped", "truncated", "missing"])
def test_damaged_models_are_an_error_and_the_checkout_is_unchanged(root, fault):
    (root / "outputs" / "model").chmod(0o644)
    (root / "outputs" / "model").write_text("edited by hand, and in no cache")
    (root / "params.yaml").write_text("prepare: {path: mine}\n")
    damaged = object_of(root, MODEL)
    if fault == "flipped":
        flip(damaged)
    if fault == "truncated":
        damaged.chmod(0o644)
        damaged.write_text(MODEL[:4])
        damaged.chmod(0o444)
    if fault == "missing":
        damaged.unlink()
    before = {name: (root / name).read_text() for name in ("params.yaml", "dvc.lock", "outputs/model", "data/raw/rows")}
    with pytest.raises(
        UserError, match=r"\(one\): 1 file is not as recorded in .*\n  outputs/model: md5 \w{32} is rec"
    ) as error:
        restore.restore(root, "one")
    assert "tunetrail reproduce" in str(error.value)
    assert (str(damaged) in str(error.value)) == (fault != "missing")
    assert {name: (root / name).read_text() for name in before} == before
    assert not list(root.rglob("*.before-restore"))


def test_a_file_that_dvc_takes_for_unchanged_is_restored_too(root):
    restore.restore(root, "one")
    flip(root / "outputs" / "model")
    restore.restore(root, "one")
    assert (root / "outputs" / "model").read_text() == MODEL
    assert not list(root.rglob("*.before-restore"))


# Restore `one` and be killed at the named point: while DVC restores files, or while the old ones are removed.
KILLED = """
import os, pathlib, sys
from tunetrail.checkout import integrity
from tunetrail.runs import restore
def half(*_):
    pathlib.Path("outputs").mkdir(exist_ok=True)
    pathlib.Path("outputs/model").write_text("half of it")
    os.kill(os.getpid(), 9)
def removed(path, remove=integrity.remove):
    if path.name.endswith("before-restore") and path.exists():
        os.kill(os.getpid(), 9)
    remove(path)
integrity.restore, integrity.remove = (half, integrity.remove) if sys.argv[1] == "bring" else (integrity.restore, removed)
restore.restore(pathlib.Path().resolve(), "one")
"""


def restore_and_be_killed(root, point):
    environment = os.environ | {"DVC_NO_ANALYTICS": "1"}
    done = subprocess.run([sys.executable, "-c", KILLED, point], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    assert run(root, "git", "ls-files", "--others", "--exclude-standard") == ""


def edited(root):
    """Make a state by hand that is in no cache; return its files by name."""
    (root / "outputs" / "model").unlink()
    (root / "outputs" / "model").write_text("edited by hand, and in no cache")
    (root / "params.yaml").write_text("prepare: {path: mine}\n")
    return {name: (root / name).read_text() for name in ("params.yaml", "dvc.lock", "outputs/model", "data/raw/rows")}


def left_aside(root):
    return [*root.rglob("*before-restore*")]


def test_a_killed_restore_is_undone_by_the_next_one_even_if_that_fails(root, capsys):
    before = edited(root)
    restore_and_be_killed(root, "bring")
    assert (root / "outputs" / "model").read_text() == "half of it"
    restore_and_be_killed(root, "bring")
    flip(object_of(root, MODEL))
    with pytest.raises(UserError, match="outputs/model"):
        restore.restore(root, "one")
    assert "an earlier restore was killed here" in capsys.readouterr().out
    assert {name: (root / name).read_text() for name in before} == before
    assert not left_aside(root)
    restore.restore(root, "two")
    assert has_code_and_model(root, "one = 1\n", "one = 1\none = 1\n")
    assert "was killed" not in capsys.readouterr().out


def test_a_restore_killed_after_it_was_complete_is_not_undone(root):
    edited(root)
    restore_and_be_killed(root, "remove")
    assert left_aside(root)
    flip(object_of(root, "one = 1\none = 1\n"))
    with pytest.raises(UserError, match="outputs/model"):
        restore.restore(root, "two")
    assert (root / "outputs" / "model").read_text() == MODEL
    assert "conf/new.yaml" in (root / "params.yaml").read_text()
    assert not left_aside(root)


def test_outputs_that_are_already_in_the_checkout_are_not_replaced(root):
    restore.restore(root, "one")
    inode = (root / "outputs" / "model").stat().st_ino
    shutil.rmtree(root / ".dvc" / "cache")
    restore.restore(root, "one")
    assert (root / "outputs" / "model").stat().st_ino == inode
    assert not left_aside(root)


def test_a_run_without_an_experiment_cannot_be_restored_and_says_so(root):
    with mlflow_run.run(root, "half"):
        pass
    with pytest.raises(UserError, match=r"\(half\), FINISHED: it has no DVC experiment\. .*tunetrail reproduce"):
        restore.restore(root, "half")
    with contextlib.suppress(ValueError), mlflow_run.run(root, "failed") as failed:
        raise ValueError
    with pytest.raises(
        UserError, match=rf"\(failed\), FAILED: it has no DVC .* to try it again: tunetrail show {failed.id[:8]}"
    ):
        restore.restore(root, "failed")
    other_runs.tag(root, other_runs.create(root, "gone", {}), {"dvc.experiment": "gone-1"})
    with pytest.raises(UserError, match="dvc exp pull origin gone-1"):
        restore.restore(root, "gone")


def test_a_sweep_is_not_restored_and_its_best_job_is_named(root):
    with mlflow_run.run(root, "sweep-1") as parent:
        parent.tags({"sweep": "sweep-1"})
    with mlflow_run.run(root, "seed=1") as job:
        job.tags({"sweep": "sweep-1", "mlflow.parentRunId": parent.id})
        job.metrics({"ifeval/tuned/prompt_strict": 0.5})
    with pytest.raises(UserError, match=rf"\(sweep-1\) is a sweep.*as the best: {job.id[:8]}"):
        restore.restore(root, "sweep-1")
