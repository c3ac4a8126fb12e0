"""Recorded numbers and lengths of rows, for data that are not on this machine (recorded/)."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tunetrail import UserError


class NotKnown(UserError):
    """The data or the model are neither here nor recorded, so there is no plan; a run may start without one."""


_RECORDED = Path(__file__).with_name("recorded")


@functools.cache
def recorded(name: str) -> dict[str, Any]:
    """Return the content of a file of recorded/."""
    return yaml.safe_load((_RECORDED / f"{name}.yaml").read_text())


def find(source: dict[str, Any]) -> dict[str, Any]:
    """Return the record of a file of the hub, whose `source` has hf_hub_download's arguments.

    Raises:
        NotKnown: nothing is recorded of it.
    """
    for file in _RECORDED.glob("*.yaml"):
        if recorded(file.stem).get("hub") == source:
            return recorded(file.stem)
    arguments = f"{source['repo_id']} {source['filename']} --revision {source['revision']}"
    raise NotKnown(
        f"{source['repo_id']} is not in the hub's cache, and nothing is recorded of how long its texts are. Fetch it once: "
        f"hf download --repo-type dataset {arguments}"
    )


def lengths(record: dict[str, Any], rows: int) -> np.ndarray:
    """Return the tokens of prompts and of answers, (2, rows), distributed as the record's quantiles, in random order."""
    rank = (np.random.default_rng(0).permutation(rows) + 0.5) / rows
    levels = np.linspace(0, 1, len(record["tokens"]))
    tokens, supervised = (np.rint(np.interp(rank, levels, record[key])).astype(int) for key in ("tokens", "supervised"))
    return np.array([tokens - supervised, supervised])


def bytes_per_token(kind: str) -> float:
    """Return the UTF-8 bytes of a token of Llama 3, in a "prompt" or in an "answer"."""
    return recorded("bytes_per_token")[kind]
