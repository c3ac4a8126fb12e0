"""Measure in a fresh clone how long `tunetrail plan` takes, and compare its predicted seconds with those of real runs.

    python benchmarks/plan.py [ROWS]    ROWS: a file of Alpaca rows, planned too

The first run is predicted by the device's default, each later one by the measured speed of earlier runs on this machine.
Stages that a plan does not predict (`base`, `contract`, ...) are left out of both. Run nothing else at the same time.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUNS = (
    [],
    ["train.num_epochs=2", "train.sequence_len=512", "train.micro_batch_size=4", "evaluate.limit=100"],
    ["train.num_epochs=2", "base.make.llama.num_hidden_layers=5", "base.make.llama.intermediate_size=512"],
)
STAGES = {"training": ("train",), "evaluation": ("evaluate_base", "evaluate_tuned")}


def main(rows: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "tunetrail"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)

        def tunetrail(*words: str) -> tuple[str, float]:
            """Return the command's output and its seconds; code 2 is a refused plan."""
            started = time.monotonic()
            environment = os.environ | {"PYTHONPATH": str(clone / "src"), "MLFLOW_TRACKING_URI": ""}
            done = subprocess.run(
                [sys.executable, "-m", "tunetrail", *words], cwd=clone, env=environment, stdout=subprocess.PIPE, text=True
            )
            if done.returncode not in (0, 2):
                sys.exit(done.returncode)
            return done.stdout, time.monotonic() - started

        plans = {"the demo": [], "recorded": ["experiment=llama3_8b_alpaca"]}
        plans |= {"recorded, refused": ["experiment=llama3_8b_alpaca_published"]}
        plans |= {name: ["prepare=file", "evaluate=ifeval", f"prepare.path={Path(name).resolve()}"] for name in rows}
        tunetrail("plan")  # reads the tools' schemas, once after each install
        for name, words in plans.items():
            print(f"plan, {name}: {tunetrail('plan', *words)[1]:.1f} s", flush=True)
        for words in RUNS:
            plan = json.loads(tunetrail("plan", *words, "--json")[0])["time"]
            predicted = {"training": plan["training_s"] + plan["validation_s"], "evaluation": plan["evaluation_s"]}
            tunetrail("run", *words)
            lines = map(json.loads, (clone / "work" / "seconds.jsonl").read_text().splitlines())
            taken = {line["stage"]: line["seconds"] for line in lines}
            parts = []
            for phase, stages in STAGES.items():
                seconds = sum(taken[stage] for stage in stages)
                parts.append(f"{phase} {predicted[phase]:.0f} s of {seconds:.0f} s ({predicted[phase] / seconds - 1:+.0%})")
            ratio = sum(predicted.values()) / sum(taken[stage] for stages in STAGES.values() for stage in stages)
            print(f"run, {' '.join(words) or 'the demo'}: {', '.join(parts)}, all {ratio - 1:+.0%}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
