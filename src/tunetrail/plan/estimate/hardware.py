"""A device's name, or its driver's name for it -> its memory, its speeds by its data sheet, and training's share of them."""

import dataclasses
import difflib
from typing import Any

from tunetrail import UserError
from tunetrail.units import GIB


@dataclasses.dataclass(frozen=True)
class Device:
    """`memory` in bytes; `flops`: dense FLOP/s in 16 bits, `float32`: in 32; `bandwidth`: bytes/s.

    `mfu`: the share of them that full fine-tuning reaches while it multiplies matrices, with fused kernels as Liger's.
    """

    name: str
    memory: int
    flops: float
    float32: float
    bandwidth: float
    bf16: bool
    mfu: float
    mfu_source: str
    maker: str = "NVIDIA"
    compute: tuple[int, int] | None = None  # compute capability, as PyTorch numbers it

    def peak(self, train: dict[str, Any]) -> float:
        """Return the FLOP/s in the config's number format; NVIDIA's tf32 does half of what 16 bits do."""
        if train.get("bf16") or train.get("fp16"):
            return self.flops
        return self.flops / 2 if train.get("tf32") and self.bf16 and self.maker == "NVIDIA" else self.float32

    def capabilities(self) -> dict[str, Any]:
        """Return what Axolotl detects on this device (axolotl/cli/config.py: gpu_capabilities). Every GPU has bfloat16
        there, since PyTorch counts emulation."""
        version = self.compute or (0, 0)
        return {
            "bf16": self.compute is not None,
            "fp8": version >= (9, 0),
            "tf32": self.maker == "NVIDIA" and version >= (8, 0),
            "compute_capability": f"sm_{version[0]}{version[1]}" if self.compute else None,
        }


# If the share was not measured on a device, it is taken from another of its maker.
_H200 = "Llama 3 8B, Liger, no checkpointing: 10,700 tokens/s on one H200 (docs/recipe-notes.md)"
_H100 = "Llama 3.2 1B and 3B on one H100 (benchmarks/speed.jsonl)"
_EIGHT_H100 = "Llama 3 8B, 8,192 tokens: 5,762 tokens/s a GPU on 8 H100 (torchtitan's benchmarks, December 2024)"
_A100 = "Llama 2 7B on Alpaca: 3,000 tokens/s on one A100 (torchao's page on 8-bit Adam)"
_MI300X = "Llama 3 8B, 8,192 tokens: 5,377 tokens/s a GPU on 8 MI300X (torchao's training table)"
_LIKE = "as on another GPU of its maker; not measured on this one: "
_DIE = "one of its two dies; " + _LIKE + _MI300X

# Memory as the driver counts it; the makers' data sheets for the rest.
DEVICES = {
    device.name: device
    for device in (
        Device("mi325x", 256 * 10**9, 1.307e15, 1.634e14, 6.0e12, True, 0.21, _LIKE + _MI300X, "AMD", (9, 4)),
        Device("mi300x", 192 * GIB, 1.307e15, 1.634e14, 5.3e12, True, 0.21, _MI300X, "AMD", (9, 4)),
        Device("mi250x", 64 * GIB, 1.915e14, 4.79e13, 1.6e12, True, 0.21, _DIE, "AMD", (9, 0)),
        Device("mi250", 64 * GIB, 1.81e14, 4.53e13, 1.6e12, True, 0.21, _DIE, "AMD", (9, 0)),
        Device("mi210", 64 * GIB, 1.81e14, 4.53e13, 1.6e12, True, 0.21, _LIKE + _MI300X, "AMD", (9, 0)),
        Device("b200", 178 * GIB, 2.25e15, 8.0e13, 8.0e12, True, 0.30, _LIKE + _EIGHT_H100, compute=(10, 0)),
        Device("h200", 140 * GIB, 9.89e14, 6.7e13, 4.8e12, True, 0.50, _H200, compute=(9, 0)),
        Device("h100", 79 * GIB, 9.89e14, 6.7e13, 3.35e12, True, 0.50, _H100, compute=(9, 0)),
        Device("a100_80", 79 * GIB, 3.12e14, 1.95e13, 2.0e12, True, 0.38, _A100, compute=(8, 0)),
        Device("a100_40", 39 * GIB, 3.12e14, 1.95e13, 1.55e12, True, 0.38, _A100, compute=(8, 0)),
        Device("l40s", 44 * GIB, 3.62e14, 9.16e13, 8.6e11, True, 0.30, _LIKE + _EIGHT_H100, compute=(8, 9)),
        Device("rtx_4090", 23 * GIB, 1.65e14, 8.26e13, 1.0e12, True, 0.30, _LIKE + _EIGHT_H100, compute=(8, 9)),
        Device("v100", 31 * GIB, 1.25e14, 1.57e13, 9.0e11, False, 0.38, _LIKE + _A100, compute=(7, 0)),
        Device("t4", 14 * GIB, 6.5e13, 8.1e12, 3.2e11, False, 0.38, _LIKE + _A100, compute=(7, 5)),
    )
}


def precision(train: dict[str, Any], device: str, bf16: bool) -> dict[str, Any]:
    """Return settings of the Axolotl config `train` without bfloat16, if it asks for that and the device has none.

    They ask for float16 only for an adapter on a GPU: its weights are in float32, and the gradient scaler refuses others.
    """
    if bf16 or not (train.get("bf16") or train.get("bfloat16")):
        return {}
    settings = {"bf16": False, "fp16": bool(train.get("adapter")) and device != "cpu"}
    return settings | ({"bfloat16": None} if train.get("bfloat16") else {})


# Two multiply-adds of eight float32 numbers a cycle at 3 GHz.
_CORE_FLOPS = 9.6e10
_CPU = "a Llama of 0.8 M weights at 17,000 tokens/s and SmolLM2 135M at 114, on two cores"


def cpu(memory: int, cores: int) -> Device:
    """Return this machine without a GPU as a device; `memory` in bytes."""
    return Device("cpu", memory, cores * _CORE_FLOPS, cores * _CORE_FLOPS, 2.0e10, False, 0.54, _CPU, "")


def named(name: str) -> Device:
    """Return the device that `plan.device` names.

    Raises:
        UserError: there is no such device; the message has the nearest name, or all of them.
    """
    if name.lower() in DEVICES:
        return DEVICES[name.lower()]
    near = difflib.get_close_matches(name.lower(), DEVICES, n=1)
    known = f"Did you mean {near[0]}?" if near else f"Known here: {', '.join(DEVICES)}, cpu."
    raise UserError(f"plan.device={name}: no such device. {known}")


def recognised(driver_name: str, memory: int, maker: str) -> Device:
    """Return the device that a driver calls "NVIDIA A100-SXM4-80GB", with the memory that the driver reports.

    A device that is not listed here gets the speeds of its maker's slowest one that has bfloat16.
    """
    text = driver_name.lower()
    matches = [device for name, device in DEVICES.items() if all(part in text for part in name.split("_"))]
    if matches:  # the longest name: "mi250" is in "mi250x" too
        return dataclasses.replace(max(matches, key=lambda device: len(device.name)), memory=memory)
    candidates = [device for device in DEVICES.values() if device.maker == maker and device.bf16]
    like = min(candidates, key=lambda device: device.flops)
    source = f"as {like.name}, since this device is not listed: {like.mfu_source}"
    return dataclasses.replace(like, name=driver_name, memory=memory, mfu_source=source)
