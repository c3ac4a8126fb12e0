"""A recorded run, without MLflow, for every command that lists, compares or takes a run."""

from dataclasses import dataclass
from pathlib import Path

from tunetrail.tracking import tags


@dataclass(frozen=True)
class RecordedRun:
    """One MLflow run; `tunetrail ls --json` prints these fields.

    `status` is FINISHED, FAILED, KILLED or RUNNING; `started` and `ended` are in ISO 8601, None before; `parent` is, for a
    job, the id of its sweep's run; `artifacts` is their address without a password.
    """

    id: str
    name: str
    status: str
    started: str | None
    ended: str | None
    experiment_id: str
    parent: str | None
    artifacts: str
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]

    @property
    def short_id(self) -> str:
        return self.id[:8]

    @property
    def title(self) -> str:
        return f"run {self.id} ({self.name})"

    @property
    def finished(self) -> bool:
        return self.status == "FINISHED"

    @property
    def sweep(self) -> str | None:
        """The name of the sweep, on a sweep's own run and on its jobs; else None."""
        return self.tags.get(tags.SWEEP)

    @property
    def is_sweep(self) -> bool:
        """Whether it is a sweep's own run, whose jobs are its children."""
        return self.sweep is not None and not self.parent

    @property
    def checkout(self) -> tuple[str, str]:
        """The host and the folder that it runs in; "" if they are not recorded."""
        host, _, folder = self.tags.get(tags.CHECKOUT, "").partition(":")
        return host, folder

    @property
    def dvc_cache(self) -> Path | None:
        """The folder of the DVC cache that has the run's data and models; None if none is recorded, or it is not here.

        The host is not compared: the machines of a cluster, and containers, may share a disk under other names.
        """
        folder = Path(self.tags.get(tags.DVC_CACHE, "").partition(":")[2])
        return folder if folder.is_absolute() and folder.is_dir() else None
