"""The files that a finished run left -> its MLflow run: scores, curve, times, lineage, figures.

Everything is read from the checkout, so a run whose stages all came from DVC's cache is as complete as any other.
"""

import contextlib
import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any

from tunetrail import machine
from tunetrail.checkout import dvc
from tunetrail.data import sources, template
from tunetrail.tracking.mlflow_run import Run, trained_in
from tunetrail.training import history

# In place of report/report.html, which is an output: another page there would be none that dvc.lock records.
HEADED = Path("work/report.html")


def upload(run: Run, root: Path, values: dict[str, Any]) -> Path:
    """Log all that the stages left in `root` for the composed `values`; returns the file with the run's report."""
    stages = dvc.locked_stages(root)
    steps, _ = history.read(root / "outputs" / "train" / "history.jsonl")
    model = dvc.md5(root, stages, "train", "outputs/model")
    times = seconds(root)
    if "time/train_s" not in times:
        run.tags({"train.cached": "true", "train.trained_in": trained_in(run, model)})
    run.steps(steps)
    metrics = json.loads((root / "report" / "metrics.json").read_text())
    run.metrics(scores(metrics) | times)
    run.tags({"model.md5": model, "evaluation.digest": metrics["evaluation_digest"]} | lineage(root, values))
    run.tags(versions(root))
    rows, digest = metrics["data"]["rows"]["train"], metrics["data"]["source"]["md5"]
    source = sources.name(metrics["data"]["source"])  # what was read
    run.tags({name.replace("/", "."): f"{count:.15g}" for name, count in data(metrics).items()})
    run.tags({"data.md5": digest, "data.rows": rows, "data.source": source, "data.license": values["prepare"]["license"]})
    run.dataset(Path(source).stem, digest, source, json.dumps({"train_rows": rows}))
    run.artifacts(root, "report", "dvc.lock", "outputs/train/history.jsonl")
    return _introduce(run, root, values, metrics, source)


def _introduce(run: Run, root: Path, values: dict[str, Any], measured: dict[str, Any], source: str) -> Path:
    """What a person reads first: the run's description, and the report, whose head is written anew into `HEADED` where DVC
    has the page from another run."""
    from tunetrail.report import metrics, page  # matplotlib takes a second to import

    base = json.loads((root / "outputs" / "base" / "base.json").read_text())
    trained = metrics.training(values["train"], values["accelerate"].get("num_processes"))
    told = {"metrics": measured, "base": base, "training": trained, "source": source}
    run.tags({"mlflow.note.content": page.render("description.md.jinja", **told)})
    file, about = root / "report" / "report.html", metrics.about(root)
    (root / HEADED).unlink(missing_ok=True)  # an earlier run's
    if not about or not file.is_file():
        return file
    text = file.read_text(encoding="utf-8")
    headed = page.headed(text, about)
    if headed == text:
        return file
    run.text("report/report.html", headed)
    (root / HEADED).write_text(headed, encoding="utf-8")
    return root / HEADED


def logs(run: Run, root: Path, since: float) -> None:
    """Keep the logs of the tools that ran: those written to after `since`, in seconds since 1970."""
    for file in sorted((root / "work").glob("*/*.log")):
        if file.stat().st_mtime >= since:
            run.artifacts(file.parent, file.name, into=f"logs/{file.parent.name}")


def environment(root: Path) -> dict[str, str]:
    """Which lock file the packages should be from; `versions` says which they were."""
    lock = root / machine.lock_file()
    return {"lock.sha256": hashlib.sha256(lock.read_bytes()).hexdigest()} if lock.is_file() else {}


def scores(metrics: dict[str, Any]) -> dict[str, float]:
    """Figures by the names that MLflow shows: `ifeval/tuned/prompt_strict`, `ifeval_stopped/...`, `health/tuned/looping`.
    Scores, differences and shares are between 0 and 1.
    """
    values = {
        f"{kind}/{model}/{name}": score["value"]
        for kind in ("ifeval", "ifeval_stopped")
        for model, of in metrics[kind].items()
        for name, score in of.items()
    }
    return values | {
        f"health/{model}/{name}": value
        for model, of in metrics["health"].items()
        for name, value in of.items()
        if value is not None
    }


def data(metrics: dict[str, Any]) -> dict[str, float]:
    """The counts of the data. Nothing that was measured, they are tags, `data.tokens`: as metrics, MLflow's page of the run
    would begin with a bar for each of them."""
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
    """`time/<stage>_s` for the stages that ran; one that came from the cache took no time."""
    return {f"time/{line['stage']}_s": line["seconds"] for line in timed(root)}


def timed(root: Path) -> list[dict[str, Any]]:
    """The stages that ran, in their order, each with its "stage" and "seconds"; a resumed run has those of every try. The
    line of a stage that was killed while it wrote it is left out."""
    file = root / "work" / "seconds.jsonl"
    stages = []
    for line in file.read_text().splitlines() if file.is_file() else []:
        with contextlib.suppress(json.JSONDecodeError):
            stages.append(json.loads(line))
    return stages


def lineage(root: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Which base and which template: runs whose template or evaluation differ do not compare."""
    base = json.loads((root / "outputs" / "base" / "base.json").read_text())
    return {
        "base.model": base["base_model"],
        "base.revision": base["revision"],
        "base.license": values["base"]["license"],
        "base.sha256": base["sha256"],
        "template.digest": template.digest(values["template"]),
    }


def versions(root: Path) -> dict[str, str]:
    """The versions that the results came about with, as the stages left them, not those of today; and of what ran them."""
    used = json.loads((root / "outputs" / "train" / "versions.json").read_text())
    results = next((root / "eval_results" / "tuned").glob("*/results_*.json"))
    used["lm-eval"] = json.loads(results.read_text())["lm_eval_version"]
    used |= {tool: importlib.metadata.version(tool) for tool in ("dvc", "hydra-core", "mlflow", "tunetrail")}
    return {f"versions.{tool}": version for tool, version in used.items()}
