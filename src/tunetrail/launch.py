"""Starts processes: the only file that does. Output goes to a log, progress to the screen.

Every child has the tools' telemetry switched off. Nothing is retried: a tool that fails fails its stage. Nothing is left
behind: what a child has started ends with it, and all of it with this process, also if one of them is killed.
"""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tunetrail import UserError, events, redaction, telemetry

if TYPE_CHECKING:
    import psutil

# How long OpenMP's threads spin while they wait for each other, before they sleep. The default is so long that on a busy
# machine they hold the core that the other thread needs; 10,000 turns cost nothing on a free one.
OPENMP_SPIN = {"GOMP_SPINCOUNT": "10000"}

# What git sets for its hooks: with these set, `git -C FOLDER` works on another repository than the folder's. All of
# `git rev-parse --local-env-vars` except settings.
GIT_VARIABLES = (
    *("GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_DIR", "GIT_GRAFT_FILE", "GIT_IMPLICIT_WORK_TREE"),
    *("GIT_INDEX_FILE", "GIT_INTERNAL_SUPER_PREFIX", "GIT_NO_REPLACE_OBJECTS", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX"),
    *("GIT_QUARANTINE_PATH", "GIT_REPLACE_REF_BASE", "GIT_SHALLOW_FILE", "GIT_WORK_TREE"),
)


def environment(offline: bool = False) -> dict[str, str]:
    """Return the environment of a child: this process's, with telemetry off and this interpreter's tools first on PATH.

    If `offline`, the tools do not ask the model hub. Variables that point git at a repository are left out, and so is the
    current folder as a source of imports: a datasets.py there would be imported instead of the package.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in (*GIT_VARIABLES, "PYTHONPATH")}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    own = {"PATH": path, "PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1"}
    hub = {"HF_HUB_OFFLINE": "1"} if offline else {}
    return telemetry.OFF | OPENMP_SPIN | hub | inherited | own | python_path()


def python_path(*folders: Path) -> dict[str, str]:
    """Return PYTHONPATH with `folders` before the entries it has, and without the current folder."""
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    entries = [*map(str, folders), *(entry for entry in entries if not _is_current_folder(entry))]
    return {"PYTHONPATH": os.pathsep.join(entries)} if entries else {}


def _is_current_folder(entry: str) -> bool:
    return os.path.normpath(entry) == os.curdir


def clean_environment() -> None:
    """Give this process, and so what libraries start from it, the `environment` of a child, except for PATH."""
    clean = environment()
    python_path = os.environ.get("PYTHONPATH")
    if python_path and any(map(_is_current_folder, python_path.split(os.pathsep))):
        sys.path[:] = [entry for entry in sys.path if entry not in ("", os.getcwd())]
    for name in (*GIT_VARIABLES, "PYTHONPATH"):
        os.environ.pop(name, None)
    os.environ.update({name: clean[name] for name in (*telemetry.OFF, "PYTHONSAFEPATH", "PYTHONPATH") if name in clean})


def accelerate_launch(words: list[str], accelerate: dict[str, Any], log: Path, label: str, offline: bool) -> None:
    """Run `python words...` under `accelerate launch` with its own options (`accelerate`: option -> value).

    `offline` keeps it from the model hub, where libraries look for kernels even if the model is local.

    Raises:
        UserError: it failed; the message has the end of the log.
    """
    options = []
    for option, value in accelerate.items():
        if value is not None and value is not False:
            options += [f"--{option}"] if value is True else [f"--{option}", str(value)]
    # As a module: the `accelerate` script imports every sub-command, which takes 14 s where this takes 3 s.
    run_tool([sys.executable, "-m", "accelerate.commands.launch", *options, *words], log, label, offline)


def run_tool(command: list[str], log: Path, label: str, offline: bool) -> None:
    """Run `command`, with its output in `log` and its progress bars on the screen as `label`.

    On a terminal one line is redrawn; elsewhere a line is printed every 15 seconds, so that a log stays readable.

    Raises:
        UserError: the command failed; the message has the end of the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    tail: deque[str] = deque(maxlen=15)
    bars = events.Bars(label)
    print(f"{label}: {shlex.join([Path(command[0]).name, *command[1:]])} (its output: {log})", flush=True)
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    mark, variables = _marked(environment(offline))
    with log.open("w", encoding="utf-8", buffering=1) as file:
        # As text, in which a progress bar's \r ends a line too.
        process = subprocess.Popen(command, **pipes, env=variables, encoding="utf-8", errors="replace")
        # A launcher that is killed leaves a trainer, which keeps the pipe open.
        threading.Thread(target=lambda: (process.wait(), _end(mark, 5)), daemon=True).start()
        try:
            for line in map(str.rstrip, process.stdout):
                if line and not bars.show(line):
                    line = redaction.redact(line)
                    file.write(line + "\n")
                    tail.append(line)
        except BaseException:
            _end(mark, 5)
            raise
        code = process.wait()
    bars.end()
    if code:
        raise UserError(f"{label} failed with code {code}. The end of {log}:\n" + "\n".join(tail))


def run(
    command: list[str],
    fds: list[int],
    folder: Path | None = None,
    variables: dict[str, str] | None = None,
    log: Path | None = None,
    patience: float = 20,
) -> int:
    """Run `command` in `folder` with `variables` added to its environment, and return its exit code.

    It inherits the open files `fds`, and with them their locks. It writes to this process's screen, or to the end of `log`.
    If it fails, and at an exception here (Ctrl-C, SIGTERM), all that it has started is ended, by force after `patience`
    seconds. If this process is killed, a guard does that, which keeps the locks meanwhile.
    """
    mark, environ = _marked(environment() | (variables or {}))
    guard = subprocess.Popen(["sh", "-c", _GUARD], stdin=subprocess.PIPE, start_new_session=True, pass_fds=fds)
    code = None
    try:
        with log.open("ab") if log else contextlib.nullcontext() as screen:
            streams = {"stdin": subprocess.DEVNULL, "stdout": screen, "stderr": subprocess.STDOUT} if log else {}
            process = subprocess.Popen(command, env=environ, cwd=folder, start_new_session=True, pass_fds=fds, **streams)
        guard.stdin.write(f"{process.pid}\n".encode())
        guard.stdin.flush()
        code = process.wait()
        return code
    finally:
        try:
            if code != 0:
                _end(mark, patience)
        finally:
            with contextlib.suppress(BrokenPipeError):
                guard.communicate(b"done\n")


# Reads the id of a process group, then waits for a second line. If its input ends instead, the process that writes to it was
# killed, and the group is ended.
_GUARD = """
trap '' HUP INT TERM
read -r group || exit 0
read -r done && exit 0
kill -s TERM -- "-$group" 2>/dev/null || exit 0
for tenth in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
  sleep 0.1
  kill -s 0 -- "-$group" 2>/dev/null || exit 0
done
kill -s KILL -- "-$group" 2>/dev/null
"""

_MARKS = "TUNETRAIL_STARTED_BY"  # a child's environment has its marks, and so has that of all that it starts


def _marked(variables: dict[str, str]) -> tuple[str, dict[str, str]]:
    """Return a new mark, and `variables` with it."""
    mark = uuid.uuid4().hex
    return mark, variables | {_MARKS: f"{variables.get(_MARKS, '')}:{mark}"}


def _end(mark: str, patience: float) -> None:
    """End the processes that have the mark, by force after `patience` seconds, and return when there are none."""
    deadline = time.monotonic() + patience
    try:
        _signal(_with_mark(mark), signal.SIGTERM)
        while _with_mark(mark) and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:  # also after a second signal to this process
        while processes := _with_mark(mark):
            _signal(processes, signal.SIGKILL)
            time.sleep(0.01)


def _with_mark(mark: str) -> list["psutil.Process"]:
    import psutil

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):  # another user's, or it has ended
            if mark in process.environ().get(_MARKS, "") and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _signal(processes: list["psutil.Process"], number: signal.Signals) -> None:
    import psutil

    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


def start_interactive(command: list[str], errors: IO[bytes]) -> subprocess.Popen[str]:
    """Start a process that reads lines of text and writes lines of text; its error output goes to `errors`."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
    return subprocess.Popen(command, **pipes, env=environment(offline=True), text=True, encoding="utf-8")


def terminate_holders(files: Iterable[Path], patience: float = 60) -> None:
    """Terminate the other processes of this machine that have one of `files` open, with the process groups that they lead;
    by force after `patience` seconds. Return when there are none, or none that can be terminated.

    An open file finds a process whose parent is dead, and never a newer process with the same id.
    """
    paths = {str(file.resolve()) for file in files}
    deadline = time.monotonic() + patience
    signalled: set[int] = set()
    while (holders := _holders(paths)) and time.monotonic() < deadline + 10:
        force = time.monotonic() > deadline
        for process in holders if force else holders - signalled:  # a second SIGTERM would interrupt the cleaning up
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill = os.killpg if os.getpgid(process) == process else os.kill
                kill(process, signal.SIGKILL if force else signal.SIGTERM)
        signalled |= holders
        time.sleep(0.1)


def _holders(paths: set[str]) -> set[int]:
    """Return the ids of the other processes of this user that have one of `paths` open."""
    import psutil

    processes = psutil.process_iter(["open_files"])  # None for another user's
    return {
        process.pid
        for process in processes
        if process.pid != os.getpid() and any(file.path in paths for file in process.info["open_files"] or ())
    }


def output(command: list[str], variables: dict[str, str] | None = None) -> str:
    """Return what `command` prints, stripped; `variables` are added to its environment.

    Raises:
        UserError: it is not installed, or it failed; the message is its own.
    """
    try:
        env = environment() | (variables or {})
        result = subprocess.run(command, env=env, capture_output=True, text=True, errors="replace")
    except FileNotFoundError:
        raise UserError(f"{command[0]} is not installed. Install it with the system's packages.") from None
    if result.returncode:
        raise UserError(f"{shlex.join(command)} failed: {result.stderr.strip()[-2000:]}")
    return result.stdout.strip()
