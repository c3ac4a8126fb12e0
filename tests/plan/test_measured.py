"""Measured speeds of earlier runs, for the next plan."""

import json

import pytest

from tests.planned import changed, facts
from tunetrail.plan import measured
from tunetrail.plan.estimate.memory import LIGER

KIND = ["cpu", 1, 32, None, False, False]
FACTS = changed(
    facts({"name": "demo", "contract": {"license": None}, "train": {"micro_batch_size": 1, "learning_rate": 1e-3}}),
    device={"name": "cpu", "count": 1},
    model={"parameters": 800_000},
    steps={"batches": 20, "total": 10},
    flops={"training": 9e12, "validation": 1e12, "recomputed": 0.0},
    time={"aside_s": 0.0, "kind": KIND},
    evaluation={"expected_s": 50.0},
)
HISTORY = [{"step": step, "time": 1000.0 + 10 * step} for step in range(1, 11)]
SECONDS = {"time/train_s": 130.0, "time/evaluate_base_s": 20.0, "time/evaluate_tuned_s": 30.0}


def test_a_run_records_the_speed_of_its_loop_and_its_start_up_time(tmp_path):
    measured.add(tmp_path, FACTS, SECONDS, HISTORY)
    run = measured.nearest(tmp_path, KIND, 10**6)
    assert run["flops_per_s"] == pytest.approx(1e11)
    assert run["start_s"] == 30.0
    assert run["evaluation"] == 0.5


def test_a_run_that_stopped_early_has_the_speed_of_its_finished_steps(tmp_path):
    measured.add(tmp_path, FACTS, SECONDS, HISTORY[:5])
    assert measured.nearest(tmp_path, KIND, 10**6)["flops_per_s"] == pytest.approx(1e11)


def test_a_run_whose_training_came_from_the_cache_records_no_speed(tmp_path):
    measured.add(tmp_path, FACTS, {"time/report_s": 1.0}, HISTORY)
    measured.add(tmp_path, FACTS, SECONDS, HISTORY[:1])
    assert measured.nearest(tmp_path, KIND, 10**6) is None


def test_a_run_planned_without_steps_records_no_speed(tmp_path):
    measured.add(tmp_path, changed(FACTS, steps={"batches": 0, "total": 0}), SECONDS, HISTORY)
    assert measured.nearest(tmp_path, KIND, 10**6) is None


@pytest.mark.parametrize(
    ("device", "train", "expected"),
    [
        ("cpu", {}, ["cpu", 1, 32, None, False, False]),
        ("t4", {"fp16": True, "adapter": "lora"}, ["t4", 1, 16, "lora", False, False]),
        ("h100", {"bf16": "auto", "gradient_checkpointing": True, "plugins": [LIGER]}, ["h100", 1, 16, None, True, True]),
    ],
)
def test_the_kind_of_a_run_has_everything_that_its_speed_depends_on(device, train, expected):
    assert measured.kind(device, 1, train) == expected


def test_the_run_with_the_nearest_model_counts_and_among_equals_the_last(tmp_path):
    for parameters, seconds in ((800_000, 130.0), (10**9, 230.0), (800_000, 140.0)):
        measured.add(
            tmp_path, changed(FACTS, model={"parameters": parameters}), SECONDS | {"time/train_s": seconds}, HISTORY
        )
    assert measured.nearest(tmp_path, KIND, 10**6)["start_s"] == 40.0
    assert measured.nearest(tmp_path, KIND, 8 * 10**8)["start_s"] == 130.0


def test_a_run_of_another_kind_is_ignored(tmp_path):
    measured.add(tmp_path, FACTS, SECONDS, HISTORY)
    assert measured.nearest(tmp_path, ["h200", 1, 32, None, False, False], 10**6) is None
    assert measured.nearest(tmp_path, ["cpu", 1, 32, "lora", False, False], 10**6) is None


def test_a_line_that_a_killed_run_left_incomplete_is_ignored(tmp_path):
    measured.add(tmp_path, FACTS, SECONDS, HISTORY)
    with (tmp_path / measured.FILE).open("a") as file:
        file.write(json.dumps({"kind": KIND})[:-4] + "\n")
    assert measured.nearest(tmp_path, KIND, 10**6)["evaluation"] == 0.5
