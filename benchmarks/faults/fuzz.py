"""Random override lines -> those that end in anything but a UserError with a message of readable length.

    python benchmarks/faults/fuzz.py [--lines N] [--seed N]

Each line is read, composed and checked as by `tunetrail run`, which runs nothing here. Ends with code 1 if a line failed.
"""

import argparse
import collections
import os
import random
import sys
import traceback
from pathlib import Path

from tunetrail import UserError
from tunetrail.config import check, compose, grid, overrides, schema

ROOT = Path(__file__).parents[2]
LONGEST = 4000  # characters of a message: all faults of three overrides, with the keys that may be meant
VALUES = [
    *("1", "-1", "0", "1e400", "nan", "inf", "null", "true", "[]", "[1]", "{}", "{a:1}", "[[1,2],3]", "???"),
    *("${..}", "${seed}", "${nope}", "${oc.env:HOME}", "${", "$", "'", '"', "''", "a b", "x" * 5000, "é", "\u2028", "\x00"),
    *(
        "/dev/null",
        "../x",
        "\\",
        "%",
        "@",
        "a@b",
        "a:b",
        "a=b",
        "a,b",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "~",
        "+",
        "demo",
        "lora",
    ),
    *("range(1,0,0)", "range(1,5)", "choice(1,2)", "glob(*)", "interval(0,1)", "sort(1,2)", "shuffle(1,2)", "tag(a,1)"),
    *("int(x)", "str(1)", "json_str(1)", "extend_list(1)", "[demo,lora]", "llama3_8b_alpaca"),
]


def line(draw: random.Random, keys: list[str], groups: list[str]) -> str:
    """Return a random override: of known keys and groups with odd ends, of Hydra's own keys, of any characters."""
    key = draw.choice(
        [
            draw.choice(keys),
            draw.choice(groups),
            draw.choice(keys) + draw.choice([".x", "..", ".0", "[0]", "@_global_", "@x:y"]),
            f"{draw.choice(groups)}@{draw.choice(keys)}",
            "hydra." + draw.choice(["run.dir", "sweep.dir", "job.name", "x", "sweeper", "launcher"]),
            "".join(draw.choice("abz._/@~+=[]{}$ ") for _ in range(draw.randint(0, 8))),
        ]
    )
    value = "".join(draw.choice("ab1.,:=[]{}()$'\"\\ ~+-") for _ in range(draw.randint(0, 12)))
    value = draw.choice([*[draw.choice(VALUES)] * 4, value])
    return draw.choice(["", "", "", "+", "++", "~", "--"]) + key + draw.choice(["=", "=", "=", "", "=="]) + value


def fault(words: list[str], multirun: bool, known: check.Schema) -> str:
    """Return how these overrides fail otherwise than with a UserError; "" if they do not."""
    try:
        overrides.validate(words, multirun=multirun)
        with compose.explained(ROOT, words, known):
            if multirun:
                grid.check_jobs(ROOT, words, known)
            else:
                check.check(check.resolve(compose.compose(ROOT, words)), known)
    except UserError as error:
        text = str(error)
        return "no message" if not text.strip() else f"a message of {len(text)} characters" if len(text) > LONGEST else ""
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:200]} ({frame.filename}:{frame.lineno})"
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.chdir(ROOT)
    known = schema.params()
    keys, groups = check.known_keys(known), [folder.name for folder in (ROOT / "conf").iterdir() if folder.is_dir()]
    draw, faults, read = random.Random(options.seed), collections.Counter(), 0
    while read < options.lines:
        words = [line(draw, keys, groups) for _ in range(draw.choice([1, 1, 1, 2, 3]))]
        read += len(words)
        if how := fault(words, draw.random() < 0.2, known):
            faults[how.partition(":")[0]] += 1
            print(f"{how}: {[word[:100] for word in words]}", flush=True)
    print(f"{read} lines, {sum(faults.values())} faults {dict(faults)}")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
