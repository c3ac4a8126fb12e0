"""A checkout for `tunetrail doctor`, and the command in a process of its own."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT

COMMAND = [sys.executable, "-c", "from tunetrail.cli.doctor import command; command(prog_name='tunetrail doctor')"]
OF_A_PERSON = re.compile(r"(?i)^(HF_|MLFLOW_|AWS_|NLTK_|TRANSFORMERS_)|_proxy$|TRACK$|ANALYTICS$")


@pytest.fixture
def checkout(tmp_path):
    """Make a checkout with this project's conf/, lock files and pyproject.toml, committed, and with DVC."""
    folder = tmp_path / "checkout"
    for name in ("conf", "requirements"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("dvc.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    (folder / ".dvc").mkdir()
    (folder / ".dvc" / "config").touch()
    for words in (["init", "-q"], ["add", "--all"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "start"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


def environment(folder, **more):
    """Return an environment without the user's settings, with the hub offline and its cache empty."""
    inherited = {name: value for name, value in os.environ.items() if not OF_A_PERSON.search(name)}
    own = {"HF_HOME": str(folder.parent / "hub"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT / "src")}
    return inherited | own | more


def run(folder, *words, **more):
    return subprocess.run([*COMMAND, *words], cwd=folder, env=environment(folder, **more), capture_output=True, text=True)


@pytest.fixture
def without_settings(monkeypatch):
    """Remove the user's settings from this process's environment."""
    for name in filter(OF_A_PERSON.search, list(os.environ)):
        monkeypatch.delenv(name)
