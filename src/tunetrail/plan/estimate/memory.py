"""A model's shape and an Axolotl config -> the bytes that training and evaluation need on each GPU, part by part.

Counted is what PyTorch has allocated at its peak; the driver's context and the allocator's free blocks (`OVERHEAD`) are
added. Figures marked "measured" are fitted to benchmarks/memory.jsonl; tests/plan/estimate/test_memory.py compares the two.
Not counted: tensor and context parallelism, offloading, mixtures of experts.
"""

from dataclasses import dataclass
from typing import Any

from tunetrail.plan.estimate.architecture import Architecture

OVERHEAD = 1.5 * 2**30  # measured: the driver's context, and blocks that the allocator keeps free
LIGER = "axolotl.integrations.liger.LigerPlugin"
# Activations that one layer keeps for its backward pass, in widths of its MLP and of its hidden state. Measured: norms and
# gates keep less with Liger's kernels, and an adapter's fused kernels do not keep the inputs of frozen maps.
_KEPT = {("full", True): (3, 13), ("full", False): (4, 17), ("adapter", True): (2, 8), ("adapter", False): (2, 10)}
# While a layer's backward pass runs, it holds this many times what the layer keeps (measured).
_BACKWARD = {"full": 2.6, "adapter": 1.8}
# Bytes a logit: bfloat16, its copy in float32, the log-softmax and its gradient; a trained head adds one copy (measured).
_LOGIT = {"full": 14, "adapter": 12}
_FOUR_BIT = 0.516  # bytes a weight in NF4: half a byte, and its scales quantised twice (QLoRA, arXiv:2305.14314, section 3)
_MOMENT = 1.02  # bytes of a moment in 8 bits, with a scale for each 256


@dataclass(frozen=True)
class Peak:
    """Bytes on one GPU at a peak: `parts` by name, and `paged` optimiser states, which may move to the host."""

    parts: dict[str, float]
    paged: float = 0.0

    @property
    def needed(self) -> float:
        """Bytes that must fit: all parts, and what the driver and the allocator take."""
        return sum(self.parts.values()) + OVERHEAD


def training(shape: Architecture, train: dict[str, Any], num_gpus: int) -> Peak:
    """Return the peak of a training step with the Axolotl config `train`, on each of `num_gpus` GPUs."""
    zero = _zero_stage(train)
    sharded = num_gpus if train.get("fsdp_config") or zero == 3 else 1
    width = 2 if train.get("bf16") or train.get("fp16") else 4
    non_linear = shape.parameters - shape.linear_parameters  # the embedding, the head and the norms
    linear = _FOUR_BIT if train.get("load_in_4bit") else 1 if train.get("load_in_8bit") else width
    paged = 0.0
    parts = {"weights": (non_linear * width + shape.linear_parameters * linear) / sharded}
    if train.get("adapter"):  # peft trains it in float32
        adapter = shape.adapter_parameters(train)
        parts |= {"adapter": 4 * adapter, "gradients": 4 * adapter, "optimiser": _states(train, 4) * adapter}
    else:
        parts["gradients"] = width * shape.parameters / (num_gpus if zero >= 2 else sharded)
        optimiser = _optimiser(shape, train, width) / (num_gpus if zero else sharded)
        if str(train["optimizer"]).startswith("paged_"):
            paged = optimiser
        else:
            parts["optimiser"] = optimiser
        parts["head's gradient"] = 4 * shape.embedding_parameters  # summed up apart before it joins the others (measured)
        if num_gpus > 1 and sharded == 1 and not zero:
            parts["gradient buckets"] = width * shape.parameters  # in which DDP exchanges gradients
    if sharded > 1:
        parts["gathered"] = 2 * width * non_linear  # whole on each GPU during a step, weights and gradients
    return Peak(parts | _activations(shape, train, width), paged)


def _activations(shape: Architecture, train: dict[str, Any], width: int) -> dict[str, float]:
    kernels = train.get("adapter") and train.get("lora_mlp_kernel") is not False  # Axolotl turns them on by itself
    method = "adapter" if kernels else "full"
    tokens = train["micro_batch_size"] * train["sequence_len"]
    mlp, hidden = _KEPT[method, LIGER in (train.get("plugins") or [])]
    layer = tokens * width * (mlp * shape.intermediate_size + hidden * shape.hidden_size)
    if train.get("liger_fused_linear_cross_entropy"):  # the logits are never whole, but the head's gradient is, twice
        head = {} if train.get("adapter") else {"loss": 4 * width * shape.embedding_parameters}
    else:
        head = {"logits": tokens * shape.vocab_size * _LOGIT["adapter" if train.get("adapter") else "full"] * width / 2}
    if not train.get("gradient_checkpointing"):
        return {"activations": layer * shape.num_hidden_layers} | head
    checkpoints = {"activations": tokens * width * shape.hidden_size * shape.num_hidden_layers}
    # The last layer's backward pass starts when the logits are freed: the larger of the two counts.
    backward = {"one layer's backward": _BACKWARD[method] * layer}
    return checkpoints | max(head, backward, key=lambda part: sum(part.values()))


def _zero_stage(train: dict[str, Any]) -> int:
    """Return DeepSpeed's ZeRO stage; 0 without DeepSpeed, or if its config is a file."""
    config = train.get("deepspeed")
    return config.get("zero_optimization", {}).get("stage", 0) if isinstance(config, dict) else 0


def _states(train: dict[str, Any], width: int) -> float:
    """Return the bytes of optimiser state for a trained weight of `width` bytes: two moments of that width, unless the
    optimiser's name says less."""
    name = str(train["optimizer"])
    moments = {"lion": 1, "sgd": 0, "adafactor": 0.01}  # adafactor: a row's and a column's sum for each matrix
    count = next((number for kind, number in moments.items() if kind in name), 2)
    return count * (_MOMENT if "8bit" in name else width)


def _optimiser(shape: Architecture, train: dict[str, Any], width: int) -> float:
    """Return the bytes of all optimiser states. transformers has bitsandbytes keep the embedding's moments in 32 bits."""
    states = _states(train, width)
    more = (8 - states) * shape.embedding_parameters if "8bit" in str(train["optimizer"]) else 0
    return states * shape.parameters + more


def evaluation(shape: Architecture, evaluate: dict[str, Any], tokens: int, prompts: int) -> Peak:
    """Return the peak of generating answers: weights, and the keys and values of the fullest batch.

    Its rows are padded to `tokens` tokens, prompt and answer. A batch has no more rows than the `prompts` of each GPU.
    """
    width = 4 if evaluate["model_args"].get("dtype") == "float32" else 2
    batch = min(evaluate["batch_size"] if isinstance(evaluate["batch_size"], int) else 1, prompts)
    key_values = 2 * shape.num_hidden_layers * shape.num_key_value_heads * shape.head_dim * width
    return Peak({"weights": shape.parameters * width, "keys and values": batch * tokens * key_values})
