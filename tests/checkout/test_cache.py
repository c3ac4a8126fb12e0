"""Real DVC: the settings of one folder, written for another."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tunetrail.checkout import cache

pytestmark = pytest.mark.stage


def dvc(folder, *words):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"DVC_NO_ANALYTICS": "1", "PATH": path}
    return subprocess.run(["dvc", *words], cwd=folder, env=environment, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache") / "checkout"
    folder.mkdir()
    dvc(folder, "init", "--quiet", "--no-scm")
    return folder


def lent(root, tmp_path, **more):
    """What DVC itself reads of the file that is written for another folder."""
    file = tmp_path / "other" / ".dvc" / "config"
    file.parent.parent.mkdir()
    cache.write_shared_cache_config(root, file, {"core.no_scm": "true"} | more)
    assert file.stat().st_mode & 0o077 == 0
    return dict(line.split("=", 1) for line in dvc(tmp_path / "other", "config", "--list").splitlines())


def test_without_settings_the_cache_is_the_checkouts_own(root, tmp_path):
    found = lent(root, tmp_path)
    assert found["cache.dir"] == str(root / ".dvc" / "cache")
    assert found["cache.type"].startswith("reflink,hardlink")
    assert cache.remotes(root) == {}


def test_the_cache_and_the_remotes_come_with_absolute_paths_and_whatever_is_in_them(root, tmp_path):
    settings = {
        "cache.dir": "../shared cache",
        "core.remote": "my.store",
        "remote.my.store.url": "../store",
        "remote.other.url": "s3://bucket/a,b #c",
        "remote.other.password": "it's; a secret",
        "remote.third.url": 'ssh://host/say "hello"',
    }
    sections = "[cache]\n  dir = ../../shared cache\n[core]\n  remote = my.store\n"
    sections += "['remote \"my.store\"']\n  url = ../../store\n"
    sections += '[\'remote "other"\']\n  url = "s3://bucket/a,b #c"\n  password = "it\'s; a secret"\n'
    sections += "['remote \"third\"']\n  url = 'ssh://host/say \"hello\"'\n"
    (root / ".dvc" / "config.local").write_text(sections)
    try:
        found = lent(root, tmp_path)
        remotes = cache.remotes(root)
    finally:
        (root / ".dvc" / "config.local").unlink()
    settings |= {"cache.dir": str(root.parent / "shared cache"), "remote.my.store.url": str(root.parent / "store")}
    assert found.items() >= settings.items()
    assert remotes == {key: value for key, value in settings.items() if key != "cache.dir"}
