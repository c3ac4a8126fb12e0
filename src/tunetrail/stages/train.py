"""The prepared rows and the base model -> outputs/model, and outputs/train (the history, the versions), by Axolotl.

    python -m tunetrail.stages.train

The section `train` is passed on unchanged, an Axolotl config: only the checkpoint that an interrupted training goes on from
is added. Checkpoints are in its output_dir, which is not an output of the stage (DVC would empty that before the stage);
only the finished model is.
"""

import importlib.metadata
import json
import shutil
from pathlib import Path

from tunetrail import launch
from tunetrail.config import params
from tunetrail.stages import run
from tunetrail.training import checkpoint, output_dir, resume, token_cache

PREPARED = Path("data/prepared")


def main() -> None:
    section = params.read("train")
    accelerate = params.read("accelerate")
    work = output_dir.check(section["output_dir"], "train")
    base = json.loads(Path("outputs/base/base.json").read_text())
    rows = [PREPARED / "train.jsonl", PREPARED / "validation.jsonl"]
    if not section.get("resume_from_checkpoint"):  # else the user's own choice
        training = resume.training(section, accelerate, rows, base)
        if newest := resume.prepare(work, training):
            section = section | {"resume_from_checkpoint": str(newest)}
    token_cache.share(section, rows, base)
    params.write_yaml(work / "axolotl.yaml", section)
    is_local = checkpoint.is_path(section["base_model"])
    words = ["-m", "axolotl.cli.train", str(work / "axolotl.yaml")]
    launch.accelerate_launch(words, accelerate, work / "axolotl.log", "train", offline=is_local)
    checkpoint.copy(work, Path("outputs/model"))
    out = Path("outputs/train")
    out.mkdir(parents=True, exist_ok=True)
    shutil.copy2(work / "history.jsonl", out / "history.jsonl")
    attempts = {"attempts": resume.attempts(work), "inexact": resume.inexact(section, accelerate)}
    (out / "attempts.json").write_text(json.dumps(attempts, indent=2) + "\n")
    versions = {
        tool: importlib.metadata.version(tool) for tool in ("accelerate", "axolotl", "peft", "torch", "transformers")
    }
    (out / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
