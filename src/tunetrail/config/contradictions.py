"""Composed values of which two say different things, and one would win in silence -> one message with its fix.

Also files that a stage would read and none depends on. Not covered: what the files hold (`inputs`).
"""

import os
import shlex
from pathlib import Path
from typing import Any

from tunetrail import UserError
from tunetrail.data import formats, world
from tunetrail.training import checkpoint

_PROSE, _UNTRAINED = "data/prepared/text.jsonl", "work/base/untrained"  # of a base model that is made here
_TRAIN, _VALIDATION = "data/prepared/train.jsonl", "data/prepared/validation.jsonl"
# Keys of Axolotl by which it takes a part of the rows: of a data set, and of the whole training.
_SHARDS = ("shards", "shards_idx", "preprocess_shards")
_SHARDS_OF_ALL = ("dataset_shard_num", "dataset_shard_idx", "dataset_exact_deduplication")
# Sections that hold what another one says, put in by conf/ for DVC's sake: (the copy, what it is a copy of).
_COPIES = (
    ("fetch.instructions.path", "prepare.path"),
    ("fetch.instructions.hub", "prepare.hub"),
    ("fetch.generate", "prepare.generate"),
    ("fetch.prompts.path", "evaluate.path"),
    ("fetch.prompts.hub", "evaluate.hub"),
    ("contract.license", "prepare.license"),
    ("contract.expected_rows", "prepare.expected_rows"),
    ("contract.sequence_len", "train.sequence_len"),
    ("contract.excess_length_strategy", "train.excess_length_strategy"),
    ("base.template", "template"),
)
# What the stages make (dvc.yaml).
OUTPUTS = ("data/raw", "data/prepared", "outputs", "eval_results", "report")
# Keys of lm-eval's that the stage `evaluate` sets itself, or that would put another model or other prompts in their place.
_SET_BY_EVALUATE = {
    "base.base_model": [
        f"model_args.{key}" for key in ("pretrained", "revision", "peft", "delta", "subfolder", "gguf_file")
    ],
    "evaluate.path": [f"task.{key}" for key in ("dataset_path", "dataset_name", "dataset_kwargs", "custom_dataset")],
    "template": ["task.doc_to_text"],
    "evaluate.task.generation_kwargs": ["gen_kwargs"],
}


def refuse(values: dict[str, Any]) -> None:
    """Check the values for contradictions.

    Raises:
        UserError: two of them contradict each other, or a training reads what no stage depends on.
    """
    prepare, evaluate, base, train = (values[name] for name in ("prepare", "evaluate", "base", "train"))
    _sources(prepare, evaluate, base)
    _base(base, train)
    _copies(values)
    trainings = [("train", train, train.get("output_dir"), {"datasets": _TRAIN, "test_datasets": _VALIDATION})]
    if base["make"]:  # its stage empties work/base
        trainings.append(("base.make.train", base["make"]["train"], "work/base", {"datasets": _PROSE}))
    for section, config, emptied, prepared in trainings:
        _data_sets(section, config, prepared)
        _parts(section, config)
        _left_over(section, config, emptied)
    for key, names in _SET_BY_EVALUATE.items():
        for name in names:
            if at(evaluate, name) is not None:
                raise UserError(f"evaluate.{name}={at(evaluate, name)} and {key} say the same thing. Set {key} alone.")


def _sources(prepare: dict[str, Any], evaluate: dict[str, Any], base: dict[str, Any]) -> None:
    """Refuse a source of rows or of prompts that another one would win over."""
    for name, section in (("prepare", prepare), ("evaluate", evaluate)):
        path, hub = section["path"], section["hub"]
        if os.path.isdir(path):  # where it may not be looked at, `formats` says so
            raise UserError(f"{name}.path={path} is a folder. Give the path of a JSON or JSON Lines file in it.")
        if path != world.SOURCE and not hub:
            formats.check(Path(path))
            _not_made_here(f"{name}.path", path)
        pins = path.startswith("conf/") and path.endswith((".yaml", ".yml"))
        if hub and not (pins or path == world.SOURCE):
            raise UserError(
                f"{name}.path={path} is a file, and {name}.hub names one of the hub. Set {name}.hub=null to take the file."
            )
    path, generated = prepare["path"], prepare["generate"]
    if generated and prepare.get("field"):
        raise UserError(
            f"prepare.field={prepare['field']} is for a file, and prepare.generate makes the rows. Leave it out."
        )
    if generated and prepare["hub"]:
        raise UserError(
            "prepare.generate makes the demo's rows, and prepare.hub names others. Set one of them to null: "
            "prepare.generate=null takes the hub's."
        )
    if generated and path != world.SOURCE:
        raise UserError(
            f"prepare.path={path} would not be read: prepare.generate makes the demo's rows. Set prepare=file to read the "
            "file, or leave the path out."
        )
    if path == world.SOURCE and not (generated or prepare["hub"]):
        raise UserError(
            f"prepare.path={path} makes the demo's rows, and prepare.generate=null turns that off. Set prepare=file "
            "prepare.path=FILE to read a file, or prepare=demo."
        )
    if evaluate["path"] != world.SOURCE:
        return
    if evaluate["hub"]:
        raise UserError(
            f"evaluate.path={world.SOURCE} makes the demo's prompts, and evaluate.hub names others. Set evaluate.hub=null, "
            "or evaluate=ifeval for the hub's."
        )
    if not generated:
        fetched, rows = "evaluate=ifeval", "" if prepare["hub"] else f"prepare.path={path} "
        if base["make"]:
            fetched += " model=tiny_llama_alpaca evaluate.task.generation_kwargs.max_gen_toks=256"
        command = f"tunetrail run experiment=alpaca_tiny {rows}evaluate.path=PROMPTS"
        given = f"Give a file of prompts in IFEval's form, to a model with room for them: {command}. " if rows else ""
        raise UserError(
            f"evaluate=ifeval_demo has prompts about the demo's data only. {given}Add {fetched} to take IFEval's own, "
            "from the hub."
        )


def _not_made_here(key: str, path: str) -> None:
    """Refuse what a stage makes, which none of those before it can read.

    Raises:
        UserError: with the command that copies it out.
    """
    for follow in (os.path.abspath, os.path.realpath):  # DVC's cache may be behind the file as a link
        for out in OUTPUTS:
            if Path(follow(path)).is_relative_to(follow(out)):
                name = f"copied_{os.path.basename(os.path.normpath(path))}"
                raise UserError(
                    f"{key}={path}: the stages make {out}, and DVC has none of them read what a later one makes. Copy "
                    f"it out first: cp -rL {shlex.quote(path)} {shlex.quote(name)}, and give {key}={name}"
                )


def _base(base: dict[str, Any], train: dict[str, Any]) -> None:
    """Refuse a base model that is in a folder, made here or on the hub, by one key and by another not."""
    name, revision, make = base["base_model"], base.get("revision_of_model"), base["make"]
    if make and base.get("path", _PROSE) != _PROSE:
        raise UserError(f"base.path={base['path']}: a model that is made here is made from {_PROSE}. Leave the key out.")
    if make and make["train"].get("base_model", _UNTRAINED) != _UNTRAINED:
        raise UserError(
            f"base.make.train.base_model={make['train']['base_model']}: what is made starts as {_UNTRAINED}. Leave it out."
        )
    if make and revision:
        raise UserError(f"base.revision_of_model={revision}: a model that is made here has none. Set it to null.")
    if not make and checkpoint.is_path(name) and (revision or base["path"] != name):
        raise UserError(
            f"base.base_model={name} is a folder here, and the rest of `base` is of a model of the hub. Add model=local."
        )
    if not make and checkpoint.is_path(name):
        _not_made_here("base.base_model", name)
    for key in ("model_revision", "revision_of_model"):  # Axolotl's key and its other name
        if train.get(key) not in (None, revision):
            raise UserError(
                f"train.{key}={train[key]} is not base.revision_of_model={revision}, which is evaluated. Set "
                "base.revision_of_model alone; train follows it."
            )
    if revision and not (train.get("model_revision") or train.get("revision_of_model")):
        raise UserError(
            f"base.revision_of_model={revision} is evaluated, and training would take another, without "
            "train.model_revision. Set train.model_revision='${base.revision_of_model}'."
        )


def _copies(values: dict[str, Any]) -> None:
    """Refuse a copy that is not what it was made from."""
    for copy, original in _COPIES:
        wanted = at(values, original)
        if (value := at(values, copy, wanted)) != wanted:
            raise UserError(f"{copy}={value} is not {original}={wanted}, which it is a copy of. Set {original} alone.")


def at(values: Any, key: str, default: Any = None) -> Any:
    """The value of a dotted key."""
    for part in key.split("."):
        if not isinstance(values, dict) or part not in values:
            return default
        values = values[part]
    return values


def _data_sets(section: str, config: dict[str, Any], prepared: dict[str, str]) -> None:
    """Refuse rows that are not those that the stage `prepare` leaves for this key: no stage depends on others, no record has
    them, and those that are held out are not trained on."""
    for name in ("datasets", "test_datasets", "pretraining_dataset"):
        given = config.get(name) or []
        for number, one in enumerate(given if isinstance(given, list) else [given]):
            one = one if isinstance(one, dict) else {"path": one}
            path, files = one.get("path"), one.get("data_files")
            if path == prepared.get(name) and path and not files:
                continue
            key, value = (f"{number}.data_files", files) if files else (f"{number}.path", path)
            if value in (_TRAIN, _VALIDATION, _PROSE):
                right = f"{prepared[name]} is" if name in prepared else "none of the prepared rows are"
                raise UserError(f"{section}.{name}.{key}={value}: {right} for this key. Leave it out.")
            file = value if isinstance(value, str) else "FILE"
            fix = f"Leave {section}.{name} as it is, and give rows of your own with prepare.path={file}"
            if not files and not Path(str(path)).suffix and not Path(str(path)).exists():
                fix = f"Give rows of the hub with prepare=alpaca_cleaned prepare.hub.repo_id={path} and its other keys"
            raise UserError(f"{section}.{name}.{key}={value}: no stage depends on it, and no record would have it. {fix}.")


def _parts(section: str, config: dict[str, Any]) -> None:
    """Refuse a part of the rows, where the plan, the data card and the record count all of them."""
    parts = {key: config[key] for key in _SHARDS_OF_ALL if config.get(key) not in (None, False)}
    for name in ("datasets", "test_datasets"):
        for number, one in enumerate(config.get(name) or []):
            parts |= {f"{name}.{number}.{key}": one[key] for key in _SHARDS if one.get(key) is not None}
            if (split := one.get("split")) not in (None, "train"):  # a file of JSON has no other
                parts[f"{name}.{number}.split"] = split
    if parts:
        key, value = next(iter(parts.items()))
        raise UserError(
            f"{section}.{key}={value} takes a part of the rows, and the plan, the data card and the record count all. Leave "
            "it out, and draw rows with prepare.take=N, or those held out with prepare.validation_rows=N."
        )


def _left_over(section: str, config: dict[str, Any], emptied: str | None) -> None:
    """Refuse what an earlier training has left, and would be trained with though no stage depends on it.

    `emptied` is the folder that is emptied before this training.
    """
    if adapter := config.get("lora_model_dir"):
        raise UserError(
            f"{section}.lora_model_dir={adapter}: no stage depends on this adapter, and no record would have it. Merge it "
            "into its base, and give the folder of that: model=local base.base_model=FOLDER"
        )
    path = config.get("dataset_prepared_path")  # without one Axolotl takes last_run_prepared
    folder = Path(path or "last_run_prepared")
    if config.get("datasets") and (Path(emptied or "") not in folder.parents or ".." in folder.parts):
        raise UserError(
            f"{section}.dataset_prepared_path={path} is not below {emptied}, which is emptied before training. Axolotl "
            "would train on what is tokenised there, even of other rows: it compares names of files. Leave it out: "
            "tokenised rows are kept by their content."
        )
