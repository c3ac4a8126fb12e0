"""One problem of a planned run, and the overrides that fix it, written as they are typed.

Overrides are added at the end of the command; that of a group (`hardware=...`) replaces another of its group.
"""

import functools
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tunetrail.plan.facts import Facts

ERROR, WARNING = "ERROR", "WARNING"
Values = dict[str, Any]  # as params.yaml would hold them
Settings = dict[str, Any]  # dotted keys -> values

# Text that Hydra reads as it is, and not as a number, a flag or null.
_PLAIN = re.compile(r"\$\{[\w.]+\}|(?!(?:null|true|false|nan|inf)$)[A-Za-z_][\w./-]*", re.IGNORECASE)


@dataclass(frozen=True)
class Finding:
    """`what` has the numbers, `why` says the consequence in one sentence, `fix` is a line to paste."""

    code: str
    level: str  # ERROR: the run is refused; WARNING: it may start
    what: str
    why: str
    fix: str


Problem = tuple[str, str, Settings | str]  # what, why, and settings, or text if the user must decide
Rule = Callable[[Values, Facts], Finding | None]


def _rule(level: str, problem: Callable[[Values, Facts], Problem | None]) -> Rule:
    """Return a rule that makes a finding of the function's result, with the function's name as its code."""

    @functools.wraps(problem)
    def rule(values: Values, facts: Facts) -> Finding | None:
        outcome = problem(values, facts)
        if outcome is None:
            return None
        what, why, fix = outcome
        return Finding(problem.__name__.upper(), level, what, why, fix if isinstance(fix, str) else overrides(values, fix))

    return rule


error = functools.partial(_rule, ERROR)
warning = functools.partial(_rule, WARNING)


def overrides(values: Values, settings: Settings) -> str:
    """Return Hydra's overrides that set these dotted keys, quoted for a shell; with a plus if `values` lack the key.

    A key without a dot is a group's (`method`), and its value an option, or a list of them. An option may add a key that
    `values` lack, so with it two pluses set the key whether it is there or not.
    """
    words, plus_of_new = [], "++" if any("." not in key for key in settings) else "+"
    for key, value in settings.items():
        plus = plus_of_new if "." in key and not _has(values, key) else ""
        words.append(shlex.quote(f"{plus}{key}={_word(value)}"))
    return " ".join(words)


def at(values: Any, key: str) -> Any:
    """Return the value of a dotted key.

    Raises:
        KeyError: there is none.
    """
    try:
        for part in key.split("."):
            values = values[int(part) if isinstance(values, list) else part]
    except (LookupError, TypeError, ValueError):
        raise KeyError(key) from None
    return values


def short(number: float) -> str:
    """Return a number as people write it: 5.2e-6, 0.003, 1.92e18."""
    return f"{number:.3g}".replace("e-0", "e-").replace("e+", "e")


def _has(values: Any, key: str) -> bool:
    try:
        at(values, key)
    except KeyError:
        return False
    return True


def _word(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_word(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_word, value)) + "]"
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) else '"' + value.replace('"', '\\"') + '"'
    return json.dumps(value)
