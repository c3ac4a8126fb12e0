"""A run's stages and its tools' progress bars -> the screen, and lines of work/progress.jsonl for other processes.

{"stage"}: the stage has started; {"stage", "waiting": true}: another job is running it; {"stage", "done", "total", "rate"}:
its steps, and how many it does a second (null: not known). The loss and other metrics of a training are in
`training.history`.
"""

import contextlib
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

FILE = Path("work/progress.jsonl")
QUIET = "TUNETRAIL_QUIET"  # an environment variable, which stages inherit: bars are events, and not on the screen
# What tqdm draws: "label:  63%|######3   | 320/504 [00:36<00:21,  8.70it/s]".
_BAR = re.compile(
    r"(?:(?P<step>[^|:]+): +)?\d+%\|.*?\| (?P<count>\d+/\d+) \[(?P<spent>\d[\d:]*)<(?P<left>[\d:?]+), +(?P<rate>[^\],]+)"
)
_RATE = re.compile(r"\s*(\d+(?:\.\d+)?)(s/)?")  # "8.70it/s", "1.84s/it" for slow steps, "?it/s" while it is not known
_SECONDS_BETWEEN_LINES = 15.0
_SECONDS_BETWEEN_EVENTS = 1.0


def add(folder: Path, stage: str, **fields: Any) -> None:
    """Append an event of the run in the checkout `folder`. If that fails, as on a full disk, the run continues."""
    with contextlib.suppress(OSError):
        (folder / FILE).parent.mkdir(exist_ok=True)
        with (folder / FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"stage": stage, "time": round(time.time(), 3), **fields}) + "\n")


class Bars:
    """The progress bars of a tool that runs as the stage `label`: shown on one line of the screen, and added as events."""

    def __init__(self, label: str):
        self.label = label
        self.quiet = QUIET in os.environ
        self.live = sys.stderr.isatty() and not self.quiet
        self.text = ""
        self._completed = ""  # the bar whose last step was printed
        self._printed_at = time.monotonic()
        self._longest = -1  # seconds
        self._added_at = -_SECONDS_BETWEEN_EVENTS

    def show(self, line: str) -> bool:
        """Return whether a line is a progress bar, and show it: on a terminal at once, elsewhere every 15 seconds."""
        bar = _BAR.search(line)
        if not bar:
            return False
        self._add_event(bar)
        label = f"{self.label}, {bar['step'].strip()}" if bar["step"] else self.label
        known = "?" not in bar["left"] and not bar["count"].startswith("1/")  # the first step also compiles and allocates
        left = f", {bar['left']} left" if known else ""
        self.text = f"{label}: {bar['count']}, {bar['spent']} elapsed{left}, {bar['rate']}"
        if self.live:
            print(f"\r\x1b[K{self.text}", end="", file=sys.stderr, flush=True)
        elif not self.quiet and bar["spent"] > "00:01" and "?" not in bar["left"]:  # not the many bars that complete at once
            done, total = bar["count"].split("/")
            completed = done == total and bar["spent"] >= "00:10" and self._completed != label + total
            if completed or time.monotonic() - self._printed_at > _SECONDS_BETWEEN_LINES:
                print(self.text, file=sys.stderr, flush=True)
                self._printed_at = time.monotonic()
            if completed:
                self._completed = label + total
        return True

    def end(self) -> None:
        """End the line of the screen."""
        if self.live and self.text:
            print(file=sys.stderr)

    def _add_event(self, bar: re.Match[str]) -> None:
        """Add the event of a bar of the stage's own steps, not of loading and tokenising. Of several bars it is the one that
        has run longest: the trainer draws others inside its own, one for each validation."""
        spent = sum(int(part or 0) * 60**power for power, part in enumerate(reversed(bar["spent"].split(":"))))
        own = not bar["step"] or bar["step"].strip().startswith("Running ")
        done, total = map(int, bar["count"].split("/"))
        due = done == total or time.monotonic() - self._added_at >= _SECONDS_BETWEEN_EVENTS
        if own and due and spent >= self._longest:
            match = _RATE.match(bar["rate"])
            number = float(match[1]) if match else 0.0
            rate = 1 / number if number and match[2] else number
            add(Path(), self.label, done=done, total=total, rate=rate or None)
            self._longest = spent
            self._added_at = time.monotonic()
