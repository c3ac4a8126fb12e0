"""A model's folder -> the files of the model or the adapter, their digest, the number of parameters.

Without the trainer's logs, optimiser states and checkpoints.
"""

import hashlib
import math
import shutil
from pathlib import Path

from tunetrail import UserError

ADAPTER = "adapter_config.json"  # peft's
_PATTERNS = ("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", ADAPTER)
_TOKENIZER = (
    "tokenizer*",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "*.model",
    "chat_template.jinja",
)


def is_path(base_model: str) -> bool:
    """Return whether `base_model` is a folder here, not an id of the hub, which has at most one slash."""
    is_relative = base_model.startswith((".", "/", "~", "outputs/", "work/"))
    return is_relative or Path(base_model).exists() or base_model.count("/") > 1


def is_adapter(folder: Path) -> bool:
    """Return whether `folder` has an adapter, which needs its base model."""
    return (folder / ADAPTER).is_file()


def files(folder: Path) -> list[Path]:
    """Return the model's files in `folder`, sorted by name.

    Raises:
        UserError: there is no such folder, or no model in the transformers format in it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder. Give a model's folder, or a hub id such as org/name.")
    if not (folder / "config.json").is_file() and not is_adapter(folder):
        raise UserError(f"{folder}: no model (it has no config.json). Give a folder saved by save_pretrained.")
    if not any(folder.glob("*.safetensors")):
        raise UserError(f"{folder}: no weights in safetensors. Save the model again with safe_serialization=True.")
    return sorted({file for pattern in _PATTERNS + _TOKENIZER for file in folder.glob(pattern)})


def hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each of the model's files by its name."""
    result = {}
    for file in files(folder):
        with file.open("rb") as content:
            result[file.name] = hashlib.file_digest(content, "sha256").hexdigest()
    return result


def digest(folder: Path) -> str:
    """Return the SHA-256 over the names and contents of the model's files."""
    lines = "".join(f"{name} {sha256}\n" for name, sha256 in hashes(folder).items())
    return hashlib.sha256(lines.encode()).hexdigest()


def parameters(folder: Path) -> int:
    """Return how many parameters the model's weights in `folder` have; tied weights are saved and counted once."""
    from safetensors import safe_open

    total = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "np") as weights:
            names = weights.keys()
            total += sum(math.prod(weights.get_slice(name).get_shape()) for name in names)
    return total


def copy(source: Path, target: Path) -> None:
    """Copy the model in `source` to `target`, which is emptied first."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for file in files(source):
        shutil.copy2(file, target / file.name)
