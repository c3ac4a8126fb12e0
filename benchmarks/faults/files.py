"""Damaged rows, prompts, histories, lock and record files -> those that end in anything but a UserError of readable length.

    python benchmarks/faults/files.py [--files N] [--seed N]

Each file is a whole one with bytes cut, changed, inserted or moved, read by the function that a run reads it with. Ends with
code 1 if one failed.
"""

import argparse
import collections
import json
import random
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

from tunetrail import UserError
from tunetrail.checkout import dvc
from tunetrail.config import params
from tunetrail.data import records
from tunetrail.plan.estimate import architecture
from tunetrail.tracking import record
from tunetrail.training import history, manifest, resume

ROOT = Path(__file__).parents[2]
LONGEST = 4000  # characters of a message
INSERTED = [
    *(b"\x00", b"null", b"[", b"]", b"{", b"}", b'"', b"\xff\xfe", b"1e999", b"NaN", b"[[" * 3000, b"\n\n", b","),
    *(b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"9" * 24),
]


def lines(*rows: dict) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


ROWS = [{"instruction": f"Name {i}", "input": "x" * (i % 2), "output": f"It is {i}."} for i in range(6)]
PROMPTS = [
    {"key": i, "prompt": f"Write {i}", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]} for i in range(4)
]


CONFIG = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 9}


def _history(folder: Path) -> None:
    rows, _ = history.read(folder / "history.jsonl")
    history.summary(rows)
    history.cut(folder / "history.jsonl", 2)


# The file in its folder: a whole one, and what reads it.
FILES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "rows.jsonl": (lines(*ROWS), lambda folder: records.read_instructions(folder / "rows.jsonl")),
    "rows.json": (json.dumps(ROWS), lambda folder: records.read_instructions(folder / "rows.json")),
    "prompts.jsonl": (lines(*PROMPTS), lambda folder: records.read_prompts(folder / "prompts.jsonl")),
    "history.jsonl": (lines(*({"step": i, "time": float(i), "train/loss": 1 / (i + 1)} for i in range(5))), _history),
    "dvc.lock": ((ROOT / "dvc.lock").read_text()[:3000], dvc.locked_stages),
    "params.yaml": ((ROOT / "params.yaml").read_text(), lambda folder: params.load(folder / "params.yaml")),
    "work/seconds.jsonl": (lines(*({"stage": "a", "seconds": 1.0} for _ in range(3))), record.stage_times),
    "manifest.json": (json.dumps({"files": {"a": {"bytes": 1, "xxh3_128": "0"}}}), manifest.fault),
    "config.json": (json.dumps(CONFIG), lambda folder: architecture.read({"make": None, "base_model": "."}, folder)),
    "attempts.jsonl": (lines(*({"time": 1.0, "from_step": i, "repeated": 0} for i in range(3))), resume.attempts),
    "training.json": (json.dumps({"training": {"train": {}}, "finished": False}), resume.finish),
}


def damaged(text: str, draw: random.Random) -> bytes:
    """Return the text with one to five damages."""
    content = bytearray(text.encode())
    for _ in range(draw.choice([1, 1, 2, 5])):
        kind, at = draw.choice(["cut", "change", "insert", "remove", "shuffle"]), draw.randrange(len(content) + 1)
        if kind == "cut":
            del content[at:]
        elif kind == "change" and at:
            content[at - 1] = draw.randrange(256)
        elif kind == "insert":
            content[at:at] = draw.choice(INSERTED)
        elif kind == "remove":
            del content[at : at + draw.randrange(1, 20)]
        elif parts := bytes(content).splitlines(keepends=True):
            draw.shuffle(parts)
            content = bytearray(b"".join(parts[: draw.randrange(1, len(parts) + 1)]))
    return bytes(content)


def fault(folder: Path, name: str, draw: random.Random) -> str:
    """Return how reading a damaged file fails otherwise than with a UserError; "" if it does not."""
    text, read = FILES[name]
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(damaged(text, draw))
    try:
        read(folder)
    except UserError as error:
        return f"a message of {len(str(error))} characters" if len(str(error)) > LONGEST else ""
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:200]} ({frame.filename}:{frame.lineno})"
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw, faults = random.Random(options.seed), collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.files):
            name = list(FILES)[number % len(FILES)]
            if how := fault(Path(folder), name, draw):
                faults[name] += 1
                print(f"{name}: {how}", flush=True)
    print(f"{options.files} files, {sum(faults.values())} faults {dict(faults)}")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
