"""A checkout as it is -> a git worktree of its own, and what ran in a checkout -> a DVC experiment.

A worktree has the uncommitted changes too. It shares the checkout's DVC cache; its code is its own.
"""

import contextlib
import os
import re
import shutil
from pathlib import Path
from typing import Any

from tunetrail import UserError, cache, launch, workspace

SHARED = Path("work/shared")
# Keys that may name a file or a folder of the checkout that git does not keep, and folders that a run fills itself.
PATHS = (("prepare", "path"), ("evaluate", "path"), ("base", "path"), ("base", "base_model"), ("train", "base_model"))
MADE = ("data/raw/", "data/prepared/", "outputs/", "eval_results/", "report/", "work/base/")
_NO_HOOKS = ("-c", "core.hooksPath=/dev/null")  # a hook of DVC's would check out the data a second time


def make(root: Path, folder: Path, code: workspace.Code) -> Path:
    """The checkout in the worktree `folder`, made from `code`; one that is there already is taken as it is.

    Raises:
        UserError: git does not have the commit, or the patch does not fit on it.
    """
    git = ["git", *_NO_HOOKS, "-C", str(root)]
    checkout = folder / launch.output([*git, "rev-parse", "--show-prefix"])
    if (checkout / ".dvc" / "config.local").is_file():  # which comes last
        return checkout
    try:
        launch.output([*git, "cat-file", "-e", f"{code.commit}^{{commit}}"])
    except UserError:
        raise UserError(f"commit {code.commit} is not in this repository. Get it: git fetch --all") from None
    with workspace.turn(lock(root)):
        if (checkout / ".dvc" / "config.local").is_file():  # made while this one waited
            return checkout
        remove(root, folder)
        launch.output([*git, "worktree", "add", "--detach", "--force", str(folder), code.commit])
        if code.dirty:
            launch.output(["git", "-C", str(folder), "apply", "--index", "--whitespace=nowarn", str(code.patch.resolve())])
        cache.lend(root, checkout / ".dvc" / "config.local")
    return checkout


def share(root: Path, checkout: Path) -> None:
    """Let `checkout` have the work/shared of `root`: tokenised rows, and whose turn it is to run a stage for all."""
    (root / SHARED).mkdir(parents=True, exist_ok=True)
    (checkout / "work").mkdir(exist_ok=True)
    if not (checkout / SHARED).exists():
        (checkout / SHARED).symlink_to((root / SHARED).resolve(), target_is_directory=True)


def remove(root: Path, folder: Path) -> None:
    """Take the worktree `folder` away; what DVC keeps of it stays in the cache."""
    # Never `git worktree prune`: it would forget worktrees of the person's that are not there just now.
    with contextlib.suppress(UserError):  # it is none, or half made
        launch.output(["git", "-C", str(root), "worktree", "remove", "--force", "--force", str(folder)])
    shutil.rmtree(folder, ignore_errors=True)


def bring_all(root: Path, checkout: Path, values: dict[str, Any]) -> None:
    """`bring` for every key of `PATHS`, and `follow`."""
    for section, name in PATHS:
        bring(root, checkout, values[section], name)
    follow(values)


def follow(values: dict[str, Any]) -> None:
    """Have `fetch` name the files that `prepare` and `evaluate` name by now."""
    for kind, section in (("instructions", "prepare"), ("prompts", "evaluate")):
        if part := values.get("fetch", {}).get(kind):
            part["path"] = values[section]["path"]


def bring(root: Path, checkout: Path, section: dict[str, Any], name: str) -> None:
    """Have the relative path `section[name]`, which git does not keep, mean in `checkout` what it means in `root`."""
    path = section[name]
    if not path or Path(path).is_absolute() or not (root / path).exists():
        return
    if ".." in Path(path).parts:
        section[name] = str((root / path).resolve())
    elif not path.startswith(MADE) and not (checkout / path).exists():
        (checkout / path).parent.mkdir(parents=True, exist_ok=True)
        (checkout / path).symlink_to((root / path).resolve())


def save(checkout: Path, name: str) -> str:
    """Keep the parameters, the lock file and the code of `checkout` as a DVC experiment on its commit; returns its name.

    Each in turn, since DVC refuses two at once. What is staged stays staged.

    Raises:
        UserError: DVC could not.
    """
    name, git = re.sub(r"\W+", "-", name).strip("-"), ["git", "-C", str(checkout)]
    new = launch.output([*git, "ls-files", "-z", "--others", "--exclude-standard", "conf", "src"]).split("\0")
    words = [word for path in filter(None, new) for word in ("--include-untracked", path)]
    index = checkout / launch.output([*git, "rev-parse", "--git-path", "index"])
    # DVC commits in the name that git has; where it has none, which is no reason to lose the experiment, in ours.
    known = launch.output([*git, "config", "--default", "", "user.email"]) or os.environ.get("GIT_AUTHOR_EMAIL")
    names = {f"GIT_{role}_{part}": "tunetrail" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
    with workspace.turn(lock(checkout)):
        staged, head = index.read_bytes(), launch.output([*git, "rev-parse", "HEAD"])
        try:
            save = ["dvc", "--cd", str(checkout), "exp", "save", "--force", "--name", name]
            launch.output([*save, *words], None if known else names)
        finally:
            if launch.output([*git, "rev-parse", "HEAD"]) == head:  # nobody has committed meanwhile
                kept = index.with_name("index.tunetrail")
                kept.write_bytes(staged)
                kept.replace(index)
    return name


def lock(checkout: Path) -> Path:
    """One for a repository and all of its worktrees."""
    return checkout / launch.output(["git", "-C", str(checkout), "rev-parse", "--git-common-dir"]) / "tunetrail.lock"


def commit(root: Path, experiment: str) -> str:
    """The commit that holds the DVC experiment.

    Raises:
        UserError: this repository does not have it.
    """
    pattern = f"refs/exps/*/*/{experiment}"
    found = launch.output(["git", "-C", str(root), "for-each-ref", "--format=%(objectname)", pattern]).split()
    if not found:
        raise UserError(
            f"{experiment}: this repository has no such DVC experiment. Get it from where it was pushed: dvc exp pull "
            f"origin {experiment}"
        )
    return found[0]
