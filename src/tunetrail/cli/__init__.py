"""The command line: one file per command.

An error that a user can fix (UserError) ends any command with one message and the error's code.
"""

import os
import sys
import traceback
from pathlib import Path
from typing import Any

import click

from tunetrail import UserError, disk, launch, machine, redaction
from tunetrail.cli import chat, compare, doctor, gc, ls, plan, promote, reproduce, restore, run, score, show

# In the order in which a user needs them.
_COMMANDS = {
    run: "Run an experiment, or a sweep of them.",
    plan: "Predict a run's memory, time and cost, and its problems.",
    doctor: "Check whether this machine can run experiments.",
    score: "Score responses that are in a file with IFEval.",
    chat: "Ask the base and the tuned model side by side.",
    ls: "List the recorded runs.",
    show: "Show one run or sweep, and what to do next.",
    compare: "Compare the settings and scores of runs.",
    reproduce: "Run a recorded run again and compare the numbers.",
    restore: "Put a run's models and results back into this checkout.",
    promote: "Register a run's model as the champion.",
    gc: "Show or free the disk space of runs.",
}


class Commands(click.Group):
    """Prints a command's UserError, or that a disk is full, as one message; with --debug it is raised."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        ctx.obj = {"debug": ctx.params["debug"]}
        try:
            return super().invoke(ctx)
        except UserError as error:
            if ctx.obj["debug"]:
                raise
            _print_error(str(error))
            sys.exit(error.code)
        except OSError as error:
            if ctx.obj["debug"] or not disk.is_full(error):
                raise
            _print_error(disk.message(error, Path()))
            sys.exit(UserError.code)


def _print_error(message: str) -> None:
    click.echo(f"{click.style('error:', fg='red', bold=True)} {message}", err=True)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="tunetrail")
def main(debug: bool) -> None:
    """Instruction-tune a language model, score it with IFEval before and after, and record how to reproduce it.

    Start with `tunetrail run --help`.
    """
    click.get_current_context().color = False if os.environ.get("NO_COLOR") else None  # None: on a terminal
    sys.excepthook = _print_traceback
    launch.clean_environment()
    os.environ.update(machine.account_variables())


def _print_traceback(*exception: Any) -> None:
    print(redaction.redact("".join(traceback.format_exception(*exception))), file=sys.stderr)


for module, summary in _COMMANDS.items():
    module.command.short_help = summary
    main.add_command(module.command)
