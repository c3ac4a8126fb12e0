"""`mlflow run ADDRESS` from an empty folder: MLflow clones into a temporary folder, and what the run makes outlives it."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.checkouts import SHRUNKEN, clone
from tests.conftest import SHARED
from tests.servers import free_port

DAEMON = Path("/usr/lib/git-core/git-daemon")

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.skipif(not DAEMON.exists(), reason=f"no {DAEMON}: the package git of Debian has it"),
]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The address of this repository at a git server, and its newest commit."""
    folder, port = tmp_path_factory.mktemp("served"), free_port()
    (folder / "project").mkdir()
    clone(folder / "project")
    words = ["--export-all", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}", f"--base-path={folder}", str(folder)]
    daemon = subprocess.Popen([DAEMON, *words])
    address = f"git://127.0.0.1:{port}/project"
    try:
        while (done := subprocess.run(["git", "ls-remote", address, "HEAD"], capture_output=True, text=True)).returncode:
            assert daemon.poll() is None
            time.sleep(0.1)
        yield address, done.stdout.split()[0]
    finally:
        daemon.terminate()
        daemon.wait()


@pytest.fixture(scope="module")
def finished(trained, served, tmp_path_factory):
    """A run by address from an empty folder, MLflow's clone of it removed: the screen, and a checkout of the same repository
    with the environment of commands in it. The `tunetrail` on PATH has another checkout's code."""
    folder, (address, commit) = tmp_path_factory.mktemp("person"), served
    cache, here, checkout = folder / "data" / "tunetrail" / "dvc-cache", folder / "here", folder / "checkout"
    temporary = folder / "temporary"
    for new in (here, temporary):
        new.mkdir()
    shutil.copytree(trained.cache, cache)  # so that no stage runs again
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_") and key != "PYTHONPATH"}
    environment |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DVC_NO_ANALYTICS": "1", "OMP_NUM_THREADS": "1"}
    environment |= {"XDG_DATA_HOME": str(folder / "data"), "TMPDIR": str(temporary), "NLTK_DATA": str(SHARED / "nltk_data")}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    words = ["--env-manager", "local", "--experiment-name", "tunetrail", "-P", f"overrides={' '.join(SHRUNKEN)}"]
    screen = run(here, environment, "mlflow", "run", address, "-v", commit, *words)
    (clone_of_mlflow,) = re.findall(r"^(\S+) is a temporary clone that MLflow made", screen, re.MULTILINE)
    assert Path(clone_of_mlflow, "src").is_dir()
    assert Path(clone_of_mlflow).is_relative_to(temporary)
    shutil.rmtree(temporary)
    temporary.mkdir()
    run(folder, environment, "git", "clone", "--quiet", address, str(checkout))
    return screen, checkout, environment | {"MLFLOW_TRACKING_URI": f"sqlite:///{here / 'mlflow.db'}"}


def run(folder, environment, *words):
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def recorded(environment):
    """The newest run of the folder where `mlflow run` was typed."""
    return MlflowClient(environment["MLFLOW_TRACKING_URI"]).search_runs(["1"])[0]


def test_a_run_by_address_outlives_the_clone_and_is_restored_in_a_checkout(trained, finished):
    screen, checkout, environment = finished
    found = recorded(environment)
    assert f"mlflow ui --backend-store-uri {environment['MLFLOW_TRACKING_URI']}" in screen
    assert Path(re.search(r"report and figures: (.*)", screen)[1], "report.html").is_file()
    assert found.data.tags["train.cached"] == "true"
    address, restore = re.search(r"In a checkout: MLFLOW_TRACKING_URI=(\S+) (tunetrail restore \S+)", screen).groups()
    assert address == environment["MLFLOW_TRACKING_URI"]
    run(checkout, environment, *restore.split())
    md5 = hashlib.md5((checkout / "outputs" / "model" / "model.safetensors").read_bytes()).hexdigest()
    assert (trained.cache / "files" / "md5" / md5[:2] / md5[2:]).is_file()  # in `trained.folder` other tests work
    assert found.info.run_id[:8] in run(checkout, environment, "tunetrail", "ls")


@pytest.mark.slow
def test_a_run_by_address_is_shown_reproduced_and_compared_from_a_checkout(finished):
    _, checkout, environment = finished
    old = recorded(environment).info.run_id
    assert environment["XDG_DATA_HOME"] in run(checkout, environment, "tunetrail", "show", old)
    shutil.rmtree(checkout / ".dvc" / "cache", ignore_errors=True)
    screen = run(checkout, environment, "tunetrail", "reproduce", old)
    assert f"agrees with {old[:8]}: bit for bit" in screen
    new = recorded(environment).info.run_id
    table = run(checkout, environment, "tunetrail", "compare", old, new)
    assert re.search(rf"^{old[:8]} .*FINISHED", table, re.MULTILINE)
    assert re.search(rf"^{new[:8]} ", table, re.MULTILINE)
