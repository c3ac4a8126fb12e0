"""`tunetrail gc`: what runs take on the disk -> a table of it, or some of it freed."""

import contextlib
import shutil
import sys
from typing import TYPE_CHECKING

import click

from tunetrail import UserError
from tunetrail.checkout import git
from tunetrail.units import size

if TYPE_CHECKING:
    from tunetrail.runs.usage import Part, Space

_HELP = """Show what runs take on the disk, and free what is named; without a name nothing is freed.

\b
  tunetrail gc                          each run, worktree and copy, its bytes, and what frees them
  tunetrail gc 1a84 2b95                free these runs: models and results, DVC experiment, worktree
  tunetrail gc --sweep sweep-1a2b3c4d   all runs of a sweep, but those that are promoted or in the checkout
  tunetrail gc --failed --dry-run       only say what would be freed
  tunetrail gc --failed --copies --yes  ask nothing

RUN is a run's id, its beginning, or a name. Its MLflow record stays, with the tag `freed`. A run that is promoted, in
the checkout or running is refused; what another run, a commit or a worktree names stays. `tunetrail reproduce` makes again
what was freed.
"""


@click.command("gc", help=_HELP)
@click.argument("runs", metavar="[RUN]...", nargs=-1)
@click.option("--sweep", help="The runs of this sweep: its name, or its parent RUN.")
@click.option("--failed", is_flag=True, help="Worktrees of failed and stopped runs, which then start from the beginning.")
@click.option("--copies", is_flag=True, help="Models that chat brought back, and tokenised rows: made again when needed.")
@click.option("--dry-run", "dry", is_flag=True, help="Say what would be freed, and free nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(runs: tuple[str, ...], sweep: str | None, failed: bool, copies: bool, dry: bool, yes: bool) -> None:
    from tunetrail.runs import gc, usage  # which import MLflow, for seconds

    root = git.root()
    if not (runs or sweep is not None or failed or copies or dry):
        click.echo(_table(usage.survey(root)))
        return
    meant, of_sweep = gc.named(root, runs, sweep)
    with contextlib.nullcontext() if dry else gc.still(root):
        found = usage.survey(root)
        chosen = gc.choose(found, meant, of_sweep, failed, copies)
        amount = found.amount(chosen)
        if not chosen and not amount:
            click.echo("nothing to free")
            return
        click.echo("\n".join([*(_line(found, part) for part in chosen), *_unnamed(found)]))
        if not found.cache.is_relative_to(found.root):
            click.echo(f"{found.cache} is not of this checkout alone: what only another clone has in it goes too")
        if dry:
            click.echo(f"{size(amount)} would be freed")
            return
        if not yes and not sys.stdin.isatty():
            raise UserError(
                f"no terminal to ask on, so nothing is freed. To free these {size(amount)} without being asked: --yes"
            )
        if not yes:
            click.confirm(f"Free {size(amount)}?", abort=True)
        click.echo(f"{size(gc.free(found, chosen))} freed")


def _line(found: "Space", part: "Part") -> str:
    """What is about to go."""

    name = f"{part.name[:8]} ({part.run['name']})" if part.kind == "run" else part.name
    return f"{part.kind} {name}: {size(found.own(part))} of its own"


def _unnamed(found: "Space") -> list[str]:
    """What goes along with anything that is freed."""

    return [f"named by nothing any more: {size(found.unnamed())}"] if found.unnamed() else []


def _table(found: "Space") -> str:
    """All that takes space, the newest run last, and what to type."""
    from tunetrail.runs import listing

    def cells(*numbers: int) -> list[str]:
        return [f"{size(number):>10}" for number in numbers]

    runs = [part for part in found.parts if part.kind == "run"]
    others = [part for part in found.parts if part.kind != "run"]
    ids = listing.short([part.run for part in runs])
    rows = [["run", "name", "started", "its own", "shared", ""]]
    for part in runs:
        own = found.own(part)
        when = listing.when(part.run["started"])
        shared = found.bytes(part.objects) - own
        rows.append([ids[part.name], part.run["name"], when, *cells(own, shared), ", ".join(found.kept.get(part.name, ()))])
    if not runs:
        rows.append(["none", "", "", "", "", ""])
    paths = [["worktree or copy", "its own", "of run"]]
    paths += [[part.name, *cells(found.own(part)), part.run["id"][:8] if part.run else "-"] for part in others]

    def own(kind: str, kept: bool = False) -> int:
        return sum(found.own(part) for part in found.parts if part.kind == kind and (part.name in found.kept) == kept)

    words = [
        ("runs", own("run"), "tunetrail gc RUN..., or --sweep SWEEP"),
        ("runs that are kept", own("run", kept=True), "nothing: promoted, in the checkout, or running"),
        ("shared by several", found.shared(), "freeing all that name it"),
        ("worktrees", own("worktree"), "tunetrail gc --failed"),
        ("copies", own("copy"), "tunetrail gc --copies"),
        ("named by nothing", found.unnamed(), "any of these"),
        ("all of it", found.total(), ""),
        ("free on this disk", shutil.disk_usage(found.cache if found.cache.is_dir() else found.root).free, ""),
    ]
    told = [["", "takes", "freed by"], *([what, *cells(number), by] for what, number, by in words)]
    parts = [listing.columns(listing.fitted(rows)), *([listing.columns(paths)] if others else []), listing.columns(told)]
    return "\n\n".join(parts)
