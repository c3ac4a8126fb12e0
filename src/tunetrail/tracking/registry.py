"""A finished run -> a version of a registered model, which MLflow serves, and its alias `champion` where it has earned it.

The weights go into the artifact store beside `served.py`, which asks them. Not covered: getting a run's models, which is
`download`'s, and taking an alias or a version away, which MLflow's own pages do.
"""

import importlib.metadata
import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

from tunetrail import UserError, redaction
from tunetrail.data import contract
from tunetrail.report import metrics, page
from tunetrail.tracking import connection, store
from tunetrail.training import checkpoint

CHAMPION = "champion"
EXAMPLE = [{"instruction": "Name three rivers.", "input": ""}]
METRICS = "report/metrics.json"
_TOLD = ("model.md5", "evaluation.digest", "template.digest", "data.license", "base.license")  # of a run, by its version
_MAX_DESCRIPTION = 5000  # characters, of MLflow's database


@dataclass(frozen=True)
class Weights:
    """What is served: `tuned`, a model's folder or an adapter's, and its base in a folder or on the hub at `revision`."""

    tuned: Path
    base: str
    revision: str | None

    def folders(self) -> dict[str, Path]:
        """The folders that serving needs, by the names by which `served` knows them."""
        needed = {"tuned": self.tuned}
        if checkpoint.is_adapter(self.tuned) and Path(self.base).is_dir():
            needed["base"] = Path(self.base)
        return needed

    def size(self) -> int:
        """The bytes of the files that serving needs."""
        return sum(file.stat().st_size for folder in self.folders().values() for file in checkpoint.files(folder))


def named(run: Any, name: str | None) -> str:
    """The registered model's name: `name`, or the experiment's of the run.

    Raises:
        UserError: it is none that MLflow, an address and a command line all take as it is.
    """
    name = name or run.data.tags.get("experiment", "")
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise UserError(f"{name!r}: no name for a registered model. Give one of letters, digits, _, - and dots: --name NAME")
    return name


def scores(root: Path, run: Any) -> dict[str, Any]:
    """The report/metrics.json of a run that finished.

    Raises:
        UserError: it did not, or its record has no scores.
    """
    name = f"run {run.info.run_id} ({run.info.run_name})"
    if run.info.status != "FINISHED":
        raise UserError(f"{name} is {run.info.status}: only a run that finished has a model. Name another.")
    found = _metrics(root, run.info.run_id) or {"ifeval": {}}
    if not isinstance(found["ifeval"].get("delta", {}).get("prompt_strict"), dict):
        raise UserError(f"{name}: its record has no scores with intervals ({METRICS}). Run it again, or name another.")
    return found


def against(root: Path, name: str, run: Any, found: dict[str, Any]) -> list[str]:
    """Why the run with the scores `found` should not be the champion of `name`; nothing where it should.

    It has to beat its base outside the 95 % interval of the paired difference, and to be no worse than the champion, in
    Prompt Strict; only figures of one evaluation are compared. Its answers have to be answers (`health.alerts`).
    """
    health = {model: of for model, of in found.get("health", {}).items() if model == "tuned"}
    reasons = [sentence.rstrip(".") for sentence in metrics.alerts({"health": health})]
    if found["ifeval"]["delta"]["prompt_strict"]["low"] <= 0:
        gain = metrics.interval(found["ifeval"]["delta"]["prompt_strict"], sign="+")
        reasons.append(f"it does not beat its base outside the 95 % interval: Prompt Strict {gain}, in points")
    with connection.open_client(root) as client:
        champion = _champion(client, name)
    if champion is None or champion.run_id == run.info.run_id:
        return reasons
    title, theirs = f"the champion, {name}/{champion.version}", _metrics(root, champion.run_id)
    if theirs is None:
        reasons.append(f"{title}, has no scores in this store, so they do not compare")
    elif theirs["evaluation_digest"] != found["evaluation_digest"]:
        reasons.append(
            f"{title}, was evaluated otherwise ({theirs['evaluation_digest']}, this run {found['evaluation_digest']}), so "
            "they do not compare. Run the champion's experiment again with this run's `evaluate` (where DVC has its model, "
            "nothing is trained), and promote that first"
        )
    else:
        ours, its = (of["ifeval"]["tuned"]["prompt_strict"] for of in (found, theirs))
        if its["value"] > ours["value"]:
            reasons.append(f"{title}, is better: Prompt Strict {metrics.interval(its)}, this run {metrics.interval(ours)}")
    return reasons


def version(root: Path, name: str, run_id: str) -> str | None:
    """The version of the registered model `name` that the run's model is already, or None."""
    with connection.open_client(root) as client:
        found = [one for one in client.search_model_versions(f"run_id = '{run_id}'") if one.name == name]
    return str(found[0].version) if found else None


def register(root: Path, name: str, run: Any, values: dict[str, Any], weights: Weights, card: str) -> str:
    """Copy the model into the artifact store as one of the run's, and make it the next version of `name`.

    `values` is the run's params.yaml. Returns the version. A copy that does not finish is left as a logged model
    that MLflow calls FAILED, and no version.

    Raises:
        UserError: the store does not take it.
    """
    with connection.open_client(root) as client:
        logged = client.create_logged_model(run.info.experiment_id, "tuned", run.info.run_id, model_type="causal-lm")
        status = LoggedModelStatus.FAILED
        try:
            model = Model(artifact_path=logged.artifact_location, run_id=run.info.run_id, model_id=logged.model_id)
            _upload(client, model, run, values, weights, card)
            status = LoggedModelStatus.READY
        except OSError as error:
            raise UserError(
                f"run {run.info.run_id}: the store does not take its model ({redaction.redact(str(error))[:300]}). "
                "It is not registered: fix that, and promote it again."
            ) from None
        finally:
            client.finalize_logged_model(logged.model_id, status)
        client.log_outputs(run.info.run_id, [LoggedModelOutput(logged.model_id, step=0)])
        if _registered(client, name) is None:
            client.create_registered_model(name)
        made = client.create_model_version(
            name,
            logged.model_uri,
            run.info.run_id,
            tags={key: run.data.tags[key] for key in _TOLD if key in run.data.tags},
            description=card if len(card) <= _MAX_DESCRIPTION else card[: _MAX_DESCRIPTION - 1] + "…",
            model_id=logged.model_id,
        )
        client.set_tag(run.info.run_id, "promoted", f"{name}/{made.version}")
    return str(made.version)


def crown(root: Path, name: str, version: str, reasons: Sequence[str]) -> None:
    """Give the version the alias `champion`, and keep with it the `reasons` against that."""
    with connection.open_client(root) as client:
        if reasons:
            client.set_model_version_tag(name, version, "promoted.against", "; ".join(reasons))
        client.set_registered_model_alias(name, CHAMPION, version)


def card(name: str, run: Any, values: dict[str, Any], found: dict[str, Any], adapter: bool) -> str:
    """The model card, Markdown: what was trained on what, how it scored, what it may be used for."""
    data, base = ({"license": run.data.tags.get(f"{what}.license")} for what in ("data", "base"))
    told = {"model": name, "tags": run.data.tags, "run": run.info, "params": values, "metrics": found, "adapter": adapter}
    return page.render("model_card.md.jinja", **told, notice=contract.license_notice(data, base), champion=CHAMPION)


def _upload(client: MlflowClient, model: Model, run: Any, values: dict[str, Any], weights: Weights, card: str) -> None:
    """MLflow's own files of the model, made here without its weights; then the weights, from where they lie into the store.

    So they are copied once. MLflow's log_model copies them by way of the temporary folder, loads the model to try it, and
    adds the model_config to the run's params.
    """
    task, adapter = values["evaluate"]["task"]["generation_kwargs"], checkpoint.is_adapter(weights.tuned)
    hub = adapter and "base" not in weights.folders()
    config = {
        "template": values["template"],
        "dtype": values["evaluate"]["model_args"].get("dtype", "auto"),
        "max_new_tokens": task["max_gen_toks"],
        "until": task.get("until", []),
        "base": weights.base if hub else None,
        "revision": weights.revision if hub else None,
        "run": run.info.run_id,
        "sha256": {
            f"{what}/{name}": own for what, of in weights.folders().items() for name, own in checkpoint.hashes(of).items()
        },
    }
    columns = [ColSpec(DataType.string, "instruction"), ColSpec(DataType.string, "input", required=False)]
    params = ParamSchema([ParamSpec("max_new_tokens", DataType.long, config["max_new_tokens"])])
    with tempfile.TemporaryDirectory() as folder:
        empty = {what: Path(folder) / what for what in weights.folders()}
        for place in empty.values():
            place.mkdir()
        mlflow.pyfunc.save_model(
            Path(folder) / "model",
            python_model=Path(__file__).with_name("served.py"),
            artifacts={what: str(place) for what, place in empty.items()},
            model_config=config,
            signature=ModelSignature(Schema(columns), Schema([ColSpec(DataType.string)]), params),
            input_example=EXAMPLE,
            pip_requirements=requirements(run, adapter),
            mlflow_model=model,
        )
        model.model_size_bytes = weights.size()
        model.save(str(Path(folder) / "model" / "MLmodel"))
        (Path(folder) / "model" / "model_card.md").write_text(card, encoding="utf-8")
        client.log_model_artifacts(model.model_id, str(Path(folder) / "model"))
    for what, source in weights.folders().items():
        for file in checkpoint.files(source):
            client.log_model_artifact(model.model_id, str(file), f"artifacts/{what}")


def requirements(run: Any, adapter: bool) -> list[str]:
    """What serving needs, at the versions that the run was trained and scored with; MLflow at that which writes the model.

    A build's own suffix (+cpu, +rocm) is left out: the build is the serving machine's.
    """
    tools = ("torch", "transformers", "peft") if adapter else ("torch", "transformers")
    used = {tool: run.data.tags.get(f"versions.{tool}") or importlib.metadata.version(tool) for tool in tools}
    return [f"{tool}=={version.split('+')[0]}" for tool, version in {"mlflow": mlflow.__version__, **used}.items()]


def _metrics(root: Path, run_id: str | None) -> dict[str, Any] | None:
    """The run's report/metrics.json, or None where there is none."""
    found = store.read_artifacts(root, run_id, [METRICS]) if run_id else {}
    return json.loads(found[METRICS]) if found else None


def _registered(client: MlflowClient, name: str) -> Any:
    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def _champion(client: MlflowClient, name: str) -> Any:
    """The version of the registered model `name` with the alias, or None."""
    model = _registered(client, name)
    return client.get_model_version(name, model.aliases[CHAMPION]) if model and CHAMPION in model.aliases else None
