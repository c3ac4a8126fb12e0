"""Every file of conf/ composes and every key in it is known to its tool, so no option becomes stale."""

import re
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tunetrail.config import check

GROUPS = {"prepare": 3, "template": 1, "model": 11, "method": 4, "hardware": 5, "evaluate": 2, "sweep": 6, "experiment": 7}
OPTIONS = sorted(file.relative_to(ROOT / "conf") for file in (ROOT / "conf").rglob("*/*.yaml"))
# Values that the user must give.
GIVEN = {
    "prepare/file": ["prepare.path=rows.jsonl"],
    "experiment/alpaca_tiny": ["prepare.path=rows.jsonl", "evaluate.path=prompts.jsonl"],
    "model/hub": ["base.base_model=org/name", "base.revision_of_model=0123abc"],
    "model/local": ["base.base_model=model"],
}
# Options that are used together with another of their group.
BESIDE = {"hardware/fsdp2": "[cuda,fsdp2]", "hardware/zero3": "[cuda,zero3]"}
# Options whose plug-in is not in the lock files.
PLUGINS = {"sweep/ray": "hydra_plugins.hydra_ray_launcher"}


def test_every_option_of_every_group_is_among_those_tested():
    counts = {group: sum(option.parts[0] == group for option in OPTIONS) for group in GROUPS}
    assert counts == GROUPS
    assert len(OPTIONS) == sum(GROUPS.values())


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_every_option_composes_and_every_key_is_known(option, composed, known):
    name = str(option.with_suffix(""))
    if name in PLUGINS:
        pytest.importorskip(PLUGINS[name])
    values = composed(f"{option.parts[0]}={BESIDE.get(name, option.stem)}", *GIVEN.get(name, []))
    assert check.check(values, known) is None


@pytest.mark.parametrize("experiment", sorted(file.stem for file in (ROOT / "conf" / "experiment").glob("*.yaml")))
def test_every_experiment_can_use_another_model(experiment, composed, known):
    values = composed(f"experiment={experiment}", "model=qwen3_0_6b", *GIVEN.get(f"experiment/{experiment}", []))
    assert check.check(values, known) is None
    assert (values["base"]["make"], values["train"]["base_model"]) == (None, values["base"]["base_model"])


def test_a_model_of_the_hub_is_pinned_by_a_commit_in_its_own_file(composed):
    for file in (ROOT / "conf" / "model").glob("*.yaml"):
        if not file.stem.startswith(("hub", "local", "tiny")):
            values = composed(f"model={file.stem}")
            base, train = values["base"], values["train"]
            assert (ROOT / base["path"]) == file
            assert re.fullmatch(r"[0-9a-f]{40}", base["revision_of_model"]), file
            assert base["license"], file
            assert base["make"] is None
            assert (train["base_model"], train["model_revision"]) == (base["base_model"], base["revision_of_model"])


def test_the_command_line_overrides_an_experiments_hardware(composed):
    experiment = "experiment=llama3_8b_alpaca"
    assert composed(experiment)["train"]["bf16"] == "auto"
    assert composed(experiment, "hardware=cpu")["train"]["bf16"] is False
    sharded = composed(experiment, "hardware=[cuda,fsdp2]")["train"]
    assert (sharded["bf16"], sharded["fsdp_version"], sharded["optimizer"]) == ("auto", 2, "adamw_torch_fused")


def test_cuda_and_rocm_differ_only_in_the_keys_of_their_files(composed):
    cuda, rocm = (check.flatten(composed("model=smollm2_135m", f"hardware={name}")) for name in ("cuda", "rocm"))
    assert {key for key in cuda | rocm if cuda.get(key) != rocm.get(key)} == {"train.tf32", "plan.default_device"}


def test_params_yaml_is_the_composed_default(composed):
    """conf/ is the only source: `tunetrail run` writes params.yaml, nobody edits it."""
    committed = yaml.safe_load((ROOT / "params.yaml").read_text())
    default = composed()
    assert committed == default
    assert list(committed) == list(default)


def test_axolotl_knows_hundreds_of_keys_and_a_misspelled_one_is_not_among_them(known):
    keys = check.known_keys(known["properties"]["train"] | {"$defs": known["$defs"]})
    assert len(known["properties"]["train"]["properties"]) > 350
    assert "learning_rate" in keys
    assert "lerning_rate" not in keys


def test_conf_has_no_resolver_that_would_change_every_run_or_publish_a_secret():
    for file in (ROOT / "conf").rglob("*.yaml"):
        for forbidden in ("${hydra:", "${now:", "${oc.env:"):
            assert forbidden not in file.read_text(), file


def test_every_experiments_file_starts_with_the_command_that_runs_it():
    for file in (ROOT / "conf" / "experiment").glob("*.yaml"):
        first, second = file.read_text().splitlines()[:2]
        assert first == "# @package _global_"
        assert second.startswith(f"# tunetrail run experiment={file.stem}")


def test_a_sweep_option_starts_with_its_command_and_changes_nothing_of_the_experiment():
    for file in (ROOT / "conf" / "sweep").glob("*.yaml"):
        first, second = file.read_text().splitlines()[:2]
        assert first == "# @package _global_"
        assert second.startswith("# tunetrail run -m " + (f"sweep={file.stem} " if file.stem != "serial" else ""))
        assert set(yaml.safe_load(file.read_text())) <= {"defaults", "hydra"}, file


def test_no_file_of_a_group_is_long():
    for option in OPTIONS:
        lines = Path(ROOT / "conf" / option).read_text().count("\n")
        assert lines <= (60 if option.parts[0] == "model" else 40), option


def test_dvc_composes_nothing():
    assert "enabled = false" in (ROOT / ".dvc" / "config").read_text().partition("[hydra]")[2]
