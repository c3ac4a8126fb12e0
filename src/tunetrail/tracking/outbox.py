"""What is to be logged in a run -> the tracking store, in order, whatever the store does in between.

Training never waits: while the store fails, what is to be logged waits here, and is tried again with growing pauses.
"""

import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from tunetrail import disk
from tunetrail.redaction import redact
from tunetrail.tracking import connection, store_errors

_LONGEST_PAUSE = 30.0  # seconds between two tries
_SECONDS_AT_THE_END = 300.0


class Outbox:
    """The calls of the client that log in one run. `address` is the store's, without a password.

    `failed` says that the record was given up: the store refused a call, or did not answer until the end.
    """

    def __init__(self, client: MlflowClient, run: str, address: str):
        self.failed = False
        self._client, self._run, self._address = client, run, address
        self._waiting: deque[tuple[str, tuple[Any, ...], dict[str, Any]]] = deque()
        self._pause = 0.0  # seconds before the store is tried again; 0 while it answers
        self._next_try = 0.0
        self._lock = threading.RLock()  # the thread that reads the history logs too

    def call(self, method: str, *arguments: Any, **keywords: Any) -> None:
        """Call a method of the client, now or when the store answers again; nothing once the record was given up."""
        with self._lock:
            if not self.failed:
                self._waiting.append((method, arguments, keywords))
                self.send()

    def send(self) -> None:
        """Send what waits, unless the store failed and its pause is not over."""
        with self._lock:
            while self._waiting and not self.failed and time.monotonic() >= self._next_try:
                method, arguments, keywords = self._waiting[0]
                try:
                    getattr(self._client, method)(self._run, *arguments, **keywords)
                except connection.FAULTS as error:
                    self._missed(error)
                else:
                    self._waiting.popleft()
                    if self._pause and not self._waiting:
                        print(f"tracking: {self._address} answers again, and has all that waited", flush=True)
                        self._pause = 0.0

    def finish(self) -> None:
        """Wait until all is sent, or the store has not answered for `_SECONDS_AT_THE_END`."""
        deadline = time.monotonic() + _SECONDS_AT_THE_END
        self.send()
        if self._waiting and not self.failed:
            print(
                f"tracking: {len(self._waiting)} entries of the record wait for {self._address}: they are tried for "
                f"{_SECONDS_AT_THE_END:.0f} s at most",
                flush=True,
            )
        while self._waiting and not self.failed:
            if time.monotonic() > deadline:
                self._give_up(f"no answer for {_SECONDS_AT_THE_END:.0f} s")
            time.sleep(0.1)
            self.send()

    def _missed(self, error: Exception) -> None:
        if store_errors.is_refusal(error):
            self._give_up(error)
            return
        if not self._pause:
            print(
                f"tracking: {self._address} does not store the record ({_brief(error)}). The run continues; what is logged "
                "waits here, and is sent when the store answers again.",
                flush=True,
            )
        self._pause = min(2 * self._pause or 1.0, _LONGEST_PAUSE)
        self._next_try = time.monotonic() + self._pause

    def _give_up(self, error: Exception | str) -> None:
        self.failed = True
        print(
            f"tracking: {self._address} failed to store the record ({_brief(error)}). The run continues, and its files are "
            "kept here. Run the same command again later: it trains nothing and uploads the whole record.",
            flush=True,
        )


def _brief(error: Exception | str) -> str:
    text = disk.message(error, Path()) if disk.is_full(error) else str(error)
    return " ".join(redact(text).split())[:300]
