"""The seconds that runs on this machine took -> the speeds that the next plan uses.

One line a run in `work/shared/`, which a sweep's worktrees share.
"""

import json
import math
from pathlib import Path
from typing import Any

from tunetrail.data import jsonlines
from tunetrail.plan.estimate import pace
from tunetrail.plan.estimate.memory import LIGER
from tunetrail.plan.facts import Facts

FILE = Path("work/shared/measured.jsonl")


def kind(device: str, count: int, train: dict[str, Any]) -> list[Any]:
    """Return what two runs must have in common so that the speed of one predicts that of the other."""
    bits = 16 if train.get("bf16") or train.get("fp16") else 32
    recomputes = bool(train.get("gradient_checkpointing"))
    return [device, count, bits, train.get("adapter"), recomputes, LIGER in (train.get("plugins") or [])]


def add(root: Path, facts: Facts, seconds: dict[str, float], history: list[dict[str, Any]]) -> None:
    """Record the speed of a run that trained: `seconds` by stage (`time/train_s`), `history` its logged steps."""
    if len(history) < 3 or not facts.steps.total or "time/train_s" not in seconds:
        return
    first, last = history[0], history[-1]
    if last["time"] <= first["time"] or last["step"] <= first["step"]:
        return
    # The start of the first steps is not logged: they are taken to be as fast as the others.
    loop_s = (last["time"] - first["time"]) * last["step"] / (last["step"] - first["step"])
    evaluations = [seconds[key] for key in ("time/evaluate_base_s", "time/evaluate_tuned_s") if key in seconds]
    line = {
        "kind": facts.time.kind,
        "parameters": facts.model.parameters,
        "evaluation": sum(evaluations) / len(evaluations) / facts.evaluation.expected_s if evaluations else None,
    }
    share = last["step"] / facts.steps.total  # below 1 if it was stopped early
    trained = pace.Training(share * facts.flops.total, share * facts.steps.batches, share * facts.steps.total)
    start = max(seconds["time/train_s"] - loop_s, 0.0)
    line |= pace.measured(trained, facts.model.shape.num_hidden_layers, share * facts.time.aside_s, loop_s, start)
    file = root / FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as lines:
        lines.write(json.dumps(line) + "\n")


def nearest(root: Path, wanted: list[Any], parameters: int) -> dict[str, Any] | None:
    """Return the run of the `wanted` kind whose model is nearest in size, the last of several; None if there is none."""
    file = root / FILE
    lines = jsonlines.whole(file.read_bytes(), kind=list, parameters=int) if file.is_file() else []
    runs = [line for line in reversed(lines) if line["kind"] == wanted]
    return min(runs, key=lambda line: abs(math.log(line["parameters"] / parameters)), default=None)
