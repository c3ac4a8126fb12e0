"""DVC's config files, read without DVC, whose start takes a second: where its cache is, and secrets that git would keep."""

import os
import re
import shlex
from pathlib import Path

import platformdirs
from configobj import ConfigObj, ConfigObjError

_APP = ("dvc", "iterative")  # DVC's names for platformdirs

# Options of DVC's config that hold a secret, not those that name a file with one or ask for it.
_SECRET = re.compile(
    r"^(?!ask_).*(password|passphrase|secret|token|connection_string|account_key|api_?key)(?!.*(path|file)$)"
)
_PASSWORD = re.compile(r"://[^@]*:.*@")  # in an address


def cache_folder(folder: Path) -> Path:
    """Return the folder of DVC's cache, by DVC's config files, of which a later one holds. Asking DVC takes a second."""
    user = Path(os.environ.get("DVC_GLOBAL_CONFIG_DIR") or platformdirs.user_config_dir(*_APP))
    own = folder / ".dvc"
    cache = own / "cache"
    for file in (system_config(), user / "config", own / "config", own / "config.local"):
        if path := _read(file).get("cache", {}).get("dir"):
            cache = file.parent / os.path.expanduser(path)  # a path in a config is relative to the folder of the config
    return cache


def _read(file: Path) -> dict[str, dict[str, str]]:
    """Return the options of each section of a config file, as DVC reads it; none of a file that cannot be read."""
    try:
        content = ConfigObj(str(file), encoding="utf-8", file_error=True).dict()
    except (OSError, UnicodeError, ConfigObjError):  # DVC reports what is wrong with the file
        return {}
    sections = {name.lower(): section for name, section in content.items() if isinstance(section, dict)}
    return {name: {key.lower(): str(value) for key, value in section.items()} for name, section in sections.items()}


def system_config() -> Path:
    """Return DVC's config file of the system, which need not exist."""
    return Path(os.environ.get("DVC_SYSTEM_CONFIG_DIR") or platformdirs.site_config_dir(*_APP)) / "config"


def cache_objects(root: Path) -> Path:
    """Return the folder where DVC's cache keeps each file by its md5, under the first two digits."""
    return cache_folder(root) / "files" / "md5"


def secrets(root: Path) -> list[str]:
    """Return a line, with the fix, for each option of .dvc/config that looks like a secret: git keeps the file."""
    lines = []
    for section, options in _read(root / ".dvc" / "config").items():
        kind, _, name = section.partition(" ")
        name = name.strip('"')
        for option, value in options.items():
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
