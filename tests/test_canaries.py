"""A user's secrets, each a unique word: none is in anything that a sweep, `promote`, `doctor` and the other commands print
or write, in the checkout, in git, or in the tracking server's store.

The shrunken demo is really trained as a sweep of one job, with an `mlflow server` whose address contains a password.
"""

import contextlib
import os
import secrets
import signal
import subprocess
import sys

import pytest
from mlflow import MlflowClient

from tests.checkouts import SHRUNKEN, clone, environment
from tests.servers import free_port, healthy

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

# Random, since the checkout contains this file.
WORD = secrets.token_hex(8)
ADDRESS = {"user": f"user-{WORD}", "password": f"pass%40{WORD}%2Fword", "decoded": f"pass@{WORD}/word"}
TOKENS = ("HF_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_TOKEN", "WANDB_API_KEY")
ENVIRONMENT = {name: secrets.token_hex(16) for name in TOKENS}
REMOTE = secrets.token_hex(16)
CANARIES = [*ADDRESS.values(), *ENVIRONMENT.values(), REMOTE]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Start a tracking server without authentication, in a folder of its own; yield (its port, the folder)."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    words = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts")]
    command = ["mlflow", "server", *words, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    variables = environment(folder) | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("wb") as log:
        streams = {"stdout": log, "stderr": subprocess.STDOUT, "start_new_session": True}
        process = subprocess.Popen(command, cwd=folder, env=variables, **streams)
    try:
        ask = [sys.executable, "-c", f"import urllib.request as r; r.urlopen('http://127.0.0.1:{port}/health')"]
        assert healthy(ask, variables, lambda: process.poll() is None, 180), (folder / "server.log").read_text()[-3000:]
        yield port, folder
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


@pytest.fixture(scope="module")
def used(store, tmp_path_factory):
    """Run everything in a checkout; return it and what each command printed."""
    port, _ = store
    folder = clone(tmp_path_factory.mktemp("canaries"))
    (folder / ".dvc" / "config.local").write_text(
        "[core]\nremote = storage\n['remote \"storage\"']\nurl = https://host.invalid/store\nauth = basic\n"
        f"user = {ADDRESS['user']}\npassword = {REMOTE}\n"
    )
    variables = environment(folder) | ENVIRONMENT
    variables["MLFLOW_TRACKING_URI"] = f"http://{ADDRESS['user']}:{ADDRESS['password']}@127.0.0.1:{port}"
    printed = {}

    def tunetrail(*words):
        done = subprocess.run(
            [sys.executable, "-m", "tunetrail", *words], cwd=folder, env=variables, capture_output=True, text=True
        )
        printed[" ".join(words)] = done.stdout + done.stderr
        return done.returncode

    assert tunetrail("run", "-m", *SHRUNKEN, "train.weight_decay=choice(0.2)") == 0, printed
    client = MlflowClient(f"http://127.0.0.1:{port}")
    experiment = client.get_experiment_by_name("tunetrail").experiment_id
    (job,) = (run for run in client.search_runs([experiment]) if "job.digest" in run.data.tags)
    assert tunetrail("promote", job.info.run_id, "--force") == 0, printed
    assert tunetrail("ls") == tunetrail("show", job.info.run_id) == tunetrail("ls", "--json") == 0, printed
    for words in (("doctor",), ("doctor", "--json"), ("gc",), ("show", "nothing"), ("run", "name=nobody", "train.seed=x")):
        tunetrail(*words)
    variables["MLFLOW_RUN_ID"] = job.info.run_id
    assert tunetrail("run", *SHRUNKEN) == 2
    variables["MLFLOW_TRACKING_URI"] = f"http://{ADDRESS['user']}:{ADDRESS['password']}@127.0.0.1:9"
    assert (tunetrail("ls"), tunetrail("--debug", "show", "a")) == (2, 1)
    return folder, printed


def files_with_canaries(folder):
    """Yield (file, canary) for the files below the folder that contain a canary. Some of DVC's may: the user's config.local,
    and the configs in folders of restored models, which nobody else may read."""
    for file in folder.rglob("*"):
        private = file.match(".dvc/config*") and (file.name == "config.local" or not file.stat().st_mode & 0o077)
        if file.is_file() and not private:
            content = file.read_bytes()
            yield from ((str(file), canary) for canary in CANARIES if canary.encode() in content)


def test_no_secret_is_printed(used):
    _, printed = used
    assert [(words, canary) for words, text in printed.items() for canary in CANARIES if canary in text] == []


def test_no_secret_is_in_a_file_of_the_checkout(used):
    folder, _ = used
    assert [path.name for path in (folder / "runs").glob("*/*.log")]
    assert list(files_with_canaries(folder)) == []


def test_no_secret_is_in_gits_objects(used):
    folder, _ = used
    objects = subprocess.run(
        ["git", "cat-file", "--batch-all-objects", "--batch"], cwd=folder, capture_output=True, check=True
    ).stdout
    refs = subprocess.run(["git", "for-each-ref"], cwd=folder, capture_output=True, text=True, check=True).stdout
    assert "refs/exps/" in refs
    assert [canary for canary in CANARIES if canary.encode() in objects] == []


def test_no_secret_is_in_the_tracking_servers_store(used, store):
    _, folder = store
    assert list((folder / "artifacts").rglob("params.yaml"))
    assert list(files_with_canaries(folder)) == []
