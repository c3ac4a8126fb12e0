"""Fine-tuning as an experiment: Hydra composes it, DVC runs its stages, MLflow keeps the record."""

import re

from tunetrail import redaction

_LONG_WORD = re.compile(r"\S{1000,}")  # a value that was typed: the start is enough to know it


class UserError(Exception):
    """A problem that the user can fix: the message names what is wrong and the fix. Ends the command with `code`."""

    code = 2

    def __init__(self, message: str):
        message = redaction.redact(message)  # it may quote an address, or a tool that does
        super().__init__(_LONG_WORD.sub(lambda word: f"{word[0][:80]}…", message))
