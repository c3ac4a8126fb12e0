"""The command line, called in the process of the tests, since a new process takes seconds to start."""

import contextlib
import os
import signal
import subprocess
import sys
import traceback

from click.testing import CliRunner

_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def tunetrail(folder, *words):
    """Run the command in the folder and return its code and output; restore the environment afterwards."""
    from hydra.core.global_hydra import GlobalHydra

    from tunetrail import cli

    with _process_state_restored():
        os.environ["MLFLOW_TRACKING_URI"] = ""
        os.chdir(folder)
        GlobalHydra.instance().clear()
        done = CliRunner().invoke(cli.main, words, prog_name="tunetrail")
    fault = done.exc_info if done.exception and not isinstance(done.exception, SystemExit) else None
    trace = "".join(traceback.format_exception(*fault)) if fault else ""
    return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr + trace)


def output(command, *words):
    """Return the output of one command in this folder and environment; its errors are raised."""
    return CliRunner().invoke(command, words, catch_exceptions=False).output


@contextlib.contextmanager
def _process_state_restored():
    """Restore what a command changes in its process: each command expects a process of its own."""
    folder, environment, arguments, hook = os.getcwd(), dict(os.environ), sys.argv, sys.excepthook
    handlers = {number: signal.getsignal(number) for number in _STOPS}
    try:
        yield
    finally:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv, sys.excepthook = arguments, hook
        for number, handler in handlers.items():
            signal.signal(number, handler)
