"""The errors of a plan -> overrides that pass the plan: the fix of each error, applied and planned again.

One fix may need another: longer sequences take more memory. Not covered: warnings, which a person must weigh, and fixes
that only a person can fill in, such as FILE.
"""

import shlex
from collections.abc import Callable

from tunetrail import UserError
from tunetrail.config import overrides
from tunetrail.plan.rules.finding import Finding

_ROUNDS = 8
# Fixed last: they often go away with the fixes of other errors.
_EFFECTS = ("NO_STEPS", "OUT_OF_MEMORY", "OUT_OF_DISK")


def also_to_fix(found: list[Finding]) -> list[Finding]:
    """The warnings that must be fixed as well: the command would run on other devices than it was planned for."""
    return [one for one in found if one.code == "PLANNED_OTHERWISE"]


def find(words: list[str], wrong: list[Finding], again: Callable[[list[str]], list[Finding]]) -> list[str] | None:
    """The overrides `words` with fixes for `wrong`, their findings; None where the fixes are not enough.

    `again` plans other overrides and returns their findings to fix, or raises UserError.
    """
    from hydra.errors import HydraException

    for _ in range(_ROUNDS):
        if not wrong:
            break
        causes = [one for one in wrong if one.code not in _EFFECTS]
        try:
            words = overrides.replace(words, [word for one in causes or wrong[:1] for word in shlex.split(one.fix)])
            wrong = again(words)
        except (UserError, HydraException, ValueError):  # ValueError: what is no shell's word
            return None
    return None if wrong else words
