"""A checkout's DVC cache and remotes -> the same for another folder, so that nothing is made, fetched or kept twice."""

from pathlib import Path

from tunetrail import launch


def remotes(root: Path) -> dict[str, str]:
    """DVC's settings of the remotes of `root`, by their dotted keys; paths are absolute."""
    return _remotes(_settings(root))


def lend(root: Path, file: Path, more: dict[str, str] | None = None) -> None:
    """Write the DVC config `file` of another folder: the cache and the remotes of `root`, and `more`.

    Files are linked out of the cache where the file system can: they cost no time and no room, and are read-only.
    """
    found = _settings(root)
    settings = {"cache.dir": found.get("cache.dir", str(root / ".dvc" / "cache"))}
    settings["cache.type"] = "reflink,hardlink,symlink,copy"
    _write(file, settings | (more or {}) | _remotes(found))


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
