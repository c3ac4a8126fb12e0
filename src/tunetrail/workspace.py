"""The checkout -> its root, its git state, its DVC state, and the right to run in it, which one run has at a time."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tunetrail import UserError, launch


def root() -> Path:
    """The folder at or above this one with conf/ and dvc.yaml in it.

    Raises:
        UserError: there is none, or it is not under git, without which a run could not be had again.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file() and (folder / "conf" / "config.yaml").is_file():
            if not any((above / ".git").exists() for above in (folder, *folder.parents)):
                raise UserError(
                    f"{folder}: not a git checkout, so no run in it could be had again. Clone the repository, or: "
                    "git init && git add --all && git commit -m start"
                )
            return folder
    raise UserError(f"{here}: no tunetrail checkout (conf/config.yaml and dvc.yaml) here or above. Change into one.")


def git_state(folder: Path) -> dict[str, str]:
    """The commit, and whether files differ from it: tracked ones anywhere, and new ones in conf/ and src/.

    Raises:
        UserError: git does not answer, or there is no commit yet.
    """
    git = ["git", "-C", str(folder)]
    commit = launch.output([*git, "rev-parse", "--verify", "HEAD"])
    # params.yaml and dvc.lock are what a run writes: they are kept with it, and do not make the code another.
    changed = launch.output([*git, "status", "--porcelain", "--untracked-files=no", ".", ":!params.yaml", ":!dvc.lock"])
    new = launch.output([*git, "ls-files", "--others", "--exclude-standard", "conf", "src"])
    return {"git.commit": commit, "git.dirty": str(bool(changed or new)).lower()}


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[int]:
    """Hold the checkout for one run. Yields the open file that is the hold: it ends with the last process that has it.

    Raises:
        UserError: another run holds it.
    """
    lock = folder / "work" / "lock"
    lock.parent.mkdir(exist_ok=True)
    with lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(
                f"{folder}: process {file.read().strip()}, or what it started, is running here, and two runs would write "
                "the same files. Wait for it, or run in a clone of your own."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield file.fileno()


def locked(folder: Path) -> dict[str, Any]:
    """What dvc.lock records: stage -> {"deps", "params", "outs"}; nothing before the first run."""
    lock = folder / "dvc.lock"
    return (yaml.safe_load(lock.read_text()) or {}).get("stages", {}) if lock.is_file() else {}


def md5(folder: Path, stages: dict[str, Any], stage: str, path: str) -> str | None:
    """The md5 by which DVC knows the output or dependency `path` of `stage`, however the path is written."""
    entries = [*stages.get(stage, {}).get("outs", ()), *stages.get(stage, {}).get("deps", ())]
    wanted = (folder / path).resolve()
    return next((entry["md5"] for entry in entries if (folder / entry["path"]).resolve() == wanted), None)


def reproduce(folder: Path, held: int) -> None:
    """Bring every stage up to date with `dvc repro`, which keeps the hold `held` (see `alone`) as long as it lives.

    Raises:
        UserError: a stage failed. Its earlier outputs, which DVC removed before it ran the stage, are back in place.
    """
    os.chdir(folder)
    code = None
    try:
        code = launch.run(["dvc", "repro"], held)
    finally:
        if code != 0:
            launch.run(["dvc", "checkout", "--quiet", "--force", "--allow-missing"], held)
    if code:
        raise UserError("a stage failed: what it said is above. Mend that and run again; finished stages are not run again.")
