"""A finished run -> its parameters (from MLflow) and its models (from DVC's cache) as files here.

The weights of a base model from the hub are fetched by transformers, at the recorded revision.
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
OUTPUTS = {"base": "outputs/base", "train": "outputs/model"}  # stage: its output with a model


@dataclass(frozen=True)
class RunFiles:
    """The files of a finished run: `params` is its params.yaml, `base` a folder or a hub id, `tuned` a folder."""

    name: str
    params: dict[str, Any]
    base: str
    revision: str | None
    tuned: Path

    def folders(self) -> dict[str, Path]:
        """Return the folders that serving needs: the tuned model's and, of an adapter, its base's if that is here."""
        folders = {"tuned": self.tuned}
        if checkpoint.is_adapter(self.tuned) and Path(self.base).is_dir():
            folders["base"] = Path(self.base)
        return folders

    def size(self) -> int:
        """Return the bytes of the files that serving needs."""
        return sum(file.stat().st_size for folder in self.folders().values() for file in checkpoint.files(folder))


def from_checkout(root: Path) -> RunFiles:
    """Return the run that the checkout holds.

    Raises:
        UserError: it holds none, or its model was trained on other data or in another template than params.yaml names, or
            its models are not those that dvc.lock records.
    """
    missing = [path for path in (*RECORD, *OUTPUTS.values()) if not (root / path).exists()]
    trained = dvc.locked_stages(root).get("train", {}).get("params", {}).get(str(params.FILE), {}).get("train")
    if missing or not isinstance(trained, dict) or None in _outs(root).values():
        lacking = missing[0] if missing else "model in dvc.lock"
        raise UserError(
            f"{root}: no finished run here (no {lacking}). Make one: tunetrail run, or name one: tunetrail chat RUN"
        )
    integrity.verify(root, root, _outs(root), f"{root}/dvc.lock", "tunetrail run")
    files = _read("this checkout's run", root, record=root, models=root)
    if trained.get("datasets") != files.params["train"].get("datasets"):
        raise UserError(
            f"{root}: outputs/model was trained on other data, or in another template, than params.yaml names now: a run "
            "did not finish. Finish it: tunetrail run. Or name another run: tunetrail chat RUN"
        )
    return files


def from_record(root: Path, reference: str) -> RunFiles:
    """Return the run that `reference` names (`store.find`), with its models out of DVC's cache.

    They go into work/recorded/<id> unless the checkout holds them, and are compared with their recorded md5.

    Raises:
        UserError: it is not one run, or a sweep, or did not finish, or neither cache nor remote has its models as recorded.
    """
    from tunetrail.tracking import store  # MLflow takes seconds to import: not for the checkout's own run

    run = store.single(root, reference)
    record = root / "work" / "recorded" / run.id
    record.mkdir(parents=True, exist_ok=True)
    if missing := store.download(root, run.id, RECORD, record):
        raise UserError(
            f"{run.title}, {run.status}: its record has no {' and no '.join(missing)}. Only a run that finished has "
            f"models: name another. How to try this one again: tunetrail show {run.short_id}"
        )
    reproduce = f"tunetrail reproduce {run.short_id}"
    if None in _outs(record).values():
        raise UserError(f"{run.title}: its dvc.lock records no models. Name another, or: {reproduce}")
    if _outs(root) == _outs(record) and not integrity.changed(root, _outs(record)):
        return _read(run.title, root, record, models=root)
    checkout_models(root, record, run.title, reproduce, run.dvc_cache)
    return _read(run.title, root, record, models=record)


def checkout_models(
    root: Path,
    folder: Path,
    name: str = "the run",
    remake: str = "tunetrail reproduce RUN",
    other_cache: Path | None = None,
) -> None:
    """Have DVC put the models that `folder`/dvc.lock names into `folder`; from where, and the other arguments, as in
    `integrity.restore`.

    Raises:
        UserError: neither has them as recorded.
    """
    # Git ignores work/, and DVC reads no stage from an ignored file.
    dvc.write_shared_cache_config(root, folder / ".dvc" / "config", {"core.no_scm": "true"})
    print(f"DVC puts {' and '.join(OUTPUTS.values())} back into {folder}", file=sys.stderr, flush=True)
    integrity.restore(root, folder, _outs(folder), name, remake, other_cache)


def _outs(folder: Path) -> dict[str, str | None]:
    """Return the md5 of each of OUTPUTS, as `folder`/dvc.lock records it."""
    stages = dvc.locked_stages(folder)
    return {path: dvc.md5(folder, stages, stage, path) for stage, path in OUTPUTS.items()}


def _read(name: str, root: Path, record: Path, models: Path) -> RunFiles:
    values = params.load(record / params.FILE)
    for section in ("template", "train", "evaluate"):
        if not isinstance(values.get(section), dict):
            raise UserError(
                f"{record / params.FILE}: has no section {section}. tunetrail run writes the file again, "
                f"tunetrail restore RUN writes it as the run had it"
            )
    base = json.loads((models / OUTPUTS["base"] / "base.json").read_text())
    weights = _weights(name, root, models, base)
    return RunFiles(name, values, weights, base["revision"], models / OUTPUTS["train"])


def _weights(name: str, root: Path, models: Path, base: dict[str, Any]) -> str:
    """Return the base's folder, among the run's models if the run made it, or its id on the hub."""
    model = base["base_model"]
    if model.startswith(f"{OUTPUTS['base']}/"):
        return str(models / model)
    folder = root / model
    if not folder.is_dir() and not checkpoint.is_path(model):
        return model
    if checkpoint.digest(folder) != base["sha256"]:
        raise UserError(f"{name}: its base {model} has changed since the run (its digest differs). Restore the folder.")
    return str(folder)
