"""`tunetrail promote`: a run's tuned model -> a version in MLflow's model registry, which MLflow serves."""

import json
import os
import shlex
from pathlib import Path

import click

from tunetrail import UserError, launch
from tunetrail.checkout import git, locks
from tunetrail.units import size

# MLflow would log each step and draw a bar for each file.
_QUIET = {"MLFLOW_LOGGING_LEVEL": "WARNING", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}

_PROMOTE_HELP = """Register RUN's tuned model in MLflow's model registry, as the champion.

\b
  tunetrail promote 1a84                     as the next version of the registered model of its experiment
  tunetrail promote demo --name assistant    of the registered model `assistant`, which experiments may share
  tunetrail promote 1a84 --force             even if it should not be the champion

RUN is an MLflow id or the start of one, a name, or @alias of the registry. To be the champion, a run must score higher than
its base in Prompt Strict (the 95 % interval of the difference is above 0) and no lower than the champion in the same
evaluation, and at most a tenth of its answers may say nothing, loop or never end. Any other run is refused with the reasons,
and nothing is registered; --force registers it as the champion anyway, and records the reasons.

The weights are copied into the artifact store. The served model is asked in the run's own template, and needs MLflow,
PyTorch, Transformers and, for an adapter, PEFT, but not this package.
"""


@click.command("promote", help=_PROMOTE_HELP)
@click.argument("run")
@click.option("--name", help="The registered model; by default the run's experiment.")
@click.option("--force", is_flag=True, help="Make it the champion even if it should not be.")
def command(run: str, name: str | None, force: bool) -> None:
    root = git.root()
    os.chdir(root)
    # A run would put other models under outputs/ while they are copied.
    with locks.exclusive_lock(
        root, why="and may replace the models that are copied. Wait for it, and promote the run then."
    ):
        promote(root, run, name, force)


def promote(root: Path, reference: str, name: str | None, force: bool) -> None:
    """Register the run that `reference` names, unless it is registered already, as the champion; print how to serve it."""
    os.environ.update(_QUIET | launch.environment())  # before MLflow is imported
    from tunetrail import redaction
    from tunetrail.tracking import connection, download, model_card, registry, store
    from tunetrail.training import checkpoint

    run = store.single(root, reference)
    name = registry.model_name(run, name)
    scores = registry.scores(root, run)
    reasons = registry.objections(root, name, run, scores)
    listed = "".join(f"\n  - {reason}" for reason in reasons)
    if reasons and not force:
        raise UserError(
            f"{run.title} is not promoted to {name}@{registry.CHAMPION}, and nothing is registered:{listed}\n"
            "--force promotes it anyway."
        )
    version = registry.version(root, name, run.id)
    if version:
        click.echo(f"{name}/{version} is already this run's model: nothing is copied.")
    else:
        files = download.from_record(root, run.id)
        card = model_card.render(name, run, files.params, scores, checkpoint.is_adapter(files.tuned))
        address = redaction.redact_address(connection.uri(root))
        click.echo(f"{size(files.size())} are copied from {files.tuned} into the artifact store of {address}")
        version = registry.register(root, name, run, files, card)
        if not force and (
            new_reasons := registry.objections(root, name, run, scores)
        ):  # another became the champion meanwhile
            raise UserError(f"{name}/{version} is registered, but is not the champion: {'; '.join(new_reasons)}")
    registry.crown(root, name, version, reasons)
    if reasons:
        click.echo(f"{name}/{version} is the champion by --force, although:{listed}")
    click.echo(f"{name}/{version} is {name}@{registry.CHAMPION}: {run.title}")
    click.echo(f"\nServe it:\n  {serve(name, root)}\nAsk it:\n  {ask()}")


def serve(name: str, root: Path) -> str:
    """Return the command that serves the champion of `name`, with ten minutes for a request instead of one."""
    from tunetrail import redaction
    from tunetrail.tracking import connection, registry

    address = shlex.quote(redaction.redact_address(connection.uri(root)))
    model = f"models:/{name}@{registry.CHAMPION}"
    return f"MLFLOW_TRACKING_URI={address} mlflow models serve -m {model} --env-manager local --port 5001 --timeout 600"


def ask() -> str:
    """Return the command that asks the served model."""
    from tunetrail.tracking import registry

    rows = json.dumps({"dataframe_records": registry.EXAMPLE})
    return f"curl http://127.0.0.1:5001/invocations -H 'Content-Type: application/json' -d {shlex.quote(rows)}"
