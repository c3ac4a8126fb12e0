"""`tunetrail show`: one run -> its lineage, scores and what to type next."""

import dataclasses
import json
import shlex
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunetrail.checkout import git

if TYPE_CHECKING:
    from tunetrail.tracking.recorded import RecordedRun

_METRICS = "report/metrics.json"


@click.command("show")
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def command(run: str, as_json: bool) -> None:
    """Show what a run was made from and its scores; of a sweep, its jobs and the best of them.

    RUN is an MLflow id or the start of one, a name, or @alias of the registry. The best job has the highest Prompt Strict;
    of equal ones it is the one with the lowest validation loss, then the first.
    """
    root = git.root()  # before the imports, which take seconds
    from tunetrail.evaluation import results
    from tunetrail.runs import listing
    from tunetrail.tracking import store

    shown = store.find(root, run)
    every = store.every(root)
    registered = store.registered(root)
    measured = results.recorded(store.read_artifacts(root, shown.id, [_METRICS]).get(_METRICS))
    patch = store.has_artifact(root, shown.id, "changes.patch")
    versions = registered.get(shown.id, [])
    children = [other for other in reversed(every) if other.parent == shown.id]
    if as_json:
        record = {"run": dataclasses.asdict(shown), "scores": measured, "patch": patch, "versions": versions}
        click.echo(json.dumps(record | {"children": [dataclasses.asdict(child) for child in children]}, indent=2))
        return
    ids = listing.short(every)
    lines = _next_steps_of_sweep(shown, children, ids, registered) if children else _next_steps(shown, ids, registered)
    if shown.status in ("FAILED", "KILLED"):
        lines = _retry(root, shown, every) + lines
    screen = listing.screen(shown, ids, children, versions, measured, patch)
    click.echo("\n".join([f"{screen}\n\nnext:", *(f"  {line}" for line in lines)]))


def _next_steps_of_sweep(
    run: "RecordedRun", children: list["RecordedRun"], ids: dict[str, str], registered: dict[str, Any]
) -> list[str]:
    from tunetrail.tracking import ranking

    lines = [_command_line(f"ls --sweep {run.sweep or ids[run.id]} --sort {ranking.BEST}")]
    finished = [ids[child.id] for child in children if child.finished]
    if len(finished) > 1:
        lines.append(_command_line(f"compare {' '.join(finished[:8])}"))
    best = ranking.best(children)
    if best and best.id not in registered and not ranking.below_base(best):
        lines.append(_command_line(f"promote {ids[best.id]}"))
    return lines


def _next_steps(run: "RecordedRun", ids: dict[str, str], registered: dict[str, Any]) -> list[str]:
    purposes = {"compare {} OTHER": "what differs from another run, and whether the scores do"}
    if run.finished:
        purposes = {"chat {}": "ask its base and its tuned model"} | purposes
        purposes["restore {}"] = "put its models, params and results back into the checkout"
        purposes["reproduce {}"] = "run it again and compare the numbers"
        if run.id not in registered:
            purposes["promote {}"] = "register its model as the champion"
    return [_command_line(command.format(ids[run.id]), purpose) for command, purpose in purposes.items()]


def _retry(root: Path, run: "RecordedRun", every: list["RecordedRun"]) -> list[str]:
    from tunetrail.tracking import tags

    sweep = next((other for other in every if other.id == run.parent), run)
    if sweep.is_sweep:
        purpose = "the same sweep: jobs that have finished are skipped, the others continue"
        lines = [_command_line(f"run -m {sweep.tags.get(tags.SWEEP_OVERRIDES, '')}", purpose)]
    elif earlier := run.tags.get(tags.REPRODUCES):
        lines = [_command_line(f"reproduce {earlier[:8]}", "the same again")]
    else:
        lines = ["the command that started it continues it: finished stages are not run again"]
    host, folder = run.checkout
    composed = Path(folder) / "work" / "composed.yaml"
    if host == socket.gethostname() and composed.is_relative_to(root / "runs") and composed.is_file():
        command = f"run --params {shlex.quote(str(composed.relative_to(root)))}"
        lines.append(_command_line(command, "this job alone, as a run in this checkout, with the same parameters"))
    return lines


def _command_line(command: str, purpose: str = "") -> str:
    """Return a command with its purpose beside it, or below it if the command is long."""
    gap = " " if len(command) <= 28 else "\n      "
    return f"tunetrail {command:<28}{gap}{purpose}".rstrip()
