"""Composed values and a plan's facts -> what is said of a run that may go ahead: it costs, keeps or risks more than it must.

One function a rule; its name in capitals is the finding's code. Not covered: what refuses a run (`refusals`, `validity`).
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from tunetrail import checkpoint, config
from tunetrail.plan import room
from tunetrail.plan.finding import WARNING, Finding, overrides, short
from tunetrail.plan.hardware import GIB

Values = dict[str, Any]
Facts = dict[str, Any]

COSTLY = 0.25  # share of training's FLOP
FEW = 50  # steps; Stanford Alpaca took 1,220
RECIPE, FAR = 128, 8  # examples a step (Stanford Alpaca; Tülu 3 too), and how many times more or fewer is far
TINY = 1e8  # parameters; below, the recipes for language models say nothing
CUT = 0.05  # share of the rows
# Learning rates: from so many parameters on, with an adapter or not, the lowest and the highest that are not far from what
# is usual, and one to take. Tülu 3 took 2e-6 for 70 G parameters and 5e-6 for 8 G (open-instruct, docs/tulu3.md), Stanford
# Alpaca 2e-5 for 7 G; SmolLM2 3e-4 for 1.7 G and 1e-3 for 135 M (alignment-handbook, recipes/smollm2); QLoRA 2e-4 for 7 and
# 13 G, 1e-4 above (arXiv:2305.14314); llama2.c 5e-4 for 15 M from nothing, the demo 3e-3 for 0.8 M.
USUAL = (
    (3e9, False, 1e-6, 1e-4, 2e-5),
    (TINY, False, 5e-6, 5e-3, 1e-4),
    (TINY, True, 3e-5, 2e-3, 2e-4),
    (0, False, 1e-4, 1e-2, 1e-3),
    (0, True, 1e-4, 1e-2, 1e-3),
)
_OTHER_MODEL = {"model": "hub", "base.base_model": "ORG/NAME", "base.revision_of_model": "COMMIT", "base.license": "ID"}
_NON_COMMERCIAL = re.compile(r"(^|-)nc(-|$)|non-?commercial|research", re.IGNORECASE)  # in Hugging Face's names of licences
_COMMIT = re.compile(r"[0-9a-f]{40}")
# What each tool reads, and what it takes for "off" there: axolotl/telemetry/manager.py, huggingface_hub/constants.py,
# mlflow/telemetry/utils.py. DVC's is off in .dvc/config, whatever its variable says.
SWITCHES = {
    "Axolotl": {"AXOLOTL_DO_NOT_TRACK": ("1", "true"), "DO_NOT_TRACK": ("1", "true")},
    "the Hugging Face hub": {
        "HF_HUB_DISABLE_TELEMETRY": ("1", "true", "yes", "on"),
        "DO_NOT_TRACK": ("1", "true", "yes", "on"),
    },
    "MLflow": {"MLFLOW_DISABLE_TELEMETRY": ("1", "true"), "DO_NOT_TRACK": ("true",)},
}


def evaluation_costly(values: Values, facts: Facts) -> Finding | None:
    """Validation computes more than a quarter (`COSTLY`) of what training does, what that computes twice included."""
    validation, training = facts["flops"]["validation"], facts["flops"]["training"] + facts["flops"]["recomputed"]
    if validation <= COSTLY * training or not training:
        return None
    train, why = values["train"], "A loss is known well enough from fewer rows."
    rows = facts["data"]["validation"] * COSTLY * training / validation
    mend = {"prepare.validation_rows": max(int(rows), 1)}
    if train.get("sample_packing") and train.get("eval_sample_packing") is False:
        mend, why = {"train.eval_sample_packing": True}, "Each row is padded to a whole sequence, where training packs them."
    return Finding(
        "EVALUATION_COSTLY",
        WARNING,
        f"validation computes {short(validation)} FLOP, {validation / training:.0%} of training's {short(training)}",
        why,
        overrides(values, mend),
    )


def few_steps(values: Values, facts: Facts) -> Finding | None:
    """Fewer than 50 optimiser steps (`FEW`)."""
    total, rows, train = facts["steps"]["total"], facts["steps"]["rows_per_step"], values["train"]
    if not total or total >= FEW:
        return None
    smaller = int(room.blocks(train) * total / FEW)
    if (train.get("max_steps") or math.inf) <= total:
        mend = {"train.max_steps": None}
    elif smaller and rows * smaller / room.blocks(train) >= RECIPE / FAR:
        mend = room.batch(train, smaller)
    else:
        mend = {"train.num_epochs": math.ceil((train.get("num_epochs") or 1) * FEW / max(total, 1))}
    return Finding(
        "FEW_STEPS",
        WARNING,
        f"the run has {total:,} optimiser steps, of {rows:,.0f} rows each",
        "Adam moves a weight by about the learning rate a step, however many rows the step has: few steps teach little.",
        overrides(values, mend),
    )


def planned_otherwise(values: Values, facts: Facts) -> Finding | None:
    """The plan is for other devices than the run would take: `plan.num_gpus`, or a GPU where the run is on the CPU."""
    count, processes = values["plan"]["num_gpus"], values["accelerate"]["num_processes"]
    on_cpu = bool(values["accelerate"].get("cpu")) and facts["device"]["name"] != "cpu"
    if count == processes and not on_cpu:
        return None
    mend = {"accelerate.num_processes": count, "accelerate.multi_gpu": count > 1} if not on_cpu else {"hardware": "cuda"}
    what = f"the plan is for {count:,} x {facts['device']['name']} and the run would take "
    what += "this machine's CPU" if on_cpu else f"{processes:,}"
    why = "Steps, memory and hours are those of the plan's devices, not of the run as it is composed."
    return Finding("PLANNED_OTHERWISE", WARNING, what, why, overrides(values, mend))


def batch_far(values: Values, facts: Facts) -> Finding | None:
    """A step takes over 8 times (`FAR`) the recipe's 128 examples (`RECIPE`), or under an eighth; not for tiny models."""
    rows, train = facts["steps"]["rows_per_step"], values["train"]
    if facts["model"]["parameters"] < TINY or RECIPE / FAR <= rows <= RECIPE * FAR:
        return None
    wanted = room.blocks(train) * RECIPE / rows
    mend = room.batch(train, max(round(wanted), 1))
    if wanted * FAR < 1:  # one sequence at a time is still too many rows
        mend["train.sequence_len"] = max(room.rounded(facts["data"]["longest"]), int(train["sequence_len"] * wanted))
    return Finding(
        "BATCH_FAR",
        WARNING,
        f"a step takes {rows:,.0f} rows, {rows / RECIPE:.2g} times the {RECIPE} of Stanford Alpaca's recipe",
        "A recipe's learning rate goes with its batch, and packed sequences hold many rows each.",
        overrides(values, mend),
    )


def rows_cut(values: Values, facts: Facts) -> Finding | None:
    """More than 5 % (`CUT`) of the rows to train on are dropped or cut."""
    data = facts["data"]
    lost, length = data["dropped"] + data["cut"], values["train"]["sequence_len"]
    if lost <= CUT * data["train"]:
        return None
    return Finding(
        "ROWS_CUT",
        WARNING,
        f"{lost / data['train']:.1%} of {data['train']:,} rows are not trained on whole, {data['dropped']:,} dropped and "
        f"{data['cut']:,} cut: the longest has {data['longest']:,} tokens, a sequence {length:,}",
        "Long answers are the ones that go, and a cut one teaches to stop nowhere, since EOS goes with its end.",
        overrides(values, room.whole_rows(values, facts)),
    )


def checkpoints_kept(values: Values, facts: Facts) -> Finding | None:
    """More than one checkpoint is kept and no limit is set; Axolotl's own is four (core/builders/base.py)."""
    disk = facts["disk"]
    if values["train"].get("save_total_limit") or disk["checkpoints"] <= 1:
        return None
    return Finding(
        "CHECKPOINTS_KEPT",
        WARNING,
        f"{disk['checkpoints']} checkpoints of {disk['checkpoint'] / GIB:.1f} GiB are kept, and no train.save_total_limit",
        "Only the newest is needed to go on from; the finished model is saved apart from it.",
        overrides(values, {"train.save_total_limit": 1}),
    )


def unpinned(values: Values, facts: Facts) -> Finding | None:
    """The base model comes from the hub, and not by a commit."""
    base = values["base"]
    name, revision = base["base_model"], base["revision_of_model"]
    if base["path"] == name or checkpoint.is_path(name) or _COMMIT.fullmatch(revision or ""):
        return None
    return Finding(
        "UNPINNED",
        WARNING,
        f"{name} is taken at {revision or 'whatever its newest commit is'}, which is no commit",
        "Who owns the model may change it between two runs, or between training and evaluation.",
        overrides(values, {"base.revision_of_model": "COMMIT"}),
    )


def non_commercial(values: Values, facts: Facts) -> Finding | None:
    """The licence of the data or of the base model forbids commercial use, by its name."""
    found, mend = [], {}
    for what, license, settings in (
        ("data", facts["data"]["license"], room.OTHER_ROWS | {"prepare.license": "ID"}),
        ("base model", values["base"]["license"], _OTHER_MODEL),
    ):
        if _NON_COMMERCIAL.search(license or ""):
            found.append(f"the {what}'s licence is {license}")
            mend |= settings
    if not found:
        return None
    return Finding(
        "NON_COMMERCIAL",
        WARNING,
        " and ".join(found),
        "What is trained on it falls under it: it may be studied, and not sold or used for a business.",
        overrides(values, mend),
    )


def remote_code(values: Values, facts: Facts) -> Finding | None:
    """`trust_remote_code` is on, in any section."""
    keys = [key for key, value in config.flatten(values).items() if key.endswith("trust_remote_code") and value]
    if not keys:
        return None
    return Finding(
        "REMOTE_CODE",
        WARNING,
        f"{', '.join(keys)}: on",
        "Python that comes with a model runs here as you, with your files and your tokens.",
        overrides(values, dict.fromkeys(keys, False)),
    )


def learning_rate_far(values: Values, facts: Facts) -> Finding | None:
    """The rate is far outside of what is usual for the method and the model's size (`USUAL`)."""
    rate, adapter, size = facts["schedule"]["asked"], bool(values["train"].get("adapter")), facts["model"]["parameters"]
    low, high, take = next(row[2:] for row in USUAL if size >= row[0] and adapter == row[1])
    if rate is None or low <= rate <= high:
        return None
    return Finding(
        "LEARNING_RATE_FAR",
        WARNING,
        f"train.learning_rate={short(rate)}; for {'an adapter of' if adapter else 'all weights of'} a model of {size:,} "
        f"parameters {short(low)} to {short(high)} is usual",
        "Too low a rate leaves the base model as it is, too high a one takes away what it knew."
        + (" An adapter takes about ten times the rate of full fine-tuning." if size >= TINY else ""),
        overrides(values, {"train.learning_rate": take}),
    )


def telemetry_on(environ: Mapping[str, str]) -> Finding | None:
    """A switch is set so that a tool sends telemetry. One that is not set is off: `launch` sets it."""
    tools = [tool for tool, switches in SWITCHES.items() if not any(_off(environ, *switch) for switch in switches.items())]
    if not tools:
        return None
    names = sorted({name for tool in tools for name in SWITCHES[tool] if name != "DO_NOT_TRACK"})
    return Finding(
        "TELEMETRY_ON",
        WARNING,
        f"telemetry of {', '.join(tools)} is on by the environment",
        "What is trained is sent to others; where there is no network, Axolotl's exit then hangs for minutes.",
        f"unset {' '.join(names)}",
    )


def _off(environ: Mapping[str, str], name: str, words: tuple[str, ...]) -> bool:
    return environ.get(name, "1").strip().lower() in words


RULES = (
    planned_otherwise,
    *(evaluation_costly, few_steps, batch_far, rows_cut, checkpoints_kept, unpinned, non_commercial, remote_code),
    learning_rate_far,
)
