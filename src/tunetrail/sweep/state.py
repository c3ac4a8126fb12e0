"""A sweep's folder -> its jobs: what state each is in, in which stage and at which step.

From files alone, so a job may run on any machine that shares the folder: `JOB.json` (its state, written whole by the job
itself), `JOB/work/progress.jsonl` (`events`) and `JOB/work/train/history.jsonl`. What cannot be read is left out.
Not covered: starting and ending jobs.
"""

import dataclasses
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunetrail import events

# waiting: for a GPU, or for a job that makes a stage which this one shares; stopped: killed; skipped: finished in an
# earlier call. A summary names them in this order.
STATES = ("finished", "skipped", "running", "failed", "stopped", "waiting")

_EVENTS_TAIL = 4_096  # bytes: some fifty events
_HISTORY_TAIL = 8_192  # bytes: some twenty logged steps, enough for a rate that is neither jumpy nor old


@dataclass(frozen=True)
class Step:
    """How far a stage is: `done` of `total` steps (None: not said yet), and how many it does a second."""

    done: int
    total: int | None
    rate: float | None

    @property
    def left(self) -> float | None:
        """Seconds to the last step."""
        return (self.total - self.done) / self.rate if self.total and self.rate else None


@dataclass
class State:
    """What a job writes of itself: times are seconds since 1970, the score is ifeval/tuned/prompt_strict, a share between 0
    and 1, and `low` and `high` end its 95 % interval; `loss` is the last validation loss (nats a token), `base` what the
    base scored, as {"value", "low", "high"}; `why` is for one that failed."""

    number: int
    overrides: list[str]
    state: str = "waiting"
    run: str | None = None
    started: float | None = None
    ended: float | None = None
    why: str | None = None
    score: float | None = None
    low: float | None = None
    high: float | None = None
    loss: float | None = None
    base: dict[str, float] | None = None

    def take(self, metrics: dict[str, Any]) -> None:
        """Take what metrics.json says of the tuned model and of its base."""
        score = metrics["ifeval"]["tuned"]["prompt_strict"]
        self.score, self.low, self.high = score["value"], score["low"], score["high"]
        self.loss, self.base = metrics["train"]["validation_loss"], metrics["ifeval"]["base"]["prompt_strict"]

    def write(self, file: Path) -> None:
        """Replace `file` whole, so that nobody reads half of it."""
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(dataclasses.asdict(self)))
        partial.replace(file)


@dataclass(frozen=True)
class Job:
    """One job of a sweep. Times are seconds since 1970; the score is a share, `low` and `high` end its 95 % interval;
    `stage` and `step` are those of a job that runs or broke off, `written` is when its state was. `name` is that of its
    files: ten hex digits."""

    name: str
    number: int
    overrides: tuple[str, ...]
    state: str
    run: str | None = None
    started: float | None = None
    ended: float | None = None
    why: str | None = None
    score: float | None = None
    low: float | None = None
    high: float | None = None
    loss: float | None = None
    base: dict[str, float] | None = None
    stage: str = ""
    step: Step | None = None
    written: float = 0.0

    @property
    def seconds(self) -> float | None:
        """How long it took."""
        return None if self.started is None or self.ended is None else self.ended - self.started


def read(folder: Path) -> list[Job]:
    """The jobs in a sweep's folder, by number. A file that is half-written or not a job's state is left out."""
    try:
        files = [file for file in folder.iterdir() if re.fullmatch(r"[0-9a-f]{10}\.json", file.name)]
    except OSError:
        return []
    return ordered(job for file in files if (job := _job(file)))


def ordered(jobs: Iterable[Job]) -> list[Job]:
    """By number, as the sweep counts them."""
    return sorted(jobs, key=lambda job: (job.number, job.name))


def _job(file: Path) -> Job | None:
    try:
        held, written = json.loads(file.read_bytes()), file.stat().st_mtime
        number, state, overrides = held["number"], held["state"], tuple(map(_plain, held["overrides"]))
        if state not in STATES or not isinstance(number, int) or isinstance(held["overrides"], str):
            return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    figures = {key: _number(held.get(key)) for key in ("started", "ended", "score", "low", "high", "loss")}
    base = held["base"] if isinstance(held.get("base"), dict) else {}
    shares = {key: share for key in ("value", "low", "high") if (share := _number(base.get(key))) is not None}
    figures["base"] = shares if len(shares) == 3 else None
    since, stage, step = figures["started"] or 0.0, "", None
    if state in ("running", "failed", "stopped"):
        stage, step = _reached(_tail(file.with_suffix("") / events.FILE, _EVENTS_TAIL, since), since)
        if stage == "train":
            step = _trained(file.with_suffix("") / "work" / "train" / "history.jsonl", since, step)
    run, why = (_plain(held[key]) if held.get(key) else None for key in ("run", "why"))
    return Job(file.stem, number, overrides, state, run, why=why, stage=stage, step=step, written=written, **figures)


def _plain(text: Any) -> str:
    """Text on one line, without what a terminal would obey."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in str(text)).split())


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and abs(value) < 1e12 else None  # which NaN is not


def _tail(file: Path, size: int, since: float) -> list[str]:
    """The lines among the file's last `size` bytes, none if nothing was written after `since`; a carriage return ends one
    too. The last may be half a line, and what reads lines passes over it."""
    try:
        with file.open("rb") as stream:
            if os.fstat(stream.fileno()).st_mtime < since:  # an earlier attempt's
                return []
            start = max(stream.seek(0, 2) - size, 0)
            stream.seek(start)
            lines = re.split(r"[\r\n]+", stream.read(size).decode(errors="replace"))
    except OSError:
        return []
    return lines[1:] if start else lines


def _reached(lines: list[str], since: float) -> tuple[str, Step | None]:
    """The stage of a job's newest event, and its step; events of an earlier attempt, before `since`, do not count."""
    stage, step = "", None
    for line in lines:
        try:
            event = json.loads(line)
            if event["time"] < since:
                continue
            name, waits = _plain(event["stage"]), event.get("waiting")
            step = Step(int(event["done"]), int(event["total"]), _number(event.get("rate"))) if "done" in event else None
            stage = f"{name}, waits for another job" if waits else name
        except (ValueError, KeyError, TypeError, OverflowError, AttributeError):
            continue
    return stage, step


def _trained(history: Path, since: float, step: Step | None) -> Step | None:
    """The trainer's newest step: of its history, where that is ahead of the log; rows of an earlier attempt do not count."""
    points = []
    for text in _tail(history, _HISTORY_TAIL, since):
        try:
            row = json.loads(text)
            points += [(int(row["step"]), float(row["time"]))] if row["time"] >= since else []
        except (ValueError, KeyError, TypeError, OverflowError):
            continue
    if not points or (step and step.done >= points[-1][0]):
        return step
    (first, begun), (last, now) = points[0], points[-1]
    rate = (last - first) / (now - begun) if now > begun and last > first else step and step.rate
    return Step(last, step.total if step and step.total and step.total >= last else None, rate)
