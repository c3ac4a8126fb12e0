"""The rows and the settings of a training -> the folder of its tokenised rows, shared by trainings that tokenise the same.

Axolotl identifies tokenised rows by the names of their files (`dataset_prepared_path`), not by their content, so it is given
a folder that is named by content. Axolotl tokenises, and decides by its own lock which process writes.
"""

import hashlib
import importlib.metadata
import json
import shutil
from pathlib import Path
from typing import Any

from filelock import FileLock

PLACE = Path("work/shared/tokens")
_TOOLS = ("axolotl", "datasets", "tokenizers", "transformers")
_LOCK = "datasets_prep.lock"  # Axolotl's (axolotl/utils/data/lock.py): the process that has it writes
_WRITTEN_LAST = "dataset_info.json"  # of datasets' save_to_disk
# Prefixes of Axolotl's keys that change no token: runs that differ only in these share their rows. A missing key costs only
# time.
_NO_TOKEN = (
    *("adam_", "adapter", "attn_implementation", "bf16", "deepspeed", "evals_per_epoch", "fp16", "fsdp", "gradient_"),
    *("learning_rate", "load_in_", "logging_", "lora_", "lr_scheduler", "max_grad_norm", "max_steps", "micro_batch_size"),
    *("num_epochs", "optim", "output_dir", "plugins", "save_", "tf32", "warmup_", "weight_decay"),
)


def _reads_only(section: dict[str, Any], data: list[Path]) -> bool:
    """Return whether the tokenised rows depend on `data` and the section only, not on other files that it names."""
    data_sets = [*section["datasets"], *(section.get("test_datasets") or [])]
    if not all(isinstance(data_set.get("type"), dict) for data_set in data_sets):
        return False
    if {data_set["path"] for data_set in data_sets} != set(map(str, data)):
        return False
    return not any(section.get(key) for key in ("tokenizer_config", "chat_template_jinja", "chat_template"))


def share(section: dict[str, Any], data: list[Path], base: dict[str, Any]) -> None:
    """Make `dataset_prepared_path` of the Axolotl config `section` a link to the shared folder for these rows and this base.

    A path outside of output_dir is the user's own and stays as it is. Nothing is shared if the rows depend on more than is
    hashed here. Rows that a killed run left incomplete are removed: Axolotl would use them.
    """
    prepared = Path(section.get("dataset_prepared_path") or "")
    out = Path(section["output_dir"])
    is_inside = out in prepared.parents and ".." not in prepared.parts
    if not (is_inside and prepared.parent.resolve().is_relative_to(out.resolve()) and _reads_only(section, data)):
        return
    settings = {key: value for key, value in section.items() if not key.startswith(_NO_TOKEN)}
    contents = [hashlib.sha256(file.read_bytes()).hexdigest() for file in data]
    tools = {tool: importlib.metadata.version(tool) for tool in _TOOLS}
    key = hashlib.sha256(json.dumps([settings, contents, base, tools], sort_keys=True).encode()).hexdigest()[:16]
    folder = PLACE / key
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / _LOCK):
        for rows in folder.iterdir():
            if rows.is_dir() and not (rows / _WRITTEN_LAST).is_file():
                shutil.rmtree(rows)
    prepared.parent.mkdir(parents=True, exist_ok=True)
    if prepared.is_dir() and not prepared.is_symlink():  # from before rows were shared
        shutil.rmtree(prepared)
    prepared.unlink(missing_ok=True)
    prepared.symlink_to(folder.resolve(), target_is_directory=True)
