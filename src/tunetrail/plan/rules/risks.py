"""Composed values and a plan's facts -> warnings of a run that writes, sends or trusts more than it must.

One function per rule; its name in capitals is the finding's code.
"""

import re
from collections.abc import Mapping

from tunetrail import telemetry
from tunetrail.config import check
from tunetrail.plan.facts import Facts
from tunetrail.plan.rules import fit
from tunetrail.plan.rules.finding import WARNING, Finding, Problem, Values, warning
from tunetrail.training import checkpoint
from tunetrail.units import size

_OTHER_MODEL = {"model": "hub", "base.base_model": "ORG/NAME", "base.revision_of_model": "COMMIT", "base.license": "ID"}
_NON_COMMERCIAL = re.compile(r"(^|-)nc(-|$)|non-?commercial|research", re.IGNORECASE)  # in Hugging Face's names of licences
_COMMIT = re.compile(r"[0-9a-f]{40}")


@warning
def planned_otherwise(values: Values, facts: Facts) -> Problem | None:
    """The plan is for other devices than the run would use: another number of them, or a GPU instead of the CPU."""
    count, processes = values["plan"]["num_gpus"], values["accelerate"].get("num_processes") or 1
    device, on_cpu = facts.device, bool(values["accelerate"].get("cpu"))
    fix = {"hardware": fit.conf_hardware(device)} if on_cpu != (device.name == "cpu") else {}
    if count != processes or (fix and count > 1):
        fix |= {"accelerate.num_processes": count, "accelerate.multi_gpu": count > 1}
    if not fix:
        return None
    problem = f"the plan is for {count:,} x {device.name} and the run would use "
    problem += "this machine's CPU" if on_cpu else f"{processes:,} GPUs" if processes > 1 else "one GPU"
    return problem, "Steps, memory and hours are those of the plan's devices, not of the run as it is composed.", fix


@warning
def checkpoints_kept(values: Values, facts: Facts) -> Problem | None:
    """More than one checkpoint is kept and no limit is set; Axolotl's default is four (core/builders/base.py)."""
    disk = facts.disk
    if values["train"].get("save_total_limit") or disk.checkpoints <= 1:
        return None
    problem = f"{disk.checkpoints} checkpoints of {size(disk.checkpoint)} are kept, and no train.save_total_limit"
    return (
        problem,
        "Only the newest is needed to resume; the finished model is saved elsewhere.",
        {"train.save_total_limit": 1},
    )


@warning
def unpinned(values: Values, facts: Facts) -> Problem | None:
    """The base model comes from the hub by a branch or tag, not by a commit."""
    base = values["base"]
    name, revision = base["base_model"], base["revision_of_model"]
    if base["path"] == name or checkpoint.is_path(name) or _COMMIT.fullmatch(revision or ""):
        return None
    problem = f"{name} is taken at {revision or 'its newest commit'}, which may change"
    why = "Its owner may change the model between two runs, or between training and evaluation."
    return problem, why, {"base.revision_of_model": "COMMIT"}


@warning
def non_commercial(values: Values, facts: Facts) -> Problem | None:
    """The licence of the data or of the base model forbids commercial use, by its name."""
    licences, fix = [], {}
    for source, license, settings in (
        ("data", facts.data.license, fit.OTHER_ROWS | {"prepare.license": "ID"}),
        ("base model", values["base"]["license"], _OTHER_MODEL),
    ):
        if _NON_COMMERCIAL.search(license or ""):
            licences.append(f"the {source}'s licence is {license}")
            fix |= settings
    if not licences:
        return None
    problem = " and ".join(licences)
    return problem, "It also binds the tuned model, which may be studied but not sold or used in a business.", fix


@warning
def remote_code(values: Values, facts: Facts) -> Problem | None:
    """`trust_remote_code` is true, in any section."""
    keys = [key for key, value in check.flatten(values).items() if key.endswith("trust_remote_code") and value]
    if not keys:
        return None
    fix = dict.fromkeys(keys, False)
    problem = f"{', '.join(keys)}: on"
    return problem, "Python code that comes with a model runs with your rights, on your files and tokens.", fix


def telemetry_on(environ: Mapping[str, str]) -> Finding | None:
    """The environment makes a tool send telemetry. `launch` turns off what the environment does not set."""
    tools = telemetry.senders(environ)
    if not tools:
        return None
    return Finding(
        "TELEMETRY_ON",
        WARNING,
        f"the environment turns on the telemetry of {', '.join(tools)}",
        "Settings and failures are sent to the tools' makers; without a network Axolotl hangs for minutes when it exits.",
        telemetry.fix(tools),
    )


RULES = (planned_otherwise, checkpoints_kept, unpinned, non_commercial, remote_code)
