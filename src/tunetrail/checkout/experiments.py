"""What ran in a checkout -> a DVC experiment: a commit that DVC finds by its reference, refs/exps/.../NAME."""

import os
import re
import sys
import tempfile
from pathlib import Path

from tunetrail import UserError
from tunetrail.checkout import dvc, dvc_config, git
from tunetrail.config import params


def save(checkout: Path, name: str) -> str:
    """Save the parameters, the lock file and the code of `checkout` as a DVC experiment on its commit; return its name.

    Not by `dvc exp save`: it takes the user's changes away and puts them back, so that a kill in between loses them,
    and it saves a password that is in DVC's config.

    Raises:
        UserError: an output is missing, or git failed.
    """
    for out in dvc.outputs(checkout):
        if not (checkout / out).exists():
            raise UserError(f"output '{out}' does not exist. Restore it, or make it again: dvc checkout, or tunetrail run")
    name = re.sub(r"\W+", "-", name).strip("-")
    head = git.head_commit(checkout)
    with tempfile.TemporaryDirectory() as folder:
        staged = git.stage_all(checkout, Path(folder) / "index")
        files = [file for file in (str(params.FILE), "dvc.yaml", "dvc.lock") if (checkout / file).is_file()]
        git.run(checkout, *git.NO_HOOKS, "add", "--force", "--", *files, environment=staged)
        tree = git.run(checkout, "write-tree", environment=staged)
    message = f"dvc: commit experiment {name}"
    commit = git.run(checkout, "commit-tree", tree, "-p", head, "-m", message, environment=_author(checkout))
    reference = f"refs/exps/{head[:2]}/{head[2:]}/{name}"
    # Only a run of this checkout, whose lock the caller holds, writes its reference: another's lock is of a killed git.
    (checkout / git.run(checkout, "rev-parse", "--git-path", f"{reference}.lock")).unlink(missing_ok=True)
    git.run(checkout, *git.NO_HOOKS, "update-ref", reference, commit)
    for line in dvc_config.secrets(checkout):
        print(line, file=sys.stderr, flush=True)
    return name


def _author(checkout: Path) -> dict[str, str]:
    """Return git's variables for an author if none is configured: the experiment is saved all the same."""
    variables = {}
    for part in ("name", "email"):
        configured = git.run(checkout, "config", "--default", "", f"user.{part}")
        for role in ("AUTHOR", "COMMITTER"):
            variable = f"GIT_{role}_{part.upper()}"
            if not (configured or os.environ.get(variable)):
                variables[variable] = "tunetrail"
    return variables


def commit(root: Path, name: str) -> str:
    """Return the commit that holds the DVC experiment `name`.

    Raises:
        UserError: this repository does not have it.
    """
    commits = git.run(root, "for-each-ref", "--format=%(objectname)", f"refs/exps/*/*/{name}").split()
    if not commits:
        raise UserError(
            f"{name}: this repository has no such DVC experiment. Get it from where it was pushed: "
            f"dvc exp pull origin {name}"
        )
    return commits[0]
