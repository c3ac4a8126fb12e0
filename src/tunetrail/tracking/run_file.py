"""work/run.json: the run that the stages run for. `report` writes the head of its page from it.

No stage depends on the file, since a run's id and date change no result.
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
    """Return the content of the file: the run, its code, machine, method, and what differs from its experiment.

    `overrides` are those typed, None if they are not known; `hardware` is `machine.hardware`'s.
    """
    name = values["name"]
    with contextlib.suppress(UserError):  # if the store fails, the run continues
        name = store.find(root, run.id).name  # the name of a sweep's job has what varies in it
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
    """Keep the file while the body runs. The environment names the run as well (`metrics.about`), so that a file left by a
    killed process is not used for a stage that is run by hand later."""
    file = root / metrics.ABOUT
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    os.environ[metrics.RUN] = description["id"]
    try:
        yield
    finally:
        os.environ.pop(metrics.RUN, None)
        file.unlink(missing_ok=True)
