"""The command line: `tunetrail run` composes an experiment, tracks it, has DVC bring it about, and shows the result."""

import json
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import click

from tunetrail import UserError, config, inputs, launch, results, schema, workspace

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


@click.group()
@click.version_option(package_name="tunetrail")
def main() -> None:
    """Instruction-tune a language model, score it with IFEval before and after, and keep a record to have it again.

    Begin with `tunetrail run --help`.
    """
    os.environ.update(launch.TELEMETRY_OFF | os.environ)


@main.command("run", help=_RUN_HELP, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": True})
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED)
@click.option("--overrides", "more", default="", help="More overrides in one word, as `mlflow run -P` hands them on.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def run_command(overrides: tuple[str, ...], more: str, debug: bool) -> None:
    for stop in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(stop, lambda number, _: sys.exit(128 + number))
    try:
        compose([*overrides, *split(more)])
    except UserError as error:
        if debug:
            raise
        click.echo(f"error: {error}", err=True)
        sys.exit(2)


def split(overrides: str) -> list[str]:
    """Overrides in one word, taken apart as a shell would."""
    try:
        return shlex.split(overrides)
    except ValueError as error:
        raise UserError(f"--overrides {overrides!r}: {error}. Close the quotation.") from None


def compose(overrides: list[str]) -> None:
    """Have Hydra compose the experiment and call `experiment` with it, once, or with -m once for each job."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

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
            experiment(cfg, root)
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


def experiment(cfg: Any, root: Path) -> None:
    """One run: check what was composed and what it names, then params.yaml, DVC, MLflow, and the table at the end."""
    values = config.resolve(cfg)
    config.check(values, schema.params())
    inputs.check(values)
    with workspace.alone(root) as held:
        from tunetrail import record, tracking  # MLflow takes seconds to import: not before the checks

        with tracking.run(root, values["name"]) as run:
            click.echo(f"run {run.id}: {values['name']}, tracked in {run.address}")
            config.write(values, root)
            run.params(config.flatten(values))
            run.tags({"experiment": values["name"]} | workspace.git_state(root) | tracking.machine())
            run.artifacts(root, "params.yaml", "dvc.yaml")
            (root / "work" / "seconds.jsonl").unlink(missing_ok=True)
            with run.following(root / values["train"]["output_dir"] / "history.jsonl"):
                workspace.reproduce(root, held)
            record.upload(run, root, values)
        show(root, run)


def show(root: Path, run: Any) -> None:
    """Print the scores, where the figures are, and how to open the run."""
    metrics = json.loads((root / "report" / "metrics.json").read_text())
    click.echo(
        f"\n{metrics['task']}: {metrics['prompts']} prompts, {metrics['instructions']} instructions; 95 % intervals\n"
    )
    click.echo(f"{'accuracy, %':<16}{'base':<22}{'tuned':<22}difference")
    for name, (_, label) in results.SCORES.items():
        cells = [metrics["ifeval"][model][name] for model in ("base", "tuned")]
        text = [f"{100 * c['value']:5.1f} [{100 * c['low']:.1f}, {100 * c['high']:.1f}]" for c in cells]
        click.echo(f"{label:<16}{text[0]:<22}{text[1]:<22}{100 * metrics['ifeval']['delta'][name]:+.1f}")
    figures = ["report/ifeval.png", "report/loss.png", "report/samples.md", "report/report.html"]
    click.echo("\n" + "\n".join(str(root / figure) for figure in figures))
    page = f"#/experiments/{run.experiment_id}/runs/{run.id}"
    if run.address.startswith("http"):
        click.echo(f"\nMLflow run {run.id}: {run.address.rstrip('/')}/{page}")
    else:
        click.echo(f"\nMLflow run {run.id}. Open it with: make ui    and then\n  http://127.0.0.1:5000/{page}")
