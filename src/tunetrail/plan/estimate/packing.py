"""Lengths of rows -> how full packs are, and how many optimiser steps Axolotl makes of them.

Counted as Axolotl 0.19 counts (utils/trainer.py, utils/samplers/multipack.py, core/builders, its collators) and as the
training loop of transformers 5.16. The rows of each epoch are in another order (`training.order`), which also depends on the
rows that Axolotl drops: the packs, and sometimes the steps, are counted over several shuffles.

Not counted: streaming, pretraining and preference data, `batch_flattening`, and what `group_by_length` saves in padding.
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
# Kernels, by name or older flag, that separate packed rows by position: for them Axolotl joins a micro-batch to one pack
# (axolotl.utils.schemas.enums: ATTN_IMPLS_SUPPORTING_PACKING, LEGACY_ATTN_FLAG_TO_IMPL).
_JOINING = {
    *("flash_attention_2", "flash_attention_3", "flash_attention_4", "flash_attention_torch", "flex_attention", "xformers"),
    *("sage", "kernels-community/flash-attn2", "kernels-community/flash-attn3", "kernels-community/sage-attention"),
    *("flash_attention", "sage_attention", "xformers_attention"),
}


@dataclass(frozen=True)
class Steps:
    """Optimiser steps, and what one of them has on all GPUs together, on average over an epoch."""

    per_epoch: int  # until the trainer has seen every row; the last may have fewer micro-batches
    counted: int  # by Axolotl for num_epochs, which leaves part steps out; the warm-up may be a share of it
    total: int  # taken: as counted, or max_steps, which continues beyond the epochs
    fewest: int  # total, if every shuffle were the one with the fewest packs ...
    most: int  # ... or with the most packs
    packs: float | None  # an epoch; None without packing
    efficiency: float  # tokens of rows / tokens computed
    blocks_per_step: float  # rows of micro-batches on each GPU, packs where rows are packed
    rows_per_step: float
    tokens_per_step: float  # of rows, no padding
    slots_per_step: int  # tokens computed, with padding
    batches: float  # micro-batches of the whole run, on each GPU


@dataclass(frozen=True)
class Validation:
    """`times` evaluations, each of `batches` micro-batches and `slots` computed tokens, padded, on all GPUs together."""

    batches: int
    slots: int
    times: int = 1


def packs(lengths: np.ndarray, capacity: int, rows_at_most: int, group: int) -> np.ndarray:
    """Return the tokens in each pack, (packs,), in the order in which packs are opened: a row goes into the first with room.

    `lengths`: tokens of each row, (rows,). `capacity`: tokens a pack. Each `group` rows are packed apart from the others, as
    by Axolotl's `pack_group`.

    Raises:
        ValueError: a row is longer than a pack; Axolotl has dropped or cut such rows before.
    """
    if lengths.max(initial=0) > capacity:
        raise ValueError(f"a row of {lengths.max()} tokens is longer than a pack of {capacity}")
    lengths = lengths.astype(np.int64)
    groups = [lengths[start : start + group] for start in range(0, len(lengths), group)]
    return np.concatenate([_first_fit(part.tobytes(), capacity, rows_at_most) for part in groups] or [lengths])


@lru_cache(maxsize=8 * DRAWS)  # a corrected run, and the jobs of a sweep, often pack the same rows
def _first_fit(row_lengths: bytes, capacity: int, rows_at_most: int) -> np.ndarray:
    """Return the tokens in each pack, found by descending a tree whose nodes have the most room of the packs below them. A
    pack that is not yet opened has all of its room.

    `row_lengths`: an array of int64 as bytes, which can be a key of the cache.
    """
    lengths = np.frombuffer(row_lengths, dtype=np.int64).tolist()
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
    return np.array([filled for filled in tokens if filled], dtype=np.int64)


def _next_fit(lengths: list[int], capacity: int) -> list[int]:
    """Return the tokens in each pack if rows keep their order: Axolotl's `allocate_sequentially`."""
    tokens = [0]
    for length in lengths:
        tokens[-1:] = [tokens[-1] + length] if tokens[-1] + length <= capacity else [tokens[-1], length]
    return tokens


def steps(train: dict[str, Any], lengths: np.ndarray, num_gpus: int) -> Steps:
    """Return the optimiser steps with the Axolotl config `train`; `lengths`: tokens of each row trained on, (rows,). All are
    0 if a GPU gets no row."""
    train = _DEFAULTS | {key: value for key, value in train.items() if value is not None}
    micro, accumulation, ranks, batch = _sizes(train, num_gpus)
    packing, drop, rng = train.get("sample_packing"), bool(train.get("dataloader_drop_last")), np.random.default_rng(0)
    orders = [lengths] if train.get("curriculum_sampling") else [rng.permutation(lengths) for _ in range(DRAWS)]
    draws = [_packed(train, order) if packing else _padded(order, micro, ranks, drop) for order in orders]
    batches = [len(draw) for draw in draws]
    # Axolotl takes the fewest: of four draws on each of up to three GPUs, of one draw on each of more.
    least = min(batches[: num_gpus if num_gpus >= 4 else 4 * num_gpus])
    if not ranks or least < ranks:
        return Steps(0, 0, 0, 0, 0, 0.0 if packing else None, 0.0, 0.0, 0.0, 0.0, 0, 0.0)
    per_epoch = math.ceil(least // ranks / accumulation)
    drawn = (least, min(batches), max(batches))
    counted, fewest, most = (_counted(train, lengths, count * micro // batch, batch) for count in drawn)
    # Where Axolotl counts none, the trainer counts by itself, and part steps too.
    taken = train.get("max_steps") or (0 if counted > 0 else math.ceil(train["num_epochs"] * per_epoch))
    tokens, slots = sum(int(draw.sum()) for draw in draws), sum(_slots(train, draw) for draw in draws)
    share = least // ranks * ranks / per_epoch / sum(batches)  # one step's, of all draws
    total, blocks = taken or counted, micro * (least // ranks) / per_epoch
    return Steps(
        per_epoch=per_epoch,
        counted=min(counted, train.get("max_steps") or counted),
        total=total,
        fewest=taken or fewest,
        most=taken or most,
        packs=float(np.mean([draw.size for draw in draws])) if packing else None,
        efficiency=tokens / slots,
        blocks_per_step=blocks,
        rows_per_step=tokens * share / float(lengths.mean()),
        tokens_per_step=tokens * share,
        slots_per_step=round(slots * share),
        batches=total * blocks / micro,
    )


def _counted(train: dict[str, Any], lengths: np.ndarray, whole_steps: int, batch: int) -> int:
    """Return Axolotl's `calculate_total_num_steps`; `whole_steps`: those that an epoch's packs fill."""
    epochs = train["num_epochs"]
    if not train.get("sample_packing"):
        return math.ceil(len(lengths) * epochs / batch)
    if estimate := train.get("sample_packing_eff_est"):
        return math.ceil((0.99 * int(lengths.sum()) / estimate / train["sequence_len"] // batch - 1) * epochs)
    return math.floor(max(1, whole_steps) * epochs) - (math.ceil(epochs) if train.get("dataloader_drop_last") else 0)


def validation(train: dict[str, Any], lengths: np.ndarray, num_gpus: int, times: int = 1) -> Validation:
    """Return the size of `times` evaluations of rows with `lengths` tokens, (rows,). As in Axolotl, packs that do not reach
    every GPU are left out."""
    train = _DEFAULTS | {key: value for key, value in train.items() if value is not None}
    micro, _, ranks, _ = _sizes(train, num_gpus)
    if not ranks:
        return Validation(0, 0, times)
    if not (train.get("curriculum_sampling") or train.get("shuffle_merged_datasets") is False):
        lengths = np.random.default_rng(train.get("seed") or 0).permutation(lengths)  # as `datasets` does, once
    if train.get("sample_packing") and train.get("eval_sample_packing") is not False:
        batches = _packed(train, lengths)  # by micro_batch_size, whatever eval_batch_size says
        batches = batches[: len(batches) // ranks * ranks]
    else:
        drop = train.get("dataloader_drop_last")
        drop = bool(train.get("sample_packing")) if drop is None else drop  # core/builders/causal.py
        batches = _padded(lengths, train.get("eval_batch_size") or micro, ranks, drop)
    return Validation(len(batches), _slots(train, batches), times)


def _sizes(train: dict[str, Any], num_gpus: int) -> tuple[int, int, int, int]:
    """Return rows a micro-batch, micro-batches a step, GPUs with rows of their own, and Axolotl's batch size."""
    micro, batch = train["micro_batch_size"], train.get("batch_size")
    accumulation = train["gradient_accumulation_steps"] or batch // micro
    ranks = num_gpus // (train.get("context_parallel_size") or 1) // (train.get("tensor_parallel_size") or 1)
    shared = train.get("ddp") is not False or train.get("fsdp") or train.get("fsdp_config")  # utils/config normalize_config
    return micro, accumulation, ranks, (batch or micro * accumulation) * (ranks if shared else 1)


def _packed(train: dict[str, Any], lengths: np.ndarray) -> np.ndarray:
    """Return the tokens in each row of each whole micro-batch of packs: (micro-batches, rows)."""
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
    """Return the tokens in each row of each micro-batch without packing: (micro-batches, rows), 0 for no row."""
    size = rows * ranks
    if drop_last:
        lengths = lengths[: len(lengths) // size * size]
    elif ranks > 1:  # rows from the beginning, until each GPU has as many (accelerate's BatchSamplerShard)
        lengths = np.resize(lengths, -(-len(lengths) // size) * size)
    else:
        lengths = np.pad(lengths, (0, -len(lengths) % rows))
    return lengths.reshape(-1, rows)


def _slots(train: dict[str, Any], batches: np.ndarray) -> int:
    """Return the tokens computed: each row as long as its micro-batch's longest, rounded up by the collator."""
    pad, multiple = train.get("pad_to_sequence_len"), train.get("pad_to_multiple_of") or 64
    if pad or (pad is None and train.get("sample_packing")):
        multiple *= math.ceil(train["sequence_len"] / multiple)
    elif pad is False:
        multiple = 1
    longest = -(-batches.max(axis=1, initial=0) // multiple) * multiple
    return int(((batches > 0).sum(axis=1) * longest).sum())
