"""An Axolotl config and the number of steps -> how often the run evaluates, and how many checkpoints it writes and keeps.

Counted as Axolotl 0.19 sets the trainer's intervals (core/builders), and as the trainer of transformers 5.16 uses them.
"""

import math
from typing import Any


def evaluations(train: dict[str, Any], total: int, per_epoch: int | None = None) -> int:
    """Return how many evaluations there are in `total` steps and before the first. `per_epoch` (`Steps.per_epoch`) counts
    the epochs that max_steps ends."""
    if not (train.get("test_datasets") or train.get("val_set_size")):
        return 0
    logged = train.get("logging_steps") or max(min(int(0.005 * total), 10), 1)
    times = _times(train, "eval", total, per_epoch, logged)
    return times + bool(times or train.get("eval_strategy"))


def saves(train: dict[str, Any], total: int, per_epoch: int | None = None) -> tuple[int, int]:
    """Return how many checkpoints are written, and how many exist at once at most, with the one being written."""
    train = train | {"save_strategy": train.get("save_strategy") or "epoch"}
    written = _times(train, "save", total, per_epoch, 500)  # transformers' save_steps
    if train["save_strategy"] == "best" and not written:  # at most, if each evaluation is better than the one before
        written = max(evaluations(train, total, per_epoch) - 1, 0)
    written += bool(train.get("save_first_step")) and total > 1
    return written, min(written, max(train.get("save_total_limit") or 4, 1 + _keeps_best(train)) + 1)


def _times(train: dict[str, Any], event: str, total: int, per_epoch: int | None, default: int) -> int:
    """Return how often `event` happens; every `default` steps if the config says `steps` and not how many."""
    every, strategy = _every(train, event), train.get(f"{event}_strategy")
    if every or strategy == "steps":
        every = every or default
        return math.ceil(total / (math.ceil(total * every) if every < 1 else every)) if total else 0
    epochs = math.ceil(total / per_epoch) if per_epoch else math.ceil(train.get("num_epochs", 1.0))
    return epochs if strategy == "epoch" and total else 0


def _every(train: dict[str, Any], event: str) -> float | None:
    """Return `eval_steps` or `save_steps` as Axolotl sets it: a number of steps, or a share of all steps if below 1."""
    times = train.get(f"{event}s_per_epoch")
    share = 1.0 / (times * train.get("num_epochs", 1.0)) if times else 1.0
    return share if share < 1.0 else train.get(f"{event}_steps")


def _keeps_best(train: dict[str, Any]) -> bool:
    """Return whether the best checkpoint is kept beside the newest (core/builders/causal.py: load_best_model_at_end)."""
    save, evaluate = _every(train, "save"), _every(train, "eval")
    wanted = train.get("load_best_model_at_end", False) is not False or train.get("early_stopping_patience")
    validated = bool(train.get("test_datasets")) != bool(train.get("val_set_size"))
    best = wanted and validated and save and evaluate and save % evaluate == 0
    return bool(train.get("metric_for_best_model") or best)
