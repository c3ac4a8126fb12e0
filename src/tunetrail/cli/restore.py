"""`tunetrail restore`: a run -> its models, parameters and results back in the checkout."""

import click

from tunetrail.checkout import git

_HELP = """Put a run's models, parameters and results back into this checkout, from its DVC experiment.

\b
  tunetrail restore 1a84        RUN is an MLflow id or the start of one, a name or @alias

Then use them as if the run had just finished: tunetrail chat, report/report.html, dvc push. What they replace stays in DVC's
cache, so that its run can be restored too. The code is not changed.
"""


@click.command("restore", help=_HELP)
@click.argument("run")
def command(run: str) -> None:
    root = git.root()  # before the import, which takes seconds
    from tunetrail.runs import restore

    name = restore.restore(root, run)
    click.echo(f"{root} has {name} again: outputs/model, eval_results/, report/report.html, params.yaml, dvc.lock")
