"""What a plan predicts of a run, as data classes; `Facts.to_dict` has the same as plain data, for JSON.

Bytes, seconds, FLOP and tokens; shares lie between 0 and 1. `origin` says where a figure comes from.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunetrail.plan.estimate.architecture import Architecture
from tunetrail.plan.estimate.cost import Disk, Flops
from tunetrail.plan.estimate.packing import Steps, Validation
from tunetrail.plan.estimate.workload import Workload


@dataclass(frozen=True)
class Devices:
    """`count` devices of one kind; `memory`: bytes of each. `origin`: "plan.device", "this machine", or another reason."""

    name: str
    memory: int
    bf16: bool
    maker: str
    count: int
    origin: str


@dataclass(frozen=True)
class Model:
    """`parameters` and `trained` are numbers of weights; `max_position_embeddings` is in tokens."""

    base_model: str
    parameters: int
    trained: int
    max_position_embeddings: int
    origin: str
    shape: Architecture


@dataclass(frozen=True)
class Schedule:
    """`warmup` in steps; the learning rate that is `asked` for, and the highest and the last that are reached, if known."""

    scheduler: str
    warmup: int
    asked: float
    peak: float | None
    last: float | None


@dataclass(frozen=True)
class Memory:
    """Bytes on each device.

    `parts`: those of training's peak, by name. `paged`: optimiser states that may move to the host's memory, and are not in
    the other figures. `total` and `evaluation` are the peaks of training and of generating answers.
    `row_in_evaluation`: tokens of the longest prompt and its answer.
    """

    parts: dict[str, float]
    total: float
    paged: float
    evaluation: float
    row_in_evaluation: int
    capacity: int

    @property
    def fits(self) -> bool:
        return max(self.total, self.evaluation) <= self.capacity


@dataclass(frozen=True)
class Evaluation:
    """`generations` is the number of answers in both evaluations; `tokens_at_most` and `expected_s` (seconds) are of one."""

    generations: int
    tokens_at_most: int
    expected_s: float
    origin: str


@dataclass(frozen=True)
class Time:
    """Seconds of training, of its validations and of both evaluations, and what they cost.

    `mfu`: the share of the devices' peak FLOP/s that training reaches, by `mfu_from`. `kind`: see `measured.kind`.
    `aside_s`: the part of `training_s` that does not grow with the tokens of a micro-batch. `price`: of a GPU-hour.
    """

    tokens_per_second: float
    mfu: float
    mfu_from: str
    kind: list[Any]
    aside_s: float
    training_s: float
    validation_s: float
    evaluation_s: float
    hours: float
    gpu_hours: float
    price: float | None
    cost: float | None


@dataclass(frozen=True)
class Facts:
    """All that is predicted of one run."""

    name: str
    device: Devices
    model: Model
    data: Workload
    steps: Steps
    schedule: Schedule
    validation: Validation
    flops: Flops
    memory: Memory
    disk: Disk
    evaluation: Evaluation
    time: Time

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, without arrays. `origin` is called `from` there, which Python reserves."""
        plain = dataclasses.asdict(self, dict_factory=_named)
        plain["memory"]["fits"] = self.memory.fits
        if self.memory.paged:
            plain["memory"]["parts"]["optimiser (paged)"] = self.memory.paged
        return plain


def _named(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    return {"from" if name == "origin" else name: value for name, value in fields if not isinstance(value, np.ndarray)}
