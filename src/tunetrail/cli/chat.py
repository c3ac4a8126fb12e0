"""`tunetrail chat`: questions -> the answers of the base and the tuned model, side by side."""

import logging
import os
from pathlib import Path

import click

from tunetrail import launch
from tunetrail.checkout import git

_CHAT_HELP = """Ask the base and the tuned model, and see both answers side by side as they are generated.

\b
  tunetrail chat                                  the run in this checkout: type, and press Enter
  tunetrail chat --prompt 'Name three rivers.'    one question
  tunetrail chat 1a84                             the run whose MLflow id starts with 1a84, from DVC's cache
  tunetrail chat demo                             the run of that name, if there is only one
  tunetrail chat --prompt 'Shorten it.' --input 'A long text ...' > answers.txt
  tunetrail chat < questions.txt                  one question a line

Each question is put into the run's own template and asked alone: the models do not see earlier ones. Decoding is greedy, up
to as many tokens as in the run's evaluation. Ctrl-C ends an answer; an empty line, Ctrl-D or /quit ends the chat.
"""


@click.command("chat", help=_CHAT_HELP)
@click.argument("run", required=False)
@click.option("--prompt", help="Ask this one question, and exit.")
@click.option("--input", "text", default="", help="The text that the instruction is about: Alpaca's `input`.")
@click.option(
    "--max-new-tokens",
    "cap",
    type=click.IntRange(min=1),
    help="The most tokens of an answer; default: as in the evaluation.",
)
def command(run: str | None, prompt: str | None, text: str, cap: int | None) -> None:
    root = git.root()
    os.chdir(root)
    from tunetrail.data import template
    from tunetrail.runs import chat
    from tunetrail.tracking import download

    files = download.from_record(root, run) if run else download.from_checkout(root)
    click.echo(f"{files.name}, template {template.digest(files.params['template'])}", err=True)
    click.echo(f"base:  {files.base}{f' at {files.revision}' if files.revision else ''}\ntuned: {files.tuned}", err=True)
    os.environ.update(launch.environment(offline=Path(files.base).is_dir()))  # before the hub's library is imported
    logging.disable(logging.WARNING)  # importing the models warns about every kernel that this machine lacks
    evaluate = files.params["evaluate"]
    models = chat.load(files.base, files.revision, files.tuned, evaluate)
    cap = cap or evaluate["task"]["generation_kwargs"]["max_gen_toks"]

    def ask(question: str) -> None:
        chat.ask(models, files.params["template"], question, text, cap)

    if prompt is not None:
        ask(prompt)
        return
    click.echo("Each question is asked alone. Ctrl-C ends an answer; an empty line or Ctrl-D ends the chat.", err=True)
    chat.session(ask)
