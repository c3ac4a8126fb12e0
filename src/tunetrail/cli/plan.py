"""`tunetrail plan`: Hydra's overrides -> what the run will be, what it will cost, and whether it is refused."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import click

from tunetrail import UserError, config, inputs, machine, schema, workspace
from tunetrail.cli import run

_HELP = """Work out what a run will be before it costs anything, and refuse it where it cannot come to any good.

\b
OVERRIDES are Hydra's, as for `tunetrail run`:
  tunetrail plan                                                      the demo
  tunetrail plan experiment=llama3_8b_alpaca plan.device=mi300x plan.num_gpus=8
  tunetrail plan experiment=llama3_8b_alpaca_lora hardware=cuda plan.device=h100 plan.price=2.5
  tunetrail plan experiment=llama3_8b_alpaca 'plan.allow=[OUT_OF_DISK]'

Rows are counted with the model's tokenizer and packed as Axolotl packs them; where the data or the tokenizer are not here,
recorded statistics stand in, and it is said. An ERROR ends with code 2, and `tunetrail run` refuses the same.
"""


@click.command("plan", help=_HELP, context_settings={"ignore_unknown_options": True})
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED)
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON: bytes, seconds, FLOP, tokens.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw the learning rate into this PNG.")
@click.option("--devices", is_flag=True, help="List the devices that plan.device may name.")
def command(overrides: tuple[str, ...], as_json: bool, plot: Path | None, devices: bool) -> None:
    if devices:
        click.echo(_devices())
        return
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    words, root = list(overrides), workspace.root()
    run.check(words)
    if alone := [word for word in words if word.startswith("-")]:
        raise UserError(f"{alone[0]}: no such option of `tunetrail plan`. It takes overrides, --json, --plot and --devices.")
    found: list[dict[str, Any]] = []
    place = plot.resolve() if plot else None
    run.compose(words, root, lambda cfg: found.append(config.resolve(cfg)))
    values = found[0]
    try:
        config.check(values, schema.params())
    except UserError as fault:
        sys.exit(_unknown(fault, values, as_json))
    inputs.together(values)
    inputs.model(values)
    sys.exit(_show(values, root, as_json, place))


def _unknown(fault: UserError, values: dict[str, Any], as_json: bool) -> int:
    """A key that nobody reads is a finding as any other, but nothing more can be planned."""
    from tunetrail.plan import findings, text

    finding = findings.unknown_key(fault, values)
    click.echo(json.dumps({"findings": [vars(finding)]}, indent=2) if as_json else text.findings([finding], []))
    return 2


def _show(values: dict[str, Any], root: Path, as_json: bool, plot: Path | None) -> int:
    """Print the plan of `values`; the exit code is 2 where the run is refused."""
    from tunetrail.plan import facts as plan
    from tunetrail.plan import findings, schedule, schedule_plot, text

    device, origin = machine.device(values)
    facts = plan.make(values, root, device, origin)
    judged = plan.judged(values, facts, dict(os.environ))
    allowed = values["plan"]["allow"]
    refused = findings.refused(judged, allowed)
    rates = schedule.rates(values["train"], facts["steps"]["total"], facts["steps"]["counted"])
    if plot and rates is not None:
        schedule_plot.png(rates, facts["schedule"]["warmup"], facts["schedule"]["asked"], plot)
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return 2 if refused else 0
    click.echo(text.table(facts))
    if rates is not None:
        click.echo("\nlearning rate at each step\n" + schedule_plot.terminal(rates))
    if judged:
        click.echo("\n" + text.findings(judged, allowed))
    errors = ", ".join(one.code for one in refused)
    passed = "not refused; see the warnings" if judged else "nothing speaks against this run"
    click.echo(f"\n{'refused: ' + errors if refused else passed}")
    return 2 if refused else 0


def _devices() -> str:
    from tunetrail.plan import hardware, text

    rows = [f"{'device':<10}{'memory':>12}{'TFLOP/s':>10}{'MFU':>6}  the MFU is from"]
    for one in hardware.DEVICES.values():
        rows.append(f"{one.name:<10}{text.size(one.memory):>12}{one.flops / 1e12:>10,.0f}{one.mfu:>6.0%}  {one.mfu_source}")
    return "\n".join(rows)
