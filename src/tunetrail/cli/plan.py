"""`tunetrail plan`: Hydra's overrides -> what the run will be, what it will cost, and whether it is refused."""

import json
import os
import signal
import sys
import textwrap
from pathlib import Path
from typing import Any

import click

from tunetrail import UserError, experiment
from tunetrail.checkout import git
from tunetrail.config import canonical, check, compose, implied, inputs, schema
from tunetrail.config.overrides import validate
from tunetrail.units import size

_HELP = """Predict what a run will take before it costs anything, and refuse one that would be wasted.

\b
OVERRIDES are Hydra's, as for `tunetrail run`:
  tunetrail plan                                                      the demo
  tunetrail plan experiment=llama3_8b_alpaca plan.device=mi300x plan.num_gpus=8
  tunetrail plan experiment=llama3_8b_alpaca_lora hardware=cuda plan.device=h100 plan.price=2.5
  tunetrail plan experiment=llama3_8b_alpaca 'plan.allow=[OUT_OF_DISK]'

Rows are counted with the model's tokenizer and packed as Axolotl packs them; where the data or the tokenizer are not here,
recorded statistics are used, and the plan says so. An ERROR ends with code 2, and `tunetrail run` refuses the same.
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
    words, root = list(overrides), git.root()
    validate(words)
    if alone := [word for word in words if word.startswith("-")]:
        raise UserError(f"{alone[0]}: no such option of `tunetrail plan`. It takes overrides, --json, --plot and --devices.")
    place, known = plot.resolve() if plot else None, schema.params()
    if place and not place.parent.is_dir():
        raise UserError(f"--plot {plot}: no folder {place.parent}. Make it, or give another place.")
    os.chdir(root)
    sys.exit(_show(words, root, known, as_json, place))


def _planned(words: list[str], root: Path, known: check.Schema) -> tuple[dict[str, Any], dict[str, Any], list[Any]]:
    """The values that the words compose, the facts of their run, and what is wrong with it.

    A key that nobody reads is a finding as any other, but nothing more can be planned: there are no facts then, nor where
    data or model are not known and a tool refuses the run anyway.
    """
    from tunetrail.plan.rules import judge

    values: dict[str, Any] = {}
    try:
        with compose.explained(root, words, known):
            values = canonical.read(check.resolve(compose.compose(root, words)), known)
        check.check(values, known)
    except check.Refused as refused:
        return values, {}, judge.unknown_keys(refused, values, words)
    inputs.check_consistency(values)
    inputs.check_model(values)
    facts, judged = experiment.judged(values, root)
    if "unknown" not in facts:
        return values, facts, judged
    if not judged:
        raise UserError(facts["unknown"])
    return values, {}, judged


def _show(words: list[str], root: Path, known: check.Schema, as_json: bool, image: Path | None) -> int:
    """Print the plan of the run; the exit code is 2 where it is refused."""
    from tunetrail.plan import fixes, plot, table
    from tunetrail.plan.estimate import schedule
    from tunetrail.plan.rules import judge

    def refused(values: dict[str, Any], facts: dict[str, Any], judged: list[judge.Finding]) -> list[judge.Finding]:
        return judge.refused(judged, values["plan"]["allow"] if facts else [])

    def again(words: list[str]) -> list[judge.Finding]:
        planned = _planned(implied.complete(root, words)[0], root, known)
        return refused(*planned) + fixes.also_to_fix(planned[2])

    whole, notes = implied.complete(root, words)
    values, facts, judged = _planned(whole, root, known)
    for note in notes:
        click.echo(note, err=as_json)
    if facts:
        try:
            inputs.check_prompts(values)
        except UserError as missing:  # the run may be for another machine, which has it
            click.echo(f"a run on this machine would be refused: {missing}", err=True)
    errors = refused(values, facts, judged)
    fixed = fixes.find(words, errors + fixes.also_to_fix(judged), again) if errors else None
    rates = schedule.rates(values["train"], facts["steps"]["total"], facts["steps"]["counted"]) if facts else None
    if image and rates is not None:
        plot.png(rates, facts["schedule"]["warmup"], facts["schedule"]["asked"], image)
    if image and facts and rates is None:
        click.echo(f"--plot: the curve of train.lr_scheduler={values['train']['lr_scheduler']} is not known", err=True)
    if as_json:
        click.echo(json.dumps(facts | {"findings": [vars(one) for one in judged], "fix": fixed}, indent=2))
        return 2 if errors else 0
    said = [table.table(facts)] if facts else []
    said += ["learning rate at each step\n" + plot.terminal(rates)] if rates is not None else []
    said += [table.findings(judged, values["plan"]["allow"] if facts else [])] if judged else []
    click.echo("\n\n".join([*said, table.verdict(judged, errors, fixed)]))
    return 2 if errors else 0


def _devices() -> str:
    from tunetrail.plan.estimate import hardware

    sources = list(dict.fromkeys(one.mfu_source for one in hardware.DEVICES.values()))
    rows = [f"{'device':<10}{'memory':>12}{'TFLOP/s':>10}{'MFU':>6}  from"]
    for one in hardware.DEVICES.values():
        source = sources.index(one.mfu_source) + 1
        rows.append(f"{one.name:<10}{size(one.memory):>12}{one.flops / 1e12:>10,.0f}{one.mfu:>6.0%}  [{source}]")
    rows.append(f"{'cpu':<10}{'as here':>12}")
    told = [f"[{number}] {source}" for number, source in enumerate(sources, 1)]
    return "\n".join([*rows, "", *(textwrap.fill(line, 110, subsequent_indent="    ") for line in told)])
