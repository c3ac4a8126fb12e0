"""A plan's facts without a plan: a run with which nothing is wrong, but for what a test changes. And a mend, carried out."""

import shlex

from tunetrail import config

GIB = 2**30


def facts(values, **changes):
    """What `plan.facts.make` would say of `values`, as far as rules read it; `steps={"total": 27}` changes a figure."""
    found = {
        "name": values["name"],
        "device": {"name": "mi300x", "count": 8, "memory": 192 * GIB, "bf16": True, "from": "plan.device"},
        "model": {"base_model": "", "parameters": 8_030_261_248, "trained": 8_030_261_248, "max_position_embeddings": 8192},
        "data": {
            **{"source": "counted", "why": "", "raw": 51_760, "train": 49_172, "validation": 2_588, "kept": 49_172},
            **{"dropped": 0, "cut": 0, "tokens": 9_500_000, "supervised": 7_100_000, "longest": 650, "mean": 193.1},
            **{"overlap": 0, "prompts": 541, "contaminated": 0, "bos_trained": True, "eos_supervised": True},
            "license": values["contract"]["license"],
        },
        "steps": {"per_epoch": 387, "total": 1160, "rows_per_step": 127.0, "tokens_per_step": 24_500.0},
        "schedule": {
            "scheduler": "cosine",
            "warmup": 35,
            "asked": values["train"]["learning_rate"],
            "peak": None,
            "last": 0.0,
        },
        "flops": {"training": 1.29e18, "validation": 5.5e16, "recomputed": 0.0},
        "memory": {"parts": {}, "total": 75 * GIB, "paged": 0, "evaluation": 40 * GIB, "capacity": 192 * GIB, "fits": True},
        "disk": {"checkpoints": 1, "checkpoint": 33 * GIB, "model": 15 * GIB, "total": 66 * GIB, "free": 900 * GIB},
    }
    for section, figures in changes.items():
        found[section] = found[section] | figures
    return found


def retyped(finding, *words):
    """The command `words` with the mend at its end; a group's option takes the place of another of its group."""
    mend = shlex.split(finding.mend)
    groups = {word.partition("=")[0] for word in mend if "." not in word.partition("=")[0]}
    return [word for word in words if word.partition("=")[0] not in groups] + mend


def mended(composed, known, finding, *words):
    """The values of the command `words`, mended, each key of them known to its tool."""
    values = composed(*retyped(finding, *words))
    config.check(values, known)
    return values
