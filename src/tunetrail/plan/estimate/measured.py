"""What runs on this machine took -> the speeds that the next plan reckons with.

One line a run in `work/shared/`, which a sweep's worktrees have in common. Not covered: speeds of other machines.
"""

import contextlib
import json
import math
from pathlib import Path
from typing import Any

from tunetrail.plan.estimate import pace
from tunetrail.plan.estimate.memory import LIGER

PLACE = Path("work/shared/measured.jsonl")


def kind(facts: dict[str, Any], train: dict[str, Any]) -> list[Any]:
    """What must be the same for one run's speed to say something of another's."""
    device, again, liger = facts["device"], bool(train.get("gradient_checkpointing")), LIGER in (train.get("plugins") or [])
    width = 16 if train.get("bf16") or train.get("fp16") else 32
    return [device["name"], device["count"], width, train.get("adapter"), again, liger]


def add(root: Path, facts: dict[str, Any], seconds: dict[str, float], history: list[dict[str, Any]]) -> None:
    """Write down what a run took, where it trained: `seconds` by stage (`time/train_s`), `history` its logged steps."""
    if len(history) < 3 or not facts["steps"]["total"] or "time/train_s" not in seconds:
        return
    first, last = history[0], history[-1]
    if last["time"] <= first["time"] or last["step"] <= first["step"]:
        return
    # The first steps, of which no beginning is known, are taken to be as fast as the others.
    looped = (last["time"] - first["time"]) * last["step"] / (last["step"] - first["step"])
    evaluations = [seconds[key] for key in ("time/evaluate_base_s", "time/evaluate_tuned_s") if key in seconds]
    line = {
        "kind": facts["time"]["kind"],
        "parameters": facts["model"]["parameters"],
        "evaluation": sum(evaluations) / len(evaluations) / facts["evaluation"]["expected_s"] if evaluations else None,
    }
    share = last["step"] / facts["steps"]["total"]  # less than all, where it was stopped early
    planned = (sum(facts["flops"].values()), facts["steps"]["batches"], facts["steps"]["total"])
    trained = pace.Training(*(share * number for number in planned))
    start = max(seconds["time/train_s"] - looped, 0.0)
    layers, aside = facts["model"]["shape"]["num_hidden_layers"], share * facts["time"]["aside_s"]
    line |= pace.kept(trained, layers, aside, looped, start)
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
