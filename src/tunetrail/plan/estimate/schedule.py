"""An Axolotl config and the number of steps -> the warm-up's length, and the learning rate at each optimiser step.

The schedulers of transformers 5.16 (optimization.py) and Axolotl 0.19's own (utils/schedulers.py,
core/trainers/mixins), as the trainer uses them: the first step of a warm-up is taken at a rate of 0. Not known here:
schedulers that go by the validation loss, jagged restarts, a plug-in's own and DeepSpeed's, and the rates of
`lr_groups` and `loraplus_lr_ratio`.
"""

import inspect
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tunetrail import UserError

Shares = np.ndarray  # of train.learning_rate, (steps,)


def warmup(train: dict[str, Any], total: int, counted: int | None = None) -> int:
    """Steps of warm-up (core/builders/base.py); 3 % and at most 100 where the config says nothing.

    `total`: steps that are taken. `counted`: `packing.Steps.counted`, where max_steps asks for more than the epochs hold.
    """
    counted = total if counted is None else counted
    steps, ratio = train.get("warmup_steps"), train.get("warmup_ratio")
    if steps is None and counted:
        steps = min(int(0.03 * counted), 100) if ratio is None else max(int(ratio * counted), 0)
    elif steps is None:
        steps = 0.03 if ratio is None else ratio
    steps = 2 if steps == 1 else steps  # Axolotl's own rule
    return int(steps) if steps >= 1 else math.ceil(steps * total)


def rates(train: dict[str, Any], total: int, counted: int | None = None) -> np.ndarray | None:
    """The learning rate at each optimiser step, (total,); None: a scheduler that is not known here. `counted`: see `warmup`.

    Raises:
        UserError: the scheduler does not take the lr_scheduler_kwargs, or needs some that are not there.
    """
    name, peak, steps = train.get("lr_scheduler") or "cosine", float(train["learning_rate"]), warmup(train, total, counted)
    least, given = train.get("cosine_min_lr_ratio"), dict(train.get("lr_scheduler_kwargs") or {})
    if train.get("jagged_restart_steps") or name not in _SHAPES:
        return None
    shape = _SHAPES[name]
    if name == "rex":
        given = {"least": least or 0.0}
    elif name == "cosine" and train.get("lr_quadratic_warmup"):
        shape, given = _cosine_after_quadratic_warmup, {}
    elif name == "cosine" and least:
        shape, given = _cosine_to_constant, {"least": least, "ends": train.get("cosine_constant_lr_ratio") or 1.0}
    elif name in ("constant", "constant_with_warmup"):
        given = {}  # ignored, as transformers does
    try:
        bound = inspect.signature(shape).bind(np.arange(total), steps, total, peak, **given)
    except TypeError as error:
        raise UserError(f"train.lr_scheduler_kwargs does not suit train.lr_scheduler={name}: {error}") from None
    return peak * shape(*bound.args, **bound.kwargs)


def _warming(at: np.ndarray, warmup: int, after: Shares) -> Shares:
    return np.where(at < warmup, at / max(1, warmup), after)


def _progress(at: np.ndarray, warmup: int, total: int) -> np.ndarray:
    """0 where the warm-up ends, 1 at the end."""
    return (at - warmup) / max(1, total - warmup)


def _wave(progress: np.ndarray, num_cycles: float = 0.5) -> Shares:
    return 0.5 * (1.0 + np.cos(2.0 * np.pi * num_cycles * progress))


def _constant(at: np.ndarray, warmup: int, total: int, peak: float) -> Shares:
    return np.ones(total)


def _constant_with_warmup(at: np.ndarray, warmup: int, total: int, peak: float) -> Shares:
    return _warming(at, warmup, np.ones(total))


def _linear(at: np.ndarray, warmup: int, total: int, peak: float) -> Shares:
    return _warming(at, warmup, 1.0 - _progress(at, warmup, total))


def _cosine(at: np.ndarray, warmup: int, total: int, peak: float, num_cycles: float = 0.5) -> Shares:
    return _warming(at, warmup, _wave(_progress(at, warmup, total), num_cycles))


def _cosine_after_quadratic_warmup(at: np.ndarray, warmup: int, total: int, peak: float) -> Shares:
    return np.where(at < warmup, (at / max(1, warmup)) ** 2, _wave(_progress(at, warmup, total)))


def _cosine_to_constant(at: np.ndarray, warmup: int, total: int, peak: float, least: float, ends: float) -> Shares:
    """Down to the share `least` where `ends` of the steps are taken, and on at that."""
    end = int(total * ends)
    return _warming(at, warmup, (1.0 - least) * _wave(_progress(np.minimum(at, end), warmup, end)) + least)


def _cosine_with_restarts(at: np.ndarray, warmup: int, total: int, peak: float, num_cycles: int = 1) -> Shares:
    return _warming(at, warmup, _wave(num_cycles * _progress(at, warmup, total) % 1.0))


def _cosine_with_min_lr(
    at: np.ndarray,
    warmup: int,
    total: int,
    peak: float,
    num_cycles: float = 0.5,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
) -> Shares:
    least = _least(peak, min_lr, min_lr_rate)
    return _warming(at, warmup, np.maximum(0, _wave(_progress(at, warmup, total), num_cycles) * (1 - least) + least))


def _cosine_warmup_with_min_lr(
    at: np.ndarray,
    warmup: int,
    total: int,
    peak: float,
    num_cycles: float = 0.5,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
    warmup_lr_rate: float | None = None,
) -> Shares:
    """The cosine that begins above 0 and reaches its end a step sooner."""
    least = _least(peak, min_lr, min_lr_rate)
    up = (at + 1.0) / max(1.0, warmup)
    if warmup_lr_rate is not None:
        up = warmup_lr_rate + (1.0 - warmup_lr_rate) * at / max(1, warmup - 1)
    down = _wave(_progress(at + 1, warmup, total), num_cycles) * (1 - least) + least
    return np.where(at < warmup, up, np.maximum(0, down))


def _least(peak: float, min_lr: float | None, min_lr_rate: float | None) -> float:
    """The lowest rate as a share of the peak."""
    if (min_lr is None) == (min_lr_rate is None):
        raise UserError("train.lr_scheduler_kwargs needs one of min_lr and min_lr_rate for a cosine that ends above 0")
    return min_lr_rate if min_lr is None else min_lr / peak


def _polynomial(at: np.ndarray, warmup: int, total: int, peak: float, lr_end: float = 1e-7, power: float = 1.0) -> Shares:
    left = np.clip(1.0 - _progress(at, warmup, total), 0.0, 1.0)
    return _warming(at, warmup, ((peak - lr_end) * left**power + lr_end) / peak)


def _inverse_sqrt(at: np.ndarray, warmup: int, total: int, peak: float, timescale: int | None = None) -> Shares:
    timescale = (warmup or 10_000) if timescale is None else timescale
    return _warming(at, warmup, 1.0 / np.sqrt(np.maximum(at - warmup, 0) / timescale + 1.0))


def _warmup_stable_decay(
    at: np.ndarray,
    warmup: int,
    total: int,
    peak: float,
    num_decay_steps: int,
    num_stable_steps: int | None = None,
    warmup_type: str = "linear",
    decay_type: str = "cosine",
    min_lr_ratio: float = 0.0,
    num_cycles: float = 0.5,
) -> Shares:
    stable = total - warmup - num_decay_steps if num_stable_steps is None else num_stable_steps
    up = np.clip(at / max(1, warmup), 0.0, 1.0)
    down = np.clip((at - warmup - stable) / max(1, num_decay_steps), 0.0, 1.0)
    rises = {"linear": up, "cosine": 0.5 * (1.0 - np.cos(np.pi * up)), "1-sqrt": 1.0 - np.sqrt(1.0 - up)}
    falls = {"linear": 1.0 - down, "cosine": _wave(down, num_cycles), "1-sqrt": 1.0 - np.sqrt(down)}
    for name, value, known in (("warmup_type", warmup_type, rises), ("decay_type", decay_type, falls)):
        if value not in known:
            raise UserError(f"train.lr_scheduler_kwargs.{name}={value}: transformers knows {', '.join(known)}")
    ends = warmup + stable + num_decay_steps
    phases = [at < warmup, at < warmup + stable, at < ends]
    shares = [rises[warmup_type] * (1 - min_lr_ratio) + min_lr_ratio, np.ones(total)]
    shares.append(falls[decay_type] * (1 - min_lr_ratio) + min_lr_ratio)
    return np.maximum(0.0, np.select(phases, shares, min_lr_ratio))


def _rex(at: np.ndarray, warmup: int, total: int, peak: float, least: float) -> Shares:
    """Reflected exponential (arXiv:2107.04197), down to the share `least`; Axolotl's is a step ahead of the others."""
    left = np.clip(1.0 - _progress(at + 1, warmup, total), 0.0, 1.0)
    down = least + (1.0 - least) * left / (0.1 + 0.9 * left)
    return np.where(at < warmup, (at + 1) / max(1, warmup), down)


def _one_cycle(
    at: np.ndarray,
    warmup: int,
    total: int,
    peak: float,
    pct_start: float | None = None,
    anneal_strategy: str = "cos",
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    three_phase: bool = False,
    **momentum: Any,
) -> Shares:
    """torch.optim.lr_scheduler.OneCycleLR: up from 1 / div_factor and down to a final_div_factor'th of that."""
    top = (warmup if pct_start is None else pct_start * total) - 1
    first, last = 1.0 / div_factor, 1.0 / div_factor / final_div_factor
    corners = [(0.0, first), (top, 1.0), (2 * top, first), (total - 1.0, last)]
    corners = corners if three_phase else [*corners[:2], corners[3]]
    found = np.full(total, last)
    for (start, begins), (end, ends) in reversed(list(itertools.pairwise(corners))):
        part = np.clip((at - start) / max(end - start, 1e-12), 0.0, 1.0)
        way = part if anneal_strategy == "linear" else 0.5 * (1.0 - np.cos(np.pi * part))
        found = np.where(at <= end, begins + (ends - begins) * way, found)
    return found


_SHAPES: dict[str, Callable[..., Shares]] = {
    "linear": _linear,
    "cosine": _cosine,
    "cosine_with_restarts": _cosine_with_restarts,
    "constant": _constant,
    "constant_with_warmup": _constant_with_warmup,
    "polynomial": _polynomial,
    "inverse_sqrt": _inverse_sqrt,
    "cosine_with_min_lr": _cosine_with_min_lr,
    "cosine_warmup_with_min_lr": _cosine_warmup_with_min_lr,
    "warmup_stable_decay": _warmup_stable_decay,
    "rex": _rex,
    "one_cycle": _one_cycle,
}
