import contextlib
import os
import subprocess
import sys
import threading

import pytest
import yaml

from tests.conftest import ROOT
from tunetrail import UserError
from tunetrail.checkout import workspace


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """The outline of a checkout, under git, as the current folder."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").touch()
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "params.yaml").write_text("a: 1\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    commit(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commit(folder):
    for words in (["add", "--all"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "more"]):
        subprocess.run(["git", *words], cwd=folder, check=True)


def test_the_root_is_found_from_below(checkout, monkeypatch):
    monkeypatch.chdir(checkout / "conf")
    assert workspace.root() == checkout


def test_elsewhere_the_message_says_where_to_go(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no tunetrail checkout"):
        workspace.root()


def test_without_git_the_message_says_how_to_have_it(checkout, monkeypatch):
    (checkout / ".git").rename(checkout / "git-no-more")
    with pytest.raises(UserError, match=r"not a git checkout.*git init"):
        workspace.root()


def code(checkout):
    """Its code, the patch among what a run leaves."""
    (checkout / "work").mkdir(exist_ok=True)
    return workspace.code(checkout, checkout / "work" / "changes.patch")


def test_the_commit_and_whether_code_differs_from_it(checkout):
    found = code(checkout)
    assert len(found.commit) == 40
    assert (found.dirty, found.patch.read_bytes()) == (False, b"")
    (checkout / "params.yaml").write_text("a: 2\n")
    (checkout / "dvc.lock").write_text("stages: {}\n")
    (checkout / "notes.txt").touch()
    assert code(checkout) == found
    assert not found.dirty
    (checkout / "conf" / "mine.yaml").touch()
    assert code(checkout).dirty
    (checkout / "conf" / "mine.yaml").unlink()
    (checkout / "dvc.yaml").write_text("stages: {}\n")
    assert code(checkout).dirty
    assert b"+stages: {}" in found.patch.read_bytes()
    assert [file.name for file in found.patch.parent.iterdir()] == ["changes.patch"]


def test_code_is_known_by_src_and_dvc_yaml_whichever_commit_they_are_in(checkout):
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


def test_to_look_at_the_code_leaves_what_is_staged_as_it_was(checkout):
    (checkout / "dvc.yaml").write_text("staged: 1\n")
    (checkout / "conf" / "new.yaml").touch()
    subprocess.run(["git", "add", "dvc.yaml"], cwd=checkout, check=True)
    (checkout / "dvc.yaml").write_text("not staged: 1\n")
    before = (checkout / ".git" / "index").read_bytes()
    assert b"+not staged: 1" in code(checkout).patch.read_bytes()
    assert (checkout / ".git" / "index").read_bytes() == before


def test_a_file_that_is_staged_is_tracked_though_no_commit_has_it_yet(checkout):
    (checkout / "Makefile").write_text("all:\n")
    subprocess.run(["git", "add", "Makefile"], cwd=checkout, check=True)
    assert b"+all:" in code(checkout).patch.read_bytes()


def test_two_runs_at_once_are_refused_and_the_next_one_is_not(checkout):
    with (
        workspace.exclusive_lock(checkout),
        pytest.raises(UserError, match=r"process \d+, or what it started, is running here"),
        workspace.exclusive_lock(checkout),
    ):
        pass
    with workspace.exclusive_lock(checkout):
        pass


def test_who_is_refused_is_told_by_whom(checkout):
    with workspace.exclusive_lock(checkout), pytest.raises(workspace.Busy) as error, workspace.exclusive_lock(checkout):
        pass
    assert error.value.process == str(os.getpid())


def test_a_hold_on_a_file_that_was_removed_meanwhile_is_none(checkout, monkeypatch):
    """Who held the file removes it between the moment that the next one opens it and the moment that it holds it."""
    real, lock = workspace.fcntl.flock, checkout / "work" / "lock"

    def removed_first(file, how):
        monkeypatch.setattr(workspace.fcntl, "flock", real)
        lock.unlink()
        real(file, how)

    monkeypatch.setattr(workspace.fcntl, "flock", removed_first)
    with workspace.exclusive_lock(checkout):
        assert lock.read_text() == str(os.getpid())
        with pytest.raises(workspace.Busy), workspace.exclusive_lock(checkout):
            pass


def test_each_name_is_a_hold_of_its_own(checkout):
    with (
        workspace.exclusive_lock(checkout),
        workspace.exclusive_lock(checkout, "work/job.lock"),
        workspace.exclusive_lock(checkout, "lock"),
    ):
        assert (checkout / "lock").read_text() == str(os.getpid())
        with (
            pytest.raises(UserError, match=rf"process {os.getpid()}, or"),
            workspace.exclusive_lock(checkout, "work/job.lock"),
        ):
            pass


def test_who_comes_second_is_told_and_waits_for_its_turn(checkout):
    order, turn = [], checkout / "work" / "turns" / "prepare"

    def second():
        with workspace.wait_for_lock(turn, lambda: order.append("waiting")):
            order.append("second")

    with workspace.wait_for_lock(turn, lambda: order.append("never")):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.3)
        order.append("first")
    thread.join()
    assert order == ["waiting", "first", "second"]


def test_a_turn_ends_with_an_exception_and_with_its_process(checkout):
    with contextlib.suppress(ValueError), workspace.wait_for_lock(checkout / "turn"):
        raise ValueError
    script = (
        "import os, pathlib; from tunetrail.checkout import workspace\n"
        "with workspace.wait_for_lock(pathlib.Path('turn')): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9
    with workspace.wait_for_lock(checkout / "turn"):
        pass


def test_the_hold_lasts_as_long_as_what_the_run_started(checkout):
    with workspace.exclusive_lock(checkout) as held:
        child = subprocess.Popen(["sleep", "30"], pass_fds=[held])
    with pytest.raises(UserError, match="is running here"), workspace.exclusive_lock(checkout):
        pass
    child.kill()
    child.wait()
    with workspace.exclusive_lock(checkout):
        pass


def git(folder, *words):
    done = subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def refused(checkout):
    """Why the code cannot be named; nothing is written."""
    (checkout / "work").mkdir(exist_ok=True)
    with pytest.raises(UserError) as error:
        workspace.code(checkout, checkout / "work" / "changes.patch")
    assert list((checkout / "work").iterdir()) == []
    return str(error.value)


def test_git_without_a_commit_is_said_with_what_makes_one(checkout):
    git(checkout, "update-ref", "-d", "HEAD")
    said = refused(checkout)
    assert "git has no commit yet" in said
    git(checkout, "config", "user.name", "a")
    git(checkout, "config", "user.email", "a@b")
    subprocess.run(said.partition("Make one: ")[2] + " --quiet", shell=True, check=True, cwd=checkout)
    assert len(code(checkout).commit) == 40


def test_a_commit_that_git_has_lost_is_said(checkout):
    lost = "1" * 40
    (checkout / ".git" / "HEAD").write_text(f"{lost}\n")
    assert f"git does not have its commit {lost}. Get it: git fetch --all" in refused(checkout)


def test_a_folder_that_is_another_users_is_said_in_gits_words(checkout, monkeypatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    assert f"git config --global --add safe.directory {checkout}" in refused(checkout)


def test_a_checkout_that_the_repository_around_it_does_not_track_is_said(checkout, tmp_path):
    inner = tmp_path / "inner"
    (inner / "conf").mkdir(parents=True)
    for name in ("dvc.yaml", "conf/config.yaml"):
        (inner / name).touch()
    said = refused(inner)
    assert f"its dvc.yaml is not in git ({checkout})" in said
    assert said.endswith("git init && git add --all && git commit -m start")


def test_a_head_that_is_no_branch_a_shallow_clone_and_a_merge_with_conflicts_are_fine(checkout, tmp_path):
    git(checkout, "branch", "side")
    (checkout / "dvc.yaml").write_text("ours: 1\n")
    commit(checkout)
    git(checkout, "checkout", "--quiet", "--detach")
    assert code(checkout).commit == git(checkout, "rev-parse", "HEAD")
    git(checkout, "clone", "--quiet", "--depth", "1", f"file://{checkout}", str(tmp_path / "shallow"))
    assert not code(tmp_path / "shallow").dirty
    git(checkout, "worktree", "add", "--quiet", str(tmp_path / "side"), "side")
    (tmp_path / "side" / "dvc.yaml").write_text("theirs: 1\n")
    commit(tmp_path / "side")
    assert code(tmp_path / "side").commit == git(checkout, "rev-parse", "side")
    subprocess.run(["git", "merge", "side"], cwd=checkout, capture_output=True)
    assert "UU dvc.yaml" in git(checkout, "status", "--porcelain")
    found = code(checkout)
    assert b"+<<<<<<< HEAD" in found.patch.read_bytes()
    assert "UU dvc.yaml" in git(checkout, "status", "--porcelain")


def test_a_lock_that_git_left_behind_and_a_lost_index_are_fine(checkout):
    (checkout / ".git" / "index.lock").touch()
    assert not code(checkout).dirty
    (checkout / ".git" / "index.lock").unlink()
    (checkout / ".git" / "index").unlink()
    assert not code(checkout).dirty


@pytest.mark.parametrize("tracked", ["committed", "staged", "neither"])
def test_dvcs_config_is_in_no_patch_and_no_object_of_git(checkout, tracked):
    (checkout / ".dvc").mkdir()
    (checkout / ".dvc" / "config").write_text("[core]\n")
    if tracked == "committed":
        commit(checkout)
    if tracked == "staged":
        git(checkout, "add", ".dvc")
    (checkout / ".dvc" / "config").write_text("['remote \"a\"']\n    password = CANARY\n")
    (checkout / "dvc.yaml").write_text("stages: {}\n")
    assert b"CANARY" not in code(checkout).patch.read_bytes()
    assert "CANARY" in (checkout / ".dvc" / "config").read_text()
    everything = subprocess.run(
        "git cat-file --batch --batch-all-objects", shell=True, cwd=checkout, capture_output=True, check=True
    ).stdout
    assert b"CANARY" not in everything


def test_stages_are_those_of_dvc_yaml_in_their_order_without_the_one_that_makes_a_path():
    names = list(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])
    assert workspace.stages(ROOT, "data/raw") == names[1:]
    assert workspace.stages(ROOT, "outputs/train") == [name for name in names if name != "train"]
    assert names[0] == "fetch"


def test_md5s_are_those_of_dvc_lock(checkout):
    assert workspace.locked(checkout) == {}
    (checkout / "dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  train:\n    deps: [{path: data, md5: one}]\n    outs: [{path: model, md5: two}]\n"
    )
    stages = workspace.locked(checkout)
    assert [workspace.md5(checkout, stages, "train", path) for path in ("data", "./data", f"{checkout}/model", "none")] == [
        "one",
        "one",
        "two",
        None,
    ]
    assert workspace.md5(checkout, stages, "nothing", "data") is None


BROKEN = {
    "a list": "- a\n",
    "a number": "7\n",
    "stages are a list": "stages: [train]\n",
    "a stage is text": "stages: {train: text}\n",
    "a stage is empty": "stages: {train: }\n",
    "outs are text": "stages: {train: {outs: model}}\n",
    "an output without its md5": "stages: {train: {outs: [{path: model}]}}\n",
    "an output is text": "stages: {train: {outs: [model]}}\n",
    "params are a list": "stages: {train: {params: [train]}}\n",
    "no YAML": "stages: {\n",
    "no text": "\ud800",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_dvc_lock_that_is_not_as_dvc_writes_it_is_an_error_with_its_name(checkout, name):
    (checkout / "dvc.lock").write_bytes(BROKEN[name].encode("utf-8", "surrogatepass"))
    with pytest.raises(
        UserError, match=rf"^{checkout}/dvc\.lock: not as DVC writes it \(.+\)\. Resolve it, or: git checkout"
    ):
        workspace.locked(checkout)


@pytest.mark.parametrize("text", ["", "schema: '2.0'\n", "# nothing\n", "stages: {}\n", "stages: {train: {cmd: a}}\n"])
def test_a_dvc_lock_that_names_no_output_records_none(checkout, text):
    (checkout / "dvc.lock").write_text(text)
    assert workspace.hashes(workspace.locked(checkout)) == {}


def test_a_dvc_lock_with_a_merges_conflict_is_resolved_by_the_command_that_the_error_names(checkout):
    lock = checkout / "dvc.lock"
    for branch, md5 in (("start", "zero"), ("theirs", "one"), ("ours", "two")):
        subprocess.run(["git", "checkout", "-q", *(["start"] if branch != "start" else ["-b", "start"])], check=True)
        if branch != "start":
            subprocess.run(["git", "checkout", "-q", "-b", branch], check=True)
        lock.write_text(f"stages:\n  train:\n    outs: [{{path: model, md5: {md5}}}]\n")
        commit(checkout)
    subprocess.run(["git", "merge", "-q", "theirs"], capture_output=True)
    assert "<<<<<<<" in lock.read_text()
    with pytest.raises(UserError) as error:
        workspace.locked(checkout)
    subprocess.run(str(error.value).partition("or: ")[2], shell=True, check=True, capture_output=True)
    assert workspace.hashes(workspace.locked(checkout)) == {"model": "two"}
