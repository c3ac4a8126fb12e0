"""Recorded runs -> the order in which they are listed, which of them are one sweep's, and the best of its jobs.

`compare` tests whether a difference is more than chance.
"""

import difflib
import math
import textwrap
from collections.abc import Iterable
from typing import Any

from tunetrail import UserError
from tunetrail.tracking import tags
from tunetrail.tracking.recorded import RecordedRun

SCORE = "ifeval/{}/prompt_strict"
BEST, LOSS = SCORE.format("tuned"), "validation/loss"
_LISTED = 10  # sweeps in a message


def nested(runs: list[RecordedRun]) -> list[tuple[int, RecordedRun]]:
    """Return the runs with their depth: a sweep's jobs follow their parent, by the time of their start."""
    ids = {run.id for run in runs}
    jobs = sorted((run for run in runs if run.parent in ids), key=lambda run: run.started or "")
    lines = []
    for run in runs:
        if run.parent not in ids:
            lines.append((0, run))
            lines += [(1, job) for job in jobs if job.parent == run.id]
    return lines


def ordered(runs: list[RecordedRun], key: str) -> list[RecordedRun]:
    """Return the runs sorted by a metric, the highest first, or by a param, numbers before words; runs without it come last.

    Raises:
        UserError: no run has such a metric or param; the message names similar ones, or else all metrics.
    """
    is_metric = any(key in run.metrics for run in runs)
    if not is_metric and not any(key in run.params for run in runs):
        metrics, params = ({name for run in runs for name in getattr(run, kind)} for kind in ("metrics", "params"))
        raise UserError(_unknown(key, metrics, params))

    def position(run: RecordedRun) -> tuple[Any, ...]:
        value = (run.metrics if is_metric else run.params).get(key)
        if value is None:
            return 2, 0.0, ""
        try:
            number = float(value)
        except ValueError:
            return 1, 0.0, value
        if math.isnan(number):
            return 1, 0.0, ""
        return 0, -number if is_metric else number, ""

    return sorted(runs, key=position)


def _unknown(key: str, metrics: set[str], params: set[str]) -> str:
    names = sorted(metrics | params)
    containing = [name for name in names if key.lower() in name.lower()]
    similar = list(dict.fromkeys([*difflib.get_close_matches(key, names, 5), *containing]))[:5]
    message = f"--sort {key}: no run listed has this metric or param."
    if similar:
        return f"{message} Similar: {', '.join(similar)}"
    indent = {"initial_indent": "  ", "subsequent_indent": "  ", "break_on_hyphens": False, "break_long_words": False}
    listed = textwrap.fill(", ".join(sorted(metrics)) or "none", 120, **indent)
    return f"{message} Params are the keys of params.yaml. The metrics there are:\n{listed}"


def sweep(runs: list[RecordedRun], reference: str) -> str:
    """Return the name of the sweep that `reference` names, by its own name or by one of its runs.

    Raises:
        UserError: it names none or several; the message lists the sweeps.
    """
    names = list(dict.fromkeys(run.sweep for run in runs if run.sweep is not None))
    if reference in names:
        return reference
    matches = (run for run in runs if reference and (run.id.startswith(reference) or run.name == reference))
    sweeps = {run.sweep for run in matches}
    if len(sweeps) == 1 and None not in sweeps:
        return sweeps.pop()
    if not sweeps:
        reason = "no sweep or run has this name"
    elif sweeps == {None}:
        reason = "this run belongs to no sweep"
    else:
        reason = "it matches runs of several sweeps, or of none"
    more = f", and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    listed = f"There are: {', '.join(names[:_LISTED])}{more}" if names else "There is none. Make one: tunetrail run -m"
    raise UserError(f"--sweep {reference}: {reason}. {listed}")


def sweep_hint(run: RecordedRun, jobs: list[RecordedRun]) -> str:
    """Return the message that a command takes a run and not this sweep, with the one of its `jobs` to name."""
    first = best(jobs)
    hint = "None of its jobs has finished with a score"
    if first:
        rank = best_of(job.metrics[BEST] for job in scored(jobs))
        score = f"{100 * first.metrics[BEST]:.1f} %{below_base(first)}"
        hint = f"Name one of its jobs, as the {rank}: {first.short_id} ({score}, {first.name})"
    return (
        f"{run.short_id} ({run.name}) is a sweep, and has no config and no model of its own. {hint}. "
        f"All of them: tunetrail show {run.short_id}"
    )


def sort_key(score: float, loss: float | None, number: float) -> tuple[float, float, float]:
    """Return the key by which a sweep's jobs are sorted, the best first.

    By Prompt Strict (a share), the highest first; equal ones by the last validation loss (nats a token), the lowest first,
    without one or with NaN last; equal ones by the job's number.
    """
    return -score, math.inf if loss is None or math.isnan(loss) else loss, number


def scored(jobs: list[RecordedRun]) -> list[RecordedRun]:
    """Return the jobs that finished with a score."""
    return [job for job in jobs if job.finished and BEST in job.metrics]


def best(jobs: list[RecordedRun]) -> RecordedRun | None:
    """Return the best job of a sweep (`sort_key`), or None. Jobs recorded without a number are sorted by their start."""

    def position(job: RecordedRun) -> tuple[Any, ...]:
        number = float(job.tags.get(tags.JOB_NUMBER, math.inf))
        return *sort_key(job.metrics[BEST], job.metrics.get(LOSS), number), job.started or ""

    return min(scored(jobs), key=position, default=None)


def below(score: float, base: float | None) -> str:
    """Return what to add to a tuned model's score that is lower than its base's: ", below its base (8.1 %)"; else ""."""
    return f", below its base ({100 * base:.1f} %)" if base is not None and score < base else ""


def below_base(job: RecordedRun) -> str:
    """Return `below` of a run that has scores."""
    return below(job.metrics[BEST], job.metrics.get(SCORE.format("base")))


def best_of(scores: Iterable[float]) -> str:
    """Return what to call the best of these scores: "best", or "best of 4 equal" if four are that high."""
    scores = list(scores)
    count = scores.count(max(scores, default=0.0))
    return f"best of {count} equal" if count > 1 else "best"
