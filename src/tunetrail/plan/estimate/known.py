"""What recorded/ tells of data that are not here: how many rows, and how long they are.

Not covered: the shapes of models (`architecture`).
"""

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tunetrail import UserError


class NotKnown(UserError):
    """What a plan needs of the data or the model is neither here nor on record: a run may start without a plan."""


_RECORDED = Path(__file__).with_name("recorded")


def of(source: dict[str, Any]) -> dict[str, Any]:
    """What recorded/ has of a file of the hub.

    Raises:
        NotKnown: nothing is on record.
    """
    for file in _RECORDED.glob("*.yaml"):
        record = yaml.safe_load(file.read_text())
        if record.get("hub") == source:
            return record
    what = f"{source['repo_id']} {source['filename']} --revision {source['revision']}"
    raise NotKnown(
        f"{source['repo_id']} is not in the hub's cache, and nothing is recorded of how long its texts are. Fetch it once: "
        f"hf download --repo-type dataset {what}"
    )


def lengths(record: dict[str, Any], rows: int) -> np.ndarray:
    """Tokens of prompts and of answers, (2, rows), spread as the record's quantiles are, in an order that tells nothing."""
    rank = (np.random.default_rng(0).permutation(rows) + 0.5) / rows
    levels = np.linspace(0, 1, len(record["tokens"]))
    tokens, supervised = (np.rint(np.interp(rank, levels, record[key])).astype(int) for key in ("tokens", "supervised"))
    return np.array([tokens - supervised, supervised])


def bytes_per_token(kind: str) -> float:
    """UTF-8 bytes of a token of Llama 3, in a "prompt" or in an "answer"."""
    return yaml.safe_load((_RECORDED / "bytes_per_token.yaml").read_text())[kind]
