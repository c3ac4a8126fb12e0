"""The section `base` -> outputs/base/base.json: where the base model is, and its digest or revision.

    python -m tunetrail.stages.base

Existing weights are not copied. With `base.make`, a tokenizer and a tiny Llama are made, and Axolotl trains the model on the
plain text that `prepare` wrote: no instructions.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from tunetrail import launch
from tunetrail.config import params
from tunetrail.data import hub, records, template
from tunetrail.stages import run
from tunetrail.training import checkpoint, output_dir, tiny

OUT, WORK = Path("outputs/base"), Path("work/base")


def main() -> None:
    section = params.read("base")
    base = {"base_model": section["base_model"], "revision": section["revision_of_model"], "sha256": None}
    if section["make"]:
        base["parameters"] = make(section)
    if checkpoint.is_path(section["base_model"]):
        base["sha256"] = checkpoint.digest(Path(section["base_model"]))
    else:
        # Fails now, not after hours, if the model is gated or missing; and resolves `main` to a commit.
        config = hub.fetch(section["base_model"], "config.json", section["revision_of_model"])
        base["revision"] = config.parent.name
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "base.json").write_text(json.dumps(base, indent=2) + "\n")


def make(section: dict[str, Any]) -> int:
    """Train the base model from scratch into `base_model`; return its number of parameters."""
    recipe = section["make"]
    trained = output_dir.check(recipe["train"]["output_dir"], "base.make.train", own=WORK.name)
    shutil.rmtree(WORK, ignore_errors=True)
    rows = records.read(Path("data/prepared/train.jsonl"))
    prompts = [template.prompt(section["template"], row["instruction"], row["input"]) + row["output"] for row in rows]
    prose = [row["text"] for row in records.read(Path("data/prepared/text.jsonl"))]
    WORK.mkdir(parents=True)
    vocab_size = tiny.save_tokenizer(prose + prompts, recipe["vocab_size"], WORK / "untrained")
    tiny.save_config(recipe["llama"], vocab_size, WORK / "untrained")
    print(f"base: a tokenizer of {vocab_size:,} tokens")
    params.write_yaml(WORK / "axolotl.yaml", recipe["train"])
    words = ["-m", "axolotl.cli.train", str(WORK / "axolotl.yaml")]
    launch.accelerate_launch(words, params.read("accelerate"), WORK / "axolotl.log", "base", offline=True)
    checkpoint.copy(trained, Path(section["base_model"]))
    return checkpoint.parameters(trained)


if __name__ == "__main__":
    run(main)
