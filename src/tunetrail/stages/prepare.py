"""The raw data -> data/prepared: train.jsonl, validation.jsonl and text.jsonl, and the demo's held-out ifeval.jsonl.

    python -m tunetrail.stages.prepare

`text.jsonl` is what a tiny base model is trained on: prose without an instruction.
"""

import random
from pathlib import Path

from tunetrail import UserError, params, records, world
from tunetrail.stages import run

OUT = Path("data/prepared")


def main() -> None:
    section = params.read("prepare")
    seed, sizes = section["seed"], section["generate"]
    if sizes:
        rows = list(world.instruction_rows(seed, sizes["rows"]))
        text = list(world.plain_text(seed, sizes["documents"]))
        records.write(OUT / "ifeval.jsonl", world.evaluation_prompts(seed, sizes["prompts"]))
    else:
        rows = records.read_instructions(Path(section["path"]))
        text = None
    held_out = section["validation_rows"]
    if held_out >= len(rows):
        raise UserError(
            f"{section['path']}: {len(rows)} rows, and prepare.validation_rows={held_out} leaves none to train on. "
            "Give more rows or hold out fewer."
        )
    random.Random(seed).shuffle(rows)
    records.write(OUT / "validation.jsonl", rows[:held_out])
    records.write(OUT / "train.jsonl", rows[held_out:])
    records.write(OUT / "text.jsonl", text if text is not None else ({"text": row["output"]} for row in rows[held_out:]))
    print(f"prepare: {len(rows) - held_out} rows to train on, {held_out} to validate with")


if __name__ == "__main__":
    run(main)
