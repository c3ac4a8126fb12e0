"""`tunetrail ls`: the store's runs -> one line each."""

import json
from typing import Any

import click

from tunetrail import UserError, workspace


@click.command("ls")
@click.option("--sweep", help="Only this sweep's runs: its name, or its parent RUN.")
@click.option("--sort", metavar="KEY", help="By a metric, the highest first, or by a param.")
@click.option("--json", "machine", is_flag=True, help="Print the runs whole, as JSON.")
def command(sweep: str | None, sort: str | None, machine: bool) -> None:
    """List the runs, the newest first, a sweep's jobs below their parent.

    \b
      tunetrail ls
      tunetrail ls --sweep sweep-1a2b3c4d --sort ifeval/tuned/prompt_strict
      tunetrail ls --sort train.learning_rate

    Scores are Prompt Strict of the base and of the tuned model.
    """
    from tunetrail import listing, store

    root = workspace.root()
    every = store.every(root)
    if not every:
        raise UserError("the store has no run. Make one: tunetrail run")
    runs = _of_sweep(every, sweep, lambda: store.find(root, sweep).info.run_id) if sweep else every
    runs = listing.ordered(runs, sort) if sort else [run for _, run in listing.nested(runs)]
    if machine:
        click.echo(json.dumps(runs, indent=2))
        return
    versions = store.registered(root).items()
    aliases = {run: " ".join(alias for one in of for alias in one["aliases"]) for run, of in versions}
    lines = [(0, run) for run in runs] if sort else listing.nested(runs)
    _print(listing.table(lines, listing.short(every), aliases, sort or ""))


def _of_sweep(every: list[dict[str, Any]], sweep: str, found: Any) -> list[dict[str, Any]]:
    """The runs whose tag is `sweep`, or is that of the run which `found` gives."""
    named = [run for run in every if run["tags"].get("sweep") == sweep]
    if named:
        return named
    given = found()
    tag = next((run["tags"].get("sweep") for run in every if run["id"] == given), None)
    if not tag:
        there = list(dict.fromkeys(run["tags"]["sweep"] for run in every if run["tags"].get("sweep")))
        raise UserError(f"--sweep {sweep}: this run is of no sweep. There are: {', '.join(there[:10]) or 'none'}")
    return [run for run in every if run["tags"].get("sweep") == tag]


def _print(rows: list[list[str]]) -> None:
    """In colour and as wide as the terminal, elsewhere as plain columns; only names are ever cut."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from tunetrail import listing

    console = Console(highlight=False)
    if not console.is_terminal:
        click.echo(listing.columns(listing.fitted(rows)))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    headings, *lines = listing.fitted(rows, console.width)
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    colours = {"FINISHED": "green", "FAILED": "red", "KILLED": "yellow", "RUNNING": "cyan"}
    for line in lines:
        table.add_row(*[Text(cell, style=colours.get(cell, "")) for cell in line])
    console.print(table, width=max(console.width, console.measure(table).maximum), crop=False)
