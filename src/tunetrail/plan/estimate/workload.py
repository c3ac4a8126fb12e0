"""The composed values -> the rows and prompts of the run, and their tokens as Axolotl trains on them.

`counting` counts the tokens. Not counted: other rows than `prepare`'s, PoSE, shards.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tunetrail import UserError
from tunetrail.plan.estimate import counting


@dataclass(frozen=True)
class Workload:
    """Rows, and their lengths in tokens with template, BOS and EOS; None if not known.

    `source` is that of the least certain figure; `why` says what is not on this machine and what is used instead.
    """

    source: str  # "counted", "estimated" or "recorded"
    why: str  # "" when counted
    raw: int  # rows in the file
    left_out: dict[str, int]  # fields that are not read -> rows in which they are not empty
    train: int  # rows to train on
    validation: int
    kept: int  # rows to train on that pass sequence_len, excess_length_strategy, min_sample_len and have a supervised token
    dropped: int
    cut: int  # of the kept rows
    lengths: np.ndarray  # (kept,)
    supervised: int  # tokens that are trained on in an epoch
    validation_lengths: np.ndarray  # (kept validation rows,)
    longest: int  # of the rows to train on, before any is dropped or cut
    p95: int  # tokens: 95 % of these rows are not longer
    overlap: int | None  # validation rows whose question is also trained on
    prompts: int  # of one evaluation
    longest_prompt: int  # tokens
    contaminated: list[str] | None  # prompts that a row to train on has word for word
    bos_trained: bool | None  # the tokenizer puts BOS before a text
    eos_supervised: bool | None  # every kept row that is not cut ends with EOS, which is trained on
    tokens: int  # of all kept rows
    mean: float  # tokens of a kept row
    license: str | None  # of the rows


def read(values: dict[str, Any], root: Path) -> Workload:
    """Return the workload of the run of `values` (what params.yaml would hold), whose paths start at `root`.

    Raises:
        NotKnown: the data are neither on this machine nor recorded.
        UserError: the data are invalid, or have a row that `excess_length_strategy: raise` stops at.
    """
    train = values["train"]
    counted = counting.count(values, root)
    fields, sequence_len = counted.fields, train["sequence_len"]
    if train.get("excess_length_strategy") == "raise" and counted.exact and fields["longest"] > sequence_len:
        raise UserError(
            f"train.excess_length_strategy=raise, and a row has {fields['longest']} tokens, more than train.sequence_len="
            f"{sequence_len}: Axolotl would stop there. Raise the length, or drop or truncate longer rows."
        )
    lengths, supervised, cut = _kept(counted.sizes, train, sequence_len, train.get("sample_packing"), counted.bos)
    packed = train.get("sample_packing" if train.get("eval_sample_packing") is None else "eval_sample_packing")
    longest = train.get("eval_sequence_len") or sequence_len
    validation_lengths, _, _ = _kept(counted.validation_sizes, train, longest, packed, counted.bos)
    return Workload(
        **fields,
        kept=len(lengths),
        dropped=fields["train"] - len(lengths),
        cut=int(cut.sum()),
        lengths=lengths,
        supervised=int(supervised.sum()),
        validation_lengths=validation_lengths,
        tokens=int(lengths.sum()),
        mean=float(lengths.mean()) if len(lengths) else 0.0,
    )


def _kept(sizes: np.ndarray, train: dict[str, Any], longest: int, packed: bool | None, bos: bool) -> tuple[np.ndarray, ...]:
    """Return for each row that Axolotl keeps its tokens, those that are trained on, and whether it is cut.

    Prompt and answer are each cut at sequence_len (axolotl/prompt_tokenizers.py), then rows are dropped or cut by `longest`
    (utils/data/utils.py), and those that supervise nothing are dropped where rows are packed (utils/trainer.py).
    """
    prompt, answer = np.minimum(sizes, [[train["sequence_len"]], [train["sequence_len"] - bos]])
    tokens = np.minimum(prompt + answer, longest)
    supervised = tokens if train.get("train_on_inputs") else (tokens - prompt).clip(min=0)
    kept = prompt + answer >= (train.get("min_sample_len") or 2)
    if train.get("excess_length_strategy") != "truncate":
        kept &= prompt + answer <= longest
    if packed:
        kept &= supervised > 0
    return tokens[kept], supervised[kept], (tokens < sizes.sum(axis=0))[kept]
