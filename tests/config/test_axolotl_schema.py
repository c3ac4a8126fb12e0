"""Our schema compared with Axolotl itself on whole configs, by `benchmarks/configs.py`."""

import pytest
import yaml

from benchmarks import configs
from tests.conftest import ROOT

WHOLE = """
base_model: a/b
datasets: [{path: c/d, type: alpaca}]
learning_rate: 2e-4
num_epochs: 1
optimizer: adamw_torch
micro_batch_size: 2
gradient_accumulation_steps: 4
sequence_len: 1024
"""
ACCEPTED = {
    "of_2023": "gptq_groupsize:\ngptq_model_v1:\ndebug:\nbase_model_ignore_patterns:\ntorchdistx_path:\nstrict:\n"
    "early_stopping_patience:\nlocal_rank:\nxformers_attention:\nflash_attention:\nunsloth_lora_mlp:",
    "fsdp": "fsdp_version: 2\nfsdp_config: {fsdp_offload_params: true, fsdp_state_dict_type: FULL_STATE_DICT}",
    "fsdp_version": "fsdp_config: {version: 2, auto_wrap_policy: TRANSFORMER_BASED_WRAP}",
    "by_name": "revision_of_model: main\ntype_of_model: AutoModelForCausalLM\noverrides_of_model_config: {rope_theta: 1}",
    "renamed": "evaluation_strategy: 'no'\ndataset_processes: 2\nnoisy_embedding_alpha: 5",
    "as_text": "weight_decay: '0.1'\nwarmup_steps: '10'\nlogging_steps: 1.0\nsample_packing: 'yes'",
    "plug_in": "plugins: [axolotl.integrations.liger.plugin.LigerPlugin]\nliger_swiglu: true\nliger_rope: true",
    "chat": "datasets: [{path: c/d, type: chat_template, field_messages: m, message_field_role: r, roles: {user: [u]}}]",
    "dpo": "rl: dpo\ndatasets: [{path: c/d, type: chatml.intel, split: train}]",
}
REFUSED = {
    "misspelled": "lerning_rate: 1e-3",
    "inside": "fsdp_version: 2\nfsdp_config: {fsdp_offload_parms: true}",
    "no_more": "adam_eps: 1e-8",
    "of_accelerate": "fsdp_version: 2\nfsdp_config: {sharding_strategy: FULL_SHARD}",
    "no_plug_in": "liger_rope: true",
    "dataset": "datasets: [{path: c/d, type: alpaca, train_on_split: validation}]",
    "type": "lora_r: eight",
}
LATE = {"together": "warmup_steps: 3\nwarmup_ratio: 0.1", "switched_on": "flash_attn_rms_norm: true"}


@pytest.fixture(scope="module")
def verdicts(known, tmp_path_factory):
    folder = tmp_path_factory.mktemp("configs")
    for name, text in (ACCEPTED | REFUSED | LATE).items():
        (folder / f"{name}.yml").write_text(yaml.safe_dump(yaml.safe_load(WHOLE) | yaml.safe_load(text)))
    default = yaml.safe_load((ROOT / "params.yaml").read_text())["train"]
    always = {key: default[key] for key in known["properties"]["train"]["required"]}
    return configs.compare(sorted(folder.iterdir()), configs.ours(known, always), configs.axolotls())


def test_keys_that_axolotl_reads_are_accepted_and_keys_that_it_ignores_are_refused(verdicts):
    counts, lines = verdicts
    assert counts == {
        configs.BOTH: len(ACCEPTED),
        configs.NEITHER: len(REFUSED),
        configs.WRONGLY: 0,
        configs.LATE: len(LATE),
    }, lines


def test_a_file_that_the_two_judge_differently_has_a_line_with_the_reason(verdicts):
    assert ["switched_on.yml" in line or "together.yml" in line for line in verdicts[1]] == [True, True]
    assert "`flash_attn_rms_norm` is no longer supported" in verdicts[1][0]
    counts, lines = configs.compare([], lambda values: "", lambda values: "")
    assert (sum(counts.values()), lines) == (0, [])


def test_an_older_name_refers_to_the_current_one(known):
    train = known["properties"]["train"]["properties"]
    assert {name for name, part in train.items() if part.get("same_as") not in (None, *train)} == set()
    assert train["revision_of_model"]["same_as"] == "model_revision"
    assert known["$defs"]["FSDPConfig"]["properties"]["fsdp_offload_params"]["same_as"] == "offload_params"
    assert "same_as" not in known["$defs"]["FSDPConfig"]["properties"]["fsdp_version"]
