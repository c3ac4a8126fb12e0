"""`tunetrail show`: one run -> its lineage, scores and what to type next."""

import json
import shlex
import socket
from pathlib import Path
from typing import Any

import click

from tunetrail.checkout import git


@click.command("show")
@click.argument("run")
@click.option("--json", "machine", is_flag=True, help="Print all of it as JSON.")
def command(run: str, machine: bool) -> None:
    """Show where a run came from and what came of it; of a sweep, its jobs and the best of them.

    RUN is an MLflow id, the beginning of one, a name, or @alias of the registry. The best job has the highest Prompt Strict;
    of equal ones it is the one with the lowest validation loss, then the first.
    """
    from tunetrail.evaluation import results
    from tunetrail.runs import listing
    from tunetrail.tracking import store

    root = git.root()
    shown = store.to_dict(store.find(root, run))
    every, registered = store.every(root), store.registered(root)
    written = store.read_artifacts(root, shown["id"], ["report/metrics.json"]).get("report/metrics.json")
    found = {
        "scores": results.recorded(written),
        "patch": store.has_artifact(root, shown["id"], "changes.patch"),
        "versions": registered.get(shown["id"], []),
        "children": [one for one in reversed(every) if one["parent"] == shown["id"]],
    }
    if machine:
        click.echo(json.dumps({"run": shown} | found, indent=2))
        return
    ids, lines = listing.short(every), _next(root, shown, every, registered)
    click.echo(f"{listing.screen(shown, ids, found)}\n\nnext:\n" + "\n".join(f"  {line}" for line in lines))


def _next(root: Path, run: dict[str, Any], every: list[dict[str, Any]], registered: dict[str, Any]) -> list[str]:
    """What there is to type; nothing that was done already."""
    from tunetrail.runs import listing
    from tunetrail.tracking import ranking

    ids = listing.short(every)
    children = [one for one in reversed(every) if one["parent"] == run["id"]]
    lines = _again(root, run, every) if run["status"] in ("FAILED", "KILLED") else []
    if children:
        lines.append(_line(f"ls --sweep {run['tags'].get('sweep', ids[run['id']])} --sort {ranking.BEST}"))
        finished = [ids[child["id"]] for child in children if child["status"] == "FINISHED"]
        if len(finished) > 1:
            lines.append(_line(f"compare {' '.join(finished[:8])}"))
        first = ranking.best(children)
        promotes = first and first["id"] not in registered and not ranking.below_base(first)
        return lines + ([_line(f"promote {ids[first['id']]}")] if promotes else [])
    words = {"compare {} OTHER": "what differs from another run, and whether the scores do"}
    if run["status"] == "FINISHED":
        words = {"chat {}": "ask its base and its tuned model"} | words
        words["restore {}"] = "its checkpoint, params and results, back into the checkout"
        words["reproduce {}"] = "all of it again, and whether the numbers agree"
        if run["id"] not in registered:
            words["promote {}"] = "its model into the registry"
    return lines + [_line(word.format(ids[run["id"]]), says) for word, says in words.items()]


def _again(root: Path, run: dict[str, Any], every: list[dict[str, Any]]) -> list[str]:
    """The command that tries a run again that did not finish."""
    from tunetrail.tracking import mlflow_run, ranking

    sweep = next((one for one in every if one["id"] == run["parent"]), run)
    if ranking.is_sweep(sweep):
        says = "the same sweep: jobs that have finished are skipped, the others go on"
        lines = [_line(f"run -m {sweep['tags'].get('sweep.overrides', '')}", says)]
    elif earlier := run["tags"].get("reproduces"):
        lines = [_line(f"reproduce {earlier[:8]}", "the same once more")]
    else:
        lines = ["the command that began it goes on with it: stages that have ended are not run again"]
    host, _, place = run["tags"].get(mlflow_run.CHECKOUT, "").partition(":")
    composed = Path(place) / "work" / "composed.yaml"
    if host == socket.gethostname() and composed.is_relative_to(root / "runs") and composed.is_file():
        word = f"run --params {shlex.quote(str(composed.relative_to(root)))}"
        lines.append(_line(word, "it alone, as a run in this checkout; its worktree has what it was composed of"))
    return lines


def _line(word: str, says: str = "") -> str:
    """A command, and beside it, or below a long one, what it does."""
    gap = " " if len(word) <= 28 else "\n      "
    return f"tunetrail {word:<28}{gap}{says}".rstrip()
