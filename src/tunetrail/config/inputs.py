"""The composed parameters -> the inputs that they name, looked at before any stage runs and any earlier output goes."""

from pathlib import Path
from typing import Any

from tunetrail import UserError
from tunetrail.config import contradictions, rendering
from tunetrail.data import records, world
from tunetrail.training import checkpoint, scratch

HISTORY_PLUGIN = "tunetrail.training.plugin.HistoryPlugin"

# The checkers that split text into sentences or words with NLTK's punkt_tab (lm_eval/tasks/ifeval/instructions.py).
_NEED_PUNKT = {"length_constraints:number_sentences", "change_case:capital_word_frequency"}


def check(values: dict[str, Any]) -> None:
    """Read the rows, the prompts and the model's folder.

    Raises:
        UserError: one of them is missing or not what it should be.
    """
    check_consistency(values)
    sentences(values, read(values))
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
    return prompts(values)


def prompts(values: dict[str, Any]) -> list[records.Row]:
    """Read the file of prompts; none where they come from the hub or are made.

    Raises:
        UserError: it is missing or not what it should be.
    """
    evaluate = values["evaluate"]
    if evaluate["hub"] or evaluate["path"] == world.SOURCE:
        return []
    return records.read_prompts(Path(evaluate["path"]))


def sentences(values: dict[str, Any], prompts: list[records.Row]) -> None:
    """Look for what IFEval splits the answers to `prompts` with; to the demo's it needs nothing.

    Raises:
        UserError: as `punkt`.
    """
    if values["evaluate"]["hub"] or values["evaluate"]["path"] != world.SOURCE:
        punkt(prompts)


def model(values: dict[str, Any]) -> None:
    """Look for the weights of a base model that is a folder here.

    Raises:
        UserError: there are none.
    """
    base = values["base"]
    if not base["make"] and (checkpoint.is_path(base["base_model"]) or base["path"] == base["base_model"]):
        checkpoint.files(Path(base["base_model"]))


def check_consistency(values: dict[str, Any]) -> None:
    """Hold against each other the keys that two stages rely on.

    Raises:
        UserError: what one stage would write, another would not find, or would delete.
    """
    base, train = values["base"], values["train"]
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
        name = base["base_model"]
        hub = f"Give model=hub base.base_model={name} base.revision_of_model=COMMIT to use one of the hub. "
        raise UserError(
            f"base.base_model={name}: model=tiny_llama makes its own. {'' if checkpoint.is_path(name) else hub}Add "
            "model=local to use a folder."
        )
    for section in ("template", "evaluate.template", "base.template"):
        if form := contradictions.at(values, section):
            rendering.check(form, section)
    contradictions.refuse(values)


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
