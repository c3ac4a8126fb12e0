"""A plan's facts without a plan: a run with which nothing is wrong, but for what a test changes. And a fix, carried out."""

import dataclasses
import shlex
from pathlib import Path

from tunetrail.config import check, overrides
from tunetrail.plan.estimate import architecture, hardware, memory
from tunetrail.plan.rules import fit
from tunetrail.units import GIB

LLAMA_3_8B, _ = architecture.read(
    {"make": None, "base_model": "meta-llama/Meta-Llama-3-8B", "revision_of_model": ""}, Path()
)


def facts(values, **changes):
    """What `plan.facts.make` would say of `values`, as far as rules read it; `steps={"total": 27}` changes a figure."""
    found = {
        "name": values["name"],
        "device": {"name": "mi300x", "count": 8, "memory": 192 * GIB, "bf16": True, "maker": "AMD", "from": "plan.device"},
        "model": {
            **{"base_model": "", "parameters": LLAMA_3_8B.parameters, "trained": LLAMA_3_8B.parameters},
            **{"max_position_embeddings": 8192, "shape": dataclasses.asdict(LLAMA_3_8B)},
        },
        "data": {
            **{"source": "counted", "why": "", "raw": 51_760, "train": 49_172, "validation": 2_588, "kept": 49_172},
            **{"dropped": 0, "cut": 0, "tokens": 9_500_000, "supervised": 7_100_000, "longest": 650, "p95": 440},
            **{"mean": 193.1, "overlap": 0, "prompts": 541, "contaminated": [], "bos_trained": True, "eos_supervised": True},
            "license": values["contract"]["license"],
        },
        "steps": {
            **{"per_epoch": 387, "total": 1160, "rows_per_step": 127.0, "tokens_per_step": 24_500.0},
            "blocks_per_step": fit.blocks(values["train"]),
        },
        "validation": {"times": 7, "batches": 20, "slots": 500_000},
        "schedule": {
            "scheduler": "cosine",
            "warmup": 35,
            "asked": values["train"]["learning_rate"],
            "peak": None,
            "last": 0.0,
        },
        "flops": {"training": 1.29e18, "validation": 5.5e16, "recomputed": 0.0},
        "memory": {
            **{"parts": {}, "total": 75 * GIB, "paged": 0, "evaluation": 40 * GIB, "row_in_evaluation": 1665},
            **{"capacity": 192 * GIB, "fits": True},
        },
        "disk": {
            **{"checkpoints": 1, "checkpoint": 33 * GIB, "model": 15 * GIB, "base": 0.0},
            **{"total": 66 * GIB, "free": 900 * GIB},
        },
    }
    for section, figures in changes.items():
        found[section] = found[section] | figures
    return found


def said(rule, composed, *words, **changes):
    """What the rule finds in the run of these words, were its facts `facts` with these changes."""
    values = composed(*words)
    return rule(values, facts(values, **changes))


def on(values, name, count=1):
    """The facts of `values` on these devices, with the memory that they need there; a CPU has 24 GiB."""
    device = hardware.cpu(24 * GIB, 2) if name == "cpu" else hardware.named(name)
    shape, _ = architecture.read(values["base"], Path())
    train = fit.with_supported_precision(values["train"], device.name, device.bf16)
    parts = memory.training(shape, train, count)
    generating = memory.needed(memory.evaluation(shape, values["evaluate"], 1665, -(-541 // count)))
    fits = max(memory.needed(parts), generating) <= device.memory
    found = {
        "parts": parts,
        "total": memory.needed(parts),
        "evaluation": generating,
        "capacity": device.memory,
        "fits": fits,
    }
    model = {"parameters": shape.parameters, "shape": dataclasses.asdict(shape)}
    return facts(
        values, device={"name": name, "count": count, "bf16": device.bf16, "maker": device.maker}, model=model, memory=found
    )


def fixed(composed, known, finding, *words):
    """The values of the command `words`, fixed, each key of them known to its tool."""
    values = composed(*overrides.replace(list(words), shlex.split(finding.fix)))
    check.check(values, known)
    return values


def each_of_its_own(rules, level, found):
    """Each rule has found something of this level, under its own name and with a why of its own."""
    assert [one.code for one in found] == [rule.__name__.upper() for rule in rules]
    assert {one.level for one in found} == {level}
    assert len({one.why for one in found}) == len(found)
