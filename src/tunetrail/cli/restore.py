"""`tunetrail restore`: a run -> its models, parameters and results back in the checkout."""

import click

from tunetrail.checkout import git

_HELP = """Put a run's models, parameters and results back into this checkout, out of its DVC experiment.

\b
  tunetrail restore 1a84        then: tunetrail chat, report/report.html, dvc push

What the stages made here stays in DVC's cache, so the run that made it can be restored as well. The code stays as it is.
"""


@click.command("restore", help=_HELP)
@click.argument("run")
def command(run: str) -> None:
    from tunetrail.runs import restore  # which imports MLflow, for seconds

    root = git.root()
    name = restore.restore(root, run)
    click.echo(f"{root} holds {name} again: outputs/model, eval_results/, report/report.html, params.yaml, dvc.lock")
