"""The hub, local files, or the demo's generator -> data/raw: instructions/, prompts/ and maybe text/, each file unchanged,
and sources.json, which says where each came from.

    python -m tunetrail.stages.fetch

DVC caches data/raw, so `dvc push` shares it and `dvc checkout` restores it without the hub.
"""

import shutil
from pathlib import Path
from typing import Any

from tunetrail.config import params
from tunetrail.data import hub, records, sources, world
from tunetrail.stages import run

OUT = Path("data/raw")
_MAKERS = {"instructions": world.instruction_rows, "text": world.plain_text, "prompts": world.evaluation_prompts}


def main() -> None:
    described = {}
    for kind, origin in sources.origins(params.read("fetch")).items():
        (OUT / kind).mkdir(parents=True, exist_ok=True)
        described[kind] = sources.describe(fetch(kind, origin), origin)
    sources.write(OUT, described)


def fetch(kind: str, origin: dict[str, Any]) -> Path:
    """Generate the data of a kind, or copy the file of `origin` under its own name; return the path."""
    if "generator" in origin:
        records.write(OUT / kind / "world.jsonl", _MAKERS[kind](origin["seed"], origin["rows"]))
        return OUT / kind / "world.jsonl"
    file = hub.fetch(**origin["hub"], repo_type="dataset") if "hub" in origin else Path(origin["path"])
    shutil.copyfile(file, OUT / kind / file.name)
    print(f"fetch: {OUT / kind / file.name}, {file.stat().st_size:,} bytes")
    return OUT / kind / file.name


if __name__ == "__main__":
    run(main)
