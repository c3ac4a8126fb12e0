"""The composed parameters -> the inputs that they name, looked at before any stage runs and any earlier output goes."""

from pathlib import Path
from typing import Any

from tunetrail import UserError, checkpoint, records

# The checkers that split text into sentences or words with NLTK's punkt_tab (lm_eval/tasks/ifeval/instructions.py).
_NEED_PUNKT = {"length_constraints:number_sentences", "change_case:capital_word_frequency"}


def check(values: dict[str, Any]) -> None:
    """Read the rows, the prompts and the model's folder.

    Raises:
        UserError: one of them is missing or not what it should be.
    """
    prepare, evaluate, base = values["prepare"], values["evaluate"], values["base"]
    if not prepare["generate"]:
        rows = len(records.read_instructions(Path(prepare["path"])))
        if prepare["validation_rows"] >= rows:
            raise UserError(
                f"{prepare['path']}: {rows} rows, and prepare.validation_rows={prepare['validation_rows']} leaves none "
                "to train on. Give more rows or hold out fewer."
            )
    generated = prepare["generate"] and evaluate["path"].startswith("data/prepared/")
    if not generated:
        asked = {kind for row in records.read_prompts(Path(evaluate["path"])) for kind in row["instruction_id_list"]}
        if asked & _NEED_PUNKT and not has_punkt():
            raise UserError(
                "NLTK's punkt_tab, which IFEval splits sentences with, is not here. Point NLTK_DATA at a folder that has "
                "tokenizers/punkt_tab, or fetch it once: python -m nltk.downloader punkt_tab"
            )
    if not base["make"] and (checkpoint.is_path(base["base_model"]) or base["path"] == base["base_model"]):
        checkpoint.files(Path(base["base_model"]))


def has_punkt() -> bool:
    """Whether NLTK finds punkt_tab where it looks for data."""
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab")
    except LookupError:
        return False
    return True
