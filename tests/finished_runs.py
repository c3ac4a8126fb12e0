"""A small checkout with real git, DVC and MLflow: run `one` with uncommitted changes, and a later run `two`."""

import shutil

import pytest

from tests.projects import run
from tunetrail.checkout import experiments, git
from tunetrail.tracking import mlflow_run


def change(root, value):
    (root / "src" / "tunetrail" / "code.py").write_text(f"value = {value}\n")


def finish_run(root, name):
    """Run the stages and record them as `tunetrail run` does; returns the run's id."""
    run(root, "dvc", "repro", "--quiet")
    with mlflow_run.run(root, name) as recorded:
        code = git.read_code(root, root / "work" / "changes.patch")
        recorded.tags({"git.commit": code.commit, "git.dirty": str(code.dirty).lower()})
        recorded.artifacts(root, *(["work/changes.patch"] if code.dirty else []))
        recorded.tags({"dvc.experiment": experiments.save(root, f"{name}-{recorded.id[:8]}")})
    return recorded.id


def made(project, folder, migrated):
    """Make such a checkout below `folder`."""
    root = project(folder / "checkout")
    (root / "mlflow.db").write_bytes(migrated.read_bytes())
    (root / "work").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME"):
            patch.delenv(name, raising=False)
        patch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
        change(root, 1)
        (root / "conf" / "new.yaml").write_text("new: 1\n")
        (root / "params.yaml").write_text("prepare: {path: conf/new.yaml}\n")
        finish_run(root, "one")
        (root / "conf" / "new.yaml").unlink()
        run(root, "git", "checkout", "--quiet", "--", ".")
        finish_run(root, "two")
    return root


def copied(finished, folder, monkeypatch):
    """Copy it for one test into a folder named after DVC; artifacts are read where they were written."""
    shutil.copytree(finished, folder / "dvc-checkout", symlinks=True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    return folder / "dvc-checkout"


def object_of(root, text):
    """Return the file of DVC's cache whose content is `text`."""
    (path,) = [
        file for file in (root / ".dvc" / "cache" / "files").rglob("*") if file.is_file() and file.read_text() == text
    ]
    return path
