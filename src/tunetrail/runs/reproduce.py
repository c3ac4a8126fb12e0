"""A run's record -> the same run once more, compared with it number by number.

Not covered: what the weights of a base model from the hub are, which its revision pins.
"""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunetrail import UserError, launch
from tunetrail.checkout import dvc, git, integrity, locks, worktree
from tunetrail.config import params
from tunetrail.tracking import upload
from tunetrail.training import history

_RECORD = (str(params.FILE), "dvc.lock", "report/metrics.json", "history.jsonl")
_PATCH, _RAW = "changes.patch", "data/raw"
# Tags that say where and with what a run ran; where they agree, so must every bit.
_ENVIRONMENT = ("hardware.", "versions.", "lock.")
_OURS = "versions.tunetrail"
_SAME = ("data.md5", "template.digest", "base.revision")  # without which it is another experiment, however close


class NotReproduced(UserError):
    """The run came out another."""

    code = 1


def reproduce(root: Path, word: str) -> None:
    """Run the run that `word` means (`store.find`) again: its commit and patch, data and parameters, every stage but the
    fetching of data that DVC still has. The new MLflow run says which it `reproduces`, and whether it `agrees`.

    Raises:
        UserError: it is a sweep, or what it takes is not here any more; or, as NotReproduced, the numbers are others.
    """
    from tunetrail.tracking import mlflow_run, store

    old = store.single(root, word)
    tags, short = old.data.tags, old.info.run_id[:8]
    folder, kept = root / "runs" / f"reproduce-{short}", root / "work" / "recorded" / old.info.run_id
    with _alone(root / "runs" / f"reproduce-{short}.lock") as held:
        worktree.remove(root, folder)
        missing = store.download(root, old.info.run_id, [*_RECORD, _PATCH], kept)
        if missing and missing != [_PATCH]:
            raise UserError(
                f"run {old.info.run_id} ({old.info.run_name}), {old.info.status}: its record has no {missing[0]}. Only a "
                f"run that finished can be reproduced. What tries this one again is in: tunetrail show {short}"
            )
        patch = kept / _PATCH
        if _PATCH in missing:
            if tags.get("git.dirty") == "true":
                print(f"run {short} was made from uncommitted changes that its record does not have", flush=True)
            patch.write_bytes(b"")
        checkout = worktree.make(root, folder, git.Code(tags["git.commit"], patch, ""))
        values = params.load(kept / params.FILE)
        _bring_data(
            root, checkout, kept, values, f"run {old.info.run_id} ({old.info.run_name})", f"tunetrail reproduce {short}"
        )
        composed = checkout / "work" / "composed.yaml"
        params.write_yaml(composed, values)
        typed = {"overrides": tags["overrides"]} if "overrides" in tags else {}
        run_id = mlflow_run.create(root, f"{old.info.run_name} again", {"reproduces": old.info.run_id} | typed)
        print(f"run {run_id[:8]} reproduces {short} in {checkout}", flush=True)
        command = [sys.executable, "-m", "tunetrail", "run", "--force", "--params", str(composed)]
        ended = None
        try:
            ended = launch.run(
                command, [held], checkout, launch.python_path(checkout / "src") | {"MLFLOW_RUN_ID": run_id}, patience=60
            )
        finally:
            if ended != 0:
                mlflow_run.close_run(root, run_id, "KILLED" if ended is None else "FAILED")
        if ended:
            raise UserError(f"run {short} cannot be reproduced: what it said is above. The worktree stays: {checkout}")
        new = store.find(root, run_id)
        verdict = _verdict(old, new, list(_numbers(kept, checkout)))
        mlflow_run.tag(root, run_id, {"agrees": verdict})
        if verdict == "no":
            raise NotReproduced(f"run {run_id[:8]} does not agree with {short}. What it made is in {checkout}")
        worktree.remove(root, folder)
        print(f"\nrun {run_id[:8]} agrees with {short}: {verdict}. Its report is with its MLflow run; the worktree is gone.")


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[int]:
    """`locks.exclusive_lock` by a file that goes with the hold, unless a process that was left behind still has it."""
    try:
        with locks.exclusive_lock(lock.parent, lock.name) as held:
            yield held
    finally:
        with contextlib.suppress(locks.Busy), locks.exclusive_lock(lock.parent, lock.name):
            lock.unlink()


def _bring_data(root: Path, checkout: Path, kept: Path, values: dict[str, Any], title: str, again: str) -> None:
    """Put the raw data as they were into `checkout`, and files that git does not keep where the parameters look for them."""
    (checkout / "dvc.lock").write_bytes((kept / "dvc.lock").read_bytes())
    params.write_yaml(checkout / params.FILE, values)
    recorded = dvc.hashes(dvc.locked_stages(kept))
    try:
        integrity.restore(root, checkout, {path: recorded[path] for path in (_RAW,) if path in recorded}, title, again)
    except integrity.Missing:
        integrity.remove(checkout / _RAW)  # what of it was there
        print("the raw data are in DVC's cache no more: they are fetched again", flush=True)
    worktree.link_all_untracked(root, checkout, values)
    for section, kind in (("prepare", "instructions"), ("evaluate", "prompts")):
        files = list((checkout / "data" / "raw" / kind).glob("*"))
        if files and not (checkout / values[section]["path"]).exists():  # the person's file is gone, DVC has what was in it
            place = checkout / "work" / "raw" / files[0].name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(files[0])
            values[section]["path"] = str(place.relative_to(checkout))
    worktree.update_fetch(values)


def _numbers(kept: Path, checkout: Path) -> Iterator[tuple[str, float, float, bool]]:
    """Each number of the run and of the new one: its name, both values, whether the new is in the old's 95 % interval."""
    then, now = (json.loads((place / "report" / "metrics.json").read_text()) for place in (kept, checkout))
    was, is_now = (upload.scores(of) | upload.data(of) for of in (then, now))
    for name in sorted(was.keys() | is_now.keys()):
        one, two = was.get(name, float("nan")), is_now.get(name, float("nan"))
        kind, _, rest = name.partition("/")
        score = then[kind].get(rest.partition("/")[0], {}).get(rest.partition("/")[2]) if kind.startswith("ifeval") else None
        yield name, one, two, bool(score) and score["low"] <= two <= score["high"]
    curves = [history.read(file)[0] for file in (kept / "history.jsonl", checkout / "outputs" / "train" / "history.jsonl")]
    for name in ("train/loss", "validation/loss"):
        points = [{row["step"]: row[name] for row in curve if name in row} for curve in curves]
        for step in sorted(points[0].keys() | points[1].keys()):
            yield f"{name} at step {step}", *(curve.get(step, float("nan")) for curve in points), False


def _verdict(old: Any, new: Any, numbers: list[tuple[str, float, float, bool]]) -> str:
    """Print number by number whether the new run agrees; "bit for bit", "within the intervals" or "no"."""
    names = sorted({name for run in (old, new) for name in run.data.tags if name.startswith(_ENVIRONMENT)} - {_OURS})
    moved = [name for name in names if old.data.tags.get(name) != new.data.tags.get(name)]
    model = [run.data.tags.get("model.md5") for run in (old, new)]
    print(f"\n{'':<44}{'then':<16}{'now':<16}")
    for name, then, now, within in numbers:
        word = "equal" if then == now else "within its interval" if within else "differs"
        print(f"{name:<44}{then:<16.6g}{now:<16.6g}{word}")
    print(
        f"{'model.md5':<44}{str(model[0])[:12]:<16}{str(model[1])[:12]:<16}{'equal' if model[0] == model[1] else 'differs'}"
    )
    for name in moved:
        print(f"{name}: {old.data.tags.get(name)} then, {new.data.tags.get(name)} now")
    if model[0] == model[1] and all(then == now for _, then, now, _ in numbers):
        return "bit for bit"
    if any(old.data.tags.get(name) != new.data.tags.get(name) for name in _SAME):
        return "no"
    scored = [then == now or within for name, then, now, within in numbers if name.startswith("ifeval/")]
    return "within the intervals" if moved and scored and all(scored) else "no"
