"""The small project, and worktrees of it."""

import subprocess

import pytest

from tests.projects import commit
from tunetrail.checkout import git, worktree


@pytest.fixture
def root(project, tmp_path, monkeypatch):
    """Make the small project with a git identity."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "a")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@b")
    return project(tmp_path / "checkout")


def copy(root, name="one"):
    """Make a worktree of the checkout in its present state."""
    (root / "runs").mkdir(exist_ok=True)
    return worktree.make(root, root / "runs" / name, git.read_code(root, root / "runs" / f"{name}.patch"))


def files(folder):
    """Return the content of every file that does not belong to git, DVC or a run."""
    paths = (file for file in folder.rglob("*") if file.is_file())
    contents = {str(file.relative_to(folder)): file.read_bytes() for file in paths}
    others = (".git", ".dvc/", "data/", "outputs/", "runs/", "work/")
    return {name: text for name, text in contents.items() if name == ".gitignore" or not name.startswith(others)}


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Make the outline of a checkout under git and change to it."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").touch()
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "params.yaml").write_text("a: 1\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    commit(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path
