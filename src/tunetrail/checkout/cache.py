"""A checkout's DVC cache and remotes -> the same for another folder, so that nothing is made, fetched or kept twice; and
files out of them, compared with what dvc.lock records.
"""

import configparser
import contextlib
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from tunetrail import UserError, launch
from tunetrail.checkout import integrity

# Options of DVC's config that hold a secret, not those that name a file with one or ask for it; and an address with one.
_SECRET = re.compile(
    r"^(?!ask_).*(password|passphrase|secret|token|connection_string|account_key|api_?key)(?!.*(path|file)$)"
)
_PASSWORD = re.compile(r"://[^@]*:.*@")


def remotes(root: Path) -> dict[str, str]:
    """DVC's settings of the remotes of `root`, by their dotted keys; paths are absolute."""
    return _remotes(_settings(root))


def write_shared_cache_config(root: Path, file: Path, more: dict[str, str] | None = None) -> None:
    """Write the DVC config `file` of another folder: the cache and the remotes of `root`, and `more`.

    Files are linked out of the cache where the file system can: they cost no time and no room, and are read-only.
    """
    found = _settings(root)
    settings = {"cache.dir": found.get("cache.dir", str(root / ".dvc" / "cache"))}
    settings["cache.type"] = "reflink,hardlink,symlink,copy"
    _write(file, settings | (more or {}) | _remotes(found))


class Changed(UserError):
    """Files are not what was recorded of them."""


class Missing(Changed):
    """DVC's cache does not have them any more, nor has a remote that this checkout names."""


def verify(root: Path, folder: Path, outs: Mapping[str, str], name: str, again: str) -> None:
    """Read the paths `outs` of `folder` (path: recorded md5), whose objects are in the cache of `root`.

    `name` is what recorded them, `again` the command that makes them again.

    Raises:
        Changed: they do not hold what is recorded; the message has each file, both hashes, and what helps.
    """
    _compare(root, folder, outs, name, again, leave=False)


def _compare(root: Path, folder: Path, outs: Mapping[str, str], name: str, again: str, leave: bool) -> None:
    """As `verify`; `leave` where what `folder` has needs no removing."""
    found = integrity.changed(folder, outs)
    if not found:
        return
    paths, put = [str(folder / path) for path in found], shlex.join(found)
    faults = list(integrity.faults(outs, found, objects(root)))
    text = f"{name} recorded other files than these {len(faults)} in {folder}:\n{integrity.shown(faults)}\n"
    damaged = list(dict.fromkeys(str(fault.object) for fault in faults if fault.state == "damaged"))
    clear = f"rm -r -f {shlex.join(damaged + ([] if leave else paths))}\nThen"
    pulled = (
        f"{'ask once more' if leave else f'dvc pull {put}'}, which brings it from the remote. Where that has it damaged too"
    )
    if damaged:
        clear += f" {pulled}" if remotes(root) else ""
        raise Changed(f"{text}DVC's cache has it damaged. Remove it: {clear}: {again}")
    if any(fault.state == "missing" for fault in faults):
        raise Missing(
            f"{text}DVC's cache does not have it any more. Where it was pushed, name the remote and ask once more: "
            f"dvc remote add --default NAME URL. Else {'' if leave else f'{clear}: '}{again}"
        )
    raise Changed(f"{text}DVC's cache has it as recorded. Put it back: rm -r -f {put} && dvc checkout {put}")


def bring(root: Path, folder: Path, outs: Mapping[str, str], name: str, again: str) -> None:
    """Have DVC put the paths `outs` (path: recorded md5), which `folder`/dvc.lock names, into `folder`, from the cache or
    else the remotes of `root`, unless they are there; `name` and `again` as in `verify`.

    Raises:
        Changed: they are not to be had as they were recorded.
        UserError: DVC failed otherwise; the message is its own.
    """
    if not integrity.changed(folder, outs):
        return
    for path in outs:  # DVC would leave a damaged file that it takes for unchanged
        remove(folder / path)
    dvc = ["dvc", "--cd", str(folder)]
    try:
        try:
            launch.output([*dvc, "checkout", "--force", *outs])
        except UserError:
            if not remotes(root):
                raise
            print("not in the cache: DVC pulls them from the remote", file=sys.stderr, flush=True)
            launch.output([*dvc, "pull", "--force", *outs])
    except UserError as error:
        try:
            _compare(root, folder, outs, name, again, leave=True)
        except Changed as why:
            raise type(why)(f"{why}\n{error}") from None
        raise
    _compare(root, folder, outs, name, again, leave=True)


def secrets(root: Path) -> list[str]:
    """For each option of .dvc/config, which git keeps, that looks like a secret: a line with what to type instead."""
    file, found = configparser.ConfigParser(interpolation=None, strict=False), []
    with contextlib.suppress(OSError, configparser.Error):  # DVC says what is wrong with it
        file.read_string((root / ".dvc" / "config").read_text(encoding="utf-8"))
    for section in file.sections():
        kind, _, name = section.strip("'").partition(" ")
        name = name.strip('"')
        for option, value in file[section].items():
            bare = _PASSWORD.sub("://", value)
            if not _SECRET.search(option) and bare == value:
                continue
            key = ".".join(filter(None, (kind, name, option)))
            modify, place = ("remote modify", f"{shlex.quote(name)} {option}") if kind == "remote" else ("config", key)
            left = f"dvc {modify} {place} {shlex.quote(bare)}" if bare != value else f"dvc {modify} --unset {place}"
            found.append(
                f"{root}/.dvc/config: {key} looks like a secret, in a file that git keeps. If it is "
                "committed, the saved experiment of every run has it. "
                f"Keep it where git does not: dvc {modify} --local {place} VALUE && {left}"
            )
    return found


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it, if it is there."""
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def objects(root: Path) -> Path:
    """The folder in which DVC's cache has its files, each by its md5: two digits are the folder's name."""
    return Path(launch.output(["dvc", "--cd", str(root), "cache", "dir"])) / "files" / "md5"


def _remotes(settings: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in settings.items() if key.startswith("remote.") or key == "core.remote"}


def _settings(root: Path) -> dict[str, str]:
    lines = launch.output(["dvc", "--cd", str(root), "config", "--list"]).splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)  # relative paths are made absolute


def _write(file: Path, settings: dict[str, str]) -> None:
    """DVC's settings by their dotted keys: `remote.NAME.url` stands in the section ['remote "NAME"']."""
    sections: dict[str, list[str]] = {}
    for key, value in settings.items():
        place, _, option = key.rpartition(".")
        kind, _, name = place.partition(".")
        quote = "'" if '"' in value else '"'
        sections.setdefault(f"'{kind} \"{name}\"'" if name else kind, []).append(f"{option} = {quote}{value}{quote}\n")
    file.parent.mkdir(exist_ok=True)
    file.touch(mode=0o600)  # a remote's password may be among them
    file.write_text("".join(f"[{section}]\n" + "".join(options) for section, options in sections.items()))
