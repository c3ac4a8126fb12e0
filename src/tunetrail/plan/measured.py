"""What runs on this machine took -> the speeds that the next plan reckons with.

One line a run in `work/shared/`, which a sweep's worktrees have in common. Not covered: speeds of other machines.
"""

import contextlib
import json
import math
from pathlib import Path
from typing import Any

PLACE = Path("work/shared/measured.jsonl")


def kind(facts: dict[str, Any], train: dict[str, Any]) -> list[Any]:
    """What must be the same for one run's speed to say something of another's."""
    device, again = facts["device"], bool(train.get("gradient_checkpointing"))
    return [device["name"], device["count"], train.get("adapter"), again]


def add(root: Path, facts: dict[str, Any], train: dict[str, Any], seconds: dict[str, float], history: list[dict]) -> None:
    """Write down what a run took, where it trained: `seconds` by stage (`time/train_s`), `history` its logged steps."""
    times = [row["time"] for row in history]
    if "time/train_s" not in seconds or len(times) < 3 or times[-1] <= times[0]:
        return
    looped = times[-1] - times[0]
    evaluations = [seconds[key] for key in ("time/evaluate_base_s", "time/evaluate_tuned_s") if key in seconds]
    line = {
        "kind": kind(facts, train),
        "parameters": facts["model"]["parameters"],
        "flops_per_s": sum(facts["flops"].values()) / looped,
        "start_s": max(seconds["time/train_s"] - looped, 0.0),
        "evaluation_s": sum(evaluations) / len(evaluations) if evaluations else None,
        "generations": facts["evaluation"]["generations"],
        "tokens_at_most": facts["evaluation"]["tokens_at_most"],
    }
    file = root / PLACE
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as lines:
        lines.write(json.dumps(line) + "\n")


def nearest(root: Path, wanted: list[Any], parameters: int) -> dict[str, Any] | None:
    """Of the runs of that kind the one with the model nearest in size, of several the last; None where there is none."""
    file, alike = root / PLACE, []
    for text in reversed(file.read_text().splitlines() if file.is_file() else []):
        with contextlib.suppress(ValueError):  # half a line of a run that was killed
            line = json.loads(text)
            alike += [line] if line["kind"] == wanted else []
    return min(alike, key=lambda line: abs(math.log(line["parameters"] / parameters)), default=None)
