"""DVC in this checkout: the stages of dvc.yaml, what dvc.lock records, `dvc repro`, and DVC's own config.

`integrity` compares files with dvc.lock; `experiments` saves and finds DVC experiments.
"""

import configparser
import contextlib
import json
import os
import re
import shlex
import time
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from tunetrail import UserError, disk, launch

_TEXTS = {"path": {"type": "string"}, "md5": {"type": "string"}}
_FILES = {"type": "array", "items": {"type": "object", "required": ["path", "md5"], "properties": _TEXTS}}
_PARAMS = {"type": "object", "additionalProperties": {"type": "object"}}
_STAGE = {"type": "object", "properties": {"deps": _FILES, "outs": _FILES, "params": _PARAMS}}
_STAGES = {"type": "object", "additionalProperties": _STAGE}
_LOCK = {"type": "object", "required": ["schema"], "properties": {"stages": _STAGES}}

_SECONDS_TO_FILL = 5  # a folder in the cache of runs, which DVC makes before the file in it
_BEFORE = Path("work/dvc.lock.before")  # dvc.lock as it was when a `dvc repro` began that has not ended by itself

# Options of DVC's config that hold a secret, not those that name a file with one or ask for it.
_SECRET = re.compile(
    r"^(?!ask_).*(password|passphrase|secret|token|connection_string|account_key|api_?key)(?!.*(path|file)$)"
)
_PASSWORD = re.compile(r"://[^@]*:.*@")  # in an address


def run(folder: Path, *words: str) -> str:
    """Return what `dvc WORDS` prints in `folder`.

    Raises:
        UserError: DVC failed; the message is its own.
    """
    return launch.output(["dvc", "--cd", str(folder), *words])


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
        code = launch.run(["dvc", "repro", *targets], [lock_fd])
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
    for run in (cache_folder(folder) / "runs").glob("*/*"):
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


def cache_folder(folder: Path) -> Path:
    """Return the folder of DVC's cache by the config files of `folder`, which worktrees share. Asking DVC (`cache_objects`),
    which also knows the config of the user and the system, takes a second.
    """
    config = configparser.ConfigParser(interpolation=None, strict=False)
    with contextlib.suppress(configparser.Error):  # DVC reports what is wrong with the file
        config.read([folder / ".dvc" / "config", folder / ".dvc" / "config.local"])
    own = config.get("cache", "dir", fallback="cache").strip("\"'")
    return folder / ".dvc" / own  # a path in a config is relative to the folder of the config


def _is_whole(lock: Path) -> bool:
    with contextlib.suppress(UserError):
        locked_stages(lock.parent)
        return not lock.exists() or lock.read_bytes().endswith(b"\n")
    return False


def checkout_outputs(folder: Path) -> None:
    """Replace outputs that are missing or differ from dvc.lock, as far as DVC's cache has them."""
    with contextlib.suppress(UserError):
        run(folder, "checkout", "--quiet", "--force", "--allow-missing", *outputs(folder))


def cache_objects(root: Path) -> Path:
    """Return the folder where DVC's cache keeps each file by its md5, under the first two digits."""
    return Path(run(root, "cache", "dir")) / "files" / "md5"


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


def secrets(root: Path) -> list[str]:
    """Return a line, with the fix, for each option of .dvc/config that looks like a secret: git keeps the file."""
    config = configparser.ConfigParser(interpolation=None, strict=False)
    with contextlib.suppress(OSError, configparser.Error):  # DVC reports what is wrong with the file
        config.read_string((root / ".dvc" / "config").read_text(encoding="utf-8"))
    lines = []
    for section in config.sections():
        kind, _, name = section.strip("'").partition(" ")
        name = name.strip('"')
        for option, value in config[section].items():
            without = _PASSWORD.sub("://", value)
            if not _SECRET.search(option) and without == value:
                continue
            key = ".".join(filter(None, (kind, name, option)))
            command, target = ("remote modify", f"{shlex.quote(name)} {option}") if kind == "remote" else ("config", key)
            left = f"{target} {shlex.quote(without)}" if without != value else f"--unset {target}"
            lines.append(
                f"{root}/.dvc/config: {key} looks like a secret, in a file that git keeps. Once committed, it is in the "
                f"saved experiment of every run. Keep it where git does not: dvc {command} --local {target} VALUE && "
                f"dvc {command} {left}"
            )
    return lines
