"""Composed values and a plan's facts -> errors of a run whose loss or score would not mean what it seems to.

One function per rule; its name in capitals is the finding's code.
"""

import json
import textwrap
from typing import Any

from tunetrail.config import check
from tunetrail.data import template
from tunetrail.plan.facts import Facts
from tunetrail.plan.rules import fit
from tunetrail.plan.rules.finding import Problem, Values, error

# The digest of the template that Axolotl's own type `alpaca` trains on (axolotl/prompters.py).
ALPACA = "9e2fc8ac063a"
# As conf/config.yaml has them, which tests/plan/rules/test_invalid.py compares.
TYPE = {"field_instruction": "instruction", "field_input": "input", "field_output": "output"}
TYPE |= {"format": "${template.with_input}", "no_input_format": "${template.without_input}"}
TRAIN, VALIDATION = "data/prepared/train.jsonl", "data/prepared/validation.jsonl"
# What else lm-eval 0.4.11 adds to a prompt (api/task.py: fewshot_context), and the value with which it adds nothing.
_ADDITIONS = {"apply_chat_template": False, "system_instruction": None, "num_fewshot": None}
_ADDITIONS |= {"task.num_fewshot": None, "task.description": None, "task.gen_prefix": None}


@error
def template_differs(values: Values, facts: Facts) -> Problem | None:
    """A section has another template than `template`, or lm-eval adds more to the prompt.

    A named type of Axolotl's has a format of its own; that of `alpaca` is Stanford's template.
    """
    wanted, fix = values["template"], {}
    for section in ("contract", "evaluate"):
        if values[section]["template"] != wanted:
            fix[f"{section}.template"] = "${template}"
    for number, dataset in enumerate(values["train"].get("datasets") or []):
        kind, key = dataset.get("type"), f"train.datasets.{number}.type"
        if not isinstance(kind, dict):
            if kind != "alpaca" or template.digest(wanted) != ALPACA:
                fix[key] = TYPE
            continue
        for name, form in (("format", "with_input"), ("no_input_format", "without_input")):
            if kind.get(name) != wanted[form]:
                fix[f"{key}.{name}"] = f"${{template.{form}}}"
        if kind.get("system_prompt"):
            fix[f"{key}.system_prompt"] = None
    evaluate = check.flatten(values["evaluate"])
    fix |= {f"evaluate.{key}": neutral for key, neutral in _ADDITIONS.items() if evaluate.get(key)}
    if not fix:
        return None
    problem = f"training and evaluation do not have the same template: {', '.join(fix)}"
    return problem, "A model that is asked in another form than it was trained in scores lower, and nothing shows why.", fix


@error
def bos_differs(values: Values, facts: Facts) -> Problem | None:
    """lm-eval puts BOS before a prompt where training put none, or the other way round.

    If `add_bos_token` is unset, lm-eval 0.4.11 leaves it to the tokenizer (models/huggingface.py: tok_batch_encode), as
    Axolotl does. If it is set, lm-eval passes it on as `add_special_tokens` and changes the tokenizer. With a tokenizer that
    has no BOS, `true` does nothing, but is refused too.
    """
    evaluated, trained = values["evaluate"]["model_args"].get("add_bos_token"), facts.data.bos_trained
    if evaluated is None or trained is None or evaluated == trained:
        return None
    trained_so, evaluated_so = ("with BOS", "without it") if trained else ("without BOS", "with it")
    return (
        f"rows are trained {trained_so}, prompts evaluated {evaluated_so}: "
        f"evaluate.model_args.add_bos_token={str(evaluated).lower()}",
        "Attention relies on the first token: Llama 3.1 8B Instruct loses 3.6 points of IFEval without BOS.",
        {"evaluate.model_args.add_bos_token": None},
    )


@error
def rows_overlap(values: Values, facts: Facts) -> Problem | None:
    """A question of the validation rows is also trained on, or the same file and split serves for both."""
    train, fix = values["train"], {}
    trained = [_identity(dataset) for dataset in train.get("datasets") or []]
    for number, dataset in enumerate(train.get("test_datasets") or []):
        if _identity(dataset) in trained:
            trained_key = f"datasets.{trained.index(_identity(dataset))}"
            if dataset.get("path") == VALIDATION:
                fix[f"train.{trained_key}.path"] = TRAIN
            else:
                fix[f"train.test_datasets.{number}.path"] = VALIDATION
            problem = f"train.{trained_key} and train.test_datasets.{number} are both {dataset.get('path')}"
    if not fix and facts.data.overlap:
        fix = {"train.test_datasets.0.path": VALIDATION}
        problem = f"{facts.data.overlap:,} of the validation rows ask what is also trained on"
    if not fix:
        return None
    return problem, "The validation loss would keep falling while the model memorises rows, which it is there to show.", fix


def _identity(dataset: dict[str, Any]) -> tuple[str, ...]:
    """Return the keys that distinguish two data sets of Axolotl's; its default split is `train`."""
    return *(str(dataset.get(key)) for key in ("path", "name", "data_files")), dataset.get("split") or "train"


@error
def eos_masked(values: Values, facts: Facts) -> Problem | None:
    """EOS is masked from the loss: in no row, because of the type or the tokenizer, or in over half, because they are cut.

    A pad token that is EOS does not mask it: Axolotl trains on the EOS that ends each answer and pads labels with -100,
    by position and not by the pad's id (prompt_tokenizers.py, utils/collators/batching.py). Only its type `llama2_chat`
    counts by that id and, where it is EOS, masks whole rows; a tokenizer without a pad token gets EOS
    (loaders/tokenizer.py).
    """
    data, special = facts.data, values["train"].get("special_tokens") or {}
    kinds = [str(dataset.get("type")) for dataset in values["train"].get("datasets") or []]
    pad = special.get("pad_token")
    if any("llama2_chat" in kind for kind in kinds) and pad in (None, special.get("eos_token", "</s>")):
        problem = f"the type llama2_chat masks every token that is the pad token, which is {pad or 'not set, so EOS'}"
        fix = {"train.special_tokens.pad_token": "<pad>"}
    elif data.eos_supervised is False:
        problem, fix = "no answer ends with EOS: the tokenizer names none", {"train.special_tokens.eos_token": pad or "</s>"}
    elif data.cut * 2 > data.kept:
        problem = f"{data.cut:,} of {data.kept:,} rows are cut at {values['train']['sequence_len']:,} tokens, before EOS"
        fix = fit.whole_rows(values, facts)
    else:
        return None
    return problem, "A model that never sees EOS at the end of an answer writes on until the token limit.", fix


@error
def nothing_supervised(values: Values, facts: Facts) -> Problem | None:
    """No token of any row is trained on: no row is left, or the rows' answers are under another key."""
    data, length = facts.data, values["train"]["sequence_len"]
    if data.supervised:
        return None
    if not data.kept and data.longest > length:
        problem = f"none of {data.train:,} rows is kept: the longest has {data.longest:,} tokens, a sequence {length:,}"
        fix = fit.whole_rows(values, facts)
    else:
        problem, fix = f"none of {data.train:,} rows has a token that is trained on", {"train.datasets.0.type": TYPE}
    return problem, "Axolotl drops rows without a token that is trained on, and training fails because no row is left.", fix


@error
def contaminated(values: Values, facts: Facts) -> Problem | None:
    """A prompt of the evaluation is word for word the question of a training row (`records.question`)."""
    data = facts.data
    if not data.contaminated:
        return None
    return (
        f"{len(data.contaminated):,} of {data.prompts:,} evaluation prompts are word for word in the training rows: "
        f"{json.dumps(textwrap.shorten(data.contaminated[0], 60), ensure_ascii=False)}",
        "Memorised answers would be scored as if they were understood: remove these rows from a copy of the file.",
        fit.OTHER_ROWS,
    )


RULES = (template_differs, bos_differs, rows_overlap, eos_masked, nothing_supervised, contaminated)
