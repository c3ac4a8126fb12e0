"""Runs as plain dicts (`store.to_dict`) -> the order in which they stand, who is of which sweep, and the best of its jobs.

Not covered: whether the best is better by more than chance, which `compare` tests.
"""

import difflib
import math
import textwrap
from collections.abc import Iterable
from typing import Any

from tunetrail import UserError

Run = dict[str, Any]
SCORE = "ifeval/{}/prompt_strict"
BEST, LOSS = SCORE.format("tuned"), "validation/loss"
NUMBER = "job.number"  # a job's tag: which of its sweep's it is, from 0
_LISTED = 10  # sweeps, where a person must choose one


def nested(runs: list[Run]) -> list[tuple[int, Run]]:
    """In the order given, each with its depth: a sweep's jobs stand below their parent, in the order of their start."""
    ids = {run["id"] for run in runs}
    children = sorted((run for run in runs if run["parent"] in ids), key=lambda run: run["started"] or "")
    return [
        (depth, one)
        for run in runs
        if run["parent"] not in ids
        for depth, one in [(0, run), *((1, child) for child in children if child["parent"] == run["id"])]
    ]


def ordered(runs: list[Run], key: str) -> list[Run]:
    """By a metric, the highest first, or by a param, its numbers before its words; runs without it stand last.

    Raises:
        UserError: no run has such a metric or param; the message names near ones, or else the metrics that there are.
    """
    metric = any(key in run["metrics"] for run in runs)
    if not metric and not any(key in run["params"] for run in runs):
        raise UserError(_unknown(key, *({name for run in runs for name in run[kind]} for kind in ("metrics", "params"))))

    def place(run: Run) -> tuple[Any, ...]:
        value = run["metrics" if metric else "params"].get(key)
        if value is None:
            return 2, 0.0, ""
        try:
            number = float(value)
        except ValueError:
            return 1, 0.0, value
        return (1, 0.0, "") if math.isnan(number) else (0, -number if metric else number, "")

    return sorted(runs, key=place)


def _unknown(key: str, metrics: set[str], params: set[str]) -> str:
    known = sorted(metrics | params)
    within = [name for name in known if key.lower() in name.lower()]
    near = list(dict.fromkeys([*difflib.get_close_matches(key, known, 5), *within]))[:5]
    what = f"--sort {key}: no run listed has this metric or param."
    if near:
        return f"{what} Near: {', '.join(near)}"
    indent = {"initial_indent": "  ", "subsequent_indent": "  ", "break_on_hyphens": False, "break_long_words": False}
    listed = textwrap.fill(", ".join(sorted(metrics)) or "none", 120, **indent)
    return f"{what} Params are the keys of params.yaml. The metrics there are:\n{listed}"


def sweep(runs: list[Run], word: str) -> str:
    """The name of the sweep that `word` means: its own, or the id, the beginning of it or the name of a run of it.

    Raises:
        UserError: it means none, or several; the message lists the sweeps that there are.
    """
    names = list(dict.fromkeys(run["tags"]["sweep"] for run in runs if "sweep" in run["tags"]))
    if word in names:
        return word
    meant = [run for run in runs if word and (run["id"].startswith(word) or run["name"] == word)]
    found = {run["tags"].get("sweep") for run in meant}
    if len(found) == 1 and None not in found:
        return found.pop()
    what = "this run is of no sweep" if found == {None} else "it means runs of several sweeps, or of none"
    more = f", and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    there = f"There are: {', '.join(names[:_LISTED])}{more}" if names else "There is none. Make one: tunetrail run -m"
    raise UserError(f"--sweep {word}: {what if meant else 'no sweep or run is called so'}. {there}")


def is_sweep(run: Run) -> bool:
    """Whether the run is a sweep's own, whose jobs are its children."""
    return "sweep" in run["tags"] and not run["parent"]


def sweep_hint(run: Run, jobs: list[Run]) -> str:
    """Why a command that takes a run does not take this sweep, and which of its `jobs` is the one to name."""
    first = best(jobs)
    told = "None of its jobs has finished with a score"
    if first:
        word = best_of(job["metrics"][BEST] for job in scored(jobs))
        score = f"{100 * first['metrics'][BEST]:.1f} %{below_base(first)}"
        told = f"Name one of its jobs, as the {word}: {first['id'][:8]} ({score}, {first['name']})"
    return (
        f"{run['id'][:8]} ({run['name']}) is a sweep, and has no config and no model of its own. {told}. "
        f"All of them: tunetrail show {run['id'][:8]}"
    )


def sort_key(score: float, loss: float | None, number: float) -> tuple[float, float, float]:
    """Where a job stands among those of its sweep, the best lowest.

    The higher Prompt Strict (a share) comes first; of equal ones the lower last validation loss (nats a token; without one,
    or where it is no number, last); of these the lower number of the job.
    """
    return -score, math.inf if loss is None or math.isnan(loss) else loss, number


def scored(jobs: list[Run]) -> list[Run]:
    """The jobs that finished with a score."""
    return [job for job in jobs if job["status"] == "FINISHED" and BEST in job["metrics"]]


def best(jobs: list[Run]) -> Run | None:
    """The job of a sweep that stands first (`sort_key`); jobs recorded without their number count by their start."""

    def stands(job: Run) -> tuple[Any, ...]:
        number = float(job["tags"].get(NUMBER, math.inf))
        return *sort_key(job["metrics"][BEST], job["metrics"].get(LOSS), number), job["started"] or ""

    return min(scored(jobs), key=stands, default=None)


def below(score: float, base: float | None) -> str:
    """What is added to a tuned model's score that is lower than its base's: ", below its base (8.1 %)"; else ""."""
    return f", below its base ({100 * base:.1f} %)" if base is not None and score < base else ""


def below_base(job: Run) -> str:
    """`below` of a run that has scores."""
    return below(job["metrics"][BEST], job["metrics"].get(SCORE.format("base")))


def best_of(scores: Iterable[float]) -> str:
    """What the best of these scores is called: "best", or "best of 4 equal" where as many are as high."""
    found = list(scores)
    count = found.count(max(found, default=0.0))
    return f"best of {count} equal" if count > 1 else "best"
