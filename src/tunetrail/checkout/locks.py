"""Locks on files, which end with the last process that has the file open, however that ends.

`training.token_cache` has Axolotl's own lock on its tokenised rows.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from tunetrail import UserError

_TWO_RUNS = "and two runs would write the same files. Wait for it, or run in a clone of your own."

_SECONDS_TO_END = 30


class Busy(UserError):
    """Another process has locked the folder; `process` is its id, "" if it is not known."""

    def __init__(self, folder: Path, process: str, why: str):
        super().__init__(f"{folder}: process {process}, or what it started, is running here, {why}")
        self.process = process


@contextlib.contextmanager
def exclusive_lock(folder: Path, name: str = "work/lock", why: str = _TWO_RUNS) -> Iterator[int]:
    """Lock `folder` by the file `name` in it while the body runs; yield the descriptor of the open file.

    A child that inherits the descriptor keeps the lock as long as it lives. The holder may remove the file. `why` ends the
    message: why nobody else may run here, and what to do.

    Raises:
        Busy: another process has the lock.
    """
    deadline = time.monotonic() + _SECONDS_TO_END
    while True:
        with _locked(folder / name) as (file, locked):
            if locked:
                file.truncate(0)
                file.write(str(os.getpid()))
                file.flush()
                yield file.fileno()
                return
            file.seek(0)
            process = file.read().strip()
        if not _has_ended(process) or time.monotonic() > deadline:
            raise Busy(folder, process, why)
        time.sleep(0.1)  # it was killed, and what it started is being ended (`launch.run`)


def _has_ended(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except (ValueError, OSError):
        return False
    return False


@contextlib.contextmanager
def wait_for_lock(path: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Lock the file `path` while the body runs. If another process has the lock, call `on_wait`, then wait. The holder may
    remove the file."""
    with _locked(path, on_wait):
        yield


@contextlib.contextmanager
def try_lock(path: Path) -> Iterator[int | None]:
    """Lock the file `path` while the body runs and yield its descriptor; yield None if another process has the lock."""
    with _locked(path) as (file, locked):
        yield file.fileno() if locked else None


def is_locked(path: Path) -> bool:
    """Return whether a process has locked the file `path`. The file is not made."""
    with contextlib.suppress(FileNotFoundError), path.open() as file:
        return not _flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return False


@contextlib.contextmanager
def _locked(path: Path, on_wait: Callable[[], None] | None = None) -> Iterator[tuple[TextIO, bool]]:
    """Open `path` and lock it; yield the file and whether it is locked, which it always is if `on_wait` is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("a+") as file:
            locked = _flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not locked and on_wait:
                on_wait()
                locked = _flock(file, fcntl.LOCK_EX)
            # If the file was removed after it was opened, the next process would lock another file of this name.
            if not locked or os.fstat(file.fileno()).st_nlink:
                yield file, locked
                return


def _flock(file: TextIO, operation: int) -> bool:
    try:
        fcntl.flock(file, operation)
    except BlockingIOError:
        return False
    return True
