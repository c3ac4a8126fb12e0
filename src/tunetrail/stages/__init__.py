"""The stages that DVC runs: one file a stage.

Each reads its section of params.yaml, calls the tool that owns it, and writes the outputs.
"""

import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tunetrail import UserError, events, redaction


def run(main: Callable[..., None], *arguments: str) -> None:
    """Call a stage's `main` and note its start in work/progress.jsonl and its seconds in work/seconds.jsonl.

    What a person can fix ends the stage with a message and code 2, anything else with a traceback.
    """
    started, stage = time.monotonic(), "_".join([Path(sys.argv[0]).stem, *arguments])
    events.add(Path(), stage)
    try:
        main(*arguments)
    except UserError as error:
        print(f"error: {redaction.redact(str(error))}", file=sys.stderr)
        sys.exit(2)
    except Exception:
        print(redaction.redact(traceback.format_exc()), file=sys.stderr)
        sys.exit(1)
    Path("work").mkdir(exist_ok=True)
    with Path("work/seconds.jsonl").open("a") as file:
        file.write(json.dumps({"stage": stage, "seconds": round(time.monotonic() - started, 3)}) + "\n")
