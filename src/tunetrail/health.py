"""A model's answers -> what is wrong with them as text, whatever the checkers say of them.

Not covered: whether an answer is right or good.
"""

from collections import Counter
from typing import Any

import numpy as np

# An answer loops when some run of this many characters, about ten words, stands in it this often, side by side or apart.
# Characters, since a weak model may write "TheTheThe" or line ends alone.
LOOP_LENGTH, LOOP_TIMES = 50, 3
RULE = f"some run of {LOOP_LENGTH} characters occurs {LOOP_TIMES} times or more"
# Our name for a figure: the words that people read.
FIGURES = {
    "ended": "ended before the token cap",
    "empty": "empty",
    "looping": f"looping ({RULE})",
    "runs_on": "starts a new instruction block",
}


def loops(answer: str) -> bool:
    """Whether the answer repeats itself (`RULE`)."""
    times: Counter[str] = Counter()
    free: dict[str, int] = {}  # where a run may begin again without overlapping itself
    for place in range(len(answer) - LOOP_LENGTH + 1):
        run = answer[place : place + LOOP_LENGTH]
        if place >= free.get(run, 0):
            times[run] += 1
            free[run] = place + LOOP_LENGTH
    return max(times.values(), default=0) >= LOOP_TIMES


def figures(samples: list[dict[str, Any]], stop: str) -> dict[str, float | None]:
    """Shares of the answers between 0 and 1, and their mean length.

    `samples` are scored answers (see `scoring`); `stop` begins a new instruction block. Lengths in tokens, and whether an
    answer ended, are known only for answers that were generated here; else they are None.
    """
    answers = [sample["filtered_resps"][0] for sample in samples]
    counted = all("tokens" in sample for sample in samples)
    return {
        "ended": float(np.mean([sample["ended"] for sample in samples])) if counted else None,
        "empty": float(np.mean([not answer.strip() for answer in answers])),
        "looping": float(np.mean([loops(answer) for answer in answers])),
        "runs_on": float(np.mean([stop in answer for answer in answers])),
        "mean_tokens": float(np.mean([sample["tokens"] for sample in samples])) if counted else None,
        "mean_words": float(np.mean([len(answer.split()) for answer in answers])),
    }
