"""A small project with real git, DVC and MLflow, in which runs leave models."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from tests.conftest import ROOT
from tunetrail.tracking import mlflow_run

# The stages copy their outputs from made/: the base, and the tuned model of the seed.
STAGES = """
stages:
  base:
    cmd: mkdir -p outputs && cp -r made/base outputs/base
    deps: [made/base]
    outs: [outputs/base]
  train:
    cmd: cp -r made/${train.seed} outputs/model
    params: [train]
    deps: [outputs/base]
    outs: [outputs/model]
"""
PARAMS = {
    "template": {"with_input": "{instruction}|{input}:\n", "without_input": "{instruction}:\n"},
    "train": {"seed": 1, "datasets": [{"type": {"no_input_format": "{instruction}:\n"}}]},
    "evaluate": {
        "device": "cpu",
        "model_args": {"dtype": "float32"},
        "task": {"generation_kwargs": {"max_gen_toks": 8}},
    },
}


def dvc(root, *words):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"DVC_NO_ANALYTICS": "1", "PATH": path}
    return subprocess.run(["dvc", *words], cwd=root, env=environment, check=True, capture_output=True, text=True).stdout


def project(root):
    """Make the outline of a checkout with git, DVC and the stages above; the caller fills made/."""
    (root / "conf").mkdir(parents=True)
    (root / "conf" / "config.yaml").touch()
    (root / "dvc.yaml").write_text(STAGES)
    shutil.copy(ROOT / ".gitignore", root)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    dvc(root, "init", "--quiet")


def finish_run(root, name, seed, **sections):
    """Make the models of `seed` with DVC and record the run as `tunetrail run` does; return the run's id."""
    values = PARAMS | sections | {"train": PARAMS["train"] | {"seed": seed}}
    (root / "params.yaml").write_text(yaml.safe_dump(values))
    dvc(root, "repro", "--quiet")
    with mlflow_run.run(root, name) as run:
        run.tags({"git.commit": "c0ffee"})
        run.artifacts(root, "params.yaml", "dvc.yaml", "dvc.lock")
    return run.id
