"""Fine-tuning as an experiment: Hydra composes it, DVC runs its stages, MLflow keeps the record."""


class UserError(Exception):
    """What a person can mend: the message names the thing that is wrong and the remedy. Ends the command with its code."""

    code = 2
