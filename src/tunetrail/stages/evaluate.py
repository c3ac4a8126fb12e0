"""A model and IFEval prompts -> eval_results/<base|tuned>: lm-eval's own results file and samples.

    python -m tunetrail.stages.evaluate base
    python -m tunetrail.stages.evaluate tuned

The section `evaluate` is an lm-eval run config, except for the source of the prompts (`path`, `hub`) and two keys for the
task file: `template`, and `task` (lm-eval's task keys).
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from tunetrail import launch
from tunetrail.config import params
from tunetrail.data import records, template
from tunetrail.stages import run
from tunetrail.training import checkpoint

TASKS = Path(__file__).parents[1] / "evaluation" / "ifeval"
TUNED = Path("outputs/model")


def main(role: str) -> None:
    section = params.read("evaluate")
    base = json.loads(Path("outputs/base/base.json").read_text())
    prompt_template, task = section.pop("template"), section.pop("task")
    del section["path"], section["hub"]
    (prompts,) = Path("data/raw/prompts").iterdir()
    records.read_prompts(prompts)
    work = Path("work") / f"evaluate_{role}"
    out = Path("eval_results") / role
    for folder in (work, out):
        shutil.rmtree(folder, ignore_errors=True)
    params.write_yaml(
        work / "task" / f"{task['task']}.yaml",
        {"include": str(TASKS / "ifeval.yaml"), **task}
        | {"dataset_kwargs": {"data_files": {"train": str(prompts.resolve())}}}
        | {"doc_to_text": template.doc_to_text(prompt_template)},
    )
    section["model_args"] |= model(role, base)
    section |= {"tasks": [task["task"]], "include_path": str(work / "task"), "output_path": str(out)}
    params.write_yaml(work / "lm_eval.yaml", section)
    words = ["-m", "lm_eval", "run", "--config", str(work / "lm_eval.yaml")]
    is_local = checkpoint.is_path(section["model_args"]["pretrained"])
    launch.accelerate_launch(words, params.read("accelerate"), work / "lm_eval.log", f"evaluate_{role}", is_local)


def model(role: str, base: dict[str, Any]) -> dict[str, str]:
    """Return lm-eval's arguments that name the base or the tuned model; an adapter's include the base it was trained on."""
    revision = {"revision": base["revision"]} if base["revision"] else {}
    if role == "base":
        return {"pretrained": base["base_model"]} | revision
    if checkpoint.is_adapter(TUNED):
        return {"pretrained": base["base_model"], "peft": str(TUNED)} | revision
    return {"pretrained": str(TUNED)}


if __name__ == "__main__":
    run(main, sys.argv[1])
