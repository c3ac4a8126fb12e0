"""Raw rows, the prepared split, the evaluation's prompts and token counts -> the figures of the data card.

Nothing is refused here: `records` refuses wrong rows; duplicates, lengths and overlap are for the user to judge.
"""

from collections import defaultdict
from typing import Any

import numpy as np

from tunetrail.data import records
from tunetrail.data.records import Row

SEEN = 0.5  # share of a prompt's words found in one row: more is contamination (Tülu 3, arXiv:2411.15124, section 3.2)
_BINS = 40
_EXAMPLES = 5


def rows(raw: list[Row], train: list[Row], validation: list[Row]) -> dict[str, int]:
    """Count the rows, and those that are empty or repeat an earlier row or its question.

    `raw` are `records.instructions` with the empty rows kept.
    """
    complete = [row for row in raw if not records.is_empty(row)]
    contents = {(row["instruction"], row["input"], row["output"]) for row in complete}
    questions = set(map(records.question, complete))
    trained = set(map(records.question, train))
    return {
        "raw": len(raw),
        "empty": len(raw) - len(complete),
        "duplicate": len(complete) - len(contents),
        "repeated_question": len(complete) - len(questions),
        "train": len(train),
        "validation": len(validation),
        "train_validation_overlap": sum(records.question(row) in trained for row in validation),
    }


def tokens(lengths: list[tuple[int, int]], sequence_len: int) -> dict[str, Any]:
    """Return token figures of the training rows; `lengths` has (prompt, answer) for each row, BOS and EOS counted.

    `over` counts the rows longer than `sequence_len`, which Axolotl drops, truncates or refuses (`excess_length_strategy`).
    """
    prompts, answers = np.array(lengths).T
    tokens = prompts + answers
    width = -(-int(np.ptp(tokens) + 1) // _BINS)  # whole numbers, or some bins would have more values than others
    counts, edges = np.histogram(tokens, bins=np.arange(tokens.min(), tokens.max() + width + 1, width))
    return {
        "total": int(tokens.sum()),
        "supervised": int(answers.sum()),
        "mean": float(tokens.mean()),
        "median": float(np.median(tokens)),
        "longest": int(tokens.max()),
        "over": int((tokens > sequence_len).sum()),
        "over_share": float((tokens > sequence_len).mean()),
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def contamination(prompts: list[str], train: list[Row], ngram: int) -> dict[str, Any]:
    """Count the evaluation's prompts that also occur in training rows.

    A prompt is `seen` if more than half (`SEEN`) of its words are in n-grams of `ngram` words that it shares with one row's
    instruction and input; a shorter prompt is one n-gram. It is `exact` if a row's question equals it.
    """
    words = [records.question({"instruction": prompt}).split() for prompt in prompts]
    ngrams = defaultdict(list)
    by_text = defaultdict(set)
    for number, prompt in enumerate(words):
        by_text[" ".join(prompt)].add(number)
        size = min(ngram, len(prompt))
        for start in range(len(prompt) - size + 1):
            ngrams[tuple(prompt[start : start + size])].append((number, start))
    sizes = sorted({len(words) for words in ngrams})
    seen, exact = {}, set()
    for row in train:
        question = records.question(row)
        exact |= by_text.get(question, set())
        asked = question.split()
        covered = defaultdict(set)
        for size in sizes:
            for start in range(len(asked) - size + 1):
                for number, position in ngrams.get(tuple(asked[start : start + size]), ()):
                    covered[number].update(range(position, position + size))
        for number, positions in covered.items():
            if len(positions) > SEEN * len(words[number]):
                seen.setdefault(number, row["instruction"])
    examples = [{"prompt": prompts[number], "row": seen[number]} for number in sorted(seen)[:_EXAMPLES]]
    return {"prompts": len(prompts), "exact": len(exact), "seen": len(seen), "ngram": ngram, "examples": examples}


def remarks(contract: dict[str, Any], section: dict[str, Any]) -> list[str]:
    """Return what the user should know before training, in sentences.

    `contract` is outputs/contract/contract.json, `section` params.yaml's `contract`.
    """
    rows, tokens, overlap = contract["rows"], contract["tokens"], contract["contamination"]
    lines = [
        f"{rows['train']:,} rows to train on, {tokens['total']:,} tokens, {tokens['supervised']:,} of them supervised",
    ]
    if section["expected_rows"] not in (None, rows["raw"]):
        lines.append(f"{rows['raw']:,} raw rows, where {section['expected_rows']:,} are expected")
    if rows["empty"]:
        lines.append(f"{rows['empty']:,} rows without an instruction or an output are left out")
    if rows["duplicate"]:
        lines.append(f"{rows['duplicate']:,} rows repeat an earlier one word for word")
    if contract.get("left_out"):
        lines.append(f"fields that are not read are {records.listed(contract['left_out'])}")
    if tokens["over"]:
        lines.append(
            f"{tokens['over']:,} rows ({tokens['over_share']:.1%}) are longer than {section['sequence_len']:,} tokens "
            f"(excess_length_strategy: {section['excess_length_strategy']})"
        )
    if overlap["seen"]:
        lines.append(
            f"wording: {overlap['seen']} of the {overlap['prompts']} evaluation prompts share over half of their words, in "
            f"runs of {overlap['ngram']}, with one training row; {overlap['exact']} equal one word for word"
        )
    return lines


def license_notice(section: dict[str, Any], base: dict[str, Any]) -> str:
    """Return the notice about licences before training starts, from params.yaml's `contract` and `base`."""
    notice = f"licences: data {section['license'] or 'not stated'}, base model {base['license'] or 'not stated'}"
    if "-nc" in (section["license"] or ""):
        notice += ". The data's licence forbids commercial use, also of models trained on the data"
    return notice
