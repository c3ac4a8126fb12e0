"""`tunetrail gc`: what runs take on the disk -> a table of it, or some of it freed."""

import contextlib
import shutil
import sys
from typing import TYPE_CHECKING

import click

from tunetrail import UserError, table
from tunetrail.checkout import git
from tunetrail.units import size

if TYPE_CHECKING:
    from tunetrail.runs.usage import Usage

_HELP = """Show what runs take on the disk, or free the space of runs that you name.

\b
  tunetrail gc                          each run, worktree and copy, its size, and how to free it
  tunetrail gc 1a84 2b95                free these runs: models and results, DVC experiment, worktree
  tunetrail gc --sweep sweep-1a2b3c4d   all runs of a sweep except those that are promoted or in the checkout
  tunetrail gc --failed --dry-run       only say what would be freed
  tunetrail gc --failed --copies --yes  without asking

RUN is an MLflow id or the start of one, or a name. Its MLflow record stays, with the tag `freed`. A run that is promoted, in
the checkout or running is refused; what another run, a commit or a worktree uses stays. `tunetrail reproduce` makes a
freed run again.
"""


@click.command("gc", help=_HELP)
@click.argument("runs", metavar="[RUN]...", nargs=-1)
@click.option("--sweep", help="The runs of this sweep: its name, or its parent RUN.")
@click.option("--failed", is_flag=True, help="Worktrees of failed and stopped runs, which then start from the beginning.")
@click.option(
    "--copies", is_flag=True, help="What is made again when needed: models for chat, tokenised rows, unfinished trainings."
)
@click.option("--dry-run", "dry", is_flag=True, help="Say what would be freed, and free nothing.")
@click.option("--yes", is_flag=True, help="Free it without asking.")
def command(runs: tuple[str, ...], sweep: str | None, failed: bool, copies: bool, dry: bool, yes: bool) -> None:
    root = git.root()  # before the imports, which take seconds
    from tunetrail.runs import gc, usage

    if not (runs or sweep is not None or failed or copies or dry):
        click.echo(_table(usage.survey(root)))
        return
    named, of_sweep = gc.resolve(root, runs, sweep)
    with contextlib.nullcontext() if dry else gc.all_locks(root):
        disk = usage.survey(root)
        chosen = gc.choose(disk, named, of_sweep, failed, copies)
        amount = disk.amount(chosen)
        if not chosen and not amount:
            click.echo("nothing to free")
            return
        for part in chosen:
            name = f"{part.run.short_id} ({part.run.name})" if part.kind == "run" else part.name
            click.echo(f"{part.kind} {name}: {size(disk.own(part))} of its own")
        if unused := disk.unused():
            click.echo(f"no longer used: {size(unused)}")
        if not disk.cache.is_relative_to(disk.root):
            click.echo(f"{disk.cache} is not only this checkout's: what only another clone uses is deleted too")
        if dry:
            click.echo(f"{size(amount)} would be freed")
            return
        if not yes and not sys.stdin.isatty():
            raise UserError(
                f"no terminal to ask on, so nothing is freed. To free these {size(amount)} without a question: --yes"
            )
        if not yes:
            click.confirm(f"Free {size(amount)}?", abort=True)
        click.echo(f"{size(gc.free(disk, chosen))} freed")


def _table(disk: "Usage") -> str:
    """Return a table of everything that takes space, the newest run last, and the commands that free it."""
    from tunetrail.runs import listing

    def right(number: int) -> str:
        return f"{size(number):>10}"

    runs = [part for part in disk.parts if part.kind == "run"]
    others = [part for part in disk.parts if part.kind != "run"]
    ids = listing.short([part.run for part in runs])
    rows = [["run", "name", "started", "its own", "shared", ""]]
    for part in runs:
        own = disk.own(part)
        shared = disk.bytes(part.objects) - own
        reasons = ", ".join(disk.kept.get(part.name, ()))
        rows.append([ids[part.name], part.run.name, listing.when(part.run.started), right(own), right(shared), reasons])
    if not runs:
        rows.append(["none", "", "", "", "", ""])
    folders = [["worktree or copy", "its own", "of run"]]
    folders += [[part.name, right(disk.own(part)), part.run.short_id if part.run else "-"] for part in others]

    def own(kind: str, kept: bool = False) -> int:
        return sum(disk.own(part) for part in disk.parts if part.kind == kind and (part.name in disk.kept) == kept)

    free = shutil.disk_usage(disk.cache if disk.cache.is_dir() else disk.root).free
    totals = [
        ("", "takes", "freed by"),
        ("runs", right(own("run")), "tunetrail gc RUN..., or --sweep SWEEP"),
        ("runs that are kept", right(own("run", kept=True)), "nothing: promoted, in the checkout, or running"),
        ("shared by several", right(disk.shared()), "freeing all that use it"),
        ("worktrees", right(own("worktree")), "tunetrail gc --failed"),
        ("copies", right(own("copy")), "tunetrail gc --copies"),
        ("no longer used", right(disk.unused()), "any of these"),
        ("total", right(disk.total()), ""),
        ("free on this disk", right(free), ""),
    ]
    tables = [listing.fitted(rows), *([folders] if others else []), [list(total) for total in totals]]
    return "\n\n".join(map(table.columns, tables))
