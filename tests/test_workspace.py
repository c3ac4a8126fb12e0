import subprocess

import pytest

from tunetrail import UserError, workspace


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """The outline of a checkout, under git, as the current folder."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").touch()
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "params.yaml").write_text("a: 1\n")
    for words in (["init", "-q"], ["add", "--all"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "start"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


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


def test_the_commit_and_whether_code_differs_from_it(checkout):
    state = workspace.git_state(checkout)
    assert len(state["git.commit"]) == 40
    assert state["git.dirty"] == "false"
    (checkout / "params.yaml").write_text("a: 2\n")
    assert workspace.git_state(checkout)["git.dirty"] == "false"
    (checkout / "conf" / "mine.yaml").touch()
    assert workspace.git_state(checkout)["git.dirty"] == "true"
    (checkout / "conf" / "mine.yaml").unlink()
    (checkout / "dvc.yaml").write_text("stages: {}\n")
    assert workspace.git_state(checkout)["git.dirty"] == "true"


def test_two_runs_at_once_are_refused_and_the_next_one_is_not(checkout):
    with (
        workspace.alone(checkout),
        pytest.raises(UserError, match=r"process \d+, or what it started, is running here"),
        workspace.alone(checkout),
    ):
        pass
    with workspace.alone(checkout):
        pass


def test_the_hold_lasts_as_long_as_what_the_run_started(checkout):
    with workspace.alone(checkout) as held:
        child = subprocess.Popen(["sleep", "30"], pass_fds=[held])
    with pytest.raises(UserError, match="is running here"), workspace.alone(checkout):
        pass
    child.kill()
    child.wait()
    with workspace.alone(checkout):
        pass


def test_git_without_a_commit_is_said_in_gits_words(checkout):
    subprocess.run(["git", "update-ref", "-d", "HEAD"], cwd=checkout, check=True)
    with pytest.raises(UserError, match="rev-parse"):
        workspace.git_state(checkout)


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
