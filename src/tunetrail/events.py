"""What a run does now, and a tool's progress bars -> the screen, and lines of work/progress.jsonl for another process.

{"stage"}: it has started; {"stage", "waiting": true}: another job runs it; {"stage", "done", "total", "rate"}: its steps,
and how many it does a second (None: not known). Not covered: the loss and other figures of a training, which are
`training.history`'s.
"""

import contextlib
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

FILE = Path("work/progress.jsonl")
# What tqdm draws: "label:  63%|######3   | 320/504 [00:36<00:21,  8.70it/s]".
_BAR = re.compile(
    r"(?:(?P<step>[^|:]+): +)?\d+%\|.*?\| (?P<count>\d+/\d+) \[(?P<spent>\d[\d:]*)<(?P<left>[\d:?]+), +(?P<rate>[^\],]+)"
)
_RATE = re.compile(r"\s*(\d+(?:\.\d+)?)(s/)?")  # "8.70it/s", or of slow steps "1.84s/it"; "?it/s" while it is not known
_SECONDS_BETWEEN_LINES, _SECONDS_BETWEEN_EVENTS = 15.0, 1.0


def add(folder: Path, stage: str, **fields: Any) -> None:
    """Append an event of the run in the checkout `folder`; a disk that is full costs the progress and not the run."""
    with contextlib.suppress(OSError):
        (folder / FILE).parent.mkdir(exist_ok=True)
        with (folder / FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"stage": stage, "time": round(time.time(), 3), **fields}) + "\n")


class Bars:
    """The progress bars of a tool that runs as the stage `label`: the newest on one line of the screen, and as events."""

    def __init__(self, label: str):
        self.label, self.live, self.text, self.ended, self.printed = label, sys.stderr.isatty(), "", "", time.monotonic()
        self.longest, self.added = -1, -_SECONDS_BETWEEN_EVENTS

    def show(self, line: str) -> bool:
        """Whether the line of the tool's output is a bar; then it is shown: on a terminal at once, else every 15 seconds."""
        bar = _BAR.search(line)
        if not bar:
            return False
        self._add(bar)
        label = f"{self.label}, {bar['step'].strip()}" if bar["step"] else self.label
        self.text = f"{label}: {bar['count']}, {bar['spent']} gone, {bar['left']} left, {bar['rate']}"
        if self.live:
            print(f"\r\x1b[K{self.text}", end="", file=sys.stderr, flush=True)
        elif bar["spent"] > "00:01" and "?" not in bar["left"]:  # not the many bars that are done at once
            done, total = bar["count"].split("/")
            ended = done == total and bar["spent"] >= "00:10" and self.ended != label + total
            if ended or time.monotonic() - self.printed > _SECONDS_BETWEEN_LINES:
                print(self.text, file=sys.stderr, flush=True)
                self.printed = time.monotonic()
                self.ended = label + total if ended else self.ended
        return True

    def end(self) -> None:
        """Leave the line of the screen."""
        if self.live and self.text:
            print(file=sys.stderr)

    def _add(self, bar: re.Match[str]) -> None:
        """Add the event of a bar of the stage's own steps: not of loading and tokenising, and of several the one that has
        gone on longest, since the trainer draws others inside its own, one for each validation."""
        spent = sum(int(part or 0) * 60**place for place, part in enumerate(reversed(bar["spent"].split(":"))))
        own = not bar["step"] or bar["step"].strip().startswith("Running ")
        done, total = map(int, bar["count"].split("/"))
        if own and spent >= self.longest and (done == total or time.monotonic() - self.added >= _SECONDS_BETWEEN_EVENTS):
            pace = _RATE.match(bar["rate"])
            number = float(pace[1]) if pace else 0.0
            rate = 1 / number if number and pace[2] else number
            add(Path(), self.label, done=done, total=total, rate=rate or None)
            self.longest, self.added = spent, time.monotonic()
