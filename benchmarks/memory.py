"""Short Axolotl trainings with random weights -> the peak memory of each GPU, a line of benchmarks/memory.jsonl a case.

tests/plan/estimate/test_memory.py compares the predictions of `tunetrail plan` with that table.

    python benchmarks/memory.py compose ROWS TOKENIZER FOLDER    in the project: writes an Axolotl config for each case
    python benchmarks/memory.py measure FOLDER CASE CASE ...     on a GPU host, without a network: prints a line a case

Memory is PyTorch's own count in GiB, as Axolotl logs it (`max_allocated`: tensors; `reserved`: also the allocator's free
blocks), so it excludes the driver's context, about half a GiB. A training that fails while it saves is still measured. ROWS
is a file of Alpaca rows, TOKENIZER a folder.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
# What memory depends on.
KEYS = (
    *("adapter", "bf16", "deepspeed", "fsdp_config", "gradient_checkpointing", "liger_fused_linear_cross_entropy"),
    *("load_in_4bit", "lora_mlp_kernel", "lora_r", "lora_target_linear", "micro_batch_size", "optimizer", "plugins"),
    "sequence_len",
)
EIGHT = ["experiment=llama3_8b_alpaca", "hardware=cuda", "accelerate.num_processes=1", "accelerate.multi_gpu=false"]
STOCK = [
    "train.plugins=[tunetrail.training.plugin.HistoryPlugin]",
    *(f"~train.liger_{kernel}" for kernel in ("rope", "rms_norm", "glu_activation", "fused_linear_cross_entropy")),
]
LONG = ["train.sequence_len=8192", "train.sample_packing_bin_size=1000"]
SHORT = ["train.sequence_len=2048"]
FUSED, BLOCKS = ["train.optimizer=adamw_torch_fused"], ["train.optimizer=adamw_bnb_8bit"]
AGAIN = ["train.gradient_checkpointing=true"]
ADAPTERS = ["experiment=llama3_8b_alpaca_lora", "hardware=cuda"]
FOUR_BITS = ["experiment=llama3_8b_alpaca_qlora", "hardware=cuda"]
CASES = {
    "8b-full-published": [*EIGHT, *STOCK, *LONG, *AGAIN, "train.micro_batch_size=4"],
    "8b-full-liger": [*EIGHT, *LONG, *AGAIN, "train.micro_batch_size=4"],
    "8b-full-kept": [*EIGHT, *LONG],
    "8b-full-recipe": EIGHT,
    "8b-lora-recipe": ADAPTERS,
    "8b-lora-stock": [*ADAPTERS, *STOCK, *AGAIN, "train.micro_batch_size=2"],
    "8b-qlora-recipe": FOUR_BITS,
    "8b-full-fsdp2": ["experiment=llama3_8b_alpaca", "hardware=[cuda,fsdp2]", "accelerate.num_processes=2"],
    "1b-full-fused": [*EIGHT, *STOCK, *FUSED, *SHORT, "train.micro_batch_size=4"],
    "1b-full-again": [*EIGHT, *STOCK, *AGAIN, *FUSED, *SHORT, "train.micro_batch_size=4"],
    "1b-full-8bit": [*EIGHT, *STOCK, *BLOCKS, *SHORT],
    "1b-lora-stock": [*ADAPTERS, *STOCK, *SHORT, "train.micro_batch_size=4"],
    "1b-qlora-stock": [*FOUR_BITS, *STOCK, *SHORT],
    # Predicted before they were measured: no constant is fitted to these.
    "3b-full-again": [*EIGHT, *AGAIN, *FUSED, "train.sequence_len=4096", "train.micro_batch_size=2"],
    "3b-full-stock": [*EIGHT, *STOCK, *BLOCKS, *SHORT, "train.micro_batch_size=2"],
    "3b-lora-kept": [*ADAPTERS, "train.sequence_len=4096", "train.micro_batch_size=2"],
    "3b-qlora-stock": [*FOUR_BITS, *STOCK, "train.sequence_len=4096"],
    "sm-full-stock": [*EIGHT, *STOCK, *FUSED, *SHORT, "train.micro_batch_size=8"],
}
SHAPES = {
    "8b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 8192,
        "rope_theta": 500000.0,
    },
    "1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "vocab_size": 128256,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    },
    "3b": {
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 28,
        "num_attention_heads": 24,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 128256,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    },
    "sm": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    },
}


def compose(rows: Path, tokenizer: Path, folder: Path, cases: dict[str, list[str]] = CASES, **settings: int) -> None:
    """Write FOLDER/CASE.yaml, the rows eight times over (or packs of 8,192 tokens are few), and the shapes."""
    from hydra import compose, initialize_config_dir

    from tunetrail.config import check, params

    folder.mkdir(parents=True, exist_ok=True)
    text = rows.read_text()
    lines = [json.dumps(row) for row in json.loads(text)] if text.lstrip().startswith("[") else text.splitlines()
    (folder / "rows.jsonl").write_text("\n".join(lines * 8) + "\n")
    (folder / "shapes.json").write_text(json.dumps(SHAPES))
    shutil.copytree(tokenizer, folder / "tokenizer", dirs_exist_ok=True)
    for case, overrides in cases.items():
        with initialize_config_dir(str(ROOT / "conf")):
            train = check.resolve(compose("config", overrides))["train"]
        train |= {
            "base_model": f"{folder.name}/{case[:2]}",
            "max_steps": 3,
            "num_epochs": 1,
            "evals_per_epoch": None,
            "gradient_accumulation_steps": 2,
            "save_strategy": "no",
            "logging_steps": 1,
            "test_datasets": None,
            "val_set_size": 0,
            "output_dir": f"work/{case}",
            "dataset_prepared_path": f"work/{case}/prepared",
            "special_tokens": None,
            "warmup_ratio": None,
            "warmup_steps": 1,
        } | settings
        train["datasets"][0]["path"] = f"{folder.name}/rows.jsonl"
        for key in ("model_revision", "save_total_limit"):
            train.pop(key, None)
        params.write_yaml(folder / f"{case}.yaml", {key: value for key, value in train.items() if value is not None})


def measure(folder: Path, cases: list[str]) -> None:
    """Train each case for three steps and print the largest of the figures that Axolotl logged."""
    import torch

    shapes = json.loads((folder / "shapes.json").read_text())
    for case in cases:
        log = train(folder, case)
        peaks = {
            ours: max(map(float, re.findall(rf"memory/{theirs} \(GiB\)'?: '?([\d.]+)", log)), default=None)
            for ours, theirs in (("max_allocated_gib", "max_allocated"), ("reserved_gib", "device_reserved"))
        }
        config = yaml.safe_load((folder / f"{case}.yaml").read_text())
        settings = {key: config[key] for key in KEYS if key in config}
        line = {"case": case, "gpu": torch.cuda.get_device_name(), "num_gpus": processes(case), "fitted": False} | peaks
        print(json.dumps(line | {"shape": shapes[case[:2]], "train": settings}), flush=True)


def processes(case: str) -> int:
    return 2 if case.endswith("fsdp2") else 1


def train(folder: Path, case: str) -> str:
    """Train a case on a model with random weights and return Axolotl's output."""
    shapes = json.loads((folder / "shapes.json").read_text())
    if not (folder / case[:2] / "config.json").is_file():
        _random(shapes[case[:2]], folder / "tokenizer", folder / case[:2])
    count = processes(case)
    launcher = ["accelerate.commands.launch", "--num_processes", str(count), "--mixed_precision", "bf16"]
    launcher += ["--main_process_port", "0", *["--multi_gpu"] * (count > 1)]
    done = subprocess.run(
        [sys.executable, "-m", *launcher, "-m", "axolotl.cli.train", f"{folder}/{case}.yaml"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=os.environ | {"AXOLOTL_DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"},
    )
    (folder / f"{case}.log").write_text(done.stdout)
    return done.stdout


def _random(shape: dict, tokenizer: Path, model: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        network = LlamaForCausalLM(LlamaConfig(**shape))
    torch.set_default_dtype(torch.float32)
    network.save_pretrained(model)
    shutil.copytree(tokenizer, model, dirs_exist_ok=True)


if __name__ == "__main__":
    task, *rest = sys.argv[1:]
    compose(*map(Path, rest)) if task == "compose" else measure(Path(rest[0]), rest[1:])
