"""A run that does not fit -> the settings that make room for it: dotted keys and values, of which none is on yet.

What changes no result comes first. Not covered: whether the corrected run fits the disk too, or is refused for
something else (`fixes`).
"""

from collections.abc import Iterator
from typing import Any

from tunetrail.plan.estimate import memory, packing
from tunetrail.plan.estimate.architecture import Architecture

Settings = dict[str, Any]

_LIGER_KEYS = ("liger_rope", "liger_rms_norm", "liger_glu_activation", "liger_fused_linear_cross_entropy")
LORA = {"lora_r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "lora_target_linear": True}  # as conf/method/lora.yaml
_FSDP2 = {"fsdp_version": 2, "fsdp_config": {"reshard_after_forward": True}, "optimizer": "adamw_torch_fused"}
ADAPTERS_RATE = {"train.learning_rate": 2e-4}  # as there; a rate that an experiment sets for all weights would stay
_MARGIN = 0.95  # a fix may fill this share of the capacity: an estimate may be wrong by a tenth
OTHER_ROWS = {"prepare": "file", "prepare.path": "FILE"}
HELD_OUT = {"prepare.validation_rows": 0.05}  # of the rows, as in conf/prepare/file.yaml


def with_supported_precision(train: dict[str, Any], device: str, bf16: bool) -> dict[str, Any]:
    """The Axolotl config with `precision`'s settings."""
    return train | precision(train, device, bf16)


def precision(train: dict[str, Any], device: str, bf16: bool) -> Settings:
    """What to compute in where the device has no bfloat16 and the config asks for it.

    float16 for an adapter on a GPU: its weights are in float32, and the scaler of gradients refuses any others.
    """
    if bf16 or not (train.get("bf16") or train.get("bfloat16")):
        return {}
    return {"bf16": False, "fp16": bool(train.get("adapter")) and device != "cpu"} | (
        {"bfloat16": None} if train.get("bfloat16") else {}
    )


def training(values: dict[str, Any], facts: dict[str, Any]) -> Settings | None:
    """Settings with which the peak of training fits; None: there are none.

    Within a method: Liger's kernels, activations computed twice, smaller micro-batches with more accumulation, as many of
    them, in this order, as it takes. Of the methods the first with which it fits: as it is, shards over the GPUs, 8-bit
    optimiser states, LoRA, QLoRA.
    """
    device, shape = facts["device"], Architecture(**facts["model"]["shape"])
    for method, does in _methods(values["train"], device):
        train = with_supported_precision(values["train"] | does, device["name"], device["bf16"])
        for settings in _savings(train, device["name"] != "cpu"):
            fixed = train | {key.removeprefix("train."): value for key, value in settings.items()}
            if memory.needed(memory.training(shape, fixed, device["count"])) <= _MARGIN * facts["memory"]["capacity"]:
                return method | settings
    return None


def _methods(train: dict[str, Any], device: dict[str, Any]) -> Iterator[tuple[Settings, dict[str, Any]]]:
    """Settings, and what they do to the Axolotl config; what changes the result least comes first."""
    gpu, sharded = device["name"] != "cpu", train.get("fsdp_config") or train.get("deepspeed")
    yield {}, {}
    if gpu and not sharded and device["count"] > 1:
        # Its own optimiser by name: an experiment's would stay, and bitsandbytes' do not take shards.
        yield {"hardware": [hardware(device), "fsdp2"], "train.optimizer": _FSDP2["optimizer"]}, _FSDP2
    if gpu and not sharded and not train.get("adapter") and "8bit" not in str(train["optimizer"]):
        yield {"train.optimizer": "paged_adamw_8bit"}, {"optimizer": "paged_adamw_8bit"}  # as conf/method/full_8bit.yaml
    half: Settings = {}
    if gpu and not device["bf16"] and not train.get("fp16"):
        half = {"train.bf16": False, "train.fp16": True, "accelerate.mixed_precision": "fp16"}
    does = LORA | ({"bf16": False, "fp16": True} if half else {})
    if not train.get("adapter"):
        yield {"method": "lora"} | ADAPTERS_RATE | half, does | {"adapter": "lora"}
    if gpu and not train.get("load_in_4bit"):
        rate = {} if train.get("adapter") else ADAPTERS_RATE
        yield {"method": "qlora"} | rate | half, does | {"adapter": "qlora", "load_in_4bit": True}


def hardware(device: dict[str, Any]) -> str:
    """The option of conf/hardware for such a device."""
    return {"AMD": "rocm", "NVIDIA": "cuda"}.get(device["maker"], "cpu")


def _savings(train: dict[str, Any], gpu: bool) -> Iterator[Settings]:
    """None, and then one more each time."""
    found: Settings = {}
    yield found
    if gpu and memory.LIGER not in (train.get("plugins") or []):
        found = {"train.plugins": [*(train.get("plugins") or []), memory.LIGER]}
        found |= {f"train.{key}": True for key in _LIGER_KEYS}
        yield found
    if not train.get("gradient_checkpointing"):
        found = found | {"train.gradient_checkpointing": True}
        yield found
    micro, number = train["micro_batch_size"], blocks(train)
    while micro > 1:
        micro //= 2
        if number % micro:
            continue
        found = found | {"train.micro_batch_size": micro, "train.gradient_accumulation_steps": number // micro}
        yield found


def blocks(train: dict[str, Any]) -> int:
    """Sequences that a step takes on each GPU."""
    return train["micro_batch_size"] * (train.get("gradient_accumulation_steps") or 1)


def batch(train: dict[str, Any], number: int) -> Settings:
    """Settings for a step of about `number` sequences on each GPU, no more: as many at once as now, at most."""
    micro = min(train["micro_batch_size"], number)
    return {"train.micro_batch_size": micro, "train.gradient_accumulation_steps": number // micro}


def evaluation(values: dict[str, Any], facts: dict[str, Any]) -> Settings | None:
    """Settings with which the peak of generating answers fits: a smaller batch, a power of two. None: there are none."""
    evaluate, found, count = values["evaluate"], facts["memory"], facts["device"]["count"]
    shape, asked = Architecture(**facts["model"]["shape"]), -(-facts["data"]["prompts"] // count)
    size = evaluate["batch_size"] if isinstance(evaluate["batch_size"], int) else 1  # "auto" ends at one by itself
    while size > 1:
        size = 1 << (size - 1).bit_length() - 1
        parts = memory.evaluation(shape, evaluate | {"batch_size": size}, found["row_in_evaluation"], asked)
        if memory.needed(parts) <= _MARGIN * found["capacity"]:
            return {"evaluate.batch_size": size}
    return None


def disk(values: dict[str, Any], facts: dict[str, Any]) -> Settings | None:
    """Settings that write less; None where the finished models alone are too much."""
    found, train, steps = facts["disk"], values["train"], facts["steps"]
    size, over = found["checkpoint"], found["total"] - found["free"]
    _, limited = packing.saves(train | {"save_total_limit": 1}, steps["total"], steps["per_epoch"])
    if limited < found["checkpoints"] and (found["checkpoints"] - limited) * size >= over:
        return {"train.save_total_limit": 1}
    if found["checkpoints"] * size >= over:
        named = ("saves_per_epoch", "save_steps")
        return {"train.save_strategy": "no"} | {f"train.{key}": None for key in named if train.get(key)}
    return None


def whole_rows(values: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """Settings under which the longest row is whole; where the model does not go so far, long rows are left out, or all."""
    length = min(rounded(facts["data"]["longest"]), facts["model"]["max_position_embeddings"])
    if values["train"]["sequence_len"] < length:
        return {"train.sequence_len": length}
    if (values["train"].get("excess_length_strategy") or "drop") != "drop":
        return {"train.excess_length_strategy": "drop"}
    return OTHER_ROWS


def rounded(length: int) -> int:
    """A length in tokens that kernels like: the next multiple of 64, to which Axolotl pads (core/builders/causal.py)."""
    return -(-length // 64) * 64
