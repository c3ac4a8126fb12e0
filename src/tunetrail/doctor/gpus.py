"""Checks of the installed PyTorch -> lines of `doctor`: the GPUs that it sees, and the attention kernels that run on them.

Each check runs torch in a process of its own, since a driver can hang and importing torch takes seconds; a CPU build is not
run at all. Only kernels of PyTorch and of flash-attn are tried.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunetrail import UserError, launch, machine
from tunetrail.doctor.environment import INSTALL_TORCH
from tunetrail.doctor.lines import PYTHON, Asked, Check, Line
from tunetrail.units import GIB

_WHY = f"{PYTHON} -c 'import torch; torch.cuda.init()' says why"
_FIX_DRIVER = {
    "cuda": "nvidia-smi shows whether the driver works; a container needs --gpus all",
    "rocm": "rocm-smi shows whether the driver works; a container needs /dev/kfd, /dev/dri and the groups video and render",
}
_MAKERS = {"cuda": ("NVIDIA", Path("/dev/nvidiactl")), "rocm": ("AMD", Path("/dev/kfd"))}  # and their driver's file
_PATIENCE = 60  # seconds for torch's import and the first touch of a GPU


def check_devices(asked: Asked) -> Line:
    """List the GPUs that torch sees; if this build of torch cannot use GPUs, those that it leaves unused."""
    build, gpu_expected = machine.torch_build(), asked.expect in ("cuda", "rocm")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    cpu = f"{len(os.sched_getaffinity(0))} CPU cores, {memory:.0f} GiB"
    drivers = {kind: maker for kind, (maker, file) in _MAKERS.items() if file.exists()}
    if build is None or build.kind == "cpu":
        if not gpu_expected and not drivers:
            return Line("ok", cpu)
        found = f"no GPU that this torch can use ({', '.join(drivers.values()) or 'none'} here), {cpu}"
        kind = asked.expect if gpu_expected else next(iter(drivers))
        return Line("fail" if gpu_expected else "warn", found, INSTALL_TORCH[kind])
    try:
        seen = _in_own_process("cards()")
    except UserError:
        return Line("fail", f"torch does not start, or not within {_PATIENCE} s", _WHY)
    if seen:
        counts = Counter(f"{name}, {size / GIB:.0f} GiB" for name, size in seen)
        return Line("ok", "; ".join(f"{count} x {card}" for card, count in counts.items()))
    if gpu_expected or build.kind in drivers:
        return Line("fail", f"torch sees no GPU, {cpu}", _FIX_DRIVER[build.kind])
    return Line("ok", f"no GPU, so experiments with hardware=cpu; {cpu}")


def check_attention(_: Asked) -> Line:
    """List the attention kernels by their names in `attn_implementation`; on a GPU they are run in both directions."""
    build = machine.torch_build()
    if build is None:
        return Line("fail", "torch is not installed", INSTALL_TORCH["cpu"])
    try:
        ran = _in_own_process("kernels('cuda')") if build.kind != "cpu" else {}
    except UserError:
        return Line("fail", f"torch does not start, or not within {_PATIENCE} s", _WHY)
    if not ran:
        return Line("ok", "sdpa; flash_attention_2 and flex_attention train on a GPU only")
    flash = "flash_attention_2" if ran.pop("flash-attn") else "no flash_attention_2 (package flash-attn; not needed)"
    fast = ", ".join(name for name, works in ran.items() if works) or "none of its fast kernels"
    found = f"sdpa ({fast}); {flash}; flex_attention not tried: Triton compiles it when it is first used"
    if ran["varlen"]:
        return Line("ok", found)
    fix = "train.sample_packing=false, or another torch"
    return Line("warn", f"{found}. Attention over packed rows costs the square of their length", fix)


CHECKS: dict[str, Check] = {"devices": check_devices, "attention": check_attention}


def _in_own_process(call: str) -> Any:
    """Return the result of `call`, a call of a function of this module, made in a process that is stopped if it hangs.

    Raises:
        UserError: it failed.
    """
    script = f"import json; from tunetrail.doctor import gpus; print(json.dumps(gpus.{call}))"
    printed = launch.output(["timeout", str(_PATIENCE), sys.executable, "-c", script])
    return json.loads(printed.splitlines()[-1])


def cards() -> list[tuple[str, int]]:
    """Return the name and the memory, in bytes, of each GPU that torch sees."""
    from torch import cuda

    properties = [cuda.get_device_properties(number) for number in range(cuda.device_count())]
    return [(card.name, card.total_memory) for card in properties]


def kernels(device: str) -> dict[str, bool]:
    """Return by name whether PyTorch's attention kernels and flash-attn's run in bfloat16 on `device`, in both directions.

    Empty if `device` is "cuda" and there is no GPU. `varlen` is the one for packed rows (Axolotl's sdpa_varlen.py).
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

    def works(kernel: Callable[..., torch.Tensor], *arguments: Any) -> bool:
        try:
            (gradient,) = torch.autograd.grad(kernel(*arguments).sum(), tokens)
        except Exception:  # each kernel has its own type for a missing device, number format or package
            return False
        return bool(gradient.isfinite().all())

    return {
        "flash": works(sdpa, SDPBackend.FLASH_ATTENTION),
        "cuDNN": works(sdpa, SDPBackend.CUDNN_ATTENTION),
        "efficient": works(sdpa, SDPBackend.EFFICIENT_ATTENTION),
        "varlen": works(varlen),
        "flash-attn": works(flash_attn),
    }
