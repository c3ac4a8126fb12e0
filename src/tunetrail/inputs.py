"""The composed parameters -> the inputs that they name, looked at before any stage runs and any earlier output goes."""

import os
from pathlib import Path
from typing import Any

from tunetrail import UserError, checkpoint, formats, records, rendering, scratch, world

HISTORY_PLUGIN = "tunetrail.live.HistoryPlugin"
_PROSE, _UNTRAINED = "data/prepared/text.jsonl", "work/base/untrained"  # of a base model that is made here

# The checkers that split text into sentences or words with NLTK's punkt_tab (lm_eval/tasks/ifeval/instructions.py).
_NEED_PUNKT = {"length_constraints:number_sentences", "change_case:capital_word_frequency"}


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
# Keys of lm-eval's that the stage `evaluate` sets itself, or that would put another model or other prompts in their place.
_SET_BY_EVALUATE = {
    "base.base_model": [
        f"model_args.{key}" for key in ("pretrained", "revision", "peft", "delta", "subfolder", "gguf_file")
    ],
    "evaluate.path": [f"task.{key}" for key in ("dataset_path", "dataset_name", "dataset_kwargs", "custom_dataset")],
    "template": ["task.doc_to_text"],
    "evaluate.task.generation_kwargs": ["gen_kwargs"],
}


def check(values: dict[str, Any]) -> None:
    """Read the rows, the prompts and the model's folder.

    Raises:
        UserError: one of them is missing or not what it should be.
    """
    evaluate = values["evaluate"]
    together(values)
    prompts = read(values)
    if evaluate["hub"] or evaluate["path"] != world.SOURCE:
        punkt(prompts)
    model(values)


def read(values: dict[str, Any]) -> list[records.Row]:
    """Read the files of rows and of prompts that are here; returns the prompts, none where they are not.

    Raises:
        UserError: one of them is missing or not what it should be.
    """
    prepare, evaluate = values["prepare"], values["evaluate"]
    for name, section in (("prepare", prepare), ("evaluate", evaluate)):
        if section["hub"] and not Path(section["path"]).is_file():
            raise UserError(f"{name}.path={section['path']}: no such file. Name the file of conf/ that pins {name}.hub.")
    if not (prepare["generate"] or prepare["hub"]):
        rows = records.read_instructions(Path(prepare["path"]), prepare["empty"], prepare.get("field"))
        records.split(rows, prepare["take"], prepare["validation_rows"], prepare["seed"])
    if evaluate["hub"] or evaluate["path"] == world.SOURCE:
        return []
    return records.read_prompts(Path(evaluate["path"]))


def model(values: dict[str, Any]) -> None:
    """Look for the weights of a base model that is a folder here.

    Raises:
        UserError: there are none.
    """
    base = values["base"]
    if not base["make"] and (checkpoint.is_path(base["base_model"]) or base["path"] == base["base_model"]):
        checkpoint.files(Path(base["base_model"]))


def together(values: dict[str, Any]) -> None:
    """Hold against each other the keys that two stages rely on.

    Raises:
        UserError: what one stage would write, another would not find, or would delete.
    """
    prepare, evaluate, base, train = (values[name] for name in ("prepare", "evaluate", "base", "train"))
    launched = values["accelerate"]
    if launched.get("multi_gpu") and launched.get("num_processes") == 1 and launched.get("num_machines", 1) == 1:
        raise UserError("accelerate refuses accelerate.multi_gpu=true with one process. Add accelerate.multi_gpu=false.")
    made = {"train": train} | ({"base.make.train": base["make"]["train"]} if base["make"] else {})
    for section, config in made.items():
        scratch.check(config.get("output_dir"), section, None if section == "train" else "base")
        if HISTORY_PLUGIN not in (config.get("plugins") or []):
            raise UserError(f"{section}.plugins lacks {HISTORY_PLUGIN}, which keeps the loss curve. Add it to the list.")
    if train["base_model"] != base["base_model"]:
        raise UserError(
            f"train.base_model={train['base_model']} is not the base that is evaluated, base.base_model="
            f"{base['base_model']}. Set base.base_model alone; train follows it."
        )
    if base["make"] and (not base["base_model"].startswith("outputs/base/") or ".." in Path(base["base_model"]).parts):
        raise UserError(
            f"base.base_model={base['base_model']}: model=tiny_llama makes its own. Add model=local to use a folder."
        )
    for section in ("template", "evaluate.template", "base.template"):
        if form := _at(values, section):
            rendering.check(form, section)
    _sources(prepare, evaluate, base)
    _base(base, train)
    _copies(values)
    for key, names in _SET_BY_EVALUATE.items():
        for name in names:
            if _at(evaluate, name) is not None:
                raise UserError(f"evaluate.{name}={_at(evaluate, name)} and {key} say the same thing. Set {key} alone.")


def _sources(prepare: dict[str, Any], evaluate: dict[str, Any], base: dict[str, Any]) -> None:
    """Refuse a source of rows or of prompts that another one would win over."""
    for name, section in (("prepare", prepare), ("evaluate", evaluate)):
        path, hub = section["path"], section["hub"]
        if os.path.isdir(path):  # where it may not be looked at, `formats` says so
            raise UserError(f"{name}.path={path} is a folder. Give the path of a JSON or JSON Lines file in it.")
        if path != world.SOURCE and not hub:
            formats.check(Path(path))
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
        wanted = _at(values, original)
        if (value := _at(values, copy, wanted)) != wanted:
            raise UserError(f"{copy}={value} is not {original}={wanted}, which it is a copy of. Set {original} alone.")


def _at(values: Any, key: str, default: Any = None) -> Any:
    """The value of a dotted key."""
    for part in key.split("."):
        if not isinstance(values, dict) or part not in values:
            return default
        values = values[part]
    return values


def punkt(prompts: list[records.Row]) -> None:
    """Look for NLTK's punkt_tab, where `prompts` need it or there are none to ask.

    Raises:
        UserError: it is not where NLTK looks for data.
    """
    import nltk

    if prompts and not _NEED_PUNKT & {kind for row in prompts for kind in row["instruction_id_list"]}:
        return
    try:
        nltk.data.find("tokenizers/punkt_tab")
    except LookupError:
        raise UserError(
            "NLTK's punkt_tab, which IFEval splits sentences with, is not here. Point NLTK_DATA at a folder that has "
            "tokenizers/punkt_tab, or fetch it once: python -m nltk.downloader punkt_tab"
        ) from None
