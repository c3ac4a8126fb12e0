"""A full disk -> which it is, and what to do. What a run will write, and whether that fits, `plan` says before it."""

import errno
import shutil
from pathlib import Path

from tunetrail.units import size

_LITTLE = 32 * 2**20  # bytes: with less free than that, a tool that failed has probably failed for it
_WRITTEN = (
    "work",
    "outputs",
    "eval_results",
    "report",
    ".dvc",
    ".dvc/cache",
    "mlartifacts",
    ".",
)  # by a run, below its root


def is_full(error: BaseException) -> bool:
    """Return whether a disk, or a user's quota on it, was full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def full(root: Path) -> str:
    """Return a sentence about each disk that a run in `root` writes to and that has hardly any space free; "" if none."""
    sentences: dict[int, str] = {}
    for folder in (root / name for name in _WRITTEN):
        if folder.is_dir() and (free := shutil.disk_usage(folder).free) < _LITTLE:
            fix = "Free space there: tunetrail gc shows what runs take."
            sentences.setdefault(folder.stat().st_dev, f"The disk of {folder.resolve()} has {size(free)} free. {fix}")
    return " ".join(sentences.values())


def message(error: OSError, root: Path) -> str:
    """Return what to print for an error that `is_full` of a command or a stage in `root`."""
    files = " -> ".join(str(name) for name in (error.filename, error.filename2) if name)
    return " ".join(filter(None, (f"{error.strerror}{f': {files}' if files else ''}.", full(root))))
