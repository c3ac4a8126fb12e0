"""The files that a finished run left -> its MLflow run: scores, curve, times, lineage, figures.

Everything is read from the checkout, so a run whose stages all came from DVC's cache is as complete as any other.
"""

import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any

from tunetrail import history, template, workspace
from tunetrail.tracking import Run, trained_in


def upload(run: Run, root: Path, values: dict[str, Any]) -> None:
    """Log all that the stages left in `root` for the composed `values`."""
    stages = workspace.locked(root)
    steps, _ = history.read(root / "outputs" / "train" / "history.jsonl")
    model = workspace.md5(root, stages, "train", "outputs/model")
    times = seconds(root)
    if "time/train_s" not in times:
        run.tags({"train.cached": "true", "train.trained_in": trained_in(run, model)})
    run.steps(steps[run.logged :])
    metrics = json.loads((root / "report" / "metrics.json").read_text())
    run.metrics(scores(metrics) | times)
    run.tags({"model.md5": model} | lineage(root, values, stages) | versions(root))
    rows = (root / "data" / "prepared" / "train.jsonl").read_bytes().count(b"\n")
    data = workspace.md5(root, stages, "prepare", values["prepare"]["path"])
    run.tags({"data.md5": data, "data.rows": rows})
    run.dataset(Path(values["prepare"]["path"]).stem, data, values["prepare"]["path"], json.dumps({"train_rows": rows}))
    run.artifacts(root, "report", "dvc.lock", "outputs/train/history.jsonl")


def scores(metrics: dict[str, Any]) -> dict[str, float]:
    """`ifeval/base/prompt_strict`, `ifeval/tuned/...` and `ifeval/delta/...`, as shares between 0 and 1."""
    models = ("base", "tuned")
    values = {
        f"ifeval/{model}/{name}": score["value"] for model in models for name, score in metrics["ifeval"][model].items()
    }
    return values | {f"ifeval/delta/{name}": value for name, value in metrics["ifeval"]["delta"].items()}


def seconds(root: Path) -> dict[str, float]:
    """`time/<stage>_s` for the stages that ran; one that came from the cache took no time."""
    file = root / "work" / "seconds.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    return {f"time/{line['stage']}_s": line["seconds"] for line in lines}


def lineage(root: Path, values: dict[str, Any], stages: dict[str, Any]) -> dict[str, Any]:
    """Which base, which template and which evaluation: runs that differ in one of these do not compare."""
    base = json.loads((root / "outputs" / "base" / "base.json").read_text())
    evaluation = {key: value for key, value in values["evaluate"].items() if key != "path"}
    prompts = workspace.md5(root, stages, "evaluate_base", values["evaluate"]["path"])
    asked = json.dumps([evaluation, prompts], sort_keys=True)
    return {
        "base.model": base["base_model"],
        "base.revision": base["revision"],
        "base.sha256": base["sha256"],
        "template.digest": template.digest(values["template"]),
        "evaluation.digest": hashlib.sha256(asked.encode()).hexdigest()[:12],
    }


def versions(root: Path) -> dict[str, str]:
    """The versions that the results came about with, as the stages left them, not those of today; and of what ran them."""
    used = json.loads((root / "outputs" / "train" / "versions.json").read_text())
    results = next((root / "eval_results" / "tuned").glob("*/results_*.json"))
    used["lm-eval"] = json.loads(results.read_text())["lm_eval_version"]
    used |= {tool: importlib.metadata.version(tool) for tool in ("dvc", "hydra-core", "mlflow", "tunetrail")}
    return {f"versions.{tool}": version for tool, version in used.items()}
