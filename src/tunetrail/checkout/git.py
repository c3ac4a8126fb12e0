"""Git in this checkout: its root, its commit, and the code that a run is made from."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from tunetrail import UserError, launch

NO_HOOKS = ("-c", "core.hooksPath=/dev/null")  # DVC's hook would check out the data a second time
# It may hold a password, and others can read patches and experiments: these keep the version of the file that is committed.
_DVC_CONFIG = ".dvc/config"
_FIRST_COMMIT = "git add --all && git commit -m start"


def root() -> Path:
    """Return the current folder, or the nearest one above it, that has conf/ and dvc.yaml.

    Raises:
        UserError: there is none, or it is not under git, without which a run could not be reproduced.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file() and (folder / "conf" / "config.yaml").is_file():
            if not any((above / ".git").exists() for above in (folder, *folder.parents)):
                raise UserError(
                    f"{folder}: not a git checkout, so no run in it could be reproduced. Clone the repository, or: "
                    f"git init && {_FIRST_COMMIT}"
                )
            return folder
    raise UserError(f"{here}: no tunetrail checkout (conf/config.yaml and dvc.yaml) here or above. Change into one.")


def run(folder: Path, *words: str, environment: dict[str, str] | None = None) -> str:
    """Return what `git WORDS` prints in `folder`.

    Raises:
        UserError: git is not installed, or it failed.
    """
    return launch.output(["git", "-C", str(folder), *words], environment)


@dataclass(frozen=True)
class Code:
    """The code of a checkout: its `commit`; `patch`, a file with the changes since (empty if there are none); and `digest`,
    which is the same for the same src/ and dvc.yaml in any commit.
    """

    commit: str
    patch: Path
    digest: str

    @property
    def dirty(self) -> bool:
        return self.patch.stat().st_size > 0


def read_code(folder: Path, patch: Path) -> Code:
    """Write what differs from the commit into `patch`: tracked files anywhere in `folder`, and new ones in conf/ and src/.

    Raises:
        UserError: git failed, there is no commit yet, or `folder` is not in the repository around it.
    """
    commit = head_commit(folder)
    index = patch.with_suffix(".index").resolve()
    try:
        staged = stage_all(folder, index)
        # params.yaml and dvc.lock are written by the run and recorded with it: they are not its code.
        paths = [".", ":!params.yaml", ":!dvc.lock"]
        # Not `git diff`, whose format is the user's to configure: without prefixes, or by another tool.
        options = ["--cached", "--binary", "--no-ext-diff", f"--output={patch.resolve()}"]
        run(folder, "diff-index", *options, "HEAD", "--", *paths, environment=staged)
        files = run(folder, "ls-files", "--stage", "src", "dvc.yaml", environment=staged)
    finally:
        index.unlink(missing_ok=True)
    return Code(commit, patch, hashlib.sha256(files.encode()).hexdigest())


def head_commit(folder: Path) -> str:
    """Return the commit of the checkout.

    Raises:
        UserError: there is none, or git cannot read it.
    """
    run(folder, "rev-parse", "--show-toplevel")  # fails with git's own message, for example in another user's folder
    try:
        commit = run(folder, "rev-parse", "--verify", "HEAD")
    except UserError:
        raise UserError(
            f"{folder}: git has no commit yet, and a run records its code by commit. Make one: {_FIRST_COMMIT}"
        ) from None
    try:
        run(folder, "cat-file", "-e", "HEAD^{tree}")
    except UserError:
        raise UserError(
            f"{folder}: git does not have its commit {commit}. Get it: git fetch --all. git fsck lists what else is lost"
        ) from None
    return commit


def stage_all(folder: Path, index: Path) -> dict[str, str]:
    """Stage the checkout as it is, without DVC's config, in `index`, a file beside git's own index, and return the
    environment in which git uses that file. The user's files and their own staged changes stay as they are.

    Raises:
        UserError: git failed, or the checkout is not in the repository around it.
    """
    environment = {"GIT_INDEX_FILE": str(index)}
    own_index = folder / run(folder, "rev-parse", "--git-path", "index")
    if own_index.is_file():
        index.write_bytes(own_index.read_bytes())
    else:
        run(folder, "read-tree", "HEAD", environment=environment)
    try:
        run(folder, "ls-files", "--error-unmatch", "dvc.yaml", environment=environment)
    except UserError:
        top = run(folder, "rev-parse", "--show-toplevel")
        init = "" if Path(top) == folder.resolve() else "git init && "
        raise UserError(
            f"{folder}: its dvc.yaml is not in git ({top}), and a run records its code by commit. {init}{_FIRST_COMMIT}"
        ) from None
    run(folder, "add", "--update", "--", ".", f":!{_DVC_CONFIG}", environment=environment)
    new_files = [name for name in ("conf", "src") if (folder / name).is_dir()]
    run(folder, "add", *new_files, environment=environment)
    run(folder, "reset", "--quiet", "HEAD", "--", _DVC_CONFIG, environment=environment)
    return environment


def repository_lock(folder: Path) -> Path:
    """Return the lock file that a repository and all its worktrees share."""
    return folder / run(folder, "rev-parse", "--git-common-dir") / "tunetrail.lock"
