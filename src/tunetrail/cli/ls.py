"""`tunetrail ls`: the store's runs -> one line each."""

import dataclasses
import json
import sys

import click

from tunetrail import UserError, table
from tunetrail.checkout import git


@click.command("ls")
@click.option("--sweep", help="Only this sweep's runs: its name, or its parent RUN.")
@click.option("--sort", metavar="KEY", help="Sort by a metric, the highest first, or by a param.")
@click.option("--json", "as_json", is_flag=True, help="Print all that is recorded of the runs, as JSON.")
def command(sweep: str | None, sort: str | None, as_json: bool) -> None:
    """List the runs, the newest first, and a sweep's jobs below it.

    \b
      tunetrail ls
      tunetrail ls --sweep sweep-1a2b3c4d --sort ifeval/tuned/prompt_strict
      tunetrail ls --sort train.learning_rate

    The scores are Prompt Strict of the base and of the tuned model, in %.
    """
    root = git.root()  # before the imports, which take seconds
    from tunetrail.runs import listing
    from tunetrail.tracking import ranking, store

    every = store.every(root)
    if not every:
        raise UserError("the store has no run. Make one: tunetrail run")
    runs = every
    if sweep is not None:
        name = ranking.sweep(every, sweep)
        runs = [run for run in every if run.sweep == name]
    lines = [(0, run) for run in ranking.ordered(runs, sort)] if sort else ranking.nested(runs)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(run) for _, run in lines], indent=2))
        return
    registered = store.registered(root).items()
    aliases = {run: " ".join(alias for version in of for alias in version["aliases"]) for run, of in registered}
    _print(listing.rows(lines, listing.short(every), aliases, sort or ""))


def _print(rows: list[list[str]]) -> None:
    """Print the rows: on a terminal in colour and with names shortened to its width, elsewhere as plain columns, uncut."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from tunetrail.runs import listing

    if not sys.stdout.isatty():  # not rich's own is_terminal, which a CI sets for its colours
        click.echo(table.columns(rows))
        return
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    headings, *lines = listing.fitted(rows, Console().width)
    for heading in headings:
        grid.add_column(heading, no_wrap=True)
    colours = {"FINISHED": "green", "FAILED": "red", "KILLED": "yellow", "RUNNING": "cyan"}
    for line in lines:
        grid.add_row(*[Text(cell, style=colours.get(cell, "")) for cell in line])
    Console(highlight=False, width=1000).print(grid)  # rich would cut every cell to the width of a narrow terminal
