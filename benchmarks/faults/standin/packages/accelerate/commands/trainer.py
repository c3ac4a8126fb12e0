"""An Axolotl config -> history, checkpoints and a model, written as Axolotl and our plug-in write them, without a model.

Its state is a chain of digests over the order of rows: a loss is right only if every step before it was done, once.
"""

import hashlib
import json
import os
import shutil
import sys
import time
from pathlib import Path

import yaml

from tunetrail.training import history, manifest, order

STEPS, EPOCHS, SAVES, KEPT, SECONDS = 60, 3, 10, 2, 0.05  # SECONDS: of a step


def losses(seed: int, step: int = 0, state: str = "") -> list[tuple[str, float]]:
    """Return the state and the loss after each of the steps that follow `step`, whose state is `state`."""
    steps = []
    for number in range(step, STEPS):
        per_epoch = STEPS // EPOCHS
        rows = order.rows(seed, number // per_epoch, 100)[5 * (number % per_epoch) :][:5]
        state = hashlib.sha256(f"{state} {rows.tolist()}".encode()).hexdigest()
        steps.append((state, int(state[:13], 16) / 16**13))
    return steps


def save(checkpoint: Path, state: str) -> None:
    """Write the files of a checkpoint in several pieces, so that a kill cuts them, then its manifest."""
    checkpoint.mkdir(exist_ok=True)
    for name in ("model.safetensors", "optimizer.pt", "state.json"):
        with (checkpoint / name).open("w") as file:
            for _ in range(20):
                file.write(state * 100)
                file.flush()
    (checkpoint / "state.json").write_text(state)
    folders = sorted(checkpoint.parent.glob("checkpoint-*"), key=lambda folder: int(folder.name[11:]))
    for folder in folders[:-KEPT]:
        shutil.rmtree(folder)
    manifest.write(checkpoint)


def main() -> None:
    config = yaml.safe_load(Path(sys.argv[1]).read_text())
    out = Path(config["output_dir"])
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = config.get("resume_from_checkpoint")
    step, state = (int(Path(checkpoint).name[11:]), Path(checkpoint, "state.json").read_text()) if checkpoint else (0, "")
    history.cut(out / "history.jsonl", step)
    rest = losses(config["seed"], step, state)
    for number, (after, loss) in enumerate(rest, step + 1):
        time.sleep(SECONDS)
        history.append(out / "history.jsonl", number, time.time(), {"loss": loss})
        if number % (STEPS // SAVES) == 0:
            save(out / f"checkpoint-{number}", after)
    shutil.copytree(os.environ["STANDIN_MODEL"], out, dirs_exist_ok=True)
    print(json.dumps({"steps": STEPS}))


if __name__ == "__main__":
    main()
