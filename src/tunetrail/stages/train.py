"""The prepared rows and the base model -> outputs/model, and outputs/train (the history, the versions), by Axolotl.

    python -m tunetrail.stages.train

The section `train` is passed on unchanged: an Axolotl config. Checkpoints are in its output_dir, which is not a DVC output
(DVC empties a stage's outputs before it runs the stage); only the finished model is.
"""

import importlib.metadata
import json
import shutil
from pathlib import Path

from tunetrail import launch
from tunetrail.config import params
from tunetrail.stages import run
from tunetrail.training import checkpoint, output_dir, token_cache

PREPARED = Path("data/prepared")


def main() -> None:
    section = params.read("train")
    resumes = section.get("resume_from_checkpoint") or section.get("auto_resume_from_checkpoints")
    work = (output_dir.check if resumes else output_dir.empty)(section["output_dir"], "train")
    base = json.loads(Path("outputs/base/base.json").read_text())
    token_cache.share(section, [PREPARED / "train.jsonl", PREPARED / "validation.jsonl"], base)
    params.write_yaml(work / "axolotl.yaml", section)
    is_local = checkpoint.is_path(section["base_model"])
    words = ["-m", "axolotl.cli.train", str(work / "axolotl.yaml")]
    launch.accelerate_launch(words, params.read("accelerate"), work / "axolotl.log", "train", offline=is_local)
    checkpoint.copy(work, Path("outputs/model"))
    out = Path("outputs/train")
    out.mkdir(parents=True, exist_ok=True)
    shutil.copy2(work / "history.jsonl", out / "history.jsonl")
    versions = {
        tool: importlib.metadata.version(tool) for tool in ("accelerate", "axolotl", "peft", "torch", "transformers")
    }
    (out / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
