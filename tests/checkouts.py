"""Checkouts of this repository in folders of their own, and commands in them; for the tests that really train."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.conftest import ROOT, SHARED

# The demo, small enough to be trained in a test.
SHRUNKEN = [
    "prepare.generate.rows=816",  # the fewest packs of four shuffles are 62 steps in 99 of 100 cases
    "prepare.generate.documents=600",
    "prepare.generate.prompts=24",
    "evaluate.task.generation_kwargs.max_gen_toks=60",
    "accelerate.num_cpu_threads_per_process=1",
]
# Names of modules that the tools import. A person's own files by these names, in the checkout's root, stand in for none.
OWN = ("conftest", "datasets", "json", "mlflow", "random", "sitecustomize", "torch", "transformers", "yaml")


@dataclass(frozen=True)
class Trained:
    """The shrunken demo, run by `mlflow run` as a person runs it.

    `folder` is the checkout, `screen` what was printed, `seen` what the tracking store said each second while the run was
    open: (its status, points of its loss curve). `cache` is DVC's cache as the run left it.
    """

    folder: Path
    screen: str
    seen: list[tuple[str, int]]
    cache: Path


def trained(folder):
    """The demo in `folder`, run there unless that was done."""
    checkout, cache, seen = folder / "checkout", folder / "cache", folder / "seen.json"
    if not seen.exists():
        shutil.rmtree(folder, ignore_errors=True)
        checkout.mkdir(parents=True)
        observed = _train(clone(checkout))
        shutil.copytree(checkout / ".dvc" / "cache", cache)
        seen.write_text(json.dumps(observed))
    return Trained(checkout, (checkout / "screen.txt").read_text(), json.loads(seen.read_text()), cache)


def _train(folder):
    from mlflow import MlflowClient

    for name in OWN:
        (folder / f"{name}.py").write_text("raise SystemExit(f'{__file__} was imported')\n")
    words = ["--env-manager", "local", "--experiment-name", "tunetrail", "-P", "experiment=demo"]
    process = start(folder, "mlflow", "run", ".", *words, "-P", f"overrides={' '.join(SHRUNKEN)}")
    client, seen = None, []
    try:
        while process.poll() is None:
            time.sleep(1)
            if not (folder / "work" / "train" / "history.jsonl").is_file():
                continue
            # Not before: a client that opens a store which `mlflow run` is just making migrates it at the same time.
            client = client or MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
            (run,) = client.search_runs([client.get_experiment_by_name("tunetrail").experiment_id])
            seen.append((run.info.status, len(client.get_metric_history(run.info.run_id, "train/loss"))))
        ended(process, folder)
    finally:
        process.terminate()
    return seen


def branch(trained, folder):
    """A checkout of its own that has in DVC's cache what the trained one made: a stage that is unchanged is not run."""
    clone(folder)
    shutil.copytree(trained.cache, folder / ".dvc" / "cache", dirs_exist_ok=True)
    return folder


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
