"""A checkpoint's folder -> its manifest, written last, with the size and the hash of each file: the checkpoint is whole, or
it is not taken.
"""

import json
import os
from pathlib import Path

FILE = "manifest.json"


def write(checkpoint: Path) -> None:
    """Write the manifest of all files that are in the folder."""
    files = {str(file.relative_to(checkpoint)): _entry(file) for file in _files(checkpoint)}
    partial = checkpoint / f"{FILE}.partial"
    with partial.open("w", encoding="utf-8") as text:
        json.dump({"files": files}, text, indent=2)
        text.flush()
        os.fsync(text.fileno())
    partial.replace(checkpoint / FILE)


def fault(checkpoint: Path) -> str:
    """Return what is wrong with the checkpoint, such as `optimizer.pt is cut`; "" if it is whole."""
    try:
        files = json.loads((checkpoint / FILE).read_text(encoding="utf-8"))["files"]
        entries = [(name, entry["bytes"], entry["xxh3_128"]) for name, entry in files.items()]
    except FileNotFoundError:
        return f"it has no {FILE}, which is written last"
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return f"its {FILE} is damaged"
    try:
        for name, size, _ in entries:  # all sizes first: reading gigabytes takes time
            if (checkpoint / name).stat().st_size != size:
                return f"{name} is cut"
    except OSError:
        return f"{name} is missing"
    return next((f"{name} is damaged" for name, _, digest in entries if _hash(checkpoint / name) != digest), "")


def _files(checkpoint: Path) -> list[Path]:
    return sorted(file for file in checkpoint.rglob("*") if file.is_file() and not file.name.startswith(FILE))


def _entry(file: Path) -> dict[str, int | str]:
    return {"bytes": file.stat().st_size, "xxh3_128": _hash(file)}


def _hash(file: Path) -> str:
    import xxhash  # several times as fast as SHA-256: a checkpoint may have tens of gigabytes

    digest = xxhash.xxh3_128()
    with file.open("rb") as content:
        while block := content.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
