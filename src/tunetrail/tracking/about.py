"""A run that begins -> what the head of its report says of it: which run, of which code, where, how, and what is no default.

It lies in work/run.json while the stages run, and is no dependency of theirs: a run's id and date change no result.
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
from tunetrail.config import check, compose
from tunetrail.config.overrides import parse
from tunetrail.report import metrics
from tunetrail.tracking import store

_NOT_SET = "not set"


def of(
    run: Any, root: Path, values: dict[str, Any], code: git.Code, overrides: list[str] | None, hardware: dict[str, str]
) -> dict[str, Any]:
    """All of it, as JSON holds it. `overrides` are the person's words, None where they are not known; `hardware` is
    `machine.hardware_tags`."""
    name = values["name"]
    with contextlib.suppress(UserError):  # a store that fails now costs the record, not the run
        name = store.find(root, run.id).info.run_name  # a sweep's job is called after what varies in it
    machine = [text for key, text in hardware.items() if key.startswith("hardware.")]
    experiment, differing = differs(root, values, overrides)
    return {
        "id": run.id,
        "name": name,
        "started": datetime.now().astimezone().isoformat(sep=" ", timespec="minutes"),
        "commit": code.commit,
        "dirty": code.dirty,
        "machine": ", ".join([socket.gethostname(), *machine]),
        "training": metrics.training(values["train"], values["accelerate"].get("num_processes")),
        "overrides": None if overrides is None else shlex.join(overrides) or "none",
        "experiment": experiment,
        "differs": differing,
    }


def differs(root: Path, values: dict[str, Any], overrides: list[str] | None) -> tuple[str, list[Any] | None]:
    """The experiment, and (keys, value, default) where the composed `values` are others than it has without overrides.

    Keys of one last name and the same values (`seed`, `train.seed`) stand together; a value that the experiment leaves to
    the person is "not set". `overrides` as in `of`: where they are None, the experiment is the one called as the run, or
    else the one that conf/config.yaml chooses. None, if it cannot be composed.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    if overrides is None:
        known = (root / "conf" / "experiment" / f"{values['name']}.yaml").is_file()
        overrides = [f"experiment={values['name']}"] if known else []
    try:
        chosen = [override.input_line for override in parse(overrides) if override.key_or_group == "experiment"]
        composed = compose.compose(root, chosen, hydra=True)
        experiment = composed.hydra.runtime.choices.get("experiment") or "null"
        default = check.flatten(_preset(composed))
    except (HydraException, OmegaConfBaseException):
        return values["name"], None
    ours = check.flatten(values)
    together: dict[tuple[str, str, str], list[str]] = {}
    for key in sorted(ours.keys() | default.keys(), key=lambda key: (key.count("."), key)):
        value, usual = (str(of[key]) if key in of else _NOT_SET for of in (ours, default))
        if value != usual:
            name = next(part for part in reversed(key.split(".")) if not part.isdigit())
            together.setdefault((name, value, usual), []).append(key)
    return experiment, [[keys, value, usual] for (_, value, usual), keys in together.items()]


def _preset(composed: Any) -> dict[str, Any]:
    """The plain values of a composed config without Hydra's own section; those that must be given (`???`) are "not set", and
    so are those that are taken from them."""
    from omegaconf import OmegaConf

    own = OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])
    for key, value in check.flatten(OmegaConf.to_container(own)).items():
        if value == "???":
            OmegaConf.update(own, key, _NOT_SET)
    return OmegaConf.to_container(own, resolve=True)


@contextlib.contextmanager
def introduced(root: Path, about: dict[str, Any]) -> Iterator[None]:
    """Have the stages know the run while the body runs; a stage that is run by hand later is of no run, also where this
    process was killed and the file is still there: the environment names the run, too (`metrics.about`)."""
    file = root / metrics.ABOUT
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    os.environ[metrics.RUN] = about["id"]
    try:
        yield
    finally:
        os.environ.pop(metrics.RUN, None)
        file.unlink(missing_ok=True)
