import subprocess

import pytest

from tests.projects import commit, run
from tunetrail import UserError
from tunetrail.checkout import git


def test_the_root_is_found_from_a_folder_below(checkout, monkeypatch):
    monkeypatch.chdir(checkout / "conf")
    assert git.root() == checkout


def test_outside_a_checkout_the_error_says_where_to_go(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no tunetrail checkout"):
        git.root()


def test_without_a_git_repository_the_error_says_how_to_make_one(checkout, monkeypatch):
    (checkout / ".git").rename(checkout / "git-no-more")
    with pytest.raises(UserError, match=r"not a git checkout.*git init"):
        git.root()


def code(checkout):
    """Return the checkout's code, with the patch in work/."""
    (checkout / "work").mkdir(exist_ok=True)
    return git.read_code(checkout, checkout / "work" / "changes.patch")


def test_code_has_its_commit_and_whether_it_differs_from_it(checkout):
    state = code(checkout)
    assert len(state.commit) == 40
    assert (state.dirty, state.patch.read_bytes()) == (False, b"")
    (checkout / "params.yaml").write_text("a: 2\n")
    (checkout / "dvc.lock").write_text("stages: {}\n")
    (checkout / "notes.txt").touch()
    assert code(checkout) == state
    assert not state.dirty
    (checkout / "conf" / "mine.yaml").touch()
    assert code(checkout).dirty
    (checkout / "conf" / "mine.yaml").unlink()
    (checkout / "dvc.yaml").write_text("stages: {}\n")
    assert code(checkout).dirty
    assert b"+stages: {}" in state.patch.read_bytes()
    assert [file.name for file in state.patch.parent.iterdir()] == ["changes.patch"]


def test_the_digest_depends_on_src_and_dvc_yaml_and_not_on_the_commit(checkout):
    (checkout / "src").mkdir()
    nothing = code(checkout).digest
    (checkout / "src" / "new.py").write_text("new = 1\n")
    new = code(checkout)
    assert new.digest != nothing
    (checkout / "conf" / "config.yaml").write_text("another: 1\n")
    assert code(checkout).digest == new.digest
    commit(checkout)
    committed = code(checkout)
    assert (committed.digest, committed.dirty) == (new.digest, False)
    assert committed.commit != new.commit
    (checkout / "dvc.yaml").write_text("stages: {}\n")
    assert code(checkout).digest != new.digest


def test_reading_the_code_does_not_change_the_index(checkout):
    (checkout / "dvc.yaml").write_text("staged: 1\n")
    (checkout / "conf" / "new.yaml").touch()
    subprocess.run(["git", "add", "dvc.yaml"], cwd=checkout, check=True)
    (checkout / "dvc.yaml").write_text("not staged: 1\n")
    before = (checkout / ".git" / "index").read_bytes()
    assert b"+not staged: 1" in code(checkout).patch.read_bytes()
    assert (checkout / ".git" / "index").read_bytes() == before


def test_a_staged_new_file_is_in_the_patch(checkout):
    (checkout / "Makefile").write_text("all:\n")
    subprocess.run(["git", "add", "Makefile"], cwd=checkout, check=True)
    assert b"+all:" in code(checkout).patch.read_bytes()


def refused(checkout):
    """Return the error for code that cannot be recorded, and assert that nothing was written."""
    (checkout / "work").mkdir(exist_ok=True)
    with pytest.raises(UserError) as error:
        git.read_code(checkout, checkout / "work" / "changes.patch")
    assert list((checkout / "work").iterdir()) == []
    return str(error.value)


def test_the_error_of_a_repository_without_a_commit_says_how_to_make_one(checkout):
    run(checkout, "git", "update-ref", "-d", "HEAD")
    message = refused(checkout)
    assert "git has no commit yet" in message
    run(checkout, "git", "config", "user.name", "a")
    run(checkout, "git", "config", "user.email", "a@b")
    subprocess.run(message.partition("Make one: ")[2] + " --quiet", shell=True, check=True, cwd=checkout)
    assert len(code(checkout).commit) == 40


def test_a_lost_commit_is_an_error(checkout):
    lost = "1" * 40
    (checkout / ".git" / "HEAD").write_text(f"{lost}\n")
    assert f"git does not have its commit {lost}. Get it: git fetch --all" in refused(checkout)


def test_a_folder_of_another_user_is_an_error_with_gits_own_message(checkout, monkeypatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    assert f"git config --global --add safe.directory {checkout}" in refused(checkout)


def test_a_checkout_that_the_repository_around_it_does_not_track_is_an_error(checkout, tmp_path):
    inner = tmp_path / "inner"
    (inner / "conf").mkdir(parents=True)
    for name in ("dvc.yaml", "conf/config.yaml"):
        (inner / name).touch()
    message = refused(inner)
    assert f"its dvc.yaml is not in git ({checkout})" in message
    assert message.endswith("git init && git add --all && git commit -m start")


def test_a_detached_head_a_shallow_clone_and_a_merge_with_conflicts_are_fine(checkout, tmp_path):
    run(checkout, "git", "branch", "side")
    (checkout / "dvc.yaml").write_text("ours: 1\n")
    commit(checkout)
    run(checkout, "git", "checkout", "--quiet", "--detach")
    assert code(checkout).commit == run(checkout, "git", "rev-parse", "HEAD")
    run(checkout, "git", "clone", "--quiet", "--depth", "1", f"file://{checkout}", str(tmp_path / "shallow"))
    assert not code(tmp_path / "shallow").dirty
    run(checkout, "git", "worktree", "add", "--quiet", str(tmp_path / "side"), "side")
    (tmp_path / "side" / "dvc.yaml").write_text("theirs: 1\n")
    commit(tmp_path / "side")
    assert code(tmp_path / "side").commit == run(checkout, "git", "rev-parse", "side")
    subprocess.run(["git", "merge", "side"], cwd=checkout, capture_output=True)
    assert "UU dvc.yaml" in run(checkout, "git", "status", "--porcelain")
    state = code(checkout)
    assert b"+<<<<<<< HEAD" in state.patch.read_bytes()
    assert "UU dvc.yaml" in run(checkout, "git", "status", "--porcelain")


def test_a_stale_index_lock_and_a_lost_index_are_fine(checkout):
    (checkout / ".git" / "index.lock").touch()
    assert not code(checkout).dirty
    (checkout / ".git" / "index.lock").unlink()
    (checkout / ".git" / "index").unlink()
    assert not code(checkout).dirty


@pytest.mark.parametrize("tracked", ["committed", "staged", "neither"])
def test_neither_a_patch_nor_a_git_object_has_dvcs_config(checkout, tracked):
    (checkout / ".dvc").mkdir()
    (checkout / ".dvc" / "config").write_text("[core]\n")
    if tracked == "committed":
        commit(checkout)
    if tracked == "staged":
        run(checkout, "git", "add", ".dvc")
    (checkout / ".dvc" / "config").write_text("['remote \"a\"']\n    password = CANARY\n")
    (checkout / "dvc.yaml").write_text("stages: {}\n")
    assert b"CANARY" not in code(checkout).patch.read_bytes()
    assert "CANARY" in (checkout / ".dvc" / "config").read_text()
    everything = subprocess.run(
        "git cat-file --batch --batch-all-objects", shell=True, cwd=checkout, capture_output=True, check=True
    ).stdout
    assert b"CANARY" not in everything
