"""What a training tokenises -> the folder where its tokenised rows are kept, for every training that tokenises the same.

Axolotl keeps tokenised rows by the names of their files (`dataset_prepared_path`), not by what is in them, so the folder
that it is handed is one by content. Not covered: the tokenising, and who writes first, which are Axolotl's.
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
_LOCK = "datasets_prep.lock"  # Axolotl's own (axolotl/utils/data/lock.py): whoever has it writes
_WRITTEN_LAST = "dataset_info.json"  # of datasets' save_to_disk
# Keys of Axolotl that change how weights are trained and no token: runs that differ in these alone share their rows. Another
# key makes another folder, which is slower at worst.
_NO_TOKEN = (
    *("adam_", "adapter", "attn_implementation", "bf16", "deepspeed", "evals_per_epoch", "fp16", "fsdp", "gradient_"),
    *("learning_rate", "load_in_", "logging_", "lora_", "lr_scheduler", "max_grad_norm", "max_steps", "micro_batch_size"),
    *("num_epochs", "optim", "output_dir", "plugins", "save_", "tf32", "warmup_", "weight_decay"),
)


def _known(section: dict[str, Any], data: list[Path]) -> bool:
    """Whether the rows come from `data` and the section alone, not from another file that it names."""
    sets = [*section["datasets"], *(section.get("test_datasets") or [])]
    whole = all(isinstance(one.get("type"), dict) for one in sets) and {one["path"] for one in sets} == set(map(str, data))
    return whole and not any(section.get(key) for key in ("tokenizer_config", "chat_template_jinja", "chat_template"))


def share(section: dict[str, Any], data: list[Path], base: dict[str, Any]) -> None:
    """Make `dataset_prepared_path` of the Axolotl config `section` a link to the folder of these rows and this base.

    A path outside of output_dir is the person's own and stays as it is; where a row depends on more than is hashed here,
    nothing is shared. What a killed run left half written is removed,
    which Axolotl would take for whole.
    """
    prepared = Path(section.get("dataset_prepared_path") or "")
    out = Path(section["output_dir"])
    inside = (
        out in prepared.parents and ".." not in prepared.parts and prepared.parent.resolve().is_relative_to(out.resolve())
    )
    if not inside or not _known(section, data):
        return
    asked = {key: value for key, value in section.items() if not key.startswith(_NO_TOKEN)}
    contents = [hashlib.sha256(file.read_bytes()).hexdigest() for file in data]
    tools = {tool: importlib.metadata.version(tool) for tool in _TOOLS}
    key = hashlib.sha256(json.dumps([asked, contents, base, tools], sort_keys=True).encode()).hexdigest()[:16]
    folder = PLACE / key
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / _LOCK):
        for rows in folder.iterdir():
            if rows.is_dir() and not (rows / _WRITTEN_LAST).is_file():
                shutil.rmtree(rows)
    prepared.parent.mkdir(parents=True, exist_ok=True)
    if prepared.is_dir() and not prepared.is_symlink():  # of a training before rows were shared
        shutil.rmtree(prepared)
    prepared.unlink(missing_ok=True)
    prepared.symlink_to(folder.resolve(), target_is_directory=True)
