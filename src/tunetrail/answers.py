"""A question to the installed tools -> its answer, from a process that imports them, kept in the user's cache.

    python -m tunetrail.answers       answers the questions on its standard input, one line of JSON each

Importing Axolotl takes half a minute, so that no command does it for itself: one process does it once for all questions of
a command, while the command goes on, and an answer is read again as long as all that it depends on is the same: the
question, the source of the modules that answer it, and what is installed. Not covered: the questions, which are
`config.schema`'s, `plan.acceptance`'s and `evaluation.instructions`'s; a package that is changed in place and keeps its
version.
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

# Besides the module itself, which of ours its answers come from.
_ALSO = {"config.schema": ("config.axolotl_schema",), "evaluation.instructions": ("evaluation.ifeval.checkers",)}


def ask(module: str, question: Any, subject: str, keep: Callable[[Any], bool] = lambda _: True) -> Callable[[], Any]:
    """Begin to find out what `tunetrail.<module>.answer(question)` returns, both plain JSON; the result waits for it.

    `subject` says on the screen what is found out, where that takes its time. An answer for which `keep` is false is not
    kept. The result raises:
        UserError: the tools cannot be imported, or the process has ended; the message is their own.
    """
    file = kept(module, question)
    with contextlib.suppress(OSError, ValueError):  # none is kept, or it is damaged
        answer = json.loads(file.read_text())
        return lambda: answer
    future = _process().ask(json.dumps([module, question]), subject)

    def wait() -> Any:
        answer = future.result()
        if not keep(answer):
            return answer
        # Where the folder cannot be written, it takes these seconds every time.
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            partial = file.with_suffix(f".{os.getpid()}")
            partial.write_text(json.dumps(answer))
            partial.replace(file)
        return answer

    return wait


def kept(module: str, question: Any) -> Path:
    """Where the answer is kept; for a user without a home in a folder that nobody makes."""
    files = [f"{name.replace('.', '/')}.py" for name in (module, *_ALSO.get(module, ()))]
    sources = [(Path(__file__).parent / file).read_text() for file in files]
    what = json.dumps([question, sources, _installed()], sort_keys=True)
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tunetrail"
    except RuntimeError:
        folder = Path(os.devnull) / "tunetrail"
    return folder / f"{module}-{hashlib.sha256(what.encode()).hexdigest()[:16]}.json"


def close() -> None:
    """End the process, before others need its memory; the next question starts another."""
    if _process.cache_info().currsize:
        _process().end()


class _Tools:
    """The process that has the tools imported. It ends with this one, whatever ends that: its input is closed then."""

    def __init__(self) -> None:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = launch.start_interactive([sys.executable, "-m", "tunetrail.answers"], self.errors)
        self.turn, self.announced, self.fault = threading.Lock(), False, ""
        atexit.register(self.process.kill)

    def end(self) -> None:
        self.fault = self.fault or "their process was ended"
        self.process.kill()
        self.process.wait()
        for file in (self.process.stdin, self.process.stdout, self.errors):
            with contextlib.suppress(OSError):  # what was written and not taken any more
                file.close()
        _process.cache_clear()

    def ask(self, line: str, subject: str) -> Future:
        if not self.announced:
            print(f"{subject}: about half a minute, to import them; the answer is kept", file=sys.stderr, flush=True)
        self.announced = True
        future: Future = Future()
        threading.Thread(target=self._exchange, args=(line, future), daemon=True).start()
        return future

    def _last_words(self) -> str:
        code = self.process.wait()
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"their process ended with code {code}"

    def _exchange(self, line: str, future: Future) -> None:
        with self.turn:
            try:
                self.process.stdin.write(f"{line}\n")
                self.process.stdin.flush()
                answer = json.loads(self.process.stdout.readline())
            except (OSError, ValueError):
                self.fault = self.fault or self._last_words()
                self.end()
                module = json.loads(line)[0]
                future.set_exception(UserError(f"the tools do not answer tunetrail.{module}: {self.fault}"))
            else:
                future.set_result(answer)


@functools.cache
def _process() -> _Tools:
    return _Tools()


@functools.cache
def _installed() -> list[str]:
    """Python's version and, as the names of their folders say, every installed package with its own."""
    folders = [Path(place) for place in dict.fromkeys(sys.path) if Path(place).is_dir()]
    packages = {file.name for folder in folders for file in folder.iterdir() if file.suffix in (".dist-info", ".egg-info")}
    return [sys.version, *sorted(packages)]


def main() -> None:
    screen = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the tools print is no answer
    for line in sys.stdin:
        module, question = json.loads(line)
        print(json.dumps(importlib.import_module(f"tunetrail.{module}").answer(question)), file=screen, flush=True)


if __name__ == "__main__":
    main()
