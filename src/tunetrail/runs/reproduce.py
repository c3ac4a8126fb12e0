"""A run's record -> the same run again, compared with it number by number."""

import contextlib
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunetrail import UserError, launch
from tunetrail.checkout import dvc, git, integrity, locks, worktree
from tunetrail.config import params
from tunetrail.tracking import other_runs, record, store, tags
from tunetrail.tracking.recorded import RecordedRun
from tunetrail.training import history

_RECORD = (str(params.FILE), "dvc.lock", "report/metrics.json", "history.jsonl")
_PATCH, _RAW = "changes.patch", "data/raw"
_OWN_VERSION = f"{tags.VERSIONS}tunetrail"  # not compared: the code is the run's own
# If one of these differs it is another experiment, however close its scores.
_SAME = (tags.DATA_MD5, tags.TEMPLATE_DIGEST, tags.BASE_REVISION)


class NotReproduced(UserError):
    """The numbers of the new run differ."""

    code = 1


def reproduce(root: Path, reference: str) -> None:
    """Run the run that `reference` names (`store.find`) again, from its commit, patch, data and parameters.

    Every stage runs, except that data which DVC still has are not fetched again. The new MLflow run's tags say which run it
    `reproduces`, and whether it `agrees`.

    Raises:
        UserError: it is a sweep, or something that it needs is lost; or, as NotReproduced, the numbers differ.
    """
    old = store.single(root, reference)
    short = old.short_id
    folder, record_folder = root / "runs" / f"reproduce-{short}", root / "work" / "recorded" / old.id
    with _lock(root / "runs" / f"reproduce-{short}.lock") as lock_fd:
        worktree.remove(root, folder)
        checkout = worktree.make(root, folder, _code(root, old, record_folder))
        values = params.load(record_folder / params.FILE)
        _restore_data(root, checkout, record_folder, values, old)
        composed = checkout / "work" / "composed.yaml"
        params.write_yaml(composed, values)
        recorded = {tags.REPRODUCES: old.id}
        if tags.OVERRIDES in old.tags:
            recorded[tags.OVERRIDES] = old.tags[tags.OVERRIDES]
        run_id = other_runs.create(root, f"{old.name} again", recorded)
        print(f"run {run_id[:8]} reproduces {short} in {checkout}", flush=True)
        command = [sys.executable, "-m", "tunetrail", "run", "--force", "--params", str(composed)]
        environment = launch.python_path(checkout / "src") | {"MLFLOW_RUN_ID": run_id}
        code = None
        try:
            code = launch.run(command, [lock_fd], checkout, environment, patience=60)
        finally:
            if code != 0:
                other_runs.close_run(root, run_id, "KILLED" if code is None else "FAILED")
        if code:
            raise UserError(f"run {short} cannot be reproduced: its output is above. The worktree stays: {checkout}")
        verdict = _verdict(old, store.find(root, run_id), list(_numbers(record_folder, checkout)))
        other_runs.tag(root, run_id, {tags.AGREES: verdict})
        if verdict == "no":
            raise NotReproduced(f"run {run_id[:8]} does not agree with {short}. What it made is in {checkout}")
        worktree.remove(root, folder)
        print(
            f"\nrun {run_id[:8]} agrees with {short}: {verdict}. Its report is with its MLflow run; the worktree is removed."
        )


@contextlib.contextmanager
def _lock(file: Path) -> Iterator[int]:
    """Take `locks.exclusive_lock` by a file that is removed afterwards, unless an orphaned process still holds it."""
    try:
        with locks.exclusive_lock(file.parent, file.name) as lock_fd:
            yield lock_fd
    finally:
        with contextlib.suppress(locks.Busy), locks.exclusive_lock(file.parent, file.name):
            file.unlink()


def _code(root: Path, run: RecordedRun, folder: Path) -> git.Code:
    """Download the run's record into `folder`; return its commit and patch.

    Raises:
        UserError: the record lacks a file, as that of a run that did not finish.
    """
    missing = store.download(root, run.id, [*_RECORD, _PATCH], folder)
    if missing and missing != [_PATCH]:
        raise UserError(
            f"{run.title}, {run.status}: its record has no {missing[0]}. Only a run that finished can be reproduced. How to "
            f"try this one again: tunetrail show {run.short_id}"
        )
    patch = folder / _PATCH
    if missing:
        if run.tags.get(tags.GIT_DIRTY) == "true":
            print(f"run {run.short_id} was made from uncommitted changes that its record does not have", flush=True)
        patch.write_bytes(b"")
    return git.Code(run.tags[tags.GIT_COMMIT], patch, "")


def _restore_data(root: Path, checkout: Path, folder: Path, values: dict[str, Any], run: RecordedRun) -> None:
    """Put the raw data of the run into `checkout`, and files that git does not keep where the parameters look for them.
    `folder` has the run's record; `values` are changed if a file is elsewhere now."""
    (checkout / "dvc.lock").write_bytes((folder / "dvc.lock").read_bytes())
    params.write_yaml(checkout / params.FILE, values)
    recorded = dvc.hashes(dvc.locked_stages(folder))
    outs = {_RAW: recorded[_RAW]} if _RAW in recorded else {}
    try:
        integrity.restore(root, checkout, outs, run.title, f"tunetrail reproduce {run.short_id}", run.dvc_cache)
    except integrity.Missing:
        integrity.remove(checkout / _RAW)  # the part that was there
        print("DVC's cache no longer has the raw data: they are fetched again", flush=True)
    worktree.link_all_untracked(root, checkout, values)
    for section, kind in (("prepare", "instructions"), ("evaluate", "prompts")):
        files = list((checkout / "data" / "raw" / kind).glob("*"))
        if files and not (checkout / values[section]["path"]).exists():  # the user's file is gone, DVC has its content
            link = checkout / "work" / "raw" / files[0].name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(files[0])
            values[section]["path"] = str(link.relative_to(checkout))
    worktree.update_fetch(values)


@dataclass(frozen=True)
class Number:
    """A number of the old run and of the new one; `within` says whether the new one lies in the old one's 95 % interval."""

    name: str
    old: float
    new: float
    within: bool = False

    @property
    def verdict(self) -> str:
        return "equal" if self.old == self.new else "within its interval" if self.within else "differs"


def _numbers(record_folder: Path, checkout: Path) -> Iterator[Number]:
    """Yield the scores, counts and losses of both runs; one that a run does not have is NaN."""
    metrics = [json.loads((folder / "report" / "metrics.json").read_text()) for folder in (record_folder, checkout)]
    old, new = (record.scores(measured) | record.data(measured) for measured in metrics)
    for name in sorted(old.keys() | new.keys()):
        value = new.get(name, math.nan)
        interval = _interval(metrics[0], name)
        within = interval is not None and interval["low"] <= value <= interval["high"]
        yield Number(name, old.get(name, math.nan), value, within)
    histories = (record_folder / "history.jsonl", checkout / "outputs" / "train" / "history.jsonl")
    rows = [history.read(file)[0] for file in histories]
    for name in ("train/loss", "validation/loss"):
        old, new = ({row["step"]: row[name] for row in curve if name in row} for curve in rows)
        for step in sorted(old.keys() | new.keys()):
            yield Number(f"{name} at step {step}", old.get(step, math.nan), new.get(step, math.nan))


def _interval(metrics: dict[str, Any], name: str) -> dict[str, float] | None:
    """Return the score `ifeval/MODEL/SCORE` with the ends of its interval; None for any other number."""
    kind, model, *rest = name.split("/")
    return metrics[kind].get(model, {}).get(rest[0]) if kind.startswith("ifeval") else None


def _verdict(old: RecordedRun, new: RecordedRun, numbers: list[Number]) -> str:
    """Print each number with its verdict; return that of the run: "bit for bit", "within the intervals" or "no"."""
    environment = {name for run in (old, new) for name in run.tags if name.startswith(tags.SECTIONS["environment"])}
    changed = [name for name in sorted(environment - {_OWN_VERSION}) if old.tags.get(name) != new.tags.get(name)]
    old_model, new_model = (run.tags.get(tags.MODEL_MD5) for run in (old, new))
    same_model = old_model == new_model
    print(f"\n{'':<44}{'then':<16}{'now':<16}")
    for number in numbers:
        print(f"{number.name:<44}{number.old:<16.6g}{number.new:<16.6g}{number.verdict}")
    print(f"{tags.MODEL_MD5:<44}{str(old_model)[:12]:<16}{str(new_model)[:12]:<16}{'equal' if same_model else 'differs'}")
    for name in changed:
        print(f"{name}: {old.tags.get(name)} then, {new.tags.get(name)} now")
    if same_model and all(number.old == number.new for number in numbers):
        return "bit for bit"
    if any(old.tags.get(name) != new.tags.get(name) for name in _SAME):
        return "no"
    scores = [number for number in numbers if number.name.startswith("ifeval/")]
    agree = scores and all(number.verdict != "differs" for number in scores)
    on_gpu = f"{tags.HARDWARE}gpu" in new.tags  # whose kernels may add in another order each time
    return "within the intervals" if (changed or on_gpu) and agree else "no"
