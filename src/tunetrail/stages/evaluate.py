"""A model and IFEval prompts -> eval_results/<base|tuned>: lm-eval's own results file and samples.

    python -m tunetrail.stages.evaluate base
    python -m tunetrail.stages.evaluate tuned

The section `evaluate` is an lm-eval run config, but for three keys that become its task file: `path` (the prompts),
`template`, and `task` (lm-eval's task keys).
"""

import json
import shutil
import sys
from pathlib import Path

from tunetrail import checkpoint, launch, params, records, template
from tunetrail.stages import run

TASKS = Path(__file__).parents[1] / "ifeval"


def main(model: str) -> None:
    section = params.read("evaluate")
    base = json.loads(Path("outputs/base/base.json").read_text())
    pretrained = base["base_model"] if model == "base" else "outputs/model"
    prompts, prompt_template, task = (section.pop(key) for key in ("path", "template", "task"))
    records.read_prompts(Path(prompts))
    work = Path("work") / f"evaluate_{model}"
    out = Path("eval_results") / model
    for folder in (work, out):
        shutil.rmtree(folder, ignore_errors=True)
    params.write_yaml(
        work / "task" / f"{task['task']}.yaml",
        {"include": str(TASKS / "ifeval.yaml"), **task}
        | {"dataset_kwargs": {"data_files": {"train": str(Path(prompts).resolve())}}}
        | {"doc_to_text": template.doc_to_text(prompt_template)},
    )
    section["model_args"] |= {"pretrained": pretrained}
    if model == "base" and base["revision"]:
        section["model_args"] |= {"revision": base["revision"]}
    section |= {"tasks": [task["task"]], "include_path": str(work / "task"), "output_path": str(out)}
    params.write_yaml(work / "lm_eval.yaml", section)
    command = [sys.executable, "-m", "lm_eval", "run", "--config", str(work / "lm_eval.yaml")]
    here = model == "tuned" or checkpoint.is_path(pretrained)
    launch.tool(command, work / "lm_eval.log", f"evaluate_{model}", offline=here)


if __name__ == "__main__":
    run(main, sys.argv[1])
