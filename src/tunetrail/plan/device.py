"""Composed values and this machine -> the device that a plan is for, and what chose it."""

import os
from typing import Any

from tunetrail import machine
from tunetrail.plan.estimate import hardware


def chosen(values: dict[str, Any]) -> tuple[hardware.Device, str]:
    """Return the device that the composed `values` train on, and what chose it: `plan.device`, else this machine, else, if
    it has no GPU, `plan.default_device`, which conf/hardware sets.

    Raises:
        UserError: there is no such device.
    """
    named = values["plan"]["device"]
    if named and named.lower() != "cpu":
        return hardware.named(named), "plan.device"
    if named or values["accelerate"].get("cpu"):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return hardware.cpu(memory, len(os.sched_getaffinity(0))), "this machine"
    gpus = machine.gpus()
    if gpus:
        return hardware.recognised(*gpus[0]), "this machine"
    return hardware.named(values["plan"]["default_device"] or "h100"), "no GPU here; plan.device names another"
