"""data/raw -> data/prepared: train.jsonl and validation.jsonl, checked and split, and text.jsonl.

    python -m tunetrail.stages.prepare

`text.jsonl` is what a tiny base model is trained on: prose without instructions.
"""

from pathlib import Path

from tunetrail.config import params
from tunetrail.data import records
from tunetrail.stages import run

RAW, OUT = Path("data/raw"), Path("data/prepared")


def main() -> None:
    section = params.read("prepare")
    (file,) = (RAW / "instructions").iterdir()
    rows = records.read_instructions(file, section["empty"], section.get("field"))
    train, validation = records.split(rows, section["take"], section["validation_rows"], section["seed"])
    records.write(OUT / "train.jsonl", train)
    records.write(OUT / "validation.jsonl", validation)
    text = [records.read(file) for file in RAW.glob("text/*")]
    records.write(OUT / "text.jsonl", text[0] if text else ({"text": row["output"]} for row in train))
    print(f"prepare: {len(train):,} rows to train on, {len(validation):,} to validate with; license: {section['license']}")


if __name__ == "__main__":
    run(main)
