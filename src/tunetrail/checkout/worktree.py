"""A checkout with its uncommitted changes -> a git worktree with the same code, which shares the checkout's DVC cache."""

import contextlib
import shutil
from pathlib import Path
from typing import Any

from tunetrail import UserError
from tunetrail.checkout import dvc, git, locks
from tunetrail.config import contradictions

SHARED = Path("work/shared")
# Keys that may name a file or a folder of the checkout that git does not keep.
PATHS = (("prepare", "path"), ("evaluate", "path"), ("base", "path"), ("base", "base_model"), ("train", "base_model"))
MADE_BY_STAGES = tuple(f"{folder}/" for folder in (*contradictions.OUTPUTS, "work/base"))


def make(root: Path, folder: Path, code: git.Code) -> Path:
    """Make the worktree `folder` from `code` and return the checkout in it; one that exists is returned as it is.

    Raises:
        UserError: git does not have the commit, or the patch does not apply to it.
    """
    checkout = folder / git.run(root, "rev-parse", "--show-prefix")
    config = checkout / ".dvc" / "config.local"  # written last
    if config.is_file():
        return checkout
    try:
        git.run(root, "cat-file", "-e", f"{code.commit}^{{commit}}")
    except UserError:
        raise UserError(f"commit {code.commit} is not in this repository. Get it: git fetch --all") from None
    with locks.wait_for_lock(git.repository_lock(root)):
        if config.is_file():  # made by another process meanwhile
            return checkout
        remove(root, folder)
        git.run(root, *git.NO_HOOKS, "worktree", "add", "--detach", "--force", str(folder), code.commit)
        if code.dirty:
            git.run(folder, "apply", "--index", "--whitespace=nowarn", str(code.patch.resolve()))
        dvc.write_shared_cache_config(root, config)
    return checkout


def share(root: Path, checkout: Path) -> None:
    """Link `checkout`/work/shared to that of `root`: tokenised rows, and the locks of stages that jobs share."""
    (root / SHARED).mkdir(parents=True, exist_ok=True)
    (checkout / "work").mkdir(exist_ok=True)
    if not (checkout / SHARED).exists():
        (checkout / SHARED).symlink_to((root / SHARED).resolve(), target_is_directory=True)


def remove(root: Path, folder: Path) -> None:
    """Remove the worktree `folder`; its outputs stay in DVC's cache."""
    # Not `git worktree prune`: it would remove the user's worktrees on a disk that is not mounted now.
    with contextlib.suppress(UserError):  # no worktree, or an incomplete one
        git.run(root, "worktree", "remove", "--force", "--force", str(folder))
    shutil.rmtree(folder, ignore_errors=True)


def link_all_untracked(root: Path, checkout: Path, values: dict[str, Any]) -> None:
    """Call `link_untracked` for every key of `PATHS`, then `update_fetch`."""
    for section, key in PATHS:
        link_untracked(root, checkout, values[section], key)
    update_fetch(values)


def update_fetch(values: dict[str, Any]) -> None:
    """Set the files that `fetch` names to those that `prepare` and `evaluate` name."""
    for kind, section in (("instructions", "prepare"), ("prompts", "evaluate")):
        if part := values.get("fetch", {}).get(kind):
            part["path"] = values[section]["path"]


def link_untracked(root: Path, checkout: Path, section: dict[str, Any], key: str) -> None:
    """Make the relative path `section[key]`, of a file that git does not keep, work in `checkout` as in `root`: by a link
    there, or as an absolute path if it leaves the checkout."""
    path = section[key]
    if not path or Path(path).is_absolute() or not (root / path).exists():
        return
    if ".." in Path(path).parts:
        section[key] = str((root / path).resolve())
    elif not path.startswith(MADE_BY_STAGES) and not (checkout / path).exists():
        (checkout / path).parent.mkdir(parents=True, exist_ok=True)
        (checkout / path).symlink_to((root / path).resolve())
