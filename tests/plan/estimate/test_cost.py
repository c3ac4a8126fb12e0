"""FLOP, seconds and bytes on disk, compared with measurements and with what the tools write."""

import pytest

from tests.conftest import ROOT
from tunetrail.plan.estimate import architecture, cost, hardware

LLAMA_8B, _ = architecture.read({"make": None, "base_model": "meta-llama/Meta-Llama-3-8B", "revision_of_model": None}, ROOT)
PACKED = {
    "sample_packing": True,
    "sequence_len": 8192,
    "bf16": "auto",
    "optimizer": "paged_adamw_8bit",
    "micro_batch_size": 1,
}


def test_a_training_token_of_llama_3_is_45_gflop_and_its_padded_validation_costs_more_than_its_training():
    """docs/recipe-notes.md: 45.2 GFLOP; 127 M padded tokens of validation, forward, against 28.5 M trained."""
    assert cost.flops(LLAMA_8B, PACKED, 1, 0, 193).training == pytest.approx(45.2e9, rel=0.005)
    flops = cost.flops(LLAMA_8B, PACKED | {"gradient_checkpointing": True}, 28.5e6, 127e6, 193)
    assert flops.validation > flops.training
    assert flops.validation / flops.total == pytest.approx(0.53, abs=0.02)


def test_attention_is_counted_over_rows_or_whole_sequences_and_optionally_with_masked_positions():
    def context(masked=False, **train):
        flops = cost.flops(LLAMA_8B, {"sequence_len": 512} | train, 1, 0, 100, masked).training / 3
        return (flops - LLAMA_8B.forward_flops(0)) / (LLAMA_8B.forward_flops(1) - LLAMA_8B.forward_flops(0))

    assert context(sample_packing=True, pad_to_sequence_len=True) == pytest.approx(100)
    assert context(pad_to_sequence_len=True) == pytest.approx(512)
    assert context() == pytest.approx(100)
    assert context(True, sample_packing=True) == pytest.approx(1024)
    assert context(True) == pytest.approx(200)


def test_frozen_weights_save_a_third():
    full, adapter = (cost.flops(LLAMA_8B, PACKED | more, 1, 0, 193).training for more in ({}, {"adapter": "lora"}))
    assert adapter / full == pytest.approx(2 / 3)


def test_a_checkpoint_has_the_optimisers_states_and_the_finished_model_is_stored_three_times():
    """docs/recipe-notes.md: 16.1 GB of weights and 19.4 GB of states; three checkpoints and the model are 123 GB there, with
    the model counted once."""
    disk = cost.disk(LLAMA_8B, PACKED, (10, 3), False)
    assert disk.model == pytest.approx(16.1e9, rel=0.005)
    assert disk.checkpoint == pytest.approx(16.1e9 + 19.4e9, rel=0.01)
    assert disk.total - 2 * disk.model == pytest.approx(123e9, rel=0.01)


def test_a_base_that_must_be_fetched_takes_two_bytes_a_weight():
    here, to_fetch = (cost.disk(LLAMA_8B, PACKED, (10, 3), fetched) for fetched in (False, True))
    assert to_fetch.base == to_fetch.total - here.total == 2 * LLAMA_8B.parameters


def test_only_weights_are_saved_if_configured():
    disk = cost.disk(LLAMA_8B, PACKED | {"save_only_model": True}, (10, 3), False)
    assert disk.checkpoint == disk.model


def test_an_adapter_takes_little_disk_space():
    disk = cost.disk(LLAMA_8B, PACKED | {"adapter": "lora", "lora_r": 16, "lora_target_linear": True}, (0, 0), False)
    assert disk.model == pytest.approx(168e6, rel=0.01)


def test_predicted_generation_for_ifeval_is_near_the_time_measured_on_an_h200():
    """1,340 tokens/s with static batches of 128, each answer of the maximum length."""
    evaluate = {"batch_size": 128, "model_args": {"dtype": "bfloat16"}}
    evaluate["task"] = {"generation_kwargs": {"max_gen_toks": 1280}}
    tokens, seconds = cost.evaluation(LLAMA_8B, evaluate, 512, hardware.named("h200"), 1)
    assert cost.evaluation(LLAMA_8B, evaluate, 512, hardware.named("h200"), 4)[1] < seconds / 3
    assert tokens == 512 * 1280
    assert tokens / (seconds - cost.EVALUATOR_START) == pytest.approx(1340, rel=0.25)
