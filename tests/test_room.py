"""The arithmetic of what makes room; which settings come when is test_refusals'."""

import pytest

from tests.planned import GIB, facts
from tunetrail.plan import room


@pytest.mark.parametrize(
    ("micro", "number", "halved", "expected"),
    [(8, 16, False, (8, 2)), (8, 12, False, (6, 2)), (8, 3, False, (3, 1)), (8, 16, True, (4, 4)), (1, 5, True, (1, 5))],
)
def test_a_step_of_so_many_sequences_holds_as_many_at_once_as_fit(micro, number, halved, expected):
    found = room.batch({"micro_batch_size": micro}, number, halved)
    assert tuple(found.values()) == expected
    assert list(found) == ["train.micro_batch_size", "train.gradient_accumulation_steps"]


def test_a_config_without_accumulation_takes_one_micro_batch_a_step():
    assert room.blocks({"micro_batch_size": 4, "gradient_accumulation_steps": None}) == 4
    assert room.blocks({"micro_batch_size": 4, "gradient_accumulation_steps": 3}) == 12


def test_lengths_are_rounded_up_to_64():
    assert [room.rounded(length) for length in (1, 64, 65)] == [64, 64, 128]


@pytest.mark.parametrize(
    ("number", "free", "first"),
    [
        *((4, 80, "train.save_total_limit"), (4, 79, "train.save_strategy")),  # two of four go: one is there beside the next
        *((2, 81, "train.save_strategy"), (4, 60, "train.save_strategy"), (4, 59, None), (2, 79, None), (0, 99, None)),
    ],
)
def test_checkpoints_are_limited_then_left_out_as_long_as_that_is_enough(composed, number, free, first):
    values = composed()
    figures = {"checkpoints": number, "checkpoint": 10 * GIB, "total": 100 * GIB, "free": free * GIB}
    assert next(iter(room.disk(values, facts(values, disk=figures))), None) == first


def test_a_paged_optimiser_is_not_what_is_too_much_on_a_gpu(composed):
    values = composed("hardware=cuda", "experiment=llama3_8b_alpaca")
    parts = {"weights": 16 * GIB, "optimiser (paged)": 900 * GIB, "activations": 80 * GIB}
    found = facts(values, memory={"parts": parts, "capacity": 79 * GIB, "fits": False})
    assert room.memory(values, found) == {"train.gradient_checkpointing": True}


@pytest.mark.parametrize(
    ("batch", "dtype", "needed", "capacity", "expected"),
    [
        # 15 GiB of weights, and half a GiB a row.
        *((128, "bfloat16", 79, 78, {"evaluate.batch_size": 64}), (128, "bfloat16", 79, 46, {"evaluate.batch_size": 32})),
        *((128, "bfloat16", 79, 15.6, {"evaluate.batch_size": 1}), (128, "bfloat16", 79, 15.2, {"model": "smollm2_135m"})),
        *((128, "bfloat16", 79, 14, {"model": "smollm2_135m"}), ("auto", "bfloat16", 79, 78, {"model": "smollm2_135m"})),
        (128, "float32", 94, 46, {"evaluate.batch_size": 32}),  # 30 GiB of weights
    ],
)
def test_a_batch_shrinks_to_what_has_room_beside_the_weights(composed, batch, dtype, needed, capacity, expected):
    values = composed("experiment=llama3_8b_alpaca", f"evaluate.batch_size={batch}", f"evaluate.model_args.dtype={dtype}")
    memory = {"evaluation": needed * GIB, "capacity": capacity * GIB}
    assert room.evaluation(values, facts(values, memory=memory)) == expected
