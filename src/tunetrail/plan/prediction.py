"""A composed experiment and a device -> the facts of its run: rows, steps, memory, disk, hours."""

import math
import shutil
from pathlib import Path
from typing import Any

from tunetrail.data import hub
from tunetrail.plan import measured
from tunetrail.plan.estimate import architecture, cost, frequency, memory, pace, packing, schedule, workload
from tunetrail.plan.estimate.hardware import Device, precision
from tunetrail.plan.facts import Devices, Evaluation, Facts, Memory, Model, Schedule, Time
from tunetrail.training import checkpoint


def predict(values: dict[str, Any], root: Path, device: Device, origin: str) -> Facts:
    """Return the facts of the run of `values`, as params.yaml would hold them; `origin` says what chose `device`.

    Raises:
        NotKnown: the data, the tokenizer or the model's shape are neither on this machine nor recorded (`estimate.known`).
        UserError: training would fail at its start.
    """
    count = values["plan"]["num_gpus"]
    train = values["train"] | precision(values["train"], device.name, device.bf16)  # as NO_BF16's fix
    work = workload.read(values, root)
    shape, shape_origin = architecture.read(values["base"], root)
    steps = packing.steps(train, work.lengths, count)
    evaluations = frequency.evaluations(train, steps.total, steps.per_epoch)
    validation = packing.validation(train, work.validation_lengths, count, evaluations)
    peak = memory.training(shape, train, count)
    row = work.longest_prompt + values["evaluate"]["task"]["generation_kwargs"]["max_gen_toks"]
    generating = memory.evaluation(shape, values["evaluate"], row, math.ceil(work.prompts / count))
    saved = frequency.saves(train, steps.total, steps.per_epoch)
    flops = cost.flops(
        shape,
        train,
        slots=steps.total * steps.slots_per_step,
        validated=validation.times * validation.slots,
        length=work.mean,
        masked=device.name == "cpu",
    )
    free = shutil.disk_usage(root).free if origin == "this machine" else None
    evaluation, seconds = _time(values, train, root, device, shape, steps, flops, work.prompts)
    return Facts(
        name=values["name"],
        device=Devices(device.name, device.memory, device.bf16, device.maker, count, origin),
        model=Model(
            base_model=values["base"]["base_model"],
            parameters=shape.parameters,
            trained=shape.adapter_parameters(train) if train.get("adapter") else shape.parameters,
            max_position_embeddings=shape.max_position_embeddings,
            origin=shape_origin,
            shape=shape,
        ),
        data=work,
        steps=steps,
        schedule=_schedule(train, steps),
        validation=validation,
        flops=flops,
        memory=Memory(peak.parts, peak.needed, peak.paged, generating.needed, row, device.memory),
        disk=cost.disk(shape, train, saved, _is_fetched(values["base"], root), free),
        evaluation=evaluation,
        time=seconds,
    )


def _is_fetched(base: dict[str, Any], root: Path) -> bool:
    """Return whether the run fetches the base model's weights from the hub. Its cache is assumed to be on the same disk."""
    if base["make"] or checkpoint.is_path(base["base_model"]) or (root / base["base_model"]).is_dir():
        return False
    return not hub.has_weights(base["base_model"], base["revision_of_model"])


def _schedule(train: dict[str, Any], steps: packing.Steps) -> Schedule:
    warmup = schedule.warmup(train, steps.total, steps.counted)
    rates = schedule.rates(train, steps.total, steps.counted)
    known = rates is not None and len(rates) > 0
    peak, last = (float(rates.max()), float(rates[-1])) if known else (None, None)
    return Schedule(train.get("lr_scheduler") or "cosine", warmup, train["learning_rate"], peak, last)


def _time(
    values: dict[str, Any],
    train: dict[str, Any],
    root: Path,
    device: Device,
    shape: architecture.Architecture,
    steps: packing.Steps,
    flops: cost.Flops,
    prompts: int,
) -> tuple[Evaluation, Time]:
    """Return the times, by what such a run took on this machine before, or else by the device's default."""
    plan = values["plan"]
    count = plan["num_gpus"]
    longest, expected = cost.evaluation(shape, values["evaluate"], prompts, device, count)
    speed = pace.default(device, count, train, plan["mfu"])
    answering, answering_origin = expected, "the time is for that many"
    kind = measured.kind(device.name, count, train)
    earlier = measured.nearest(root, kind, shape.parameters) if plan["mfu"] is None else None
    if earlier:
        speed = pace.from_earlier(speed, earlier)
        if earlier["evaluation"]:
            answering, answering_origin = expected * earlier["evaluation"], "the time as measured here"
    trained = pace.Training(flops.training + flops.recomputed, steps.batches, steps.total)
    loop_s = pace.seconds(trained, shape, train, device, speed)
    training = speed.start + loop_s
    validating = flops.validation / speed.flops_per_s
    hours = (training + validating + 2 * answering) / 3600
    evaluation = Evaluation(2 * prompts, longest, expected, answering_origin)
    return evaluation, Time(
        tokens_per_second=steps.total * steps.tokens_per_step / loop_s if loop_s else 0.0,
        mfu=flops.training / loop_s / (count * device.peak(train)) if loop_s else 0.0,
        mfu_from=speed.source,
        kind=kind,
        aside_s=pace.aside(trained, shape, train, device),
        training_s=training,
        validation_s=validating,
        evaluation_s=2 * answering,
        hours=hours,
        gpu_hours=hours * count,
        price=plan["price"],
        cost=None if plan["price"] is None else hours * count * plan["price"],
    )
