"""Real git and real DVC: worktrees of a small project, and what ran in them kept as DVC experiments."""

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tunetrail import UserError
from tunetrail.checkout import cache, workspace, worktree

pytestmark = pytest.mark.stage

STAGES = """
stages:
  fetch:
    cmd: mkdir -p data/raw && cp ${prepare.path} data/raw/rows
    params: [prepare]
    deps: ["${prepare.path}"]
    outs: [data/raw]
  train:
    cmd: mkdir -p outputs && cat data/raw/rows src/tunetrail/code.py > outputs/model
    deps: [data/raw, src/tunetrail/code.py]
    outs: [outputs/model]
"""


def run(folder, *words, **more):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"DVC_NO_ANALYTICS": "1", "PATH": path} | more
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def commit(folder, *paths, message="more"):
    run(folder, "git", "add", *(paths or ["--all"]))
    run(folder, "git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", message)


def project(root, *init):
    """The outline of a checkout, under git and DVC, with a commit, in which the stages have run."""
    (root / "conf").mkdir(parents=True)
    (root / "src" / "tunetrail").mkdir(parents=True)
    (root / "docs").mkdir()
    (root / "conf" / "config.yaml").write_text("a: 1\n")
    (root / "conf" / "old.yaml").write_text("old: 1\n")
    (root / "src" / "tunetrail" / "code.py").write_text("one = 1\n")
    (root / "docs" / "text.md").write_text("text\n")
    (root / "dvc.yaml").write_text(STAGES)
    (root / "params.yaml").write_text("prepare: {path: src/tunetrail/code.py}\n")
    shutil.copy(ROOT / ".gitignore", root)
    run(root, "git", "init", "-q", *(["--", ".."] if init else []))
    run(root, "dvc", "init", "--quiet", *init)
    run(root, "dvc", "config", "core.autostage", "false")
    run(root, "dvc", "repro", "--quiet")
    commit(root, message="start")
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return project(tmp_path_factory.mktemp("made") / "checkout")


@pytest.fixture
def root(made, tmp_path, monkeypatch):
    """A copy of the project for each test, whose commits are somebody's."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "a")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@b")
    shutil.copytree(made, tmp_path / "checkout", symlinks=True)
    return tmp_path / "checkout"


def copy(root, name="one"):
    """A worktree of the checkout as it is."""
    (root / "runs").mkdir(exist_ok=True)
    return worktree.make(root, root / "runs" / name, workspace.code(root, root / "runs" / f"{name}.patch"))


def files(folder):
    """What is in every file that is not git's, DVC's or a run's."""
    found = (file for file in folder.rglob("*") if file.is_file())
    kept = {str(file.relative_to(folder)): file.read_bytes() for file in found}
    others = (".git", ".dvc/", "data/", "outputs/", "runs/", "work/")
    return {name: text for name, text in kept.items() if name == ".gitignore" or not name.startswith(others)}


def test_a_worktree_is_the_checkout_as_it_is_and_leaves_it_so(root):
    (root / "src" / "tunetrail" / "code.py").write_text("one = 2")  # without an end of line
    (root / "docs" / "text.md").write_bytes("größer\r\n".encode("latin-1"))
    (root / "conf" / "old.yaml").unlink()
    (root / "conf" / "größe new.yaml").write_text("new: 1\n")
    (root / "src" / "tunetrail" / "picture.bin").write_bytes(bytes(range(256)) * 9)
    (root / "src" / "run.sh").write_text("#!/bin/sh\n")
    (root / "src" / "run.sh").chmod(0o755)
    (root / "src" / "link").symlink_to("run.sh")
    (root / "src" / "__pycache__").mkdir()
    (root / "src" / "__pycache__" / "a.pyc").touch()
    run(root, "git", "add", "conf/old.yaml", "docs/text.md")  # some of it is staged
    staged = run(root, "git", "status", "--porcelain")
    wanted = files(root)
    (root / "docs" / "notes.md").write_text("not tracked")
    (root / "rows.jsonl").write_text("not tracked")
    checkout = copy(root)
    found = files(checkout)
    del wanted["src/__pycache__/a.pyc"]
    assert found == wanted
    assert os.access(checkout / "src" / "run.sh", os.X_OK)
    assert (checkout / "src" / "link").is_symlink()
    (root / "docs" / "notes.md").unlink()
    (root / "rows.jsonl").unlink()
    assert run(root, "git", "status", "--porcelain") == staged
    assert run(checkout, "git", "rev-parse", "HEAD") == run(root, "git", "rev-parse", "HEAD")


def test_params_and_lock_file_are_a_runs_own_and_no_change_of_the_code(root):
    (root / "params.yaml").write_text("prepare: {path: other}\n")
    code = workspace.code(root, root / "changes.patch")
    assert not code.dirty
    checkout = worktree.make(root, root / "runs" / "one", code)
    assert "other" not in (checkout / "params.yaml").read_text()


@pytest.mark.parametrize(
    "settings", [{"diff.noprefix": "true"}, {"diff.mnemonicPrefix": "true", "color.ui": "always"}, {"diff.external": "echo"}]
)
def test_how_a_person_likes_diffs_shown_changes_nothing(root, settings):
    for key, value in settings.items():
        run(root, "git", "config", key, value)
    (root / "src" / "tunetrail" / "code.py").write_text("one = 2\n")
    assert (copy(root) / "src" / "tunetrail" / "code.py").read_text() == "one = 2\n"


def test_a_checkout_may_be_a_folder_of_a_repository(tmp_path, monkeypatch):
    root = project(tmp_path / "all" / "part", "--subdir")
    (root.parent / "beside.txt").write_text("beside")
    run(root, "git", "add", "../beside.txt")
    commit(root, "../beside.txt")
    (root.parent / "beside.txt").write_text("another")
    (root / "src" / "tunetrail" / "code.py").write_text("one = 2\n")
    (root / "conf" / "new.yaml").write_text("new: 1\n")
    checkout = copy(root)
    assert checkout == root / "runs" / "one" / "part"
    assert files(checkout) == files(root)
    assert (checkout.parent / "beside.txt").read_text() == "beside"
    run(root, "dvc", "repro", "--quiet")
    status = run(root, "git", "status", "--porcelain")
    name = worktree.save(root, "saved")
    assert run(root, "git", "status", "--porcelain") == status
    found = worktree.commit(root, name)
    assert run(root, "git", "show", f"{found}:part/conf/new.yaml") == "new: 1"
    assert "one = 2" in run(root, "git", "show", f"{found}:part/src/tunetrail/code.py")


def test_a_second_call_takes_the_worktree_as_it_is_and_one_that_was_removed_or_half_made_is_made_anew(root):
    checkout = copy(root)
    (checkout / "work").mkdir()
    (checkout / "work" / "checkpoint").touch()
    (checkout / "src" / "tunetrail" / "code.py").write_text("fixed = True\n")
    assert copy(root) == checkout
    assert (checkout / "work" / "checkpoint").exists()
    assert (checkout / "src" / "tunetrail" / "code.py").read_text() == "fixed = True\n"

    (checkout / ".dvc" / "config.local").unlink()  # as if it had been killed just before
    copy(root)
    assert not (checkout / "work").exists()
    assert (checkout / "src" / "tunetrail" / "code.py").read_text() == "one = 1\n"

    shutil.rmtree(checkout)
    copy(root)
    assert (checkout / ".dvc" / "config.local").is_file()
    worktree.remove(root, checkout)
    assert not checkout.exists()
    assert "runs/one" not in run(root, "git", "worktree", "list")


def test_of_two_that_make_the_same_worktree_the_second_waits_and_takes_it_as_it_is(root, monkeypatch):
    code = workspace.code(root, root / "changes.patch")
    removed, remove = [], worktree.remove
    monkeypatch.setattr(worktree, "remove", lambda root, folder: removed.append(folder) or remove(root, folder))
    threads = [threading.Thread(target=worktree.make, args=(root, root / "runs" / "one", code)) for _ in range(2)]
    with workspace.wait_for_lock(root / ".git" / "tunetrail.lock"):
        for thread in threads:
            thread.start()
        time.sleep(1)  # both are there
    for thread in threads:
        thread.join()
    assert (root / "runs" / "one" / ".dvc" / "config.local").is_file()
    assert len(removed) == 1


def test_worktrees_are_made_side_by_side(root):
    script = f"""
import sys
from pathlib import Path
from tunetrail.checkout import workspace, worktree
root, name = Path({str(root)!r}), sys.argv[1]
worktree.make(root, root / "runs" / name, workspace.code(root, root / "runs" / (name + ".patch")))
"""
    (root / "runs").mkdir()
    processes = [subprocess.Popen([sys.executable, "-c", script, name]) for name in ("one", "two")]
    assert [process.wait() for process in processes] == [0, 0]
    assert files(root / "runs" / "one") == files(root / "runs" / "two") == files(root)


def test_a_commit_that_git_does_not_have_is_said_with_where_to_get_it(root):
    (root / "empty").touch()
    with pytest.raises(UserError, match=r"commit 0123456789.* is not in this repository\. Get it: git fetch --all"):
        worktree.make(root, root / "runs" / "one", workspace.Code("0123456789" * 4, root / "empty", ""))


def test_a_patch_that_does_not_fit_leaves_no_worktree_to_be_taken_for_whole(root):
    (root / "src" / "tunetrail" / "code.py").write_text("one = 2\n")
    code = workspace.code(root, root / "changes.patch")
    code.patch.write_text(code.patch.read_text().replace("-one = 1", "-one = 7"))
    for _ in range(2):
        with pytest.raises(UserError, match="patch"):
            worktree.make(root, root / "runs" / "one", code)


def test_a_worktree_uses_the_cache_and_the_runs_of_the_checkout(root):
    checkout = copy(root)
    assert "is cached - skipping" in run(checkout, "dvc", "repro")
    assert (checkout / "outputs" / "model").read_text() == (root / "outputs" / "model").read_text()
    (checkout / "src" / "tunetrail" / "code.py").write_text("one = 3\n")
    run(checkout, "dvc", "repro", "--quiet")
    assert "one = 3" not in (root / "outputs" / "model").read_text()
    worktree.remove(root, checkout)
    (root / "src" / "tunetrail" / "code.py").write_text("one = 3\n")
    assert "is cached - skipping" in run(root, "dvc", "repro")


def test_what_is_shared_is_the_checkouts(root):
    checkout = copy(root)
    for _ in range(2):
        worktree.share(root, checkout)
    (checkout / worktree.SHARED / "file").touch()
    assert (root / worktree.SHARED / "file").is_file()
    worktree.remove(root, checkout)
    assert (root / worktree.SHARED / "file").is_file()


def test_files_that_git_does_not_keep_mean_the_same_in_a_worktree(root, tmp_path):
    (root / "rows.jsonl").write_text("rows")
    (root / "deep" / "models" / "mine").mkdir(parents=True)
    (root / "deep" / "models" / "mine" / "weights").write_text("weights")
    (tmp_path / "outside.jsonl").write_text("outside")
    (root / "data" / "mine.jsonl").touch()
    checkout = copy(root)
    paths = {
        "rows.jsonl": "rows.jsonl",
        "./rows.jsonl": "./rows.jsonl",
        "deep/models/mine": "deep/models/mine",
        "deep/models/mine/": "deep/models/mine/",
        "../outside.jsonl": str(tmp_path / "outside.jsonl"),
        str(tmp_path / "outside.jsonl"): str(tmp_path / "outside.jsonl"),
        "conf/config.yaml": "conf/config.yaml",
        "data/mine.jsonl": "data/mine.jsonl",
        "data/raw/rows": "data/raw/rows",
        "outputs/model": "outputs/model",
        "org/name": "org/name",
        "": "",
        None: None,
    }
    for given, wanted in paths.items():
        section = {"path": given}
        worktree.link_untracked(root, checkout, section, "path")
        worktree.link_untracked(root, checkout, section, "path")
        assert section == {"path": wanted}
    assert (checkout / "rows.jsonl").read_text() == "rows"
    assert (checkout / "deep" / "models" / "mine" / "weights").read_text() == "weights"
    assert not (checkout / "conf" / "config.yaml").is_symlink()
    assert (checkout / "data" / "mine.jsonl").is_symlink()
    assert not (checkout / "data" / "raw").exists()
    assert not (checkout / "outputs").exists()
    assert not (checkout / "org").exists()


@pytest.mark.parametrize("path", ["rows.jsonl", "../outside.jsonl"])
def test_dvc_takes_such_a_link_for_the_file_and_sees_it_change(root, tmp_path, path):
    (root / path).write_text("rows\n")
    checkout = copy(root)
    section = {"path": path}
    worktree.link_untracked(root, checkout, section, "path")
    (checkout / "params.yaml").write_text(yaml.safe_dump({"prepare": section}))
    run(checkout, "dvc", "repro", "--quiet")
    assert (checkout / "outputs" / "model").read_text() == "rows\none = 1\n"
    (root / path).write_text("others\n")
    run(checkout, "dvc", "repro", "--quiet")
    assert (checkout / "outputs" / "model").read_text() == "others\none = 1\n"
    assert (root / path).read_text() == "others\n"
    worktree.remove(root, checkout)
    assert (root / path).read_text() == "others\n"


def test_an_experiment_holds_params_lock_file_and_code_and_what_is_staged_stays_so(root):
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
    name = worktree.save(root, "my run/1")
    assert name == "my-run-1"
    assert run(root, "git", "status", "--porcelain") == status
    assert run(root, "git", "diff", "--cached") == staged
    assert files(root) == before
    found = worktree.commit(root, name)
    assert run(root, "git", "rev-parse", f"{found}^") == run(root, "git", "rev-parse", "HEAD")
    for path in ("src/tunetrail/code.py", "conf/new.yaml", "conf/größe new.yaml", "docs/text.md", "params.yaml", "dvc.lock"):
        assert run(root, "git", "show", f"{found}:{path}") == (root / path).read_text().strip(), path
    kept = run(root, "git", "ls-tree", "-r", "--name-only", found).splitlines()
    assert not {"conf/old.yaml", "docs/notes.md"} & set(kept)
    assert "my-run-1" in run(root, "dvc", "exp", "list", "--all-commits", "--name-only")


def objects(root):
    """All that git has, whether something names it or not."""
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
def test_a_password_in_dvcs_config_is_in_no_experiment_and_the_file_stays(root, tracked, capsys):
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
    found = worktree.commit(root, worktree.save(root, "saved"))
    assert run(root, "git", "show", f"{found}:src/tunetrail/code.py") == "one = 2"
    kept = run(root, "git", "ls-tree", "-r", "--name-only", found).splitlines()
    assert (".dvc/config" in kept) == (tracked == "committed")
    if tracked == "committed":
        assert run(root, "git", "show", f"{found}:.dvc/config") == before.strip()
    assert b"CANARY" not in objects(root)
    assert config.read_text() == before + CONFIG
    assert run(root, "git", "status", "--porcelain") == status
    said = capsys.readouterr().out
    assert "CANARY" not in said
    keys = [line.split(": ")[1].split()[0] for line in said.splitlines()]
    assert keys == ["remote.store.url", "remote.store.password", "studio.token"]


def test_what_is_said_of_a_password_in_dvcs_config_puts_it_where_git_does_not_look(root):
    config = root / ".dvc" / "config"
    config.write_text(config.read_text() + CONFIG)
    for line in cache.secrets(root):
        value = "https://ada:CANARY-1@example.org/x" if " url " in line else "CANARY"
        run(root, "sh", "-c", line.rpartition("not: ")[2].replace("VALUE", value))
    assert "CANARY" not in config.read_text()
    assert cache.secrets(root) == []
    assert (root / ".dvc" / "config.local").read_text().count("CANARY") == 3
    copy(root)
    assert b"CANARY" not in objects(root)


def test_an_experiment_is_one_that_dvc_knows_and_applies(root):
    before = files(root)
    (root / "src" / "tunetrail" / "code.py").write_text("one = 2\n")
    run(root, "dvc", "repro", "--quiet")
    name = worktree.save(root, "saved")
    run(root, "git", "checkout", "--quiet", "--", ".")
    assert files(root) == before
    assert name in run(root, "dvc", "exp", "show", "--csv", "--no-pager")
    run(root, "dvc", "exp", "apply", name)
    assert (root / "src" / "tunetrail" / "code.py").read_text() == "one = 2\n"
    assert (root / "outputs" / "model").read_text() == "one = 2\none = 2\n"
    run(root, "dvc", "exp", "remove", name)
    with pytest.raises(UserError, match="no such DVC experiment"):
        worktree.commit(root, name)


@pytest.mark.parametrize("name", ["größe.lock", "-x (y)"])
def test_a_run_may_have_any_name(root, name):
    saved = worktree.save(root, name)
    assert not saved.startswith("-")  # DVC would take it for an option
    assert worktree.commit(root, saved)


def test_why_dvc_could_not_save_is_told(root):
    shutil.rmtree(root / "data" / "raw")
    with pytest.raises(UserError, match="output 'data/raw' does not exist"):
        worktree.save(root, "one")


def test_an_experiment_is_saved_where_git_has_no_name_for_who_commits(root, monkeypatch, tmp_path):
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.delenv(f"GIT_{role}_NAME")
        monkeypatch.delenv(f"GIT_{role}_EMAIL")
    for name, value in (("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_NOSYSTEM", "1"), ("HOME", str(tmp_path))):
        monkeypatch.setenv(name, value)
    found = worktree.commit(root, worktree.save(root, "same"))
    assert run(root, "git", "show", "--no-patch", "--format=%an %ae", found) == "tunetrail tunetrail"
    run(root, "git", "config", "user.name", "Ada")
    run(root, "git", "config", "user.email", "ada@example.org")
    (root / "conf" / "config.yaml").write_text("a: 2\n")
    found = worktree.commit(root, worktree.save(root, "same"))  # in the place of the first
    assert run(root, "git", "show", "--no-patch", "--format=%an %ae", found) == "Ada ada@example.org"
    assert run(root, "git", "show", f"{found}:conf/config.yaml") == "a: 2"


def test_two_worktrees_save_at_once(root):
    checkouts = [copy(root, name) for name in ("one", "two")]
    for number, checkout in enumerate(checkouts):
        run(checkout, "dvc", "checkout", "--quiet")
        (checkout / "src" / "tunetrail" / "code.py").write_text(f"number = {number}\n")
    script = (
        "import pathlib, sys; from tunetrail.checkout import worktree as w; w.save(pathlib.Path(sys.argv[1]), sys.argv[2])"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", script, str(checkout), f"saved-{number}"])
        for number, checkout in enumerate(checkouts)
    ]
    assert [process.wait() for process in started] == [0, 0]
    for number in range(2):
        found = worktree.commit(root, f"saved-{number}")
        assert run(root, "git", "show", f"{found}:src/tunetrail/code.py") == f"number = {number}"


def test_an_experiment_that_is_not_here_is_said_with_where_to_get_it(root):
    with pytest.raises(UserError, match=r"gone-1: this repository has no such DVC experiment.*dvc exp pull origin gone-1"):
        worktree.commit(root, "gone-1")
