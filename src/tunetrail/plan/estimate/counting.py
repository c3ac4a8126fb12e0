"""The composed values -> the rows and prompts of the run, and their tokens as Axolotl counts them.

Counted if the data and the tokenizer are on this machine; else estimated from the bytes of the texts, or from recorded/.
Nothing is fetched, and no output of a stage is read.
"""

import functools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tunetrail.data import hub, records, template, world
from tunetrail.data.records import Row
from tunetrail.plan.estimate import architecture, known
from tunetrail.training import tokenizer

_SOURCES = ("counted", "estimated", "recorded")  # the most certain first
_BATCH = 1000  # texts that are tokenised at once
# Keys of the Axolotl config that the counts of rows and of their tokens depend on.
_COUNTED_KEYS = ("base_model", "tokenizer_config", "special_tokens", "tokens", "datasets", "dataset_exact_deduplication")
_PREPARED = "data/prepared/train.jsonl"
_FORM = {"field_instruction", "field_input", "field_output", "format", "no_input_format"}


@dataclass(frozen=True)
class _Rows:
    raw: int
    left_out: dict[str, int]
    train: list[Row]
    validation: list[Row]
    record: dict[str, Any] | None  # of rows that are not on this machine


@dataclass(frozen=True)
class Counted:
    """The counts that do not depend on how long a sequence may be.

    `sizes` and `validation_sizes`: tokens of each row's prompt and of its answer, shape (2, rows).
    """

    sizes: np.ndarray
    validation_sizes: np.ndarray
    bos: bool  # before each prompt
    exact: bool  # counted with the tokenizer, of rows that are on this machine
    fields: dict[str, Any]  # of `Workload`


def count(values: dict[str, Any], root: Path) -> Counted:
    """Return the counts of the composed `values`, whose paths start at `root`.

    Raises:
        NotKnown: the data are neither on this machine nor recorded.
        UserError: the data are invalid.
    """
    generated = _generated(values)
    return _count_generated(json.dumps(generated)) if generated else _count(values, root)


def _generated(values: dict[str, Any]) -> dict[str, Any] | None:
    """Return the values on which the counts depend, if all data and the tokenizer are generated; None if files are read."""
    base, train = values["base"], values["train"]
    if not (base["make"] and values["prepare"]["generate"] and values["evaluate"]["path"] == world.SOURCE):
        return None
    if tokenizer.name(train) != base["base_model"]:
        return None
    sections = {name: values[name] for name in ("prepare", "base", "template", "evaluate")}
    return sections | {"train": {key: train.get(key) for key in _COUNTED_KEYS}}


@functools.lru_cache(maxsize=4)  # takes seconds; a corrected run and the jobs of a sweep share a result
def _count_generated(values: str) -> Counted:
    return _count(json.loads(values), Path())


def _count(values: dict[str, Any], root: Path) -> Counted:
    evaluate = values["evaluate"]
    rows, prompts = _rows(values["prepare"], root), _prompts(values, root)
    texts = _texts(values, rows.train) if values["base"]["make"] and not rows.record else None
    encoder = tokenizer.find(values["base"], values["train"], texts, root)
    notes = _notes(values, rows, prompts is not None, encoder is not None)
    sizes, validation_sizes = (_sizes(part, rows.record, encoder, values) for part in (rows.train, rows.validation))
    trained = set(() if rows.record else map(records.question, rows.train))  # recorded rows have no text
    if prompts is None:
        recorded = known.find(evaluate["hub"])
        asked, longest_prompt, contaminated = _limited(recorded["prompts"], evaluate), recorded["longest_prompt"], None
    else:
        prompts = prompts[: _limited(len(prompts), evaluate)]
        filled = [template.prompt(evaluate["template"], prompt) for prompt in prompts]
        asked, longest_prompt = len(prompts), int(_tokens(filled, "prompt", encoder).max())
        contaminated = [prompt for prompt in prompts if records.question({"instruction": prompt}) in trained]
    fields = {
        "source": max((source for source, _ in notes), key=_SOURCES.index, default="counted"),
        "why": "; ".join(why for _, why in notes),
        "raw": rows.raw,
        "left_out": rows.left_out,
        "train": len(rows.train),
        "validation": len(rows.validation),
        "longest": int(sizes.sum(axis=0).max()),
        "p95": math.ceil(np.quantile(sizes.sum(axis=0), 0.95)),
        "overlap": None if rows.record else sum(records.question(row) in trained for row in rows.validation),
        "prompts": asked,
        "longest_prompt": longest_prompt,
        "contaminated": None if rows.record else contaminated,
        "bos_trained": encoder.puts_bos if encoder else architecture.puts_bos(values["base"]["base_model"]),
        "eos_supervised": encoder and encoder.eos_token_id is not None,
        "license": values["prepare"]["license"],
    }
    exact = encoder is not None and not rows.record
    return Counted(sizes, validation_sizes, encoder is None or encoder.puts_bos, exact, fields)


def _rows(prepare: dict[str, Any], root: Path) -> _Rows:
    """Return the rows that the stages `fetch` and `prepare` would make. Of recorded rows only the numbers are known."""
    left_out = {}
    file = hub.cached(**prepare["hub"], repo_type="dataset") if prepare["hub"] else root / prepare["path"]
    if sizes := prepare["generate"]:
        rows = list(world.instruction_rows(sizes["seed"], sizes["rows"]))
        raw = len(rows)
    elif file:
        read = records.read(file, prepare.get("field"), "prepare.field")
        rows, raw, left_out = records.instructions(file, read, prepare["empty"]), len(read), records.left_out(read)
    else:
        record = known.find(prepare["hub"])
        parts = _recorded_split(record["rows"], prepare["take"], prepare["validation_rows"], prepare["seed"])
        return _Rows(record["rows"], left_out, *parts, record)
    train, validation = records.split(rows, prepare["take"], prepare["validation_rows"], prepare["seed"])
    return _Rows(raw, left_out, train, validation, None)


@functools.lru_cache(maxsize=8)  # takes a second; a corrected run and the jobs of a sweep share a result
def _recorded_split(rows: int, take: int | None, held_out: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Return a split of rows of which nothing is known except that no two have the same question."""
    return records.split([{"instruction": str(number)} for number in range(rows)], take, held_out, seed)


def _prompts(values: dict[str, Any], root: Path) -> list[str] | None:
    evaluate = values["evaluate"]
    if evaluate["path"] == world.SOURCE:
        sizes = values["prepare"]["generate"]
        return [row["prompt"] for row in world.evaluation_prompts(sizes["seed"], sizes["prompts"])]
    file = hub.cached(**evaluate["hub"], repo_type="dataset") if evaluate["hub"] else root / evaluate["path"]
    return file and [row["prompt"] for row in records.read_prompts(file)]


def _limited(prompts: int, evaluate: dict[str, Any]) -> int:
    """Return how many prompts lm-eval asks: `limit` is a number, or a share if below 1 (lm_eval/evaluator_utils.py)."""
    limit = evaluate.get("limit")
    if limit is None:
        return prompts
    return min(prompts, math.ceil(prompts * limit) if limit < 1 else int(limit))


def _texts(values: dict[str, Any], rows: list[Row]) -> list[str]:
    """Return the texts on which the stage `base` trains a tokenizer, in its order."""
    sizes, form = values["prepare"]["generate"], values["base"]["template"]
    prose = world.plain_text(sizes["seed"], sizes["documents"]) if sizes else ({"text": row["output"]} for row in rows)
    prompts = [template.prompt(form, row["instruction"], row["input"]) + row["output"] for row in rows]
    return [row["text"] for row in prose] + prompts


def _notes(values: dict[str, Any], rows: _Rows, prompts: bool, encoder: bool) -> list[tuple[str, str]]:
    """Return, for each thing that is not on this machine, the figures' `source` and what is used instead."""
    notes = []
    if rows.record:
        rows_of = values["prepare"]["hub"]["repo_id"]
        notes.append(("recorded", f"{rows_of} is not in the hub's cache: recorded lengths in Llama 3's tokens are used"))
    elif not encoder:
        name = tokenizer.name(values["train"])
        notes.append(
            ("estimated", f"no tokenizer of {name} is here: tokens are estimated from bytes, as Llama 3 makes them")
        )
    if not _form(values["train"]):
        notes.append(("estimated", "train.datasets has other rows than prepare makes, which are counted instead"))
    if not prompts:
        prompts_of = values["evaluate"]["hub"]["repo_id"]
        notes.append(
            ("recorded", f"{prompts_of} is not in the hub's cache: a recorded number and length of prompts is used")
        )
    return notes


def _form(train: dict[str, Any]) -> dict[str, str] | None:
    """Return the template with which `train` reads the rows of `prepare`; None if it reads something else."""
    sets = train.get("datasets") or []
    kind = sets[0].get("type") if len(sets) == 1 and sets[0].get("path") == _PREPARED else None
    if not isinstance(kind, dict) or kind.keys() != _FORM or None in kind.values():
        return None
    return {"with_input": kind["format"], "without_input": kind["no_input_format"]}


def _sizes(
    rows: list[Row], record: dict[str, Any] | None, encoder: tokenizer.Tokenizer | None, values: dict[str, Any]
) -> np.ndarray:
    """Return the tokens of each row's prompt and of its answer, shape (2, rows)."""
    if record:
        return known.lengths(record, len(rows))
    if values["train"].get("dataset_exact_deduplication"):
        rows = list({tuple(row.values()): row for row in rows}.values())
    form = _form(values["train"]) or values["template"]
    prompts = [template.prompt(form, row["instruction"], row["input"]) for row in rows]
    return np.array([_tokens(prompts, "prompt", encoder), _tokens([row["output"] for row in rows], "answer", encoder)])


def _tokens(texts: list[str], kind: str, encoder: tokenizer.Tokenizer | None) -> np.ndarray:
    """Return the tokens of each text as a "prompt" or, without BOS and with EOS, as an "answer"."""
    if not encoder:
        rate = known.bytes_per_token(kind)
        return np.rint([len(text.encode()) / rate for text in texts]).astype(int).clip(min=1)
    ids = template.answer_ids if kind == "answer" else template.token_ids
    batches = (texts[start : start + _BATCH] for start in range(0, len(texts), _BATCH))
    return np.array([len(text) for batch in batches for text in ids(encoder, batch)])
