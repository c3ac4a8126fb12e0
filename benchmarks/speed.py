"""Axolotl trainings with random weights -> the seconds of each one's loop, a line of benchmarks/speed.jsonl a case.

tests/plan/estimate/test_pace.py compares the predictions of `tunetrail plan` with that table.

    python benchmarks/speed.py compose ROWS TOKENIZER FOLDER    in the project: writes an Axolotl config for each case
    python benchmarks/speed.py measure FOLDER CASE CASE ...     on a GPU host, without a network: prints a line a case

A loop is measured from its first logged step to its last, and its first steps count as equally fast. ROWS is a file of
Alpaca rows, TOKENIZER a folder.
"""

import json
import sys
from pathlib import Path

import memory
import yaml

# What time depends on.
KEYS = (*memory.KEYS, "gradient_accumulation_steps", "sample_packing", "pad_to_sequence_len")
STEPS = ["train.optimizer=adamw_torch_fused", "train.gradient_accumulation_steps=1"]
CASES = {
    "1b-full-2048x4": [*memory.EIGHT, *STEPS, "train.sequence_len=2048", "train.micro_batch_size=4"],
    "1b-full-4096x1": [*memory.EIGHT, *STEPS, "train.sequence_len=4096"],
    "3b-full-2048x2": [*memory.EIGHT, *STEPS, "train.sequence_len=2048", "train.micro_batch_size=2"],
    "3b-full-4096x2": [*memory.EIGHT, *STEPS, "train.sequence_len=4096", "train.micro_batch_size=2"],
    "1b-full-1024x1": [*memory.EIGHT, *STEPS, "train.sequence_len=1024"],
    "sm-full-2048x8": [*memory.EIGHT, *STEPS, "train.sequence_len=2048", "train.micro_batch_size=8"],
    "8b-lora-3072x1": [*memory.ADAPTERS, "train.gradient_checkpointing=false"],
}


def measure(folder: Path, cases: list[str]) -> None:
    import torch

    for case in cases:
        memory.train(folder, case)
        config = yaml.safe_load((folder / f"{case}.yaml").read_text())
        lines = (Path(config["output_dir"]) / "history.jsonl").read_text().splitlines()
        first, last = json.loads(lines[0]), json.loads(lines[-1])
        looped = (last["time"] - first["time"]) * last["step"] / (last["step"] - first["step"])
        line = {"case": case, "gpu": torch.cuda.get_device_name(), "steps": last["step"], "loop_s": round(looped, 2)}
        settings = {key: config[key] for key in KEYS if key in config}
        print(json.dumps(line | {"shape": memory.SHAPES[case[:2]], "train": settings}), flush=True)


if __name__ == "__main__":
    task, *rest = sys.argv[1:]
    if task == "compose":
        memory.compose(*map(Path, rest), cases=CASES, max_steps=120, gradient_accumulation_steps=1, logging_steps=5)
    else:
        measure(Path(rest[0]), rest[1:])
