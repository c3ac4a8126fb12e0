"""Raw rows, the prepared split, the evaluation's prompts and a tokenizer -> what the data are, as the data card tells it.

Not covered: refusing. Faults of form are refused by `records`; what is found here is for a person to judge.
"""

from collections import Counter, defaultdict
from typing import Any

import numpy as np

from tunetrail.data import records
from tunetrail.data.records import Row

SEEN = 0.5  # share of a prompt's words that stand in one row: more is contamination (Tülu 3, arXiv:2411.15124, section 3.2)
_BINS = 40
_EXAMPLES = 5


def rows(raw: list[Row], train: list[Row], validation: list[Row]) -> dict[str, int]:
    """How many rows there are, and how many of them are empty, or repeat an earlier one in whole or in their question.

    `raw` are `records.instructions`, the empty ones kept.
    """
    whole = [row for row in raw if not records.is_empty(row)]
    contents = Counter((row["instruction"], row["input"], row["output"]) for row in whole)
    questions = Counter(map(records.question, whole))
    trained = set(map(records.question, train))
    return {
        "raw": len(raw),
        "empty": len(raw) - len(whole),
        "duplicate": len(whole) - len(contents),
        "repeated_question": len(whole) - len(questions),
        "train": len(train),
        "validation": len(validation),
        "train_validation_overlap": sum(records.question(row) in trained for row in validation),
    }


def tokens(lengths: list[tuple[int, int]], sequence_len: int) -> dict[str, Any]:
    """Token figures of the rows to train on; `lengths` has (prompt, answer) for each row, BOS and EOS counted.

    `over` counts the rows longer than `sequence_len`, which Axolotl drops, cuts or refuses (`excess_length_strategy`).
    """
    prompts, answers = np.array(lengths).T
    whole = prompts + answers
    width = -(-int(np.ptp(whole) + 1) // _BINS)  # whole tokens, or the bars would be a comb
    counts, edges = np.histogram(whole, bins=np.arange(whole.min(), whole.max() + width + 1, width))
    return {
        "total": int(whole.sum()),
        "supervised": int(answers.sum()),
        "mean": float(whole.mean()),
        "median": float(np.median(whole)),
        "longest": int(whole.max()),
        "over": int((whole > sequence_len).sum()),
        "over_share": float((whole > sequence_len).mean()),
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def contamination(prompts: list[str], train: list[Row], ngram: int) -> dict[str, Any]:
    """How many of the evaluation's prompts the training rows ask as well.

    A prompt is seen when more than half (`SEEN`) of its words are covered by runs of `ngram` words that stand in one row's
    instruction and input too; a shorter prompt is one run. It is `exact` when a row asks nothing else.
    """
    words = [records.question({"instruction": prompt}).split() for prompt in prompts]
    runs = defaultdict(list)
    for number, prompt in enumerate(words):
        size = min(ngram, len(prompt))
        for place in range(len(prompt) - size + 1):
            runs[tuple(prompt[place : place + size])].append((number, place))
    sizes = sorted({len(run) for run in runs})
    asked = defaultdict(set)
    for number, prompt in enumerate(words):
        asked[" ".join(prompt)].add(number)
    seen, exact = {}, set()
    for row in train:
        question = records.question(row)
        exact |= asked.get(question, set())
        found = question.split()
        covered = defaultdict(set)
        for size in sizes:
            for place in range(len(found) - size + 1):
                for number, start in runs.get(tuple(found[place : place + size]), ()):
                    covered[number].update(range(start, start + size))
        for number, places in covered.items():
            if len(places) > SEEN * len(words[number]):
                seen.setdefault(number, row["instruction"])
    examples = [{"prompt": prompts[number], "row": seen[number]} for number in sorted(seen)[:_EXAMPLES]]
    return {"prompts": len(prompts), "exact": len(exact), "seen": len(seen), "ngram": ngram, "examples": examples}


def remarks(found: dict[str, Any], section: dict[str, Any]) -> list[str]:
    """What a person should know before training, in sentences; `section` is params.yaml's `contract`."""
    rows, tokens, overlap = found["rows"], found["tokens"], found["contamination"]
    said = [
        f"{rows['train']:,} rows to train on, {tokens['total']:,} tokens, {tokens['supervised']:,} of them supervised",
    ]
    if section["expected_rows"] not in (None, rows["raw"]):
        said.append(f"{rows['raw']:,} raw rows, where {section['expected_rows']:,} are expected")
    if rows["empty"]:
        said.append(f"{rows['empty']:,} rows without an instruction or an output are left out")
    if rows["duplicate"]:
        said.append(f"{rows['duplicate']:,} rows repeat an earlier one word for word")
    if found.get("left_out"):
        said.append(f"fields that are not read are {records.listed(found['left_out'])}")
    if tokens["over"]:
        said.append(
            f"{tokens['over']:,} rows ({tokens['over_share']:.1%}) are longer than {section['sequence_len']:,} tokens "
            f"(excess_length_strategy: {section['excess_length_strategy']})"
        )
    if overlap["seen"]:
        said.append(
            f"wording: {overlap['seen']} of the {overlap['prompts']} evaluation prompts share over half of their words, in "
            f"runs of {overlap['ngram']}, with one training row; {overlap['exact']} are one word for word"
        )
    return said


def license_notice(section: dict[str, Any], base: dict[str, Any]) -> str:
    """What is said of licences before training starts; params.yaml's `contract` and `base`."""
    notice = f"licences: data {section['license'] or 'not stated'}, base model {base['license'] or 'not stated'}"
    if "-nc" in (section["license"] or ""):
        notice += ". The data's forbids commercial use, and what is trained on them falls under it"
    return notice
