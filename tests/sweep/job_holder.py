"""A process that holds a job's worktree, as the job's own process does."""

import subprocess
import sys

_HOLDER = """
import pathlib, sys, time
from tunetrail.checkout import locks
with locks.exclusive_lock(pathlib.Path(sys.argv[1]), "work/job.lock"):
    print("locked", flush=True)
    time.sleep(60)
"""


def start_holder(checkout):
    """Start a process, in a group of its own, that holds the lock of the job in `checkout`; return it once it does."""
    words = [sys.executable, "-c", _HOLDER, str(checkout)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout.readline() == "locked\n"
    process.stdout.close()
    return process
