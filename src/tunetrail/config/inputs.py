"""The composed parameters -> a check of the files, the model and the template that they name, before any stage runs.

`contradictions` refuses values that contradict each other.
"""

import string
from pathlib import Path
from typing import Any

from tunetrail import UserError
from tunetrail.config import contradictions
from tunetrail.data import records, world
from tunetrail.training import checkpoint, output_dir

HISTORY_PLUGIN = "tunetrail.training.plugin.HistoryPlugin"

# The checkers that split text into sentences or words with NLTK's punkt_tab (lm_eval/tasks/ifeval/instructions.py).
_NEED_PUNKT = {"length_constraints:number_sentences", "change_case:capital_word_frequency"}


def check(values: dict[str, Any]) -> None:
    """Check that the values go together, and read the rows, the prompts and the model's folder that they name.

    Raises:
        UserError: an input is missing or wrong, or values contradict each other.
    """
    check_consistency(values)
    prepare = values["prepare"]
    for name in ("prepare", "evaluate"):
        path = values[name]["path"]
        if values[name]["hub"] and not Path(path).is_file():
            raise UserError(f"{name}.path={path}: no such file. Name the file of conf/ that pins {name}.hub.")
    if not (prepare["generate"] or prepare["hub"]):
        rows = records.read_instructions(Path(prepare["path"]), prepare["empty"], prepare.get("field"))
        records.split(rows, prepare["take"], prepare["validation_rows"], prepare["seed"])
    check_prompts(values)
    check_model(values)


def check_prompts(values: dict[str, Any]) -> None:
    """Read the file of prompts, if there is one, and check that IFEval has the data to split the answers to them.

    Raises:
        UserError: the file is missing or wrong; or as `punkt`.
    """
    path, hub = values["evaluate"]["path"], values["evaluate"]["hub"]
    if hub:
        punkt([])
    elif path != world.SOURCE:  # the demo's prompts need no punkt
        punkt(records.read_prompts(Path(path)))


def check_model(values: dict[str, Any]) -> None:
    """Check that a base model in a folder here has weights.

    Raises:
        UserError: it has none.
    """
    base = values["base"]
    if not base["make"] and (checkpoint.is_path(base["base_model"]) or base["path"] == base["base_model"]):
        checkpoint.files(Path(base["base_model"]))


def check_consistency(values: dict[str, Any]) -> None:
    """Check values that two stages or tools rely on. No file is read.

    Raises:
        UserError: two values contradict each other, or a stage would not find, or would delete, what it needs.
    """
    base, train, accelerate = values["base"], values["train"], values["accelerate"]
    if accelerate.get("multi_gpu") and accelerate.get("num_processes") == 1 and accelerate.get("num_machines", 1) == 1:
        raise UserError("accelerate refuses accelerate.multi_gpu=true with one process. Add accelerate.multi_gpu=false.")
    trainings = {"train": train} | ({"base.make.train": base["make"]["train"]} if base["make"] else {})
    for section, config in trainings.items():
        output_dir.check(config.get("output_dir"), section, None if section == "train" else "base")
        if HISTORY_PLUGIN not in (config.get("plugins") or []):
            raise UserError(
                f"{section}.plugins lacks {HISTORY_PLUGIN}, which keeps the loss curve and seeds random weights. Add it to "
                "the list."
            )
    name = base["base_model"]
    if train["base_model"] != name:
        raise UserError(
            f"train.base_model={train['base_model']} is not the base that is evaluated, base.base_model={name}. Set "
            "base.base_model alone; train follows it."
        )
    if base["make"] and (not name.startswith("outputs/base/") or ".." in Path(name).parts):
        hub = f"Give model=hub base.base_model={name} base.revision_of_model=COMMIT to use one of the hub. "
        raise UserError(
            f"base.base_model={name}: model=tiny_llama makes its own. {'' if checkpoint.is_path(name) else hub}Add "
            "model=local to use a folder."
        )
    for section in ("template", "evaluate.template", "base.template"):
        if template := contradictions.at(values, section):
            _check_template(f"{section}.with_input", template["with_input"], ["input", "instruction"])
            _check_template(f"{section}.without_input", template["without_input"], ["instruction"])
    contradictions.refuse(values)


def _check_template(key: str, text: str, fields: list[str]) -> None:
    """Check that a Python format string has each of the fields once, without a format that lm-eval would not apply.

    Raises:
        UserError: naming the key.
    """
    try:
        parts = [part for part in string.Formatter().parse(text) if part[1] is not None]
    except ValueError as error:
        raise UserError(f"{key}: {error}. A brace that is text is written twice: {{{{ or }}}}.") from None
    names = sorted(name for _, name, _, _ in parts)
    if names != fields:
        raise UserError(
            f"{key} has {names or 'no field'}. It needs {fields}, each once, in braces; a brace that is text is written "
            "twice."
        )
    for _, name, spec, conversion in parts:
        if spec or conversion:
            raise UserError(f"{key} formats {{{name}}}, and lm-eval asks it unchanged. Write {{{name}}} alone.")


def punkt(prompts: list[records.Row]) -> None:
    """Check that NLTK's punkt_tab is installed if one of the prompts needs it, or if there are none to look at.

    Raises:
        UserError: NLTK does not find it.
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
