"""A model's answers -> shares of them that are empty, loop or never end, independent of IFEval's checkers."""

import re
from collections import Counter
from typing import Any

import numpy as np

from tunetrail.evaluation import results

# An answer loops if a long run of characters (about ten words) occurs a few times anywhere, or a short one many times in a
# row. Characters, not words, since a weak model may write "TheTheThe"; runs without a letter or digit do not count.
LOOP_LENGTH, LOOP_TIMES = 50, 3
ROW_TIMES, ROW_LENGTH = 8, 24  # the length in all: "100000000" does not loop
RULE = (
    f"a run of {LOOP_LENGTH} characters {LOOP_TIMES} times, or a shorter one {ROW_TIMES} times in a row, {ROW_LENGTH} in all"
)
_IN_A_ROW = re.compile(rf"(.{{1,{LOOP_LENGTH}}}?)\1{{{ROW_TIMES - 1},}}", re.DOTALL)
# Figures and their labels.
FIGURES = {
    "ended": "ended before the token cap",
    "empty": "empty",
    "says_nothing": "says nothing (no letter or digit in it; empty answers are included)",
    "looping": f"looping ({RULE})",
    "unusable": "says nothing, loops or never ends",
    "runs_on": "starts a new instruction block",
}
ALARMING = 0.1  # with a larger share of such answers the scores are doubtful


def loops(answer: str) -> bool:
    """Return whether the answer repeats itself (`RULE`)."""
    if any(len(match[0]) >= ROW_LENGTH and _has_letter_or_digit(match[1]) for match in _IN_A_ROW.finditer(answer)):
        return True
    times: Counter[str] = Counter()
    free: dict[str, int] = {}  # where a run may start again without overlapping itself
    for start in range(len(answer) - LOOP_LENGTH + 1):
        run = answer[start : start + LOOP_LENGTH]
        if start >= free.get(run, 0) and _has_letter_or_digit(run):
            times[run] += 1
            free[run] = start + LOOP_LENGTH
    return max(times.values(), default=0) >= LOOP_TIMES


def _has_letter_or_digit(text: str) -> bool:
    return any(character.isalnum() for character in text)


def figures(samples: list[dict[str, Any]], stop: str) -> dict[str, float | None]:
    """Return shares of the answers between 0 and 1, and their mean length.

    `samples` are scored answers (see `scoring`); `stop` starts a new instruction block. `ended` and `mean_tokens` are None
    for answers that were not generated here.
    """
    answers = list(map(results.answer, samples))
    counted = all("tokens" in sample for sample in samples)
    ended = np.array([bool(sample["ended"]) if counted else True for sample in samples])
    silent = np.array([not _has_letter_or_digit(answer) for answer in answers])
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
    """Return a sentence for each model more than `ALARMING` of whose answers say nothing, loop or never end.

    Checkers may pass such answers. `health` has each model's `figures`; an earlier run lacks some of them.
    """
    sentences = []
    for model, figures in health.items():
        empty = figures.get("empty") or 0.0
        ended = figures.get("ended")
        if empty == 1:
            sentences.append(f"Every answer of {model} is empty: its scores mean nothing.")
            continue
        detail = f"no letter or digit{f'; {empty:.1%} are empty' if empty else ''}"
        shares = {
            f"say nothing ({detail})": figures.get("says_nothing", empty),
            "loop": figures.get("looping") or 0.0,
            "never end (the token cap cuts them)": 0.0 if ended is None else 1 - ended,
        }
        if round(figures.get("unusable") or max(shares.values()), 9) > ALARMING:
            kinds = [f"{share:.1%} {kind}" for kind, share in shares.items() if share]
            sentences.append(f"Of the answers of {model} {', '.join(kinds)}: read some before you trust its scores.")
    return sentences
