"""Finds runs in the tracking store, and reads their records.

`mlflow_run` writes a run, `connection` opens the store, `registry` registers models.
"""

import os
import re
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from tunetrail import UserError
from tunetrail.redaction import redact
from tunetrail.tracking import ranking, tags
from tunetrail.tracking.connection import open_client
from tunetrail.tracking.recorded import RecordedRun

RUNNING = "attributes.status = 'RUNNING'"  # a condition of `search`
_LISTED = 10  # runs in a message


def search(client: MlflowClient, wanted: dict[str, str], condition: str = "", order: str = "ASC") -> list[RecordedRun]:
    """Return all runs with the tags `wanted` that meet `condition`, the oldest first unless `order` is DESC."""
    quoted = {name: f'"{value}"' if "'" in value else f"'{value}'" for name, value in wanted.items()}
    conditions = [f"tags.`{name}` = {value}" for name, value in quoted.items()] + ([condition] if condition else [])
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    query = {"filter_string": " AND ".join(conditions), "order_by": [f"attributes.start_time {order}"]}
    page = client.search_runs(experiments, **query)
    runs = list(page)
    while page.token:  # a page has a thousand
        page = client.search_runs(experiments, **query, page_token=page.token)
        runs += page
    return [recorded(run) for run in runs]


def recorded(run: Any) -> RecordedRun:
    """Return an MLflow run as a `RecordedRun`."""

    def iso(milliseconds: int | None) -> str | None:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds") if milliseconds else None

    info, data = run.info, run.data
    return RecordedRun(
        id=info.run_id,
        name=info.run_name or "",
        status=info.status,
        started=iso(info.start_time),
        ended=iso(info.end_time),
        experiment_id=info.experiment_id,
        parent=data.tags.get(tags.PARENT),
        artifacts=redact(info.artifact_uri),
        params=dict(data.params),
        metrics=dict(data.metrics),
        tags=dict(data.tags),
    )


def matching(root: Path, reference: str = "") -> list[RecordedRun]:
    """Return the runs whose id starts with `reference`, or whose name it is, the newest first."""
    pattern = re.sub(r"['\"\\%]", "_", reference)
    conditions = (f"attributes.run_id LIKE '{pattern}%'", f"attributes.run_name LIKE '{pattern}'")
    with open_client(root) as client:
        runs = [run for condition in conditions for run in search(client, {}, condition, "DESC")]
    return list({run.id: run for run in runs if run.id.startswith(reference) or run.name == reference}.values())


def every(root: Path) -> list[RecordedRun]:
    """Return all runs of the store, the newest first."""
    with open_client(root) as client:
        return search(client, {}, order="DESC")


def children(root: Path, parent: str) -> list[RecordedRun]:
    """Return the jobs of the sweep whose run is `parent`, the oldest first."""
    with open_client(root) as client:
        return search(client, {tags.PARENT: parent})


def running(root: Path, checkout: str) -> RecordedRun | None:
    """Return the newest run that is RUNNING in `checkout`, as host:folder, or None."""
    with open_client(root) as client:
        return next(iter(search(client, {tags.CHECKOUT: checkout}, RUNNING, "DESC")), None)


def find(root: Path, reference: str) -> RecordedRun:
    """Return the one run that `reference` names: an id or its start, a name, `@alias` or `model@alias`.

    Raises:
        UserError: it names none or several; the message lists the runs that it may name.
    """
    if "@" in reference and (named := _by_alias(root, *reference.rsplit("@", 1))):
        return named
    runs = matching(root, reference)
    if not runs and "@" in reference:
        raise UserError(_no_alias(root, *reference.rsplit("@", 1)))
    if len(runs) != 1:
        raise UserError(_ambiguous(reference, runs, every(root)))
    return runs[0]


def single(root: Path, reference: str) -> RecordedRun:
    """Return the one run that `reference` names (`find`), if it has a config and a model: it must not be a sweep.

    Raises:
        UserError: as `find`; or it is a sweep, and the message names the best of its jobs.
    """
    run = find(root, reference)
    if run.is_sweep:
        raise UserError(ranking.sweep_hint(run, children(root, run.id)))
    return run


def _by_alias(root: Path, model: str, alias: str) -> RecordedRun | None:
    """Return the run of the registered model (any if `model` is empty) whose version has this alias."""
    with open_client(root) as client:
        registered = client.search_registered_models(max_results=1000)
        names = [entry.name for entry in registered if alias in entry.aliases and model in ("", entry.name)]
        if len(names) > 1:
            words = ", ".join(f"{name}@{alias}" for name in names)
            raise UserError(f"@{alias}: {len(names)} registered models have this alias. Give one: {words}")
        return recorded(client.get_run(client.get_model_version_by_alias(names[0], alias).run_id)) if names else None


def _no_alias(root: Path, model: str, alias: str) -> str:
    """Return the message that there is no `model@alias`, with the aliases that there are."""
    with open_client(root) as client:
        registered = client.search_registered_models(max_results=1000)
    aliases = ", ".join(sorted(f"{entry.name}@{other}" for entry in registered for other in entry.aliases))
    subject = f"no registered model {model} has" if model else "no registered model has"
    fix = f"There are: {aliases}. A champion is made by" if aliases else "Make a champion"
    return f"{model}@{alias}: {subject} the alias {alias}. {fix}: tunetrail promote RUN"


def _ambiguous(reference: str, matches: list[RecordedRun], runs: list[RecordedRun]) -> str:
    """Return the message that `reference` does not name one run, with the newest runs that it may name."""
    candidates = matches or runs
    lines = [f"  {run.id}  {run.status:<8}  {run.name}" for run in candidates[:_LISTED]]
    if not lines:
        return f"{reference}: the store has no run. Make one: tunetrail run"
    if len(candidates) > _LISTED:
        lines.append(f"  and {len(candidates) - _LISTED} more: tunetrail ls")
    reason = f"{len(matches)} runs match. Give one's id" if matches else "no run has this id or name. There are"
    return "\n".join([f"{reference or repr(reference)}: {reason}:", *lines])


def download(root: Path, run_id: str, names: Iterable[str], folder: Path) -> list[str]:
    """Put files of the run's record (`params.yaml`, `report/metrics.json`) into `folder`, each at its own path.

    Return the names of those that the record does not have.
    """
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # small files
    names = list(names)
    with open_client(root) as client:
        parents = {str(Path(name).parent) for name in names}
        recorded = {
            file.path for parent in parents for file in client.list_artifacts(run_id, None if parent == "." else parent)
        }
        for name in recorded.intersection(names):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            client.download_artifacts(run_id, name, str((folder / name).parent))  # MLflow keeps the last name only
    return [name for name in names if name not in recorded]


def read_artifacts(root: Path, run_id: str, names: Iterable[str]) -> dict[str, str]:
    """Return the text of these files of the run's record, by their names; those that it does not have are left out."""
    with tempfile.TemporaryDirectory() as folder:
        names = list(names)
        missing = download(root, run_id, names, Path(folder))
        return {name: (Path(folder) / name).read_text(encoding="utf-8") for name in names if name not in missing}


def has_artifact(root: Path, run_id: str, name: str) -> bool:
    """Return whether the run's record has a file or folder of this name at its top level."""
    with open_client(root) as client:
        return any(file.path == name for file in client.list_artifacts(run_id))


def curves(root: Path, run_id: str, names: Iterable[str]) -> dict[str, list[tuple[int, float]]]:
    """Return logged metrics as (step, value) by name; of a step logged twice the later value."""
    curves = {}
    with open_client(root) as client:
        for name in names:
            points = sorted(client.get_metric_history(run_id, name), key=lambda point: (point.step, point.timestamp))
            curves[name] = list({point.step: point.value for point in points}.items())
    return curves


def registered(root: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the registered versions of each run that has any, by its id: {"model", "version", "aliases": ["@champion"]}."""
    versions: dict[str, list[dict[str, Any]]] = {}
    with open_client(root) as client:
        for model in client.search_registered_models(max_results=1000):
            for entry in client.search_model_versions(f"name = '{model.name}'"):
                aliases = sorted(f"@{alias}" for alias, number in model.aliases.items() if str(number) == str(entry.version))
                version = {"model": model.name, "version": int(entry.version), "aliases": aliases}
                versions.setdefault(entry.run_id, []).append(version)
    return versions


def attach(root: Path, run_id: str, files: Iterable[Path], folder: str) -> None:
    """Add files to the run's record, in its `folder`.

    Raises:
        UserError: the store does not take them.
    """
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # small files
    with open_client(root) as client:
        try:
            for file in files:
                client.log_artifact(run_id, str(file), folder)
        except OSError as error:
            raise UserError(f"run {run_id}: the store does not take its files ({redact(str(error))[:300]})") from None
