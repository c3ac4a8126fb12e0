"""The checkout -> its root, its git state, its DVC state, and the right to run in it, which one run has at a time."""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from tunetrail import UserError, launch


def root() -> Path:
    """The folder at or above this one with conf/ and dvc.yaml in it.

    Raises:
        UserError: there is none, or it is not under git, without which a run could not be reproduced.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file() and (folder / "conf" / "config.yaml").is_file():
            if not any((above / ".git").exists() for above in (folder, *folder.parents)):
                raise UserError(
                    f"{folder}: not a git checkout, so no run in it could be reproduced. Clone the repository, or: "
                    "git init && git add --all && git commit -m start"
                )
            return folder
    raise UserError(f"{here}: no tunetrail checkout (conf/config.yaml and dvc.yaml) here or above. Change into one.")


@dataclass(frozen=True)
class Code:
    """The code of a checkout: its `commit`; `patch`, a file with what differs from it (empty where nothing does); and
    `digest`, by which src/ and dvc.yaml are known, whichever commit they are in.
    """

    commit: str
    patch: Path
    digest: str

    @property
    def dirty(self) -> bool:
        return self.patch.stat().st_size > 0


# DVC's config may hold a password, and patches and experiments are kept where others read them: they have the commit's own.
_SECRET = ".dvc/config"
_START = "git add --all && git commit -m start"


def code(folder: Path, patch: Path) -> Code:
    """Write what differs from the commit into `patch`: tracked files anywhere in `folder`, and new ones in conf/ and src/.

    Raises:
        UserError: git does not answer, there is no commit yet, or it is not `folder`'s.
    """
    git, commit, index = ["git", "-C", str(folder)], head(folder), patch.with_suffix(".index").resolve()
    try:
        beside = staged(folder, index)
        # params.yaml and dvc.lock are what a run writes: they are kept with it, and do not make the code another.
        rest = [".", ":!params.yaml", ":!dvc.lock"]
        # Not `git diff`, which shows patches as its user likes them: without prefixes, or by a tool of theirs.
        diff = ["diff-index", "--cached", "--binary", "--no-ext-diff", f"--output={patch.resolve()}", "HEAD", "--", *rest]
        launch.output([*git, *diff], beside)
        listed = launch.output([*git, "ls-files", "--stage", "src", "dvc.yaml"], beside)
    finally:
        index.unlink(missing_ok=True)
    return Code(commit, patch, hashlib.sha256(listed.encode()).hexdigest())


def head(folder: Path) -> str:
    """The commit of the checkout.

    Raises:
        UserError: there is none, or git cannot read it.
    """
    git = ["git", "-C", str(folder)]
    launch.output([*git, "rev-parse", "--show-toplevel"])  # git's own words, as of a folder that is another user's
    try:
        commit = launch.output([*git, "rev-parse", "--verify", "HEAD"])
    except UserError:
        raise UserError(f"{folder}: git has no commit yet, by which a run names its code. Make one: {_START}") from None
    try:
        launch.output([*git, "cat-file", "-e", "HEAD^{tree}"])
    except UserError:
        raise UserError(
            f"{folder}: git does not have its commit {commit}. Get it: git fetch --all. What else is lost: git fsck"
        ) from None
    return commit


def staged(folder: Path, index: Path) -> dict[str, str]:
    """Stage the checkout as it is in the file `index`, without what may be secret; returns the environment by which git
    takes that file. What the person has staged stays as it is, and so does every file of theirs.

    Raises:
        UserError: git could not, or the checkout is not in the repository around it.
    """
    git, beside = ["git", "-C", str(folder)], {"GIT_INDEX_FILE": str(index)}
    own = folder / launch.output([*git, "rev-parse", "--git-path", "index"])
    if own.is_file():
        index.write_bytes(own.read_bytes())
    else:
        launch.output([*git, "read-tree", "HEAD"], beside)
    try:
        launch.output([*git, "ls-files", "--error-unmatch", "dvc.yaml"], beside)
    except UserError:
        top = launch.output([*git, "rev-parse", "--show-toplevel"])
        first = "" if Path(top) == folder.resolve() else "git init && "
        raise UserError(
            f"{folder}: its dvc.yaml is not in git ({top}), by which a run names its code. {first}{_START}"
        ) from None
    launch.output([*git, "add", "--update", "--", ".", f":!{_SECRET}"], beside)
    launch.output([*git, "add", *[name for name in ("conf", "src") if (folder / name).is_dir()]], beside)
    launch.output([*git, "reset", "--quiet", "HEAD", "--", _SECRET], beside)
    return beside


_TEXTS = {"path": {"type": "string"}, "md5": {"type": "string"}}
_FILES = {"type": "array", "items": {"type": "object", "required": ["path", "md5"], "properties": _TEXTS}}
_PARAMS = {"type": "object", "additionalProperties": {"type": "object"}}
_STAGE = {"type": "object", "properties": {"deps": _FILES, "outs": _FILES, "params": _PARAMS}}
_LOCK = {"type": "object", "properties": {"stages": {"type": "object", "additionalProperties": _STAGE}}}


class Busy(UserError):
    """Another process holds the checkout: `process` is its id, as far as it is known."""

    def __init__(self, folder: Path, process: str, why: str):
        super().__init__(f"{folder}: process {process}, or what it started, is running here, {why}")
        self.process = process


_TWO_RUNS = "and two runs would write the same files. Wait for it, or run in a clone of your own."


@contextlib.contextmanager
def exclusive_lock(folder: Path, name: str = "work/lock", why: str = _TWO_RUNS) -> Iterator[int]:
    """Hold the checkout, by the file `name` in it, for one run. Yields the open file that is the hold: it ends with the last
    process that has it. Who holds it may remove the file. `why` ends the message: why nobody else may, and what to do.

    Raises:
        Busy: another run holds it.
    """
    lock = folder / name
    lock.parent.mkdir(exist_ok=True)
    with contextlib.ExitStack() as opened:
        file = None
        # A file that was removed since it was opened would hold nobody who comes next.
        while file is None or not os.fstat(file.fileno()).st_nlink:
            file = opened.enter_context(lock.open("a+"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise Busy(folder, file.read().strip(), why) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield file.fileno()


@contextlib.contextmanager
def wait_for_lock(file: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold `file` while the body runs; who comes second calls `waiting`, and waits."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as hold:
        try:
            fcntl.flock(hold, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(hold, fcntl.LOCK_EX)
        yield


def locked(folder: Path) -> dict[str, Any]:
    """What dvc.lock records: stage -> {"deps", "params", "outs"}; nothing before the first run.

    Raises:
        UserError: it is not as DVC writes it, as where a merge left git's conflict markers in it.
    """
    lock = folder / "dvc.lock"
    if not lock.is_file():
        return {}
    try:
        content = yaml.safe_load(lock.read_text(encoding="utf-8")) or {}
        jsonschema.validate(content, _LOCK)
    except (ValueError, yaml.YAMLError, jsonschema.ValidationError) as error:
        why = (
            f"{error.json_path} is wrong" if isinstance(error, jsonschema.ValidationError) else " ".join(str(error).split())
        )
        raise UserError(f"{lock}: not as DVC writes it ({why}). Resolve it, or: git checkout HEAD -- dvc.lock") from None
    return content.get("stages", {})


def outs(folder: Path) -> list[str]:
    """What the stages make: all that DVC may write over, for a person may have put other files under DVC."""
    found = yaml.safe_load((folder / "dvc.yaml").read_text())["stages"]
    return [out for stage in found.values() for out in stage["outs"]]


def hashes(stages: dict[str, Any]) -> dict[str, str]:
    """The md5 of each output of these stages, as `locked` has them, by its path."""
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", ())}


def put_back(folder: Path) -> None:
    """Put the outputs that dvc.lock names back where they are missing or others, as far as the cache has them."""
    words = ["--quiet", "--force", "--allow-missing", *outs(folder)]
    with contextlib.suppress(UserError):
        launch.output(["dvc", "--cd", str(folder), "checkout", *words])


def stages(folder: Path, but: str) -> list[str]:
    """The stages of dvc.yaml in their order there, which is that in which they run, without the one that makes `but`."""
    found = yaml.safe_load((folder / "dvc.yaml").read_text())["stages"]
    return [name for name, stage in found.items() if but not in stage["outs"]]


def md5(folder: Path, stages: dict[str, Any], stage: str, path: str) -> str | None:
    """The md5 by which DVC knows the output or dependency `path` of `stage`, however the path is written."""
    entries = [*stages.get(stage, {}).get("outs", ()), *stages.get(stage, {}).get("deps", ())]
    wanted = (folder / path).resolve()
    return next((entry["md5"] for entry in entries if (folder / entry["path"]).resolve() == wanted), None)


def reproduce(folder: Path, held: int, *targets: str) -> None:
    """Bring every stage, or those of `targets`, up to date with `dvc repro`, which keeps the lock `held` (`exclusive_lock`)
    as long as it lives.

    Raises:
        UserError: a stage failed. Its earlier outputs, which DVC removed before it ran the stage, are back in place.
    """
    os.chdir(folder)
    code = None
    try:
        code = launch.run(["dvc", "repro", *targets], [held])
    finally:
        if code != 0:
            put_back(folder)
    if code:
        raise UserError("a stage failed: what it said is above. Fix that and run again; finished stages are not run again.")
