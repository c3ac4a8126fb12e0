"""A small checkout with real git, DVC and MLflow, and runs in it: for the tests of disk usage and gc."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tunetrail.checkout import dvc, experiments, git, worktree
from tunetrail.tracking import mlflow_run

# The base and the model are copied from made/, where git keeps them.
STAGES = """
stages:
  base:
    cmd: mkdir -p outputs && cp -r made/${base} outputs/base
    params: [base]
    deps: [made]
    outs: [outputs/base]
  train:
    cmd: cp -r made/${train.seed} outputs/model
    params: [train]
    deps: [outputs/base]
    outs: [outputs/model]
"""
WEIGHTS = {"base": 5000, "other": 7000, "1": 100, "2": 200, "3": 400, "4": 800}  # made/NAME/weights, in bytes


def command(folder, *words):
    """Return what a tool prints in `folder`."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"DVC_NO_ANALYTICS": "1", "PATH": path}
    return subprocess.run(words, cwd=folder, env=environment, check=True, capture_output=True, text=True).stdout


def parameters(folder, seed, base="base"):
    (folder / "params.yaml").write_text(yaml.safe_dump({"base": base, "train": {"seed": seed}}))


def finish(root, name, seed, base="base", experiment=True):
    """Finish a run and record it as `tunetrail run` does; return its id."""
    parameters(root, seed, base)
    command(root, "dvc", "repro", "--quiet")
    with mlflow_run.run(root, name) as run:
        run.artifacts(root, "params.yaml", "dvc.yaml", "dvc.lock")
        model = dvc.md5(root, dvc.locked_stages(root), "train", "outputs/model")
        run.tags({"git.commit": command(root, "git", "rev-parse", "HEAD").strip(), "model.md5": model})
        if experiment:
            run.tags({"dvc.experiment": experiments.save(root, f"{name}-{run.id[:8]}")})
    return run.id


def make(root):
    """Make runs `one`, `bare` (seed 4, no DVC experiment), `two` and `three`, which the checkout holds; return the ids."""
    (root / "conf").mkdir()
    (root / "conf" / "config.yaml").touch()
    (root / "dvc.yaml").write_text(STAGES)
    parameters(root, 1)
    shutil.copy(ROOT / ".gitignore", root)
    for name, size in WEIGHTS.items():
        (root / "made" / name).mkdir(parents=True)
        (root / "made" / name / "weights").write_text(name[0] * size)
    command(root, "git", "init", "--quiet")
    command(root, "dvc", "init", "--quiet")
    command(root, "git", "add", "--all")
    command(root, "git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message", "start")
    ids = {"one": finish(root, "one", 1), "bare": finish(root, "bare", 4, experiment=False)}
    return ids | {"two": finish(root, "two", 2), "three": finish(root, "three", 3)}


def made(folder, migrated):
    """Make such a checkout below `folder`, with a copy of the empty store `migrated`; return it with the runs' ids."""
    (folder / "checkout").mkdir()
    shutil.copy(migrated, folder / "checkout" / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME"):
            patch.delenv(name, raising=False)
        patch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
        return folder / "checkout", make(folder / "checkout")


def copied(finished, folder, monkeypatch):
    """Copy it for one test and change to the copy."""
    shutil.copytree(finished[0], folder / "checkout", symlinks=True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    monkeypatch.chdir(folder / "checkout")
    return folder / "checkout"


def failing(root, seed=9):
    """Make a job's worktree with a `base` of its own, in which `train` fails; return its checkout."""
    folder = root / "runs" / "sweep-1" / "job"
    folder.parent.mkdir(parents=True)
    (folder.parent / "lock").touch()
    checkout = worktree.make(root, folder, git.read_code(root, root / "runs" / "changes.patch"))
    parameters(checkout, seed, "other")
    command(checkout, "dvc", "repro", "--quiet", "base")
    with pytest.raises(subprocess.CalledProcessError):
        command(checkout, "dvc", "repro", "--quiet")
    return checkout


def objects(root):
    """Return the size of every file of DVC's cache by its path."""
    return {file: file.stat().st_size for file in (root / ".dvc" / "cache" / "files").rglob("*") if file.is_file()}


def weights(root):
    """Return the names of `WEIGHTS` whose content is in DVC's cache."""
    contents = [file.read_text() for file in objects(root) if file.suffix != ".dir"]
    return {name for name, size in WEIGHTS.items() if name[0] * size in contents}
