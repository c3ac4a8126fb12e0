"""Steps, a model's shape and a device -> FLOP, seconds of evaluation, and bytes on the disk.

Not counted: downloads, waiting for a machine, and how GPUs of several hosts slow each other.
"""

import math
from dataclasses import dataclass
from typing import Any

from tunetrail.plan.estimate import memory
from tunetrail.plan.estimate.architecture import Architecture
from tunetrail.plan.estimate.hardware import Device

EVALUATOR_START = 20.0  # s until the first answer: imports 17 to 21 s (measured on two cores)
# Seconds of a layer for each token that a batch generates: 1,340 tokens/s at a batch of 128 from 32 layers of one H200,
# whose memory would allow 25,000; the tiny Llama of three layers on two cores.
LAYER_SECONDS = {True: 3.0e-3, False: 1.0e-3}


@dataclass(frozen=True)
class Flops:
    """FLOP of a run: in training's steps, in activations that are computed twice, and in validation."""

    training: float
    recomputed: float
    validation: float

    @property
    def total(self) -> float:
        return self.training + self.recomputed + self.validation


@dataclass(frozen=True)
class Disk:
    """Bytes: `checkpoints` of `checkpoint` bytes at once, the finished `model`, the `base` to fetch, the `total` of them.
    `written` checkpoints are written during the run.

    `total` has the model three times: where Axolotl leaves it, as DVC's output, and in DVC's cache, unless that is linked.
    `free` is what the disk has, None for another machine.
    """

    written: int
    checkpoints: int
    checkpoint: float
    model: float
    base: float
    total: float
    free: int | None


def flops(
    shape: Architecture, train: dict[str, Any], slots: float, validated: float, length: float, masked: bool = False
) -> Flops:
    """Return the FLOP of the whole training.

    `slots` and `validated`: tokens computed in training and in validation, with padding; `length`: mean tokens of a row, the
    range of packed attention. Without a kernel for packed rows, as on a CPU, attention goes over whole sequences, and what
    its mask excludes is computed too (`masked`). A backward pass costs two forward passes, or one if the weights are frozen;
    recomputing activations costs another.
    """
    fills_sequence = train.get("pad_to_sequence_len") or train.get("sample_packing")
    context = length if train.get("sample_packing") or not fills_sequence else train["sequence_len"]
    if masked:
        context = 2 * (train["sequence_len"] if fills_sequence else length)
    forward = shape.forward_flops(context)
    backward = 1 if train.get("adapter") else 2
    return Flops(
        training=slots * forward * (1 + backward),
        recomputed=slots * forward if train.get("gradient_checkpointing") else 0.0,
        validation=validated * forward,
    )


def evaluation(shape: Architecture, evaluate: dict[str, Any], prompts: int, device: Device, count: int) -> tuple[int, float]:
    """Return (tokens, seconds) at most for `prompts` answers on `count` GPUs: a batch ends with its longest answer."""
    longest = evaluate["task"]["generation_kwargs"]["max_gen_toks"]
    batch = evaluate["batch_size"] if isinstance(evaluate["batch_size"], int) else 1
    width = 4 if evaluate["model_args"].get("dtype") == "float32" else 2
    step = shape.num_hidden_layers * LAYER_SECONDS[device.name != "cpu"]
    step = max(step, shape.parameters * width / device.bandwidth)
    if device.name == "cpu":
        step += batch * shape.forward_flops(longest) / (device.flops * device.mfu)
    return prompts * longest, EVALUATOR_START + math.ceil(prompts / batch / count) * longest * step


def disk(shape: Architecture, train: dict[str, Any], saves: tuple[int, int], fetched: bool, free: int | None = None) -> Disk:
    """Return the bytes that a run writes with so many checkpoints, and so many of them at once (`frequency.saves`), each
    with optimiser states unless `save_only_model`.

    The base model, if it is `fetched`, has 16 bits a weight. `free`: bytes that the disk has.
    """
    adapter = shape.adapter_parameters(train)
    width = 2 if train.get("bf16") or train.get("fp16") else 4
    model = 4.0 * adapter if adapter else float(width * shape.parameters)
    checkpoint = model
    if not train.get("save_only_model"):
        peak = memory.training(shape, train, 1)
        checkpoint += peak.parts.get("optimiser", 0) + peak.paged
    base = 2.0 * shape.parameters if fetched else 0.0
    written, at_once = saves
    return Disk(written, at_once, checkpoint, model, base, at_once * checkpoint + 3 * model + base, free)
