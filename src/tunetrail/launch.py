"""Starts processes: the only file that does. Output goes to a log, progress to the screen.

Every child has the tools' telemetry switched off. Nothing is retried: a tool that fails fails its stage. Nothing is left
behind: what a child has started ends with it, and all of it with this process, also if one of them is killed.
"""

import contextlib
import os
import shlex
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tunetrail import UserError, disk, events, processes, redaction, telemetry

VERBOSE = "TUNETRAIL_VERBOSE"  # an environment variable, which stages inherit: what tools print goes to the screen too

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
    own["PYTHONHASHSEED"] = "0"  # peft writes a set into an adapter's config, in the order of the hashes
    hub = {"HF_HUB_OFFLINE": "1"} if offline else {}
    return telemetry.OFF | OPENMP_SPIN | hub | inherited | own | python_path()


def python_path(*folders: Path) -> dict[str, str]:
    """Return PYTHONPATH with `folders` before the entries it has, and without the current folder."""
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    entries = [*map(str, folders), *(entry for entry in entries if not _is_current_folder(entry))]
    return {"PYTHONPATH": os.pathsep.join(entries)} if entries else {}


def use_code_of(root: Path) -> None:
    """Replace this process by one that runs the package in `root`/src, which a run records, unless it runs that already.

    Otherwise the `tunetrail` of another checkout's environment, or of one that `mlflow run` made for an earlier clone, would
    run its own code here.
    """
    source = (root / "src").resolve()
    running = Path(__file__).resolve().parents[1]
    is_first = os.environ.get("PYTHONPATH", "").split(os.pathsep)[0] == str(source)  # then nothing would change
    if running == source or is_first or not (source / "tunetrail" / "__init__.py").is_file():
        return
    print(f"this is {running}: the code of {source} is run instead", file=sys.stderr, flush=True)
    os.environ.update(python_path(source))
    os.execv(sys.executable, [sys.executable, "-P", "-m", "tunetrail", *sys.argv[1:]])


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
    mark, variables = processes.marked(environment(offline))
    with log.open("w", encoding="utf-8", buffering=1) as file:
        # As text, in which a progress bar's \r ends a line too.
        process = subprocess.Popen(command, **pipes, env=variables, encoding="utf-8", errors="replace")
        # A launcher that is killed leaves a trainer, which keeps the pipe open.
        threading.Thread(target=lambda: (process.wait(), processes.end(mark, 5)), daemon=True).start()
        try:
            for line in map(str.rstrip, process.stdout):
                if line and not bars.show(line):
                    line = redaction.redact(line)
                    file.write(line + "\n")
                    tail.append(line)
                    if VERBOSE in os.environ:
                        print(f"{label}: {line}", flush=True)
        except BaseException:
            processes.end(mark, 5)
            raise
        code = process.wait()
    bars.end()
    if code:
        reason = disk.full(Path())
        raise UserError("\n".join(filter(None, [f"{label} failed with code {code}. The end of {log}:", *tail, reason])))


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
    mark, environ = processes.marked(environment() | (variables or {}))
    code = None
    with _guard(mark, fds):
        try:
            with log.open("ab") if log else contextlib.nullcontext() as screen:
                streams = {"stdin": subprocess.DEVNULL, "stdout": screen, "stderr": subprocess.STDOUT} if log else {}
                process = subprocess.Popen(command, env=environ, cwd=folder, start_new_session=True, pass_fds=fds, **streams)
            code = process.wait()
            return code
        finally:
            if code != 0:
                processes.end(mark, patience)


@contextlib.contextmanager
def children_end_with_this(fds: list[int]) -> Iterator[None]:
    """If this process is killed in the body, end all that it and its libraries have started in the body.

    The guard that does it inherits the open files `fds`, and with them their locks.
    """
    mark, environ = processes.marked(dict(os.environ))
    with _guard(mark, fds):
        os.environ.update(environ)
        yield


@contextlib.contextmanager
def _guard(mark: str, fds: list[int]) -> Iterator[None]:
    """Have a shell beside this process end the processes with the `mark` if this process is killed in the body."""
    guard = subprocess.Popen(["sh", "-c", processes.GUARD], stdin=subprocess.PIPE, start_new_session=True, pass_fds=fds)
    guard.stdin.write(f"{mark}\n".encode())
    guard.stdin.flush()
    try:
        yield
    finally:
        with contextlib.suppress(BrokenPipeError):
            guard.communicate(b"done\n")


def start_interactive(command: list[str], errors: IO[bytes]) -> subprocess.Popen[str]:
    """Start a process that reads lines of text and writes lines of text; its error output goes to `errors`."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
    return subprocess.Popen(command, **pipes, env=environment(offline=True), text=True, encoding="utf-8")


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
