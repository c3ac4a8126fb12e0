"""The composed parameters -> the inputs that they name, looked at before any stage runs and any earlier output goes."""

from pathlib import Path
from typing import Any

from tunetrail import UserError, checkpoint, records

HISTORY_PLUGIN = "tunetrail.live.HistoryPlugin"

# The checkers that split text into sentences or words with NLTK's punkt_tab (lm_eval/tasks/ifeval/instructions.py).
_NEED_PUNKT = {"length_constraints:number_sentences", "change_case:capital_word_frequency"}


def check(values: dict[str, Any]) -> None:
    """Read the rows, the prompts and the model's folder.

    Raises:
        UserError: one of them is missing or not what it should be.
    """
    prepare, evaluate, base = values["prepare"], values["evaluate"], values["base"]
    together(values)
    if not prepare["generate"]:
        rows = len(records.read_instructions(Path(prepare["path"])))
        if prepare["validation_rows"] >= rows:
            raise UserError(
                f"{prepare['path']}: {rows} rows, and prepare.validation_rows={prepare['validation_rows']} leaves none "
                "to train on. Give more rows or hold out fewer."
            )
    if not evaluate["path"].startswith("data/prepared/"):
        asked = {kind for row in records.read_prompts(Path(evaluate["path"])) for kind in row["instruction_id_list"]}
        if asked & _NEED_PUNKT and not has_punkt():
            raise UserError(
                "NLTK's punkt_tab, which IFEval splits sentences with, is not here. Point NLTK_DATA at a folder that has "
                "tokenizers/punkt_tab, or fetch it once: python -m nltk.downloader punkt_tab"
            )
    if not base["make"] and (checkpoint.is_path(base["base_model"]) or base["path"] == base["base_model"]):
        checkpoint.files(Path(base["base_model"]))


def together(values: dict[str, Any]) -> None:
    """Hold against each other the keys that two stages rely on.

    Raises:
        UserError: what one stage would write, another would not find, or would delete.
    """
    prepare, evaluate, base, train = (values[name] for name in ("prepare", "evaluate", "base", "train"))
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
    if not prepare["generate"] and evaluate["path"].startswith("data/prepared/"):
        raise UserError(
            f"evaluate.path={evaluate['path']} is made with the demo's data only. Add evaluate=ifeval evaluate.path=FILE."
        )


def has_punkt() -> bool:
    """Whether NLTK finds punkt_tab where it looks for data."""
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab")
    except LookupError:
        return False
    return True
