"""Evaluations and checkpoints; test_packing compares them with a real training of Axolotl."""

import pytest

from tunetrail.plan.estimate import frequency

VALIDATED = {"num_epochs": 3, "test_datasets": [{}]}


@pytest.mark.parametrize(
    ("keys", "times"),
    [
        ({}, 0),
        ({"evals_per_epoch": 2}, 7),
        ({"evals_per_epoch": 1, "num_epochs": 1}, 0),  # Axolotl skips it, since its eval_steps would be 1.0
        ({"eval_steps": 7}, 6),  # of 30 steps, and after the last
        ({"eval_steps": 10}, 4),
        ({"eval_steps": 0.5}, 3),
        ({"eval_strategy": "epoch"}, 4),
        ({"eval_strategy": "no"}, 1),  # before the first step in any case
        ({"eval_strategy": "steps"}, 31),
        ({"eval_strategy": "steps", "logging_steps": 20}, 3),
        ({"eval_steps": 10, "test_datasets": None, "val_set_size": 0.0}, 0),
        ({"eval_steps": 10, "test_datasets": None, "val_set_size": 0.1}, 4),
    ],
)
def test_the_trainer_evaluates_before_the_first_step_and_after_the_last(keys, times):
    assert frequency.evaluations(VALIDATED | keys, 30) == times


@pytest.mark.parametrize(
    ("keys", "written"),
    [
        ({}, (3, 3)),
        ({"save_strategy": "no"}, (0, 0)),
        ({"save_strategy": "no", "saves_per_epoch": 4}, (10, 5)),  # saves_per_epoch wins; every third of 30 steps
        ({"save_steps": 4}, (8, 5)),
        ({"save_steps": 4, "save_total_limit": 1}, (8, 2)),
        ({"save_steps": 4, "save_total_limit": 1, "eval_steps": 4}, (8, 2)),
        ({"save_steps": 4, "save_total_limit": 1, "eval_steps": 4, "load_best_model_at_end": True}, (8, 3)),
        ({"save_steps": 4, "save_total_limit": 1, "eval_steps": 3, "load_best_model_at_end": True}, (8, 2)),
        ({"save_strategy": "steps"}, (1, 1)),
        ({"save_strategy": "best", "metric_for_best_model": "eval_loss", "eval_steps": 10, "save_total_limit": 1}, (3, 3)),
        ({"save_first_step": True}, (4, 4)),
    ],
)
def test_checkpoints_are_written_and_one_more_than_the_limit_is_there_at_once(keys, written):
    assert frequency.saves(VALIDATED | keys, 30) == written


def test_epochs_end_where_max_steps_does():
    keys = VALIDATED | {"eval_strategy": "epoch", "max_steps": 30}
    assert (frequency.evaluations(keys, 30, 8), frequency.saves(keys, 30, 8)) == (5, (4, 4))
    assert (frequency.evaluations(keys, 0, 0), frequency.saves(keys, 0, 0)) == (1, (0, 0))
