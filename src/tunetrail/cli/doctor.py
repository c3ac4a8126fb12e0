"""`tunetrail doctor`: checks of this machine -> a line each, and the fixes."""

import json
import shutil
import sys
from dataclasses import asdict

import click

from tunetrail.checkout import git
from tunetrail.doctor import environment, gpus, lines, services

_CHECKS = environment.CHECKS | gpus.CHECKS | services.CHECKS
_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}

_HELP = f"""Check whether this machine can run experiments, and how to fix it if it cannot. Nothing is changed.

\b
  tunetrail doctor                   every check, in a few seconds
  tunetrail doctor --expect cuda     every check; torch must be a CUDA build that sees a GPU
  tunetrail doctor hub tracking      only these checks
  tunetrail doctor --json            for scripts

ok: no problem. warn: some runs would fail, or there is a drawback. fail: runs would fail or be wrong, and the command ends
with code 1. Tokens and passwords are reported as present, and never printed.

CHECK is one of: {", ".join(_CHECKS)}.
"""


@click.command("doctor", help=_HELP)
@click.argument("names", metavar="[CHECK]...", nargs=-1, type=click.Choice(list(_CHECKS)))
@click.option(
    "--expect",
    type=click.Choice(["cpu", "cuda", "rocm"]),
    help="Fail unless this torch build is installed and, for cuda and rocm, sees a GPU.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON.")
def command(names: tuple[str, ...], expect: str | None, as_json: bool) -> None:
    from tunetrail.runs import listing  # which imports NumPy

    chosen = [*(names or _CHECKS), *(["torch"] if expect else [])]
    checked = lines.examine({name: _CHECKS[name] for name in chosen}, lines.Asked(git.root(), expect))
    if as_json:
        click.echo(json.dumps([{"check": name} | asdict(line) for name, line in checked.items()], indent=2))
    else:
        width = shutil.get_terminal_size((listing.WIDTH, 0)).columns if sys.stdout.isatty() else listing.WIDTH
        click.echo(lines.table(checked, width, lambda mark: click.style(mark, _COLOURS[mark.strip()])))
    sys.exit(any(line.mark == "fail" for line in checked.values()))
