"""A plan's facts and findings -> text for a terminal."""

import shlex
import textwrap

from tunetrail.data import records
from tunetrail.plan.estimate.memory import OVERHEAD
from tunetrail.plan.facts import Facts
from tunetrail.plan.rules.finding import ERROR, WARNING, Finding, short
from tunetrail.plan.rules.judge import NEVER_ALLOWED
from tunetrail.units import duration, size

_WIDTH, _HEADING = 110, 12


def table(facts: Facts) -> str:
    """Return the facts in groups of lines, each with a heading."""
    groups = {
        "model": _model(facts),
        "device": _device(facts),
        "data": _data(facts),
        "steps": _steps(facts),
        "memory": _memory(facts),
        "disk": _disk(facts),
        "time": _time(facts),
    }
    lines = []
    for heading, (first, *rest) in groups.items():
        lines.append(f"{heading:<{_HEADING}}{first}")
        lines += [f"{'':<{_HEADING}}{line}" for line in rest]
    return "\n".join(lines)


def problems(findings: list[Finding], allowed: list[str]) -> str:
    """Return each finding with its reason and its fix; errors first."""
    blocks = []
    for finding in findings:
        is_allowed = finding.level == ERROR and finding.code in allowed and finding.code not in NEVER_ALLOWED
        level = "allowed" if is_allowed else finding.level.lower()
        head = textwrap.fill(f"{level} {finding.code}: {finding.what}", _WIDTH, subsequent_indent="    ")
        why = textwrap.fill(finding.why, _WIDTH, initial_indent="    ", subsequent_indent="    ")
        blocks.append(f"{head}\n{why}\n    -> {finding.fix}")
    return "\n".join(blocks)


def verdict(findings: list[Finding], errors: list[Finding], fixed: list[str] | None) -> str:
    """Return whether the run is refused for `errors`, which are among `findings`, and the command with its fixes."""
    if errors:
        refused = f"refused: {', '.join(dict.fromkeys(error.code for error in errors))}"
        if fixed is None:
            return refused
        return f"{refused}\nthis command passes the plan:\n  {shlex.join(['tunetrail', 'run', *fixed])}"
    if any(finding.level == WARNING for finding in findings):
        return "not refused; see the warnings"
    return "not refused: allowed" if findings else "no problems found"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH - _HEADING)


def _count(number: float) -> str:
    for limit, unit in ((1e9, "G"), (1e6, "M")):
        if number >= limit:
            return f"{number / limit:.2f} {unit}"
    return f"{number:,.0f}"


def _model(facts: Facts) -> list[str]:
    model = facts.model
    trained = "all" if model.trained == model.parameters else _count(model.trained)
    return [f"{model.base_model}, {_count(model.parameters)} weights, {trained} trained ({model.origin})"]


def _device(facts: Facts) -> list[str]:
    device = facts.device
    count = "" if device.name == "cpu" else f"{device.count} x "
    return [f"{count}{device.name}, {size(device.memory)} ({device.origin})"]


def _data(facts: Facts) -> list[str]:
    data = facts.data
    lost = "".join(f", {rows:,} {how}" for how, rows in (("dropped", data.dropped), ("cut", data.cut)) if rows)
    tokens = f"{data.tokens:,} tokens an epoch, {data.supervised:,} of them trained on; mean {data.mean:.0f} a row"
    lines = [f"{data.kept:,} rows to train on{lost}; {data.validation:,} to validate with"]
    lines.append(f"{tokens}, longest {data.longest:,}")
    if data.left_out:
        lines += _wrapped(records.listed(data.left_out))
    if data.source != "counted":
        lines += _wrapped(f"{data.source}: {data.why}")
    return lines


def _steps(facts: Facts) -> list[str]:
    steps, schedule = facts.steps, facts.schedule
    between = rates = ""
    if steps.fewest != steps.most:
        between = f" ({steps.fewest:,} to {steps.most:,}, as rows are shuffled)"
    if schedule.peak is not None:
        rates = f", highest rate {short(schedule.peak)} of {short(schedule.asked)}, last {short(schedule.last)}"
    contents = f"{steps.rows_per_step:,.0f} rows and {steps.tokens_per_step:,.0f} tokens a step"
    return [
        f"{steps.total:,} in all{between}, {steps.per_epoch:,} an epoch",
        f"{contents}; padding is {1 - steps.efficiency:.1%} of what is computed",
        f"{schedule.scheduler}: {schedule.warmup:,} of warm-up{rates}",
    ]


def _memory(facts: Facts) -> list[str]:
    memory = facts.memory
    parts = sorted(((name, part) for name, part in memory.parts.items() if part), key=lambda part: -part[1])
    listed = ", ".join(f"{name} {size(part)}" for name, part in [*parts, ("driver and allocator", OVERHEAD)])
    paged = f"; and {size(memory.paged)} of paged optimiser states, which may move to the host" if memory.paged else ""
    each = "" if facts.device.name == "cpu" else " a GPU"
    fits = "fits" if memory.fits else "does NOT fit"
    peaks = f"{size(memory.total)}{each} in training, {size(memory.evaluation)} in evaluation"
    return [f"{peaks}: {fits} {size(memory.capacity)}", *_wrapped(listed + paged)]


def _disk(facts: Facts) -> list[str]:
    disk = facts.disk
    checkpoints = "no checkpoint, so an interrupted training starts over"
    if disk.written:
        every = facts.steps.total / disk.written
        after = duration(facts.time.training_s / disk.written)
        checkpoints = f"{disk.written} checkpoints of {size(disk.checkpoint)}, one every {every:.0f} steps ({after})"
        checkpoints += f", {disk.checkpoints} at once, {size(disk.written * disk.checkpoint)} written in all"
    base = f", the base model {size(disk.base)} to fetch" if disk.base else ""
    free = "" if disk.free is None else f"; {size(disk.free)} free"
    kept = f"{size(disk.checkpoints * disk.checkpoint)} of checkpoints"
    return [f"{size(disk.total)}: {kept}{base}, the model {size(disk.model)} three times{free}", *_wrapped(checkpoints)]


def _time(facts: Facts) -> list[str]:
    time, flops, evaluation = facts.time, facts.flops, facts.evaluation
    making = ", without the making of the base model" if facts.model.origin == "base.make" else ""
    gpu_hours = "" if facts.device.name == "cpu" else f", {time.gpu_hours:.3g} GPU-hours"
    price = "" if time.cost is None else f", {time.cost:,.2f} at {time.price:g} a GPU-hour"
    stages = f"training {duration(time.training_s)}, validation {duration(time.validation_s)}"
    recomputed = f", computed twice {flops.recomputed:.2e}" if flops.recomputed else ""
    answers = f"{evaluation.generations // 2:,} answers an evaluation, {evaluation.tokens_at_most:,} tokens at most"
    return [
        f"{duration(time.hours * 3600)} in all{making}{gpu_hours}{price}: {stages}, "
        f"both evaluations {duration(time.evaluation_s)}",
        f"{time.tokens_per_second:,.0f} tokens/s, MFU {time.mfu:.1%}",
        *_wrapped(f"speed: {time.mfu_from}"),
        f"{answers} ({evaluation.origin})",
        f"training {flops.training:.2e} FLOP, validation {flops.validation:.2e}{recomputed}",
    ]
