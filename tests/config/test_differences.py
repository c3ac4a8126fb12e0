"""Differences between a run and its experiment, on the real conf/."""

import sys

import hydra
import pytest
from hydra.core.hydra_config import HydraConfig

from tests.conftest import ROOT
from tunetrail.config import check, differences


@pytest.mark.parametrize(
    ("words", "experiment", "differs"),
    [
        ([], "demo", []),
        (["train.num_epochs=3"], "demo", [[["train.num_epochs"], "3", "1"]]),
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
def test_values_are_compared_with_the_experiment_without_overrides(composed, words, experiment, differs):
    chosen, changes = differences.from_experiment(ROOT, composed(*words), words)
    assert chosen == experiment
    if differs is not None:
        assert sorted(changes) == sorted(differs)


@pytest.mark.parametrize(
    ("words", "experiment"),
    [
        ([], "demo"),
        (["experiment=alpaca_tiny", "prepare.path=a.jsonl", "evaluate.path=b.jsonl"], "alpaca_tiny"),
        (["name=a b/c"], "demo"),
    ],
    ids=str,
)
def test_without_recorded_overrides_the_experiment_is_the_one_of_the_runs_name_or_else_the_default(
    composed, words, experiment
):
    chosen, changes = differences.from_experiment(ROOT, composed(*words), None)
    assert chosen == experiment
    assert bool(changes) == bool(words)
    assert all(usual == "not set" for _, value, usual in changes if value == "a.jsonl")


def test_every_experiment_of_conf_can_be_compared_with_its_own_defaults(composed):
    """Each can be composed without the values that the user must give."""
    for file in sorted((ROOT / "conf" / "experiment").glob("*.yaml")):
        chosen, changes = differences.from_experiment(ROOT, composed(), [f"experiment={file.stem}"])
        assert (chosen, changes is None) == (file.stem, False)


def test_keys_of_one_name_that_change_together_share_a_row(composed):
    _, changes = differences.from_experiment(ROOT, composed("seed=7"), ["seed=7"])
    assert len(changes) == 1
    (keys, value, usual) = changes[0]
    assert (value, usual) == ("7", "42")
    assert keys[0] == "seed"
    assert {"train.seed", "prepare.seed"} <= set(keys)


def test_differences_can_be_computed_inside_a_run_that_hydra_started(monkeypatch):
    """As `tunetrail run` calls it: Hydra cannot open a second config folder while one is open."""
    words = ["train.num_epochs=3"]
    results = []
    monkeypatch.setattr(sys, "argv", ["run", *words])
    monkeypatch.chdir(ROOT)

    def job(cfg):
        results.append(differences.from_experiment(ROOT, check.resolve(cfg), words))
        results.append(list(HydraConfig.get().overrides.task))

    hydra.main(config_path=str(ROOT / "conf"), config_name="config")(job)()
    assert results == [("demo", [[["train.num_epochs"], "3", "1"]]), words]
