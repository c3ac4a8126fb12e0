"""What refuses a run -> overrides with which nothing does: the fixes of its errors, tried by planning it once more.

One fix may make another needed: longer sequences take more memory. Not covered: warnings, which are a person's to
weigh, and fixes that only a person can fill in, as FILE.
"""

import shlex
from collections.abc import Callable

from tunetrail import UserError
from tunetrail.config import compose
from tunetrail.plan.rules.finding import Finding

_ROUNDS = 8
# Fixed last, since what else is fixed may be all that it takes.
_EFFECTS = ("NO_STEPS", "OUT_OF_MEMORY", "OUT_OF_DISK")


def also_to_fix(found: list[Finding]) -> list[Finding]:
    """Of the warnings, what must be fixed too: a command for other devices than its plan's would not be what was tried."""
    return [one for one in found if one.code == "PLANNED_OTHERWISE"]


def find(words: list[str], wrong: list[Finding], again: Callable[[list[str]], list[Finding]]) -> list[str] | None:
    """The words, fixed; None: it takes more than the fixes.

    `wrong`: what must be fixed in the run of `words`. `again` says the same of others, or raises UserError.
    """
    from hydra.errors import HydraException

    for _ in range(_ROUNDS):
        if not wrong:
            break
        causes = [one for one in wrong if one.code not in _EFFECTS]
        try:
            words = compose.retyped(words, [word for one in causes or wrong[:1] for word in shlex.split(one.fix)])
            wrong = again(words)
        except (UserError, HydraException, ValueError):  # ValueError: what is no shell's word
            return None
    return None if wrong else words
