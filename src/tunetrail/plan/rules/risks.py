"""Composed values and a plan's facts -> what is said of a run that keeps, gives away or risks more than it must.

One function a rule; its name in capitals is the finding's code. Not covered: what refuses a run (`stops`, `invalid`),
and figures that do not go together (`unusual`).
"""

import re
from collections.abc import Mapping
from typing import Any

from tunetrail import telemetry
from tunetrail.config import check
from tunetrail.plan.rules import fit
from tunetrail.plan.rules.finding import WARNING, Finding, overrides
from tunetrail.training import checkpoint
from tunetrail.units import size

Values = dict[str, Any]
Facts = dict[str, Any]

_OTHER_MODEL = {"model": "hub", "base.base_model": "ORG/NAME", "base.revision_of_model": "COMMIT", "base.license": "ID"}
_NON_COMMERCIAL = re.compile(r"(^|-)nc(-|$)|non-?commercial|research", re.IGNORECASE)  # in Hugging Face's names of licences
_COMMIT = re.compile(r"[0-9a-f]{40}")


def planned_otherwise(values: Values, facts: Facts) -> Finding | None:
    """The plan is for other devices than the run would take: another number of them, or a GPU instead of the CPU."""
    count, processes = values["plan"]["num_gpus"], values["accelerate"].get("num_processes") or 1
    device, on_cpu = facts["device"], bool(values["accelerate"].get("cpu"))
    fix = {"hardware": fit.hardware(device)} if on_cpu != (device["name"] == "cpu") else {}
    if count != processes or (fix and count > 1):
        fix |= {"accelerate.num_processes": count, "accelerate.multi_gpu": count > 1}
    if not fix:
        return None
    what = f"the plan is for {count:,} x {device['name']} and the run would take "
    what += "this machine's CPU" if on_cpu else f"{processes:,} GPUs" if processes > 1 else "one GPU"
    why = "Steps, memory and hours are those of the plan's devices, not of the run as it is composed."
    return Finding("PLANNED_OTHERWISE", WARNING, what, why, overrides(values, fix))


def checkpoints_kept(values: Values, facts: Facts) -> Finding | None:
    """More than one checkpoint is kept and no limit is set; Axolotl's own is four (core/builders/base.py)."""
    disk = facts["disk"]
    if values["train"].get("save_total_limit") or disk["checkpoints"] <= 1:
        return None
    return Finding(
        "CHECKPOINTS_KEPT",
        WARNING,
        f"{disk['checkpoints']} checkpoints of {size(disk['checkpoint'])} are kept, and no train.save_total_limit",
        "Only the newest is needed to go on from; the finished model is saved apart from it.",
        overrides(values, {"train.save_total_limit": 1}),
    )


def unpinned(values: Values, facts: Facts) -> Finding | None:
    """The base model comes from the hub, and not by a commit."""
    base = values["base"]
    name, revision = base["base_model"], base["revision_of_model"]
    if base["path"] == name or checkpoint.is_path(name) or _COMMIT.fullmatch(revision or ""):
        return None
    return Finding(
        "UNPINNED",
        WARNING,
        f"{name} is taken at {revision or 'whatever its newest commit is'}, which is no commit",
        "Who owns the model may change it between two runs, or between training and evaluation.",
        overrides(values, {"base.revision_of_model": "COMMIT"}),
    )


def non_commercial(values: Values, facts: Facts) -> Finding | None:
    """The licence of the data or of the base model forbids commercial use, by its name."""
    found, fix = [], {}
    for what, license, settings in (
        ("data", facts["data"]["license"], fit.OTHER_ROWS | {"prepare.license": "ID"}),
        ("base model", values["base"]["license"], _OTHER_MODEL),
    ):
        if _NON_COMMERCIAL.search(license or ""):
            found.append(f"the {what}'s licence is {license}")
            fix |= settings
    if not found:
        return None
    return Finding(
        "NON_COMMERCIAL",
        WARNING,
        " and ".join(found),
        "What is trained on it falls under it: it may be studied, and not sold or used for a business.",
        overrides(values, fix),
    )


def remote_code(values: Values, facts: Facts) -> Finding | None:
    """`trust_remote_code` is on, in any section."""
    keys = [key for key, value in check.flatten(values).items() if key.endswith("trust_remote_code") and value]
    if not keys:
        return None
    return Finding(
        "REMOTE_CODE",
        WARNING,
        f"{', '.join(keys)}: on",
        "Python that comes with a model runs here as you, with your files and your tokens.",
        overrides(values, dict.fromkeys(keys, False)),
    )


def telemetry_on(environ: Mapping[str, str]) -> Finding | None:
    """A switch is set so that a tool sends telemetry. One that is not set is off: `launch` sets it."""
    tools = telemetry.senders(environ)
    if not tools:
        return None
    return Finding(
        "TELEMETRY_ON",
        WARNING,
        f"telemetry of {', '.join(tools)} is on by the environment",
        "Settings and failures are told to the tools' makers; without a network Axolotl's exit then hangs for minutes.",
        telemetry.fix(tools),
    )


RULES = (planned_otherwise, checkpoints_kept, unpinned, non_commercial, remote_code)
