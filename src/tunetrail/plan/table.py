"""A plan's facts and findings -> what a person reads in a terminal.

Not covered: machines, which get the facts themselves as JSON.
"""

import shlex
import textwrap
from typing import Any

from tunetrail.data import records
from tunetrail.plan.estimate.memory import OVERHEAD
from tunetrail.plan.rules.finding import Finding, short
from tunetrail.plan.rules.judge import NEVER_ALLOWED
from tunetrail.units import duration, size

_WIDTH, _HEADING = 110, 12
_WELL = "no problems found"


def table(facts: dict[str, Any]) -> str:
    """The facts, a line each, in groups."""
    groups = (_model(facts), _device(facts), _data(facts), _steps(facts), _memory(facts), _disk(facts), _time(facts))
    lines = []
    for (heading, value), *rest in groups:
        lines.append(f"{heading:<{_HEADING}}{value}")
        lines += [f"{'':<{_HEADING}}{more}" for _, more in rest]
    return "\n".join(lines)


def findings(found: list[Finding], allowed: list[str]) -> str:
    """Each finding with its why and what fixes it; errors first."""
    blocks = []
    for one in found:
        passes = one.level == "ERROR" and one.code in allowed and one.code not in NEVER_ALLOWED
        level = "allowed" if passes else one.level.lower()
        head = textwrap.fill(f"{level} {one.code}: {one.what}", _WIDTH, subsequent_indent="    ")
        why = textwrap.fill(one.why, _WIDTH, initial_indent="    ", subsequent_indent="    ")
        blocks.append(f"{head}\n{why}\n    -> {one.fix}")
    return "\n".join(blocks)


def verdict(found: list[Finding], errors: list[Finding], fixed: list[str] | None) -> str:
    """Whether the run is refused for `errors`, some of the findings `found`, and the command with the overrides `fixed`."""
    if not errors:
        warned = any(one.level == "WARNING" for one in found)
        return "not refused; see the warnings" if warned else "not refused: allowed" if found else _WELL
    said = f"refused: {', '.join(dict.fromkeys(one.code for one in errors))}"
    if fixed is None:
        return said
    command = shlex.join(["tunetrail", "run", *fixed])
    return f"{said}\nthis command passes the plan:\n  {command}"


def _count(number: float) -> str:
    for limit, unit in ((1e9, "G"), (1e6, "M")):
        if number >= limit:
            return f"{number / limit:.2f} {unit}"
    return f"{number:,.0f}"


def _model(facts: dict[str, Any]) -> list[tuple[str, str]]:
    model = facts["model"]
    share = "all" if model["trained"] == model["parameters"] else _count(model["trained"])
    said = f"{model['base_model']}, {_count(model['parameters'])} weights, {share} trained ({model['from']})"
    return [("model", said)]


def _device(facts: dict[str, Any]) -> list[tuple[str, str]]:
    device = facts["device"]
    count = "" if device["name"] == "cpu" else f"{device['count']} x "
    return [("device", f"{count}{device['name']}, {size(device['memory'])} ({device['from']})")]


def _data(facts: dict[str, Any]) -> list[tuple[str, str]]:
    data = facts["data"]
    lost = [f"{data[name]:,} {name}" for name in ("dropped", "cut") if data[name]]
    rows = (
        f"{data['kept']:,} rows to train on{', ' + ', '.join(lost) if lost else ''}; {data['validation']:,} to validate with"
    )
    tokens = f"{data['tokens']:,} tokens an epoch, {data['supervised']:,} under the loss; mean {data['mean']:.0f} a row"
    lines = [("data", rows), ("", f"{tokens}, longest {data['longest']:,}")]
    if data.get("left_out"):
        lines += [("", line) for line in textwrap.wrap(records.listed(data["left_out"]), _WIDTH - _HEADING)]
    if data["source"] != "counted":
        lines += [("", line) for line in textwrap.wrap(f"{data['source']}: {data['why']}", _WIDTH - _HEADING)]
    return lines


def _steps(facts: dict[str, Any]) -> list[tuple[str, str]]:
    steps, plan = facts["steps"], facts["schedule"]
    between = (
        f" ({steps['fewest']:,} to {steps['most']:,}, as rows are shuffled)" if steps["fewest"] != steps["most"] else ""
    )
    full = f"{steps['rows_per_step']:,.0f} rows and {steps['tokens_per_step']:,.0f} tokens a step"
    full += f"; padding is {1 - steps['efficiency']:.1%} of what is computed"
    peak = (
        ""
        if plan["peak"] is None
        else f", highest rate {short(plan['peak'])} of {short(plan['asked'])}, last {short(plan['last'])}"
    )
    return [
        ("steps", f"{steps['total']:,} in all{between}, {steps['per_epoch']:,} an epoch"),
        ("", full),
        ("", f"{plan['scheduler']}: {plan['warmup']:,} of warm-up{peak}"),
    ]


def _memory(facts: dict[str, Any]) -> list[tuple[str, str]]:
    memory = facts["memory"]
    parts = [(name, part) for name, part in memory["parts"].items() if part and "(paged)" not in name]
    parts = [*sorted(parts, key=lambda item: -item[1]), ("driver and allocator", OVERHEAD)]
    said = ", ".join(f"{name} {size(part)}" for name, part in parts)
    said += f"; besides, {size(memory['paged'])} of paged optimiser, which may go to the host" if memory["paged"] else ""
    lines = textwrap.wrap(said, _WIDTH - _HEADING)
    verdict = "fits" if memory["fits"] else "does NOT fit"
    each = "" if facts["device"]["name"] == "cpu" else " a GPU"
    head = f"{size(memory['total'])}{each} in training, {size(memory['evaluation'])} in evaluation"
    return [("memory", f"{head}: {verdict} {size(memory['capacity'])}"), *(("", line) for line in lines)]


def _disk(facts: dict[str, Any]) -> list[tuple[str, str]]:
    disk = facts["disk"]
    kept = f"{disk['checkpoints']} checkpoints of {size(disk['checkpoint'])}" if disk["checkpoints"] else "no checkpoint"
    free = "" if disk["free"] is None else f"; {size(disk['free'])} free"
    kept += f", the base model {size(disk['base'])} to fetch" if disk["base"] else ""
    return [("disk", f"{size(disk['total'])}: {kept}, the model {size(disk['model'])} three times{free}")]


def _time(facts: dict[str, Any]) -> list[tuple[str, str]]:
    time, flops, asked = facts["time"], facts["flops"], facts["evaluation"]
    compute = f"training {flops['training']:.2e} FLOP, validation {flops['validation']:.2e}"
    compute += f", computed twice {flops['recomputed']:.2e}" if flops["recomputed"] else ""
    spent = f"training {duration(time['training_s'])}, validation {duration(time['validation_s'])}"
    whole = f"{duration(time['hours'] * 3600)} in all"
    whole += ", besides the making of the base model" if facts["model"]["from"] == "base.make" else ""
    whole += "" if facts["device"]["name"] == "cpu" else f", {time['gpu_hours']:.3g} GPU-hours"
    answers = f"{asked['generations'] // 2:,} answers an evaluation"
    price = "" if time["cost"] is None else f", {time['cost']:,.2f} at {time['price']:g} a GPU-hour"
    return [
        ("time", f"{whole}{price}: {spent}, both evaluations {duration(time['evaluation_s'])}"),
        ("", f"{time['tokens_per_second']:,.0f} tokens/s, MFU {time['mfu']:.1%}"),
        *(("", line) for line in textwrap.wrap(f"speed: {time['mfu_from']}", _WIDTH - _HEADING)),
        ("", f"{answers}, {asked['tokens_at_most']:,} tokens at most ({asked['from']})"),
        ("", compute),
    ]
