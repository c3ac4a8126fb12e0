"""`tunetrail run`: Hydra's overrides -> one experiment, or with -m a sweep."""

import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from tunetrail import UserError, events, experiment, launch, tool_queries
from tunetrail.checkout import cache, git
from tunetrail.config import canonical, check, compose, grid, implied, params, schema, secret
from tunetrail.config.overrides import validate

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

A stage is run again only if something that it depends on has changed. A run that was interrupted, or failed, is continued by
the same command: in its MLflow run, and its training from the newest whole checkpoint. So is a sweep. Relative paths start
at the checkout's root. What experiment=, model=, method= and the like can be is a file in that folder of conf/.
"""


@click.command("run", help=_RUN_HELP, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": True})
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED)
@click.option("--overrides", "more", default="", help="More overrides, as one text; for `mlflow run -P`.")
@click.option("--params", "file", type=click.Path(path_type=Path), help="Run this params.yaml unchanged; no overrides.")
@click.option("--force", is_flag=True, help="Run every stage, changed or not, on the data that are here.")
@click.option("--fresh", is_flag=True, help="Start over: do not continue the run, nor its training, that did not finish.")
@click.option("--quiet", is_flag=True, help="Print only the result, or the error; the rest goes to work/run.log.")
@click.option("--verbose", is_flag=True, help="Print also what Axolotl and lm-eval print, which is in their logs anyway.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def command(
    overrides: tuple[str, ...],
    more: str,
    file: Path | None,
    force: bool,
    fresh: bool,
    quiet: bool,
    verbose: bool,
    debug: bool,
) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    if verbose:
        os.environ[launch.VERBOSE] = "1"
    if debug:
        click.get_current_context().obj["debug"] = True
    root = git.root()
    launch.use_code_of(root)
    if "MLFLOW_RUN_ID" in os.environ:  # `mlflow run` has started this
        cache.keep(root)
    words = [*overrides, *_split(more)]
    if "--dry-run" in words:
        raise UserError("--dry-run: what a run would take and cost, and why it is refused, says: tunetrail plan OVERRIDES")
    if {"-m", "--multirun"} & set(words) and not file:
        _run_sweep(words, root, ["--force"] * force + ["--fresh"] * fresh + ["--quiet"] * quiet)
        return
    quiet = quiet and not {"--cfg", "-c", "--info"}.intersection(words)  # Hydra prints what these ask for
    if quiet:
        os.environ[events.QUIET] = "1"
    with _output_to(root / "work" / "run.log") if quiet else contextlib.nullcontext():
        result = _run_file(file, words, root, force, fresh) if file else _run(words, root, force, fresh)
    click.echo(result, nl=bool(result))


@contextlib.contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """Add what this process and its children print to the end of `log`, not to the screen; errors go to the screen as ever.

    Raises:
        UserError: the body has raised it; the message names the log.
    """
    log.parent.mkdir(exist_ok=True)
    sys.stdout.flush()
    screen = os.dup(1)
    with log.open("ab") as file:  # a run that is refused must not empty the log of the one in progress
        os.dup2(file.fileno(), 1)
    print(f"\n{datetime.now().astimezone():%Y-%m-%d %H:%M:%S} tunetrail run", flush=True)  # its words may have a secret
    try:
        yield
    except UserError as error:
        error.args = (f"{error}\nThe run's output: {log}",)
        raise
    finally:
        sys.stdout.flush()
        os.dup2(screen, 1)
        os.close(screen)


def _run(words: list[str], root: Path, force: bool, fresh: bool) -> str:
    """Run the experiment that `words` compose and return its result; "" if they only ask for the composed config."""
    validate(words)
    completed, notes = implied.complete(root, words)
    results = []

    def run(cfg: Any) -> None:
        results.append(experiment.run_experiment(check.resolve(cfg), root, force, words, notes, fresh))

    compose.run_composed(root, completed, schema.params(), run)
    return "".join(results)


def _split(overrides: str) -> list[str]:
    try:
        return shlex.split(overrides)
    except ValueError as error:
        secret.refuse_text(overrides)
        raise UserError(f"--overrides {overrides!r}: {error}. Close the quotation.") from None


def _run_file(file: Path, words: list[str], root: Path, force: bool, fresh: bool) -> str:
    if not file.is_file():
        raise UserError(f"--params {file}: no such file. Give the params.yaml of a run.")
    if words:
        secret.refuse_text(words[0])
        raise UserError(f"--params {file} is composed already. Leave out {words[0]}, or change the file.")
    return experiment.run_experiment(canonical.migrated(params.load(file)), root, force, fresh=fresh)


def _run_sweep(words: list[str], root: Path, options: list[str]) -> None:
    from tunetrail.plan import gate
    from tunetrail.sweep import parent  # MLflow takes seconds to import

    validate(words, multirun=True)
    options = options + [word for word in words if word.startswith("--") and word != "--multirun"]
    if options:
        raise UserError(f"{options[0]} is for one experiment, and -m for many. Leave out one of them.")
    params_schema = schema.params()
    os.chdir(root)
    words, notes = implied.complete(root, words)
    with compose.explained(root, words, params_schema):
        grid.check_jobs(root, words, params_schema, lambda values: gate.check_job(values, root))
    click.echo("".join(f"{note}\n" for note in notes), nl=False)
    tool_queries.close()

    def run_jobs(folder: Path, job: Callable[[Any], float | None]) -> None:
        compose.run_composed(root, [*words, f"hydra.sweep.dir={folder}"], params_schema, job)

    parent.run(root, words, run_jobs)
