"""Scored answers -> what metrics.json, tables and pages say of them; the same for a run and for answers from elsewhere.

A run has two models, `base` and `tuned`; `tunetrail score` has one, `responses`. Not covered: training, and the data.
"""

import json
import math
import os
import textwrap
from pathlib import Path
from typing import Any

from tunetrail.evaluation import health, results, scoring
from tunetrail.evaluation.results import Results

# Which run the stages run for, where one does: no dependency of theirs, since a run's date and id change no result. The file
# stays behind where the run is killed; the variable ends with the processes that the run started.
ABOUT, RUN = Path("work/run.json"), "TUNETRAIL_RUN"
_WIDTH = 120


def measure(found: dict[str, Results], stop: str, resamples: int, seed: int) -> dict[str, Any]:
    """All figures of one evaluation: the scores as generated (`ifeval`) and with every answer cut at `stop`, where it begins
    a new instruction block (`ifeval_stopped`), by instruction type, and the answers' health.

    Raises:
        UserError: the models were not asked alike.
        ValueError: a loose verdict is below its strict one.
    """
    stopped = {
        model: results.gather(of.task, scoring.stopped(of.samples, stop), resamples, seed, of.digest)
        for model, of in found.items()
    }
    one = next(iter(found.values()))
    return {
        "task": one.task,
        "prompts": one.prompts,
        "instructions": one.instructions,
        "size": results.size(one),
        "evaluation_digest": one.digest,
        "ifeval": _scores(found, resamples, seed),
        "ifeval_stopped": _scores(stopped, resamples, seed),
        "stop": stop,
        "types": results.by_type(found),
        "health": {model: health.figures(of.samples, stop) for model, of in found.items()},
    }


def _scores(found: dict[str, Results], resamples: int, seed: int) -> dict[str, Any]:
    if set(found) == {"base", "tuned"}:
        return results.compare(found["base"], found["tuned"], resamples, seed)
    return results.scores(found)


def alerts(metrics: dict[str, Any]) -> list[str]:
    """What a reader must know before the scores (`health.alerts`); metrics.json of the first versions has no health."""
    return health.alerts(metrics.get("health", {}))


def table(metrics: dict[str, Any]) -> str:
    """The scores, and the answers' health, as text of at most 120 columns; above them the alerts."""
    models = list(metrics["health"])
    lines = [f"{metrics['task']}: {metrics['size']}; accuracy in % with 95 % intervals", ""]
    for sentence in alerts(metrics):
        lines += [*textwrap.wrap(sentence, _WIDTH), ""]
    lines += _score_lines("as generated", metrics["ifeval"], models)
    if any(of["runs_on"] for of in metrics["health"].values()):
        lines += _score_lines(f"cut at {metrics['stop']}", metrics["ifeval_stopped"], models)
    else:
        lines += [f"No answer goes on into a new {metrics['stop']} block: a stop there changes nothing.", ""]
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
    """What the run that runs the stages in `root` has said of itself (`about.introduced`); None outside of a run."""
    run, file = os.environ.get(RUN), root / ABOUT
    if not run or not file.is_file():
        return None
    about = json.loads(file.read_text(encoding="utf-8"))
    return about if about["id"] == run else None


def title(experiment: str, about: dict[str, Any] | None) -> str:
    """What figures call the run: its experiment, and a sweep's job what varies in it, too."""
    return f"{experiment}: {about['name']}" if about and about["name"] not in (None, "", experiment) else experiment


def training(train: dict[str, Any], processes: Any) -> dict[str, str]:
    """How was trained, by what a person calls it. `train` is Axolotl's section, or MLflow's params of it, which are text."""

    def given(key: str) -> str:
        value = train.get(key)
        return "" if value in (None, "", "None") else str(value)

    adapter = given("adapter")
    rank = [f"{label} {given(key)}" for key, label in (("lora_r", "rank"), ("lora_alpha", "alpha")) if given(key)]
    method = ", ".join([adapter, *rank]) if adapter else "full: every weight"
    rate = " ".join(filter(None, [given("learning_rate"), given("lr_scheduler")]))
    steps = f", at most {given('max_steps')} steps" if given("max_steps") else ""
    parts = [given("micro_batch_size") or "1", given("gradient_accumulation_steps") or "1", str(processes or 1)]
    batch = " x ".join(parts) + " (micro-batch x accumulation x processes)"
    if all(part.isdigit() for part in parts):
        batch = f"{math.prod(map(int, parts))} = {batch}"
    named = {"method": method, "optimizer": given("optimizer"), "learning rate": rate, "epochs": given("num_epochs") + steps}
    return {label: text for label, text in named.items() if text} | {"batch": batch}


def interval(score: dict[str, float], sign: str = "") -> str:
    """A share, or with `sign` a difference, in per cent: "70.6 [63.2, 77.1]"."""
    value, low, high = (100 * score[end] for end in ("value", "low", "high"))
    return f"{value:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


def p_value(score: dict[str, float]) -> str:
    """McNemar's p where there is one: " p = 0.031"."""
    if "p" not in score:
        return ""
    return " p < 0.001" if score["p"] < 0.001 else f" p = {score['p']:.3f}"
