"""The errors of a plan -> overrides that pass the plan: the fix of each error, applied and planned again.

One fix may need another: longer sequences take more memory. Not fixed: warnings, which the user must weigh, and errors whose
fix only the user can fill in, such as FILE.
"""

import shlex
from collections.abc import Callable

from tunetrail import UserError
from tunetrail.config import overrides
from tunetrail.plan.rules.finding import Finding

_ROUNDS = 8
# Fixed last: they often go away with the fixes of other errors.
_EFFECTS = ("NO_STEPS", "OUT_OF_MEMORY", "OUT_OF_DISK")


def also_to_fix(findings: list[Finding]) -> list[Finding]:
    """Return the warnings that must be fixed too: that the run would use other devices than planned."""
    return [finding for finding in findings if finding.code == "PLANNED_OTHERWISE"]


def find(words: list[str], findings: list[Finding], replan: Callable[[list[str]], list[Finding]]) -> list[str] | None:
    """Return the overrides `words` with the fixes of `findings`; None if the fixes are not enough.

    `replan` plans other overrides and returns their findings to fix, or raises UserError.
    """
    from hydra.errors import HydraException

    for _ in range(_ROUNDS):
        if not findings:
            break
        causes = [finding for finding in findings if finding.code not in _EFFECTS]
        try:
            fixes = [word for finding in causes or findings[:1] for word in shlex.split(finding.fix)]
            words = overrides.replace(words, fixes)
            findings = replan(words)
        except (UserError, HydraException, ValueError):  # ValueError: the fix is text that no shell can split
            return None
    return None if findings else words
