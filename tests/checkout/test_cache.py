"""The cache of a clone that `mlflow run ADDRESS` made, and files that come from the cache of another checkout."""

import shutil
import socket
import tempfile
from pathlib import Path

import pytest

from tests.projects import run
from tunetrail import UserError
from tunetrail.checkout import cache, dvc, dvc_config, integrity

pytestmark = pytest.mark.stage

FOLDERS = [
    ("tmpabcd_123", True),  # tempfile.mkdtemp's
    ("tmpabcd_123/projects/one", True),  # `mlflow run ADDRESS#projects/one`
    ("tmp.aBcDeFgHiJ", False),  # mktemp's: a person made it
    ("tmpabcd_1234", False),
    ("project", False),
    (".", False),
    ("..", False),
]


@pytest.mark.parametrize(("folder", "temporary"), FOLDERS)
def test_a_clone_of_mlflows_is_known_by_its_folder(tmp_path, monkeypatch, folder, temporary):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert cache.is_temporary(tmp_path / folder) == temporary
    assert Path(tempfile.mkdtemp()).parent == tmp_path


@pytest.fixture
def temporary(root, tmp_path, monkeypatch):
    """A checkout where MLflow would clone to; what is kept goes to kept/."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(cache, "kept", lambda: tmp_path / "kept")
    folder = Path(tempfile.mkdtemp()) / "project"
    shutil.copytree(root, folder)
    return folder


def test_what_dvc_stores_in_a_temporary_clone_outlives_it(temporary, root, tmp_path):
    cache.keep(temporary)
    assert cache.location(temporary) == f"{socket.gethostname()}:{tmp_path / 'kept'}"
    run(temporary, "dvc", "repro", "--quiet", "--force")
    outs = dvc.hashes(dvc.locked_stages(temporary))
    shutil.rmtree(temporary)
    shutil.rmtree(root / ".dvc" / "cache")
    shutil.rmtree(root / "outputs")
    with pytest.raises(integrity.Missing):
        integrity.restore(root, root, outs, "the run", "again")
    integrity.restore(root, root, outs, "the run", "again", tmp_path / "kept")
    assert (root / "outputs" / "model").is_file()
    shutil.rmtree(root / "outputs")
    integrity.restore(root, root, outs, "the run", "again", tmp_path / "lost")  # its own cache has them now


def test_a_cache_of_the_persons_own_choice_is_kept(temporary, tmp_path):
    run(temporary, "dvc", "config", "--local", "cache.dir", str(tmp_path / "own"))
    cache.keep(temporary)
    assert dvc_config.cache_folder(temporary) == tmp_path / "own"


def test_other_checkouts_keep_their_cache(root):
    cache.keep(root)
    assert dvc_config.cache_folder(root) == root / ".dvc" / "cache"


@pytest.mark.parametrize("level", ["--global", "--system"])
def test_dvcs_own_config_holds_while_files_come_from_another_cache(root, tmp_path, monkeypatch, level):
    for name in ("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
        (tmp_path / name).mkdir()
    run(root, "dvc", "config", level, "cache.type", "hardlink")
    shutil.move(root / ".dvc" / "cache", tmp_path / "other")
    shutil.rmtree(root / "outputs")
    cache.pull(root, tmp_path / "other", ["outputs/model"])
    assert (root / "outputs" / "model").stat().st_nlink == 2
    assert "other-cache" not in run(root, "dvc", "config", "--list")
    with pytest.raises(UserError):
        cache.pull(root, tmp_path / "lost", ["data/raw"])
