"""The composed parameters -> the inputs that they name, looked at before any stage runs and any earlier output goes."""

import string
from pathlib import Path
from typing import Any

from tunetrail import UserError, checkpoint, records, world

HISTORY_PLUGIN = "tunetrail.live.HistoryPlugin"

# The checkers that split text into sentences or words with NLTK's punkt_tab (lm_eval/tasks/ifeval/instructions.py).
_NEED_PUNKT = {"length_constraints:number_sentences", "change_case:capital_word_frequency"}


def check(values: dict[str, Any]) -> None:
    """Read the rows, the prompts and the model's folder.

    Raises:
        UserError: one of them is missing or not what it should be.
    """
    prepare, evaluate = values["prepare"], values["evaluate"]
    together(values)
    if not (prepare["generate"] or prepare["hub"]):
        rows = records.read_instructions(Path(prepare["path"]), prepare["empty"])
        records.split(rows, prepare["take"], prepare["validation_rows"], prepare["seed"])
    if evaluate["hub"] or evaluate["path"] != world.SOURCE:
        punkt([] if evaluate["hub"] else records.read_prompts(Path(evaluate["path"])))
    model(values)


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
        place = Path(config.get("output_dir") or "")
        if place.parts[:1] != ("work",) or len(place.parts) < 2 or ".." in place.parts:
            raise UserError(f"{section}.output_dir={place}: it is emptied before training. Keep it in a folder below work/.")
        if HISTORY_PLUGIN not in (config.get("plugins") or []):
            raise UserError(f"{section}.plugins lacks {HISTORY_PLUGIN}, which keeps the loss curve. Add it to the list.")
    if train["base_model"] != base["base_model"]:
        raise UserError(
            f"train.base_model={train['base_model']} is not the base that is evaluated, base.base_model="
            f"{base['base_model']}. Set base.base_model alone; train follows it."
        )
    if base["make"] and not base["base_model"].startswith("outputs/base/"):
        raise UserError(
            f"base.base_model={base['base_model']}: model=tiny_llama makes its own. Add model=local to use a folder."
        )
    for form, fields in (("with_input", {"instruction", "input"}), ("without_input", {"instruction"})):
        found = [field for _, field, _, _ in string.Formatter().parse(values["template"][form]) if field is not None]
        if sorted(found) != sorted(fields):
            raise UserError(f"template.{form} holds {found or 'no field'}. It needs {sorted(fields)}, each once, in braces.")
    for name, section in (("prepare", prepare), ("evaluate", evaluate)):
        if Path(section["path"]).is_dir():
            raise UserError(f"{name}.path={section['path']} is a folder. Give the path of a JSON or JSON Lines file in it.")
        if section["hub"] and not section["path"].startswith("conf/"):
            raise UserError(
                f"{name}.path={section['path']} is a file, and {name}.hub names one of the hub. Set {name}.hub=null to take "
                "the file."
            )
    if not prepare["generate"] and evaluate["path"] == world.SOURCE:
        raise UserError("evaluate=ifeval_demo has prompts about the demo's data only. Add evaluate=ifeval.")


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
