"""`tunetrail show`: one run -> its lineage, scores and what to type next."""

import json

import click

from tunetrail import workspace


@click.command("show")
@click.argument("run")
@click.option("--json", "machine", is_flag=True, help="Print all of it as JSON.")
def command(run: str, machine: bool) -> None:
    """Show where a run came from and what came of it; of a sweep, its jobs and the best of them.

    RUN is an MLflow id, the beginning of one, a name, or @alias of the registry.
    """
    from tunetrail import listing, results, store

    root = workspace.root()
    shown = store.plain(store.find(root, run))
    every = store.every(root)
    written = store.texts(root, shown["id"], ["report/metrics.json"]).get("report/metrics.json")
    found = {
        "scores": results.recorded(written),
        "patch": store.holds(root, shown["id"], "changes.patch"),
        "versions": store.registered(root).get(shown["id"], []),
        "children": [one for one in reversed(every) if one["parent"] == shown["id"]],
    }
    click.echo(
        json.dumps({"run": shown} | found, indent=2) if machine else listing.screen(shown, listing.short(every), found)
    )
