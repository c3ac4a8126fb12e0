"""Every file of conf/ is composed and every key in it known to its tool, so no option rots."""

from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tunetrail import config

GROUPS = {"prepare": 2, "template": 1, "model": 2, "method": 1, "hardware": 1, "evaluate": 2, "experiment": 2}
OPTIONS = sorted(file.relative_to(ROOT / "conf") for file in (ROOT / "conf").rglob("*/*.yaml"))
# What a person must give, which a file cannot know.
GIVEN = {
    "prepare/file": ["prepare.path=rows.jsonl"],
    "evaluate/ifeval": ["evaluate.path=prompts.jsonl"],
    "experiment/alpaca_tiny": ["prepare.path=rows.jsonl", "evaluate.path=prompts.jsonl"],
    "model/local": ["base.base_model=model"],
}


def test_every_option_of_every_group_is_among_those_tested():
    found = {group: sum(option.parts[0] == group for option in OPTIONS) for group in GROUPS}
    assert found == GROUPS
    assert len(OPTIONS) == sum(GROUPS.values())


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_every_option_composes_and_every_key_is_known(option, composed, known):
    name = str(option.with_suffix(""))
    values = composed(f"{option.parts[0]}={option.stem}", *GIVEN.get(name, []))
    config.check(values, known)


def test_params_yaml_is_the_composed_default(composed):
    """One truth: conf/ composes it, `tunetrail run` writes it, nobody edits it."""
    committed = yaml.safe_load((ROOT / "params.yaml").read_text())
    default = composed()
    assert committed == default
    assert list(committed) == list(default)


def test_axolotl_knows_hundreds_of_keys_and_a_misspelled_one_is_not_among_them(known):
    keys = config.known_keys(known["properties"]["train"])
    assert len(known["properties"]["train"]["properties"]) > 350
    assert "learning_rate" in keys
    assert "lerning_rate" not in keys


def test_conf_holds_no_resolver_that_would_make_every_run_new_or_publish_a_secret():
    for file in (ROOT / "conf").rglob("*.yaml"):
        for forbidden in ("${hydra:", "${now:", "${oc.env:"):
            assert forbidden not in file.read_text(), file


def test_every_experiment_opens_with_the_command_that_runs_it():
    for file in (ROOT / "conf" / "experiment").glob("*.yaml"):
        first, second = file.read_text().splitlines()[:2]
        assert first == "# @package _global_"
        assert second.startswith(f"# tunetrail run experiment={file.stem}")


def test_no_file_of_a_group_is_long():
    for option in OPTIONS:
        lines = Path(ROOT / "conf" / option).read_text().count("\n")
        assert lines <= (60 if option.parts[0] == "model" else 40), option


def test_dvc_composes_nothing():
    assert "enabled = false" in (ROOT / ".dvc" / "config").read_text().partition("[hydra]")[2]
