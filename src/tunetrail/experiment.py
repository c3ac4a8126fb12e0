"""Composed parameters -> one tracked run in this checkout: what was asked for, DVC's stages, the record, the table."""

import functools
import hashlib
import json
import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunetrail import UserError, answers, events, machine
from tunetrail.checkout import dvc, experiments, git, integrity, locks, worktree
from tunetrail.config import canonical, check, inputs, params, schema
from tunetrail.data import sources
from tunetrail.evaluation import instructions
from tunetrail.plan import acceptance
from tunetrail.training import history

RAW, PLAN = "data/raw", "work/plan.json"
# Stages that jobs of a sweep share, and the sections that they and those before them depend on: one job runs such a stage
# for all whose sections are equal, and the others find it in DVC's run cache.
TURNS = {
    "prepare": ("fetch", "prepare"),
    "base": ("fetch", "prepare", "base", "accelerate"),
    "contract": ("fetch", "prepare", "base", "accelerate", "contract"),
    "evaluate_base": ("fetch", "prepare", "base", "accelerate", "evaluate"),
}


def run_experiment(
    values: dict[str, Any],
    root: Path,
    force: bool = False,
    overrides: list[str] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """One run: check what was composed and what it names, then params.yaml, DVC, MLflow, and the table at the end.

    `force` runs every stage, also one that has not changed, on the data that are here. `overrides` are the person's words,
    None where what was composed came from elsewhere; `notes` say what was added to them, and are printed at the head.
    """
    known = schema.params()
    values = canonical.read(values, known)
    check.check(values, known)
    values["prepare"].setdefault("field", None)  # a file of an earlier version has none, and DVC asks for it
    inputs.check(values)
    for note in notes:
        print(note, flush=True)
    with locks.exclusive_lock(root) as held:
        code = git.read_code(root, root / "work" / "changes.patch")
        facts = planned(values, root)
        answers.close()
        from tunetrail.data import contract  # MLflow takes seconds to import: not before the checks
        from tunetrail.tracking import about, mlflow_run, upload

        with mlflow_run.run(root, values["name"], params=check.flatten(values)) as run:
            print(f"run {run.id}: {values['name']}, tracked in {run.address}", flush=True)
            print(contract.license_notice(values["contract"], values["base"]), flush=True)
            params.write(values, root)
            run.params(check.flatten(values))
            run.tags({"experiment": values["name"], "git.commit": code.commit, "git.dirty": str(code.dirty).lower()})
            run.tags({"code.digest": code.digest})
            run.tags({} if overrides is None else {"overrides": shlex.join(overrides) or "none"})
            hardware = machine.hardware_tags()
            run.tags(hardware | upload.environment(root))
            run.artifacts(root, "params.yaml", "dvc.yaml", *(["work/changes.patch"] if code.dirty else []))
            if facts:
                (root / PLAN).write_text(json.dumps(facts, indent=2) + "\n")
                run.artifacts(root, PLAN)
                run.tags({"plan.allowed": " ".join(values["plan"]["allow"])} if values["plan"]["allow"] else {})
            (root / events.FILE).unlink(missing_ok=True)
            if not run.resumed:  # else what an earlier try ran is this run's own
                (root / "work" / "seconds.jsonl").unlink(missing_ok=True)
            started = time.time()
            with about.introduced(root, about.of(run, root, values, code, overrides, hardware)):
                try:
                    with run.following(root / values["train"]["output_dir"] / "history.jsonl"):
                        ran = _stages(root, held, values, force)
                finally:
                    upload.logs(run, root, started)
                _compare(root, ran)
                shown = upload.upload(run, root, values)
            if facts and facts["device"]["from"] == "this machine":  # another's speed is not this one's
                from tunetrail.plan.estimate import measured

                steps, _ = history.read(root / "outputs" / "train" / "history.jsonl")
                measured.add(root, facts, upload.seconds(root), steps)
            run.tags({"dvc.experiment": _saved(root, f"{values['name']}-{run.id[:8]}")})
        _show(root, run, shown)


def planned(values: dict[str, Any], root: Path) -> dict[str, Any] | None:
    """What the run will be, printed; None where that cannot be known before the data or the model are fetched.

    Raises:
        UserError: the plan has errors that `plan.allow` does not name, or a tool cannot be asked.
    """
    from tunetrail.plan import table

    facts, found = judged(values, root)
    refusal = _refusal(values, found)
    print(table.table(facts) if "unknown" not in facts else f"no plan: {facts['unknown']}", flush=True)
    if found:
        print(f"\n{table.findings(found, values['plan']['allow'])}\n", flush=True)
    if refusal:
        raise UserError(f"refused before it costs anything: {refusal}")
    return None if "unknown" in facts else facts


def refuse(values: dict[str, Any], root: Path) -> None:
    """As `planned`, without a word: before the jobs of a sweep.

    Raises:
        UserError: the run would be refused, or an input of it is not what it should be.
    """
    inputs.check(values)
    if refusal := _refusal(values, judged(values, root)[1]):
        raise UserError(f"it would be refused: {refusal}")


def judged(values: dict[str, Any], root: Path) -> tuple[dict[str, Any], list[Any]]:
    """The facts of the run, and what is wrong with it; where the facts cannot be known, why not as `unknown`, and what
    the tools refuse anyway.

    Raises:
        UserError: the device is not known, a tool cannot be asked, or training would stop as it begins.
    """
    from tunetrail.plan import device
    from tunetrail.plan import facts as plan
    from tunetrail.plan.estimate.known import NotKnown
    from tunetrail.plan.rules import judge

    chosen, origin = device.chosen(values)
    axolotl, checkers = acceptance.ask(values, root, chosen, origin), None
    try:
        checkers = instructions.ask(values, root)
        facts = plan.make(values, root, chosen, origin)
        found = plan.judged(values, facts, dict(os.environ))
    except NotKnown as error:
        facts, found = {"unknown": str(error)}, []
    tools = judge.tools_refuse(values, axolotl(), checkers() if checkers else "", origin == "this machine")
    found = sorted([*tools, *found], key=lambda one: one.level)
    return facts | {"findings": [vars(one) for one in found]}, found


def _refusal(values: dict[str, Any], found: list[Any]) -> str:
    """What refuses the run, and what can be done; "" where nothing does."""
    from tunetrail.plan.rules import judge

    codes = [one.code for one in judge.refused(found, values["plan"]["allow"])]
    if not codes:
        return ""
    listed = ",".join(codes)
    told = "`tunetrail plan` with the same words says why and, where it knows one, the command that is not refused"
    meant = "" if set(codes) & set(judge.NEVER_ALLOWED) else f". Who means it so: 'plan.allow=[{listed}]'"
    return f"{listed}. {told}{meant}"


def _stages(root: Path, held: int, values: dict[str, Any], force: bool) -> set[str]:
    """Bring every stage up to date; returns those that ran now, without what an earlier try of a resumed run did."""
    from tunetrail.tracking import upload

    earlier = len(upload.timed(root))
    _reproduce(root, held, values, force)
    return {line["stage"] for line in upload.timed(root)[earlier:]}


def _reproduce(root: Path, held: int, values: dict[str, Any], force: bool) -> None:
    shared = root / worktree.SHARED
    if force:
        if not sources.holds(root / RAW, values["fetch"]):
            dvc.reproduce(root, held, RAW)
        # Not all of it once more, which would fetch data that have changed since.
        dvc.reproduce(root, held, "--force", "--single-item", *dvc.stages_without(root, RAW))
        return
    if shared.is_symlink():  # in a worktree beside others
        for stage, sections in TURNS.items():
            what = json.dumps([values[name] for name in sections], sort_keys=True).encode()
            turn = shared / "turns" / f"{stage}-{hashlib.sha256(what).hexdigest()[:10]}"
            with locks.wait_for_lock(turn, functools.partial(_waiting, root, stage)):
                dvc.reproduce(root, held, stage)
    dvc.reproduce(root, held)


def _waiting(root: Path, stage: str) -> None:
    print(f"{stage}: waits for another job that runs it", flush=True)
    events.add(root, stage, waiting=True)


def _compare(root: Path, ran: set[str]) -> None:
    """Read what stages left but those that `ran` now: DVC takes it from its cache without a look.

    Raises:
        UserError: it is not what dvc.lock records, so whatever was made of it would be recorded wrongly.
    """
    cached = {name: stage for name, stage in dvc.locked_stages(root).items() if name not in ran}
    hashes, made = dvc.hashes(cached), dvc.outputs(root)
    outs = {path: md5 for path, md5 in hashes.items() if path in made}
    integrity.verify(root, root, outs, f"{root}/dvc.lock", "the same command, which makes it again")


def _saved(root: Path, name: str) -> str | None:
    """The run as a DVC experiment; without one the run is recorded anyway."""
    try:
        return experiments.save(root, name)
    except UserError as error:
        print(f"no DVC experiment was saved: {error}", flush=True)
        return None


def _show(root: Path, run: Any, shown: Path) -> None:
    """Print the scores, where the report `shown` and the figures are, and how to open the run."""
    from tunetrail.report import metrics

    print(f"\n{metrics.table(json.loads((root / 'report' / 'metrics.json').read_text()))}")
    figures = [shown, "report/ifeval.png", "report/types.png", "report/loss.png", "report/data_card.md"]
    print("\n" + "\n".join(str(root / figure) for figure in figures))
    # Without the word at its end MLflow opens the pages that it has for traces of GenAI applications.
    page = f"#/experiments/{run.experiment_id}/runs/{run.id}?workflowType=machine_learning"
    if run.address.startswith("http"):
        print(f"\nMLflow run {run.id}: {run.address.rstrip('/')}/{page}")
    else:
        print(f"\nMLflow run {run.id}. Open it with: make ui    and then\n  http://127.0.0.1:5000/{page}")
