"""Checks of Python, git, the installed packages, the disk and telemetry -> a line of `doctor` each."""

import importlib.metadata
import os
import platform
import shlex
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

from tunetrail import UserError, launch, machine, telemetry
from tunetrail.checkout import git
from tunetrail.doctor.lines import PYTHON, Asked, Check, Line
from tunetrail.units import GIB

TOOLS = ("mlflow", "hydra-core", "torch", "transformers", "accelerate", "axolotl", "lm-eval")
TOOLS += ("matplotlib", "dvc", "datasets", "peft", "bitsandbytes")

_TORCH = "\"$(grep '^torch==' requirements/default.txt)\""
INSTALL_TORCH = {  # by kind of build
    "cpu": f"{PYTHON} -m uv pip install --torch-backend cpu --reinstall-package torch {_TORCH}",
    "cuda": f"{PYTHON} -m uv pip install --reinstall-package torch {_TORCH}",
    "rocm": "AMD's image has it: docker build --file docker/Dockerfile.rocm --tag tunetrail:rocm .",
}
_LITTLE = 40 * GIB  # free bytes; Llama-3-8B is 16 GB in the hub's cache, and 16 GB again for each tuned one
_PACKAGES_IN_LINE = 5


def check_python(asked: Asked) -> Line:
    from packaging.specifiers import SpecifierSet

    version, required = platform.python_version(), _project(asked.root)["requires-python"]
    if SpecifierSet(required).contains(version, prereleases=True):
        return Line("ok", version)
    return Line("fail", f"{version}, and pyproject.toml asks for {required}", "make PYTHON=python3.12 setup")


def check_git(asked: Asked) -> Line:
    """Check that git works here and has a commit: a run records its code by commit."""
    try:
        version = launch.output(["git", "--version"]).removeprefix("git version ")
        return Line("ok", f"{version}, commit {git.run(asked.root, 'rev-parse', '--short', '--verify', 'HEAD')}")
    except UserError:
        fix = f"{shlex.join(['git', '-C', str(asked.root), 'log', '-1'])} says why"
        return Line("fail", "missing, or it finds no commit of this checkout", fix)


def check_lock(asked: Asked) -> Line:
    """Compare the packages with pyproject.toml (a difference is red) and with the lock file (a difference is yellow)."""
    from packaging.requirements import Requirement

    file, fix = _lock()
    lines = (asked.root / file).read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    pins = [pin for pin in pins if not pin.marker or pin.marker.evaluate()]
    if wrong := _unmet([Requirement(line) for line in _project(asked.root)["dependencies"]]):
        return Line("fail", f"not what pyproject.toml asks for: {_first(wrong)}", fix)
    if wrong := _unmet(pins):
        return Line("warn", f"{len(wrong)} of {len(pins)} packages differ from {file}: {_first(wrong)}", fix)
    return Line("ok", f"{len(pins)} packages as {file} has them")


def _unmet(requirements: list[Any]) -> list[str]:
    """Return those that are not installed as required, each with the installed version and the required one."""
    unmet = []
    for requirement in requirements:
        version = _version(requirement.name)
        if not version or not requirement.specifier.contains(version, prereleases=True):
            unmet.append(f"{requirement.name} {version or 'missing'} ({requirement.specifier})")
    return unmet


def _first(packages: list[str]) -> str:
    more = len(packages) - _PACKAGES_IN_LINE
    return ", ".join(packages[:_PACKAGES_IN_LINE]) + (f" and {more} more" if more > 0 else "")


def check_tools(_: Asked) -> Line:
    versions = {tool: _version(tool) for tool in TOOLS}
    found = ", ".join(f"{tool} {version or 'missing'}" for tool, version in versions.items())
    return Line("ok", found) if all(versions.values()) else Line("fail", found, _lock()[1])


def check_torch(asked: Asked) -> Line:
    build = machine.torch_build()
    if build is None:
        return Line("fail", "not installed", INSTALL_TORCH[asked.expect or "cpu"])
    if asked.expect in (None, build.kind):
        return Line("ok", build.description)
    return Line("fail", f"{build.description}; {asked.expect} is expected", INSTALL_TORCH[asked.expect])


def check_punkt_tab(_: Asked) -> Line:
    """Look for punkt_tab where NLTK does. NLTK itself takes 5 s to import."""
    for folder in nltk_folders():
        if any((folder / "tokenizers" / name).exists() for name in ("punkt_tab", "punkt_tab.zip")):
            return Line("ok", str(folder))
    fix = f"{PYTHON} -m nltk.downloader punkt_tab, or NLTK_DATA=FOLDER that has tokenizers/punkt_tab"
    variable = os.environ.get("NLTK_DATA")
    where = f"neither in NLTK_DATA ({variable}) nor in its usual places" if variable else "not installed"
    return Line("warn", f"{where}: the demo does not need it, IFEval's own prompts do", fix)


def nltk_folders() -> list[Path]:
    """Return the folders where NLTK looks for data on Linux, in its order: `path` of nltk/data.py (3.10)."""
    variable = [os.path.expanduser(folder) for folder in os.environ.get("NLTK_DATA", "").split(os.pathsep) if folder]
    own = [os.path.join(sys.prefix, *parts, "nltk_data") for parts in ((), ("share",), ("lib",))]
    system = [f"/usr/{folder}/nltk_data" for folder in ("share", "local/share", "lib", "local/lib")]
    return [Path(folder) for folder in (*variable, os.path.expanduser("~/nltk_data"), *own, *system)]


def check_disk(asked: Asked) -> Line:
    """Compare the free bytes where models are written, and in the hub's cache, with what a model needs."""
    from huggingface_hub import constants

    free = {}
    for label, path in (("beside the checkout", asked.root), ("in the hub's cache", Path(constants.HF_HUB_CACHE))):
        existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
        free[label] = shutil.disk_usage(existing).free
    found = ", ".join(f"{size / GIB:.0f} GiB free {label}" for label, size in free.items())
    if min(free.values()) >= _LITTLE:
        return Line("ok", found)
    fix = "tunetrail gc shows what runs take and frees it; HF_HOME=FOLDER keeps the hub's cache on another disk"
    return Line("fail" if min(free.values()) < GIB else "warn", found, fix)


def check_telemetry(_: Asked) -> Line:
    """Check which tools would send telemetry from the processes that tunetrail starts."""
    tools = telemetry.senders(launch.environment())
    if not tools:
        return Line("ok", "off in all that tunetrail starts")
    return Line("warn", f"telemetry of {', '.join(tools)} is on by the environment", telemetry.fix(tools))


CHECKS: dict[str, Check] = {
    "python": check_python,
    "git": check_git,
    "lock": check_lock,
    "tools": check_tools,
    "punkt_tab": check_punkt_tab,
    "disk": check_disk,
    "telemetry": check_telemetry,
    "torch": check_torch,
}


def _lock() -> tuple[str, str]:
    """Return the lock file that goes with this torch, and the command that installs it."""
    file = machine.lock_file()
    options = "--no-deps " if file == machine.ROCM_LOCK else ""  # resolving would install a CUDA torch
    return file, f"{PYTHON} -m uv pip install {options}--requirement {file}"


def _project(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
