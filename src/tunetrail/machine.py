"""This machine -> what a run's record says of it, as tags."""

import contextlib
import os
import platform
import shutil
from pathlib import Path

from tunetrail import UserError, launch

_LISTS_GPUS = {
    "nvidia-smi": ["--query-gpu=name,memory.total", "--format=csv,noheader"],
    "rocm-smi": ["--showproductname", "--csv"],
}


def tags() -> dict[str, str]:
    """Processors, GPUs as their own driver lists them, and Python's version."""
    found = {"hardware.cpu": f"{os.cpu_count()} x {_processor()}", "versions.python": platform.python_version()}
    for tool, words in _LISTS_GPUS.items():
        if shutil.which(tool):
            with contextlib.suppress(UserError):  # without a driver
                found["hardware.gpu"] = launch.output([tool, *words])
    return found


def _processor() -> str:
    """Its model, since two of one architecture may round otherwise."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
