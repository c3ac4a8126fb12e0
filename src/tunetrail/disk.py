"""A full disk -> which it is, and what to do. What a run will write, and whether that fits, `plan` says before it."""

import contextlib
import errno
import shutil
from pathlib import Path

from tunetrail.units import size

_LITTLE = 32 * 2**20  # bytes: with less free than that, a tool that failed has probably failed for it
# What a run writes to, below its root; any of them may be a disk of its own.
_WRITTEN = ("work", "outputs", "eval_results", "report", ".dvc", ".dvc/cache", "mlartifacts", ".")


def is_full(error: BaseException) -> bool:
    """Return whether a disk, or a user's quota on it, was full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def full(root: Path, *others: Path) -> str:
    """Return a sentence about each disk that a run in `root` writes to, or that `others` are on, and that has hardly any
    space free; "" if none. A disk that does not answer, or does not say its size, is left out.
    """
    sentences: dict[int, str] = {}
    for folder in (*(root / name for name in _WRITTEN), *others):
        with contextlib.suppress(OSError):
            usage = shutil.disk_usage(folder)
            if usage.total and usage.free < _LITTLE:
                free = f"The disk of {folder.resolve()} has {size(usage.free)} free."
                fix = "Free space there: tunetrail gc shows what runs take."
                sentences.setdefault(folder.stat().st_dev, f"{free} {fix}")
    return " ".join(sentences.values())


def message(error: OSError, root: Path) -> str:
    """Return what to print for an error that `is_full` of a command or a stage in `root`."""
    files = " -> ".join(str(name) for name in (error.filename, error.filename2) if name)
    return " ".join(filter(None, (f"{error.strerror}{f': {files}' if files else ''}.", full(root))))
