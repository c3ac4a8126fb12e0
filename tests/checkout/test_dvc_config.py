"""Where DVC's cache is by its config files, compared with what DVC itself says."""

import pytest

from tests.projects import run
from tunetrail.checkout import dvc_config

pytestmark = pytest.mark.stage


@pytest.mark.parametrize(
    ("level", "path"),
    [
        (None, None),
        ("--project", "elsewhere"),
        ("--local", "../elsewhere"),
        ("--global", "/somewhere/of the user"),
        ("--system", "/somewhere"),
        ("--global", "../relative"),
        ("--local", "~/of the user"),
        ("--local", "a folder #1/cache, or 'two'"),
    ],
)
def test_the_cache_is_where_dvc_says(root, tmp_path, monkeypatch, level, path):
    for name in ("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
        (tmp_path / name).mkdir()
    if level:
        run(root, "dvc", "config", level, "cache.dir", path)
    assert str(dvc_config.cache_folder(root).resolve()) == run(root, "dvc", "cache", "dir")


def test_a_later_config_holds(root, tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path))
    for level in ("--global", "--project", "--local"):
        run(root, "dvc", "config", level, "cache.dir", str(tmp_path / level))
        assert str(dvc_config.cache_folder(root)) == run(root, "dvc", "cache", "dir") == str(tmp_path / level)


@pytest.mark.parametrize("section", ["[cache]", "[ cache ]", "['cache']", "[Cache]"])
def test_a_section_is_read_however_it_is_written(root, section):
    (root / ".dvc" / "config").write_text(f"{section}\n  DIR = ../elsewhere   # a comment\n")
    assert str(dvc_config.cache_folder(root).resolve()) == run(root, "dvc", "cache", "dir") == str(root / "elsewhere")


def test_a_config_that_cannot_be_read_is_left_to_dvc(root):
    (root / ".dvc" / "config").write_bytes(b"\xff\xfe[cache")
    assert dvc_config.cache_folder(root) == root / ".dvc" / "cache"
