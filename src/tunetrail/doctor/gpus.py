"""PyTorch as it is installed -> for `doctor`: the GPUs that it sees, and the attention kernels that run on them.

Each is asked in a process of its own, since a driver can hang and importing torch takes seconds; a build for CPUs is not
asked at all. Not covered: kernels of packages other than PyTorch and flash-attn.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunetrail import UserError, launch, machine
from tunetrail.doctor.lines import BRINGS_TORCH, PYTHON, Asked, Check, Line
from tunetrail.units import GIB

_WHY = f"{PYTHON} -c 'import torch; torch.cuda.init()' says why"
_BRINGS_DEVICES = {
    "cuda": "nvidia-smi says whether the driver is well; a container needs --gpus all",
    "rocm": "rocm-smi says whether the driver is well; a container needs /dev/kfd, /dev/dri and the groups video and render",
}
_MAKERS = {"cuda": ("NVIDIA", Path("/dev/nvidiactl")), "rocm": ("AMD", Path("/dev/kfd"))}  # and what its driver makes
_PATIENCE = 60  # seconds for torch's import and the first touch of a GPU


def devices(asked: Asked) -> Line:
    """The GPUs that torch sees; where its build can use none, those that it leaves unused."""
    installed, wanted = machine.build(), asked.expect in ("cuda", "rocm")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    here = f"{len(os.sched_getaffinity(0))} CPU cores, {memory:.0f} GiB"
    there = {kind: maker for kind, (maker, node) in _MAKERS.items() if node.exists()}
    if installed is None or installed.kind == "cpu":
        if not wanted and not there:
            return Line("ok", here)
        found = f"no GPU that this torch can use ({', '.join(there.values()) or 'none'} here), {here}"
        return Line("fail" if wanted else "warn", found, BRINGS_TORCH[asked.expect if wanted else next(iter(there))])
    try:
        seen = _apart("cards()")
    except UserError:
        return Line("fail", f"torch does not start, or not within {_PATIENCE} s", _WHY)
    if seen:
        counted = Counter(f"{name}, {size / GIB:.0f} GiB" for name, size in seen)
        return Line("ok", "; ".join(f"{count} x {card}" for card, count in counted.items()))
    if wanted or installed.kind in there:
        return Line("fail", f"torch sees no GPU, {here}", _BRINGS_DEVICES[installed.kind])
    return Line("ok", f"no GPU, so experiments with hardware=cpu; {here}")


def attention(_: Asked) -> Line:
    """By the names that `attn_implementation` takes; on a GPU the kernels behind them are run, forwards and backwards."""
    installed = machine.build()
    if installed is None:
        return Line("fail", "torch is not installed", BRINGS_TORCH["cpu"])
    try:
        ran = _apart("kernels('cuda')") if installed.kind != "cpu" else {}
    except UserError:
        return Line("fail", f"torch does not start, or not within {_PATIENCE} s", _WHY)
    if not ran:
        return Line("ok", "sdpa; flash_attention_2 and flex_attention train on a GPU only")
    flash = (
        "flash_attention_2" if ran.pop("flash-attn") else "no flash_attention_2 (package flash-attn, which is not needed)"
    )
    own = ", ".join(name for name, well in ran.items() if well) or "none of its fast kernels"
    told = f"sdpa ({own}); {flash}; flex_attention not tried, for Triton compiles it when it is first used"
    if ran["varlen"]:
        return Line("ok", told)
    return Line(
        "warn", f"{told}. Packed rows cost the square of their length", "train.sample_packing=false, or another torch"
    )


CHECKS: dict[str, Check] = {"devices": devices, "attention": attention}


def _apart(call: str) -> Any:
    """What `call`, of a function of this module, returns in a process of its own, which is stopped if it hangs.

    Raises:
        UserError: it failed.
    """
    script = f"import json; from tunetrail.doctor import gpus; print(json.dumps(gpus.{call}))"
    said = launch.output(["timeout", str(_PATIENCE), sys.executable, "-c", script])
    return json.loads(said.splitlines()[-1])


def cards() -> list[tuple[str, int]]:
    """The name and the bytes of memory of each GPU that torch sees."""
    from torch import cuda

    found = [cuda.get_device_properties(number) for number in range(cuda.device_count())]
    return [(card.name, card.total_memory) for card in found]


def kernels(device: str) -> dict[str, bool]:
    """Whether PyTorch's attention kernels and flash-attn's run in bfloat16 on `device`, forwards and backwards, by name.

    Empty where `device` is "cuda" and there is no GPU. `varlen` is the one that packed rows take (Axolotl's sdpa_varlen.py).
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention

    if device == "cuda" and not torch.cuda.is_available():
        return {}
    tokens = torch.randn(128, 2, 64, device=device, dtype=torch.bfloat16, requires_grad=True)  # tokens, heads, width
    rows = tokens[None]

    def sdpa(backend: SDPBackend) -> torch.Tensor:
        heads = rows.transpose(1, 2)
        with sdpa_kernel(backend):
            return scaled_dot_product_attention(heads, heads, heads, is_causal=True)

    def varlen() -> torch.Tensor:
        from torch.nn.attention.varlen import varlen_attn

        ends = torch.tensor([0, 64, 128], device=device, dtype=torch.int32)  # two rows in one
        return varlen_attn(tokens, tokens, tokens, ends, ends, 64, 64, window_size=(-1, 0))

    def flash_attn() -> torch.Tensor:
        from flash_attn import flash_attn_func

        return flash_attn_func(rows, rows, rows, causal=True)

    def well(kernel: Callable[..., torch.Tensor], *given: Any) -> bool:
        try:
            (slope,) = torch.autograd.grad(kernel(*given).sum(), tokens)
        except Exception:  # each kernel has its own for a device, a number format or a package that it does not have
            return False
        return bool(slope.isfinite().all())

    return {
        "flash": well(sdpa, SDPBackend.FLASH_ATTENTION),
        "cuDNN": well(sdpa, SDPBackend.CUDNN_ATTENTION),
        "efficient": well(sdpa, SDPBackend.EFFICIENT_ATTENTION),
        "varlen": well(varlen),
        "flash-attn": well(flash_attn),
    }
