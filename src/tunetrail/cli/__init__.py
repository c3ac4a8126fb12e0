"""The command line: one file a word. A fault that a person can mend ends any word with one message and the fault's code."""

import sys
from typing import Any

import click

from tunetrail import UserError, launch
from tunetrail.cli import chat, compare, doctor, gc, ls, plan, promote, reproduce, restore, run, score, show


class Commands(click.Group):
    """Ends every command that a person can mend with one message and its code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"error: {error}", err=True)
            sys.exit(error.code)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="tunetrail")
def main(debug: bool) -> None:
    """Instruction-tune a language model, score it with IFEval before and after, and keep a record to have it again.

    Begin with `tunetrail run --help`.
    """
    launch.settle()


for word in (run, plan, doctor, score, chat, ls, show, compare, reproduce, restore, promote, gc):
    main.add_command(word.command)
