"""Argument lists -> processes: the one file that starts them. Their output goes to a log, their progress to the screen.

Every child gets the switches that keep telemetry at home. Not covered: retries; a tool that fails fails its stage.
"""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from tunetrail import UserError, events, redaction, telemetry

# How long OpenMP's threads spin for each other before they sleep. By default it is so long that on a machine that does
# anything else they hold the core that the other waits for; 10,000 turns cost nothing where the machine is free.
OPENMP_SPIN = {"GOMP_SPINCOUNT": "10000"}

# What git sets for its hooks and `git -C` does not undo: with these a command works on another repository than that of the
# folder it is given. Of `git rev-parse --local-env-vars` all but settings.
OF_A_REPOSITORY = (
    *("GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_DIR", "GIT_GRAFT_FILE", "GIT_IMPLICIT_WORK_TREE"),
    *("GIT_INDEX_FILE", "GIT_INTERNAL_SUPER_PREFIX", "GIT_NO_REPLACE_OBJECTS", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX"),
    *("GIT_QUARANTINE_PATH", "GIT_REPLACE_REF_BASE", "GIT_SHALLOW_FILE", "GIT_WORK_TREE"),
)


def environment(offline: bool = False) -> dict[str, str]:
    """This process's environment with telemetry off, this interpreter's tools first on PATH, and maybe no model hub.

    No child takes a repository from it, or imports a module from the current folder, where a datasets.py would stand in for
    the package.
    """
    hub = {"HF_HUB_OFFLINE": "1"} if offline else {}
    given = {name: value for name, value in os.environ.items() if name not in (*OF_A_REPOSITORY, "PYTHONPATH")}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    ours = {"PATH": path, "PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1"}
    return telemetry.OFF | OPENMP_SPIN | hub | given | ours | importing()


def importing(*folders: Path) -> dict[str, str]:
    """PYTHONPATH with `folders` before what it has, and without the current folder."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    kept = [*map(str, folders), *(entry for entry in given if not _is_current(entry))]
    return {"PYTHONPATH": os.pathsep.join(kept)} if kept else {}


def _is_current(entry: str) -> bool:
    """Whether an entry of PYTHONPATH means the folder in which Python happens to be started."""
    return os.path.normpath(entry) == os.curdir


def settle() -> None:
    """Give this process, and so what libraries start from it, the `environment` of a child, but for PATH."""
    found, given = environment(), os.environ.get("PYTHONPATH")
    if given and any(map(_is_current, given.split(os.pathsep))):
        sys.path[:] = [entry for entry in sys.path if entry not in ("", os.getcwd())]
    for name in (*OF_A_REPOSITORY, "PYTHONPATH"):
        os.environ.pop(name, None)
    os.environ.update({name: found[name] for name in (*telemetry.OFF, "PYTHONSAFEPATH", "PYTHONPATH") if name in found})


def accelerate_launch(words: list[str], accelerate: dict[str, Any], log: Path, label: str, offline: bool) -> None:
    """Run `python words...` under `accelerate launch` with its own options (`accelerate`: option -> value).

    `offline` keeps it from the model hub, where libraries look for kernels even for a model that is here.

    Raises:
        UserError: it failed; the message holds the end of the log.
    """
    options = []
    for option, value in accelerate.items():
        if value is not None and value is not False:
            options += [f"--{option}"] if value is True else [f"--{option}", str(value)]
    # As a module: the `accelerate` script imports every sub-command, which takes 14 s where this takes 3 s.
    run_tool([sys.executable, "-m", "accelerate.commands.launch", *options, *words], log, label, offline)


def run_tool(command: list[str], log: Path, label: str, offline: bool) -> None:
    """Run `command`, its output into `log`, the progress bars among it onto the screen as `label`.

    On a terminal one line is redrawn; elsewhere a line is printed every 15 seconds, so that a log stays readable.

    Raises:
        UserError: the command failed; the message holds the end of the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    tail: deque[str] = deque(maxlen=15)
    bars = events.Bars(label)
    print(f"{label}: {shlex.join([Path(command[0]).name, *command[1:]])} (its output: {log})", flush=True)
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(offline)
        )
        rest = b""
        while chunk := process.stdout.read1(65536):
            *lines, rest = re.split(rb"[\r\n]+", rest + chunk)
            for line in (line.decode(errors="replace") for line in lines if line.strip()):
                if not bars.show(line):
                    line = redaction.shown(line)
                    file.write(line + "\n")
                    tail.append(line)
            file.flush()
        if last := redaction.shown(rest.decode(errors="replace").strip()):
            file.write(last + "\n")
            tail.append(last)
        code = process.wait()
    bars.end()
    if code:
        raise UserError(f"{label} failed with code {code}. The end of {log}:\n" + "\n".join(tail))


def run(
    command: list[str],
    held: list[int],
    folder: Path | None = None,
    more: dict[str, str] | None = None,
    log: Path | None = None,
    patience: float = 20,
) -> int:
    """Run `command` and return its exit code; it holds the open files `held` as long as it lives.

    It writes to this process's screen, or at the end of `log`; it runs in `folder` with `more` in its environment. It gets
    a process group of its own, and an exception here (Ctrl-C, SIGTERM) ends the whole group, by force after `patience`
    seconds, so that no trainer is left behind.
    """
    with log.open("ab") if log else contextlib.nullcontext() as screen:
        given = {"stdin": subprocess.DEVNULL, "stdout": screen, "stderr": subprocess.STDOUT} if log else {}
        process = subprocess.Popen(
            command,
            env=environment() | (more or {}),
            cwd=folder,
            start_new_session=True,
            pass_fds=held,
            **given,
        )
    try:
        return process.wait()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            process.kill()
        finally:  # also when a second signal comes: what of the group has not heard, or does not listen
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        raise


def beside(command: list[str], errors: IO[bytes]) -> subprocess.Popen[str]:
    """A process that goes on beside this one and is spoken to in lines of text; what it complains of goes into `errors`."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
    return subprocess.Popen(command, **pipes, env=environment(offline=True), text=True, encoding="utf-8")


def terminate_holders(files: Iterable[Path], patience: float = 60) -> None:
    """End the other processes of this machine that have one of `files` open, each with its process group where it leads one;
    by force after `patience` seconds. It comes back when there are none, or none that can be ended.

    An open file finds a process whose parent is dead, and is never that of another process with the same number.
    """
    paths = {str(file.resolve()) for file in files}
    deadline, told = time.monotonic() + patience, set()
    while (left := _holders(paths)) and time.monotonic() < deadline + 10:
        force = time.monotonic() > deadline
        for process in left if force else left - told:  # once: a second SIGTERM would cut short what the first began
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill = os.killpg if os.getpgid(process) == process else os.kill
                kill(process, signal.SIGKILL if force else signal.SIGTERM)
        told |= left
        time.sleep(0.1)


def _holders(paths: set[str]) -> set[int]:
    """The processes but this one that have one of `paths` open, as far as this user may see."""
    numbers = set(map(int, filter(str.isdigit, os.listdir("/proc")))) - {os.getpid()}
    return {process for process in numbers if not paths.isdisjoint(_opened(process))}


def _opened(process: int) -> Iterator[str]:
    with contextlib.suppress(OSError):  # it has ended, or is another user's
        for number in os.listdir(f"/proc/{process}/fd"):
            with contextlib.suppress(OSError):  # closed meanwhile
                yield os.readlink(f"/proc/{process}/fd/{number}")


def output(command: list[str], more: dict[str, str] | None = None) -> str:
    """What `command` prints, without white space around it; `more` is added to its environment.

    Raises:
        UserError: it is not installed, or it failed; the message is its own.
    """
    try:
        done = subprocess.run(command, env=environment() | (more or {}), capture_output=True, text=True, errors="replace")
    except FileNotFoundError:
        raise UserError(f"{command[0]} is not installed. Install it with the system's packages.") from None
    if done.returncode:
        raise UserError(f"{shlex.join(command)} failed: {done.stderr.strip()[-2000:]}")
    return done.stdout.strip()
