"""Axolotl's plug-in: the seeds, the order of rows, the history file, the checkpoints' manifests; in Axolotl's key `plugins`.

What is drawn depends on the seed and the epoch alone, so that a resumed training draws what an unbroken one does. A training
whose loss is NaN is stopped. The plug-in knows nothing of the tracking server, so a server that is slow or down cannot stop
training (`tracking.mlflow_run` reads the file).
"""

import functools
import gc
import itertools
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from axolotl.core.trainers import base
from axolotl.integrations.base import BasePlugin
from axolotl.utils import trainer
from torch.utils.data import RandomSampler
from transformers import TrainerCallback, set_seed

from tunetrail.training import history, manifest, order


class HistoryPlugin(BasePlugin):
    """Adds the callbacks that write `history.jsonl` and the manifests of checkpoints in Axolotl's output_dir, and seeds what
    is random."""

    def register(self, cfg):
        # Axolotl packs rows in the order of a sampler without a seed, here and where it counts the steps.
        base.RandomSampler = trainer.RandomSampler = functools.partial(EpochSampler, seed=_seed(cfg))
        # Axolotl collects garbage after it packs rows, five times and more for a training and again for each evaluation.
        # What its imports leave is never garbage, and searching it took 0.5 to 0.8 s each time on two cores.
        if not gc.get_freeze_count():
            gc.freeze()

    def pre_model_load(self, cfg):
        # Axolotl sets its seed only with the trainer: the weights of a new model or adapter would differ each time.
        set_seed(_seed(cfg))

    def add_callbacks_pre_trainer(self, cfg, model):
        return [HistoryCallback(Path(cfg.output_dir) / "history.jsonl"), CheckpointCallback()]


def _seed(cfg: dict[str, Any]) -> int:
    seed = cfg.get("seed")
    return 42 if seed is None else seed  # the trainer's default


class EpochSampler(RandomSampler):
    """Yields the rows of a data set in the order of an epoch (`order.rows`).

    Before `set_epoch` is called, each pass is the next epoch's: Axolotl throws away its first pass, counts the packs of the
    next ones, and trains on as many packs in each epoch as the smallest of these has.
    """

    def __init__(self, dataset, seed: int):
        super().__init__(dataset)
        self.seed = seed
        self.epochs = itertools.chain([0], itertools.count())

    def set_epoch(self, epoch: int) -> None:
        self.epochs = itertools.repeat(epoch)

    def __iter__(self) -> Iterator[int]:
        return iter(order.rows(self.seed, next(self.epochs), len(self.data_source)).tolist())


class CheckpointCallback(TrainerCallback):
    """Sets the epoch of samplers that the trainer does not reach, and writes the manifest of each checkpoint."""

    def on_train_begin(self, args, state, control, **kwargs):
        self.epochs = itertools.count(int(state.epoch or 0))
        if state.global_step:  # this is not the start: an unbroken training does not evaluate here
            args.eval_on_start = False

    def on_epoch_begin(self, args, state, control, train_dataloader=None, **kwargs):
        epoch, sampler = next(self.epochs), train_dataloader
        # With several processes, accelerate wraps Axolotl's sampler, which then packs the rows only once.
        while sampler := getattr(sampler, "batch_sampler", None):
            for stage in (sampler, getattr(sampler, "sampler", None)):
                if hasattr(stage, "set_epoch"):
                    stage.set_epoch(epoch)

    def on_step_end(self, args, state, control, **kwargs):
        # A checkpoint does not have the losses since the last logged step.
        control.should_log |= control.should_save

    def on_save(self, args, state, control, **kwargs):
        if args.save_only_model:  # nothing can go on from it
            return
        if torch.distributed.is_initialized():
            torch.distributed.barrier()  # each process writes its own random state
        if state.is_world_process_zero:
            manifest.write(Path(args.output_dir) / f"checkpoint-{state.global_step}")


class HistoryCallback(TrainerCallback):
    """Appends what the trainer logs; only the first process of a distributed run writes."""

    def __init__(self, path: Path):
        self.path = path
        self.nan_steps = 0

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            history.cut(self.path, state.global_step)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if state.is_world_process_zero:
            history.append(self.path, state.global_step, time.time(), logs or {})
        # transformers replaces a NaN loss by the mean loss (logging_nan_inf_filter), but not a NaN gradient norm. With
        # float16 scaling a single norm may be NaN.
        values = [float((logs or {}).get(key, 0)) for key in ("loss", "eval_loss", "grad_norm")]
        if any(map(math.isnan, values)) or math.isinf(values[0]):
            self.nan_steps += 1
            if self.nan_steps == 2 or not math.isfinite(values[0]):
                raise FloatingPointError(
                    f"the loss or its gradient is NaN at step {state.global_step}: training cannot recover. Lower "
                    "train.learning_rate, or set train.max_grad_norm=1"
                )
        elif "loss" in (logs or {}):
            self.nan_steps = 0
