"""What refuses a run -> overrides with which nothing does: the mends of its errors, tried by planning it once more.

One mend may make another needed: a smaller model knows fewer positions. Not covered: warnings, which are a person's to
weigh, and mends that only a person can fill in, as FILE.
"""

import shlex
from collections.abc import Callable

from tunetrail import UserError, composition
from tunetrail.plan.finding import Finding

_ROUNDS = 4


def find(words: list[str], refused: list[Finding], again: Callable[[list[str]], list[Finding]]) -> list[str] | None:
    """The words, mended; None: it takes more than the mends.

    `refused`: what refuses the run of `words`. `again` says what refuses another, or raises UserError.
    """
    from hydra.errors import HydraException

    for _ in range(_ROUNDS):
        if not refused:
            break
        try:
            words = composition.retyped(words, [word for one in refused for word in shlex.split(one.mend)])
            refused = again(words)
        except (UserError, HydraException):
            return None
    return None if refused else words
