"""work/run.json: which run the stages run for, from which `report` writes the head of its page.

No stage depends on the file: a run's id and date change no result.
"""

import contextlib
import json
import os
import shlex
import socket
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from tunetrail import UserError
from tunetrail.checkout import git
from tunetrail.config import differences
from tunetrail.report import metrics
from tunetrail.tracking import store


def describe(
    run: Any, root: Path, values: dict[str, Any], code: git.Code, overrides: list[str] | None, hardware: dict[str, str]
) -> dict[str, Any]:
    """Return what the file holds: the run, its code, machine, method, and what differs from its experiment.

    `overrides` are the user's words, None if they are not known; `hardware` is `machine.hardware`'s.
    """
    name = values["name"]
    with contextlib.suppress(UserError):  # a store that fails now costs the record, not the run
        name = store.find(root, run.id).name  # a sweep's job is named after what varies in it
    experiment, differing = differences.from_experiment(root, values, overrides)
    return {
        "id": run.id,
        "name": name,
        "started": datetime.now().astimezone().isoformat(sep=" ", timespec="minutes"),
        "commit": code.commit,
        "dirty": code.dirty,
        "machine": ", ".join([socket.gethostname(), *hardware.values()]),
        "training": metrics.training(values["train"], values["accelerate"].get("num_processes")),
        "overrides": None if overrides is None else shlex.join(overrides) or "none",
        "experiment": experiment,
        "differs": differing,
    }


@contextlib.contextmanager
def written(root: Path, description: dict[str, Any]) -> Iterator[None]:
    """Have the file while the body runs. The environment names the run as well (`metrics.about`), so that a file left by a
    killed process is not taken for the run of a stage that is run by hand later."""
    file = root / metrics.ABOUT
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    os.environ[metrics.RUN] = description["id"]
    try:
        yield
    finally:
        os.environ.pop(metrics.RUN, None)
        file.unlink(missing_ok=True)
