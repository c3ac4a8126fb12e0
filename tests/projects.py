"""A small project with real git and real DVC; `project` in conftest.py copies it for a test."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

STAGES = """
stages:
  fetch:
    cmd: mkdir -p data/raw && cp ${prepare.path} data/raw/rows
    params: [prepare]
    deps: ["${prepare.path}"]
    outs: [data/raw]
  train:
    cmd: mkdir -p outputs && cat data/raw/rows src/tunetrail/code.py > outputs/model
    deps: [data/raw, src/tunetrail/code.py]
    outs: [outputs/model]
"""


def run(folder, *words, **more):
    """Return what a tool prints in `folder`."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"DVC_NO_ANALYTICS": "1", "PATH": path} | more
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def commit(folder, *paths, message="more"):
    run(folder, "git", "add", *(paths or ["--all"]))
    run(folder, "git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", message)


def make(root, *init):
    """Make the outline of a checkout, under git and DVC, with a commit, in which the stages have run."""
    (root / "conf").mkdir(parents=True)
    (root / "src" / "tunetrail").mkdir(parents=True)
    (root / "docs").mkdir()
    (root / "conf" / "config.yaml").write_text("a: 1\n")
    (root / "conf" / "old.yaml").write_text("old: 1\n")
    (root / "src" / "tunetrail" / "code.py").write_text("one = 1\n")
    (root / "docs" / "text.md").write_text("text\n")
    (root / "dvc.yaml").write_text(STAGES)
    (root / "params.yaml").write_text("prepare: {path: src/tunetrail/code.py}\n")
    shutil.copy(ROOT / ".gitignore", root)
    run(root, "git", "init", "-q", *(["--", ".."] if init else []))
    run(root, "dvc", "init", "--quiet", *init)
    run(root, "dvc", "config", "core.autostage", "false")
    run(root, "dvc", "repro", "--quiet")
    commit(root, message="start")
    return root


def flip(file):
    """Flip one bit without changing size, mtime and inode, so that DVC takes the file for unchanged."""
    before, data = file.stat(), bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.chmod(0o644)
    file.write_bytes(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    file.chmod(before.st_mode)
