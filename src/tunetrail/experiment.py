"""Composed parameters -> one tracked run in this checkout: the plan, DVC's stages, the record, the table."""

import functools
import hashlib
import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunetrail import UserError, events, machine, tool_queries
from tunetrail.checkout import cache, dvc, dvc_config, experiments, git, integrity, locks, worktree
from tunetrail.config import canonical, check, inputs, params, schema
from tunetrail.data import sources
from tunetrail.tracking import tags
from tunetrail.training import history, resume

RAW, PLAN = "data/raw", "work/plan.json"
# Stages that the jobs of a sweep share: of the jobs that agree in all that such a stage depends on, one runs it, and the
# others take its outputs from DVC's run cache.
SHARED_STAGES = ("prepare", "base", "contract", "evaluate_base")


def run_experiment(
    values: dict[str, Any],
    root: Path,
    force: bool = False,
    overrides: list[str] | None = None,
    notes: Sequence[str] = (),
    fresh: bool = False,
) -> str:
    """Run one experiment: check the values and their inputs, plan, then params.yaml, DVC's stages, the record. Return its
    result as text: the scores, where the report and the figures are, and how to open the run.

    `force` runs every stage, changed or not, on the data that are here. An attempt at the same experiment that did not
    finish here is continued, in its MLflow run and from its newest checkpoint, unless `fresh`.

    `overrides` are those that were typed, None if the values do not come from overrides; `notes` say what was added to them,
    and are printed first.
    """
    params_schema = schema.params()
    values = canonical.read(values, params_schema)
    check.check(values, params_schema)
    values["prepare"].setdefault("field", None)  # a file of an earlier version has none, and DVC asks for it
    inputs.check(values)
    for note in notes:
        print(note, flush=True)
    with locks.exclusive_lock(root) as lock_fd:
        code = git.read_code(root, root / "work" / "changes.patch")
        from tunetrail.plan import gate  # importing NumPy and, below, MLflow takes seconds: after the checks

        plan = gate.check_run(values, root)
        tool_queries.close()
        from tunetrail.data import contract
        from tunetrail.tracking import mlflow_run

        if fresh:
            resume.forget(root, values["train"])
        with mlflow_run.run(root, values["name"], params=check.flatten(values), code=code.digest, fresh=fresh) as run:
            attempt = f", continued: attempt {run.tries}" if run.tries > 1 else ""
            print(f"run {run.id}: {values['name']}, tracked in {run.address}{attempt}", flush=True)
            print(contract.license_notice(values["contract"], values["base"]), flush=True)
            report = _run_and_record(run, root, lock_fd, values, force, code, overrides, plan)
        result = _result(root, run, report)
        if run.store_failed:
            print(result, flush=True)
            raise UserError(
                f"the tracking store did not take all of run {run.id}'s record. Its files are here: the same command trains "
                "nothing and uploads the whole record."
            )
        return result


def _run_and_record(
    run: Any,
    root: Path,
    lock_fd: int,
    values: dict[str, Any],
    force: bool,
    code: git.Code,
    overrides: list[str] | None,
    plan: Any,
) -> Path:
    """Bring the stages up to date, with all that they leave in the record of `run`; return the file with its report."""
    from tunetrail.tracking import record, run_file

    params.write(values, root)
    hardware = machine.hardware()
    run.code(code)
    run.tags(record.environment(root, hardware))
    _record_request(run, root, values, overrides, plan)
    (root / events.FILE).unlink(missing_ok=True)
    if not run.resumed:  # a resumed run keeps the times of its earlier attempts
        (root / "work" / "seconds.jsonl").unlink(missing_ok=True)
    started = time.time()
    with run_file.written(root, run_file.describe(run, root, values, code, overrides, hardware)):
        try:
            with run.following(root / values["train"]["output_dir"] / "history.jsonl"):
                ran = _stages(root, lock_fd, values, force)
        finally:
            record.upload_logs(run, root, started)
        _verify_cached_outputs(root, ran)
        report = record.upload(run, root, values)
    resume.finish(root / values["train"]["output_dir"])
    if plan.facts and plan.facts.device.origin == "this machine":  # another machine has another speed
        from tunetrail.plan import measured

        steps, _ = history.read(root / "outputs" / "train" / "history.jsonl")
        measured.add(root, plan.facts, record.seconds(root), steps)
    saved = _save_experiment(root, f"{values['name']}-{run.id[:8]}")
    run.tags({tags.DVC_EXPERIMENT: saved, tags.DVC_CACHE: cache.location(root)})
    return report


def _record_request(run: Any, root: Path, values: dict[str, Any], overrides: list[str] | None, plan: Any) -> None:
    """Record what was asked for, and what is planned."""
    run.params(check.flatten(values))
    typed = None if overrides is None else shlex.join(overrides) or "none"
    run.tags({tags.EXPERIMENT: values["name"], tags.OVERRIDES: typed})
    run.artifacts(root, "params.yaml", "dvc.yaml")
    if plan.facts:
        (root / PLAN).write_text(json.dumps(plan.to_dict(), indent=2) + "\n")
        run.artifacts(root, PLAN)
        run.tags({tags.PLAN_ALLOWED: " ".join(plan.allowed)})


def _stages(root: Path, lock_fd: int, values: dict[str, Any], force: bool) -> set[str]:
    """Bring every stage up to date, and return those that ran now, not in an earlier attempt of a resumed run."""
    from tunetrail.tracking import record

    earlier = len(record.stage_times(root))
    _reproduce(root, lock_fd, values, force)
    integrity.store_outputs(root)
    return {line["stage"] for line in record.stage_times(root)[earlier:]}


def _reproduce(root: Path, lock_fd: int, values: dict[str, Any], force: bool) -> None:
    shared = root / worktree.SHARED
    if force:
        if not sources.holds(root / RAW, values["fetch"]):
            dvc.reproduce(root, lock_fd, RAW)
        # Not `fetch`: the data at the source may have changed since.
        dvc.reproduce(root, lock_fd, "--force", "--single-item", *dvc.stages_without(root, RAW))
        return
    if shared.is_symlink():  # in a worktree beside others
        for stage in SHARED_STAGES:
            sections = {name: values[name] for name in dvc.sections(root, stage)}
            digest = hashlib.sha256(json.dumps(sections, sort_keys=True).encode()).hexdigest()
            lock = shared / "turns" / f"{stage}-{digest[:10]}"
            with locks.wait_for_lock(lock, functools.partial(_waiting, root, stage)):
                dvc.reproduce(root, lock_fd, stage)
    dvc.reproduce(root, lock_fd)


def _waiting(root: Path, stage: str) -> None:
    print(f"{stage}: waits for another job that runs it", flush=True)
    events.add(root, stage, waiting=True)


def _verify_cached_outputs(root: Path, ran: set[str]) -> None:
    """Compare the outputs of stages that did not run now with dvc.lock: DVC takes them from its cache without reading them.

    Raises:
        UserError: an output has other content, so the record of what was made from it would be wrong.
    """
    cached = {name: stage for name, stage in dvc.locked_stages(root).items() if name not in ran}
    outputs = dvc.outputs(root)
    outs = {path: md5 for path, md5 in dvc.hashes(cached).items() if path in outputs}
    integrity.verify(root, root, outs, f"{root}/dvc.lock", "the same command, which makes it again")


def _save_experiment(root: Path, name: str) -> str | None:
    """Save the run as a DVC experiment and return its name; None if that fails, since the run is recorded anyway."""
    try:
        return experiments.save(root, name)
    except UserError as error:
        print(f"no DVC experiment was saved: {error}", file=sys.stderr, flush=True)
        return None


def _result(root: Path, run: Any, report: Path) -> str:
    from tunetrail.report import metrics

    table = metrics.table(json.loads((root / "report" / "metrics.json").read_text()))
    figures = ("report/ifeval.png", "report/types.png", "report/loss.png", "report/data_card.md")
    files = "\n".join(str(root / file) for file in (report, *figures))
    # Without `workflowType`, MLflow opens its pages for traces of GenAI applications.
    page = f"#/experiments/{run.experiment_id}/runs/{run.id}?workflowType=machine_learning"
    # An address that is printed has no password.
    address = shlex.quote(run.address) if run.address == os.environ.get("MLFLOW_TRACKING_URI") else '"$MLFLOW_TRACKING_URI"'
    kept = _kept(root, run, address) if cache.is_temporary(root) else ""
    if run.address.startswith("http"):
        record = f"MLflow run {run.id}: {run.address.rstrip('/')}/{page}"
    else:
        command = f"mlflow ui --backend-store-uri {address}" if kept else "make ui"
        record = f"MLflow run {run.id}. Open it with: {command}    and then\n  http://127.0.0.1:5000/{page}"
    return f"\n{table}\n\n{kept or files}\n\n{record}"


def _kept(root: Path, run: Any, address: str) -> str:
    """Return what remains of a run in a clone that `mlflow run ADDRESS` made, and how to have it in a checkout.

    Return "" if a person made the clone, or if the store, at `address`, does not answer.
    """
    from tunetrail.tracking import store

    folder = dvc_config.cache_folder(root)
    try:
        recorded = store.find(root, run.id)
    except UserError:
        return ""
    source = recorded.tags.get(tags.SOURCE)
    if not source or source.startswith(str(root)) or folder.is_relative_to(root):
        return ""
    return (
        f"{root} is a temporary clone that MLflow made: it is not needed any more. What stays:\n"
        f"  report and figures: {recorded.artifacts}/report\n"
        f"  data and models, in DVC's cache: {folder}\n"
        f"In a checkout: MLFLOW_TRACKING_URI={address} tunetrail restore {run.id[:8]}"
    )
