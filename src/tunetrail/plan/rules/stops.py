"""Composed values and a plan's facts -> what refuses a run because it would stop half way, or train something else.

One function a rule; its name in capitals is the finding's code. Not covered: scores that would mean something else
(`invalid`), and what Axolotl itself refuses as soon as it reads its config.
"""

from typing import Any

from tunetrail.plan.rules import fit
from tunetrail.plan.rules.finding import ERROR, Finding, at, overrides, short
from tunetrail.units import size

Values = dict[str, Any]
Facts = dict[str, Any]

_OF_ADAPTERS = ("lora_", "loraplus_", "peft", "qlora_", "load_in_4bit", "load_in_8bit")


def no_steps(values: Values, facts: Facts) -> Finding | None:
    """The rows do not fill one micro-batch on every GPU, or are all dropped, so Axolotl has nothing to step on."""
    if facts["steps"]["total"] or not facts["data"]["kept"]:  # without a row it is `nothing_supervised`
        return None
    data, train, count = facts["data"], values["train"], facts["device"]["count"]
    fix = {"train.micro_batch_size": 1, "train.gradient_accumulation_steps": 1} if train["micro_batch_size"] > 1 else {}
    # Where so many rows are held out that the others do not fill it, and with fewer they would.
    rows = data["train"] + data["validation"]
    needed = train["micro_batch_size"] * count * (train["sequence_len"] if train.get("sample_packing") else 1)
    filled = 0.9 * rows * (data["mean"] if train.get("sample_packing") else 1)
    if data["validation"] > 0.1 * rows and filled >= needed:
        fix = fit.HELD_OUT
    return Finding(
        "NO_STEPS",
        ERROR,
        f"{data['kept']:,} rows of {data['tokens']:,} tokens do not fill a micro-batch of {train['micro_batch_size']:,} x "
        f"{train['sequence_len']:,} tokens on each of {count:,} GPUs: the run has no step",
        "The trainer would end as soon as it began, and the tuned model would be the base.",
        overrides(values, fix) if fix else "accelerate.num_processes=1, more rows, or another train.sequence_len",
    )


def answers_too_long(values: Values, facts: Facts) -> Finding | None:
    """The longest prompt and its answer have more tokens than the model knows positions: lm-eval then cuts the prompt's
    beginning, or stops where the answer alone takes them all (models/huggingface.py)."""
    key = "evaluate.task.generation_kwargs.max_gen_toks"
    limit, asked, row = facts["model"]["max_position_embeddings"], at(values, key), facts["memory"]["row_in_evaluation"]
    if row <= limit:
        return None
    prompt = row - asked
    return Finding(
        "ANSWERS_TOO_LONG",
        ERROR,
        f"the longest prompt has {prompt:,} tokens, an answer may have {asked:,}, and the model knows {limit:,} positions",
        "lm-eval leaves out the prompt's beginning, or stops before anything is trained.",
        overrides(values, {key: limit - prompt}) if limit > prompt else "a model with more positions, or shorter prompts",
    )


def warmup_never_ends(values: Values, facts: Facts) -> Finding | None:
    """The warm-up takes as many steps as the run has, or more, so the rate that was asked for is never reached."""
    warmup, peak, asked = (facts["schedule"][name] for name in ("warmup", "peak", "asked"))
    total = facts["steps"]["total"]
    if (
        not total or warmup < total or (peak is not None and peak >= asked)
    ):  # a scheduler without a warm-up, whatever the config says
        return None
    reached = f": the rate climbs to {short(peak)} of {short(asked)} and training ends" if peak is not None else ""
    return Finding(
        "WARMUP_NEVER_ENDS",
        ERROR,
        f"the warm-up takes {warmup:,} steps and the run has {total:,}{reached}",
        "The model is trained at a fraction of its rate and the decay that settles it never comes.",
        overrides(values, {"train.warmup_steps": None, "train.warmup_ratio": 0.03}),
    )


def out_of_memory(values: Values, facts: Facts) -> Finding | None:
    """Training or evaluation needs more memory on a GPU than the device has."""
    memory, device = facts["memory"], facts["device"]
    if memory["fits"]:
        return None
    does, fixes = [], []
    if memory["total"] > memory["capacity"]:
        counted = [part for part in memory["parts"].items() if "(paged)" not in part[0]]
        parts = ", ".join(f"{name} {size(part)}" for name, part in sorted(counted, key=lambda part: -part[1])[:2])
        does.append(f"training needs {size(memory['total'])} ({parts})")
        fixes.append(fit.training(values, facts))
    if memory["evaluation"] > memory["capacity"]:
        does.append(f"evaluation needs {size(memory['evaluation'])}")
        fixes.append(fit.evaluation(values, facts))
    fits = None not in fixes
    settings = {key: value for fix in fixes for key, value in (fix or {}).items()}
    each = device["name"] if device["name"] == "cpu" else f"each {device['name']}"
    return Finding(
        "OUT_OF_MEMORY",
        ERROR,
        f"{' and '.join(does)} on {each}, which has {size(memory['capacity'])}",
        "It would load for minutes and stop at its first full batch.",
        overrides(values, settings) if fits else "a smaller model, or another device: no setting makes room for this one",
    )


def out_of_disk(values: Values, facts: Facts) -> Finding | None:
    """Checkpoints and models take more than the disk has free."""
    disk = facts["disk"]
    if disk["free"] is None or disk["total"] <= disk["free"]:
        return None
    kept = f" ({disk['checkpoints']} checkpoints of {size(disk['checkpoint'])})" if disk["checkpoints"] else ""
    settings = fit.disk(values, facts)
    return Finding(
        "OUT_OF_DISK",
        ERROR,
        f"the run writes {size(disk['total'])}{kept} and the disk has {size(disk['free'])} free",
        "A checkpoint that cannot be written ends the run with the hours that led to it.",
        overrides(values, settings) if settings else "tunetrail gc",
    )


def sequence_too_long(values: Values, facts: Facts) -> Finding | None:
    """Sequences are longer than the positions that the model was pre-trained on.

    Axolotl only writes the larger number into the model's config (loaders/model.py: _adjust_model_config). A limit that
    `overrides_of_model_config` sets is meant, and holds.
    """
    length, changed = values["train"]["sequence_len"], values["train"].get("overrides_of_model_config") or {}
    limit = changed.get("max_position_embeddings") or facts["model"]["max_position_embeddings"]
    if length <= limit:
        return None
    return Finding(
        "SEQUENCE_TOO_LONG",
        ERROR,
        f"sequences have {length:,} tokens and the model knows {limit:,} positions; the longest row has "
        f"{facts['data']['longest']:,} tokens",
        "The tuned model's config would claim positions that it has never seen, at which it writes noise.",
        overrides(values, {"train.sequence_len": limit}),
    )


def no_bf16(values: Values, facts: Facts) -> Finding | None:
    """bfloat16 on a device that has none.

    `auto` falls back on a CPU; on an older NVIDIA GPU it does not, since PyTorch counts what it emulates as supported
    (torch.cuda.is_bf16_supported), and there it runs without the matrix units. On a CPU `true` ends in an error.
    """
    train, device = values["train"], facts["device"]
    asked = train.get("bf16") or train.get("bfloat16")
    if not asked or device["bf16"] or (asked == "auto" and device["name"] == "cpu"):
        return None
    found = fit.precision(train, device["name"], device["bf16"])
    fix = {f"train.{key}": value for key, value in found.items()}
    if values["accelerate"].get("mixed_precision") == "bf16":
        fix["accelerate.mixed_precision"] = "fp16" if found["fp16"] else "no"
    if device["name"] != "cpu" and values["evaluate"]["model_args"].get("dtype") == "bfloat16":
        fix["evaluate.model_args.dtype"] = "float16"
    return Finding(
        "NO_BF16",
        ERROR,
        f"train.bf16={str(asked).lower()}, and {device['name']} has no bfloat16",
        "On a CPU the trainer stops as it is built; an older GPU emulates it, without its matrix units.",
        overrides(values, fix),
    )


def adapter_keys_unused(values: Values, facts: Facts) -> Finding | None:
    """Keys of an adapter are set and `train.adapter` is not, so every weight is trained and the keys do nothing.

    Whether fused kernels are used is no adapter's setting: conf/hardware/cpu.yaml turns them off for all methods.
    """
    train = values["train"]
    loose = [key for key, value in train.items() if key.startswith(_OF_ADAPTERS) and value not in (None, False, [], {})]
    loose = [key for key in loose if not key.endswith("_kernel")]
    if train.get("adapter") or not loose:
        return None
    fix = {"train.adapter": "qlora" if train.get("load_in_4bit") else "lora"}
    fix |= {f"train.{key}": value for key, value in fit.LORA.items() if train.get(key) is None} | fit.ADAPTERS_RATE
    if train.get("lora_target_modules"):
        fix.pop("train.lora_target_linear", None)
    return Finding(
        "ADAPTER_KEYS_UNUSED",
        ERROR,
        f"{', '.join(f'train.{key}={train[key]}' for key in loose)}, and no train.adapter",
        f"All {facts['model']['parameters']:,} weights would be trained; who means that sets these keys to null.",
        overrides(values, fix),
    )


RULES = (
    no_steps,
    warmup_never_ends,
    answers_too_long,
    out_of_memory,
    out_of_disk,
    sequence_too_long,
    no_bf16,
    adapter_keys_unused,
)
