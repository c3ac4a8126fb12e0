"""A composed experiment and a device -> what the run will be and cost, as facts, and what is wrong with it, as findings.

Plain data, ready for JSON: bytes, seconds, FLOP, tokens, shares between 0 and 1.
"""

import dataclasses
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from tunetrail.data import hub
from tunetrail.plan.estimate import architecture, cost, measured, memory, pace, packing, schedule, workload
from tunetrail.plan.estimate.hardware import Device
from tunetrail.plan.rules import fit, judge
from tunetrail.training import checkpoint


def make(values: dict[str, Any], root: Path, device: Device, origin: str) -> dict[str, Any]:
    """The facts of the experiment `values` (what params.yaml would hold) on `device`; `origin` says who chose the device.

    Raises:
        NotKnown: the data, the tokenizer or the model's shape are neither at hand nor on record (`estimate.known`).
        UserError: training would stop as it begins.
    """
    count = values["plan"]["num_gpus"]
    # With the precision that the device has, as the fix of NO_BF16 would set it.
    train = fit.with_supported_precision(values["train"], device.name, device.bf16)
    work = workload.read(values, root)
    shape, known = architecture.read(values["base"], root)
    steps = packing.steps(train, work.lengths, count)
    validation = packing.validation(train, work.validation_lengths, count)
    times = packing.evaluations(train, steps.total, steps.per_epoch)
    mean = float(work.lengths.mean()) if work.kept else 0.0
    slots, masked = (steps.total * steps.slots_per_step, times * validation.slots), device.name == "cpu"
    flops = cost.flops(shape, train, *slots, mean, masked)
    parts = memory.training(shape, train, count)
    asked = math.ceil(work.prompts / count)
    row = work.longest_prompt + values["evaluate"]["task"]["generation_kwargs"]["max_gen_toks"]
    generating = memory.needed(memory.evaluation(shape, values["evaluate"], row, asked))
    _, saved = packing.saves(train, steps.total, steps.per_epoch)
    facts = {
        "name": values["name"],
        "device": {name: getattr(device, name) for name in ("name", "memory", "bf16", "maker")}
        | {"count": count, "from": origin},
        "model": {
            "base_model": values["base"]["base_model"],
            "parameters": shape.parameters,
            "trained": shape.adapter_parameters(train) if train.get("adapter") else shape.parameters,
            "max_position_embeddings": shape.max_position_embeddings,
            "from": known,
            "shape": dataclasses.asdict(shape),
        },
        "data": _data(work, mean, values["base"]["base_model"]) | {"license": values["prepare"]["license"]},
        "steps": dataclasses.asdict(steps)
        | {"batches": steps.total * steps.blocks_per_step / train["micro_batch_size"]},  # on each GPU
        "schedule": _schedule(train, steps),
        "validation": {"times": times} | dataclasses.asdict(validation),
        "flops": flops,
        "memory": {
            "parts": parts,
            "total": memory.needed(parts),
            "paged": sum(size for name, size in parts.items() if "(paged)" in name),
            "evaluation": generating,
            "row_in_evaluation": row,
            "capacity": device.memory,
            "fits": max(memory.needed(parts), generating) <= device.memory,
        },
        "disk": cost.disk(shape, train, saved, _fetched(values["base"], root))
        | {"free": shutil.disk_usage(root).free if origin == "this machine" else None},
    }
    facts |= _time(values | {"train": train}, root, device, facts, shape, work.prompts)
    return facts


def _fetched(base: dict[str, Any], root: Path) -> bool:
    """Whether the weights of the base model come from the hub yet: into its cache, which is taken to be on the same disk."""
    if base["make"] or checkpoint.is_path(base["base_model"]) or (root / base["base_model"]).is_dir():
        return False
    return not hub.has_weights(base["base_model"], base["revision_of_model"])


def _data(work: workload.Workload, mean: float, base_model: str) -> dict[str, Any]:
    found = {name: value for name, value in vars(work).items() if not isinstance(value, np.ndarray)}
    if work.bos_trained is None:
        found["bos_trained"] = architecture.puts_bos(base_model)
    return found | {"tokens": int(work.lengths.sum()), "mean": mean}


def _schedule(train: dict[str, Any], steps: packing.Steps) -> dict[str, Any]:
    rates = schedule.rates(train, steps.total, steps.counted)
    known = rates is not None and len(rates) > 0
    return {
        "scheduler": train.get("lr_scheduler") or "cosine",
        "warmup": schedule.warmup(train, steps.total, steps.counted),
        "asked": train["learning_rate"],
        "peak": float(rates.max()) if known else None,
        "last": float(rates[-1]) if known else None,
    }


def _time(
    values: dict[str, Any], root: Path, device: Device, facts: dict[str, Any], shape: architecture.Architecture, prompts: int
) -> dict[str, Any]:
    """`time` and `evaluation`: by what a run of this kind took here, or else by the device's default."""
    train, plan, count = values["train"], values["plan"], facts["device"]["count"]
    flops, steps = facts["flops"], facts["steps"]
    trained = pace.Training(flops["training"] + flops["recomputed"], steps["batches"], steps["total"])
    longest, expected = cost.evaluation(shape, values["evaluate"], prompts, device, count)
    goes, answering, by = pace.default(device, count, train, plan["mfu"]), expected, "the time is for that many"
    kind = measured.kind(facts, train)
    earlier = measured.nearest(root, kind, shape.parameters) if plan["mfu"] is None else None
    if earlier:
        goes = pace.from_earlier(goes, earlier)
        if earlier["evaluation"]:
            answering, by = expected * earlier["evaluation"], "the time as measured here"
    looped, validating = pace.seconds(trained, shape, train, device, goes), flops["validation"] / goes.flops_per_s
    training = goes.start + looped
    hours = (training + validating + 2 * answering) / 3600
    tokens = facts["steps"]["total"] * facts["steps"]["tokens_per_step"]
    return {
        "evaluation": {"generations": 2 * prompts, "tokens_at_most": longest, "expected_s": expected, "from": by},
        "time": {
            "tokens_per_second": tokens / looped if looped else 0.0,
            "mfu": flops["training"] / looped / (count * device.peak(train)) if looped else 0.0,
            "mfu_from": goes.source,
            "kind": kind,
            "aside_s": pace.aside(trained, shape, train, device),
            "training_s": training,
            "validation_s": validating,
            "evaluation_s": 2 * answering,
            "hours": hours,
            "gpu_hours": hours * count,
            "price": plan["price"],
            "cost": hours * count * plan["price"] if plan["price"] is not None else None,
        },
    }


def judged(values: dict[str, Any], facts: dict[str, Any], environ: dict[str, str]) -> list[judge.Finding]:
    """What is wrong with the run, errors first; the facts get them too."""
    found = judge.judge(values, facts, environ)
    facts["findings"] = [vars(one) for one in found]
    return found
