"""Composed values that contradict each other, where one would silently win -> one message with its fix.

Also files that a stage would read although no stage depends on them. `inputs` checks the content of files.
"""

import os
import shlex
from pathlib import Path
from typing import Any

from tunetrail import UserError
from tunetrail.data import formats, world
from tunetrail.training import checkpoint

# What the stages make (dvc.yaml).
OUTPUTS = ("data/raw", "data/prepared", "outputs", "eval_results", "report")
_TRAIN, _VALIDATION = "data/prepared/train.jsonl", "data/prepared/validation.jsonl"
_TEXT, _UNTRAINED = "data/prepared/text.jsonl", "work/base/untrained"  # of a base model that is made here
# Keys of Axolotl that select a part of the rows: of one data set, and of all.
_SHARDS = ("shards", "shards_idx", "preprocess_shards")
_SHARDS_OF_ALL = ("dataset_shard_num", "dataset_shard_idx", "dataset_exact_deduplication")
# Values that conf/ copies from another section, so that DVC sees the section change: (copy, original).
COPIES = (
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
# Keys of lm-eval in `evaluate` that the stage sets itself, or that would use another model or other prompts, by our key.
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
        UserError: two values contradict each other, or a training would read what no stage depends on.
    """
    prepare, evaluate, base, train = (values[name] for name in ("prepare", "evaluate", "base", "train"))
    _check_source("prepare", prepare)
    _check_source("evaluate", evaluate)
    _check_demo_prompts(prepare, evaluate, base)
    _check_base(base, train)
    for copy, original in COPIES:
        expected = at(values, original)
        if (value := at(values, copy, expected)) != expected:
            raise UserError(f"{copy}={value} is not {original}={expected}, which it is a copy of. Set {original} alone.")
    _check_training("train", train, train.get("output_dir"), {"datasets": _TRAIN, "test_datasets": _VALIDATION})
    if base["make"]:  # its stage empties work/base
        _check_training("base.make.train", base["make"]["train"], "work/base", {"datasets": _TEXT})
    for key, names in _SET_BY_EVALUATE.items():
        for name in names:
            if at(evaluate, name) is not None:
                raise UserError(f"evaluate.{name}={at(evaluate, name)} and {key} say the same thing. Set {key} alone.")


def at(values: Any, key: str, default: Any = None) -> Any:
    """Return the value of a dotted key."""
    for part in key.split("."):
        if not isinstance(values, dict) or part not in values:
            return default
        values = values[part]
    return values


def _check_source(name: str, section: dict[str, Any]) -> None:
    """Check that the section `prepare` or `evaluate` names one source of its rows: a generator, the hub or a file."""
    path, hub = section["path"], section["hub"]
    if os.path.isdir(path):  # False without permission, which `formats` reports
        raise UserError(f"{name}.path={path} is a folder. Give the path of a JSON or JSON Lines file in it.")
    is_demo = path == world.SOURCE
    is_pin = bool(hub) and path.startswith("conf/") and path.endswith((".yaml", ".yml"))  # pins the hub's file
    sources = {f"{name}.path={path}": f"leave {name}.path out"} if not (is_demo or is_pin) else {}
    if hub:
        sources[f"{name}.hub"] = f"set {name}.hub=null"
    if section.get("generate"):
        sources["prepare.generate"] = "set prepare.generate=null"
        if section.get("field"):
            raise UserError(
                f"prepare.field={section['field']} is for a file, and prepare.generate makes the rows. Leave it out."
            )
    elif is_demo and name == "evaluate":
        sources[f"evaluate.path={path}"] = "set evaluate=ifeval"
    if len(sources) > 1:
        fixes = ", or ".join(sources.values())
        raise UserError(f"{' and '.join(sources)} name different data, and only one would be read. Keep one: {fixes}.")
    if not sources:
        raise UserError(
            f"prepare.path={path} makes the demo's rows, and prepare.generate=null turns that off. Set prepare=file "
            "prepare.path=FILE to read a file, or prepare=demo."
        )
    if not (is_demo or hub):
        formats.check(Path(path))
        _refuse_output(f"{name}.path", path)


def _check_demo_prompts(prepare: dict[str, Any], evaluate: dict[str, Any], base: dict[str, Any]) -> None:
    """Check that the demo's prompts are used only with the demo's rows."""
    if evaluate["path"] != world.SOURCE or prepare["generate"]:
        return
    words = "evaluate=ifeval"
    if base["make"]:
        words += " model=tiny_llama_alpaca evaluate.task.generation_kwargs.max_gen_toks=256"
    own = ""
    if not prepare["hub"]:
        command = f"tunetrail run experiment=alpaca_tiny prepare.path={prepare['path']} evaluate.path=PROMPTS"
        own = f"Give a file of prompts in IFEval's form, to a model with room for them: {command}. "
    raise UserError(
        f"evaluate=ifeval_demo has prompts about the demo's data only. {own}Add {words} to take IFEval's own, from the hub."
    )


def _refuse_output(key: str, path: str) -> None:
    """Refuse an output of a stage as an input: no earlier stage can read it."""
    for resolve in (os.path.abspath, os.path.realpath):  # the file may be a link into DVC's cache
        for out in OUTPUTS:
            if Path(resolve(path)).is_relative_to(resolve(out)):
                copy = f"copied_{os.path.basename(os.path.normpath(path))}"
                raise UserError(
                    f"{key}={path}: the stages make {out}, and in DVC no stage can read what a later one makes. Copy it "
                    f"first: cp -rL {shlex.quote(path)} {shlex.quote(copy)}, and give {key}={copy}"
                )


def _check_base(base: dict[str, Any], train: dict[str, Any]) -> None:
    """Check that all keys name the same base model: made here, in a folder, or of the hub at one revision."""
    name, revision, make = base["base_model"], base.get("revision_of_model"), base["make"]
    if make and base.get("path", _TEXT) != _TEXT:
        raise UserError(f"base.path={base['path']}: a model that is made here is made from {_TEXT}. Leave the key out.")
    if make and make["train"].get("base_model", _UNTRAINED) != _UNTRAINED:
        raise UserError(
            f"base.make.train.base_model={make['train']['base_model']}: the model starts as {_UNTRAINED}. Leave it out."
        )
    if make and make["train"].get("reinit_weights") is not True:
        raise UserError(
            "base.make.train.reinit_weights is not true: a model that is made here has no weights yet. Set it to true."
        )
    if make and make["train"].get("adapter"):
        raise UserError(
            f"base.make.train.adapter={make['train']['adapter']}: a base model cannot be an adapter. Leave it out."
        )
    if make and revision:
        raise UserError(f"base.revision_of_model={revision}: a model that is made here has none. Set it to null.")
    if not make and checkpoint.is_path(name):
        if revision or base["path"] != name:
            raise UserError(
                f"base.base_model={name} is a folder here, and the rest of `base` is of a model of the hub. Add model=local."
            )
        _refuse_output("base.base_model", name)
    trained = {key: train[key] for key in ("model_revision", "revision_of_model") if train.get(key)}  # two names of one key
    for key, value in trained.items():
        if value != revision:
            raise UserError(
                f"train.{key}={value} is not base.revision_of_model={revision}, which is evaluated. Set "
                "base.revision_of_model alone; train follows it."
            )
    if revision and not trained:
        raise UserError(
            f"base.revision_of_model={revision} is evaluated, and training would take another, without "
            "train.model_revision. Set train.model_revision='${base.revision_of_model}'."
        )


def _check_training(section: str, config: dict[str, Any], emptied: str | None, prepared: dict[str, str]) -> None:
    """Check that a training reads all of the rows that `prepare` wrote, `prepared` by key, and nothing else.

    `emptied` is the folder that is emptied before the training.
    """
    for name in ("datasets", "test_datasets", "pretraining_dataset"):
        data_sets = config.get(name) or []
        for number, data_set in enumerate(data_sets if isinstance(data_sets, list) else [data_sets]):
            _check_data_set(section, name, number, data_set if isinstance(data_set, dict) else {"path": data_set}, prepared)
    _check_whole(section, config)
    if adapter := config.get("lora_model_dir"):
        raise UserError(
            f"{section}.lora_model_dir={adapter}: no stage depends on this adapter, and no record would have it. Merge it "
            "into its base, and give the folder of that: model=local base.base_model=FOLDER"
        )
    path = config.get("dataset_prepared_path")
    folder = Path(path or "last_run_prepared")  # Axolotl's default
    if config.get("datasets") and (Path(emptied or "") not in folder.parents or ".." in folder.parts):
        raise UserError(
            f"{section}.dataset_prepared_path={path} is not below {emptied}, which is emptied before training. Axolotl "
            "would train on the tokenised rows there, even if they are others: it compares names of files. Leave it out: "
            "tokenised rows are kept by their content."
        )


def _check_data_set(section: str, name: str, number: int, data_set: dict[str, Any], prepared: dict[str, str]) -> None:
    """Check that a data set is the prepared file for its key. DVC would not see others change, nor the record have them."""
    path, files = data_set.get("path"), data_set.get("data_files")
    if path == prepared.get(name) and path and not files:
        return
    key, value = (f"{number}.data_files", files) if files else (f"{number}.path", path)
    if value in (_TRAIN, _VALIDATION, _TEXT):
        right = f"{prepared[name]} is" if name in prepared else "none of the prepared rows are"
        raise UserError(f"{section}.{name}.{key}={value}: {right} for this key. Leave it out.")
    file = value if isinstance(value, str) else "FILE"
    fix = f"Leave {section}.{name} as it is, and give your own rows with prepare.path={file}"
    if not files and not Path(str(path)).suffix and not Path(str(path)).exists():
        fix = f"Give rows of the hub with prepare=alpaca_cleaned prepare.hub.repo_id={path} and its other keys"
    raise UserError(f"{section}.{name}.{key}={value}: no stage depends on it, and no record would have it. {fix}.")


def _check_whole(section: str, config: dict[str, Any]) -> None:
    """Refuse to train on a part of the rows: the plan, the data card and the record count all of them."""
    parts = {key: config[key] for key in _SHARDS_OF_ALL if config.get(key) not in (None, False)}
    for name in ("datasets", "test_datasets"):
        for number, data_set in enumerate(config.get(name) or []):
            parts |= {f"{name}.{number}.{key}": data_set[key] for key in _SHARDS if data_set.get(key) is not None}
            if (split := data_set.get("split")) not in (None, "train"):  # a JSON file has no other
                parts[f"{name}.{number}.split"] = split
    if parts:
        key = next(iter(parts))
        raise UserError(
            f"{section}.{key}={parts[key]} takes a part of the rows, and the plan, the data card and the record count all. "
            "Leave it out, and draw rows with prepare.take=N, or those held out with prepare.validation_rows=N."
        )
