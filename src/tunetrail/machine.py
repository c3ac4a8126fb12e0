"""This machine: its CPU and GPUs, the build of torch and its lock file; USER and HOME of a user that it does not list."""

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

_LIST_GPUS = {
    "nvidia-smi": ["--query-gpu=name,memory.total", "--format=csv,noheader"],
    "rocm-smi": ["--showproductname", "--csv"],
}
LOCK, ROCM_LOCK = "requirements/default.txt", "requirements/rocm.txt"


@dataclass(frozen=True)
class Build:
    """torch as installed; `kind` is "cpu", "cuda" or "rocm", `description` has the version and the runtime."""

    kind: str
    description: str


def torch_build() -> Build | None:
    """Return the installed build of torch, or None. Only torch's version.py is read: importing torch takes seconds."""
    package = importlib.util.find_spec("torch")
    if package is None or package.origin is None:
        return None
    spec = importlib.util.spec_from_file_location("torch_version", Path(package.origin).with_name("version.py"))
    version = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(version)
    kind = "rocm" if version.hip else "cuda" if version.cuda else "cpu"
    runtime = {"rocm": f"ROCm (HIP {version.hip})", "cuda": f"CUDA {version.cuda}", "cpu": "CPUs"}[kind]
    return Build(kind, f"{version.__version__}, built for {runtime}")


def lock_file() -> str:
    """Return the path in a checkout of the lock file that goes with the installed torch."""
    build = torch_build()
    return ROCM_LOCK if build is not None and build.kind == "rocm" else LOCK


def hardware() -> dict[str, str]:
    """Return the processors as "cpu" and, if a driver lists some, the GPUs as "gpu"."""
    parts = {"cpu": f"{os.cpu_count()} x {_processor()}"}
    for tool, options in _LIST_GPUS.items():
        if shutil.which(tool):
            with contextlib.suppress(UserError):  # without a driver
                parts["gpu"] = launch.output([tool, *options])
    return parts


def _processor() -> str:
    """Return the processor's model: two of one architecture may round differently."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def account_variables() -> dict[str, str]:
    """Return USER, and HOME if its folder cannot be written to, for a user id that the system does not list, as in a
    container: DVC, MLflow, PyTorch and caches need them. Return nothing for any other user.
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
    """Return the driver's name, the memory in bytes and the maker of each GPU of this machine whose memory is known."""
    with contextlib.suppress(UserError, ValueError, AttributeError):
        if shutil.which("nvidia-smi"):
            lines = launch.output(["nvidia-smi", *_LIST_GPUS["nvidia-smi"]]).splitlines()
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
