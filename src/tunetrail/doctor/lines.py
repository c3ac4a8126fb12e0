"""This machine and its environment -> a line a check: a mark, what was found, and what to do where it is not well.

Red (fail): a run would fail or be wrong. Yellow (warn): some runs fail, or it costs something. Nothing is changed.
Of an exception only the type and the place are told, since a message may quote an address with a password in it. Not
covered: GPUs, which are `gpus`'; what a machine reaches, `services`'; whether an experiment fits on it, `plan`'s.
"""

import importlib.metadata
import importlib.util
import os
import platform
import shlex
import shutil
import sys
import textwrap
import tomllib
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunetrail import UserError, launch, machine
from tunetrail.units import GIB

TOOLS = ("mlflow", "hydra-core", "torch", "transformers", "accelerate", "axolotl", "lm-eval")
TOOLS += ("matplotlib", "dvc", "datasets", "peft", "bitsandbytes")

PYTHON = shlex.quote(sys.executable)
_TORCH = "\"$(grep '^torch==' requirements/default.txt)\""
BRINGS_TORCH = {  # by kind of build
    "cpu": f"{PYTHON} -m uv pip install --torch-backend cpu --reinstall-package torch {_TORCH}",
    "cuda": f"{PYTHON} -m uv pip install --reinstall-package torch {_TORCH}",
    "rocm": "AMD's image has it: docker build --file docker/Dockerfile.rocm --tag tunetrail:rocm .",
}
_LITTLE = 40 * GIB  # Llama-3-8B is 16 GB in the hub's cache, and 16 GB again for each tuned one


@dataclass(frozen=True)
class Asked:
    """The checkout, and the build of torch that the machine is meant to have: "cpu", "cuda", "rocm", or None for any."""

    root: Path
    expect: str | None = None


@dataclass(frozen=True)
class Line:
    """What one check found, and what to do about it."""

    mark: Literal["ok", "warn", "fail"]
    found: str
    fix: str = ""


Check = Callable[[Asked], Line]


def examine(checks: Mapping[str, Check], asked: Asked) -> dict[str, Line]:
    """All checks at once, by their names; one that breaks is a red line."""
    with ThreadPoolExecutor(len(checks)) as threads:
        return dict(zip(checks, threads.map(lambda check: _line(check, asked), checks.values()), strict=True))


def _line(check: Check, asked: Asked) -> Line:
    try:
        return check(asked)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        found = f"the check broke: {type(error).__name__} in {Path(last.filename).name}, line {last.lineno}"
        return Line("fail", found, "fix the file that it reads, or report this line as a fault of tunetrail's")


def table(lines: Mapping[str, Line], width: int, mark: Callable[[str], str] = str) -> str:
    """A line a check in at most `width` columns, then the fixes, whole, so that they can be pasted. `mark` may colour."""
    size = max(map(len, lines))
    indent = " " * (4 + 2 + size + 2)
    rows = []
    for name, line in lines.items():
        told = textwrap.wrap(line.found, max(width - len(indent), 30), break_on_hyphens=False, break_long_words=False)
        rows.append(f"{mark(f'{line.mark:<4}')}  {name:<{size}}  " + f"\n{indent}".join(told))
    names: dict[str, list[str]] = {}  # of the checks that one fix is for
    for name, line in lines.items():
        if line.mark != "ok" and line.fix:
            names.setdefault(line.fix, []).append(name)
    labels = {fix: ", ".join(alike) for fix, alike in names.items()}
    size = max(map(len, labels.values()), default=0)
    fixes = [f"  {label:<{size}}  {fix}" for fix, label in labels.items()]
    return "\n".join([*rows, *(["", "what to do:", *fixes] if fixes else [])])


def python(asked: Asked) -> Line:
    from packaging.specifiers import SpecifierSet

    version, wanted = platform.python_version(), _project(asked.root)["requires-python"]
    if SpecifierSet(wanted).contains(version, prereleases=True):
        return Line("ok", version)
    return Line("fail", f"{version}, and pyproject.toml asks for {wanted}", "make PYTHON=python3.12 setup")


def git(asked: Asked) -> Line:
    """It answers, here, by which a run names its code: not where there is no commit, or where git distrusts the folder."""
    here = ["git", "-C", str(asked.root)]
    try:
        version = launch.output(["git", "--version"]).removeprefix("git version ")
        return Line("ok", f"{version}, commit {launch.output([*here, 'rev-parse', '--short', '--verify', 'HEAD'])}")
    except UserError:
        return Line(
            "fail", "missing, or it names no commit of this checkout", f"{shlex.join([*here, 'log', '-1'])} says why"
        )


def lock(asked: Asked) -> Line:
    """Red where a package is not the version that pyproject.toml asks for, yellow where it is another than the lock's."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    file, fix = _lock()
    lines = (asked.root / file).read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    pins = [pin for pin in pins if not pin.marker or pin.marker.evaluate()]
    needs = [Requirement(line) for line in _project(asked.root)["dependencies"]]
    here = {canonicalize_name(one.name): _version(one.name) for one in (*pins, *needs)}

    def others(wanted: list[Requirement]) -> list[str]:
        versions = [(one, here[canonicalize_name(one.name)]) for one in wanted]
        met = [bool(version) and one.specifier.contains(version, prereleases=True) for one, version in versions]
        told = zip(versions, met, strict=True)
        return [f"{one.name} {version or 'missing'} ({one.specifier})" for (one, version), well in told if not well]

    def first(found: list[str]) -> str:
        return ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")

    if found := others(needs):
        return Line("fail", f"not what pyproject.toml asks for: {first(found)}", fix)
    if found := others(pins):
        return Line("warn", f"{len(found)} of {len(pins)} packages differ from {file}: {first(found)}", fix)
    return Line("ok", f"{len(pins)} packages as {file} has them")


def tools(_: Asked) -> Line:
    versions = {tool: _version(tool) for tool in TOOLS}
    told = ", ".join(f"{tool} {version or 'missing'}" for tool, version in versions.items())
    return Line("ok", told) if all(versions.values()) else Line("fail", told, _lock()[1])


def torch(asked: Asked) -> Line:
    installed = machine.build()
    if installed is None:
        return Line("fail", "not installed", BRINGS_TORCH[asked.expect or "cpu"])
    if asked.expect in (None, installed.kind):
        return Line("ok", installed.told)
    return Line("fail", f"{installed.told}; {asked.expect} is expected", BRINGS_TORCH[asked.expect])


def punkt_tab(_: Asked) -> Line:
    """Where NLTK looks for it. NLTK, which refuses a folder that others write to, is not asked: its import takes 5 s."""
    for folder in nltk_folders():
        if any((folder / "tokenizers" / name).exists() for name in ("punkt_tab", "punkt_tab.zip")):
            return Line("ok", str(folder))
    fix = f"{PYTHON} -m nltk.downloader punkt_tab, or NLTK_DATA=FOLDER that has tokenizers/punkt_tab"
    given = os.environ.get("NLTK_DATA")
    here = f"neither in NLTK_DATA ({given}) nor in its usual places" if given else "not here"
    return Line("warn", f"{here}: the demo needs none, IFEval's own prompts do", fix)


def nltk_folders() -> list[Path]:
    """Where NLTK looks for data on Linux, in its order: `path` of nltk/data.py (3.10)."""
    given = [os.path.expanduser(folder) for folder in os.environ.get("NLTK_DATA", "").split(os.pathsep) if folder]
    own = [os.path.join(sys.prefix, *place, "nltk_data") for place in ((), ("share",), ("lib",))]
    system = [f"/usr/{place}/nltk_data" for place in ("share", "local/share", "lib", "local/lib")]
    return [Path(folder) for folder in (*given, os.path.expanduser("~/nltk_data"), *own, *system)]


def disk(asked: Asked) -> Line:
    """Free bytes where models are written and where the hub's are kept."""
    from huggingface_hub import constants

    free = {}
    for what, place in (("beside the checkout", asked.root), ("in the hub's cache", Path(constants.HF_HUB_CACHE))):
        there = next(folder for folder in (place, *place.absolute().parents) if folder.exists())
        free[what] = shutil.disk_usage(there).free
    told = ", ".join(f"{size / GIB:.0f} GiB free {what}" for what, size in free.items())
    if min(free.values()) >= _LITTLE:
        return Line("ok", told)
    fix = "tunetrail gc says what runs take and frees it; HF_HOME=FOLDER keeps the hub's cache on another disk"
    return Line("fail" if min(free.values()) < GIB else "warn", told, fix)


def telemetry(_: Asked) -> Line:
    """As what tunetrail starts will find it, by the rule of a plan."""
    from tunetrail.plan.rules import risks

    found = risks.telemetry_on(launch.environment())
    return Line("warn", found.what, found.fix) if found else Line("ok", "off in all that tunetrail starts")


_ALL = (python, git, lock, tools, punkt_tab, disk, telemetry, torch)
CHECKS: dict[str, Check] = {check.__name__: check for check in _ALL}


def _lock() -> tuple[str, str]:
    """The lock file that this torch goes with, and the command that brings what it has."""
    file = machine.lock()
    apart = "--no-deps " if file == machine.ROCM_LOCK else ""  # nothing may resolve there: a CUDA torch would come
    return file, f"{PYTHON} -m uv pip install {apart}--requirement {file}"


def _project(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
