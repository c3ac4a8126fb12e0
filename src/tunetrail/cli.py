"""The command line: `tunetrail run` composes an experiment, tracks it, has DVC bring it about, and shows the result."""

import json
import logging
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import click

from tunetrail import UserError, config, inputs, launch, schema, workspace

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


class Commands(click.Group):
    """Ends every command that a person can mend with one message and code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"error: {error}", err=True)
            sys.exit(2)


@click.group(cls=Commands)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="tunetrail")
def main(debug: bool) -> None:
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
    click.get_current_context().parent.params["debug"] |= debug
    compose([*overrides, *split(more)])


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
        from tunetrail import contract, record, tracking  # MLflow takes seconds to import: not before the checks

        with tracking.run(root, values["name"]) as run:
            click.echo(f"run {run.id}: {values['name']}, tracked in {run.address}")
            click.echo(contract.license_notice(values["contract"], values["base"]))
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
    from tunetrail import report

    click.echo(f"\n{report.table(json.loads((root / 'report' / 'metrics.json').read_text()))}")
    figures = ["report/report.html", "report/ifeval.png", "report/types.png", "report/loss.png", "report/data_card.md"]
    click.echo("\n" + "\n".join(str(root / figure) for figure in figures))
    page = f"#/experiments/{run.experiment_id}/runs/{run.id}"
    if run.address.startswith("http"):
        click.echo(f"\nMLflow run {run.id}: {run.address.rstrip('/')}/{page}")
    else:
        click.echo(f"\nMLflow run {run.id}. Open it with: make ui    and then\n  http://127.0.0.1:5000/{page}")


@main.command("score")
@click.option("--prompts", type=click.Path(path_type=Path), required=True, help="IFEval's prompt file, JSON Lines.")
@click.option(
    "--responses", type=click.Path(path_type=Path), required=True, help='Rows of {"prompt": ..., "response": ...}.'
)
@click.option("--report", "folder", type=click.Path(path_type=Path), help="Where the report goes: FILE.report by default.")
@click.option(
    "--stop", default="### Instruction:", show_default=True, help="Where the answers are cut for the second scores."
)
@click.option(
    "--json", "machine", is_flag=True, help="Print the scores, intervals and n as JSON; a report only with --report."
)
def score_command(prompts: Path, responses: Path, folder: Path | None, stop: str, machine: bool) -> None:
    """Score responses from anywhere with lm-eval's IFEval checkers; no model is needed.

    \b
      tunetrail score --prompts ifeval.jsonl --responses answers.jsonl
      tunetrail score --prompts ifeval.jsonl --responses answers.jsonl --json

    Each prompt of the prompt file must have one response, word for word to the prompt.
    """
    from tunetrail import page, records, report, results, scoring

    if not stop:
        raise UserError("--stop is empty. Give the text at which an answer begins a task of its own.")
    asked = records.read_prompts(prompts)
    answers = scoring.read_responses(responses, asked)
    inputs.punkt(asked)
    sampling = {"resamples": 10_000, "seed": 42}  # of the bootstrap, as conf/config.yaml has it
    found = {"responses": results.gather("ifeval", scoring.score(asked, answers), **sampling)}
    metrics = report.measure(found, stop, **sampling)
    if folder or not machine:
        folder = folder or responses.with_name(f"{responses.name}.report")
        try:
            page.write_scored(folder, responses.name, metrics, found)
        except OSError as error:
            raise UserError(
                f"{folder}: no report can be written there ({error}). Give another place: --report FOLDER"
            ) from None
    if machine:
        kept = ("task", "prompts", "instructions", "ifeval", "ifeval_stopped")
        click.echo(json.dumps({key: metrics[key] for key in kept}, indent=2))
    else:
        click.echo(f"{report.table(metrics)}\n\n{folder / 'report.html'}")


_CHAT_HELP = """Ask the base and the tuned model, and see both answers side by side while they are written.

\b
  tunetrail chat                                  the run that this checkout holds: type, and press Enter
  tunetrail chat --prompt 'Name three rivers.'    one question
  tunetrail chat 1a84                             the run whose MLflow id begins so, out of DVC's cache
  tunetrail chat demo                             the run of that name, where there is one only
  tunetrail chat --prompt 'Shorten it.' --input 'A long text ...' > answers.txt
  tunetrail chat < questions.txt                  one question a line

Questions stand in the run's own template and are asked alone: no model sees an earlier one. Answers are greedy and as
long as the run's evaluation allowed. Ctrl-C ends an answer; an empty line, Ctrl-D or /quit ends the chat.
"""


@main.command("chat", help=_CHAT_HELP)
@click.argument("run", required=False)
@click.option("--prompt", help="Ask this, and end.")
@click.option("--input", "more", default="", help="What the instruction is about, as Alpaca's field `input` has it.")
@click.option("--max-new-tokens", "cap", type=click.IntRange(min=1), help="The longest answer; by default the run's own.")
def chat_command(run: str | None, prompt: str | None, more: str, cap: int | None) -> None:
    from tunetrail import chat, recorded, template

    root = workspace.root()
    os.chdir(root)
    found = recorded.bring(root, run) if run else recorded.here(root)
    click.echo(f"{found.name}, template {template.digest(found.params['template'])}", err=True)
    click.echo(f"base:  {found.base}{f' at {found.revision}' if found.revision else ''}\ntuned: {found.tuned}", err=True)
    os.environ.update(launch.environment(offline=Path(found.base).is_dir()))  # before the hub's library is imported
    logging.disable(logging.WARNING)  # importing the models tells of every kernel that this machine does not have
    evaluate = found.params["evaluate"]
    models = chat.load(found.base, found.revision, found.tuned, evaluate)
    cap = cap or evaluate["task"]["generation_kwargs"]["max_gen_toks"]

    def ask(question: str) -> None:
        chat.ask(models, found.params["template"], question, more, cap)

    if prompt is not None:
        ask(prompt)
        return
    click.echo("Each question is asked alone. Ctrl-C ends an answer; an empty line or Ctrl-D ends the chat.", err=True)
    chat.session(ask)
