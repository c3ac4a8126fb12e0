"""The hub, files here, or the demo's generator -> data/raw: instructions/, prompts/ and maybe text/, each file as it came.

    python -m tunetrail.stages.fetch

DVC keeps data/raw, so `dvc push` shares it and `dvc checkout` brings it back without the hub.
"""

import shutil
from pathlib import Path
from typing import Any

from tunetrail import hub, params, records, world
from tunetrail.stages import run

OUT = Path("data/raw")


def main() -> None:
    section = params.read("fetch")
    sizes = section["generate"]
    if sizes:
        seed = sizes["seed"]
        records.write(OUT / "instructions" / "world.jsonl", world.instruction_rows(seed, sizes["rows"]))
        records.write(OUT / "text" / "world.jsonl", world.plain_text(seed, sizes["documents"]))
    else:
        bring(section["instructions"], OUT / "instructions")
    if section["prompts"]["path"] == world.SOURCE:
        records.write(OUT / "prompts" / "world.jsonl", world.evaluation_prompts(sizes["seed"], sizes["prompts"]))
    else:
        bring(section["prompts"], OUT / "prompts")


def bring(source: dict[str, Any], folder: Path) -> None:
    """Copy the file that `source` names, by its path here or on the hub, into `folder` under its own name."""
    file = hub.fetch(**source["hub"], repo_type="dataset") if source["hub"] else Path(source["path"])
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, folder / file.name)
    print(f"fetch: {folder / file.name}, {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    run(main)
