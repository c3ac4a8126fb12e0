"""`tunetrail plan`: Hydra's overrides -> the predicted run, its cost, its problems and their fixes."""

import json
import os
import re
import signal
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunetrail import UserError, launch
from tunetrail.checkout import git
from tunetrail.config import canonical, check, compose, implied, inputs, schema
from tunetrail.config.overrides import validate
from tunetrail.units import size

if TYPE_CHECKING:
    from tunetrail.plan import gate

_COLOURS = {"error": "red", "refused": "red", "warning": "yellow"}
_LEVELS = re.compile(rf"^({'|'.join(_COLOURS)})\b", re.MULTILINE)

_HELP = """Predict what a run takes before it costs anything, and refuse one that would be wasted.

\b
OVERRIDES change the config in conf/, as for `tunetrail run`; plan.* describe the machine of the run and what is allowed:
  tunetrail plan                                                      the demo, on this machine
  tunetrail plan experiment=llama3_8b_alpaca plan.device=mi300x plan.num_gpus=8
  tunetrail plan experiment=llama3_8b_alpaca_lora hardware=cuda plan.device=h100 plan.price=2.5
  tunetrail plan experiment=llama3_8b_alpaca 'plan.allow=[OUT_OF_DISK]'

Rows are counted with the model's tokenizer and packed as Axolotl packs them; where the data or the tokenizer are not on this
machine, recorded statistics are used, and the plan says so. An ERROR ends with code 2; `tunetrail run` refuses the same.
"""


@click.command("plan", help=_HELP, context_settings={"ignore_unknown_options": True})
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED)
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON: bytes, seconds, FLOP, tokens.")
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw the learning rate at each step into this PNG."
)
@click.option("--devices", is_flag=True, help="List the devices that plan.device may name.")
def command(overrides: tuple[str, ...], as_json: bool, plot: Path | None, devices: bool) -> None:
    if devices:
        click.echo(_devices())
        return
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    words = list(overrides)
    root = git.root()
    launch.use_code_of(root)
    validate(words)
    if options := [word for word in words if word.startswith("-")]:
        raise UserError(
            f"{options[0]}: no such option of `tunetrail plan`. It takes overrides, --json, --plot and --devices."
        )
    image = plot.resolve() if plot else None
    if image and not image.parent.is_dir():
        raise UserError(f"--plot {plot}: no folder {image.parent}. Make it, or give another path.")
    os.chdir(root)
    sys.exit(_show(words, root, schema.params(), as_json, image))


def _plan(words: list[str], root: Path, params_schema: check.Schema) -> "gate.Plan":
    """Return the plan of the run that the overrides compose. If a key is unknown, nothing else is planned.

    Raises:
        UserError: the overrides or the inputs have another fault, or nothing can be planned.
    """
    from tunetrail.plan import gate
    from tunetrail.plan.rules import judge

    values: dict[str, Any] = {}
    try:
        with compose.explained(root, words, params_schema):
            values = canonical.read(check.resolve(compose.compose(root, words)), params_schema)
        check.check(values, params_schema)
    except check.Refused as refused:
        return gate.Plan({}, None, judge.unknown_keys(refused, values, words))
    inputs.check_consistency(values)
    inputs.check_model(values)
    plan = gate.plan(values, root)
    if plan.unknown and not plan.findings:
        raise UserError(plan.unknown)
    return plan


def _show(words: list[str], root: Path, params_schema: check.Schema, as_json: bool, image: Path | None) -> int:
    """Print the plan of the run, and return the exit code: 2 if the run is refused."""
    from tunetrail.plan import fixes, plot, table
    from tunetrail.plan.estimate import schedule

    def replan(words: list[str]) -> list[Any]:
        plan = _plan(implied.complete(root, words)[0], root, params_schema)
        return plan.errors + fixes.also_to_fix(plan.findings)

    completed, notes = implied.complete(root, words)
    plan = _plan(completed, root, params_schema)
    for note in notes:
        click.echo(note, err=as_json)
    values = plan.values
    facts = plan.facts
    errors = plan.errors
    rates = None
    if facts:
        try:
            inputs.check_prompts(values)
        except UserError as error:  # the run may be for another machine, which has the prompts
            click.echo(f"a run on this machine would be refused: {error}", err=True)
        rates = schedule.rates(values["train"], facts.steps.total, facts.steps.counted)
    fixed = fixes.find(words, errors + fixes.also_to_fix(plan.findings), replan) if errors else None
    if image and rates is not None:
        plot.png(rates, facts.schedule.warmup, facts.schedule.asked, image)
    if image and facts and rates is None:
        click.echo(f"--plot: the curve of train.lr_scheduler={values['train']['lr_scheduler']} is not known", err=True)
    if as_json:
        click.echo(json.dumps(plan.to_dict() | {"fix": fixed}, indent=2))
        return 2 if errors else 0
    parts = [table.table(facts)] if facts else []
    parts += ["learning rate at each step\n" + plot.terminal(rates)] if rates is not None else []
    parts += [table.problems(plan.findings, plan.allowed)] if plan.findings else []
    text = "\n\n".join([*parts, table.verdict(plan.findings, errors, fixed)])
    click.echo(_LEVELS.sub(lambda level: click.style(level[0], fg=_COLOURS[level[0]], bold=True), text))
    return 2 if errors else 0


def _devices() -> str:
    from tunetrail.plan.estimate import hardware

    devices = hardware.DEVICES.values()
    sources = list(dict.fromkeys(device.mfu_source for device in devices))
    rows = [f"{'device':<10}{'memory':>12}{'TFLOP/s':>10}{'MFU':>6}  from"]
    for device in devices:
        speeds = f"{device.flops / 1e12:>10,.0f}{device.mfu:>6.0%}"
        rows.append(f"{device.name:<10}{size(device.memory):>12}{speeds}  [{1 + sources.index(device.mfu_source)}]")
    rows.append(f"{'cpu':<10}{'as here':>12}")
    listed = [f"[{number}] {source}" for number, source in enumerate(sources, 1)]
    return "\n".join([*rows, "", *(textwrap.fill(line, 110, subsequent_indent="    ") for line in listed)])
