"""DVC in this checkout: the stages of dvc.yaml, what dvc.lock records, `dvc repro`.

`dvc_config` reads DVC's config, `integrity` compares files with dvc.lock, `experiments` saves and finds DVC experiments.
"""

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from tunetrail import UserError, disk, launch
from tunetrail.checkout import dvc_config

_TEXTS = {"path": {"type": "string"}, "md5": {"type": "string"}}
_FILES = {"type": "array", "items": {"type": "object", "required": ["path", "md5"], "properties": _TEXTS}}
_PARAMS = {"type": "object", "additionalProperties": {"type": "object"}}
_STAGE = {"type": "object", "properties": {"deps": _FILES, "outs": _FILES, "params": _PARAMS}}
_STAGES = {"type": "object", "additionalProperties": _STAGE}
_LOCK = {"type": "object", "required": ["schema"], "properties": {"stages": _STAGES}}

_REPRO = (sys.executable, "-P", "-m", "tunetrail.checkout.repro")
_SECONDS_TO_FILL = 5  # a folder in the cache of runs, which DVC makes before the file in it
_BEFORE = Path("work/dvc.lock.before")  # dvc.lock as it was when a `dvc repro` began that has not ended by itself


def run(folder: Path, *words: str, variables: dict[str, str] | None = None) -> str:
    """Return what `dvc WORDS` prints in `folder`; `variables` are added to its environment.

    Raises:
        UserError: DVC failed; the message is its own.
    """
    return launch.output(["dvc", "--cd", str(folder), *words], variables)


def locked_stages(folder: Path) -> dict[str, Any]:
    """Return what dvc.lock records: stage -> {"deps", "params", "outs"}; nothing before the first run.

    Raises:
        UserError: it is not as DVC writes it, for example because a merge left git's conflict markers in it.
    """
    lock = folder / "dvc.lock"
    if not lock.is_file():
        return {}
    try:
        content = yaml.safe_load(lock.read_text(encoding="utf-8"))
        jsonschema.validate(content, _LOCK)
    except jsonschema.ValidationError as error:
        raise _unreadable(lock, f"{error.json_path} is wrong") from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise _unreadable(lock, " ".join(str(error).split())) from None
    return content.get("stages", {})


def _unreadable(lock: Path, why: str) -> UserError:
    return UserError(f"{lock}: not as DVC writes it ({why}). Resolve it, or: git checkout HEAD -- dvc.lock")


def hashes(stages: dict[str, Any]) -> dict[str, str]:
    """Return the md5 of each output of these `locked_stages`, by its path."""
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", ())}


def md5(folder: Path, stages: dict[str, Any], stage: str, path: str) -> str | None:
    """Return the md5 that dvc.lock records for `path`, an output or dependency of `stage`, however it is spelled."""
    entries = [*stages.get(stage, {}).get("outs", ()), *stages.get(stage, {}).get("deps", ())]
    wanted = (folder / path).resolve()
    return next((entry["md5"] for entry in entries if (folder / entry["path"]).resolve() == wanted), None)


def _stages(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / "dvc.yaml").read_text())["stages"]


def outputs(folder: Path) -> list[str]:
    """Return the outputs of all stages. DVC may overwrite these and nothing else: a user may keep more files in DVC."""
    return [out for stage in _stages(folder).values() for out in stage["outs"]]


def stages_without(folder: Path, output: str) -> list[str]:
    """Return the names of the stages, in the order in which they run, without the stage that makes `output`."""
    return [name for name, stage in _stages(folder).items() if output not in stage["outs"]]


def sections(folder: Path, stage: str) -> set[str]:
    """Return the sections of params.yaml that `stage` and the stages before it depend on."""
    stages = _stages(folder)
    names = {key.partition(".")[0] for key in stages[stage]["params"]}
    for dependency in stages[stage]["deps"]:
        for other, entry in stages.items():
            if any(Path(dependency).is_relative_to(output) for output in entry["outs"]):
                names |= sections(folder, other)
    return names


def reproduce(folder: Path, lock_fd: int, *targets: str) -> None:
    """Bring the stages of `targets`, by default all, up to date with `dvc repro`, which inherits the lock `lock_fd`.

    Raises:
        UserError: a stage failed. The outputs that DVC removed before it ran the stage are back in place.
    """
    os.chdir(folder)
    _repair(folder)
    lock, before = folder / "dvc.lock", folder / _BEFORE
    if _is_whole(lock):  # not one with a merge conflict
        before.parent.mkdir(exist_ok=True)
        partial = before.with_suffix(".partial")
        partial.write_bytes(lock.read_bytes() if lock.exists() else b"")
        partial.replace(before)
    code = None
    try:
        code = launch.run([*_REPRO, *targets], [lock_fd])
    finally:
        if code is not None and code >= 0 and _is_whole(lock):  # neither killed, nor stopped by a full disk
            before.unlink(missing_ok=True)
        if code != 0:
            checkout_outputs(folder)
    if code:
        reason = f" {full}" if (full := disk.full(folder)) else ""
        raise UserError(
            f"a stage failed: its output is above.{reason} Fix that and run again; finished stages are not run again."
        )


def _repair(folder: Path) -> None:
    """Put right what a killed `dvc repro` has left: it writes dvc.lock and its table of locks in place and reads neither of
    them if it is cut, and it fails at an empty folder in its cache of runs. That has the stages that finished in between.
    """
    lock, before = folder / "dvc.lock", folder / _BEFORE
    if before.exists() and not _is_whole(lock) and "<<<<<<< " not in lock.read_text(errors="replace"):  # no merge's
        print(f"dvc.lock was cut when DVC ended: it is again as it was before. The cut one: {lock}.cut", flush=True)
        lock.replace(f"{lock}.cut")
        if content := before.read_bytes():
            lock.write_bytes(content)
    for run in (dvc_config.cache_folder(folder) / "runs").glob("*/*"):
        with contextlib.suppress(OSError):
            if time.time() - run.stat().st_mtime > _SECONDS_TO_FILL:
                run.rmdir()  # if it is empty
    table = folder / ".dvc" / "tmp" / "rwlock"
    try:
        json.loads(table.read_bytes())
    except FileNotFoundError:
        pass
    except ValueError:
        table.unlink()


def _is_whole(lock: Path) -> bool:
    with contextlib.suppress(UserError):
        locked_stages(lock.parent)
        return not lock.exists() or lock.read_bytes().endswith(b"\n")
    return False


def checkout_outputs(folder: Path) -> None:
    """Replace outputs that are missing or differ from dvc.lock, as far as DVC's cache has them."""
    with contextlib.suppress(UserError):
        run(folder, "checkout", "--quiet", "--force", "--allow-missing", *outputs(folder))


def remotes(root: Path) -> dict[str, str]:
    """Return DVC's settings of the remotes of `root`, by their dotted keys; paths are absolute."""
    return _remotes(_settings(root))


def _remotes(settings: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in settings.items() if key.startswith("remote.") or key == "core.remote"}


def _settings(root: Path) -> dict[str, str]:
    lines = run(root, "config", "--list").splitlines()  # DVC makes relative paths absolute
    return dict(line.split("=", 1) for line in lines if "=" in line)


def write_shared_cache_config(root: Path, file: Path, extra: dict[str, str] | None = None) -> None:
    """Write `file`, the DVC config of another folder, with the cache and the remotes of `root`, and the settings `extra`.

    Files are linked out of the cache where the file system can, which costs no time and no space; they are read-only.
    """
    own = _settings(root)
    settings = {"cache.dir": own.get("cache.dir", str(root / ".dvc" / "cache"))}
    settings["cache.type"] = "reflink,hardlink,symlink,copy"
    sections: dict[str, list[str]] = {}
    for key, value in (settings | (extra or {}) | _remotes(own)).items():
        section, _, option = key.rpartition(".")
        kind, _, name = section.partition(".")
        header = f"'{kind} \"{name}\"'" if name else kind  # remote.NAME.url is in the section ['remote "NAME"']
        quote = "'" if '"' in value else '"'
        sections.setdefault(header, []).append(f"{option} = {quote}{value}{quote}\n")
    file.parent.mkdir(exist_ok=True)
    file.touch(mode=0o600)  # it may hold a remote's password
    file.write_text("".join(f"[{header}]\n" + "".join(options) for header, options in sections.items()))
