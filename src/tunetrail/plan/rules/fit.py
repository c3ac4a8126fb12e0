"""A run that does not fit -> the settings that make it fit: dotted keys and values, which are not applied here.

Settings that change no result come first. `fixes` plans the corrected run once more.
"""

from collections.abc import Iterator
from typing import Any

from tunetrail.plan.estimate import frequency, hardware, memory
from tunetrail.plan.facts import Devices, Facts
from tunetrail.plan.rules.finding import Settings, Values

# As conf/ has them, which tests/plan/rules/test_fit.py compares.
LIGER_KEYS = ("liger_rope", "liger_rms_norm", "liger_glu_activation", "liger_fused_linear_cross_entropy")
LORA = {"lora_r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "lora_target_linear": True}
QLORA = LORA | {"adapter": "qlora", "load_in_4bit": True}
FSDP2 = {"fsdp_version": 2, "fsdp_config": {"reshard_after_forward": True}, "optimizer": "adamw_torch_fused"}
EIGHT_BIT = {"optimizer": "paged_adamw_8bit"}
ADAPTERS_RATE = {"train.learning_rate": 2e-4}  # else the rate that an experiment sets for all weights would stay
HELD_OUT = {"prepare.validation_rows": 0.05}
OTHER_ROWS = {"prepare": "file", "prepare.path": "FILE"}
_MARGIN = 0.95  # a fix may fill this share of the capacity: an estimate may be wrong by a tenth


def training(values: Values, facts: Facts) -> Settings | None:
    """Return settings with which the peak of training fits, or None if there are none.

    The methods are tried in this order: none, shards over the GPUs, 8-bit optimiser states, LoRA, QLoRA. Within a method,
    savings are added one by one: Liger's kernels, activations computed twice, smaller micro-batches with more accumulation.
    """
    device = facts.device
    for method, changes in _methods(values["train"], device):
        train = values["train"] | changes
        train |= hardware.precision(train, device.name, device.bf16)
        for settings in _savings(train, device.name != "cpu"):
            fixed = train | {key.removeprefix("train."): value for key, value in settings.items()}
            if memory.training(facts.model.shape, fixed, device.count).needed <= _MARGIN * facts.memory.capacity:
                return method | settings
    return None


def _methods(train: dict[str, Any], device: Devices) -> Iterator[tuple[Settings, dict[str, Any]]]:
    """Yield settings, and the Axolotl keys that they change; what changes the result least comes first."""
    gpu, sharded = device.name != "cpu", train.get("fsdp_config") or train.get("deepspeed")
    yield {}, {}
    if gpu and not sharded and device.count > 1:
        # Names its optimiser, since an experiment's would stay, and bitsandbytes' do not take shards.
        yield {"hardware": [conf_hardware(device), "fsdp2"], "train.optimizer": FSDP2["optimizer"]}, FSDP2
    if gpu and not sharded and not train.get("adapter") and "8bit" not in str(train["optimizer"]):
        yield {"train.optimizer": EIGHT_BIT["optimizer"]}, EIGHT_BIT
    half: Settings = {}
    if gpu and not device.bf16 and not train.get("fp16"):
        half = {"train.bf16": False, "train.fp16": True, "accelerate.mixed_precision": "fp16"}
    half_train = {"bf16": False, "fp16": True} if half else {}
    if not train.get("adapter"):
        yield {"method": "lora"} | ADAPTERS_RATE | half, LORA | half_train | {"adapter": "lora"}
    if gpu and not train.get("load_in_4bit"):
        rate = {} if train.get("adapter") else ADAPTERS_RATE
        yield {"method": "qlora"} | rate | half, QLORA | half_train


def conf_hardware(device: Devices) -> str:
    """Return the option of conf/hardware for such a device."""
    return {"AMD": "rocm", "NVIDIA": "cuda"}.get(device.maker, "cpu")


def _savings(train: dict[str, Any], gpu: bool) -> Iterator[Settings]:
    """Yield no settings, and then one more each time."""
    settings: Settings = {}
    yield settings
    if gpu and memory.LIGER not in (train.get("plugins") or []):
        settings = {"train.plugins": [*(train.get("plugins") or []), memory.LIGER]}
        settings |= {f"train.{key}": True for key in LIGER_KEYS}
        yield settings
    if not train.get("gradient_checkpointing"):
        settings = settings | {"train.gradient_checkpointing": True}
        yield settings
    micro, number = train["micro_batch_size"], blocks(train)
    while micro > 1:
        micro //= 2
        if number % micro:
            continue
        settings = settings | {"train.micro_batch_size": micro, "train.gradient_accumulation_steps": number // micro}
        yield settings


def blocks(train: dict[str, Any]) -> int:
    """Return the number of sequences that a step takes on each GPU."""
    return train["micro_batch_size"] * (train.get("gradient_accumulation_steps") or 1)


def batch(train: dict[str, Any], number: int) -> Settings:
    """Return settings for a step of at most `number` sequences on each GPU, in micro-batches no larger than now."""
    micro = min(train["micro_batch_size"], number)
    return {"train.micro_batch_size": micro, "train.gradient_accumulation_steps": number // micro}


def evaluation(values: Values, facts: Facts) -> Settings | None:
    """Return settings with which generating answers fits, a batch that is a smaller power of two, or None."""
    evaluate, prompts = values["evaluate"], -(-facts.data.prompts // facts.device.count)
    size = evaluate["batch_size"] if isinstance(evaluate["batch_size"], int) else 1  # "auto" ends at one by itself
    while size > 1:
        size = 1 << (size - 1).bit_length() - 1
        smaller = evaluate | {"batch_size": size}
        peak = memory.evaluation(facts.model.shape, smaller, facts.memory.row_in_evaluation, prompts)
        if peak.needed <= _MARGIN * facts.memory.capacity:
            return {"evaluate.batch_size": size}
    return None


def disk(values: Values, facts: Facts) -> Settings | None:
    """Return settings that write less; None if the finished models alone are too much."""
    train, written = values["train"], facts.disk
    excess = written.total - written.free
    _, limited = frequency.saves(train | {"save_total_limit": 1}, facts.steps.total, facts.steps.per_epoch)
    if limited < written.checkpoints and (written.checkpoints - limited) * written.checkpoint >= excess:
        return {"train.save_total_limit": 1}
    if written.checkpoints * written.checkpoint >= excess:
        keys = ("saves_per_epoch", "save_steps")
        return {"train.save_strategy": "no"} | {f"train.{key}": None for key in keys if train.get(key)}
    return None


def whole_rows(values: Values, facts: Facts) -> Settings:
    """Return settings that do not cut the longest row, or drop it, or name other rows if no setting can do that."""
    length = min(rounded(facts.data.longest), facts.model.max_position_embeddings)
    if values["train"]["sequence_len"] < length:
        return {"train.sequence_len": length}
    if (values["train"].get("excess_length_strategy") or "drop") != "drop":
        return {"train.excess_length_strategy": "drop"}
    return OTHER_ROWS


def rounded(length: int) -> int:
    """Return the next multiple of 64 tokens, to which Axolotl pads (core/builders/causal.py)."""
    return -(-length // 64) * 64
