"""Lengths of rows -> how full packs are, and how many optimiser steps, evaluations and checkpoints Axolotl makes of them.

Counted as Axolotl 0.19 counts (utils/trainer.py, utils/samplers/multipack.py, core/builders, its collators) and as the loop
of transformers 5.16 goes on. Axolotl shuffles by a seed that each process draws anew: packs, and steps that sit on an edge,
differ from run to run, so they are counted over several shuffles.

Not covered: streaming, pretraining and preference data, `batch_flattening`, and what `group_by_length` saves in padding.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

DRAWS = 8  # shuffles counted
# Axolotl's own, for keys that a config leaves out (axolotl.utils.schemas).
_DEFAULTS = {"num_epochs": 1.0, "sequence_len": 512, "micro_batch_size": 1, "gradient_accumulation_steps": 1}
_DEFAULTS |= {"sample_packing_bin_size": 200, "sample_packing_group_size": 100_000}
# Kernels, by name or older flag, that tell packed rows by their positions: Axolotl joins a micro-batch to one pack for them
# (axolotl.utils.schemas.enums: ATTN_IMPLS_SUPPORTING_PACKING, LEGACY_ATTN_FLAG_TO_IMPL).
_JOINING = {
    *("flash_attention_2", "flash_attention_3", "flash_attention_4", "flash_attention_torch", "flex_attention", "xformers"),
    *("sage", "kernels-community/flash-attn2", "kernels-community/flash-attn3", "kernels-community/sage-attention"),
    *("flash_attention", "sage_attention", "xformers_attention"),
}


@dataclass(frozen=True)
class Steps:
    """Optimiser steps, and what one of them holds on all GPUs together, on average over an epoch."""

    per_epoch: int  # until the trainer has seen every row; the last may hold fewer micro-batches
    counted: int  # by Axolotl for num_epochs, which leaves part steps out; the warm-up may be a share of it
    total: int  # taken: as counted, or max_steps, which goes on where the epochs hold fewer
    fewest: int  # total, were every shuffle the one with the fewest packs ...
    most: int  # ... or with the most
    packs: float | None  # an epoch; None without packing
    efficiency: float  # tokens of rows / tokens computed
    blocks_per_step: float  # rows of micro-batches on each GPU, packs where rows are packed
    rows_per_step: float
    tokens_per_step: float  # of rows, no padding
    slots_per_step: int  # tokens computed, padding too


@dataclass(frozen=True)
class Validation:
    """One evaluation, on all GPUs together: micro-batches, and tokens computed, padding too."""

    batches: int
    slots: int


def packs(lengths: np.ndarray, capacity: int, rows_at_most: int, group: int) -> np.ndarray:
    """Tokens in each pack, (packs,), in the order in which they were opened: each row goes into the first that has room.

    `lengths`: tokens of each row, (rows,). `capacity`: tokens a pack; a longer row, which Axolotl has dropped or cut by
    then, is a ValueError. Each `group` rows are packed apart from the others. Axolotl's `pack_group`.
    """
    if lengths.max(initial=0) > capacity:
        raise ValueError(f"a row of {lengths.max()} tokens is longer than a pack of {capacity}")
    groups = [tuple(lengths[start : start + group].tolist()) for start in range(0, len(lengths), group)]
    return np.array([filled for part in groups for filled in _first_fit(part, capacity, rows_at_most)], dtype=np.int64)


@lru_cache(maxsize=2 * DRAWS)  # a corrected run is usually packed as before
def _first_fit(lengths: tuple[int, ...], capacity: int, rows_at_most: int) -> tuple[int, ...]:
    """Down a tree whose nodes know the most room below them; a pack not yet opened has all of its room."""
    # Of the packs that are not closed by their rows, any two hold more than one capacity.
    bound = 2 * sum(lengths) // capacity + len(lengths) // rows_at_most + 2
    leaves = 1 << (min(bound, len(lengths)) - 1).bit_length()
    room, rows, tokens = [capacity] * (2 * leaves), [0] * leaves, [0] * leaves
    for length in lengths:
        node = 1
        while node < leaves:
            node *= 2
            node += room[node] < length
        pack = node - leaves
        rows[pack] += 1
        tokens[pack] += length
        room[node] = capacity - tokens[pack] if rows[pack] < rows_at_most else -1
        while node > 1:
            node //= 2
            most = max(room[2 * node], room[2 * node + 1])
            if room[node] == most:
                break
            room[node] = most
    return tuple(filled for filled in tokens if filled)


def _next_fit(lengths: list[int], capacity: int) -> list[int]:
    """Tokens in each pack where rows keep their order (`sample_packing_sequentially`): `allocate_sequentially`."""
    tokens = [0]
    for length in lengths:
        tokens[-1:] = [tokens[-1] + length] if tokens[-1] + length <= capacity else [tokens[-1], length]
    return tokens


def steps(train: dict[str, Any], lengths: np.ndarray, num_gpus: int) -> Steps:
    """`train`: an Axolotl config; `lengths`: tokens of each row trained on, (rows,). All 0 where a GPU gets no row."""
    train = _DEFAULTS | {key: value for key, value in train.items() if value is not None}
    micro, accumulation, ranks, batch = _sizes(train, num_gpus)
    packing, drop, rng = train.get("sample_packing"), bool(train.get("dataloader_drop_last")), np.random.default_rng(0)
    orders = [lengths] if train.get("curriculum_sampling") else [rng.permutation(lengths) for _ in range(DRAWS)]
    draws = [_packed(train, order) if packing else _padded(order, micro, ranks, drop) for order in orders]
    batches = [len(draw) for draw in draws]
    # Axolotl takes the fewest: of four draws on each of up to three GPUs, of one draw on each of more.
    least = min(batches[: num_gpus if num_gpus >= 4 else 4 * num_gpus])
    if not ranks or least < ranks:
        return Steps(0, 0, 0, 0, 0, 0.0 if packing else None, 0.0, 0.0, 0.0, 0.0, 0)
    per_epoch = math.ceil(least // ranks / accumulation)
    drawn = (least, min(batches), max(batches))
    counted, fewest, most = (_counted(train, lengths, count * micro // batch, batch) for count in drawn)
    # Where Axolotl counts none, the trainer counts by itself, and part steps too.
    taken = train.get("max_steps") or (0 if counted > 0 else math.ceil(train["num_epochs"] * per_epoch))
    tokens, slots = sum(int(draw.sum()) for draw in draws), sum(_slots(train, draw) for draw in draws)
    share = least // ranks * ranks / per_epoch / sum(batches)  # one step's, of all draws
    return Steps(
        per_epoch=per_epoch,
        counted=min(counted, train.get("max_steps") or counted),
        total=taken or counted,
        fewest=taken or fewest,
        most=taken or most,
        packs=float(np.mean([draw.size for draw in draws])) if packing else None,
        efficiency=tokens / slots,
        blocks_per_step=micro * (least // ranks) / per_epoch,
        rows_per_step=tokens * share / float(lengths.mean()),
        tokens_per_step=tokens * share,
        slots_per_step=round(slots * share),
    )


def _counted(train: dict[str, Any], lengths: np.ndarray, whole: int, batch: int) -> int:
    """Axolotl's `calculate_total_num_steps`; `whole`: steps that one epoch's packs fill, `batch`: its batch size."""
    epochs = train["num_epochs"]
    if not train.get("sample_packing"):
        return math.ceil(len(lengths) * epochs / batch)
    if estimate := train.get("sample_packing_eff_est"):
        return math.ceil((0.99 * int(lengths.sum()) / estimate / train["sequence_len"] // batch - 1) * epochs)
    return math.floor(max(1, whole) * epochs) - (math.ceil(epochs) if train.get("dataloader_drop_last") else 0)


def validation(train: dict[str, Any], lengths: np.ndarray, num_gpus: int) -> Validation:
    """`lengths`: tokens of each validation row, (rows,). Packs that do not reach every GPU are left out, as Axolotl does."""
    train = _DEFAULTS | {key: value for key, value in train.items() if value is not None}
    micro, _, ranks, _ = _sizes(train, num_gpus)
    if not ranks:
        return Validation(0, 0)
    if not (train.get("curriculum_sampling") or train.get("shuffle_merged_datasets") is False):
        lengths = np.random.default_rng(train.get("seed") or 0).permutation(lengths)  # as `datasets` does, once
    if train.get("sample_packing") and train.get("eval_sample_packing") is not False:
        found = _packed(train, lengths)  # by micro_batch_size, whatever eval_batch_size says
        found = found[: len(found) // ranks * ranks]
    else:
        drop = train.get("dataloader_drop_last")
        drop = bool(train.get("sample_packing")) if drop is None else drop  # core/builders/causal.py
        found = _padded(lengths, train.get("eval_batch_size") or micro, ranks, drop)
    return Validation(len(found), _slots(train, found))


def _sizes(train: dict[str, Any], num_gpus: int) -> tuple[int, int, int, int]:
    """Rows of a micro-batch, micro-batches of a step, GPUs that take rows of their own, and Axolotl's batch size."""
    micro, given = train["micro_batch_size"], train.get("batch_size")
    accumulation = train["gradient_accumulation_steps"] or given // micro
    ranks = num_gpus // (train.get("context_parallel_size") or 1) // (train.get("tensor_parallel_size") or 1)
    shared = train.get("ddp") is not False or train.get("fsdp") or train.get("fsdp_config")  # utils/config normalize_config
    return micro, accumulation, ranks, (given or micro * accumulation) * (ranks if shared else 1)


def _packed(train: dict[str, Any], lengths: np.ndarray) -> np.ndarray:
    """Tokens in each row of each whole micro-batch of packs: (micro-batches, rows)."""
    rows, capacity = train["micro_batch_size"], train["sequence_len"]
    kernel = (train.get("attn_implementation") or "").split(":")[0].split("@")[0]
    joining = not _JOINING.isdisjoint([kernel, *(key for key in train if train[key] is True)])
    if joining and not train.get("multipack_real_batches"):
        rows, capacity = 1, rows * capacity
    if train.get("sample_packing_sequentially"):
        filled = np.array(_next_fit(lengths.tolist(), capacity))
    else:
        filled = packs(lengths, capacity, train["sample_packing_bin_size"] or capacity, train["sample_packing_group_size"])
    return filled[: len(filled) // rows * rows].reshape(-1, rows)


def _padded(lengths: np.ndarray, rows: int, ranks: int, drop_last: bool) -> np.ndarray:
    """Tokens in each row of each micro-batch without packing: (micro-batches, rows), 0 where the last has no row."""
    size = rows * ranks
    if drop_last:
        lengths = lengths[: len(lengths) // size * size]
    elif ranks > 1:  # rows from the beginning, until each GPU has as many (accelerate's BatchSamplerShard)
        lengths = np.resize(lengths, -(-len(lengths) // size) * size)
    else:
        lengths = np.pad(lengths, (0, -len(lengths) % rows))
    return lengths.reshape(-1, rows)


def _slots(train: dict[str, Any], batches: np.ndarray) -> int:
    """Tokens computed for these micro-batches: each row as long as its micro-batch's longest, rounded up by the collator."""
    pad, multiple = train.get("pad_to_sequence_len"), train.get("pad_to_multiple_of") or 64
    if pad or (pad is None and train.get("sample_packing")):
        multiple *= math.ceil(train["sequence_len"] / multiple)
    elif pad is False:
        multiple = 1
    longest = -(-batches.max(axis=1, initial=0) // multiple) * multiple
    return int(((batches > 0).sum(axis=1) * longest).sum())


def evaluations(train: dict[str, Any], total: int, per_epoch: int | None = None) -> int:
    """Evaluations in `total` steps, and before the first; `Steps.per_epoch` counts the epochs that max_steps ends."""
    if not (train.get("test_datasets") or train.get("val_set_size")):
        return 0
    logged = train.get("logging_steps") or max(min(int(0.005 * total), 10), 1)
    times = _times(train, "eval", total, per_epoch, logged)
    return times + bool(times or train.get("eval_strategy"))


def saves(train: dict[str, Any], total: int, per_epoch: int | None = None) -> tuple[int, int]:
    """Checkpoints written in `total` steps, and how many are there at once at most, the one being written among them."""
    train = train | {"save_strategy": train.get("save_strategy") or "epoch"}
    written = _times(train, "save", total, per_epoch, 500)  # transformers' save_steps
    if train["save_strategy"] == "best" and not written:  # at most, if each evaluation is better than the one before
        written = max(evaluations(train, total, per_epoch) - 1, 0)
    written += bool(train.get("save_first_step")) and total > 1
    return written, min(written, max(train.get("save_total_limit") or 4, 1 + _keeps_best(train)) + 1)


def _times(train: dict[str, Any], what: str, total: int, per_epoch: int | None, otherwise: int) -> int:
    """How often in `total` steps; every `otherwise` steps where the config says `steps` and not how many."""
    every, strategy = _every(train, what), train.get(f"{what}_strategy")
    if every or strategy == "steps":
        every = every or otherwise
        return math.ceil(total / (math.ceil(total * every) if every < 1 else every)) if total else 0
    epochs = math.ceil(total / per_epoch) if per_epoch else math.ceil(train.get("num_epochs", 1.0))
    return epochs if strategy == "epoch" and total else 0


def _every(train: dict[str, Any], what: str) -> float | None:
    """`eval_steps` or `save_steps` as Axolotl sets it: steps, or a share of them all if below 1."""
    times = train.get(f"{what}s_per_epoch")
    share = 1.0 / (times * train.get("num_epochs", 1.0)) if times else 1.0
    return share if share < 1.0 else train.get(f"{what}_steps")


def _keeps_best(train: dict[str, Any]) -> bool:
    """Whether the best checkpoint stays beside the newest (core/builders/causal.py: load_best_model_at_end)."""
    save, evaluate = _every(train, "save"), _every(train, "eval")
    wanted = train.get("load_best_model_at_end", False) is not False or train.get("early_stopping_patience")
    validated = bool(train.get("test_datasets")) != bool(train.get("val_set_size"))
    best = wanted and validated and save and evaluate and save % evaluate == 0
    return bool(train.get("metric_for_best_model") or best)
