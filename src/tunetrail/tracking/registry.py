"""A finished run -> a version of a registered model, which MLflow serves, and the alias `champion` if it is the best.

The weights go into the artifact store beside `served.py`, which generates the answers. `download` gets a run's models.
Aliases and versions are deleted on MLflow's own pages.
"""

import importlib.metadata
import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

from tunetrail import UserError, redaction
from tunetrail.report import metrics
from tunetrail.tracking import connection, store, tags
from tunetrail.tracking.download import RunFiles
from tunetrail.tracking.recorded import RecordedRun
from tunetrail.training import checkpoint

CHAMPION = "champion"
EXAMPLE = [{"instruction": "Name three rivers.", "input": ""}]
METRICS = "report/metrics.json"
_VERSION_TAGS = (tags.MODEL_MD5, tags.EVALUATION_DIGEST, tags.TEMPLATE_DIGEST, tags.DATA_LICENSE, tags.BASE_LICENSE)
_MAX_DESCRIPTION = 5000  # characters, of MLflow's database


def model_name(run: RecordedRun, name: str | None) -> str:
    """Return the registered model's name: `name`, or that of the run's experiment.

    Raises:
        UserError: it has characters that MLflow, a URL or a shell would not take as they are.
    """
    name = name or run.tags.get(tags.EXPERIMENT, "")
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise UserError(
            f"{name!r} cannot name a registered model. Give a name of letters, digits, _, - and dots: --name NAME"
        )
    return name


def scores(root: Path, run: RecordedRun) -> dict[str, Any]:
    """Return the report/metrics.json of a finished run.

    Raises:
        UserError: it did not finish, or its record has no scores.
    """
    if not run.finished:
        raise UserError(f"{run.title} is {run.status}: only a run that finished has a model. Name another.")
    measured = _metrics(root, run.id) or {"ifeval": {}}
    if not isinstance(measured["ifeval"].get("delta", {}).get("prompt_strict"), dict):
        raise UserError(f"{run.title}: its record has no scores with intervals ({METRICS}). Run it again, or name another.")
    return measured


def objections(root: Path, name: str, run: RecordedRun, measured: dict[str, Any]) -> list[str]:
    """Return why the run with these metrics should not be the champion of `name`; nothing if it may be.

    It must beat its base outside the 95 % interval of the paired difference and be no worse than the champion in the same
    evaluation, both in Prompt Strict, and its answers must be usable (`health.alerts`).
    """
    health = {model: figures for model, figures in measured.get("health", {}).items() if model == "tuned"}
    reasons = [sentence.rstrip(".") for sentence in metrics.alerts({"health": health})]
    delta = measured["ifeval"]["delta"]["prompt_strict"]
    if delta["low"] <= 0:
        gain = metrics.interval(delta, sign="+")
        reasons.append(f"it does not beat its base outside the 95 % interval: Prompt Strict {gain}, in points")
    with connection.open_client(root) as client:
        champion = _champion(client, name)
    if champion is None or champion.run_id == run.id:
        return reasons
    title = f"the champion, {name}/{champion.version}"
    best = _metrics(root, champion.run_id)
    if best is None:
        reasons.append(f"{title}, has no scores in this store, so they cannot be compared")
    elif best["evaluation_digest"] != measured["evaluation_digest"]:
        reasons.append(
            f"{title}, was evaluated differently ({best['evaluation_digest']}, this run {measured['evaluation_digest']}), "
            "so they cannot be compared. Run the champion's experiment again with this run's `evaluate` (if DVC has its "
            "model, nothing is trained), and promote that first"
        )
    else:
        score, highest = (run_metrics["ifeval"]["tuned"]["prompt_strict"] for run_metrics in (measured, best))
        if highest["value"] > score["value"]:
            shown = f"{metrics.interval(highest)}, this run {metrics.interval(score)}"
            reasons.append(f"{title}, is better: Prompt Strict {shown}")
    return reasons


def version(root: Path, name: str, run_id: str) -> str | None:
    """Return the version under which the run is registered as `name` already, or None."""
    with connection.open_client(root) as client:
        versions = client.search_model_versions(f"run_id = '{run_id}'")
    return next((str(entry.version) for entry in versions if entry.name == name), None)


def register(root: Path, name: str, run: RecordedRun, files: RunFiles, card: str) -> str:
    """Copy the model into the artifact store and register it as the next version of `name`; return the version.

    A copy that does not finish is left as a logged model with the status FAILED, without a version.

    Raises:
        UserError: the store does not take it.
    """
    with connection.open_client(root) as client:
        logged = client.create_logged_model(run.experiment_id, "tuned", run.id, model_type="causal-lm")
        status = LoggedModelStatus.FAILED
        try:
            model = Model(artifact_path=logged.artifact_location, run_id=run.id, model_id=logged.model_id)
            _upload(client, model, run, files, card)
            status = LoggedModelStatus.READY
        except OSError as error:
            raise UserError(
                f"run {run.id}: the store does not take its model ({redaction.redact(str(error))[:300]}). It is not "
                "registered: fix that, and promote it again."
            ) from None
        finally:
            client.finalize_logged_model(logged.model_id, status)
        client.log_outputs(run.id, [LoggedModelOutput(logged.model_id, step=0)])
        if _registered(client, name) is None:
            client.create_registered_model(name)
        version = client.create_model_version(
            name,
            logged.model_uri,
            run.id,
            tags={key: run.tags[key] for key in _VERSION_TAGS if key in run.tags},
            description=card if len(card) <= _MAX_DESCRIPTION else card[: _MAX_DESCRIPTION - 1] + "…",
            model_id=logged.model_id,
        )
        client.set_tag(run.id, tags.PROMOTED, f"{name}/{version.version}")
    return str(version.version)


def crown(root: Path, name: str, version: str, reasons: Sequence[str]) -> None:
    """Give the version the alias `champion`, and record the `reasons` against that."""
    with connection.open_client(root) as client:
        if reasons:
            client.set_model_version_tag(name, version, tags.PROMOTED_AGAINST, "; ".join(reasons))
        client.set_registered_model_alias(name, CHAMPION, version)


def _upload(client: MlflowClient, model: Model, run: RecordedRun, files: RunFiles, card: str) -> None:
    """Upload MLflow's own files of the model, then the weights directly from their folder, so that they are copied once.

    MLflow's log_model would copy them into a temporary folder first, load the model to try it, and add the model_config to
    the run's params.
    """
    evaluate, folders = files.params["evaluate"], files.folders()
    generation = evaluate["task"]["generation_kwargs"]
    adapter = checkpoint.is_adapter(files.tuned)
    on_hub = adapter and "base" not in folders
    config = {
        "template": files.params["template"],
        "dtype": evaluate["model_args"].get("dtype", "auto"),
        "max_new_tokens": generation["max_gen_toks"],
        "until": generation.get("until", []),
        "base": files.base if on_hub else None,
        "revision": files.revision if on_hub else None,
        "run": run.id,
        "sha256": {
            f"{role}/{name}": sha256
            for role, folder in folders.items()
            for name, sha256 in checkpoint.hashes(folder).items()
        },
    }
    columns = [ColSpec(DataType.string, "instruction"), ColSpec(DataType.string, "input", required=False)]
    params = ParamSchema([ParamSpec("max_new_tokens", DataType.long, config["max_new_tokens"])])
    with tempfile.TemporaryDirectory() as folder:
        empty = {role: Path(folder) / role for role in folders}
        for path in empty.values():
            path.mkdir()
        mlflow.pyfunc.save_model(
            Path(folder) / "model",
            python_model=Path(__file__).with_name("served.py"),
            artifacts={role: str(path) for role, path in empty.items()},
            model_config=config,
            signature=ModelSignature(Schema(columns), Schema([ColSpec(DataType.string)]), params),
            input_example=EXAMPLE,
            pip_requirements=requirements(run, adapter),
            mlflow_model=model,
        )
        model.model_size_bytes = files.size()
        model.save(str(Path(folder) / "model" / "MLmodel"))
        (Path(folder) / "model" / "model_card.md").write_text(card, encoding="utf-8")
        client.log_model_artifacts(model.model_id, str(Path(folder) / "model"))
    for role, source in folders.items():
        for file in checkpoint.files(source):
            client.log_model_artifact(model.model_id, str(file), f"artifacts/{role}")


def requirements(run: RecordedRun, adapter: bool) -> list[str]:
    """Return the packages that serving needs, in the run's versions, and MLflow in the version that writes the model.

    A build's suffix (+cpu, +rocm) is left out, since the serving machine may need another build.
    """
    versions = {"mlflow": mlflow.__version__}
    for tool in ("torch", "transformers", "peft") if adapter else ("torch", "transformers"):
        versions[tool] = run.tags.get(f"{tags.VERSIONS}{tool}") or importlib.metadata.version(tool)
    return [f"{tool}=={version.split('+')[0]}" for tool, version in versions.items()]


def _metrics(root: Path, run_id: str | None) -> dict[str, Any] | None:
    texts = store.read_artifacts(root, run_id, [METRICS]) if run_id else {}
    return json.loads(texts[METRICS]) if texts else None


def _registered(client: MlflowClient, name: str) -> Any:
    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def _champion(client: MlflowClient, name: str) -> Any:
    """Return the version of the registered model `name` with the alias, or None."""
    model = _registered(client, name)
    return client.get_model_version(name, model.aliases[CHAMPION]) if model and CHAMPION in model.aliases else None
