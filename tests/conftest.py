"""What every test may use: the real conf tree, composed; real rows where the machine has them."""

import contextlib
import copy
import functools
import os
import shutil
import subprocess
from pathlib import Path

import filelock
import pytest
from hydra import compose, initialize_config_dir

from tunetrail import cli
from tunetrail.config import check, schema

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("TUNETRAIL_TEST_DATA", ROOT.parent / "shared" / "data"))


def pytest_collection_modifyitems(items):
    """What really trains comes first: started last, it would leave one of two workers idle for minutes. What is slow as well
    comes in its turn, since it waits for the fixture `trained`."""
    items.sort(key=lambda item: not item.get_closest_marker("end_to_end") or bool(item.get_closest_marker("slow")))


@pytest.fixture(scope="session", autouse=True)
def _faster():
    """Fork `dvc` instead of starting it, and let Hydra parse a file of conf/ again only once it has changed."""
    from hydra._internal.core_plugins.file_config_source import FileConfigSource

    from tests import forked_dvc

    parsed, load = {}, FileConfigSource.load_config

    def load_once(source, config_path):
        with contextlib.suppress(FileNotFoundError):
            file = Path(source.path, source._normalize_file_name(config_path))
            key = file, file.stat().st_mtime_ns, file.stat().st_ino
            if key not in parsed:
                parsed[key] = load(source, config_path)
            return copy.deepcopy(parsed[key])
        return load(source, config_path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FileConfigSource, "load_config", load_once)
        forked_dvc.patch(patch)
        yield


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The shrunken demo, really trained once for all workers, by the one whose test asks first."""
    from tests import checkouts

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with filelock.FileLock(folder / "trained.lock"):
        return checkouts.trained(folder / "trained")


@pytest.fixture(scope="session")
def known():
    """The schema of params.yaml, as the installed tools define it."""
    return schema.params()


@pytest.fixture
def composed():
    """Compose the real conf tree with overrides: the values that params.yaml would hold."""
    return lambda *overrides: copy.deepcopy(_composed(overrides))


@functools.cache
def _composed(overrides: tuple[str, ...]) -> dict:
    with initialize_config_dir(str(ROOT / "conf")):
        return check.resolve(compose("config", list(overrides)))


@pytest.fixture
def shared():
    """A file of real data by its path below the test data's folder; the test is skipped where it is not here."""

    def path(name: str) -> Path:
        file = SHARED / name
        if not file.exists():
            pytest.skip(f"no {file}: point TUNETRAIL_TEST_DATA at a folder that has {name}")
        return file

    return path


@pytest.fixture(scope="session")
def migrated(tmp_path_factory):
    """An empty store, made once: creating its tables takes seconds."""
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    from mlflow import MlflowClient

    MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def root(tmp_path, migrated, monkeypatch):
    """A checkout's folder with a store of its own."""
    (tmp_path / "mlflow.db").write_bytes(migrated.read_bytes())
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("EXPERIMENT_ID", "TRACKING_USERNAME", "TRACKING_PASSWORD"):
        monkeypatch.setenv(f"MLFLOW_{name}", "")  # what a test makes of them ends with it
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    return tmp_path


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    """Copy a small project with git and DVC to a folder: making it takes seconds."""
    from tests import projects

    made = projects.make(tmp_path_factory.mktemp("project") / "checkout")
    return lambda folder: Path(shutil.copytree(made, folder, symlinks=True))


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """Call `tunetrail plan` with nothing in the hub's cache and no GPU; its code and what it printed.

    In this process, so that one process that has imported the tools answers for all tests.
    """
    from click.testing import CliRunner

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def call(*words):
        done = CliRunner().invoke(cli.main, ["plan", *words], env={"COLUMNS": "200"})
        return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)

    return call


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Put a driver's tool on PATH that does what the script says."""

    def add(name, script):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    return add
