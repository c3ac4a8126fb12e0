"""The arithmetic of what makes room; which settings come when is test_stops'."""

import pytest

from tests.planned import facts
from tunetrail.plan.rules import fit
from tunetrail.units import GIB


@pytest.mark.parametrize(
    ("micro", "number", "expected"), [(8, 16, (8, 2)), (8, 12, (8, 1)), (8, 109, (8, 13)), (8, 3, (3, 1)), (1, 5, (1, 5))]
)
def test_a_step_of_about_so_many_sequences_holds_as_many_at_once_as_now(micro, number, expected):
    found = fit.batch({"micro_batch_size": micro}, number)
    assert tuple(found.values()) == expected
    assert list(found) == ["train.micro_batch_size", "train.gradient_accumulation_steps"]


def test_a_config_without_accumulation_takes_one_micro_batch_a_step():
    assert fit.blocks({"micro_batch_size": 4, "gradient_accumulation_steps": None}) == 4
    assert fit.blocks({"micro_batch_size": 4, "gradient_accumulation_steps": 3}) == 12


def test_lengths_are_rounded_up_to_64():
    assert [fit.rounded(length) for length in (1, 64, 65)] == [64, 64, 128]


@pytest.mark.parametrize(
    ("number", "free", "first"),
    [
        *((4, 80, "train.save_total_limit"), (4, 79, "train.save_strategy")),  # two of four go: one is there beside the next
        *((2, 81, "train.save_strategy"), (4, 60, "train.save_strategy"), (4, 59, None), (2, 79, None), (0, 99, None)),
    ],
)
def test_checkpoints_are_limited_then_left_out_as_long_as_that_is_enough(composed, number, free, first):
    values = composed("train.save_strategy=epoch")
    figures = {"checkpoints": number, "checkpoint": 10 * GIB, "total": 100 * GIB, "free": free * GIB}
    found = fit.disk(values, facts(values, disk=figures))
    assert next(iter(found or {}), None) == first


@pytest.mark.parametrize(
    ("batch", "dtype", "capacity", "expected"),
    [
        # 15 GiB of weights, 1.5 of what the driver takes, and a fifth of a GiB a row.
        *((128, "bfloat16", 44.5, {"evaluate.batch_size": 64}), (128, "bfloat16", 42.5, {"evaluate.batch_size": 64})),
        *((100, "bfloat16", 32, {"evaluate.batch_size": 64}), (128, "bfloat16", 29, {"evaluate.batch_size": 32})),
        *((128, "bfloat16", 17.6, {"evaluate.batch_size": 1}), (128, "bfloat16", 17.4, None)),
        *((128, "bfloat16", 14, None), ("auto", "bfloat16", 14, None)),
        (128, "float32", 49, {"evaluate.batch_size": 32}),
    ],
)
def test_a_batch_shrinks_to_what_has_room_beside_the_weights(composed, batch, dtype, capacity, expected):
    values = composed("experiment=llama3_8b_alpaca", f"evaluate.batch_size={batch}", f"evaluate.model_args.dtype={dtype}")
    found = facts(values, device={"count": 1}, memory={"capacity": capacity * GIB})
    assert fit.evaluation(values, found) == expected


@pytest.mark.parametrize(
    ("words", "device", "bf16", "expected"),
    [
        ((), "mi300x", True, {}),
        ((), "t4", False, {"bf16": False, "fp16": False}),
        (("method=lora",), "t4", False, {"bf16": False, "fp16": True}),
        (("method=lora",), "cpu", False, {"bf16": False, "fp16": False}),
        (("train.bf16=false",), "t4", False, {}),
    ],
)
def test_without_bfloat16_an_adapter_is_trained_in_float16_and_all_weights_in_float32(
    composed, words, device, bf16, expected
):
    train = composed("experiment=llama3_8b_alpaca", *words)["train"]
    assert fit.precision(train, device, bf16) == expected
    assert fit.with_supported_precision(train, device, bf16) == train | expected


def test_the_settings_of_an_adapter_are_those_of_its_method(composed):
    train = composed("method=lora")["train"]
    assert {key: train[key] for key in fit.LORA} == fit.LORA
