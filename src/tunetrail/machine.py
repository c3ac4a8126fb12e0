"""This machine -> its tags in a run's record, its GPUs, torch's build with its lock file, and an account for the tools that
ask for one."""

import contextlib
import importlib.util
import json
import os
import platform
import pwd
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tunetrail import UserError, launch

_LISTS_GPUS = {
    "nvidia-smi": ["--query-gpu=name,memory.total", "--format=csv,noheader"],
    "rocm-smi": ["--showproductname", "--csv"],
}


LOCK, ROCM_LOCK = "requirements/default.txt", "requirements/rocm.txt"


@dataclass(frozen=True)
class Build:
    """torch as it is installed; `kind` is "cpu", "cuda" or "rocm", `told` says all of it."""

    kind: str
    told: str


def build() -> Build | None:
    """By torch's own version.py alone, for importing all of torch takes seconds; None where there is no torch."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return None
    spec = importlib.util.spec_from_file_location("torch_version", Path(found.origin).with_name("version.py"))
    version = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(version)
    kind = "rocm" if version.hip else "cuda" if version.cuda else "cpu"
    runtime = {"rocm": f"ROCm (HIP {version.hip})", "cuda": f"CUDA {version.cuda}", "cpu": "CPUs"}[kind]
    return Build(kind, f"{version.__version__}, built for {runtime}")


def lock() -> str:
    """The lock file that this torch goes with, as a path in a checkout."""
    installed = build()
    return ROCM_LOCK if installed is not None and installed.kind == "rocm" else LOCK


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


def account() -> dict[str, str]:
    """USER for a user id that the system does not list, as in a container, and HOME where its own cannot be written to:
    DVC, MLflow, PyTorch and caches ask for them. Nothing for anybody else.
    """
    try:
        pwd.getpwuid(os.getuid())
        return {}
    except KeyError:
        name = f"tunetrail-{os.getuid()}"
        user = {"USER": os.environ.get("USER") or name}
        if os.access(os.environ.get("HOME", ""), os.W_OK):
            return user
        home = Path(tempfile.gettempdir()) / name
        with contextlib.suppress(OSError):
            with contextlib.suppress(FileExistsError):
                home.mkdir(mode=0o700)
            if home.lstat().st_uid != os.getuid():  # another user's, who could change what is cached there
                home = Path(tempfile.mkdtemp(prefix=f"{name}-"))
        return {"HOME": str(home)} | user


def gpus() -> list[tuple[str, int, str]]:
    """(the driver's name, memory in bytes, maker) of each GPU of this machine whose memory is known."""
    with contextlib.suppress(UserError, ValueError, AttributeError):
        if shutil.which("nvidia-smi"):
            lines = launch.output(["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]).splitlines()
            cards = [re.fullmatch(r"(.*), (\d+) MiB", line.strip()) for line in lines]
            return [(card[1], int(card[2]) * 2**20, "NVIDIA") for card in cards if card]
        if shutil.which("rocm-smi"):
            cards = json.loads(launch.output(["rocm-smi", "--showproductname", "--showmeminfo", "vram", "--json"]))
            return [
                (str(card.get("Card Series") or card.get("Card series")), int(card["VRAM Total Memory (B)"]), "AMD")
                for card in cards.values()
                if card.get("VRAM Total Memory (B)")
            ]
    return []
