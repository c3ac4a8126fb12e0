"""What the head of a report says of its run, on the real conf/."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import hydra
import pytest
from hydra.core.hydra_config import HydraConfig

from tests.conftest import ROOT
from tunetrail.checkout import git
from tunetrail.config import check
from tunetrail.report import metrics
from tunetrail.tracking import about, mlflow_run


@pytest.mark.parametrize(
    ("words", "experiment", "differs"),
    [
        ([], "demo", []),
        (["train.num_epochs=2"], "demo", [[["train.num_epochs"], "2", "4"]]),
        (
            ["experiment=alpaca_tiny", "prepare.path=a.jsonl", "evaluate.path=b.jsonl"],
            "alpaca_tiny",
            [
                [["prepare.path", "fetch.instructions.path"], "a.jsonl", "not set"],
                [["evaluate.path", "fetch.prompts.path"], "b.jsonl", "conf/evaluate/ifeval.yaml"],
            ],
        ),
        (["name=other"], "demo", [[["name"], "other", "demo"]]),
        (["name=mine", "model=tiny_llama"], "demo", [[["name"], "mine", "demo"]]),
        (['experiment="alpaca_tiny"', "prepare.path=1", "evaluate.path=2", "experiment=demo"], "demo", None),
        (["experiment=demo", "name=other"], "demo", [[["name"], "other", "demo"]]),
        (["+train.max_steps=5"], "demo", [[["train.max_steps"], "5", "not set"]]),
    ],
    ids=str,
)
def test_what_differs_is_held_against_the_experiment_without_overrides(composed, words, experiment, differs):
    chosen, found = about.differs(ROOT, composed(*words), words)
    assert chosen == experiment
    if differs is not None:
        assert sorted(found) == sorted(differs)


@pytest.mark.parametrize(
    ("words", "experiment"),
    [
        ([], "demo"),
        (["experiment=alpaca_tiny", "prepare.path=a.jsonl", "evaluate.path=b.jsonl"], "alpaca_tiny"),
        (["name=a b/c"], "demo"),
    ],
    ids=str,
)
def test_without_the_persons_words_the_experiment_is_the_one_of_the_runs_name_or_else_the_default(
    composed, words, experiment
):
    chosen, found = about.differs(ROOT, composed(*words), None)
    assert chosen == experiment
    assert bool(found) == bool(words)
    assert all(usual == "not set" for _, value, usual in found if value == "a.jsonl")


def test_no_experiment_of_conf_lacks_its_own_defaults(composed):
    """Each can be composed without the values that it leaves to the person."""
    for file in sorted((ROOT / "conf" / "experiment").glob("*.yaml")):
        chosen, found = about.differs(ROOT, composed(), [f"experiment={file.stem}"])
        assert (chosen, found is None) == (file.stem, False)


def test_keys_of_one_name_that_change_together_stand_together(composed):
    _, found = about.differs(ROOT, composed("seed=7"), ["seed=7"])
    assert len(found) == 1
    (keys, value, usual) = found[0]
    assert (value, usual) == ("7", "42")
    assert keys[0] == "seed"
    assert {"train.seed", "prepare.seed"} <= set(keys)


def test_a_run_is_called_by_its_own_name_and_lies_where_the_stage_reads_it_only_while_it_goes_on(root, composed):
    (root / "conf").symlink_to(ROOT / "conf")
    code = git.Code("c0ffee", Path("/dev/null"), "")
    with mlflow_run.run(root, "seed=7") as run:
        found = about.of(run, root, composed("seed=7"), code, ["seed=7", "train.val=a b"], {"hardware.cpu": "2 x cpu"})
    assert (found["id"], found["name"], found["overrides"]) == (run.id, "seed=7", "seed=7 'train.val=a b'")
    assert found["machine"].endswith(", 2 x cpu")
    assert found["training"]["method"] == "full: every weight"
    gone = SimpleNamespace(id="0" * 32)
    assert about.of(gone, root, composed(), code, None, {})["name"] == "demo"
    with about.introduced(root, found):
        assert json.loads((root / metrics.ABOUT).read_text()) == found == metrics.about(root)
    assert not (root / metrics.ABOUT).exists()
    assert metrics.RUN not in os.environ


def test_what_a_killed_run_left_is_of_no_later_run(tmp_path, monkeypatch):
    """A process that dies there runs no `finally`; a stage that is run by hand in the same checkout is of no run."""
    script = (
        "import os, pathlib, subprocess, sys\n"
        "from tunetrail.tracking import about\n"
        "with about.introduced(pathlib.Path(), {'id': 'killed'}):\n"
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


def test_what_differs_is_found_within_the_run_that_hydra_itself_has_composed(monkeypatch):
    """As `tunetrail run` calls it: Hydra takes no second conf/ while it has one open."""
    words, found = ["train.num_epochs=2"], []
    monkeypatch.setattr(sys, "argv", ["run", *words])
    monkeypatch.chdir(ROOT)

    def job(cfg):
        found.append(about.differs(ROOT, check.resolve(cfg), words))
        found.append(list(HydraConfig.get().overrides.task))

    hydra.main(config_path=str(ROOT / "conf"), config_name="config")(job)()
    assert found == [("demo", [[["train.num_epochs"], "2", "4"]]), words]
