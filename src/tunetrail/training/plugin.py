"""Axolotl's plug-in that seeds random weights and writes the history file; Axolotl loads it by its key `plugins`.

It stops a training whose loss is NaN. It knows nothing of the tracking server, so a server that is slow or down cannot stop
training (`tracking.mlflow_run` reads the file).
"""

import gc
import math
import time
from pathlib import Path

from axolotl.integrations.base import BasePlugin
from transformers import TrainerCallback, set_seed

from tunetrail.training import history


class HistoryPlugin(BasePlugin):
    """Adds the callback that writes `history.jsonl` in Axolotl's output_dir, and seeds what is random before training."""

    def register(self, cfg):
        # Axolotl collects garbage after it packs rows, five times and more for a training and again for each evaluation.
        # What its imports leave is never garbage, and searching it took 0.5 to 0.8 s each time on two cores.
        if not gc.get_freeze_count():
            gc.freeze()

    def pre_model_load(self, cfg):
        # Axolotl sets its seed only with the trainer: the weights of a new model or adapter would differ each time.
        set_seed(42 if cfg.seed is None else cfg.seed)  # 42 is the trainer's default

    def add_callbacks_pre_trainer(self, cfg, model):
        return [HistoryCallback(Path(cfg.output_dir) / "history.jsonl")]


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
