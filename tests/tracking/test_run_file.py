"""The description of a run in the head of a report."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from tests.conftest import ROOT
from tunetrail.checkout import git
from tunetrail.report import metrics
from tunetrail.tracking import mlflow_run, run_file


def test_a_run_is_described_under_its_own_name_in_a_file_that_exists_only_during_the_run(root, composed):
    (root / "conf").symlink_to(ROOT / "conf")
    code = git.Code("c0ffee", Path("/dev/null"), "")
    with mlflow_run.run(root, "seed=7") as run:
        description = run_file.describe(run, root, composed("seed=7"), code, ["seed=7", "train.val=a b"], {"cpu": "2 x cpu"})
    assert (description["id"], description["name"], description["overrides"]) == (run.id, "seed=7", "seed=7 'train.val=a b'")
    assert description["machine"].endswith(", 2 x cpu")
    assert description["training"]["method"] == "full: every weight"
    unrecorded = SimpleNamespace(id="0" * 32)
    assert run_file.describe(unrecorded, root, composed(), code, None, {})["name"] == "demo"
    with run_file.written(root, description):
        assert json.loads((root / metrics.ABOUT).read_text()) == description == metrics.about(root)
    assert not (root / metrics.ABOUT).exists()
    assert metrics.RUN not in os.environ


def test_the_file_of_a_killed_run_is_ignored_by_later_runs(tmp_path, monkeypatch):
    """A killed process runs no `finally`; a stage run by hand in the same checkout belongs to no run."""
    script = (
        "import os, pathlib, subprocess, sys\n"
        "from tunetrail.tracking import run_file\n"
        "with run_file.written(pathlib.Path(), {'id': 'killed'}):\n"
        "    subprocess.run([sys.executable, '-c', sys.argv[1]])\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    stage = "import pathlib; from tunetrail.report import metrics; print(metrics.about(pathlib.Path()))"
    done = subprocess.run([sys.executable, "-c", script, stage], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == -9
    assert done.stdout == "{'id': 'killed'}\n"
    assert (tmp_path / metrics.ABOUT).is_file()
    assert metrics.about(tmp_path) is None
    monkeypatch.setenv(metrics.RUN, "later")
    assert metrics.about(tmp_path) is None
