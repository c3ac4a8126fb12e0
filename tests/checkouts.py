"""Checkouts of this repository in folders of their own, and commands in them; for the tests that really train."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.conftest import ROOT, SHARED

# The demo, small enough to be trained in a test.
SHRUNKEN = [
    "prepare.generate.rows=800",
    "prepare.generate.documents=600",
    "prepare.generate.prompts=24",
    "base.make.train.num_epochs=1",
    "train.num_epochs=1",
    "evaluate.task.generation_kwargs.max_gen_toks=60",
    "accelerate.num_cpu_threads_per_process=1",
]
# The demo, as small as it can be trained, for several jobs.
SMALLEST = [
    "prepare.generate.rows=300",
    "prepare.generate.documents=200",
    "prepare.generate.prompts=8",
    "base.make.train.num_epochs=1",
    "+base.make.train.max_steps=4",
    "train.num_epochs=1",
    "+train.max_steps=4",
    "train.logging_steps=1",
    "evaluate.task.generation_kwargs.max_gen_toks=8",
    "accelerate.num_cpu_threads_per_process=1",
]


def begin(folder, monkeypatch):
    """Make the folder an empty checkout, and the one that a command runs in."""
    (folder / "conf").mkdir()
    for name in ("conf/config.yaml", "dvc.yaml"):
        (folder / name).touch()
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    monkeypatch.chdir(folder)


def clone(folder):
    """A checkout with the files of this one as they are, committed."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    (folder / "dvc.lock").unlink(missing_ok=True)
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "--all"], [*identity, "commit", "-qm", "start"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


def environment(folder):
    """As in a shell with the environment active, the code being the clone's own."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    return kept | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(folder / "src"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DVC_NO_ANALYTICS": "1",
        "NLTK_DATA": str(SHARED / "nltk_data"),
        "OMP_NUM_THREADS": "1",  # several chains share two cores
    }


def start(folder, *command):
    with (folder / "screen.txt").open("wb") as screen:
        return subprocess.Popen(command, cwd=folder, env=environment(folder), stdout=screen, stderr=subprocess.STDOUT)


def run(folder, *command):
    return subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True)


def ended(process, folder):
    code = process.wait(timeout=900)
    screen = (folder / "screen.txt").read_text()
    assert code == 0, screen
    return screen


def left_running(folder):
    """The commands that still run in the folder three seconds after what began them was ended.

    Python's resource trackers ignore SIGTERM and end just after the last process they serve; a trainer would take longer.
    """
    deadline = time.monotonic() + 3
    while (left := list(_running(folder))) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def _running(folder):
    for process in psutil.process_iter(["cwd", "status", "cmdline"]):
        inside = process.info["cwd"] and Path(process.info["cwd"]).is_relative_to(folder)
        if inside and process.info["status"] != psutil.STATUS_ZOMBIE:
            yield process.info["cmdline"]
