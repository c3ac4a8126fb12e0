"""Facts of a plan without a prediction: a run without problems except for a test's changes. And applied fixes."""

import dataclasses
import shlex
from pathlib import Path

import numpy as np

from tunetrail.config import check, overrides
from tunetrail.plan.estimate import architecture, cost, hardware, memory, packing, workload
from tunetrail.plan.facts import Devices, Evaluation, Facts, Memory, Model, Schedule, Time
from tunetrail.plan.rules import fit
from tunetrail.units import GIB

LLAMA_3_8B, _ = architecture.read(
    {"make": None, "base_model": "meta-llama/Meta-Llama-3-8B", "revision_of_model": ""}, Path()
)
_NO_ROWS = np.zeros(0, dtype=int)


def changed(facts, **changes):
    """Return the facts with other figures: `steps={"total": 27}`."""
    sections = {name: dataclasses.replace(getattr(facts, name), **figures) for name, figures in changes.items()}
    return dataclasses.replace(facts, **sections)


def facts(values, **changes):
    """Return facts of `values` with `changes`: eight MI300X train Llama 3 8B on alpaca-cleaned."""
    defaults = Facts(
        name=values["name"],
        device=Devices("mi300x", memory=192 * GIB, bf16=True, maker="AMD", count=8, origin="plan.device"),
        model=Model(
            base_model="",
            parameters=LLAMA_3_8B.parameters,
            trained=LLAMA_3_8B.parameters,
            max_position_embeddings=8192,
            origin="",
            shape=LLAMA_3_8B,
        ),
        data=workload.Workload(
            source="counted",
            why="",
            raw=51_760,
            left_out={},
            train=49_172,
            validation=2_588,
            kept=49_172,
            dropped=0,
            cut=0,
            lengths=_NO_ROWS,
            supervised=7_100_000,
            validation_lengths=_NO_ROWS,
            longest=650,
            p95=440,
            overlap=0,
            prompts=541,
            longest_prompt=385,
            contaminated=[],
            bos_trained=True,
            eos_supervised=True,
            tokens=9_500_000,
            mean=193.1,
            license=values["contract"]["license"],
        ),
        steps=packing.Steps(
            per_epoch=387,
            counted=1160,
            total=1160,
            fewest=1160,
            most=1160,
            packs=None,
            efficiency=1.0,
            blocks_per_step=fit.blocks(values["train"]),
            rows_per_step=127.0,
            tokens_per_step=24_500.0,
            slots_per_step=24_500,
            batches=1160.0,
        ),
        schedule=Schedule("cosine", warmup=35, asked=values["train"]["learning_rate"], peak=None, last=0.0),
        validation=packing.Validation(batches=20, slots=500_000, times=7),
        flops=cost.Flops(training=1.29e18, recomputed=0.0, validation=5.5e16),
        memory=Memory({}, total=75 * GIB, paged=0, evaluation=40 * GIB, row_in_evaluation=1665, capacity=192 * GIB),
        disk=cost.Disk(
            written=1, checkpoints=1, checkpoint=33 * GIB, model=15 * GIB, base=0.0, total=66 * GIB, free=900 * GIB
        ),
        evaluation=Evaluation(2 * 541, tokens_at_most=541 * 1280, expected_s=500.0, origin=""),
        time=Time(
            tokens_per_second=1.0,
            mfu=0.5,
            mfu_from="",
            kind=["mi300x", 8, 16, None, False, False],
            aside_s=0.0,
            training_s=3600.0,
            validation_s=60.0,
            evaluation_s=1000.0,
            hours=1.3,
            gpu_hours=10.4,
            price=None,
            cost=None,
        ),
    )
    return changed(defaults, **changes)


def judged(rule, composed, *words, **changes):
    """Return the rule's finding about the run of these overrides, with `changes` to its facts."""
    values = composed(*words)
    return rule(values, facts(values, **changes))


def on(values, name, count=1):
    """Return the facts of `values` on these devices, with the memory needed there; a CPU has 24 GiB."""
    device = hardware.cpu(24 * GIB, 2) if name == "cpu" else hardware.named(name)
    shape, _ = architecture.read(values["base"], Path())
    train = values["train"] | hardware.precision(values["train"], device.name, device.bf16)
    training = memory.training(shape, train, count)
    generating = memory.evaluation(shape, values["evaluate"], 1665, -(-541 // count))
    return facts(
        values,
        device={"name": name, "count": count, "bf16": device.bf16, "maker": device.maker},
        model={"parameters": shape.parameters, "shape": shape},
        memory={
            "parts": training.parts,
            "paged": training.paged,
            "total": training.needed,
            "evaluation": generating.needed,
            "capacity": device.memory,
        },
    )


def fixed(composed, known, finding, *words):
    """Return the values of the overrides `words` after the fix; assert that each key is known to its tool."""
    values = composed(*overrides.replace(list(words), shlex.split(finding.fix)))
    check.check(values, known)
    return values


def assert_one_finding_per_rule(rules, level, findings):
    """Assert that each rule has a finding of this level, with its own name as code and its own reason."""
    assert [finding.code for finding in findings] == [rule.__name__.upper() for rule in rules]
    assert {finding.level for finding in findings} == {level}
    assert len({finding.why for finding in findings}) == len(findings)
