"""Queries the installed tools in a process of their own, and caches the answers in the user's cache.

    python -m tunetrail.tool_queries       answers the questions on its standard input, one line of JSON each

Importing Axolotl takes half a minute, so no command does it itself: one process imports the tools once for all questions of
a command, while the command continues. A cached answer is used until something changes that it depends on: the question, the
source of the modules that answer it, or the installed packages. Not noticed: a package that is changed in place and keeps
its version. The questions are those of `config.schema`, `plan.acceptance`, `plan.estimate.schedule` and
`evaluation.instructions`.
"""

import atexit
import contextlib
import functools
import hashlib
import importlib
import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from tunetrail import UserError, launch

# The other modules of ours that a module's answers depend on.
_DEPENDS_ON = {"config.schema": ("config.axolotl_schema",), "evaluation.instructions": ("evaluation.ifeval.checkers",)}


def ask(module: str, question: Any, subject: str, keep: Callable[[Any], bool] = lambda _: True) -> Callable[[], Any]:
    """Start to ask for `tunetrail.<module>.answer(question)`, both plain JSON, and return a function that waits for it.

    `subject` is printed if the answer is not cached. An answer for which `keep` returns False is not cached. The returned
    function raises:
        UserError: the tools cannot be imported, or the process has ended; the message is their own.
    """
    file = cache_file(module, question)
    with contextlib.suppress(OSError, ValueError):  # not cached, or damaged
        answer = json.loads(file.read_text())
        return lambda: answer
    future = _process().ask(json.dumps([module, question]), subject)

    def wait() -> Any:
        answer = future.result()
        if not keep(answer):
            return answer
        # If the folder cannot be written to, every command asks again.
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            partial = file.with_suffix(f".{os.getpid()}")
            partial.write_text(json.dumps(answer))
            partial.replace(file)
        return answer

    return wait


def cache_file(module: str, question: Any) -> Path:
    """Return the file of the cached answer; for a user without a home below /dev/null, where no file can be written."""
    files = [f"{name.replace('.', '/')}.py" for name in (module, *_DEPENDS_ON.get(module, ()))]
    sources = [(Path(__file__).parent / file).read_text() for file in files]
    key = json.dumps([question, sources, _installed_packages()], sort_keys=True)
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tunetrail"
    except RuntimeError:
        folder = Path(os.devnull) / "tunetrail"
    return folder / f"{module}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


def close() -> None:
    """End the process that has imported the tools, to free its memory; the next question starts another."""
    if _process.cache_info().currsize:
        _process().close()


class _Tools:
    """The process that has imported the tools. It ends with this one, however that ends: its input is closed then."""

    def __init__(self) -> None:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = launch.start_interactive([sys.executable, "-m", "tunetrail.tool_queries"], self.errors)
        self.lock = threading.Lock()
        self.announced = False
        self.failure = ""
        atexit.register(self.process.kill)

    def close(self) -> None:
        self.failure = self.failure or "their process was ended"
        self.process.kill()
        self.process.wait()
        for file in (self.process.stdin, self.process.stdout, self.errors):
            with contextlib.suppress(OSError):  # a question that was not read any more
                file.close()
        _process.cache_clear()

    def ask(self, line: str, subject: str) -> Future:
        if not self.announced:
            print(f"{subject}: about half a minute, to import them; the answer is cached", file=sys.stderr, flush=True)
        self.announced = True
        future: Future = Future()
        threading.Thread(target=self._exchange, args=(line, future), daemon=True).start()
        return future

    def _reason(self) -> str:
        code = self.process.wait()
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"their process ended with code {code}"

    def _exchange(self, line: str, future: Future) -> None:
        with self.lock:
            try:
                self.process.stdin.write(f"{line}\n")
                self.process.stdin.flush()
                answer = json.loads(self.process.stdout.readline())
            except (OSError, ValueError):
                self.failure = self.failure or self._reason()
                self.close()
                module = json.loads(line)[0]
                future.set_exception(UserError(f"the tools do not answer tunetrail.{module}: {self.failure}"))
            else:
                future.set_result(answer)


@functools.cache
def _process() -> _Tools:
    return _Tools()


@functools.cache
def _installed_packages() -> list[str]:
    """Return Python's version and the name of every installed package's .dist-info folder, which has its version."""
    folders = [Path(entry) for entry in dict.fromkeys(sys.path) if Path(entry).is_dir()]
    packages = {file.name for folder in folders for file in folder.iterdir() if file.suffix in (".dist-info", ".egg-info")}
    return [sys.version, *sorted(packages)]


def main() -> None:
    screen = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # so that what the tools print is not read as an answer
    for line in sys.stdin:
        module, question = json.loads(line)
        print(json.dumps(importlib.import_module(f"tunetrail.{module}").answer(question)), file=screen, flush=True)


if __name__ == "__main__":
    main()
