"""Checks of `tunetrail doctor` -> a line each: a mark, what was found, and the fix.

Red (fail): runs fail or are wrong. Yellow (warn): some runs fail, or there is a drawback. Of an exception only the type and
the line are printed: its message may quote an address with a password.
"""

import shlex
import sys
import textwrap
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PYTHON = shlex.quote(sys.executable)  # for the commands that fix something


@dataclass(frozen=True)
class Asked:
    """The checkout to check, and the build of torch that it must have: "cpu", "cuda", "rocm", or None for any."""

    root: Path
    expect: str | None = None


@dataclass(frozen=True)
class Line:
    """What one check found, and the fix."""

    mark: Literal["ok", "warn", "fail"]
    found: str
    fix: str = ""


Check = Callable[[Asked], Line]


def examine(checks: Mapping[str, Check], asked: Asked) -> dict[str, Line]:
    """Run all checks at once and return their lines by name; a check that raises is a red line."""
    with ThreadPoolExecutor(len(checks)) as threads:
        lines = threads.map(lambda check: _line(check, asked), checks.values())
        return dict(zip(checks, lines, strict=True))


def _line(check: Check, asked: Asked) -> Line:
    try:
        return check(asked)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        found = f"the check broke: {type(error).__name__} in {Path(last.filename).name}, line {last.lineno}"
        return Line("fail", found, "fix the file that it reads, or report this line as a bug of tunetrail")


def table(lines: Mapping[str, Line], width: int, mark: Callable[[str], str] = str) -> str:
    """Return one line per check in at most `width` columns, then the fixes, unwrapped for pasting. `mark` may colour."""
    name_width = max(map(len, lines))
    indent = " " * (4 + 2 + name_width + 2)
    rows = []
    for name, line in lines.items():
        text = textwrap.wrap(line.found, max(width - len(indent), 30), break_on_hyphens=False, break_long_words=False)
        rows.append(f"{mark(f'{line.mark:<4}')}  {name:<{name_width}}  " + f"\n{indent}".join(text))
    names: dict[str, list[str]] = {}  # of the checks that one fix is for
    for name, line in lines.items():
        if line.mark != "ok" and line.fix:
            names.setdefault(line.fix, []).append(name)
    if not names:
        return "\n".join(rows)
    labels = {fix: ", ".join(checks) for fix, checks in names.items()}
    label_width = max(map(len, labels.values()))
    return "\n".join([*rows, "", "what to do:", *(f"  {label:<{label_width}}  {fix}" for fix, label in labels.items())])
