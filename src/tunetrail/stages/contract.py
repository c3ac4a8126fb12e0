"""The raw and the prepared data, the prompts and the base's tokenizer -> outputs/contract/contract.json.

    python -m tunetrail.stages.contract

`report` writes the data card from it.
"""

import json
from pathlib import Path

from tunetrail.config import params
from tunetrail.data import contract, records, sources, template
from tunetrail.stages import run

RAW, PREPARED, OUT = Path("data/raw"), Path("data/prepared"), Path("outputs/contract")


def main() -> None:
    from transformers import AutoTokenizer

    section, field = params.read("contract"), params.read("prepare").get("field")
    base = json.loads(Path("outputs/base/base.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(base["base_model"], revision=base["revision"])
    (raw,) = (RAW / "instructions").iterdir()
    (evaluation,) = (RAW / "prompts").iterdir()
    rows = records.read(raw, field)
    train, validation = (records.read(PREPARED / f"{name}.jsonl") for name in ("train", "validation"))
    questions = [template.prompt(section["template"], row["instruction"], row["input"]) for row in train]
    answers = [row["output"] for row in train]
    print(f"contract: counting the tokens of {len(train):,} rows", flush=True)
    ids = template.token_ids(tokenizer, questions), template.answer_ids(tokenizer, answers)
    result = {
        "source": sources.read(RAW)["instructions"],
        "rows": contract.rows(records.instructions(raw, rows, "keep"), train, validation),
        "left_out": records.left_out(rows),
        "tokens": contract.tokens(list(zip(*(map(len, part) for part in ids), strict=True)), section["sequence_len"]),
        "contamination": contract.contamination(
            [row["prompt"] for row in records.read_prompts(evaluation)], train, section["ngram"]
        ),
    }
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "contract.json").write_text(json.dumps(result, indent=2) + "\n")
    for line in contract.remarks(result, section):
        print(f"contract: {line}")


if __name__ == "__main__":
    run(main)
