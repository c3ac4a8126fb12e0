"""`tunetrail score`: answers from anywhere -> their IFEval scores and a report."""

import json
from pathlib import Path

import click

from tunetrail import UserError
from tunetrail.config import inputs


@click.command("score")
@click.option("--prompts", type=click.Path(path_type=Path), required=True, help="IFEval's prompt file (JSON Lines).")
@click.option(
    "--responses", type=click.Path(path_type=Path), required=True, help='JSON Lines of {"prompt": ..., "response": ...}.'
)
@click.option(
    "--report", "folder", type=click.Path(path_type=Path), help="The report's folder; by default RESPONSES.report."
)
@click.option(
    "--stop",
    default="### Instruction:",
    show_default=True,
    help="Responses are also scored cut at this text.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print scores, intervals and n as JSON; write a report only with --report."
)
def command(prompts: Path, responses: Path, folder: Path | None, stop: str, as_json: bool) -> None:
    """Score responses of any model with lm-eval's IFEval checkers; the model itself is not needed.

    \b
      tunetrail score --prompts ifeval.jsonl --responses answers.jsonl
      tunetrail score --prompts ifeval.jsonl --responses answers.jsonl --json

    Each prompt of the prompt file must have one response, whose `prompt` is the same word for word.
    """
    from tunetrail.data import records
    from tunetrail.evaluation import instructions, results, scoring, significance
    from tunetrail.report import metrics, page

    if not stop:
        raise UserError("--stop is empty. Give the text with which an answer starts a new instruction block.")
    rows = records.read_prompts(prompts)
    instructions.check(rows, prompts)
    answers = scoring.read_responses(responses, rows)
    inputs.punkt(rows)
    samples = scoring.score(rows, [answer or "" for answer in answers])
    scores = {"responses": results.gather("ifeval", samples, **significance.SAMPLING)}
    null_count = answers.count(None)
    measured = metrics.measure(scores, stop, **significance.SAMPLING) | {"null_responses": null_count}
    if null_count:
        click.echo(f"{null_count:,} of {len(answers):,} responses are null, and count as empty answers", err=as_json)
    if folder or not as_json:
        folder = folder or responses.with_name(f"{responses.name}.report")
        try:
            page.write_scored(folder, responses.name, measured, scores)
        except OSError as error:
            raise UserError(
                f"{folder}: no report can be written there ({error}). Give another folder: --report FOLDER"
            ) from None
    if as_json:
        keys = ("task", "prompts", "instructions", "ifeval", "ifeval_stopped", "health", "null_responses")
        click.echo(json.dumps({key: measured[key] for key in keys}, indent=2))
    else:
        click.echo(f"{metrics.table(measured)}\n\n{folder / 'report.html'}")
