"""Real git and real DVC: worktrees of a small project."""

import os
import shutil
import subprocess
import sys
import threading
import time

import pytest
import yaml

from tests import projects
from tests.checkout.conftest import copy, files
from tests.conftest import ROOT
from tests.projects import commit, run
from tunetrail import UserError
from tunetrail.checkout import experiments, git, locks, worktree

pytestmark = pytest.mark.stage


def test_a_worktree_has_the_uncommitted_changes_and_does_not_change_the_checkout(root):
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
    copied = files(checkout)
    del wanted["src/__pycache__/a.pyc"]
    assert copied == wanted
    assert os.access(checkout / "src" / "run.sh", os.X_OK)
    assert (checkout / "src" / "link").is_symlink()
    (root / "docs" / "notes.md").unlink()
    (root / "rows.jsonl").unlink()
    assert run(root, "git", "status", "--porcelain") == staged
    assert run(checkout, "git", "rev-parse", "HEAD") == run(root, "git", "rev-parse", "HEAD")


def test_params_yaml_and_dvc_lock_are_not_part_of_the_code(root):
    (root / "params.yaml").write_text("prepare: {path: other}\n")
    code = git.read_code(root, root / "changes.patch")
    assert not code.dirty
    checkout = worktree.make(root, root / "runs" / "one", code)
    assert "other" not in (checkout / "params.yaml").read_text()


@pytest.mark.parametrize(
    "settings", [{"diff.noprefix": "true"}, {"diff.mnemonicPrefix": "true", "color.ui": "always"}, {"diff.external": "echo"}]
)
def test_the_users_git_diff_settings_have_no_effect(root, settings):
    for key, value in settings.items():
        run(root, "git", "config", key, value)
    (root / "src" / "tunetrail" / "code.py").write_text("one = 2\n")
    assert (copy(root) / "src" / "tunetrail" / "code.py").read_text() == "one = 2\n"


def test_a_checkout_may_be_a_folder_of_a_repository(tmp_path, monkeypatch):
    root = projects.make(tmp_path / "all" / "part", "--subdir")
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
    name = experiments.save(root, "saved")
    assert run(root, "git", "status", "--porcelain") == status
    experiment = experiments.commit(root, name)
    assert run(root, "git", "show", f"{experiment}:part/conf/new.yaml") == "new: 1"
    assert "one = 2" in run(root, "git", "show", f"{experiment}:part/src/tunetrail/code.py")


def test_an_existing_worktree_is_reused_and_a_removed_or_incomplete_one_is_made_again(root):
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


def test_two_threads_that_make_the_same_worktree_make_it_once(root, monkeypatch):
    code = git.read_code(root, root / "changes.patch")
    removed, remove = [], worktree.remove
    monkeypatch.setattr(worktree, "remove", lambda root, folder: removed.append(folder) or remove(root, folder))
    threads = [threading.Thread(target=worktree.make, args=(root, root / "runs" / "one", code)) for _ in range(2)]
    with locks.wait_for_lock(root / ".git" / "tunetrail.lock"):
        for thread in threads:
            thread.start()
        time.sleep(1)  # both are there
    for thread in threads:
        thread.join()
    assert (root / "runs" / "one" / ".dvc" / "config.local").is_file()
    assert len(removed) == 1


def test_two_processes_make_two_worktrees_at_once(root):
    script = f"""
import sys
from pathlib import Path
from tunetrail.checkout import git, worktree
root, name = Path({str(root)!r}), sys.argv[1]
worktree.make(root, root / "runs" / name, git.read_code(root, root / "runs" / (name + ".patch")))
"""
    (root / "runs").mkdir()
    processes = [subprocess.Popen([sys.executable, "-c", script, name]) for name in ("one", "two")]
    assert [process.wait() for process in processes] == [0, 0]
    assert files(root / "runs" / "one") == files(root / "runs" / "two") == files(root)


def test_the_error_of_a_missing_commit_says_where_to_get_it(root):
    (root / "empty").touch()
    with pytest.raises(UserError, match=r"commit 0123456789.* is not in this repository\. Get it: git fetch --all"):
        worktree.make(root, root / "runs" / "one", git.Code("0123456789" * 4, root / "empty", ""))


def test_a_patch_that_does_not_apply_leaves_no_worktree_that_looks_complete(root):
    (root / "src" / "tunetrail" / "code.py").write_text("one = 2\n")
    code = git.read_code(root, root / "changes.patch")
    code.patch.write_text(code.patch.read_text().replace("-one = 1", "-one = 7"))
    for _ in range(2):
        with pytest.raises(UserError, match="patch"):
            worktree.make(root, root / "runs" / "one", code)


def test_a_worktree_and_its_checkout_share_cached_stages(root):
    checkout = copy(root)
    assert "is cached - skipping" in run(checkout, "dvc", "repro")
    assert (checkout / "outputs" / "model").read_text() == (root / "outputs" / "model").read_text()
    (checkout / "src" / "tunetrail" / "code.py").write_text("one = 3\n")
    run(checkout, "dvc", "repro", "--quiet")
    assert "one = 3" not in (root / "outputs" / "model").read_text()
    worktree.remove(root, checkout)
    (root / "src" / "tunetrail" / "code.py").write_text("one = 3\n")
    assert "is cached - skipping" in run(root, "dvc", "repro")


def test_a_worktree_uses_the_checkouts_work_shared(root):
    checkout = copy(root)
    for _ in range(2):
        worktree.share(root, checkout)
    (checkout / worktree.SHARED / "file").touch()
    assert (root / worktree.SHARED / "file").is_file()
    worktree.remove(root, checkout)
    assert (root / worktree.SHARED / "file").is_file()


def test_paths_to_untracked_files_mean_the_same_in_a_worktree(root, tmp_path):
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
    for path, wanted in paths.items():
        section = {"path": path}
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


def test_every_file_that_dvc_yaml_takes_from_the_parameters_is_linked():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    named = {dep for stage in stages.values() for dep in stage["deps"] if dep.startswith("${")}
    assert named == {f"${{{section}.path}}" for section, key in worktree.PATHS if key == "path"}


@pytest.mark.parametrize("path", ["rows.jsonl", "../outside.jsonl"])
def test_dvc_follows_such_a_link_and_notices_a_change(root, tmp_path, path):
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
