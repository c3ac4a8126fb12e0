"""The arithmetic of fixes that save memory or disk space; test_stops tests their order."""

import pytest

from tests.planned import facts
from tunetrail.plan.rules import fit
from tunetrail.units import GIB


@pytest.mark.parametrize(
    ("micro", "number", "expected"), [(8, 16, (8, 2)), (8, 12, (8, 1)), (8, 109, (8, 13)), (8, 3, (3, 1)), (1, 5, (1, 5))]
)
def test_a_step_of_about_this_many_sequences_keeps_the_micro_batch_where_possible(micro, number, expected):
    settings = fit.batch({"micro_batch_size": micro}, number)
    assert tuple(settings.values()) == expected
    assert list(settings) == ["train.micro_batch_size", "train.gradient_accumulation_steps"]


def test_a_config_without_accumulation_takes_one_micro_batch_a_step():
    assert fit.blocks({"micro_batch_size": 4, "gradient_accumulation_steps": None}) == 4
    assert fit.blocks({"micro_batch_size": 4, "gradient_accumulation_steps": 3}) == 12


def test_lengths_are_rounded_up_to_64():
    assert [fit.rounded(length) for length in (1, 64, 65)] == [64, 64, 128]


@pytest.mark.parametrize(
    ("number", "free", "first"),
    [
        *((4, 80, "train.save_total_limit"), (4, 79, "train.save_strategy")),  # four become two: the kept one and the next
        *((2, 81, "train.save_strategy"), (4, 60, "train.save_strategy"), (4, 59, None), (2, 79, None), (0, 99, None)),
    ],
)
def test_checkpoints_are_limited_or_else_left_out_if_that_is_enough(composed, number, free, first):
    values = composed("train.save_strategy=epoch")
    figures = {"checkpoints": number, "checkpoint": 10 * GIB, "total": 100 * GIB, "free": free * GIB}
    settings = fit.disk(values, facts(values, disk=figures))
    assert next(iter(settings or {}), None) == first


@pytest.mark.parametrize(
    ("batch", "dtype", "capacity", "expected"),
    [
        # 15 GiB of weights, 1.5 GiB for the driver, and 0.2 GiB a row.
        *((128, "bfloat16", 44.5, {"evaluate.batch_size": 64}), (128, "bfloat16", 42.5, {"evaluate.batch_size": 64})),
        *((100, "bfloat16", 32, {"evaluate.batch_size": 64}), (128, "bfloat16", 29, {"evaluate.batch_size": 32})),
        *((128, "bfloat16", 17.6, {"evaluate.batch_size": 1}), (128, "bfloat16", 17.4, None)),
        *((128, "bfloat16", 14, None), ("auto", "bfloat16", 14, None)),
        (128, "float32", 49, {"evaluate.batch_size": 32}),
    ],
)
def test_the_evaluation_batch_shrinks_until_it_fits_beside_the_weights(composed, batch, dtype, capacity, expected):
    values = composed("experiment=llama3_8b_alpaca", f"evaluate.batch_size={batch}", f"evaluate.model_args.dtype={dtype}")
    planned = facts(values, device={"count": 1}, memory={"capacity": capacity * GIB})
    assert fit.evaluation(values, planned) == expected


def test_the_settings_of_a_fix_are_those_of_conf(composed):
    """A fix tries the keys that its option of conf/ sets."""
    lora, qlora = (composed(f"experiment=llama3_8b_alpaca_{name}")["train"] for name in ("lora", "qlora"))
    assert {key: lora[key] for key in fit.LORA} == fit.LORA
    assert {key: qlora[key] for key in fit.QLORA} == fit.QLORA
    assert lora["learning_rate"] == qlora["learning_rate"] == fit.ADAPTERS_RATE["train.learning_rate"]
    sharded = composed("experiment=llama3_8b_alpaca", "hardware=[cuda,fsdp2]")["train"]
    assert sharded["fsdp_config"].items() >= fit.FSDP2["fsdp_config"].items()
    assert {key: sharded[key] for key in fit.FSDP2 if key != "fsdp_config"}.items() <= fit.FSDP2.items()
    assert composed("method=full_8bit")["train"]["optimizer"] == fit.EIGHT_BIT["optimizer"]
    held_out = composed("prepare=file", "prepare.path=rows.jsonl")["prepare"]["validation_rows"]
    assert held_out == fit.HELD_OUT["prepare.validation_rows"]
