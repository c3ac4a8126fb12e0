"""Fine-tuning as an experiment: Hydra composes it, DVC runs its stages, MLflow keeps the record."""

from tunetrail import redaction


class UserError(Exception):
    """A problem that the user can fix: the message names what is wrong and the fix. Ends the command with `code`."""

    code = 2

    def __init__(self, message: str):
        super().__init__(redaction.redact(message))  # it may quote an address, or a tool that does
