"""The command line: one file a command.

A fault that a person can fix ends any command with one message and the fault's code.
"""

import os
import sys
import traceback
from typing import Any

import click

from tunetrail import UserError, launch, machine, redaction
from tunetrail.cli import chat, compare, doctor, gc, ls, plan, promote, reproduce, restore, run, score, show


class Commands(click.Group):
    """Ends every command that a person can fix with one message and its code."""

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
    """Instruction-tune a language model, score it with IFEval before and after, and record how to reproduce it.

    Start with `tunetrail run --help`.
    """
    sys.excepthook = lambda *fault: print(redaction.redact("".join(traceback.format_exception(*fault))), file=sys.stderr)
    launch.clean_environment()
    os.environ.update(machine.account_variables())


for word in (run, plan, doctor, score, chat, ls, show, compare, reproduce, restore, promote, gc):
    main.add_command(word.command)
