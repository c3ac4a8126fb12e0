"""Processes that a test starts: their ids, and whether they end."""

import time
from pathlib import Path


def wait_for_ids(*files):
    """Wait until a process has written its id into each of these files; return the ids."""
    deadline = time.monotonic() + 30
    while not all(file.exists() and file.read_text() for file in files):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return [int(file.read_text()) for file in files]


def ends(pid):
    """Return whether the process ends within seconds; a zombie counts as ended."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


WRITES = "import os, pathlib, signal, subprocess, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); "
DEAF = WRITES + "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
