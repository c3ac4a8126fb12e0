"""The composed values -> the rows and prompts of the run, and how many tokens Axolotl makes of them.

Counted where data and tokenizer are here; else estimated by the bytes of the texts, or by what recorded/ tells of them.
Nothing is fetched, and nothing is read that a stage has left. Not covered: other rows than `prepare`'s, PoSE, shards.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tunetrail import UserError
from tunetrail.data import hub, records, template, world
from tunetrail.data.records import Row
from tunetrail.plan.estimate import known, tokenizer

_SOURCES = ("counted", "estimated", "recorded")  # the surest first
_BATCH = 1000  # texts whose token ids are held at once
_PREPARED = "data/prepared/train.jsonl"
_FORM = {"field_instruction", "field_input", "field_output", "format", "no_input_format"}


@dataclass(frozen=True)
class Workload:
    """Rows, and their lengths in tokens with template, BOS and EOS; None is what could not be known.

    `source` is that of the least sure figure; `why` says what was not at hand and what stands in its place.
    """

    source: str  # "counted", "estimated" or "recorded"
    why: str  # "" when counted
    raw: int  # rows in the file
    left_out: dict[str, int]  # fields of theirs that are not read, and in how many rows they hold something
    train: int  # rows to train on
    validation: int
    kept: int  # of the rows to train on, after sequence_len, excess_length_strategy, min_sample_len, no supervised token
    dropped: int
    cut: int  # of the kept rows
    lengths: np.ndarray  # (kept,)
    supervised: int  # tokens under the loss in an epoch
    validation_lengths: np.ndarray  # of the validation rows that are kept
    longest: int  # of the rows to train on, before any is dropped or cut
    p95: int  # what 95 % of these rows do not exceed
    overlap: int | None  # validation rows whose question is also trained on
    prompts: int  # that an evaluation asks
    longest_prompt: int  # tokens
    contaminated: list[str] | None  # of these prompts, those that a row to train on asks word for word
    bos_trained: bool | None  # the tokenizer puts BOS before a text
    eos_supervised: bool | None  # every kept row that is not cut ends with EOS under the loss


@dataclass(frozen=True)
class _Rows:
    raw: int
    left_out: dict[str, int]
    train: list[Row]
    validation: list[Row]
    record: dict[str, Any] | None  # what stands for rows that are not here


def read(values: dict[str, Any], root: Path) -> Workload:
    """The workload of the experiment `values` (what params.yaml would hold), whose paths start at `root`.

    Raises:
        UserError: data that are neither at hand nor on record, or are not what they should be, or hold a row that
            `excess_length_strategy: raise` does not let pass.
    """
    train, evaluate = values["train"], values["evaluate"]
    rows, prompts = _rows(values["prepare"], root), _prompts(values, root)
    texts = _texts(values, rows.train) if values["base"]["make"] and not rows.record else None
    encoder = tokenizer.find(values["base"], train, texts, root)
    notes = _notes(values, rows, prompts is not None, encoder is not None)
    source = max((source for source, _ in notes), key=_SOURCES.index, default="counted")
    sizes, held_out = (_sizes(part, rows.record, encoder, values) for part in (rows.train, rows.validation))
    longest, sequence_len = int(sizes.sum(axis=0).max()), train["sequence_len"]
    if train.get("excess_length_strategy") == "raise" and longest > sequence_len and encoder and not rows.record:
        raise UserError(
            f"train.excess_length_strategy=raise, and a row has {longest} tokens, more than train.sequence_len="
            f"{sequence_len}: Axolotl would stop there. Raise the length, or drop or truncate longer rows."
        )
    bos = encoder is None or encoder.puts_bos
    lengths, supervised, cut = _kept(sizes, train, sequence_len, train.get("sample_packing"), bos)
    packed = train.get("sample_packing" if train.get("eval_sample_packing") is None else "eval_sample_packing")
    validation_lengths, _, _ = _kept(held_out, train, train.get("eval_sequence_len") or sequence_len, packed, bos)
    trained = set(() if rows.record else map(records.question, rows.train))  # numbers, in place of rows, ask nothing
    if prompts is None:
        recorded = known.of(evaluate["hub"])
        asked, longest_prompt, contaminated = _limited(recorded["prompts"], evaluate), recorded["longest_prompt"], None
    else:
        prompts = prompts[: _limited(len(prompts), evaluate)]
        filled = [template.prompt(evaluate["template"], prompt) for prompt in prompts]
        asked, longest_prompt = len(prompts), int(_tokens(filled, "prompt", encoder).max())
        contaminated = [prompt for prompt in prompts if records.question({"instruction": prompt}) in trained]
    return Workload(
        source=source,
        why="; ".join(why for _, why in notes),
        raw=rows.raw,
        left_out=rows.left_out,
        train=len(rows.train),
        validation=len(rows.validation),
        kept=len(lengths),
        dropped=len(rows.train) - len(lengths),
        cut=int(cut.sum()),
        lengths=lengths,
        supervised=int(supervised.sum()),
        validation_lengths=validation_lengths,
        longest=longest,
        p95=math.ceil(np.quantile(sizes.sum(axis=0), 0.95)),
        overlap=None if rows.record else sum(records.question(row) in trained for row in rows.validation),
        prompts=asked,
        longest_prompt=longest_prompt,
        contaminated=None if rows.record else contaminated,
        bos_trained=encoder and encoder.puts_bos,
        eos_supervised=encoder and encoder.eos_token_id is not None,
    )


def _rows(prepare: dict[str, Any], root: Path) -> _Rows:
    """What the stages `fetch` and `prepare` would make; rows that are not here are drawn by their numbers alone."""
    record, left_out = None, {}
    file = hub.cached(**prepare["hub"], repo_type="dataset") if prepare["hub"] else root / prepare["path"]
    if sizes := prepare["generate"]:
        rows = list(world.instruction_rows(sizes["seed"], sizes["rows"]))
        raw = len(rows)
    elif file:
        found = records.read(file, prepare.get("field"), "prepare.field")
        rows, raw, left_out = records.instructions(file, found, prepare["empty"]), len(found), records.left_out(found)
    else:
        record = known.of(prepare["hub"])
        raw = record["rows"]
        rows = [{"instruction": str(number)} for number in range(raw)]
    train, validation = records.split(rows, prepare["take"], prepare["validation_rows"], prepare["seed"])
    return _Rows(raw, left_out, train, validation, record)


def _prompts(values: dict[str, Any], root: Path) -> list[str] | None:
    evaluate = values["evaluate"]
    if evaluate["path"] == world.SOURCE:
        sizes = values["prepare"]["generate"]
        return [row["prompt"] for row in world.evaluation_prompts(sizes["seed"], sizes["prompts"])]
    file = hub.cached(**evaluate["hub"], repo_type="dataset") if evaluate["hub"] else root / evaluate["path"]
    return file and [row["prompt"] for row in records.read_prompts(file)]


def _limited(prompts: int, evaluate: dict[str, Any]) -> int:
    """How many of them lm-eval asks: `limit` is a number, or below 1 a share (lm_eval/evaluator_utils.py)."""
    limit = evaluate.get("limit")
    if limit is None:
        return prompts
    return min(prompts, math.ceil(prompts * limit) if limit < 1 else int(limit))


def _texts(values: dict[str, Any], rows: list[Row]) -> list[str]:
    """What the stage `base` trains a tokenizer on, in that order."""
    sizes, form = values["prepare"]["generate"], values["base"]["template"]
    prose = world.plain_text(sizes["seed"], sizes["documents"]) if sizes else ({"text": row["output"]} for row in rows)
    prompts = [template.prompt(form, row["instruction"], row["input"]) + row["output"] for row in rows]
    return [row["text"] for row in prose] + prompts


def _notes(values: dict[str, Any], rows: _Rows, prompts: bool, encoder: bool) -> list[tuple[str, str]]:
    """Of each thing that is not at hand: what it makes of `source`, and what stands in its place."""
    notes = []
    if rows.record:
        place = values["prepare"]["hub"]["repo_id"]
        notes.append(
            ("recorded", f"{place} is not in the hub's cache: recorded lengths in Llama 3's tokens stand for its rows")
        )
    elif not encoder:
        place = tokenizer.name(values["train"])
        notes.append(("estimated", f"no tokenizer of {place} is here: bytes are taken for as many tokens as Llama 3's"))
    if not _form(values["train"]):
        notes.append(("estimated", "train.datasets has other rows than prepare leaves: these stand for them"))
    if not prompts:
        place = values["evaluate"]["hub"]["repo_id"]
        notes.append(("recorded", f"{place} is not in the hub's cache: a recorded number and mean stand for its prompts"))
    return notes


def _form(train: dict[str, Any]) -> dict[str, str] | None:
    """The template by which `train` reads the rows that prepare leaves; None where it reads something else."""
    sets = train.get("datasets") or []
    kind = sets[0].get("type") if len(sets) == 1 and sets[0].get("path") == _PREPARED else None
    if not isinstance(kind, dict) or kind.keys() != _FORM or None in kind.values():
        return None
    return {"with_input": kind["format"], "without_input": kind["no_input_format"]}


def _sizes(
    rows: list[Row], record: dict[str, Any] | None, encoder: tokenizer.Tokenizer | None, values: dict[str, Any]
) -> np.ndarray:
    """Tokens of each row's prompt and of its answer, shape (2, rows)."""
    if record:
        return known.lengths(record, len(rows))
    if values["train"].get("dataset_exact_deduplication"):
        rows = list({tuple(row.values()): row for row in rows}.values())
    form = _form(values["train"]) or values["template"]
    prompts = [template.prompt(form, row["instruction"], row["input"]) for row in rows]
    return np.array([_tokens(prompts, "prompt", encoder), _tokens([row["output"] for row in rows], "answer", encoder)])


def _tokens(texts: list[str], kind: str, encoder: tokenizer.Tokenizer | None) -> np.ndarray:
    """Tokens of each text as a prompt or, without BOS and with EOS, as an "answer"."""
    if not encoder:
        rate = known.bytes_per_token(kind)
        return np.rint([len(text.encode()) / rate for text in texts]).astype(int).clip(min=1)
    ids = template.answer_ids if kind == "answer" else template.token_ids
    batches = (texts[start : start + _BATCH] for start in range(0, len(texts), _BATCH))
    return np.array([len(found) for batch in batches for found in ids(encoder, batch)])


def _kept(sizes: np.ndarray, train: dict[str, Any], longest: int, packed: bool | None, bos: bool) -> tuple[np.ndarray, ...]:
    """Of each row that Axolotl keeps: its tokens, those under the loss, and whether it is cut.

    Prompt and answer are each cut at sequence_len (axolotl/prompt_tokenizers.py), then rows are dropped or cut by `longest`
    (utils/data/utils.py), and those that supervise nothing are dropped where rows are packed (utils/trainer.py).
    """
    prompt, answer = np.minimum(sizes, [[train["sequence_len"]], [train["sequence_len"] - bos]])
    tokens = np.minimum(prompt + answer, longest)
    supervised = tokens if train.get("train_on_inputs") else (tokens - prompt).clip(min=0)
    kept = prompt + answer >= (train.get("min_sample_len") or 2)
    if train.get("excess_length_strategy") != "truncate":
        kept &= prompt + answer <= longest
    if packed:
        kept &= supervised > 0
    return tokens[kept], supervised[kept], (tokens < sizes.sum(axis=0))[kept]
