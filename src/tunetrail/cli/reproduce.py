"""`tunetrail reproduce`: a run -> the same run again, and whether the numbers agree."""

import click

from tunetrail.checkout import git

_HELP = """Run a recorded run again with its own code, data and parameters, and compare every number.

\b
  tunetrail reproduce 1a84      RUN is an MLflow id or the start of one, a name or @alias

Every stage runs again in a git worktree under runs/, from the run's commit and uncommitted changes; the data come from DVC's
cache or remote. On the same machine with the same packages, every number and the model's hash must be equal; elsewhere, and
on a GPU, whose kernels may add in another order each time, every IFEval score must lie in the recorded 95 % interval. If
not, the command ends with code 1.
"""


@click.command("reproduce", help=_HELP)
@click.argument("run")
def command(run: str) -> None:
    root = git.root()  # before the import, which takes seconds
    from tunetrail.runs import reproduce

    reproduce.reproduce(root, run)
