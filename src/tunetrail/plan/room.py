"""A run that does not fit -> the settings that make room for it: dotted keys and values, of which none is on yet.

What changes no result comes first. Not covered: whether the mended run fits, which the next plan says.
"""

from typing import Any

LIGER = "axolotl.integrations.liger.LigerPlugin"
_LIGER_KEYS = ("liger_rope", "liger_rms_norm", "liger_glu_activation", "liger_fused_linear_cross_entropy")
# Parts of memory that grow with the tokens of a micro-batch (`memory.training`).
_BY_TOKENS = ("activations", "logits", "loss", "one layer's backward")
OTHER_ROWS = {"prepare": "file", "prepare.path": "FILE"}
_SMALLEST = {"model": "smollm2_135m"}  # of conf/model, and not gated


def memory(values: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """Settings that lower the peak of training, two of them where two go together.

    In this order, as long as it is activations that are too much: Liger's kernels, activations computed twice, a smaller
    micro-batch with more accumulation. Then 8-bit optimiser states, shards over the GPUs, LoRA, QLoRA, a smaller model.
    Shards come before adapters, since they leave the experiment what it is.
    """
    train, parts, capacity = values["train"], facts["memory"]["parts"], facts["memory"]["capacity"]
    gpu = facts["device"]["name"] != "cpu"
    fixed = sum(size for name, size in parts.items() if name not in _BY_TOKENS and "(paged)" not in name)
    found = []
    if fixed < capacity:
        if gpu and LIGER not in (train.get("plugins") or []):
            plugins = [*(train.get("plugins") or []), LIGER]
            found.append({"train.plugins": plugins} | {f"train.{key}": True for key in _LIGER_KEYS})
        if not train.get("gradient_checkpointing"):
            found.append({"train.gradient_checkpointing": True})
        if train["micro_batch_size"] > 1:
            found.append(batch(train, blocks(train), halved=True))
    if found:
        return found[0] | (found[1] if len(found) > 1 else {})
    sharded = train.get("fsdp_config") or train.get("deepspeed")
    if not train.get("adapter"):
        states = parts.get("optimiser", 0)
        if gpu and not sharded and "8bit" not in str(train["optimizer"]) and fixed - states * 3 / 4 < capacity:
            return {"train.optimizer": "paged_adamw_8bit"}  # as conf/method/full_8bit.yaml
        if gpu and not sharded and facts["device"]["count"] > 1:
            return {"hardware": ["rocm" if facts["device"]["name"].startswith("mi") else "cuda", "fsdp2"]}
        return {"method": "lora"}
    return {"method": "qlora"} if gpu and not train.get("load_in_4bit") else _SMALLEST


def blocks(train: dict[str, Any]) -> int:
    """Sequences that a step takes on each GPU."""
    return train["micro_batch_size"] * (train.get("gradient_accumulation_steps") or 1)


def batch(train: dict[str, Any], number: int, halved: bool = False) -> dict[str, int]:
    """Settings for a step of `number` sequences on each GPU: as many at once as now, at most, or `halved` half as many."""
    most = max(train["micro_batch_size"] // (2 if halved else 1), 1)
    micro = max(size for size in range(1, most + 1) if number % size == 0)
    return {"train.micro_batch_size": micro, "train.gradient_accumulation_steps": number // micro}


def evaluation(values: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """Settings that lower the peak of generating answers: a batch that has room beside the weights, a power of two."""
    evaluate, found = values["evaluate"], facts["memory"]
    weights = facts["model"]["parameters"] * (4 if evaluate["model_args"].get("dtype") == "float32" else 2)
    size = evaluate.get("batch_size")
    if not isinstance(size, int) or found["capacity"] <= weights:  # "auto" ends at one by itself
        return _SMALLEST
    fits = int(size * (found["capacity"] - weights) / (found["evaluation"] - weights))
    return {"evaluate.batch_size": 2 ** (fits.bit_length() - 1)} if fits else _SMALLEST


def disk(values: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """Settings that write less; none where the finished models alone are too much.

    With a limit of one, two checkpoints are there while the second is being written.
    """
    found, train = facts["disk"], values["train"]
    number, size, over = found["checkpoints"], found["checkpoint"], found["total"] - found["free"]
    if (number - 2) * size >= over:
        return {"train.save_total_limit": 1}
    if number * size >= over:
        named = ("saves_per_epoch", "save_steps")
        return {"train.save_strategy": "no"} | {f"train.{key}": None for key in named if train.get(key)}
    return {}


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
