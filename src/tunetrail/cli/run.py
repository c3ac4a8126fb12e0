"""`tunetrail run`: Hydra's overrides -> one experiment, or with -m a sweep."""

import os
import shlex
import signal
import sys
from typing import Any

import click

from tunetrail import UserError, config, experiment, schema, workspace

_RUN_HELP = """Compose an experiment and run it: data, base model, evaluation, training, evaluation, report.

\b
OVERRIDES are Hydra's:
  tunetrail run                                        the demo, minutes on two CPU cores
  tunetrail run experiment=alpaca_tiny prepare.path=rows.jsonl evaluate.path=ifeval.jsonl
  tunetrail run train.learning_rate=1e-3 seed=7        change keys of the demo
  tunetrail run +train.max_steps=50                    a key of Axolotl that conf/ does not set
  tunetrail run -m seed=1,2,3                          one run after another
  tunetrail run --cfg job --resolve                    show what is composed, run nothing

Stages that have not changed are not run again. Relative paths start at the checkout's root. Groups and their options
are the folders and files in conf/.
"""


# Hydra's own; it takes the beginning of one for the whole, `--experiment` for `--experimental-rerun`.
_HYDRA_OPTIONS = ("--cfg", "--resolve", "--package", "--info", "--multirun", "--hydra-help", "--shell-completion")


@click.command("run", help=_RUN_HELP, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": True})
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED)
@click.option("--overrides", "more", default="", help="More overrides in one word, as `mlflow run -P` hands them on.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def command(overrides: tuple[str, ...], more: str, debug: bool) -> None:
    for stop in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(stop, lambda number, _: sys.exit(128 + number))
    click.get_current_context().parent.params["debug"] |= debug
    compose([*overrides, *split(more)])


def split(overrides: str) -> list[str]:
    """Overrides in one word, taken apart as a shell would."""
    try:
        return shlex.split(overrides)
    except ValueError as error:
        raise UserError(f"--overrides {overrides!r}: {error}. Close the quotation.") from None


def compose(overrides: list[str]) -> None:
    """Have Hydra compose the experiment and conduct it, once, or with -m once for each job."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    for word in overrides:
        if word.startswith("--") and word.partition("=")[0] not in _HYDRA_OPTIONS:
            key = word[2:].partition("=")[0]
            raise UserError(f"{word}: no such option. An override has no dashes: {key}=VALUE. See tunetrail run --help.")
    root = workspace.root()
    os.chdir(root)
    sys.argv = ["tunetrail run", *overrides]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises instead of printing and leaving with code 1
    if {"-m", "--multirun"} & set(overrides):
        os.environ.pop("MLFLOW_RUN_ID", None)  # the project's own run is no job's
    faults: list[UserError] = []

    def job(cfg: Any) -> None:
        # Kept until Hydra is done: it would print a heading of its own over an exception, and drop the jobs that follow.
        try:
            experiment.conduct(config.resolve(cfg), root)
        except UserError as fault:
            if faults:
                click.echo(f"error: {faults[-1]}", err=True)
            faults.append(fault)

    try:
        hydra.main(config_path=str(root / "conf"), config_name="config")(job)()
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(config.composition_fault(str(error), schema.params())) from error
    if faults:
        raise faults[-1]
