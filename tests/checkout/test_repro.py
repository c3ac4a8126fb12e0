"""What `dvc repro` prints in a run."""

import json

import pytest

from tunetrail import UserError
from tunetrail.checkout import dvc

pytestmark = pytest.mark.stage


def test_dvc_says_which_stage_runs_and_what_is_wrong_but_gives_no_hints(root, capfd, monkeypatch):
    monkeypatch.chdir(root)
    (root / ".dvc" / "tmp").mkdir(exist_ok=True)
    gone = {"write": {str(root / "outputs"): {"pid": 2**22 + 1, "cmd": "dvc repro"}}}  # a killed process's
    (root / ".dvc" / "tmp" / "rwlock").write_text(json.dumps(gone))
    (root / "src" / "tunetrail" / "code.py").write_text("two = 2\n")
    with (root / "lock").open("w") as lock:
        dvc.reproduce(root, lock.fileno())
        dvc.reproduce(root, lock.fileno())
        (root / "params.yaml").write_text("prepare: {path: missing.py}\n")
        with pytest.raises(UserError, match="a stage failed"):
            dvc.reproduce(root, lock.fileno())
    screen = capfd.readouterr()
    lines = [line for line in screen.out.splitlines() if line]
    assert lines == [
        "Running stage 'fetch':",
        "> mkdir -p data/raw && cp src/tunetrail/code.py data/raw/rows",
        "Running stage 'train':",
        "> mkdir -p outputs && cat data/raw/rows src/tunetrail/code.py > outputs/model",
        "Stage 'fetch' didn't change, skipping",
        "Stage 'train' didn't change, skipping",
    ]
    assert "failed to reproduce 'fetch'" in screen.err
    assert "lock" not in screen.err
