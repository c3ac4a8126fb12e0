"""Composed values and a plan's facts -> warnings of a run whose figures are out of proportion to each other.

One function per rule; its name in capitals is the finding's code.
"""

import math
from typing import Any

from tunetrail.plan.facts import Facts
from tunetrail.plan.rules import fit
from tunetrail.plan.rules.finding import Problem, Values, short, warning

COSTLY = 0.25  # share of training's FLOP
FEW = 50  # steps; Stanford Alpaca took 1,220
RECIPE, FAR = 128, 8  # examples a step (Stanford Alpaca; Tülu 3 too), and how many times more or fewer is far
TINY = 1e8  # parameters; the recipes for language models do not apply below
CUT = 0.05  # share of the rows
# Learning rates: least number of parameters, adapter or not, the lowest and the highest usual rate, and the one to suggest.
# Tülu 3 took 2e-6 for 70 G parameters and 5e-6 for 8 G (open-instruct, docs/tulu3.md); Stanford Alpaca 2e-5 for 7 G; SmolLM2
# 3e-4 for 1.7 G and 1e-3 for 135 M (alignment-handbook, recipes/smollm2); QLoRA 2e-4 for 7 and 13 G, 1e-4 above
# (arXiv:2305.14314); llama2.c 5e-4 for 15 M from random weights; the demo takes 3e-3 for 0.8 M.
USUAL = (
    (3e9, False, 1e-6, 1e-4, 2e-5),
    (TINY, False, 5e-6, 5e-3, 1e-4),
    (TINY, True, 3e-5, 2e-3, 2e-4),
    (0, False, 1e-4, 1e-2, 1e-3),
    (0, True, 1e-4, 1e-2, 1e-3),
)


@warning
def not_validated(values: Values, facts: Facts) -> Problem | None:
    """The validation rows do not fill one batch on each GPU, and Axolotl drops part batches."""
    data, train, count = facts.data, values["train"], facts.device.count
    if not facts.validation.times or facts.validation.batches or not data.validation:
        return None
    rows = (train.get("eval_batch_size") or train["micro_batch_size"]) * count
    batch, fix = f"{rows:,} rows", {"prepare.validation_rows": rows}
    if train.get("sample_packing") and train.get("eval_sample_packing") is not False:
        tokens = train["micro_batch_size"] * train["sequence_len"] * count
        rows = math.ceil(1.2 * tokens / max(data.mean, 1))
        batch = f"{tokens:,} tokens"
        fix = {"train.eval_sample_packing": False} if rows > data.raw / 5 else {"prepare.validation_rows": rows}
    problem = f"{data.validation:,} validation rows do not fill one batch of {batch}: there is no validation loss"
    return problem, "Nothing would show when the model starts to memorise the rows.", fix


@warning
def more_held_out(values: Values, facts: Facts) -> Problem | None:
    """More rows are held out to validate with than there are to train on."""
    data = facts.data
    if data.validation <= data.train:
        return None
    problem = f"{data.validation:,} rows are held out to validate with, and {data.train:,} are left to train on"
    return problem, "A few rows measure a loss well enough, and the model learns only from the others.", fit.HELD_OUT


@warning
def evaluation_costly(values: Values, facts: Facts) -> Problem | None:
    """Validation computes more than a quarter (`COSTLY`) of what training does, recomputed activations included."""
    validation, training = facts.flops.validation, facts.flops.training + facts.flops.recomputed
    if validation <= COSTLY * training or not training:
        return None
    train, why, batches = values["train"], "Fewer rows measure a loss well enough.", facts.validation.batches
    affordable = int(batches * COSTLY * training / validation)
    if train.get("sample_packing") and train.get("eval_sample_packing") is False:
        fix, why = {"train.eval_sample_packing": True}, "Each row is padded to a whole sequence; training packs them."
    elif affordable:  # whole batches, since part batches are dropped
        fix = {"prepare.validation_rows": int(facts.data.validation * (affordable + 0.5) / batches)}
    else:
        why = "Even one batch in each evaluation is too much for such a short run."
        fix = {"train.evals_per_epoch": None, "train.eval_steps": None, "train.eval_strategy": "no"}
        fix = {key: value for key, value in fix.items() if value or train.get(key.removeprefix("train."))}
    problem = f"validation computes {short(validation)} FLOP, {validation / training:.0%} of training's {short(training)}"
    return problem, why, fix


@warning
def few_steps(values: Values, facts: Facts) -> Problem | None:
    """The run has fewer than 50 optimiser steps (`FEW`)."""
    steps, train = facts.steps, values["train"]
    total, rows, blocks = steps.total, steps.rows_per_step, steps.blocks_per_step
    if not total or total >= FEW:
        return None
    smaller = int(blocks * total / FEW)
    if (train.get("max_steps") or math.inf) <= total:
        fix = {"train.max_steps": None}
    elif _far(facts) and rows > RECIPE:
        fix = _nearer(train, facts)
    elif smaller and rows * smaller / blocks >= RECIPE / FAR:
        fix = fit.batch(train, smaller)
    else:
        fix = {"train.num_epochs": math.ceil((train.get("num_epochs") or 1) * FEW / total)}
    problem = f"the run has {total:,} optimiser steps, of {rows:,.0f} rows each"
    why = "Adam moves a weight by about the learning rate in each step, whatever its number of rows: few steps teach little."
    return problem, why, fix


@warning
def batch_far(values: Values, facts: Facts) -> Problem | None:
    """A step takes over 8 times (`FAR`) the recipe's 128 examples (`RECIPE`), or under an eighth; not for tiny models."""
    rows = facts.steps.rows_per_step
    if not _far(facts):
        return None
    problem = f"a step takes {rows:,.0f} rows, {rows / RECIPE:.2g} times the {RECIPE} of Stanford Alpaca's recipe"
    why = "A recipe's learning rate fits its batch size, and each packed sequence has many rows."
    return problem, why, _nearer(values["train"], facts)


def _far(facts: Facts) -> bool:
    steps = facts.steps
    near = RECIPE / FAR <= steps.rows_per_step <= RECIPE * FAR
    return bool(steps.total) and facts.model.parameters >= TINY and not near


def _nearer(train: dict[str, Any], facts: Facts) -> dict[str, Any]:
    """Return settings for a step of about the recipe's rows. If a step has too few rows and the recipe's would leave few
    steps, they are for the fewest rows that are not far from it."""
    steps, epochs = facts.steps, train.get("num_epochs") or 1
    rows = steps.rows_per_step
    target = RECIPE if steps.total * rows / RECIPE >= FEW or rows > RECIPE else RECIPE / FAR
    wanted = steps.blocks_per_step * target / rows
    micro = train["micro_batch_size"]
    settings = fit.batch(train, math.ceil(wanted) if rows > RECIPE else math.ceil(wanted / micro) * micro)
    if wanted * FAR < 1:  # one sequence at a time is still too many rows
        length = fit.rounded(max(facts.data.longest, int(train["sequence_len"] * wanted)))
        settings["train.sequence_len"] = min(length, facts.model.max_position_embeddings)
    if rows > RECIPE and steps.total * rows / target < FEW:
        settings["train.num_epochs"] = math.ceil(epochs * FEW * target / (steps.total * rows))
    return settings


@warning
def rows_cut(values: Values, facts: Facts) -> Problem | None:
    """More than 5 % (`CUT`) of the rows to train on are dropped or cut."""
    data = facts.data
    lost, length = data.dropped + data.cut, values["train"]["sequence_len"]
    if lost <= CUT * data.train:
        return None
    most_fit = data.p95 <= facts.model.max_position_embeddings
    fix = fit.whole_rows(values, facts) if most_fit else fit.OTHER_ROWS
    return (
        f"{lost / data.train:.1%} of {data.train:,} rows are not trained on in full, {data.dropped:,} dropped and "
        f"{data.cut:,} cut: the longest has {data.longest:,} tokens, a sequence {length:,}",
        "It is the long answers that are lost, and a cut one has no EOS, so it does not teach where to stop.",
        fix,
    )


@warning
def learning_rate_far(values: Values, facts: Facts) -> Problem | None:
    """The rate is far outside the usual range of the method and the model's size (`USUAL`)."""
    rate, adapter, size = facts.schedule.asked, bool(values["train"].get("adapter")), facts.model.parameters
    low, high, suggested = next(row[2:] for row in USUAL if size >= row[0] and adapter == row[1])
    if rate is None or low <= rate <= high:
        return None
    return (
        f"train.learning_rate={short(rate)}; for {'an adapter of' if adapter else 'all weights of'} a model of {size:,} "
        f"parameters {short(low)} to {short(high)} is usual",
        "Too low a rate leaves the base model as it is, too high a rate destroys what it has learned."
        + (" An adapter takes about ten times the rate of full fine-tuning." if size >= TINY else ""),
        {"train.learning_rate": suggested},
    )


RULES = (not_validated, more_held_out, evaluation_costly, few_steps, batch_far, rows_cut, learning_rate_far)
