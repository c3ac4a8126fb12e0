"""Runs of a checkout saved as DVC experiments, with real git and real DVC."""

import shutil
import subprocess
import sys

import pytest

from tests.checkout.conftest import copy, files
from tests.projects import run
from tunetrail import UserError
from tunetrail.checkout import dvc_config, experiments

pytestmark = pytest.mark.stage


def test_an_experiment_has_parameters_lock_file_and_code_and_leaves_staged_files_staged(root):
    (root / "src" / "tunetrail" / "code.py").write_text("one = 2\n")
    (root / "conf" / "new.yaml").write_text("new: 1\n")
    (root / "conf" / "größe new.yaml").write_text("new: 2\n")
    (root / "conf" / "old.yaml").unlink()
    (root / "docs" / "text.md").write_text("other text\n")
    (root / "docs" / "notes.md").write_text("not of the code")
    run(root, "git", "add", "src/tunetrail/code.py")
    (root / "src" / "tunetrail" / "code.py").write_text("one = 3\n")  # staged in another state
    (root / "params.yaml").write_text("prepare: {path: conf/new.yaml}\n")
    run(root, "dvc", "repro", "--quiet")
    status, before, staged = run(root, "git", "status", "--porcelain"), files(root), run(root, "git", "diff", "--cached")
    name = experiments.save(root, "my run/1")
    assert name == "my-run-1"
    assert run(root, "git", "status", "--porcelain") == status
    assert run(root, "git", "diff", "--cached") == staged
    assert files(root) == before
    experiment = experiments.commit(root, name)
    assert run(root, "git", "rev-parse", f"{experiment}^") == run(root, "git", "rev-parse", "HEAD")
    for path in ("src/tunetrail/code.py", "conf/new.yaml", "conf/größe new.yaml", "docs/text.md", "params.yaml", "dvc.lock"):
        assert run(root, "git", "show", f"{experiment}:{path}") == (root / path).read_text().strip(), path
    paths = run(root, "git", "ls-tree", "-r", "--name-only", experiment).splitlines()
    assert not {"conf/old.yaml", "docs/notes.md"} & set(paths)
    assert "my-run-1" in run(root, "dvc", "exp", "list", "--all-commits", "--name-only")


def objects(root):
    """Return all of git's objects, reachable or not."""
    words = ["git", "cat-file", "--batch", "--batch-all-objects"]
    return subprocess.run(words, cwd=root, capture_output=True, check=True).stdout


CONFIG = """['remote "store"']
    url = https://ada:CANARY-1@example.org/x
    password = CANARY-2
    ask_password = true
[studio]
    token = CANARY-3
"""


@pytest.mark.parametrize("tracked", ["committed", "staged", "new"])
def test_no_experiment_has_the_password_of_dvcs_config_and_the_file_is_not_changed(root, tracked, capsys):
    config = root / ".dvc" / "config"
    before = config.read_text()
    if tracked != "committed":
        run(root, "git", "rm", "--quiet", "--cached", ".dvc/config")
        run(root, "git", "commit", "--quiet", "-m", "more")
    if tracked == "staged":
        run(root, "git", "add", ".dvc/config")
    config.write_text(before + CONFIG)
    (root / "src" / "tunetrail" / "code.py").write_text("one = 2\n")
    status = run(root, "git", "status", "--porcelain")
    experiment = experiments.commit(root, experiments.save(root, "saved"))
    assert run(root, "git", "show", f"{experiment}:src/tunetrail/code.py") == "one = 2"
    paths = run(root, "git", "ls-tree", "-r", "--name-only", experiment).splitlines()
    assert (".dvc/config" in paths) == (tracked == "committed")
    if tracked == "committed":
        assert run(root, "git", "show", f"{experiment}:.dvc/config") == before.strip()
    assert b"CANARY" not in objects(root)
    assert config.read_text() == before + CONFIG
    assert run(root, "git", "status", "--porcelain") == status
    output = capsys.readouterr().err
    assert "CANARY" not in output
    keys = [line.split(": ")[1].split()[0] for line in output.splitlines()]
    assert keys == ["remote.store.url", "remote.store.password", "studio.token"]


def test_the_commands_printed_for_a_password_in_dvcs_config_move_it_out_of_git(root):
    config = root / ".dvc" / "config"
    config.write_text(config.read_text() + CONFIG)
    for line in dvc_config.secrets(root):
        value = "https://ada:CANARY-1@example.org/x" if " url " in line else "CANARY"
        run(root, "sh", "-c", line.rpartition("not: ")[2].replace("VALUE", value))
    assert "CANARY" not in config.read_text()
    assert dvc_config.secrets(root) == []
    assert (root / ".dvc" / "config.local").read_text().count("CANARY") == 3
    copy(root)
    assert b"CANARY" not in objects(root)


def test_dvc_lists_applies_and_removes_an_experiment(root):
    before = files(root)
    (root / "src" / "tunetrail" / "code.py").write_text("one = 2\n")
    run(root, "dvc", "repro", "--quiet")
    name = experiments.save(root, "saved")
    run(root, "git", "checkout", "--quiet", "--", ".")
    assert files(root) == before
    assert name in run(root, "dvc", "exp", "show", "--csv", "--no-pager")
    run(root, "dvc", "exp", "apply", name)
    assert (root / "src" / "tunetrail" / "code.py").read_text() == "one = 2\n"
    assert (root / "outputs" / "model").read_text() == "one = 2\none = 2\n"
    run(root, "dvc", "exp", "remove", name)
    with pytest.raises(UserError, match="no such DVC experiment"):
        experiments.commit(root, name)


@pytest.mark.parametrize("name", ["größe.lock", "-x (y)"])
def test_a_run_may_have_any_name(root, name):
    saved = experiments.save(root, name)
    assert not saved.startswith("-")  # DVC would take it for an option
    assert experiments.commit(root, saved)


def test_a_lock_that_a_killed_git_has_left_on_an_experiment_stops_nothing(root):
    before = experiments.commit(root, experiments.save(root, "one"))
    (reference,) = (root / ".git" / "refs" / "exps").glob("*/*/one")
    reference.with_name("one.lock").touch()
    (root / "conf" / "config.yaml").write_text("a: 2\n")
    assert experiments.commit(root, experiments.save(root, "one")) != before


def test_an_experiment_with_a_missing_output_is_not_saved_and_the_error_says_why(root):
    shutil.rmtree(root / "data" / "raw")
    with pytest.raises(UserError, match="output 'data/raw' does not exist"):
        experiments.save(root, "one")


def test_an_experiment_is_saved_without_a_git_identity(root, monkeypatch, tmp_path):
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.delenv(f"GIT_{role}_NAME")
        monkeypatch.delenv(f"GIT_{role}_EMAIL")
    for name, value in (("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_NOSYSTEM", "1"), ("HOME", str(tmp_path))):
        monkeypatch.setenv(name, value)
    experiment = experiments.commit(root, experiments.save(root, "same"))
    assert run(root, "git", "show", "--no-patch", "--format=%an %ae", experiment) == "tunetrail tunetrail"
    run(root, "git", "config", "user.name", "Ada")
    run(root, "git", "config", "user.email", "ada@example.org")
    (root / "conf" / "config.yaml").write_text("a: 2\n")
    experiment = experiments.commit(root, experiments.save(root, "same"))  # replaces the first
    assert run(root, "git", "show", "--no-patch", "--format=%an %ae", experiment) == "Ada ada@example.org"
    assert run(root, "git", "show", f"{experiment}:conf/config.yaml") == "a: 2"


def test_two_worktrees_save_experiments_at_once(root):
    checkouts = [copy(root, name) for name in ("one", "two")]
    for number, checkout in enumerate(checkouts):
        run(checkout, "dvc", "checkout", "--quiet")
        (checkout / "src" / "tunetrail" / "code.py").write_text(f"number = {number}\n")
    script = (
        "import pathlib, sys; from tunetrail.checkout import experiments\n"
        "experiments.save(pathlib.Path(sys.argv[1]), sys.argv[2])"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", script, str(checkout), f"saved-{number}"])
        for number, checkout in enumerate(checkouts)
    ]
    assert [process.wait() for process in started] == [0, 0]
    for number in range(2):
        experiment = experiments.commit(root, f"saved-{number}")
        assert run(root, "git", "show", f"{experiment}:src/tunetrail/code.py") == f"number = {number}"


def test_the_error_of_a_missing_experiment_says_where_to_get_it(root):
    with pytest.raises(UserError, match=r"gone-1: this repository has no such DVC experiment.*dvc exp pull origin gone-1"):
        experiments.commit(root, "gone-1")
