"""A finished run -> its parameters and models as files here: MLflow has what it was, DVC's cache what came out of it.

Not covered: the weights of a base model from the hub, which transformers fetches at the recorded revision.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunetrail import UserError
from tunetrail.checkout import dvc, integrity
from tunetrail.config import params
from tunetrail.training import checkpoint

RECORD = (str(params.FILE), "dvc.yaml", "dvc.lock")
OUTPUTS = {"base": "outputs/base", "train": "outputs/model"}  # stage: its output that is asked for


@dataclass(frozen=True)
class Recorded:
    """A finished run: `params` is the whole of its params.yaml, `base` a folder or a hub id, `tuned` a folder."""

    name: str
    params: dict[str, Any]
    base: str
    revision: str | None
    tuned: Path


def here(root: Path) -> Recorded:
    """The run that the checkout holds.

    Raises:
        UserError: it holds none, or its model was trained on other data or in another template than params.yaml names, or
            its models are not those that dvc.lock records.
    """
    missing = [path for path in (*RECORD, *OUTPUTS.values()) if not (root / path).exists()]
    trained = dvc.locked_stages(root).get("train", {}).get("params", {}).get(str(params.FILE), {}).get("train")
    if missing or not isinstance(trained, dict) or None in _outs(root).values():
        what = missing[0] if missing else "model in dvc.lock"
        raise UserError(
            f"{root}: no finished run here (no {what}). Make one: tunetrail run, or name one: tunetrail chat RUN"
        )
    integrity.verify(root, root, _outs(root), f"{root}/dvc.lock", "tunetrail run")
    found = _read("this checkout's run", root, record=root, models=root)
    if trained.get("datasets") != found.params["train"].get("datasets"):
        raise UserError(
            f"{root}: outputs/model was trained on other data, or in another template, than params.yaml names by now: a run "
            "did not finish. Finish it: tunetrail run. Or name the run to take: tunetrail chat RUN"
        )
    return found


def bring(root: Path, word: str) -> Recorded:
    """The run that `word` means (`store.find`), with its models out of DVC's cache.

    They come into work/recorded/<id>, unless the checkout holds the same; they are read, and are what was recorded.

    Raises:
        UserError: not one run, or a sweep, or one without an end, or its models are neither in the cache nor in a remote.
    """
    from tunetrail.tracking import store  # MLflow takes seconds to import: not for the checkout's own run

    run = store.single(root, word)
    name, record = f"run {run.info.run_id} ({run.info.run_name})", root / "work" / "recorded" / run.info.run_id
    record.mkdir(parents=True, exist_ok=True)
    if missing := store.download(root, run.info.run_id, RECORD, record):
        raise UserError(
            f"{name}, {run.info.status}: its record has no {' and no '.join(missing)}. Only a run that finished has "
            f"models: name another. What tries this one again is in: tunetrail show {run.info.run_id[:8]}"
        )
    if None in _outs(record).values():
        raise UserError(
            f"{name}: its dvc.lock records no models. Name another, or: tunetrail reproduce {run.info.run_id[:8]}"
        )
    if _outs(root) == _outs(record) and not integrity.changed(root, _outs(record)):
        return _read(name, root, record, models=root)
    checkout(root, record, name, f"tunetrail reproduce {run.info.run_id[:8]}")
    return _read(name, root, record, models=record)


def checkout(root: Path, folder: Path, name: str = "the run", again: str = "tunetrail reproduce RUN") -> None:
    """Have DVC put the models that `folder`/dvc.lock names into `folder`, from the cache and the remotes of `root`;
    `name` and `again` as in `integrity.verify`.

    Raises:
        UserError: they are not to be had as they were recorded.
    """
    # Git ignores work/, and DVC takes no stage from an ignored file.
    dvc.write_shared_cache_config(root, folder / ".dvc" / "config", {"core.no_scm": "true"})
    print(f"DVC brings {' and '.join(OUTPUTS.values())} back into {folder}", file=sys.stderr, flush=True)
    integrity.restore(root, folder, _outs(folder), name, again)


def _outs(folder: Path) -> dict[str, str | None]:
    """The md5 of each of OUTPUTS, as `folder`/dvc.lock records it."""
    stages = dvc.locked_stages(folder)
    return {path: dvc.md5(folder, stages, stage, path) for stage, path in OUTPUTS.items()}


def _read(name: str, root: Path, record: Path, models: Path) -> Recorded:
    values = params.load(record / params.FILE)
    for section in ("template", "train", "evaluate"):
        if not isinstance(values.get(section), dict):
            raise UserError(
                f"{record / params.FILE}: has no section {section}. Put back what was there: tunetrail run writes it anew, "
                f"tunetrail restore RUN as the run had it"
            )
    base = json.loads((models / OUTPUTS["base"] / "base.json").read_text())
    weights = _weights(name, root, models, base)
    return Recorded(name, values, weights, base["revision"], models / OUTPUTS["train"])


def _weights(name: str, root: Path, models: Path, base: dict[str, Any]) -> str:
    """Where the base is: what the run made is among its models, another folder in the checkout, all else on the hub."""
    place = base["base_model"]
    if place.startswith(f"{OUTPUTS['base']}/"):
        return str(models / place)
    folder = root / place
    if not folder.is_dir() and not checkpoint.is_path(place):
        return place
    if checkpoint.digest(folder) != base["sha256"]:
        raise UserError(f"{name}: its base {place} is another model by now (its digest differs). Put back what was there.")
    return str(folder)
