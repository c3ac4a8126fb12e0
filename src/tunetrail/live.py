"""Axolotl's plug-in point -> the history file, while training goes on. Loaded by Axolotl through its `plugins:` key.

It knows nothing of the tracking server: a server that is slow or down cannot stop training (`tracking` reads the file).
"""

import time
from pathlib import Path

from axolotl.integrations.base import BasePlugin
from transformers import TrainerCallback

from tunetrail import history


class HistoryPlugin(BasePlugin):
    """Adds the callback that keeps `history.jsonl` in Axolotl's output_dir."""

    def add_callbacks_pre_trainer(self, cfg, model):
        return [HistoryCallback(Path(cfg.output_dir) / "history.jsonl")]


class HistoryCallback(TrainerCallback):
    """Appends what the trainer logs; only the first process of a distributed run writes."""

    def __init__(self, path: Path):
        self.path = path

    def on_log(self, args, state, control, logs=None, **kwargs):
        if state.is_world_process_zero:
            history.append(self.path, state.global_step, time.time(), logs or {})
