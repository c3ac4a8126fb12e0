"""A sweep's jobs -> a line for each and one for all: on a terminal redrawn, elsewhere printed as they change.

Not covered: finding out what a job is at, which is `state`'s part.
"""

import math
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunetrail.sweep.state import STATES, Job, Step, ordered, read
from tunetrail.units import duration

_COLOURS = {"finished": "green", "skipped": "green", "running": "cyan", "failed": "red", "stopped": "red", "waiting": "dim"}
_FIRST = ("running", "failed", "stopped", "finished", "skipped", "waiting")  # where a terminal has not room for all

_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_BETWEEN_LINES = 30.0  # of a job that runs, where lines are printed


def line(job: Job, width: float = math.inf) -> str:
    """One job in at most `width` columns: "  3  running   train 120/504  8.7 it/s  0:44 left   method=lora"."""
    head = f"{job.number:>3}  {job.state:<8}  "
    names = " ".join(job.overrides)
    column = 45 if width >= 110 else 36  # 45 has room for the longest, an evaluation's
    what = _cut(_what(job), max(45, width - len(head) - len(names) - 2))
    return _cut(f"{head}{what:<{column}}  {names}".rstrip(), width)


def _what(job: Job) -> str:
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


def _cut(text: str, width: float) -> str:
    return text if len(text) <= width else text[: max(int(width) - 1, 0)] + "…"


def summary(jobs: list[Job], total: int | None = None) -> str:
    """All jobs in a line: "6 jobs: 2 finished, 1 running, 1 failed, 2 waiting; about 12 min left".

    `total` is how many jobs the sweep will have, None where its sampler decides that as it goes. The time left comes from
    the mean time of the finished jobs and from how many run now. It is left out while one of these or `total` is unknown,
    and when the last jobs have taken longer than that mean.
    """
    to_come = max((total or 0) - len(jobs), 0)
    heading = f"{len(jobs) + to_come} job{'s' * (len(jobs) + to_come != 1)}{' so far' * (total is None)}"
    parts = _counts(jobs) + ([f"{to_come} to come"] if to_come else [])
    text = ": ".join([heading, ", ".join(parts)] if parts else [heading])
    left = None if total is None else _left(jobs, to_come)
    return f"{text}; about {duration(left)} left" if left else text


def _counts(jobs: list[Job]) -> list[str]:
    counted = Counter(job.state for job in jobs)
    return [f"{counted[state]} {state}" for state in STATES if counted[state]]


def _left(jobs: list[Job], to_come: int) -> float | None:
    """Seconds until all have ended, as many running at once as do now."""
    taken = [job.seconds for job in jobs if job.state == "finished" and job.seconds]
    running = [job.started for job in jobs if job.state == "running" and job.started]
    if not taken or not running:
        return None
    mean = sum(taken) / len(taken)
    rests = [max(mean - (time.time() - started), 0.0) for started in running]
    ahead = to_come + sum(job.state == "waiting" for job in jobs)
    one_after_another = min(rests) + mean if ahead else 0.0
    return max((sum(rests) + ahead * mean) / len(running), *rests, one_after_another) or None


def watch(folder: Path, stopped: threading.Event, total: int | None = None) -> None:
    """Show the jobs of a sweep on stderr until `stopped` is set, then leave each job's last state there. Made for a thread.

    `total` as in `summary`. On a terminal the cursor is hidden until the end, so set `stopped` and join the thread also
    when the sweep fails.
    """
    from rich.console import Console

    screen = Console(stderr=True, highlight=False)
    # Not rich's own is_terminal, which a CI sets for its colours.
    live = sys.stderr.isatty() and not screen.is_dumb_terminal
    if jobs := _redraw(folder, stopped, total, screen) if live else _print(folder, stopped):
        _say(summary(jobs, max(total or 0, len(jobs))))


def _looks(folder: Path, stopped: threading.Event) -> Iterator[list[Job]]:
    """The jobs each second, and once more when `stopped` is set. One that cannot be read now stays as it was."""
    known: dict[str, Job] = {}
    while True:
        last = stopped.is_set()
        known |= {job.name: job for job in read(folder)}
        yield ordered(known.values())
        if last:
            return
        stopped.wait(_SECONDS_BETWEEN_LOOKS)


def _print(folder: Path, stopped: threading.Event) -> list[Job]:
    shown: dict[str, tuple[Job, float]] = {}
    jobs: list[Job] = []
    for jobs in _looks(folder, stopped):
        for job in jobs:
            known, then = shown.get(job.name, (None, 0.0))
            changed = known is None or (known.state, known.stage) != (job.state, job.stage)
            due = job.state == "running" and time.monotonic() - then >= _SECONDS_BETWEEN_LINES
            if (changed or due) and (known is None or line(known) != line(job)):
                _say(line(job))
                shown[job.name] = (job, time.monotonic())
    return jobs


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _redraw(folder: Path, stopped: threading.Event, total: int | None, screen: Any) -> list[Job]:
    from rich.live import Live

    jobs: list[Job] = []
    # Whatever else is printed meanwhile goes above the lines; but what stdout holds in a file stays there.
    with Live(console=screen, auto_refresh=False, transient=True, redirect_stdout=sys.stdout.isatty()) as lines:
        for jobs in _looks(folder, stopped):
            lines.update(_screen(jobs, total, screen.width, screen.height), refresh=True)
    for job in jobs:
        screen.print(_coloured(job, screen.width))
    return jobs


def _screen(jobs: list[Job], total: int | None, width: int, height: int) -> Any:
    """What fits a terminal: jobs that run or failed come before the last to finish, and all before those that wait."""
    from rich.console import Group

    wanted = sorted(jobs, key=lambda job: (_FIRST.index(job.state), -(job.ended or 0), job.number))
    room = max(height - 2, 1)  # the summary, and a line for the cursor
    kept = wanted if len(wanted) <= room else wanted[: max(room - 1, 1)]
    rest = wanted[len(kept) :]
    more = [_cut(f"     and {len(rest)} more: {', '.join(_counts(rest))}", width)] if rest else []
    return Group(*(_coloured(job, width) for job in ordered(kept)), *more, _cut(summary(jobs, total), width))


def _coloured(job: Job, width: int) -> Any:
    from rich.text import Text

    text = Text(line(job, width), no_wrap=True, overflow="crop")
    text.stylize(_COLOURS[job.state], 5, 5 + len(job.state))
    return text
