"""A sweep's jobs -> a line for each and one for all: on a terminal redrawn, elsewhere printed as they change."""

import math
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunetrail.sweep.state import STATES, Job, Step, by_number, read
from tunetrail.table import cut
from tunetrail.units import duration

_COLOURS = {"finished": "green", "skipped": "green", "running": "cyan", "failed": "red", "stopped": "red", "waiting": "dim"}
_FIRST = ("running", "failed", "stopped", "finished", "skipped", "waiting")  # shown first on a terminal too small for all

_SECONDS_BETWEEN_READS = 1.0
_SECONDS_BETWEEN_LINES = 30.0  # of a running job, where lines are printed


def line(job: Job, width: float = math.inf) -> str:
    """Return the job in at most `width` columns: "  3  running   train 120/504  8.7 it/s  0:44 left   method=lora"."""
    head = f"{job.number:>3}  {job.state:<8}  "
    overrides = " ".join(job.overrides)
    column = 45 if width >= 110 else 36  # 45 has room for the longest, an evaluation's
    status = cut(_status(job), max(45, width - len(head) - len(overrides) - 2))
    return cut(f"{head}{status:<{column}}  {overrides}".rstrip(), width)


def _status(job: Job) -> str:
    if job.state == "running":
        return "  ".join([(job.stage or "starting") + _count(job.step), *_pace(job.step)])
    if job.state in ("finished", "skipped"):
        score = "" if job.score is None else f"{100 * job.score:.1f} %"
        return f"{score}  in {_clock(job.seconds)}".lstrip() if job.state == "finished" and job.seconds else score
    return ": ".join(filter(None, (job.stage + _count(job.step), job.why)))


def _count(step: Step | None) -> str:
    return "" if step is None else f" {step.done}" + (f"/{step.total}" if step.total else "")


def _pace(step: Step | None) -> list[str]:
    if step is None or not step.rate:
        return []
    rate = f"{step.rate:.1f} it/s" if step.rate >= 1 else f"{1 / step.rate:.1f} s/it"
    return [rate] if step.left is None else [rate, f"{_clock(step.left)} left"]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(round(seconds), 0), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def summary(jobs: list[Job], total: int | None = None) -> str:
    """Return all jobs in a line: "6 jobs: 2 finished, 1 running, 1 failed, 2 waiting; about 12 min left".

    `total` is how many jobs the sweep will have, None if its sampler decides that later. The time left is estimated from the
    mean time of the finished jobs and the number of running ones. It is left out while one of these or `total` is unknown,
    and when the last jobs take longer than that mean.
    """
    to_come = max((total or 0) - len(jobs), 0)
    count = len(jobs) + to_come
    text = "1 job" if count == 1 else f"{count} jobs"
    if total is None:
        text += " so far"
    if parts := _counts(jobs) + ([f"{to_come} to come"] if to_come else []):
        text += f": {', '.join(parts)}"
    left = None if total is None else _left(jobs, to_come)
    return f"{text}; about {duration(left)} left" if left else text


def _counts(jobs: list[Job]) -> list[str]:
    counted = Counter(job.state for job in jobs)
    return [f"{counted[state]} {state}" for state in STATES if counted[state]]


def _left(jobs: list[Job], to_come: int) -> float | None:
    """Return the seconds until all jobs have ended, if as many keep running at once as now; None if that is not known."""
    taken = [job.seconds for job in jobs if job.state == "finished" and job.seconds]
    running = [job.started for job in jobs if job.state == "running" and job.started]
    if not taken or not running:
        return None
    mean = sum(taken) / len(taken)
    left = [max(mean - (time.time() - started), 0.0) for started in running]
    not_started = to_come + sum(job.state == "waiting" for job in jobs)
    next_one = min(left) + mean if not_started else 0.0
    return max((sum(left) + not_started * mean) / len(running), *left, next_one) or None


def watch(folder: Path, stopped: threading.Event, total: int | None = None) -> None:
    """Show the jobs of a sweep on stderr until `stopped` is set, then leave each job's last state there. Run it in a thread.

    `total` as in `summary`. On a terminal the cursor is hidden until the end, so set `stopped` and join the thread also when
    the sweep fails.
    """
    from rich.console import Console

    screen = Console(stderr=True, highlight=False)
    # Not rich's is_terminal, which environment variables of a CI make true.
    live = sys.stderr.isatty() and not screen.is_dumb_terminal
    if jobs := _redraw(folder, stopped, total, screen) if live else _print_changes(folder, stopped):
        _print(summary(jobs, max(total or 0, len(jobs))))


def _read_repeatedly(folder: Path, stopped: threading.Event) -> Iterator[list[Job]]:
    """Yield the jobs each second, and once more when `stopped` is set. A job that cannot be read now stays as it was."""
    known: dict[str, Job] = {}
    while True:
        last = stopped.is_set()
        known |= {job.name: job for job in read(folder)}
        yield by_number(known.values())
        if last:
            return
        stopped.wait(_SECONDS_BETWEEN_READS)


def _print_changes(folder: Path, stopped: threading.Event) -> list[Job]:
    printed: dict[str, tuple[Job, float]] = {}
    jobs: list[Job] = []
    for jobs in _read_repeatedly(folder, stopped):
        for job in jobs:
            before, printed_at = printed.get(job.name, (None, 0.0))
            changed = before is None or (before.state, before.stage) != (job.state, job.stage)
            due = job.state == "running" and time.monotonic() - printed_at >= _SECONDS_BETWEEN_LINES
            if (changed or due) and (before is None or line(before) != line(job)):
                _print(line(job))
                printed[job.name] = (job, time.monotonic())
    return jobs


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _redraw(folder: Path, stopped: threading.Event, total: int | None, screen: Any) -> list[Job]:
    from rich.live import Live

    jobs: list[Job] = []
    # What else is printed meanwhile appears above the lines; stdout is left alone if it goes to a file.
    with Live(console=screen, auto_refresh=False, transient=True, redirect_stdout=sys.stdout.isatty()) as lines:
        for jobs in _read_repeatedly(folder, stopped):
            lines.update(_screen(jobs, total, screen.width, screen.height), refresh=True)
    for job in jobs:
        screen.print(_coloured(job, screen.width))
    return jobs


def _screen(jobs: list[Job], total: int | None, width: int, height: int) -> Any:
    """Return what fits the terminal: running and failed jobs first, then the last ones to finish, then those that wait."""
    from rich.console import Group

    jobs_by_interest = sorted(jobs, key=lambda job: (_FIRST.index(job.state), -(job.ended or 0), job.number))
    room = max(height - 2, 1)  # the summary, and a line for the cursor
    shown = jobs_by_interest if len(jobs) <= room else jobs_by_interest[: max(room - 1, 1)]
    hidden = jobs_by_interest[len(shown) :]
    more = [cut(f"     and {len(hidden)} more: {', '.join(_counts(hidden))}", width)] if hidden else []
    return Group(*(_coloured(job, width) for job in by_number(shown)), *more, cut(summary(jobs, total), width))


def _coloured(job: Job, width: int) -> Any:
    from rich.text import Text

    text = Text(line(job, width), no_wrap=True, overflow="crop")
    text.stylize(_COLOURS[job.state], 5, 5 + len(job.state))
    return text
