import math

import pytest

from tests.conftest import ROOT
from tunetrail.config import canonical, inputs
from tunetrail.data import world


@pytest.fixture(scope="module")
def read(known):
    return lambda **train: canonical.read({"train": train}, known)["train"]


@pytest.mark.parametrize(
    ("values", "made"),
    [
        ({"learning_rate": "2e-5"}, {"learning_rate": 2e-5}),
        ({"num_epochs": "3"}, {"num_epochs": 3}),
        ({"micro_batch_size": 8.0}, {"micro_batch_size": 8}),
        ({"warmup_ratio": "0.05", "weight_decay": 1}, {"warmup_ratio": 0.05, "weight_decay": 1}),
        ({"sample_packing": "true", "tf32": "no"}, {"sample_packing": True, "tf32": False}),
        ({"bf16": "auto", "fp16": "false"}, {"bf16": "auto", "fp16": False}),
        ({"jagged_restart_anneal_steps": False}, {"jagged_restart_anneal_steps": 0}),
        ({"save_steps": "0.5", "lora_r": None}, {"save_steps": 0.5, "lora_r": None}),
        (
            {"lr_groups": [{"name": "1", "modules": ["2"], "lr": "3e-4"}]},
            {"lr_groups": [{"name": "1", "modules": ["2"], "lr": 3e-4}]},
        ),
        ({"save_total_limit": float("inf")}, {"save_total_limit": float("inf")}),
        ({"save_total_limit": float("-inf"), "lora_r": 8.0}, {"save_total_limit": float("-inf"), "lora_r": 8}),
        # Text for a text key, and a value that fits no type, is not converted.
        ({"wandb_run_id": "123", "wandb_name": "2e-5"}, {"wandb_run_id": "123", "wandb_name": "2e-5"}),
        ({"learning_rate": "fast", "lora_r": "8.5", "xyzzy": "1"}, {"learning_rate": "fast", "lora_r": "8.5", "xyzzy": "1"}),
    ],
)
def test_a_value_gets_the_type_that_axolotl_converts_it_to(read, values, made):
    got = read(**values)
    assert got == made
    assert [type(value) for value in got.values()] == [type(value) for value in made.values()]


@pytest.mark.parametrize(
    ("values", "made"),
    [
        ({"fsdp_config": {"fsdp_offload_params": True}}, {"fsdp_config": {"offload_params": True}}),
        (
            {"fsdp_config": {"version": 2, "use_orig_params": "true"}},
            {"fsdp_config": {"fsdp_version": 2, "use_orig_params": True}},
        ),
        ({"revision_of_model": "a", "type_of_model": "b"}, {"model_revision": "a", "model_type": "b"}),
        ({"evaluation_strategy": "no", "eval_strategy": None}, {"eval_strategy": "no"}),
        ({"eval_strategy": "no", "evaluation_strategy": None}, {"eval_strategy": "no"}),
        ({"eval_strategy": "no", "evaluation_strategy": "no"}, {"eval_strategy": "no"}),
        ({"eval_strategy": "no", "evaluation_strategy": "steps"}, {"eval_strategy": "no", "evaluation_strategy": "steps"}),
        ({"evaluation_strategy": "no", "eval_strategy": "steps"}, {"evaluation_strategy": "no", "eval_strategy": "steps"}),
    ],
)
def test_a_key_gets_its_current_name(read, values, made):
    assert read(**values) == made


def test_nan_is_unchanged(read):
    assert math.isnan(read(save_total_limit=math.nan)["save_total_limit"])


def test_the_input_is_not_changed_and_other_tools_values_are_not_converted(known):
    config = {
        "train": {"learning_rate": "2e-5"},
        "evaluate": {"limit": "3"},
        "name": "1",
        "base": {"make": {"train": {"seed": "7"}}},
    }
    made = canonical.read(config, known)
    assert config["train"] == {"learning_rate": "2e-5"}
    assert (made["evaluate"], made["name"]) == ({"limit": "3"}, "1")
    assert made["base"]["make"]["train"] == {"seed": 7}
    assert canonical.read(made, known) == made


def test_names_of_an_earlier_version_are_replaced(known):
    """A run restored from a params.yaml with earlier module paths uses the current plug-in and generator."""
    liger = "axolotl.integrations.liger.LigerPlugin"
    train = {"plugins": ["tunetrail.live.HistoryPlugin", liger]}
    source = {"path": "src/tunetrail/world.py"}
    made = canonical.read(
        {"train": train, "base": {"make": {"train": train}}, "prepare": source, "fetch": {"text": source}}, known
    )
    assert made["train"] == made["base"]["make"]["train"] == {"plugins": [inputs.HISTORY_PLUGIN, liger]}
    assert made["prepare"] == made["fetch"]["text"] == {"path": world.SOURCE}
    module, _, name = inputs.HISTORY_PLUGIN.rpartition(".")
    assert f"class {name}" in (ROOT / "src" / f"{module.replace('.', '/')}.py").read_text()
    assert (ROOT / world.SOURCE).is_file()


def test_an_earlier_versions_seed_of_a_made_model_is_dropped_and_axolotl_makes_its_weights(composed):
    values, earlier = composed(), composed()
    earlier["base"]["seed"] = 42
    del earlier["base"]["make"]["train"]["reinit_weights"]
    assert canonical.migrated(earlier) == canonical.migrated(values) == values
    assert canonical.migrated({"name": "a", "base": {"make": None, "seed": 1}}) == {"name": "a", "base": {"make": None}}
    for make in (None, "yes", {}, {"train": None}, []):  # refused by `check`
        assert canonical.migrated({"base": {"make": make, "seed": 1}}) == {"base": {"make": make}}
