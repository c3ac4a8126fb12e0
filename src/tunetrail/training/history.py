"""The trainer's logged steps <-> a history file: one JSON object a step, appended as training goes.

The file is the truth and MLflow a view of it, so a live curve, a cached stage and a later upload all read the same lines.
"""

import json
from pathlib import Path
from typing import Any

# The trainer's key: our name for it, as it is drawn and tracked. Its other keys (memory on a GPU that is not there,
# runtimes that `time/` has) are left out.
NAMES = {
    "loss": "train/loss",
    "eval_loss": "validation/loss",
    "learning_rate": "train/learning_rate",
    "grad_norm": "train/grad_norm",
    "epoch": "train/epoch",
    "tokens/train_per_sec_per_gpu": "train/tokens_per_second",
    "tokens/total": "train/tokens",
    "tokens/trainable": "train/supervised_tokens",
}


def append(path: Path, step: int, time: float, logs: dict[str, Any]) -> None:
    """Add one logged step. `time` is seconds since 1970; the trainer hands its figures partly as text."""
    metrics = {NAMES[key]: float(value) for key, value in logs.items() if key in NAMES}
    if metrics:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "time": round(time, 3), **metrics}) + "\n")


def read(path: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """The whole lines from byte `offset` on, and the offset at which to go on; a line still being written waits."""
    if not path.is_file():
        return [], 0
    with path.open("rb") as file:
        file.seek(max(offset - 1, 0))
        if offset and file.read(1) != b"\n":  # `cut` has made it shorter
            offset = 0
        file.seek(offset)
        text = file.read()
    whole = text[: text.rfind(b"\n") + 1]
    return [json.loads(line) for line in whole.splitlines()], offset + len(whole)


def cut(path: Path, step: int) -> None:
    """Drop what was logged after `step`: training goes on from there, and its curve must not fold back."""
    kept = "".join(json.dumps(row) + "\n" for row in read(path)[0] if row["step"] <= step)
    if path.is_file() and path.read_text(encoding="utf-8") != kept:  # later steps, or a half line of a killed training
        path.write_text(kept, encoding="utf-8")


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The last step, and the last training and validation loss (nats a token; None where there is none)."""

    def last(name: str) -> float | None:
        return next((row[name] for row in reversed(rows) if name in row), None)

    return {"steps": rows[-1]["step"] if rows else 0, "loss": last("train/loss"), "validation_loss": last("validation/loss")}
