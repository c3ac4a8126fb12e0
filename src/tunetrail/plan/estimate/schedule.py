"""An Axolotl config and the number of steps -> the warm-up's length, and the learning rate at each optimiser step.

The usual schedulers of transformers 5.16 (optimization.py) and Axolotl 0.19 (utils/schedulers.py) are computed here, as the
trainer uses them: the first step of a warm-up has a rate of 0. Axolotl's own trainer is asked for the rates of the others.
Not known: schedulers that go by the validation loss, jagged restarts, a plug-in's own and DeepSpeed's, and the
rates of `lr_groups` and `loraplus_lr_ratio`.
"""

import math
import tempfile
from typing import Any

import numpy as np

from tunetrail import UserError, tool_queries

_COMPUTED = ("linear", "cosine", "constant", "constant_with_warmup")
# Axolotl's trainer is asked for these, which are rarely used: computing each would take twenty lines.
_ASKED = ("cosine_with_restarts", "polynomial", "inverse_sqrt", "cosine_with_min_lr", "cosine_warmup_with_min_lr")
_ASKED += ("warmup_stable_decay", "rex", "one_cycle")
_ASKED_KEYS = ("lr_scheduler", "lr_scheduler_kwargs", "learning_rate", "lr_quadratic_warmup", "cosine_min_lr_ratio")
_ASKED_KEYS += ("cosine_constant_lr_ratio",)


def warmup(train: dict[str, Any], total: int, counted: int | None = None) -> int:
    """Return the steps of warm-up (core/builders/base.py); 3 % and at most 100 if the config does not say.

    `total`: steps that are taken. `counted`: `packing.Steps.counted`, where max_steps asks for more than the epochs hold.
    """
    counted = total if counted is None else counted
    steps, ratio = train.get("warmup_steps"), train.get("warmup_ratio")
    if steps is None and counted:
        steps = min(int(0.03 * counted), 100) if ratio is None else max(int(ratio * counted), 0)
    elif steps is None:
        steps = 0.03 if ratio is None else ratio
    steps = 2 if steps == 1 else steps  # Axolotl's own rule
    return int(steps) if steps >= 1 else math.ceil(steps * total)


def rates(train: dict[str, Any], total: int, counted: int | None = None) -> np.ndarray | None:
    """Return the rate at each optimiser step, (total,); None for a scheduler not known. `counted` as for `warmup`.

    Raises:
        UserError: Axolotl's trainer refuses the scheduler's lr_scheduler_kwargs, or this length of warm-up.
    """
    name, steps = train.get("lr_scheduler") or "cosine", warmup(train, total, counted)
    if train.get("jagged_restart_steps") or name not in (*_COMPUTED, *_ASKED):
        return None
    if not total:
        return np.zeros(0)
    plain = name in ("constant", "constant_with_warmup") or not train.get("lr_scheduler_kwargs")
    if name in _COMPUTED and plain:
        return float(train["learning_rate"]) * _shares(name, np.arange(total), steps, total, train)
    keys = {key: train[key] for key in _ASKED_KEYS if train.get(key) is not None}
    question = keys | {"warmup_steps": steps, "max_steps": total}
    answer = tool_queries.ask("plan.estimate.schedule", question, f"asking Axolotl for the rates of {name}")()
    if isinstance(answer, str):
        raise UserError(
            f"train.lr_scheduler={name} with {steps:,} of {total:,} steps of warm-up: Axolotl's trainer stops with "
            f"{answer!r}. Change train.lr_scheduler_kwargs or the warm-up."
        )
    return np.array(answer)


def answer(question: dict[str, Any]) -> list[float] | str:
    """Return the rates of Axolotl's own trainer with these keys of its config, or its scheduler's error. Imports Axolotl;
    `tool_queries` calls it in a process of its own."""
    import torch
    from axolotl.core.builders import HFCausalTrainerBuilder
    from axolotl.core.trainers.mixins.scheduler import SchedulerMixin
    from axolotl.core.training_args import AxolotlTrainingArguments
    from axolotl.utils.dict import DictDefault

    trainer, rates = SchedulerMixin.__new__(SchedulerMixin), []
    with tempfile.TemporaryDirectory() as folder:
        own = {"output_dir": folder, "optimizer": "sgd", "micro_batch_size": 1, "num_epochs": 1.0, "val_set_size": 0}
        cfg = DictDefault(own | question)
        arguments, _ = HFCausalTrainerBuilder(cfg, None, None)._set_base_training_args(question["max_steps"])
        trainer.args = AxolotlTrainingArguments(**arguments, lr_quadratic_warmup=cfg.lr_quadratic_warmup, use_cpu=True)
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=trainer.args.learning_rate, momentum=0.9)
    trainer.lr_scheduler = None
    try:
        scheduler = trainer.create_scheduler(question["max_steps"], optimiser)
        for _ in range(question["max_steps"]):
            rates.append(optimiser.param_groups[0]["lr"])
            optimiser.step()
            scheduler.step()
    except (TypeError, ValueError, ArithmeticError) as error:
        return str(error)
    return rates


def _shares(name: str, at: np.ndarray, warmup: int, total: int, train: dict[str, Any]) -> np.ndarray:
    """Return the shares of train.learning_rate, (steps,), at the steps `at` of `total`; the first `warmup` warm up."""
    climb = at / max(1, warmup)
    progress = (at - warmup) / max(1, total - warmup)  # 0 at the end of the warm-up, 1 at the end
    if name == "constant":
        return np.ones(total)
    if name == "constant_with_warmup":
        after = np.ones(total)
    elif name == "linear":
        after = 1.0 - progress
    elif train.get("lr_quadratic_warmup"):
        climb, after = climb**2, _half_wave(progress)
    elif lowest := train.get("cosine_min_lr_ratio"):  # down to it within a share of the steps, and constant from there
        end = int(total * (train.get("cosine_constant_lr_ratio") or 1.0))
        after = (1.0 - lowest) * _half_wave((np.minimum(at, end) - warmup) / max(1, end - warmup)) + lowest
    else:
        after = _half_wave(progress)
    return np.where(at < warmup, climb, after)


def _half_wave(progress: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.cos(np.pi * progress))
