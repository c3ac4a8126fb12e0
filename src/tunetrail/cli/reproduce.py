"""`tunetrail reproduce`: a run -> the same run once more, and whether it agrees."""

import click

from tunetrail.checkout import git

_HELP = """Run a recorded run again, from its own commit, changes, data and parameters, and compare number by number.

\b
  tunetrail reproduce 1a84      the run whose MLflow id begins so; a name or @alias as well

Every stage runs again in a git worktree under runs/; the data come out of DVC's cache or remote. On the machine and with the
packages that it was made with, every number and the model's hash must be equal; elsewhere every IFEval score must lie in
its 95 % interval. Ends with code 1 where they do not.
"""


@click.command("reproduce", help=_HELP)
@click.argument("run")
def command(run: str) -> None:
    from tunetrail.runs import reproduce  # which imports MLflow, for seconds

    reproduce.reproduce(git.root(), run)
