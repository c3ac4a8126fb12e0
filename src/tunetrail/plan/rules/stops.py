"""Composed values and a plan's facts -> errors of a run that would fail half way, or train something else than was meant.

One function per rule; its name in capitals is the finding's code. What Axolotl itself refuses when it reads its config is in
`acceptance`.
"""

from tunetrail.plan.estimate import hardware
from tunetrail.plan.facts import Facts
from tunetrail.plan.rules import fit
from tunetrail.plan.rules.finding import Problem, Values, at, error, short
from tunetrail.units import size

_OF_ADAPTERS = ("lora_", "loraplus_", "peft", "qlora_", "load_in_4bit", "load_in_8bit")


@error
def no_steps(values: Values, facts: Facts) -> Problem | None:
    """The rows do not fill one micro-batch on every GPU, so there is no optimiser step."""
    if facts.steps.total or not facts.data.kept:  # if no row is kept, `nothing_supervised` says so
        return None
    data, train, count = facts.data, values["train"], facts.device.count
    fix = {"train.micro_batch_size": 1, "train.gradient_accumulation_steps": 1} if train["micro_batch_size"] > 1 else {}
    # If too many rows are held out, and with fewer the others would fill it, hold out fewer.
    rows = data.train + data.validation
    needed = train["micro_batch_size"] * count * (train["sequence_len"] if train.get("sample_packing") else 1)
    filled = 0.9 * rows * (data.mean if train.get("sample_packing") else 1)
    if data.validation > 0.1 * rows and filled >= needed:
        fix = fit.HELD_OUT
    return (
        f"{data.kept:,} rows of {data.tokens:,} tokens do not fill a micro-batch of {train['micro_batch_size']:,} x "
        f"{train['sequence_len']:,} tokens on each of {count:,} GPUs: the run has no step",
        "Training would finish without a step, and the tuned model would be the base model.",
        fix or "accelerate.num_processes=1, more rows, or another train.sequence_len",
    )


@error
def answers_too_long(values: Values, facts: Facts) -> Problem | None:
    """The longest prompt and its answer have more tokens than the model has positions: lm-eval then cuts the start of the
    prompt, or fails if the answer alone takes them all (models/huggingface.py)."""
    key = "evaluate.task.generation_kwargs.max_gen_toks"
    limit, answer, row = facts.model.max_position_embeddings, at(values, key), facts.memory.row_in_evaluation
    if row <= limit:
        return None
    prompt = row - answer
    problem = (
        f"the longest prompt has {prompt:,} tokens, an answer may have {answer:,}, and the model has {limit:,} positions"
    )
    why = "lm-eval cuts the start of the prompt, or fails before anything is trained."
    return problem, why, {key: limit - prompt} if limit > prompt else "a model with more positions, or shorter prompts"


@error
def warmup_never_ends(values: Values, facts: Facts) -> Problem | None:
    """The warm-up takes as many steps as the run has, or more, so the rate that was asked for is never reached."""
    schedule, total = facts.schedule, facts.steps.total
    if not total or schedule.warmup < total:
        return None
    if schedule.peak is not None and schedule.peak >= schedule.asked:  # the scheduler ignores the warm-up
        return None
    reached = ""
    if schedule.peak is not None:
        reached = f": the rate only reaches {short(schedule.peak)} of {short(schedule.asked)}"
    problem = f"the warm-up takes {schedule.warmup:,} steps and the run has {total:,}{reached}"
    why = "The model is trained at a fraction of its learning rate, which never decays."
    return problem, why, {"train.warmup_steps": None, "train.warmup_ratio": 0.03}


@error
def out_of_memory(values: Values, facts: Facts) -> Problem | None:
    """Training or evaluation needs more memory on a GPU than the device has."""
    memory, device = facts.memory, facts.device
    if memory.fits:
        return None
    needs, fixes = [], []
    if memory.total > memory.capacity:
        largest = sorted(memory.parts.items(), key=lambda part: -part[1])[:2]
        needs.append(f"training needs {size(memory.total)} ({', '.join(f'{name} {size(part)}' for name, part in largest)})")
        fixes.append(fit.training(values, facts))
    if memory.evaluation > memory.capacity:
        needs.append(f"evaluation needs {size(memory.evaluation)}")
        fixes.append(fit.evaluation(values, facts))
    fix: fit.Settings | str = "a smaller model, or another device: no setting makes this one fit"
    if None not in fixes:
        fix = {key: value for settings in fixes for key, value in settings.items()}
    each = device.name if device.name == "cpu" else f"each {device.name}"
    problem = f"{' and '.join(needs)} on {each}, which has {size(memory.capacity)}"
    return problem, "It would load for minutes and fail at its first full batch.", fix


@error
def out_of_disk(values: Values, facts: Facts) -> Problem | None:
    """Checkpoints and models take more bytes than the disk has free."""
    disk = facts.disk
    if disk.free is None or disk.total <= disk.free:
        return None
    checkpoints = f" ({disk.checkpoints} checkpoints of {size(disk.checkpoint)})" if disk.checkpoints else ""
    problem = f"the run writes {size(disk.total)}{checkpoints} and the disk has {size(disk.free)} free"
    why = "A checkpoint that cannot be written ends the run, and its hours are lost."
    return problem, why, fit.disk(values, facts) or "tunetrail gc"


@error
def sequence_too_long(values: Values, facts: Facts) -> Problem | None:
    """Sequences are longer than the positions that the model was pre-trained on.

    Axolotl only writes the larger number into the model's config (loaders/model.py: _adjust_model_config). A limit in
    `overrides_of_model_config` is set on purpose, so it counts.
    """
    length, changed = values["train"]["sequence_len"], values["train"].get("overrides_of_model_config") or {}
    limit = changed.get("max_position_embeddings") or facts.model.max_position_embeddings
    if length <= limit:
        return None
    return (
        f"sequences have {length:,} tokens and the model has {limit:,} positions; the longest row has "
        f"{facts.data.longest:,} tokens",
        "The tuned model's config would claim positions that it was not trained on, and there it writes noise.",
        {"train.sequence_len": limit},
    )


@error
def no_bf16(values: Values, facts: Facts) -> Problem | None:
    """The config asks for bfloat16, which the device does not have.

    On a CPU `auto` falls back and `true` is an error. An older NVIDIA GPU emulates bfloat16 without its matrix units, also
    for `auto`, since PyTorch counts that as supported (torch.cuda.is_bf16_supported).
    """
    train, device = values["train"], facts.device
    asked = train.get("bf16") or train.get("bfloat16")
    if not asked or device.bf16 or (asked == "auto" and device.name == "cpu"):
        return None
    settings = hardware.precision(train, device.name, device.bf16)
    fix = {f"train.{key}": value for key, value in settings.items()}
    if values["accelerate"].get("mixed_precision") == "bf16":
        fix["accelerate.mixed_precision"] = "fp16" if settings["fp16"] else "no"
    if device.name != "cpu" and values["evaluate"]["model_args"].get("dtype") == "bfloat16":
        fix["evaluate.model_args.dtype"] = "float16"
    problem = f"train.bf16={str(asked).lower()}, and {device.name} has no bfloat16"
    return problem, "On a CPU the trainer fails at its start; an older GPU emulates bfloat16, slowly.", fix


@error
def adapter_keys_unused(values: Values, facts: Facts) -> Problem | None:
    """Keys of an adapter are set and `train.adapter` is not, so every weight is trained and the keys do nothing.

    The switches of fused kernels (`lora_mlp_kernel`) do not count: conf/hardware/cpu.yaml turns them off for all methods.
    """
    train = values["train"]
    unused = [key for key, value in train.items() if key.startswith(_OF_ADAPTERS) and value not in (None, False, [], {})]
    unused = [key for key in unused if not key.endswith("_kernel")]
    if train.get("adapter") or not unused:
        return None
    fix = {"train.adapter": "qlora" if train.get("load_in_4bit") else "lora"}
    fix |= {f"train.{key}": value for key, value in fit.LORA.items() if train.get(key) is None} | fit.ADAPTERS_RATE
    if train.get("lora_target_modules"):
        fix.pop("train.lora_target_linear", None)
    problem = f"{', '.join(f'train.{key}={train[key]}' for key in unused)}, and no train.adapter"
    why = f"All {facts.model.parameters:,} weights would be trained; to train them all, set these keys to null."
    return problem, why, fix


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
