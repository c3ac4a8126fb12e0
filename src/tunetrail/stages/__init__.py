"""The stages that DVC runs: one file per stage.

Each reads its section of params.yaml, calls the tool that owns it, and writes the outputs.
"""

import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tunetrail import UserError, disk, events, redaction


def run(main: Callable[..., None], *arguments: str) -> None:
    """Call a stage's `main`, and write its start to work/progress.jsonl and its duration to work/seconds.jsonl.

    A UserError or a full disk ends the stage with a message and code 2, any other error with a traceback and code 1.
    """
    started, stage = time.monotonic(), "_".join([Path(sys.argv[0]).stem, *arguments])
    events.add(Path(), stage)
    try:
        main(*arguments)
    except UserError as error:
        print(f"error: {redaction.redact(str(error))}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        if disk.is_full(error):
            print(f"error: {disk.message(error, Path())}", file=sys.stderr)
            sys.exit(2)
        print(redaction.redact(traceback.format_exc()), file=sys.stderr)
        sys.exit(1)
    Path("work").mkdir(exist_ok=True)
    with Path("work/seconds.jsonl").open("a") as file:
        file.write(json.dumps({"stage": stage, "seconds": round(time.monotonic() - started, 3)}) + "\n")
