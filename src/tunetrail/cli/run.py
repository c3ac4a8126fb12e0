"""`tunetrail run`: Hydra's overrides -> one experiment, or with -m a sweep."""

import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tunetrail import UserError, answers, experiment
from tunetrail.checkout import workspace
from tunetrail.config import check, compose, grid, implied, params, schema, secret

_RUN_HELP = """Run an experiment: prepare the data, evaluate the base model, train, evaluate the tuned model, write a report.

\b
OVERRIDES change the config in conf/, in Hydra's syntax; without any, the demo is run:
  tunetrail run                                        the demo, minutes on two CPU cores
  tunetrail run experiment=alpaca_tiny prepare.path=rows.jsonl evaluate.path=ifeval.jsonl      files of your own
  tunetrail run train.learning_rate=1e-3 seed=7        the demo with other values
  tunetrail run +train.max_steps=50                    a key of Axolotl that conf/ does not set
  tunetrail run -m method=full,lora train.learning_rate=1e-3,3e-3     a sweep: a run for each combination
  tunetrail run -m sweep=joblib seed=1,2,3             a sweep, several jobs at a time; conf/sweep/ has more options
  tunetrail run --cfg job --resolve                    print the composed config, run nothing
  tunetrail run --params params.yaml                   the parameters of an earlier run, unchanged

A stage is run again only if something that it depends on has changed. The same sweep continues where it stopped. Relative
paths start at the checkout's root. What experiment=, model=, method= and the like can be is a file in that folder of conf/.
"""


@click.command("run", help=_RUN_HELP, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": True})
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED)
@click.option("--overrides", "more", default="", help="More overrides, as one text; for `mlflow run -P`.")
@click.option("--params", "composed", type=click.Path(path_type=Path), help="Run this params.yaml unchanged; no overrides.")
@click.option("--force", is_flag=True, help="Run every stage, changed or not, on the data that are here.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def command(overrides: tuple[str, ...], more: str, composed: Path | None, force: bool, debug: bool) -> None:
    for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(stop) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(stop, lambda number, _: sys.exit(128 + number))
    if debug:
        click.get_current_context().obj["debug"] = True
    words, root = [*overrides, *split(more)], workspace.root()
    if composed:
        if not composed.is_file():
            raise UserError(f"--params {composed}: no such file. Give the params.yaml of a run.")
        if words:
            secret.refuse_text(words[0])
            raise UserError(f"--params {composed} is composed already. Leave out {words[0]}, or change the file.")
        experiment.run_experiment(params.load(composed), root, force)
    elif {"-m", "--multirun"} & set(words):
        from tunetrail.sweep import parent  # MLflow takes seconds to import

        compose.check_words(words, multirun=True)
        alone = ["--force"] * force + [word for word in words if word.startswith("--") and word != "--multirun"]
        if alone:
            raise UserError(f"{alone[0]} is for one experiment, and -m for many. Leave out one of them.")
        known = schema.params()
        os.chdir(root)
        words, notes = implied.complete(root, words)
        with compose.explained(root, words, known):
            grid.check_jobs(root, words, known, lambda values: experiment.refuse(values, root))
        click.echo("".join(f"{note}\n" for note in notes), nl=False)
        answers.close()
        parent.run(root, words, lambda place, job: run_composed([*words, f"hydra.sweep.dir={place}"], root, job))
    else:
        compose.check_words(words)
        whole, notes = implied.complete(root, words)
        run_composed(whole, root, lambda cfg: experiment.run_experiment(check.resolve(cfg), root, force, words, notes))


def split(overrides: str) -> list[str]:
    """Overrides in one word, taken apart as a shell would."""
    try:
        return shlex.split(overrides)
    except ValueError as error:
        secret.refuse_text(overrides)
        raise UserError(f"--overrides {overrides!r}: {error}. Close the quotation.") from None


def run_composed(overrides: list[str], root: Path, job: Callable[[Any], float | None]) -> None:
    """Have Hydra compose the experiment and call `job` with it: once, or with -m for each job, where its launcher will."""
    import hydra

    os.chdir(root)
    sys.argv = ["tunetrail run", *overrides]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises instead of printing and leaving with code 1
    fault: list[UserError] = []

    def call(cfg: Any) -> float | None:
        try:
            return job(cfg)
        except UserError as error:  # Hydra would print a heading of its own over it
            fault.append(error)

    with compose.explained(root, overrides, schema.params()):
        hydra.main(config_path=str(root / "conf"), config_name="config")(call)()
    if fault:
        raise fault[0]
