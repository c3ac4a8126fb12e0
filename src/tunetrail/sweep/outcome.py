"""How a job ended -> its file, its MLflow run, and for a failure one line that says why."""

import contextlib
import json
import re
import time
import traceback
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from tunetrail import UserError, redaction
from tunetrail.checkout import locks
from tunetrail.sweep.state import Job
from tunetrail.tracking.recorded import RecordedRun

# Errors that launchers raise when one of their processes has failed: they say which process, not why it failed.
_LAUNCHER_ERRORS = ("subprocess.CalledProcessError", "torch.distributed.elastic.multiprocessing.errors.ChildFailedError")
_MOST_CHARACTERS = 500


@contextlib.contextmanager
def record(job: Job, root: Path) -> Iterator[None]:
    """Write how the body ends into the job's file and its MLflow run. A failure is not raised, so that other jobs follow."""
    status = "FAILED"
    try:
        yield
        if job.state == "running":
            job.state = "finished"
        status = "KILLED" if job.state == "stopped" else ""  # "": its own process has closed the MLflow run
    except locks.Busy as error:  # an earlier attempt is still running, and closes its MLflow run itself
        status = ""
        job.state, job.why = "failed", str(error)
    except UserError as error:
        job.state, job.why = "failed", str(error)
    except Exception as error:
        job.state, job.why = "failed", redaction.redact(f"{type(error).__name__}: {error}")
        with job.file.with_suffix(".log").open("a") as log:
            log.write(redaction.redact(traceback.format_exc()))
    except BaseException:  # Ctrl-C or a signal ends the sweep
        status = "KILLED"
        job.state = "stopped"
        raise
    finally:
        job.ended = job.ended or time.time()
        job.write()
        if status and job.run:
            from tunetrail.tracking import other_runs

            other_runs.close_run(root, job.run, status, job.why)


def take_over(job: Job, child: RecordedRun, root: Path) -> None:
    """Mark the job as skipped, with the scores and times of `child`, its MLflow run that finished in an earlier call."""
    from tunetrail.tracking import store

    metrics = store.read_artifacts(root, child.id, ["report/metrics.json"])["report/metrics.json"]
    job.set_scores(json.loads(metrics))
    job.started = datetime.fromisoformat(child.started).timestamp()
    job.ended = datetime.fromisoformat(child.ended).timestamp()
    job.state = "skipped"


def why(log: Path, start: int) -> str:
    """Return in one line why the run failed that wrote `log` from `start` on: its last exception or first error."""
    with log.open("rb") as file:
        file.seek(start)
        text = file.read().decode(errors="replace")
    exceptions = re.findall(r"^(?:\[rank\d+\]: *)?((?:\w+\.)*\w*(?:Error|Exception)(?:: .*)?)$", text, re.MULTILINE)
    exceptions = [line for line in exceptions if not line.startswith(_LAUNCHER_ERRORS)]
    errors = re.findall(r"^error: (.*)$", text, re.MULTILINE)
    reason = (exceptions[-1:] or errors[:1] or ["it ended without an error message"])[0]
    return f"{reason[:_MOST_CHARACTERS]} (whole log: {log})"
