"""A checkout as it is -> a git worktree of its own, and what ran in a checkout -> a DVC experiment.

A worktree has the uncommitted changes too. It shares the checkout's DVC cache; its code is its own.
"""

import contextlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from tunetrail import UserError, launch
from tunetrail.checkout import cache, workspace
from tunetrail.config import params

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
    with workspace.wait_for_lock(lock(root)):
        if (checkout / ".dvc" / "config.local").is_file():  # made while this one waited
            return checkout
        remove(root, folder)
        launch.output([*git, "worktree", "add", "--detach", "--force", str(folder), code.commit])
        if code.dirty:
            launch.output(["git", "-C", str(folder), "apply", "--index", "--whitespace=nowarn", str(code.patch.resolve())])
        cache.write_shared_cache_config(root, checkout / ".dvc" / "config.local")
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


def link_all_untracked(root: Path, checkout: Path, values: dict[str, Any]) -> None:
    """`link_untracked` for every key of `PATHS`, and `follow`."""
    for section, name in PATHS:
        link_untracked(root, checkout, values[section], name)
    follow(values)


def follow(values: dict[str, Any]) -> None:
    """Have `fetch` name the files that `prepare` and `evaluate` name by now."""
    for kind, section in (("instructions", "prepare"), ("prompts", "evaluate")):
        if part := values.get("fetch", {}).get(kind):
            part["path"] = values[section]["path"]


def link_untracked(root: Path, checkout: Path, section: dict[str, Any], name: str) -> None:
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

    Not by `dvc exp save`: that takes the person's changes away and puts them back, which a kill between the two loses, and
    keeps a password that stands in DVC's config. For DVC an experiment is a commit by whose reference it is found.

    Raises:
        UserError: an output is gone, or git could not.
    """
    for out in workspace.outs(checkout):
        if not (checkout / out).exists():
            raise UserError(
                f"output '{out}' does not exist. Bring it back, or make it again: dvc checkout, or tunetrail run"
            )
    name, git = re.sub(r"\W+", "-", name).strip("-"), ["git", *_NO_HOOKS, "-C", str(checkout)]
    head = workspace.head(checkout)
    with tempfile.TemporaryDirectory() as folder:
        beside = workspace.staged(checkout, Path(folder) / "index")
        files = [file for file in (str(params.FILE), "dvc.yaml", "dvc.lock") if (checkout / file).is_file()]
        launch.output([*git, "add", "--force", "--", *files], beside)
        tree = launch.output([*git, "write-tree"], beside)
    message = f"dvc: commit experiment {name}"
    commit = launch.output([*git, "commit-tree", tree, "-p", head, "-m", message], _author(git))
    launch.output([*git, "update-ref", f"refs/exps/{head[:2]}/{head[2:]}/{name}", commit])
    for line in cache.secrets(checkout):
        print(line, flush=True)
    return name


def _author(git: list[str]) -> dict[str, str]:
    """Who commits: whom git knows; where it knows nobody, which is no reason to lose the experiment, we."""
    found = {}
    for part in ("name", "email"):
        known = launch.output([*git, "config", "--default", "", f"user.{part}"])
        for role in ("AUTHOR", "COMMITTER"):
            variable = f"GIT_{role}_{part.upper()}"
            if not (known or os.environ.get(variable)):
                found[variable] = "tunetrail"
    return found


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
