"""Composed values and a plan's facts -> what refuses a run because its loss or its score would not mean what they seem to.

One function a rule; its name in capitals is the finding's code. Not covered: whether the scores are good (`report`).
"""

import json
import textwrap
from typing import Any

from tunetrail.config import check
from tunetrail.data import template
from tunetrail.plan.rules import fit
from tunetrail.plan.rules.finding import ERROR, Finding, overrides

Values = dict[str, Any]
Facts = dict[str, Any]

# The template that Axolotl's own type `alpaca` trains on, by its digest (axolotl/prompters.py).
ALPACA = "9e2fc8ac063a"
# What conf/config.yaml says of the rows that `prepare` leaves.
_TYPE = {"field_instruction": "instruction", "field_input": "input", "field_output": "output"}
_TYPE |= {"format": "${template.with_input}", "no_input_format": "${template.without_input}"}
_TRAIN, _VALIDATION = "data/prepared/train.jsonl", "data/prepared/validation.jsonl"
# What else lm-eval 0.4.11 puts around a prompt (api/task.py: fewshot_context), and its value that puts nothing.
_AROUND = {"apply_chat_template": False, "system_instruction": None, "num_fewshot": None}
_AROUND |= {"task.num_fewshot": None, "task.description": None, "task.gen_prefix": None}


def template_differs(values: Values, facts: Facts) -> Finding | None:
    """A section has another template than `template`, or lm-eval is told to put more around the prompt.

    A named type of Axolotl's has a format of its own; `alpaca` is the same as this template if that is Stanford's.
    """
    wanted, fix = values["template"], {}
    for section in ("contract", "evaluate"):
        if values[section]["template"] != wanted:
            fix[f"{section}.template"] = "${template}"
    for number, dataset in enumerate(values["train"].get("datasets") or []):
        kind, place = dataset.get("type"), f"train.datasets.{number}.type"
        if not isinstance(kind, dict):
            if kind != "alpaca" or template.digest(wanted) != ALPACA:
                fix[place] = _TYPE
            continue
        for key, form in (("format", "with_input"), ("no_input_format", "without_input")):
            if kind.get(key) != wanted[form]:
                fix[f"{place}.{key}"] = f"${{template.{form}}}"
        if kind.get("system_prompt"):
            fix[f"{place}.system_prompt"] = None
    asked = check.flatten(values["evaluate"])
    fix |= {f"evaluate.{key}": nothing for key, nothing in _AROUND.items() if asked.get(key)}
    if not fix:
        return None
    return Finding(
        "TEMPLATE_DIFFERS",
        ERROR,
        f"training and evaluation are not in one template: {', '.join(fix)}",
        "A model that is asked in a form that it was not trained in scores lower, and no one sees why.",
        overrides(values, fix),
    )


def bos_differs(values: Values, facts: Facts) -> Finding | None:
    """lm-eval puts BOS before a prompt where training put none, or the other way round.

    Unset, lm-eval 0.4.11 leaves it to the tokenizer (models/huggingface.py: tok_batch_encode), as Axolotl does. Set, it is
    `add_special_tokens` and rewrites the tokenizer. One that has no BOS stays as it is: there true is refused in vain.
    """
    asked, trained = values["evaluate"]["model_args"].get("add_bos_token"), facts["data"]["bos_trained"]
    if asked is None or trained is None or asked == trained:
        return None
    places = ("with BOS", "without") if trained else ("without BOS", "with it")
    return Finding(
        "BOS_DIFFERS",
        ERROR,
        f"rows are trained {places[0]}, prompts asked {places[1]}: evaluate.model_args.add_bos_token={str(asked).lower()}",
        "The first token is one that attention leans on: Llama 3.1 8B Instruct loses 3.6 points of IFEval without it.",
        overrides(values, {"evaluate.model_args.add_bos_token": None}),
    )


def rows_overlap(values: Values, facts: Facts) -> Finding | None:
    """A question of the validation rows is also trained on, or one file, in the same split, serves for both."""
    train, fix = values["train"], {}
    trained = [_identity(one) for one in train.get("datasets") or []]
    for number, one in enumerate(train.get("test_datasets") or []):
        if _identity(one) in trained:
            place = f"datasets.{trained.index(_identity(one))}"
            if one.get("path") == _VALIDATION:
                fix[f"train.{place}.path"] = _TRAIN
            else:
                fix[f"train.test_datasets.{number}.path"] = _VALIDATION
            what = f"train.{place} and train.test_datasets.{number} are both {one.get('path')}"
    if not fix and (overlap := facts["data"]["overlap"]):
        fix = {"train.test_datasets.0.path": _VALIDATION}
        what = f"{overlap:,} of the validation rows ask what is also trained on"
    if not fix:
        return None
    return Finding(
        "ROWS_OVERLAP",
        ERROR,
        what,
        "The validation loss goes on falling while the model learns rows by heart, which is what it is there to show.",
        overrides(values, fix),
    )


def _identity(dataset: dict[str, Any]) -> tuple[str, ...]:
    """What tells one of Axolotl's data sets from another; `train` is the split that it takes where none is named."""
    return *(str(dataset.get(key)) for key in ("path", "name", "data_files")), dataset.get("split") or "train"


def eos_masked(values: Values, facts: Facts) -> Finding | None:
    """EOS is not under the loss: of any row, as its type or its tokenizer is, or of more than half, as they are cut.

    A pad token that is EOS does not mask it: Axolotl ends each answer with EOS under the loss and pads labels with -100, by
    place and not by the pad's id (prompt_tokenizers.py, utils/collators/batching.py). Its type `llama2_chat` alone counts by
    that id and, where it is EOS, takes whole rows out of the loss; a tokenizer without a pad gets EOS for one
    (loaders/tokenizer.py).
    """
    data, special = facts["data"], values["train"].get("special_tokens") or {}
    kinds = [str(one.get("type")) for one in values["train"].get("datasets") or []]
    pad = special.get("pad_token")
    if any("llama2_chat" in kind for kind in kinds) and pad in (None, special.get("eos_token", "</s>")):
        what = f"the type llama2_chat leaves out every token that is the pad, and the pad is {pad or 'not set, so EOS'}"
        fix = {"train.special_tokens.pad_token": "<pad>"}
    elif data["eos_supervised"] is False:
        what, fix = "no answer ends with EOS: the tokenizer names none", {"train.special_tokens.eos_token": pad or "</s>"}
    elif data["cut"] * 2 > data["kept"]:
        what = f"{data['cut']:,} of {data['kept']:,} rows are cut at {values['train']['sequence_len']:,} tokens, before EOS"
        fix = fit.whole_rows(values, facts)
    else:
        return None
    return Finding(
        "EOS_MASKED",
        ERROR,
        what,
        "A model that never sees EOS as an answer's end writes on until the token cap.",
        overrides(values, fix),
    )


def nothing_supervised(values: Values, facts: Facts) -> Finding | None:
    """No token of any row is under the loss: no row is left, or the rows' answers are not where they are looked for."""
    data, length = facts["data"], values["train"]["sequence_len"]
    if data["supervised"]:
        return None
    if not data["kept"] and data["longest"] > length:
        what = f"none of {data['train']:,} rows is kept: the longest has {data['longest']:,} tokens, a sequence {length:,}"
        fix = fit.whole_rows(values, facts)
    else:
        what, fix = f"none of {data['train']:,} rows has a token under the loss", {"train.datasets.0.type": _TYPE}
    return Finding(
        "NOTHING_SUPERVISED",
        ERROR,
        what,
        "Axolotl leaves out rows that teach nothing, and training stops for want of rows.",
        overrides(values, fix),
    )


def contaminated(values: Values, facts: Facts) -> Finding | None:
    """A prompt of the evaluation is word for word what a training row asks (`records.question`)."""
    data = facts["data"]
    if not data["contaminated"]:
        return None
    return Finding(
        "CONTAMINATED",
        ERROR,
        f"{len(data['contaminated']):,} of {data['prompts']:,} evaluation prompts stand word for word in the training rows: "
        f"{json.dumps(textwrap.shorten(data['contaminated'][0], 60), ensure_ascii=False)}",
        "What was learnt by heart is scored as if it were understood: take these rows out of a copy of the file.",
        overrides(values, fit.OTHER_ROWS),
    )


RULES = (template_differs, bos_differs, rows_overlap, eos_masked, nothing_supervised, contaminated)
