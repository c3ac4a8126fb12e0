"""Finds and ends processes: by a mark in their environment, which children inherit, or by a file that they hold open."""

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

# Reads a mark, then waits for a second line. If its input ends instead, the process that writes to it was killed, and the
# processes that have the mark are ended, by force after three seconds.
GUARD = r"""
trap '' HUP INT TERM
read -r mark || exit 0
read -r done && exit 0
marked() { grep -l -s -F -e "$mark" /proc/[0-9]*/environ | cut -d / -f 3; }
kill -s TERM $(marked) 2>/dev/null
for tenth in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
  sleep 0.1
  [ "$(marked)" ] || exit 0
done
while [ "$(marked)" ]; do kill -s KILL $(marked) 2>/dev/null; sleep 0.1; done
"""

_MARKS = "TUNETRAIL_STARTED_BY"  # a child's environment has its marks, and so has that of all that it starts


def marked(variables: dict[str, str]) -> tuple[str, dict[str, str]]:
    """Return a new mark, and `variables` with it."""
    mark = uuid.uuid4().hex
    return mark, variables | {_MARKS: f"{variables.get(_MARKS, '')}:{mark}"}


def end(mark: str, patience: float) -> None:
    """End the processes that have the mark, by force after `patience` seconds, and return when there are none."""
    deadline = time.monotonic() + patience
    try:
        _signal(_marked_processes(mark), signal.SIGTERM)
        while _marked_processes(mark) and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:  # also after a second signal to this process
        while remaining := _marked_processes(mark):
            _signal(remaining, signal.SIGKILL)
            time.sleep(0.01)


def _marked_processes(mark: str) -> list["psutil.Process"]:
    import psutil

    processes = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):  # another user's, or it has ended
            if mark in process.environ().get(_MARKS, "") and process.status() != psutil.STATUS_ZOMBIE:
                processes.append(process)
    return processes


def _signal(processes: list["psutil.Process"], number: signal.Signals) -> None:
    import psutil

    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


def terminate_holders(files: Iterable[Path], patience: float = 60) -> None:
    """Terminate the other processes of this machine that have one of `files` open, with the process groups that they lead;
    by force after `patience` seconds. Return when there are none, or none that can be terminated.

    An open file finds a process whose parent is dead, and never a newer process with the same id.
    """
    paths = {str(file.resolve()) for file in files}
    deadline = time.monotonic() + patience
    signalled: set[int] = set()
    while (holders := _holders(paths)) and time.monotonic() < deadline + 10:
        force = time.monotonic() > deadline
        for process in holders if force else holders - signalled:  # a second SIGTERM would interrupt the cleaning up
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill = os.killpg if os.getpgid(process) == process else os.kill
                kill(process, signal.SIGKILL if force else signal.SIGTERM)
        signalled |= holders
        time.sleep(0.1)


def _holders(paths: set[str]) -> set[int]:
    """Return the ids of the other processes of this user that have one of `paths` open."""
    import psutil

    processes = psutil.process_iter(["open_files"])  # None for another user's
    return {
        process.pid
        for process in processes
        if process.pid != os.getpid() and any(file.path in paths for file in process.info["open_files"] or ())
    }
