"""Scored answers -> the figures of metrics.json and the table of them; for a run and for answers from elsewhere.

A run has two models, `base` and `tuned`; `tunetrail score` has one, `responses`.
"""

import json
import math
import os
import textwrap
from pathlib import Path
from typing import Any

from tunetrail.evaluation import health, results, scoring
from tunetrail.evaluation.results import Results

# The MLflow run that the stages run for. They do not depend on it, since a run's date and id change no result. If the run is
# killed, the file stays; the variable ends with the processes that the run started.
ABOUT, RUN = Path("work/run.json"), "TUNETRAIL_RUN"
_WIDTH = 120


def measure(by_model: dict[str, Results], stop: str, resamples: int, seed: int) -> dict[str, Any]:
    """Return all figures of one evaluation, as metrics.json has them.

    `ifeval` has the scores as generated, `ifeval_stopped` with every answer cut at `stop`, the start of a new instruction
    block; `types` by instruction type; `health` is that of the answers.

    Raises:
        UserError: the models were evaluated differently.
        ValueError: a loose verdict is below its strict one.
    """
    stopped = {
        model: results.gather(scored.task, scoring.stopped(scored.samples, stop), resamples, seed, scored.digest)
        for model, scored in by_model.items()
    }
    first = next(iter(by_model.values()))
    return {
        "task": first.task,
        "prompts": first.prompts,
        "instructions": first.instructions,
        "size": results.size(first),
        "evaluation_digest": first.digest,
        "ifeval": _scores(by_model, resamples, seed),
        "ifeval_stopped": _scores(stopped, resamples, seed),
        "stop": stop,
        "types": results.by_type(by_model),
        "health": {model: health.figures(scored.samples, stop) for model, scored in by_model.items()},
    }


def _scores(by_model: dict[str, Results], resamples: int, seed: int) -> dict[str, Any]:
    if set(by_model) == {"base", "tuned"}:
        return results.compare(by_model["base"], by_model["tuned"], resamples, seed)
    return results.scores(by_model)


def alerts(metrics: dict[str, Any]) -> list[str]:
    """Return the sentences to read before the scores (`health.alerts`). metrics.json of the first versions has no health."""
    return health.alerts(metrics.get("health", {}))


def table(metrics: dict[str, Any]) -> str:
    """Return alerts, scores and the answers' health as text of at most 120 columns."""
    models = list(metrics["health"])
    lines = [f"{metrics['task']}: {metrics['size']}; accuracy in % with 95 % intervals", ""]
    for sentence in alerts(metrics):
        lines += [*textwrap.wrap(sentence, _WIDTH), ""]
    lines += _score_lines("as generated", metrics["ifeval"], models)
    if any(figures["runs_on"] for figures in metrics["health"].values()):
        lines += _score_lines(f"cut at {metrics['stop']}", metrics["ifeval_stopped"], models)
    else:
        lines += [f"No answer starts a new {metrics['stop']} block: a stop there changes nothing.", ""]
    lines.append(_line("answers", models))
    for name, label in {**health.FIGURES, "mean_tokens": "mean length, tokens", "mean_words": "mean length, words"}.items():
        values = [metrics["health"][model][name] for model in models]
        if None not in values:
            shown = [f"{value:.1f}" if name.startswith("mean") else f"{value:.1%}" for value in values]
            lines.append(_line(label.partition(" (")[0], shown))
    return "\n".join(lines)


def _score_lines(heading: str, scores: dict[str, Any], models: list[str]) -> list[str]:
    lines = [_line(heading, [*models, "difference"] if "delta" in scores else models)]
    for name, (_, label) in results.SCORES.items():
        cells = [interval(scores[model][name]) for model in models]
        if "delta" in scores:
            cells.append(interval(scores["delta"][name], sign="+") + p_value(scores["delta"][name]))
        lines.append(_line(label, cells))
    return [*lines, ""]


def _line(label: str, cells: list[str]) -> str:
    return (f"{label:<36}" + "".join(f"{cell:<22}" for cell in cells)).rstrip()


def about(root: Path) -> dict[str, Any] | None:
    """Return what `run_file.describe` wrote about the MLflow run of the stages in `root`; None outside of a run."""
    run, file = os.environ.get(RUN), root / ABOUT
    if not run or not file.is_file():
        return None
    about = json.loads(file.read_text(encoding="utf-8"))
    return about if about["id"] == run else None


def title(experiment: str, about: dict[str, Any] | None) -> str:
    """Return the title of a run's figures: its experiment; for a job of a sweep also its name, which has what varies."""
    return f"{experiment}: {about['name']}" if about and about["name"] not in (None, "", experiment) else experiment


def training(train: dict[str, Any], processes: Any) -> dict[str, str]:
    """Return the method, optimizer, learning rate, epochs and batch of a training, as text by label.

    `train` is Axolotl's section, or MLflow's params of it, which are text.
    """

    def text(key: str) -> str:
        value = train.get(key)
        return "" if value in (None, "", "None") else str(value)

    adapter = text("adapter")
    rank = [f"{label} {text(key)}" for key, label in (("lora_r", "rank"), ("lora_alpha", "alpha")) if text(key)]
    method = ", ".join([adapter, *rank]) if adapter else "full: every weight"
    rate = " ".join(filter(None, [text("learning_rate"), text("lr_scheduler")]))
    steps = f", at most {text('max_steps')} steps" if text("max_steps") else ""
    parts = [text("micro_batch_size") or "1", text("gradient_accumulation_steps") or "1", str(processes or 1)]
    batch = " x ".join(parts) + " (micro-batch x accumulation x processes)"
    if all(part.isdigit() for part in parts):
        batch = f"{math.prod(map(int, parts))} = {batch}"
    lines = {"method": method, "optimizer": text("optimizer"), "learning rate": rate, "epochs": text("num_epochs") + steps}
    return {label: line for label, line in lines.items() if line} | {"batch": batch}


def interval(score: dict[str, float], sign: str = "") -> str:
    """Return a share, or with `sign` "+" a difference, in per cent: "70.6 [63.2, 77.1]"."""
    value, low, high = (100 * score[end] for end in ("value", "low", "high"))
    return f"{value:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


def p_value(score: dict[str, float]) -> str:
    """Return McNemar's p-value, if there is one: " p = 0.031"."""
    if "p" not in score:
        return ""
    return " p < 0.001" if score["p"] < 0.001 else f" p = {score['p']:.3f}"
