"""Predicted seconds of a training, compared with those measured on a GPU (benchmarks/speed.jsonl)."""

import json

import pytest

from tests.conftest import ROOT
from tunetrail.plan.estimate import architecture, cost, hardware, pace

H100 = hardware.named("h100")
MEASURED = {line["case"]: line for line in map(json.loads, (ROOT / "benchmarks" / "speed.jsonl").read_text().splitlines())}
FULL = [case for case in MEASURED if "full" in case]


def trained(line):
    """Return the work, the shape, the config and the device of a measured case."""
    shape, train = architecture.from_config(line["shape"]), line["train"]
    batches = line["steps"] * train["gradient_accumulation_steps"]
    slots = batches * train["micro_batch_size"] * train["sequence_len"]
    flops = cost.flops(shape, train, slots, 0, 250)
    return pace.Training(flops.total, batches, line["steps"]), shape, train, H100


@pytest.mark.parametrize("case", MEASURED)
def test_an_h100_takes_the_predicted_time_within_a_quarter(case):
    line = MEASURED[case]
    *arguments, device = trained(line)
    predicted = pace.seconds(*arguments, device, pace.default(H100, 1, line["train"], None))
    assert predicted == pytest.approx(line["loop_s"], rel=0.25)


@pytest.mark.parametrize("earlier", FULL)
@pytest.mark.parametrize("case", FULL)
def test_corrected_by_another_run_the_prediction_is_also_within_a_quarter(case, earlier):
    """Also if kernel launches took longest in one of the runs and not in the other."""
    before, line = MEASURED[earlier], MEASURED[case]
    arguments = trained(before)
    measured = pace.measured(arguments[0], arguments[1].num_hidden_layers, pace.aside(*arguments), before["loop_s"], 40.0)
    speed = pace.from_earlier(pace.default(H100, 1, line["train"], None), measured)
    assert (speed.start, speed.source) == (40.0, "measured here")
    assert pace.seconds(*trained(line), speed) == pytest.approx(line["loop_s"], rel=0.25)


LLAMA_8B, _ = architecture.read({"make": None, "base_model": "meta-llama/Meta-Llama-3-8B", "revision_of_model": None}, ROOT)
PUBLISHED = {"bf16": "auto", "sample_packing": True, "sequence_len": 8192, "optimizer": "paged_adamw_8bit"}
LIGER = {"plugins": ["axolotl.integrations.liger.LigerPlugin"], "liger_fused_linear_cross_entropy": True}


@pytest.mark.parametrize(
    ("train", "micro", "measured"),
    [
        (LIGER, 1, 10_700),
        (LIGER | {"gradient_checkpointing": True}, 4, 9_380),
        ({"gradient_checkpointing": True}, 4, 5_390),
    ],
)
def test_speeds_of_llama_3_8b_on_one_h200_are_planned_within_a_quarter(train, micro, measured):
    """docs/recipe-notes.md: rows of 193 tokens, 131,072 tokens a step."""
    train, device = PUBLISHED | train | {"micro_batch_size": micro}, hardware.named("h200")
    flops = cost.flops(LLAMA_8B, train, 131_072, 0, 193).total
    step = pace.Training(flops, 131_072 / micro / 8192, 1)
    taken = pace.seconds(step, LLAMA_8B, train, device, pace.default(device, 1, train, None))
    assert 131_072 / taken == pytest.approx(measured, rel=0.25)


def test_a_configured_share_of_the_peak_is_used_unchanged():
    speed = pace.default(hardware.named("mi300x"), 8, PUBLISHED, 0.05)
    assert (speed.flops_per_s, speed.source) == (8 * 0.05 * 1.307e15, "plan.mfu")


def test_on_a_cpu_only_arithmetic_counts_and_a_measured_speed_is_used_unchanged():
    device = hardware.cpu(24 * 2**30, 2)
    training, shape = pace.Training(1e12, 100, 100), LLAMA_8B
    assert pace.aside(training, shape, PUBLISHED, device) == 0.0
    measured = pace.measured(training, shape.num_hidden_layers, 0.0, 50.0, 30.0)
    speed = pace.from_earlier(pace.default(device, 1, PUBLISHED, None), measured)
    assert speed.flops_per_s == 2e10
    assert pace.seconds(pace.Training(2e12, 9, 9), shape, PUBLISHED, device, speed) == 100.0
