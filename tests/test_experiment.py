"""What a run itself makes and checks, in a small real DVC project; test_end_to_end runs a complete one."""

import json

import pytest

from tests.projects import STAGES, flip
from tunetrail import UserError, events, experiment
from tunetrail.checkout import locks

pytestmark = pytest.mark.stage

# Each notes that it ran, as the stages do.
NOTED = 'mkdir -p work && printf \'{"stage": "NAME", "seconds": 1}\\n\' >> work/seconds.jsonl && '


@pytest.fixture
def root(project, tmp_path, monkeypatch):
    root = project(tmp_path / "checkout")
    stages = STAGES
    for name, command in (("fetch", "mkdir -p data/raw"), ("train", "mkdir -p outputs")):
        stages = stages.replace(f"cmd: {command}", f"cmd: >-\n      {NOTED.replace('NAME', name)}{command}")
    (root / "dvc.yaml").write_text(stages)
    monkeypatch.chdir(root)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    return root


def stages(root):
    """Bring the stages up to date as `tunetrail run` does; return those that ran."""
    with locks.exclusive_lock(root) as descriptor:
        return experiment._stages(root, descriptor, {}, force=False)


def test_outputs_of_a_resumed_runs_earlier_attempt_are_verified_and_those_of_this_attempt_are_not(root):
    assert stages(root) == {"fetch", "train"}
    assert stages(root) == set()  # resumed: the times of the earlier attempt are still there
    experiment._verify_cached_outputs(root, set())
    flip(root / "data" / "raw" / "rows")
    (root / "src" / "tunetrail" / "code.py").write_text("one = 2\n")
    with pytest.raises(UserError, match=r"data/raw/rows: md5 \w{32} is recorded"):
        experiment._verify_cached_outputs(root, {"train"})
    experiment._verify_cached_outputs(root, {"fetch"})


def test_a_stage_that_ran_in_either_attempt_counts_as_run(root):
    stages(root)
    (root / "src" / "tunetrail" / "code.py").write_text("one = 2\n")
    (root / "params.yaml").write_text("prepare: {path: conf/old.yaml}\n")
    assert stages(root) == {"fetch", "train"}
    (root / "src" / "tunetrail" / "code.py").write_text("one = 3\n")
    assert stages(root) == {"train"}


def test_a_job_that_waits_for_another_says_so_on_the_screen_and_in_its_events(root, capsys):
    experiment._waiting(root, "contract")
    assert capsys.readouterr().out == "contract: waits for another job that runs it\n"
    (line,) = (root / events.FILE).read_text().splitlines()
    assert json.loads(line).items() >= {"stage": "contract", "waiting": True}.items()
