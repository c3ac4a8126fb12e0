"""A real DVC project and a real MLflow store: a run's state put back. Running one again whole is test_end_to_end's."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tests.checkout.test_integrity import flip
from tests.checkout.test_worktree import commit, project, run
from tests.report.test_metrics import left_by_a_run
from tunetrail import UserError
from tunetrail.checkout import workspace, worktree
from tunetrail.runs import lineage
from tunetrail.tracking import mlflow_run
from tunetrail.training import history

pytestmark = pytest.mark.stage


def change(root, value):
    (root / "src" / "tunetrail" / "code.py").write_text(f"value = {value}\n")


def finish_run(root, name):
    """Run the stages and record them as `tunetrail run` does; returns the run's id."""
    run(root, "dvc", "repro", "--quiet")
    with mlflow_run.run(root, name) as kept:
        code = workspace.code(root, root / "work" / "changes.patch")
        kept.tags({"git.commit": code.commit, "git.dirty": str(code.dirty).lower()})
        kept.artifacts(root, *(["work/changes.patch"] if code.dirty else []))
        kept.tags({"dvc.experiment": worktree.save(root, f"{name}-{kept.id[:8]}")})
    return kept.id


@pytest.fixture(scope="module")
def finished(tmp_path_factory, migrated):
    """A checkout on which run `one` had changes that no commit has; after it came run `two`, without any."""
    root = project(tmp_path_factory.mktemp("lineage") / "checkout")
    (root / "mlflow.db").write_bytes(migrated.read_bytes())
    (root / "work").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME"):
            patch.delenv(name, raising=False)
        patch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
        change(root, 1)
        (root / "conf" / "new.yaml").write_text("new: 1\n")
        (root / "params.yaml").write_text("prepare: {path: conf/new.yaml}\n")
        finish_run(root, "one")
        (root / "conf" / "new.yaml").unlink()
        run(root, "git", "checkout", "--quiet", "--", ".")
        finish_run(root, "two")
    return root


@pytest.fixture
def root(finished, tmp_path, monkeypatch):
    """A copy of it for each test, in a folder that has DVC in its name; artifacts are read where they were written."""
    shutil.copytree(finished, tmp_path / "dvc-checkout", symlinks=True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "dvc-checkout"


def holds(root, code, model):
    return (root / "src" / "tunetrail" / "code.py").read_text() == code and (root / "outputs" / "model").read_text() == model


CODE, MODEL = "value = 1\n", "new: 1\nvalue = 1\n"  # of run one


def test_params_models_and_results_come_back_and_the_code_stays(root, capsys):
    assert holds(root, "one = 1\n", "one = 1\none = 1\n")
    change(root, 7)
    (root / "conf" / "mine.yaml").write_text("mine: 1\n")
    assert lineage.restore(root, "one").startswith("one (")
    assert holds(root, "value = 7\n", MODEL)
    assert (root / "conf" / "mine.yaml").read_text() == "mine: 1\n"
    assert "conf/new.yaml" in (root / "params.yaml").read_text()
    said = capsys.readouterr().out
    assert "the code is another" in said
    replaced = "were another run's or your own, and are replaced by this run's"
    assert f"params.yaml and dvc.lock {replaced}" in said
    lineage.restore(root, "one")
    assert replaced not in capsys.readouterr().out
    assert lineage.restore(root, "two").startswith("two (")
    assert holds(root, "value = 7\n", "one = 1\none = 1\n")


def test_files_that_a_person_put_under_dvc_keep_their_changes(root):
    (root / "notes").mkdir()
    (root / "notes" / "mine.txt").write_text("first")
    run(root, "dvc", "add", "notes/mine.txt")
    (root / "notes" / "mine.txt").write_text("second")
    lineage.restore(root, "one")
    workspace.put_back(root)
    assert (root / "notes" / "mine.txt").read_text() == "second"


def test_on_a_later_commit_the_code_stays_and_the_rest_comes_back(root, capsys):
    change(root, 3)
    (root / "conf" / "later.yaml").touch()
    commit(root, "src", "conf")
    change(root, 4)  # and what is not committed stays too
    lineage.restore(root, "one")
    assert holds(root, "value = 4\n", MODEL)
    assert "conf/new.yaml" in (root / "params.yaml").read_text()
    assert run(root, "git", "diff", "--cached", "--name-only") == ""
    assert "the code is another" in capsys.readouterr().out


def test_models_that_are_here_no_more_are_pulled(root, capsys):
    run(root, "dvc", "remote", "add", "--default", "--local", "store", str(root.parent / "store"))
    shutil.copytree(root / ".dvc" / "cache", root.parent / "store")  # as pushed after each run
    shutil.rmtree(root / ".dvc" / "cache")
    lineage.restore(root, "one")
    assert holds(root, "one = 1\n", MODEL)
    assert "pulls them" in capsys.readouterr().err


def test_models_that_are_nowhere_are_said(root):
    shutil.rmtree(root / ".dvc" / "cache")
    before = {name: (root / name).read_bytes() for name in ("params.yaml", "dvc.lock", "outputs/model")}
    with pytest.raises(UserError, match=r"(?i)cache"):
        lineage.restore(root, "one")
    assert {name: (root / name).read_bytes() for name in ("params.yaml", "dvc.lock")} == {
        name: before[name] for name in ("params.yaml", "dvc.lock")
    }


def object_of(root, text):
    """The file of DVC's cache that holds `text`."""
    (found,) = [
        file for file in (root / ".dvc" / "cache" / "files").rglob("*") if file.is_file() and file.read_text() == text
    ]
    return found


@pytest.mark.parametrize("fault", ["flipped", "truncated", "missing"])
def test_damaged_models_are_said_and_the_checkout_stays_as_it_was(root, fault):
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
        UserError, match=r"\(one\) recorded other files than these 1 .*\n  outputs/model: md5 \w{32} is rec"
    ) as error:
        lineage.restore(root, "one")
    assert "tunetrail reproduce" in str(error.value)
    assert (str(damaged) in str(error.value)) == (fault != "missing")
    assert {name: (root / name).read_text() for name in before} == before
    assert not list(root.rglob("*.before-restore"))


def test_a_file_that_dvc_takes_for_unchanged_is_restored_too(root):
    lineage.restore(root, "one")
    flip(root / "outputs" / "model")
    lineage.restore(root, "one")
    assert (root / "outputs" / "model").read_text() == MODEL
    assert not list(root.rglob("*.before-restore"))


# Restores `one`, and is killed at the point that is named: while DVC brings the files, or while what was there is removed.
KILLED = """
import os, pathlib, sys
from tunetrail.checkout import cache
from tunetrail.runs import lineage
def half(*_):
    pathlib.Path("outputs").mkdir(exist_ok=True)
    pathlib.Path("outputs/model").write_text("half of it")
    os.kill(os.getpid(), 9)
def removed(path, remove=cache.remove):
    if path.name.endswith("before-restore") and path.exists():
        os.kill(os.getpid(), 9)
    remove(path)
cache.bring, cache.remove = (half, cache.remove) if sys.argv[1] == "bring" else (cache.bring, removed)
lineage.restore(pathlib.Path().resolve(), "one")
"""


def restore_and_be_killed(root, point):
    environment = os.environ | {"DVC_NO_ANALYTICS": "1"}
    done = subprocess.run([sys.executable, "-c", KILLED, point], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    assert run(root, "git", "ls-files", "--others", "--exclude-standard") == ""


def edited(root):
    """The person's own state, which no cache has: its files by name."""
    (root / "outputs" / "model").unlink()
    (root / "outputs" / "model").write_text("edited by hand, and in no cache")
    (root / "params.yaml").write_text("prepare: {path: mine}\n")
    return {name: (root / name).read_text() for name in ("params.yaml", "dvc.lock", "outputs/model", "data/raw/rows")}


def left_aside(root):
    return [*root.rglob("*before-restore*")]


def test_a_restore_that_was_killed_is_undone_by_the_next_one_also_where_that_fails(root, capsys):
    before = edited(root)
    restore_and_be_killed(root, "bring")
    assert (root / "outputs" / "model").read_text() == "half of it"
    restore_and_be_killed(root, "bring")
    flip(object_of(root, MODEL))
    with pytest.raises(UserError, match="outputs/model"):
        lineage.restore(root, "one")
    assert "a restore was killed here" in capsys.readouterr().out
    assert {name: (root / name).read_text() for name in before} == before
    assert not left_aside(root)
    lineage.restore(root, "two")
    assert holds(root, "one = 1\n", "one = 1\none = 1\n")
    assert "was killed" not in capsys.readouterr().out


def test_a_restore_that_was_killed_when_all_was_there_is_not_undone(root):
    edited(root)
    restore_and_be_killed(root, "remove")
    assert left_aside(root)
    flip(object_of(root, "one = 1\none = 1\n"))
    with pytest.raises(UserError, match="outputs/model"):
        lineage.restore(root, "two")
    assert (root / "outputs" / "model").read_text() == MODEL
    assert "conf/new.yaml" in (root / "params.yaml").read_text()
    assert not left_aside(root)


def test_what_the_checkout_holds_already_is_left_alone(root):
    lineage.restore(root, "one")
    inode = (root / "outputs" / "model").stat().st_ino
    shutil.rmtree(root / ".dvc" / "cache")
    lineage.restore(root, "one")
    assert (root / "outputs" / "model").stat().st_ino == inode
    assert not left_aside(root)


def test_raw_data_that_are_damaged_are_not_what_a_run_is_reproduced_from(root):
    with mlflow_run.run(root, "whole") as whole:
        code = workspace.code(root, root / "work" / "changes.patch")
        whole.tags({"git.commit": code.commit, "git.dirty": "false"})
        (root / "metrics.json").write_text("{}")
        for name, into in (("params.yaml", None), ("dvc.lock", None), ("metrics.json", "report")):
            whole.artifacts(root, name, into=into)
        (root / "history.jsonl").touch()
        whole.artifacts(root, "history.jsonl")
    rows = object_of(root, (root / "data" / "raw" / "rows").read_text())
    flip(rows)
    with pytest.raises(UserError, match=r"data/raw/rows: md5 \w{32} is recorded") as error:
        lineage.reproduce(root, whole.id)
    assert f"rm -r -f {rows}\nThen: tunetrail reproduce {whole.id[:8]}" in str(error.value)


def test_a_run_without_an_experiment_cannot_be_restored_and_says_so(root):
    with mlflow_run.run(root, "half"):
        pass
    with pytest.raises(UserError, match=r"\(half\), FINISHED: no DVC experiment was saved of it\. .*tunetrail reproduce"):
        lineage.restore(root, "half")
    with contextlib.suppress(ValueError), mlflow_run.run(root, "failed") as failed:
        raise ValueError
    with pytest.raises(
        UserError, match=rf"\(failed\), FAILED: no DVC .* tries it again is in: tunetrail show {failed.id[:8]}"
    ):
        lineage.restore(root, "failed")
    mlflow_run.tag(root, mlflow_run.create(root, "gone", {}), {"dvc.experiment": "gone-1"})
    with pytest.raises(UserError, match="dvc exp pull origin gone-1"):
        lineage.restore(root, "gone")


def test_a_sweep_is_neither_restored_nor_reproduced_and_its_best_job_is_named(root):
    with mlflow_run.run(root, "sweep-1") as parent:
        parent.tags({"sweep": "sweep-1"})
    with mlflow_run.run(root, "seed=1") as job:
        job.tags({"sweep": "sweep-1", "mlflow.parentRunId": parent.id})
        job.metrics({"ifeval/tuned/prompt_strict": 0.5})
    for word in (lineage.restore, lineage.reproduce):
        with pytest.raises(UserError, match=rf"\(sweep-1\) is a sweep.*as the best: {job.id[:8]}"):
            word(root, "sweep-1")


def test_a_run_that_cannot_be_reproduced_leaves_no_lock_behind(root):
    with mlflow_run.run(root, "half") as half:
        pass
    with pytest.raises(UserError, match=rf"its record has no params\.yaml\. .*tunetrail show {half.id[:8]}"):
        lineage.reproduce(root, "half")
    assert list((root / "runs").iterdir()) == []


def test_the_lock_of_a_run_that_is_reproduced_stays_while_another_has_it(root):
    with mlflow_run.run(root, "half") as half:
        pass
    lock = root / "runs" / f"reproduce-{half.id[:8]}.lock"
    (root / "runs").mkdir()
    with workspace.exclusive_lock(lock.parent, lock.name):
        with pytest.raises(workspace.Busy):
            lineage.reproduce(root, "half")
        assert lock.exists()


def record(folder, losses, score=0.5, low=0.4, high=0.6):
    """A run's metrics and history as they are downloaded, by small figures."""
    (folder / "report").mkdir(parents=True, exist_ok=True)
    made = {"value": score, "low": low, "high": high}
    counts = {"train": 1, "empty": 0, "duplicate": 0, "repeated_question": 0, "train_validation_overlap": 0}
    metrics = {
        "ifeval": {"tuned": {"prompt_strict": made}},
        "ifeval_stopped": {},
        "health": {"tuned": {"ended": 1.0, "looping": None}},
        "data": {
            "rows": counts,
            "tokens": {"total": 9, "supervised": 5, "over_share": 0.0},
            "contamination": {"seen": 0, "exact": 0},
        },
    }
    (folder / "report" / "metrics.json").write_text(json.dumps(metrics))
    for step, loss in enumerate(losses, 1):
        history.append(folder / "history.jsonl", step, float(step), {"loss": loss})
        history.append(folder / "outputs" / "train" / "history.jsonl", step, float(step), {"loss": loss})


def verdict(tmp_path, old, new, moved=None, model=("md5", "md5")):
    """What is said of two runs that left these figures."""
    for folder, given in (("old", old), ("new", new)):
        record(tmp_path / folder, **given)
    tags = [{"model.md5": md5, "hardware.cpu": "2 x a", "versions.tunetrail": str(n)} for n, md5 in enumerate(model)]
    tags[1] |= moved or {}
    then, now = (SimpleNamespace(data=SimpleNamespace(tags=one)) for one in tags)
    return lineage._verdict(then, now, list(lineage._numbers(tmp_path / "old", tmp_path / "new")))


SAME = {"losses": [2.0, 1.0]}
OTHER_MACHINE = {"hardware.cpu": "8 x b"}


@pytest.mark.parametrize(
    ("new", "moved", "model", "word"),
    [
        (SAME, None, ("md5", "md5"), "bit for bit"),
        (SAME, OTHER_MACHINE, ("md5", "md5"), "bit for bit"),
        (SAME, None, ("md5", "other"), "no"),
        (SAME, OTHER_MACHINE, ("md5", "other"), "within the intervals"),
        (SAME | {"score": 0.55}, None, ("md5", "md5"), "no"),
        (SAME | {"score": 0.55}, OTHER_MACHINE, ("md5", "other"), "within the intervals"),
        (SAME | {"score": 0.61}, OTHER_MACHINE, ("md5", "other"), "no"),
        ({"losses": [2.0, 1.0000001]}, None, ("md5", "md5"), "no"),
        ({"losses": [2.0, 1.0000001]}, OTHER_MACHINE, ("md5", "other"), "within the intervals"),
        ({"losses": [2.0]}, None, ("md5", "md5"), "no"),
    ],
)
def test_runs_agree_bit_for_bit_or_elsewhere_within_their_intervals(tmp_path, new, moved, model, word):
    assert verdict(tmp_path, SAME, new, moved, model) == word


def test_each_number_is_shown_with_what_became_of_it(tmp_path, capsys):
    verdict(tmp_path, SAME, {"losses": [2.0, 1.5], "score": 0.55}, OTHER_MACHINE, ("one", "two"))
    said = capsys.readouterr().out
    for name, *words in (
        ("ifeval/tuned/prompt_strict", "0.5", "0.55", "within its interval"),
        ("train/loss at step 1", "2", "2", "equal"),
        ("train/loss at step 2", "1", "1.5", "differs"),
        ("model.md5", "one", "two", "differs"),
    ):
        (line,) = [line for line in said.splitlines() if line.startswith(name)]
        assert line.split(maxsplit=len(words) - 1 + len(name.split()))[-len(words) :] == words
    assert "hardware.cpu: 2 x a then, 8 x b now" in said
    assert "versions.tunetrail" not in said
    assert "health/tuned/looping" not in said


def test_the_numbers_of_a_real_report_are_all_held_against_each_other(tmp_path):
    for name in ("old", "new"):
        left_by_a_run(tmp_path / name)
        shutil.copy(tmp_path / name / "outputs" / "train" / "history.jsonl", tmp_path / name)
    numbers = list(lineage._numbers(tmp_path / "old", tmp_path / "new"))
    assert all(then == now for _, then, now, _ in numbers)
    assert all(within for name, _, _, within in numbers if name.startswith("ifeval/"))
    names = {name for name, *_ in numbers}
    assert {"ifeval/delta/inst_loose", "ifeval_stopped/tuned/prompt_strict", "data/tokens", "train/loss at step 1"} <= names
