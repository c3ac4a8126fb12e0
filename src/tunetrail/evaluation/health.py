"""A model's answers -> what is wrong with them as text, whatever the checkers say of them.

Not covered: whether an answer is right or good.
"""

import re
from collections import Counter
from typing import Any

import numpy as np

from tunetrail.evaluation import results

# An answer loops when it says the same over and over: a long run of characters, about ten words, a few times anywhere, or
# a short piece many times in a row. Characters, since a weak model may write "TheTheThe"; rules and blanks do not count.
LOOP_LENGTH, LOOP_TIMES = 50, 3
ROW_TIMES, ROW_LENGTH = 8, 24  # the length in all: "100000000" is no loop
RULE = (
    f"a run of {LOOP_LENGTH} characters {LOOP_TIMES} times, or a shorter one {ROW_TIMES} times in a row, {ROW_LENGTH} in all"
)
_IN_A_ROW = re.compile(rf"(.{{1,{LOOP_LENGTH}}}?)\1{{{ROW_TIMES - 1},}}", re.DOTALL)
# Our name for a figure: the words that people read.
FIGURES = {
    "ended": "ended before the token cap",
    "empty": "empty",
    "says_nothing": "says nothing (no letter or digit in it; empty answers are included)",
    "looping": f"looping ({RULE})",
    "unusable": "says nothing, loops or never ends",
    "runs_on": "starts a new instruction block",
}
ALARMING = 0.1  # a larger share of such answers makes the scores doubtful


def loops(answer: str) -> bool:
    """Whether the answer repeats itself (`RULE`)."""
    if any(len(found[0]) >= ROW_LENGTH and _says_something(found[1]) for found in _IN_A_ROW.finditer(answer)):
        return True
    times: Counter[str] = Counter()
    free: dict[str, int] = {}  # where a run may begin again without overlapping itself
    for place in range(len(answer) - LOOP_LENGTH + 1):
        run = answer[place : place + LOOP_LENGTH]
        if place >= free.get(run, 0) and _says_something(run):
            times[run] += 1
            free[run] = place + LOOP_LENGTH
    return max(times.values(), default=0) >= LOOP_TIMES


def _says_something(text: str) -> bool:
    return any(character.isalnum() for character in text)


def figures(samples: list[dict[str, Any]], stop: str) -> dict[str, float | None]:
    """Shares of the answers between 0 and 1, and their mean length.

    `samples` are scored answers (see `scoring`); `stop` begins a new instruction block. Lengths in tokens, and whether an
    answer ended, are known only for answers that were generated here; else they are None.
    """
    answers = list(map(results.answer, samples))
    counted = all("tokens" in sample for sample in samples)
    ended = np.array([bool(sample["ended"]) for sample in samples]) if counted else np.ones(len(samples), bool)
    silent = np.array([not _says_something(answer) for answer in answers])
    looping = np.array([loops(answer) for answer in answers])
    return {
        "ended": float(ended.mean()) if counted else None,
        "empty": float(np.mean([not answer.strip() for answer in answers])),
        "says_nothing": float(silent.mean()),
        "looping": float(looping.mean()),
        "unusable": float((silent | looping | ~ended).mean()),
        "runs_on": float(np.mean([stop in answer for answer in answers])),
        "mean_tokens": float(np.mean([sample["tokens"] for sample in samples])) if counted else None,
        "mean_words": float(np.mean([len(answer.split()) for answer in answers])),
    }


def alerts(health: dict[str, dict[str, float | None]]) -> list[str]:
    """A sentence for each model of whose answers more than a tenth (`ALARMING`) say nothing, loop or never end, taken
    together: checkers may pass such.

    `health` has each model's `figures`; those of an older run lack some, which are then not judged.
    """
    sentences = []
    for model, of in health.items():
        empty, ended = of.get("empty") or 0.0, of.get("ended")
        if empty == 1:
            sentences.append(f"Every answer of {model} is empty: its scores mean nothing.")
            continue
        detail = f"no letter or digit{f'; {empty:.1%} are empty' if empty else ''}"
        shares = {
            f"say nothing ({detail})": of.get("says_nothing", empty),
            "loop": of.get("looping") or 0.0,
            "never end (the token cap cuts them)": 0.0 if ended is None else 1 - ended,
        }
        if round(of.get("unusable") or max(shares.values()), 9) > ALARMING:
            kinds = [f"{share:.1%} {kind}" for kind, share in shares.items() if share]
            sentences.append(f"Of the answers of {model} {', '.join(kinds)}: read some before you trust its scores.")
    return sentences
