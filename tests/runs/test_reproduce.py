"""A run compared with its record, number by number. test_end_to_end runs a complete reproduction."""

import json
import shutil

import pytest

from tests import finished_runs, recorded_runs
from tests.finished_runs import object_of
from tests.projects import flip
from tests.stage_outputs import left_by_a_run
from tunetrail import UserError
from tunetrail.checkout import git, locks
from tunetrail.runs import reproduce
from tunetrail.tracking import mlflow_run
from tunetrail.training import history

pytestmark = pytest.mark.stage


@pytest.fixture
def root(finished, tmp_path, monkeypatch):
    return finished_runs.copied(finished, tmp_path, monkeypatch)


def test_a_run_is_not_reproduced_from_damaged_raw_data(root):
    with mlflow_run.run(root, "whole") as recorded:
        code = git.read_code(root, root / "work" / "changes.patch")
        recorded.tags({"git.commit": code.commit, "git.dirty": "false"})
        (root / "metrics.json").write_text("{}")
        for name, into in (("params.yaml", None), ("dvc.lock", None), ("metrics.json", "report")):
            recorded.artifacts(root, name, into=into)
        (root / "history.jsonl").touch()
        recorded.artifacts(root, "history.jsonl")
    rows = object_of(root, (root / "data" / "raw" / "rows").read_text())
    flip(rows)
    with pytest.raises(UserError, match=r"data/raw/rows: md5 \w{32} is recorded") as error:
        reproduce.reproduce(root, recorded.id)
    assert f"rm -r -f {rows}\nThen: tunetrail reproduce {recorded.id[:8]}" in str(error.value)


def test_a_run_that_cannot_be_reproduced_leaves_no_lock_behind(root):
    with mlflow_run.run(root, "half") as half:
        pass
    with pytest.raises(UserError, match=rf"its record has no params\.yaml\. .*tunetrail show {half.id[:8]}"):
        reproduce.reproduce(root, "half")
    assert list((root / "runs").iterdir()) == []


def test_the_lock_file_of_a_reproduced_run_stays_while_another_process_holds_it(root):
    with mlflow_run.run(root, "half") as half:
        pass
    lock = root / "runs" / f"reproduce-{half.id[:8]}.lock"
    (root / "runs").mkdir()
    with locks.exclusive_lock(lock.parent, lock.name):
        with pytest.raises(locks.Busy):
            reproduce.reproduce(root, "half")
        assert lock.exists()


def record(folder, losses, score=0.5, low=0.4, high=0.6):
    """Write a run's metrics and history as they are downloaded, with few figures."""
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


def verdict(tmp_path, old, new, moved=None, model=("md5", "md5"), both=None):
    """Return the verdict on two runs with these figures; the tags `both` are of both, `moved` of the new one."""
    for folder, figures in (("old", old), ("new", new)):
        record(tmp_path / folder, **figures)
    tags = [{"model.md5": md5, "hardware.cpu": "2 x a", "versions.tunetrail": str(n)} for n, md5 in enumerate(model)]
    tags = [run_tags | (both or {}) for run_tags in tags]
    tags[1] |= moved or {}
    then, now = (recorded_runs.run(tags=run_tags) for run_tags in tags)
    return reproduce._verdict(then, now, list(reproduce._numbers(tmp_path / "old", tmp_path / "new")))


SAME = {"losses": [2.0, 1.0]}
OTHER_MACHINE = {"hardware.cpu": "8 x b"}


@pytest.mark.parametrize(
    ("new", "moved", "model", "agreement"),
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
def test_runs_agree_bit_for_bit_or_elsewhere_within_their_intervals(tmp_path, new, moved, model, agreement):
    assert verdict(tmp_path, SAME, new, moved, model) == agreement


@pytest.mark.parametrize(("score", "agreement"), [(0.55, "within the intervals"), (0.61, "no")])
def test_on_the_same_gpu_runs_agree_within_their_intervals(tmp_path, score, agreement):
    other = {"losses": [2.0, 1.0000001], "score": score}
    assert verdict(tmp_path, SAME, other, None, ("md5", "other"), {"hardware.gpu": "1 x c"}) == agreement
    assert verdict(tmp_path / "equal", SAME, SAME, both={"hardware.gpu": "1 x c"}) == "bit for bit"


def test_each_number_is_shown_with_its_old_and_new_value_and_the_verdict(tmp_path, capsys):
    verdict(tmp_path, SAME, {"losses": [2.0, 1.5], "score": 0.55}, OTHER_MACHINE, ("one", "two"))
    output = capsys.readouterr().out
    for name, *words in (
        ("ifeval/tuned/prompt_strict", "0.5", "0.55", "within its interval"),
        ("train/loss at step 1", "2", "2", "equal"),
        ("train/loss at step 2", "1", "1.5", "differs"),
        ("model.md5", "one", "two", "differs"),
    ):
        (line,) = [line for line in output.splitlines() if line.startswith(name)]
        assert line.split(maxsplit=len(words) - 1 + len(name.split()))[-len(words) :] == words
    assert "hardware.cpu: 2 x a then, 8 x b now" in output
    assert "versions.tunetrail" not in output
    assert "health/tuned/looping" not in output


def test_the_numbers_of_a_real_report_are_all_compared(tmp_path):
    for name in ("old", "new"):
        left_by_a_run(tmp_path / name)
        shutil.copy(tmp_path / name / "outputs" / "train" / "history.jsonl", tmp_path / name)
    numbers = list(reproduce._numbers(tmp_path / "old", tmp_path / "new"))
    assert all(number.old == number.new for number in numbers)
    assert all(number.within for number in numbers if number.name.startswith("ifeval/"))
    names = {number.name for number in numbers}
    assert {"ifeval/delta/inst_loose", "ifeval_stopped/tuned/prompt_strict", "data/tokens", "train/loss at step 1"} <= names


def test_a_sweep_is_not_reproduced_and_its_best_job_is_named(root):
    with mlflow_run.run(root, "sweep-1") as parent:
        parent.tags({"sweep": "sweep-1"})
    with mlflow_run.run(root, "seed=1") as job:
        job.tags({"sweep": "sweep-1", "mlflow.parentRunId": parent.id})
        job.metrics({"ifeval/tuned/prompt_strict": 0.5})
    with pytest.raises(UserError, match=rf"\(sweep-1\) is a sweep.*as the best: {job.id[:8]}"):
        reproduce.reproduce(root, "sweep-1")
