"""What a training computes, and its device -> its seconds, by the device's default or by an earlier run on this machine.

A micro-batch takes as long as its arithmetic, or as Python takes to launch its kernels if that is longer, plus a time
that does not grow with its tokens. Figures marked "measured" are fitted to benchmarks/speed.jsonl, with which
tests/plan/estimate/test_pace.py compares them. Not counted: the time that GPUs wait for each other.
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
# Seconds to launch the kernels of one layer, forward and backward (measured). An adapter adds small ones to each matrix.
_LAUNCH = {"full": 0.006, "adapter": 0.010}
# Bytes read and written in the GPU's memory for each weight at an optimiser step: norm, clipping, AdamW (measured).
_STEP = 110
# Liger's fused loss adds up the head's gradient in as many pieces as the vocabulary is larger than the hidden state, each of
# them read and written whole (liger_kernel/ops/fused_linear_cross_entropy.py), in 4 bytes a weight.
_PIECE = 8
_LAUNCH_BOUND = 1.15  # a run within this many times the launching of its kernels measured the launching


@dataclass(frozen=True)
class Training:
    """What is computed: `flops` on all GPUs together, `batches` (micro-batches) on each of them, and optimiser `steps`."""

    flops: float
    batches: float
    steps: float


@dataclass(frozen=True)
class Pace:
    """`flops_per_s` of all GPUs together; `launch`: least seconds of a layer of a micro-batch; `start`: seconds before the
    first step."""

    flops_per_s: float
    launch: float
    start: float
    source: str


def default(device: Device, count: int, train: dict[str, Any], mfu: float | None) -> Pace:
    """Return the pace by the published or measured share of the device's peak, or by `mfu`, which the user gives."""
    launch = 0.0 if device.name == "cpu" else _LAUNCH["adapter" if train.get("adapter") else "full"]
    launch *= 4 / 3 if train.get("gradient_checkpointing") else 1
    share, source = (device.mfu, device.mfu_source) if mfu is None else (mfu, "plan.mfu")
    if mfu is None and device.name != "cpu" and LIGER not in (train.get("plugins") or []):
        share, source = share * STOCK, f"{source}; without Liger's kernels {STOCK:.0%} of it"
    return Pace(device.peak(train) * share * count, launch, START, source)


def aside(training: Training, shape: Architecture, train: dict[str, Any], device: Device) -> float:
    """Return the seconds that do not grow with the tokens of a micro-batch, on a GPU that trains all weights."""
    if device.name == "cpu" or train.get("adapter"):
        return 0.0
    head = _PIECE * shape.vocab_size**2 if train.get("liger_fused_linear_cross_entropy") else 0
    return (training.batches * head + training.steps * _STEP * shape.parameters) / device.bandwidth


def seconds(training: Training, shape: Architecture, train: dict[str, Any], device: Device, pace: Pace) -> float:
    """Return the seconds of the training's loop, without its start."""
    launching = training.batches * shape.num_hidden_layers * pace.launch
    return max(training.flops / pace.flops_per_s, launching) + aside(training, shape, train, device)


def measured(training: Training, layers: int, aside: float, loop_s: float, start: float) -> dict[str, float]:
    """Return the speed of a run, for `from_earlier`. Its loop took `loop_s` seconds, of which `aside` do not grow with the
    tokens, and the time before it `start` seconds."""
    arithmetic_s = max(loop_s - aside, loop_s / 4)
    return {
        "flops_per_s": training.flops / arithmetic_s,
        "layer_s": arithmetic_s / training.batches / layers,
        "start_s": start,
    }


def from_earlier(expected: Pace, earlier: dict[str, float]) -> Pace:
    """Return the default pace (`expected`), corrected by what was `measured` of an earlier run on this machine."""
    launch_bound = earlier["layer_s"] < _LAUNCH_BOUND * expected.launch
    reached = max(earlier["flops_per_s"], expected.flops_per_s) if launch_bound else earlier["flops_per_s"]
    return Pace(reached, min(expected.launch, earlier["layer_s"]), earlier["start_s"], "measured here")
