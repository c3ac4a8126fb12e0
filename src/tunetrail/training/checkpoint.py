"""A model's folder -> the files that are the model or the adapter, and their digest.

The trainer's logs, optimiser states and its own checkpoints are none of them.
"""

import hashlib
import shutil
from pathlib import Path

from tunetrail import UserError

ADAPTER = "adapter_config.json"  # by which peft knows an adapter
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
    """Whether `base_model` means a folder here; a hub's id has one slash at most and names no folder."""
    here = base_model.startswith((".", "/", "~", "outputs/", "work/"))
    return here or Path(base_model).exists() or base_model.count("/") > 1


def is_adapter(folder: Path) -> bool:
    """Whether `folder` holds an adapter, which is nothing without its base."""
    return (folder / ADAPTER).is_file()


def files(folder: Path) -> list[Path]:
    """The files of the model in `folder`, in the order of their names.

    Raises:
        UserError: there is no such folder, or it holds no model in the transformers format.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder. Give a model's folder, or a hub id such as org/name.")
    if not (folder / "config.json").is_file() and not is_adapter(folder):
        raise UserError(f"{folder}: no model (it has no config.json). Give a folder saved by save_pretrained.")
    if not any(folder.glob("*.safetensors")):
        raise UserError(f"{folder}: no weights in safetensors. Save the model again with safe_serialization=True.")
    return sorted({file for pattern in _PATTERNS + _TOKENIZER for file in folder.glob(pattern)})


def hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of each of the model's files, by its name."""
    found = {}
    for file in files(folder):
        with file.open("rb") as content:
            found[file.name] = hashlib.file_digest(content, "sha256").hexdigest()
    return found


def digest(folder: Path) -> str:
    """SHA-256 over the names and contents of the model's files."""
    return hashlib.sha256("".join(f"{name} {own}\n" for name, own in hashes(folder).items()).encode()).hexdigest()


def copy(source: Path, target: Path) -> None:
    """Put the model of `source` into `target`, in place of what was there."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for file in files(source):
        shutil.copy2(file, target / file.name)
