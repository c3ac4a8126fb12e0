"""What a training computes, and on what -> its seconds: by the device's default, or by what an earlier run took here.

A micro-batch takes as long as its arithmetic, or as Python takes to launch its kernels if that is longer; on top come what
does not grow with its tokens. What says "measured" is fitted to benchmarks/speed.jsonl, and
tests/plan/estimate/test_pace.py holds the one against the other. Not covered: what GPUs wait for each other.
"""

from dataclasses import dataclass
from typing import Any

from tunetrail.plan.estimate.architecture import Architecture
from tunetrail.plan.estimate.hardware import Device
from tunetrail.plan.estimate.memory import LIGER

# Measured on one H200, Llama 3 8B, the activations computed twice: 5,390 tokens/s with transformers' own kernels, 9,380 with
# Liger's (docs/recipe-notes.md).
STOCK = 5390 / 9380
START = 45.0  # s until the first step: imports 26 to 28, then model and rows (measured on two cores)
# Seconds in which the kernels of one layer are launched, forward and backward (measured). An adapter has small ones beside
# each matrix.
_LAUNCH = {"full": 0.006, "adapter": 0.010}
# Bytes that go to and from the GPU's memory for each weight at an optimiser step: norm, clipping, AdamW (measured).
_STEP = 110
# Liger's fused loss adds up the head's gradient in as many pieces as the vocabulary is larger than the hidden state, each of
# them read and written whole (liger_kernel/ops/fused_linear_cross_entropy.py), in 4 bytes a weight.
_PIECE = 8
_HELD_UP = 1.15  # times the launching of its kernels: a run that took no longer says how long that takes


@dataclass(frozen=True)
class Training:
    """What is computed: `flops` on all GPUs together, micro-batches on each of them (`batches`), and optimiser `steps`."""

    flops: float
    batches: float
    steps: float


@dataclass(frozen=True)
class Pace:
    """`flops_per_s` of all GPUs together; `launch`: seconds of a layer of a micro-batch at least; `start`: until the loop
    begins."""

    flops_per_s: float
    launch: float
    start: float
    source: str


def default(device: Device, count: int, train: dict[str, Any], mfu: float | None) -> Pace:
    """By the share of the device's peak that is published or measured, or by `mfu`, the person's own."""
    launch = 0.0 if device.name == "cpu" else _LAUNCH["adapter" if train.get("adapter") else "full"]
    launch *= 4 / 3 if train.get("gradient_checkpointing") else 1
    share, source = (device.mfu, device.mfu_source) if mfu is None else (mfu, "plan.mfu")
    if mfu is None and device.name != "cpu" and LIGER not in (train.get("plugins") or []):
        share, source = share * STOCK, f"{source}; without Liger's kernels {STOCK:.0%} of it"
    return Pace(device.peak(train) * share * count, launch, START, source)


def aside(training: Training, shape: Architecture, train: dict[str, Any], device: Device) -> float:
    """Seconds of what does not grow with the tokens of a micro-batch, on a GPU that trains all weights."""
    if device.name == "cpu" or train.get("adapter"):
        return 0.0
    head = _PIECE * shape.vocab_size**2 if train.get("liger_fused_linear_cross_entropy") else 0
    return (training.batches * head + training.steps * _STEP * shape.parameters) / device.bandwidth


def seconds(training: Training, shape: Architecture, train: dict[str, Any], device: Device, pace: Pace) -> float:
    """Of the training's loop, without its start."""
    launching = training.batches * shape.num_hidden_layers * pace.launch
    return max(training.flops / pace.flops_per_s, launching) + aside(training, shape, train, device)


def kept(training: Training, layers: int, aside: float, looped: float, start: float) -> dict[str, float]:
    """What to keep of a run whose loop took `looped` seconds, `aside` of them by that function, and whose beginning took
    `start`: for `from_earlier`."""
    grown = max(looped - aside, looped / 4)
    return {"flops_per_s": training.flops / grown, "layer_s": grown / training.batches / layers, "start_s": start}


def from_earlier(expected: Pace, earlier: dict[str, float]) -> Pace:
    """The default pace (`expected`), put right by what was `kept` of a run here."""
    held_up = earlier["layer_s"] < _HELD_UP * expected.launch
    reached = max(earlier["flops_per_s"], expected.flops_per_s) if held_up else earlier["flops_per_s"]
    return Pace(reached, min(expected.launch, earlier["layer_s"]), earlier["start_s"], "measured here")
