"""A training's `output_dir` -> the checkpoint that the training goes on from: its newest whole one, and never another's.

The folder says which training it is of: the Axolotl config, the options of `accelerate launch`, the hashes of the rows and
of the base model, the versions of the tools, the code of the plug-in. A folder of another unfinished training is set aside,
and taken back when that training is run again.
"""

import hashlib
import importlib.metadata
import json
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tunetrail.data import jsonlines
from tunetrail.training import history, manifest

UNFINISHED = Path("work/unfinished")
_TRAINING, _ATTEMPTS = "training.json", "attempts.jsonl"
_TOOLS = ("accelerate", "axolotl", "peft", "torch", "transformers")
_CODE = ("order.py", "plugin.py")
# Where files are kept, and from where a training goes on, change no number of it.
_NO_EFFECT = ("auto_resume_from_checkpoints", "dataset_prepared_path", "output_dir", "resume_from_checkpoint")


def training(
    section: dict[str, Any], accelerate: dict[str, Any], rows: Iterable[Path], base: dict[str, Any]
) -> dict[str, Any]:
    """Return all that decides a training: the Axolotl config `section`, the options of `accelerate launch`, the files of its
    `rows`, its `base` model as base.json describes it, the tools and our own code."""
    digest = hashlib.sha256()
    for name in _CODE:
        digest.update(Path(__file__).with_name(name).read_bytes())
    return {
        "train": {key: value for key, value in section.items() if key not in _NO_EFFECT},
        "accelerate": accelerate,
        "rows": {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in rows},
        "base": base,
        "versions": {tool: importlib.metadata.version(tool) for tool in _TOOLS},
        "code": digest.hexdigest(),
    }


def prepare(folder: Path, wanted: dict[str, Any]) -> Path | None:
    """Make `folder` the output_dir of the training `wanted` (`training`), and return the checkpoint to go on from; None if
    it starts at its beginning, in an empty folder."""
    there, finished = _read(folder)
    if folder.exists() and (there != wanted or finished):
        _leave(folder, there, finished, wanted)
    if not folder.exists() and _aside(wanted).is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(_aside(wanted), folder)  # they may be on different disks
    checkpoint = _newest_whole(folder)
    if checkpoint is None:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder, wanted, finished=False)
    _add_attempt(folder, checkpoint)
    return checkpoint


def finish(folder: Path) -> None:
    """Say that the training in `folder` is finished and recorded: run again, it starts at its beginning."""
    there, _ = _read(folder)
    if there is not None:
        _write(folder, there, finished=True)


def forget(root: Path, section: dict[str, Any]) -> None:
    """Remove what unfinished trainings with this Axolotl config have left in the checkout `root`."""
    config = {key: value for key, value in section.items() if key not in _NO_EFFECT}
    for folder in (root / section["output_dir"], *(root / UNFINISHED).glob("*/")):
        there, _ = _read(folder)
        if there and there["train"] == config:
            shutil.rmtree(folder)


def attempts(folder: Path) -> list[dict[str, Any]]:
    """Return how often the training in `folder` was started, each time as {"time", "from_step", "repeated"}: the step that
    it went on from, and how many steps that had been done are done again."""
    file = folder / _ATTEMPTS
    return jsonlines.whole(file.read_bytes(), from_step=int, repeated=int) if file.is_file() else []


def inexact(section: dict[str, Any], accelerate: dict[str, Any]) -> str:
    """Return why a training that goes on from a checkpoint gives other numbers than an unbroken one; "" if it does not."""
    if (accelerate.get("num_machines") or 1) != 1:
        return "several machines"
    reasons = {  # options of `accelerate launch`, then keys of Axolotl
        "use_fsdp": "FSDP",
        "use_deepspeed": "DeepSpeed",
        "use_tp": "tensor parallel",
        "use_parallelism_config": "sharded",
        "dataloader_num_workers": "loader workers",
        "fsdp": "FSDP",
        "fsdp_config": "FSDP",
        "deepspeed": "DeepSpeed",
        "tensor_parallel_size": "tensor parallel",
        "context_parallel_size": "context parallel",
        "dp_shard_size": "sharded",
        "streaming": "streamed rows",
        "pretraining_dataset": "streamed rows",
        "group_by_length": "group_by_length",
        "rl": f"rl: {section.get('rl')}",
    }
    settings = accelerate | section
    return next((reason for key, reason in reasons.items() if settings.get(key)), "")


def _leave(folder: Path, there: dict[str, Any] | None, finished: bool, wanted: dict[str, Any]) -> None:
    """Set the folder of another unfinished training aside, if it has a checkpoint to go on from, and remove any other."""
    checkpoint = None if there is None or finished else _newest_whole(folder)
    if checkpoint is None:
        if any(folder.glob("checkpoint-*")) and not finished:
            print(f"train: {folder} has checkpoints of an unknown training: they are removed", flush=True)
        shutil.rmtree(folder)
        return
    aside = _aside(there)
    shutil.rmtree(aside, ignore_errors=True)
    aside.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(folder, aside)
    print(
        f"train: {folder} has {checkpoint.name} of an unfinished training with {_difference(there, wanted)}. It is kept in "
        f"{aside}, where that training finds it when it is run again; tunetrail gc --copies removes it",
        flush=True,
    )


def _difference(there: dict[str, Any], wanted: dict[str, Any]) -> str:
    """Return what the other training differs in: up to three keys of its config, or else the name of a part."""
    config, own = there["train"], wanted["train"]
    keys = [key for key in {**config, **own} if config.get(key) != own.get(key)]
    if keys:
        return ", ".join(f"{key}={config.get(key)}" for key in keys[:3]) + (" and more" if len(keys) > 3 else "")
    return "other " + next((part for part in wanted if there.get(part) != wanted[part]), "settings")


def _newest_whole(folder: Path) -> Path | None:
    """Return the newest checkpoint that is whole; those after it, which a kill or a full disk has cut, are removed."""
    checkpoints = [path for path in folder.glob("checkpoint-*") if path.name.partition("-")[2].isdigit()]
    for checkpoint in sorted(checkpoints, key=_step, reverse=True):
        fault = manifest.fault(checkpoint)
        if not fault:
            return checkpoint
        print(f"train: {checkpoint} is not whole ({fault}): it is removed", flush=True)
        shutil.rmtree(checkpoint)
    return None


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.partition("-")[2])


def _add_attempt(folder: Path, checkpoint: Path | None) -> None:
    step = _step(checkpoint) if checkpoint else 0
    done = max((row["step"] for row in history.read(folder / "history.jsonl")[0]), default=0)
    attempt = {"time": round(time.time(), 3), "from_step": step, "repeated": max(done - step, 0)}
    with (folder / _ATTEMPTS).open("a") as file:
        file.write(json.dumps(attempt) + "\n")
    if checkpoint:
        again = f"; {attempt['repeated']} steps after it are done again" if attempt["repeated"] else ""
        print(f"train: goes on from step {step} ({checkpoint}){again}", flush=True)


def _aside(there: dict[str, Any]) -> Path:
    text = json.dumps(there, sort_keys=True)
    return UNFINISHED / hashlib.sha256(text.encode()).hexdigest()[:16]


def _read(folder: Path) -> tuple[dict[str, Any] | None, bool]:
    """Return the training that `folder` is of, None if that is not known, and whether it is finished."""
    try:
        content = json.loads((folder / _TRAINING).read_text(encoding="utf-8"))
        there = content["training"]
        return (there, bool(content["finished"])) if isinstance(there["train"], dict) else (None, False)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None, False


def _write(folder: Path, there: dict[str, Any], finished: bool) -> None:
    partial = folder / f"{_TRAINING}.partial"
    partial.write_text(json.dumps({"training": there, "finished": finished}, indent=2), encoding="utf-8")
    partial.replace(folder / _TRAINING)
