"""Words -> runs: how a run is found in the record. `mlflow_run` writes it, `connection` opens it.

One of the few files that talk to MLflow. Not covered: models that serve, which are `registry`'s.
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
from tunetrail.tracking import ranking
from tunetrail.tracking.connection import EXPERIMENT as EXPERIMENT
from tunetrail.tracking.connection import open_client as reached
from tunetrail.tracking.connection import uri as uri

PARENT = "mlflow.parentRunId"  # MLflow's own tag, by which its UI nests runs
_LISTED = 10  # runs, where a person must choose one


def search(client: MlflowClient, tags: dict[str, str], more: str = "", order: str = "ASC") -> list[Any]:
    """The runs of every experiment with these tags, the oldest first (`order`), as MLflow's objects."""
    quoted = {key: f'"{value}"' if "'" in value else f"'{value}'" for key, value in tags.items()}
    conditions = [f"tags.`{key}` = {value}" for key, value in quoted.items()] + ([more] if more else [])
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    ordered, condition = [f"attributes.start_time {order}"], " AND ".join(conditions)
    page = client.search_runs(experiments, condition, order_by=ordered)
    found = list(page)
    while page.token:  # a page has a thousand
        page = client.search_runs(experiments, condition, order_by=ordered, page_token=page.token)
        found += page
    return found


def runs(root: Path, word: str = "") -> list[Any]:
    """The runs, as MLflow's objects and the newest first, whose id is or begins with `word`, or whose name it is."""
    pattern = re.sub(r"['\"\\%]", "_", word)
    conditions = (f"attributes.run_id LIKE '{pattern}%'", f"attributes.run_name LIKE '{pattern}'")
    with reached(root) as client:
        found = [run for condition in conditions for run in search(client, {}, condition, "DESC")]
    alike = [run for run in found if run.info.run_id.startswith(word) or run.info.run_name == word]
    return list({run.info.run_id: run for run in alike}.values())


def every(root: Path) -> list[dict[str, Any]]:
    """All runs of the store as `to_dict` has them, the newest first."""
    with reached(root) as client:
        return [to_dict(run) for run in search(client, {}, order="DESC")]


def children(root: Path, parent: str) -> list[dict[str, Any]]:
    """The jobs of the sweep whose run is `parent`, the oldest first, as `to_dict` has them."""
    with reached(root) as client:
        return [to_dict(run) for run in search(client, {PARENT: parent})]


def to_dict(run: Any) -> dict[str, Any]:
    """An MLflow run without MLflow.

    `started` and `ended` are in ISO 8601 (None before), `parent` is a run's id or None, `artifacts` their address as it may
    be printed.
    """

    def time(milliseconds: int | None) -> str | None:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds") if milliseconds else None

    info, data = run.info, run.data
    return {
        "id": info.run_id,
        "name": info.run_name,
        "status": info.status,
        "started": time(info.start_time),
        "ended": time(info.end_time),
        "parent": data.tags.get(PARENT),
        "artifacts": redact(info.artifact_uri),
        "params": dict(data.params),
        "metrics": dict(data.metrics),
        "tags": dict(data.tags),
    }


def find(root: Path, word: str) -> Any:
    """The one run that `word` means: its id, the beginning of it, its name, `@alias` or `model@alias` of the registry.

    Raises:
        UserError: it means none or several; the message lists what it may mean.
    """
    if "@" in word and (named := _by_alias(root, *word.rsplit("@", 1))):
        return named
    found = runs(root, word)
    if not found and "@" in word:
        raise UserError(_no_alias(root, *word.rsplit("@", 1)))
    if len(found) != 1:
        raise UserError(_choice(word, found, runs(root)))
    return found[0]


def single(root: Path, word: str) -> Any:
    """The one run that `word` means (`find`), for what takes a run with a config and a model of its own.

    Raises:
        UserError: as `find`; or it is a sweep, and the message names the best of its jobs.
    """
    run = find(root, word)
    if ranking.is_sweep(to_dict(run)):
        raise UserError(ranking.sweep_hint(to_dict(run), children(root, run.info.run_id)))
    return run


def _by_alias(root: Path, model: str, alias: str) -> Any:
    """The run of the registered model (any, where `model` is empty) whose version has this alias, or None."""
    with reached(root) as client:
        models = client.search_registered_models(max_results=1000)
        having = [one.name for one in models if alias in one.aliases and model in ("", one.name)]
        if len(having) > 1:
            words = ", ".join(f"{name}@{alias}" for name in having)
            raise UserError(f"@{alias}: {len(having)} registered models have this alias. Give one: {words}")
        return client.get_run(client.get_model_version_by_alias(having[0], alias).run_id) if having else None


def _no_alias(root: Path, model: str, alias: str) -> str:
    """Why `model@alias` means nothing, and what there is."""
    with reached(root) as client:
        models = client.search_registered_models(max_results=1000)
    there = ", ".join(sorted(f"{one.name}@{other}" for one in models for other in one.aliases))
    what = f"no registered model {model} has" if model else "no registered model has"
    listed = f"There are: {there}. A champion is made by" if there else "Make a champion"
    return f"{model}@{alias}: {what} the alias {alias}. {listed}: tunetrail promote RUN"


def _choice(word: str, named: list[Any], every: list[Any]) -> str:
    """Why `word` does not name one run, and the newest that it may mean."""
    meant = named or every
    listed = [f"  {run.info.run_id}  {run.info.status:<8}  {run.info.run_name}" for run in meant[:_LISTED]]
    if not listed:
        return f"{word}: the store has no run. Make one: tunetrail run"
    if len(meant) > _LISTED:
        listed.append(f"  and {len(meant) - _LISTED} more: tunetrail ls")
    what = f"{len(named)} runs are called or begin so. Give one's id" if named else "no run has this id or name. There are"
    return "\n".join([f"{word or repr(word)}: {what}:", *listed])


def download(root: Path, run_id: str, names: Iterable[str], folder: Path) -> list[str]:
    """Put files of the run's record (`params.yaml`, `report/metrics.json`) into `folder`, each at its own path.

    Returns the names of those that the record does not have.
    """
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # small files
    names = list(names)
    with reached(root) as client:
        places = {str(Path(name).parent) for name in names}
        there = {file.path for place in places for file in client.list_artifacts(run_id, None if place == "." else place)}
        for name in there.intersection(names):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            client.download_artifacts(run_id, name, str((folder / name).parent))  # MLflow keeps the last name only
    return [name for name in names if name not in there]


def read_artifacts(root: Path, run_id: str, names: Iterable[str]) -> dict[str, str]:
    """What is in these files of the run's record, by their names; those that it does not have are left out."""
    with tempfile.TemporaryDirectory() as folder:
        names = list(names)
        missing = download(root, run_id, names, Path(folder))
        return {name: (Path(folder) / name).read_text(encoding="utf-8") for name in names if name not in missing}


def has_artifact(root: Path, run_id: str, name: str) -> bool:
    """Whether the run's record has a file or folder of this name at its top."""
    with reached(root) as client:
        return any(file.path == name for file in client.list_artifacts(run_id))


def curves(root: Path, run_id: str, names: Iterable[str]) -> dict[str, list[tuple[int, float]]]:
    """Logged metrics by step, also of a run that did not finish; of a step logged twice the later value."""
    with reached(root) as client:
        found = {name: client.get_metric_history(run_id, name) for name in names}
    ordered = {name: sorted(points, key=lambda point: (point.step, point.timestamp)) for name, points in found.items()}
    return {name: list({point.step: point.value for point in points}.items()) for name, points in ordered.items()}


def registered(root: Path) -> dict[str, list[dict[str, Any]]]:
    """The registered versions of each run that has some: {"model", "version", "aliases": ["@champion"]}, by the run's id."""
    found: dict[str, list[dict[str, Any]]] = {}
    with reached(root) as client:
        for model in client.search_registered_models(max_results=1000):
            for one in client.search_model_versions(f"name = '{model.name}'"):
                aliases = sorted(f"@{alias}" for alias, version in model.aliases.items() if str(version) == str(one.version))
                kept = {"model": model.name, "version": int(one.version), "aliases": aliases}
                found.setdefault(one.run_id, []).append(kept)
    return found


def attach(root: Path, run_id: str, files: Iterable[Path], place: str) -> None:
    """Put files into the run's record, below `place`.

    Raises:
        UserError: the store does not take them.
    """
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # small files
    with reached(root) as client:
        try:
            for file in files:
                client.log_artifact(run_id, str(file), place)
        except OSError as error:
            raise UserError(f"run {run_id}: the store does not take its files ({redact(str(error))[:300]})") from None
