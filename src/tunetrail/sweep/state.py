"""A sweep's folder -> its jobs: the state of each, its stage and its step.

Everything is read from files, so a job may run on any machine that shares the folder: `NAME.json`, which the job itself
writes, `NAME/work/progress.jsonl` (`events`) and `NAME/work/train/history.jsonl`. What cannot be read is left out.
"""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunetrail import events
from tunetrail.tracking import ranking

# waiting: for a GPU, or for a job that runs a stage which both need; stopped: killed; skipped: finished in an earlier call.
# A summary names them in this order.
STATES = ("finished", "skipped", "running", "failed", "stopped", "waiting")

_NUMBERS = ("started", "ended", "score", "low", "high", "loss")
_WRITTEN = ("number", "overrides", "state", "run", "why", "base", *_NUMBERS)
_EVENTS_TAIL = 4_096  # bytes: some fifty events
_HISTORY_TAIL = 8_192  # bytes: some twenty logged steps, enough for a steady and recent rate


@dataclass(frozen=True)
class Step:
    """How far a stage is: `done` of `total` steps (None: not known yet), and how many it does a second."""

    done: int
    total: int | None
    rate: float | None

    @property
    def left(self) -> float | None:
        """Seconds to the last step."""
        return (self.total - self.done) / self.rate if self.total and self.rate else None


@dataclass
class Job:
    """One job of a sweep, as its own process writes it to `file` (ten hex digits and .json).

    Times are seconds since 1970. `run` is its MLflow run, `why` the reason why it failed. `score` is
    ifeval/tuned/prompt_strict, a share from 0 to 1, `low` and `high` are the ends of its 95 % interval, `loss` is the last
    validation loss (nats a token), and `base` the base's score as {"value", "low", "high"}. Only read, not written: `stage`
    and `step` of a job that is running or did not finish, and when `file` was `written`.
    """

    file: Path
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
    stage: str = ""
    step: Step | None = None
    written: float = 0.0

    @property
    def name(self) -> str:
        return self.file.stem

    @property
    def seconds(self) -> float | None:
        """How long it took."""
        return None if self.started is None or self.ended is None else self.ended - self.started

    @property
    def params(self) -> dict[str, str]:
        """The overrides as key -> value."""
        pairs = (override.partition("=") for override in self.overrides)
        return {key.lstrip("+"): value for key, _, value in pairs}

    @property
    def scored(self) -> bool:
        return self.state in ("finished", "skipped") and self.score is not None

    def set_scores(self, metrics: dict[str, Any]) -> None:
        """Take the scores of the tuned model and of its base from metrics.json."""
        score = metrics["ifeval"]["tuned"]["prompt_strict"]
        self.score, self.low, self.high = score["value"], score["low"], score["high"]
        self.loss = metrics["train"]["validation_loss"]
        self.base = metrics["ifeval"]["base"]["prompt_strict"]

    def write(self) -> None:
        """Replace `file` as a whole, so that nobody reads half of it."""
        partial = self.file.with_suffix(".partial")
        partial.write_text(json.dumps({key: getattr(self, key) for key in _WRITTEN}))
        partial.replace(self.file)


def best(jobs: Iterable[Job]) -> Job | None:
    """Return the job that `ranking.sort_key` puts first, or None if none has a score."""
    scored = [job for job in jobs if job.scored]
    return min(scored, key=lambda job: ranking.sort_key(job.score, job.loss, job.number), default=None)


def read(folder: Path) -> list[Job]:
    """Return the jobs in a sweep's folder, by number. A file that does not hold a job's state is left out."""
    try:
        files = [file for file in folder.iterdir() if re.fullmatch(r"[0-9a-f]{10}\.json", file.name)]
    except OSError:
        return []
    return by_number(job for file in files if (job := _read_job(file)))


def by_number(jobs: Iterable[Job]) -> list[Job]:
    return sorted(jobs, key=lambda job: (job.number, job.name))


def _read_job(file: Path) -> Job | None:
    try:
        fields = json.loads(file.read_bytes())
        overrides = [_one_line(override) for override in fields["overrides"]]
        job = Job(file, fields["number"], overrides, fields["state"], written=file.stat().st_mtime)
        if job.state not in STATES or not isinstance(job.number, int) or isinstance(fields["overrides"], str):
            return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    job.run, job.why = (_one_line(fields[key]) if fields.get(key) else None for key in ("run", "why"))
    for key in _NUMBERS:
        setattr(job, key, _number(fields.get(key)))
    if isinstance(fields.get("base"), dict):
        base = {key: _number(fields["base"].get(key)) for key in ("value", "low", "high")}
        job.base = None if None in base.values() else base
    if job.state in ("running", "failed", "stopped"):
        _read_progress(job)
    return job


def _read_progress(job: Job) -> None:
    """Set the job's stage and step from what its files hold since it started; what is older is an earlier attempt's."""
    folder = job.file.with_suffix("")
    since = job.started or 0.0
    job.stage, job.step = _last_event(_tail(folder / events.FILE, _EVENTS_TAIL), since)
    if job.stage == "train":
        rows = _tail(folder / "work" / "train" / "history.jsonl", _HISTORY_TAIL)
        job.step = _train_step(rows, since, job.step)


def _one_line(text: Any) -> str:
    """Return the text on one line, without control characters, which a terminal would obey."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in str(text)).split())


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and abs(value) < 1e12 else None  # which NaN is not


def _tail(file: Path, size: int) -> list[str]:
    """Return the lines among the file's last `size` bytes; the last one may be incomplete."""
    try:
        with file.open("rb") as stream:
            start = max(stream.seek(0, os.SEEK_END) - size, 0)
            stream.seek(start)
            lines = stream.read(size).decode(errors="replace").split("\n")
    except OSError:
        return []
    return lines[1:] if start else lines


def _last_event(lines: list[str], since: float) -> tuple[str, Step | None]:
    """Return the stage of the newest event after `since`, and its step."""
    stage, step = "", None
    for line in lines:
        try:
            event = json.loads(line)
            if event["time"] < since:
                continue
            name = _one_line(event["stage"])
            waiting = event.get("waiting")
            step = Step(int(event["done"]), int(event["total"]), _number(event.get("rate"))) if "done" in event else None
            stage = f"{name}, waits for another job" if waiting else name
        except (ValueError, KeyError, TypeError, OverflowError, AttributeError):
            continue
    return stage, step


def _train_step(lines: list[str], since: float, step: Step | None) -> Step | None:
    """Return the newest step in the training's history after `since`, or `step` if that is not behind it."""
    points = []
    for line in lines:
        try:
            row = json.loads(line)
            if row["time"] >= since:
                points.append((int(row["step"]), float(row["time"])))
        except (ValueError, KeyError, TypeError, OverflowError):
            continue
    if not points or (step and step.done >= points[-1][0]):
        return step
    first_step, first_time = points[0]
    last_step, last_time = points[-1]
    rate = step and step.rate
    if last_time > first_time and last_step > first_step:
        rate = (last_step - first_step) / (last_time - first_time)
    total = step.total if step and step.total and step.total >= last_step else None
    return Step(last_step, total, rate)
