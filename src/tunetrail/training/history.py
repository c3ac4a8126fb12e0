"""The trainer's logged steps <-> a history file: one JSON object for each step, appended during training.

The live curve in MLflow, a cached stage and a later upload all read this file.
"""

import json
from pathlib import Path
from typing import Any

from tunetrail.data import jsonlines

# The trainer's key: our name for the metric. Its other keys (GPU memory, runtimes, which `time/` has) are left out.
NAMES = {
    "loss": "train/loss",
    "eval_loss": "validation/loss",
    "learning_rate": "train/learning_rate",
    "grad_norm": "train/grad_norm",
    "epoch": "train/epoch",
    "tokens/train_per_sec_per_gpu": "train/supervised_tokens_per_second",
    "tokens/total": "train/tokens",
    "tokens/trainable": "train/supervised_tokens",
}


def append(path: Path, step: int, time: float, logs: dict[str, Any]) -> None:
    """Append one logged step. `time` is in seconds since 1970; some of the trainer's values are text."""
    metrics = {NAMES[key]: float(value) for key, value in logs.items() if key in NAMES}
    if metrics:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "time": round(time, 3), **metrics}) + "\n")


def read(path: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Return the whole lines from byte `offset` on, and the offset to continue at."""
    if not path.is_file():
        return [], 0
    with path.open("rb") as file:
        file.seek(max(offset - 1, 0))
        if offset and file.read(1) != b"\n":  # `cut` has shortened the file
            offset = 0
        file.seek(offset)
        text = file.read()
    complete = text[: text.rfind(b"\n") + 1]
    rows = jsonlines.whole(complete, step=int, time=(int, float))
    numbers = [{key: value for key, value in row.items() if isinstance(value, int | float)} for row in rows]
    return numbers, offset + len(complete)


def cut(path: Path, step: int) -> None:
    """Drop what was logged after `step`, from which training continues."""
    text = "".join(json.dumps(row) + "\n" for row in read(path)[0] if row["step"] <= step).encode()
    if path.is_file() and path.read_bytes() != text:  # later steps, or a killed training's unfinished line
        path.write_bytes(text)


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the last step, and the last training and validation loss (nats per token; None if there is none)."""

    def last(name: str) -> float | None:
        return next((row[name] for row in reversed(rows) if name in row), None)

    return {"steps": rows[-1]["step"] if rows else 0, "loss": last("train/loss"), "validation_loss": last("validation/loss")}
