"""The content of a run's record: the tags of its machine, then the scores, curves, times, lineage and figures of its stages.

Everything is read from the checkout, so a run whose stages all came from DVC's cache is as complete as any other.
"""

import hashlib
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

from tunetrail import machine
from tunetrail.checkout import dvc
from tunetrail.data import jsonlines, sources, template
from tunetrail.tracking import connection, store, tags
from tunetrail.tracking.mlflow_run import Run
from tunetrail.training import history

# In place of report/report.html, which is an output of DVC's: changing that would contradict dvc.lock.
REPORT = Path("work/report.html")


def upload(run: Run, root: Path, values: dict[str, Any]) -> Path:
    """Log all that the stages left in `root` for the composed `values`; return the file with the run's report."""
    stages = dvc.locked_stages(root)
    model = dvc.md5(root, stages, "train", "outputs/model")
    times = seconds(root)
    if "time/train_s" not in times:
        run.tags({tags.TRAIN_CACHED: "true", tags.TRAINED_IN: trained_in(run, model)})
    run.tags(_resumed(root))
    steps, _ = history.read(root / "outputs" / "train" / "history.jsonl")
    run.steps(steps)
    metrics = json.loads((root / "report" / "metrics.json").read_text())
    run.metrics(scores(metrics) | times)
    run.tags({tags.MODEL_MD5: model, tags.EVALUATION_DIGEST: metrics["evaluation_digest"]})
    run.tags(_lineage(root, values) | _versions(root))
    run.tags({name.replace("/", "."): f"{count:.15g}" for name, count in data(metrics).items()})
    rows, md5 = metrics["data"]["rows"]["train"], metrics["data"]["source"]["md5"]
    source = sources.name(metrics["data"]["source"])  # what was read
    license = values["prepare"]["license"]
    run.tags({tags.DATA_MD5: md5, tags.DATA_ROWS: rows, tags.DATA_SOURCE: source, tags.DATA_LICENSE: license})
    run.dataset(Path(source).stem, md5, source, json.dumps({"train_rows": rows}))
    run.artifacts(root, "report", "dvc.lock", "outputs/train/history.jsonl")
    run.tags({tags.NOTE: _description(root, values, metrics, source)})
    return _upload_report(run, root)


def _resumed(root: Path) -> dict[str, Any]:
    """Return the tags of a training that went on from a checkpoint."""
    file = root / "outputs" / "train" / "attempts.json"
    training = json.loads(file.read_text()) if file.is_file() else {"attempts": []}  # none before checkpoints were resumed
    if not any(attempt["from_step"] for attempt in training["attempts"]):
        return {}
    repeated = sum(attempt["repeated"] for attempt in training["attempts"])
    why = training["inexact"]
    return {tags.TRAIN_RESUMED: f"inexact: {why}" if why else "exact", tags.TRAIN_REPEATED: str(repeated)}


def trained_in(run: Run, model_md5: str) -> str | None:
    """Return the id of the earliest other run with the model of this md5, or None."""
    try:
        runs = store.search(run.client, {tags.MODEL_MD5: model_md5})
    except connection.FAULTS:
        return None
    return next((other.id for other in runs if other.id != run.id), None)


def _description(root: Path, values: dict[str, Any], measured: dict[str, Any], source: str) -> str:
    """Return the run's description, Markdown: what MLflow shows first."""
    from tunetrail.report import metrics, page  # matplotlib takes a second to import

    base = json.loads((root / "outputs" / "base" / "base.json").read_text())
    training = metrics.training(values["train"], values["accelerate"].get("num_processes"))
    return page.render("description.md.jinja", metrics=measured, base=base, training=training, source=source)


def _upload_report(run: Run, root: Path) -> Path:
    """If DVC has another run's report, upload it with this run's head, as `REPORT`. Return the file to read."""
    from tunetrail.report import metrics, page

    file, about = root / "report" / "report.html", metrics.about(root)
    (root / REPORT).unlink(missing_ok=True)  # an earlier run's
    if not about or not file.is_file():
        return file
    text = file.read_text(encoding="utf-8")
    with_head = page.headed(text, about)
    if with_head == text:
        return file
    run.text("report/report.html", with_head)
    (root / REPORT).write_text(with_head, encoding="utf-8")
    return root / REPORT


def upload_logs(run: Run, root: Path, since: float) -> None:
    """Upload the logs of the tools that were written to after `since`, in seconds since 1970."""
    for file in sorted((root / "work").glob("*/*.log")):
        if file.stat().st_mtime >= since:
            run.artifacts(file.parent, file.name, into=f"logs/{file.parent.name}")


def environment(root: Path, hardware: dict[str, str]) -> dict[str, str]:
    """Return the tags of this machine: its `hardware` (`machine.hardware`), Python, and the lock file that the packages
    should be from. The packages that made the results are recorded by `upload`."""
    values = {f"{tags.HARDWARE}{part}": text for part, text in hardware.items()}
    values[f"{tags.VERSIONS}python"] = platform.python_version()
    lock = root / machine.lock_file()
    if lock.is_file():
        values[tags.LOCK_SHA256] = hashlib.sha256(lock.read_bytes()).hexdigest()
    return values


def scores(metrics: dict[str, Any]) -> dict[str, float]:
    """Return the scores by the names that MLflow shows: `ifeval/tuned/prompt_strict`, `ifeval_stopped/...`,
    `health/tuned/looping`. Scores, differences and shares are between 0 and 1."""
    values = {
        f"{kind}/{model}/{name}": score["value"]
        for kind in ("ifeval", "ifeval_stopped")
        for model, by_name in metrics[kind].items()
        for name, score in by_name.items()
    }
    return values | {
        f"health/{model}/{name}": value
        for model, figures in metrics["health"].items()
        for name, value in figures.items()
        if value is not None
    }


def data(metrics: dict[str, Any]) -> dict[str, float]:
    """Return the counts of the data. They are recorded as tags, such as `data.tokens`: as metrics, each would be a chart at
    the top of MLflow's page."""
    rows, tokens, overlap = (metrics["data"][name] for name in ("rows", "tokens", "contamination"))
    return {
        "data/rows": rows["train"],
        "data/empty": rows["empty"],
        "data/duplicate": rows["duplicate"],
        "data/repeated_question": rows["repeated_question"],
        "data/train_validation_overlap": rows["train_validation_overlap"],
        "data/tokens": tokens["total"],
        "data/supervised_tokens": tokens["supervised"],
        "data/over_share": tokens["over_share"],
        "data/contaminated_prompts": overlap["seen"],
        "data/contaminated_prompts_exact": overlap["exact"],
    }


def seconds(root: Path) -> dict[str, float]:
    """Return `time/<stage>_s` of the stages that ran, not of those that came from the cache."""
    return {f"time/{line['stage']}_s": line["seconds"] for line in stage_times(root)}


def stage_times(root: Path) -> list[dict[str, Any]]:
    """Return the stages that ran, in order, each as {"stage", "seconds"}, in a resumed run those of every attempt. An
    incomplete line of a stage that was killed is left out."""
    file = root / "work" / "seconds.jsonl"
    return jsonlines.whole(file.read_bytes(), stage=str, seconds=(int, float)) if file.is_file() else []


def _lineage(root: Path, values: dict[str, Any]) -> dict[str, Any]:
    base = json.loads((root / "outputs" / "base" / "base.json").read_text())
    return {
        tags.BASE_MODEL: base["base_model"],
        tags.BASE_REVISION: base["revision"],
        tags.BASE_LICENSE: values["base"]["license"],
        tags.BASE_SHA256: base["sha256"],
        tags.TEMPLATE_DIGEST: template.digest(values["template"]),
    }


def _versions(root: Path) -> dict[str, str]:
    """Return the versions of the tools that made the results, and of those that ran the stages."""
    versions = json.loads((root / "outputs" / "train" / "versions.json").read_text())
    results = next((root / "eval_results" / "tuned").glob("*/results_*.json"))
    versions["lm-eval"] = json.loads(results.read_text())["lm_eval_version"]
    versions |= {tool: importlib.metadata.version(tool) for tool in ("dvc", "hydra-core", "mlflow", "tunetrail")}
    return {f"{tags.VERSIONS}{tool}": version for tool, version in versions.items()}
