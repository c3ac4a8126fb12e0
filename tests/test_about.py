"""What the head of a report says of its run, on the real conf/."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import hydra
import pytest
from hydra.core.hydra_config import HydraConfig

from tests.conftest import ROOT
from tunetrail import about, config, report, tracking, workspace


@pytest.mark.parametrize(
    ("words", "experiment", "differs"),
    [
        ([], "demo", []),
        (["train.num_epochs=2"], "demo", [[["train.num_epochs"], "2", "4"]]),
        (["experiment=alpaca_tiny", "prepare.path=a.jsonl", "evaluate.path=b.jsonl"], "alpaca_tiny", None),
        (["name=other"], "other", None),
        (["experiment=demo", "name=other"], "demo", [[["name"], "other", "demo"]]),
        (["+train.max_steps=5"], "demo", [[["train.max_steps"], "5", "not set"]]),
    ],
    ids=str,
)
def test_what_differs_is_held_against_the_experiment_without_overrides(composed, words, experiment, differs):
    chosen, found = about.differs(ROOT, composed(*words), words)
    assert chosen == experiment
    if differs is not None:
        assert found == differs
    elif experiment == "other":
        assert found is None
    else:  # a path that the experiment does not have without one
        assert found is None or [keys for keys, *_ in found if "prepare.path" in keys]


def test_keys_of_one_name_that_change_together_stand_together(composed):
    _, found = about.differs(ROOT, composed("seed=7"), ["seed=7"])
    assert len(found) == 1
    (keys, value, usual) = found[0]
    assert (value, usual) == ("7", "42")
    assert keys[0] == "seed"
    assert {"train.seed", "prepare.seed"} <= set(keys)


def test_a_run_is_called_by_its_own_name_and_lies_where_the_stage_reads_it_only_while_it_goes_on(root, composed):
    (root / "conf").symlink_to(ROOT / "conf")
    code = workspace.Code("c0ffee", Path("/dev/null"), "")
    with tracking.run(root, "seed=7") as run:
        found = about.of(run, root, composed("seed=7"), code, ["seed=7", "train.val=a b"], {"hardware.cpu": "2 x cpu"})
    assert (found["id"], found["name"], found["overrides"]) == (run.id, "seed=7", "seed=7 'train.val=a b'")
    assert found["machine"].endswith(", 2 x cpu")
    assert found["training"]["method"] == "full: every weight"
    gone = SimpleNamespace(id="0" * 32)
    assert about.of(gone, root, composed(), code, None, {})["name"] == "demo"
    with about.introduced(root, found):
        assert json.loads((root / report.ABOUT).read_text()) == found
    assert not (root / report.ABOUT).exists()


def test_what_differs_is_found_within_the_run_that_hydra_itself_has_composed(monkeypatch):
    """As `tunetrail run` calls it: Hydra takes no second conf/ while it has one open."""
    words, found = ["train.num_epochs=2"], []
    monkeypatch.setattr(sys, "argv", ["run", *words])
    monkeypatch.chdir(ROOT)

    def job(cfg):
        found.append(about.differs(ROOT, config.resolve(cfg), words))
        found.append(list(HydraConfig.get().overrides.task))

    hydra.main(config_path=str(ROOT / "conf"), config_name="config")(job)()
    assert found == [("demo", [[["train.num_epochs"], "2", "4"]]), words]
