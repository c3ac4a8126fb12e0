"""DVC's files as read here, and the settings of one folder, written for another and read back by DVC itself."""

import os
import subprocess

import pytest
import yaml

from tests.conftest import ROOT
from tests.projects import commit, run
from tunetrail import UserError
from tunetrail.checkout import dvc, locks


def test_stages_are_listed_in_the_order_of_dvc_yaml_without_the_one_that_makes_an_output():
    names = list(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])
    assert dvc.stages_without(ROOT, "data/raw") == names[1:]
    assert dvc.stages_without(ROOT, "outputs/train") == [name for name in names if name != "train"]
    assert names[0] == "fetch"


def test_md5s_are_read_from_dvc_lock(checkout):
    assert dvc.locked_stages(checkout) == {}
    (checkout / "dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  train:\n    deps: [{path: data, md5: one}]\n    outs: [{path: model, md5: two}]\n"
    )
    stages = dvc.locked_stages(checkout)
    assert [dvc.md5(checkout, stages, "train", path) for path in ("data", "./data", f"{checkout}/model", "none")] == [
        "one",
        "one",
        "two",
        None,
    ]
    assert dvc.md5(checkout, stages, "nothing", "data") is None


BROKEN = {
    "a list": "- a\n",
    "a number": "7\n",
    "stages are a list": "schema: '2.0'\nstages: [train]\n",
    "a stage is text": "schema: '2.0'\nstages: {train: text}\n",
    "a stage is empty": "schema: '2.0'\nstages: {train: }\n",
    "outs are text": "schema: '2.0'\nstages: {train: {outs: model}}\n",
    "an output without its md5": "schema: '2.0'\nstages: {train: {outs: [{path: model}]}}\n",
    "an output is text": "schema: '2.0'\nstages: {train: {outs: [model]}}\n",
    "params are a list": "schema: '2.0'\nstages: {train: {params: [train]}}\n",
    "no YAML": "stages: {\n",
    "nothing": "",
    "no schema": "stages: {train: {cmd: a}}\n",
    "no text": "\ud800",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_malformed_dvc_lock_is_an_error_that_names_the_file(checkout, name):
    (checkout / "dvc.lock").write_bytes(BROKEN[name].encode("utf-8", "surrogatepass"))
    with pytest.raises(
        UserError, match=rf"^{checkout}/dvc\.lock: not as DVC writes it \(.+\)\. Resolve it, or: git checkout"
    ):
        dvc.locked_stages(checkout)


@pytest.mark.parametrize("stages", ["", "stages: {}\n", "stages: {train: {cmd: a}}\n"])
def test_a_dvc_lock_without_outputs_records_none(checkout, stages):
    (checkout / "dvc.lock").write_text(f"schema: '2.0'\n{stages}")
    assert dvc.hashes(dvc.locked_stages(checkout)) == {}


def test_the_error_of_a_dvc_lock_with_a_merge_conflict_names_the_command_that_resolves_it(checkout):
    lock = checkout / "dvc.lock"
    for branch, md5 in (("start", "zero"), ("theirs", "one"), ("ours", "two")):
        subprocess.run(["git", "checkout", "-q", *(["start"] if branch != "start" else ["-b", "start"])], check=True)
        if branch != "start":
            subprocess.run(["git", "checkout", "-q", "-b", branch], check=True)
        lock.write_text(f"schema: '2.0'\nstages:\n  train:\n    outs: [{{path: model, md5: {md5}}}]\n")
        commit(checkout)
    subprocess.run(["git", "merge", "-q", "theirs"], capture_output=True)
    assert "<<<<<<<" in lock.read_text()
    with pytest.raises(UserError) as error:
        dvc.locked_stages(checkout)
    subprocess.run(str(error.value).partition("or: ")[2], shell=True, check=True, capture_output=True)
    assert dvc.hashes(dvc.locked_stages(checkout)) == {"model": "two"}


@pytest.fixture(scope="module")
def without_git(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache") / "checkout"
    folder.mkdir()
    run(folder, "dvc", "init", "--quiet", "--no-scm")
    return folder


def config_for_another_folder(without_git, tmp_path, **more):
    """Write the settings for another folder and return what DVC itself reads there."""
    file = tmp_path / "other" / ".dvc" / "config"
    file.parent.parent.mkdir()
    dvc.write_shared_cache_config(without_git, file, {"core.no_scm": "true"} | more)
    assert file.stat().st_mode & 0o077 == 0
    return dict(line.split("=", 1) for line in run(tmp_path / "other", "dvc", "config", "--list").splitlines())


def test_without_settings_the_shared_cache_is_the_checkouts(without_git, tmp_path):
    config = config_for_another_folder(without_git, tmp_path)
    assert config["cache.dir"] == str(without_git / ".dvc" / "cache")
    assert config["cache.type"].startswith("reflink,hardlink")
    assert dvc.remotes(without_git) == {}


def test_the_shared_config_has_cache_and_remotes_with_absolute_paths_and_special_characters(without_git, tmp_path):
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
    (without_git / ".dvc" / "config.local").write_text(sections)
    try:
        config = config_for_another_folder(without_git, tmp_path)
        remotes = dvc.remotes(without_git)
    finally:
        (without_git / ".dvc" / "config.local").unlink()
    settings |= {
        "cache.dir": str(without_git.parent / "shared cache"),
        "remote.my.store.url": str(without_git.parent / "store"),
    }
    assert config.items() >= settings.items()
    assert remotes == {key: value for key, value in settings.items() if key != "cache.dir"}


@pytest.mark.parametrize(
    ("stage", "sections"),
    [
        ("prepare", {"fetch", "prepare"}),
        ("base", {"fetch", "prepare", "base", "accelerate"}),
        ("evaluate_base", {"fetch", "prepare", "base", "accelerate", "evaluate"}),
        ("train", {"fetch", "prepare", "base", "accelerate", "train"}),
    ],
)
def test_a_stage_depends_on_the_sections_of_those_before_it(stage, sections):
    assert dvc.sections(ROOT, stage) == sections


@pytest.mark.parametrize("length", [0, 1, 20, 150, 400, None])
@pytest.mark.parametrize("first", [False, True])
def test_what_a_killed_dvc_has_left_cut_is_put_right(root, capfd, monkeypatch, length, first):
    """It writes dvc.lock and its table of locks in place; the stages that it had run are not run again."""
    monkeypatch.chdir(root)
    lock, stages, whole = root / "dvc.lock", (root / "dvc.yaml").read_text(), (root / "dvc.lock").read_bytes()
    assert len(whole) > 400
    if first:
        lock.unlink()
    (root / "dvc.yaml").write_text(stages.replace("cat data/raw", "kill -9 $PPID; cat data/raw"))
    with locks.exclusive_lock(root) as descriptor:
        with pytest.raises(UserError, match="a stage failed"):
            dvc.reproduce(root, descriptor)
        lock.write_bytes(whole[:length])
        (root / ".dvc" / "tmp" / "rwlock").write_text("" if length != 1 else '{"read": {')
        (root / "dvc.yaml").write_text(stages)
        capfd.readouterr()
        dvc.reproduce(root, descriptor)
    assert lock.read_bytes() == whole
    assert "Running stage" not in capfd.readouterr().out
    assert [file.name for file in (root / "work").iterdir()] == ["lock"]


def test_an_empty_folder_that_a_killed_dvc_has_left_in_its_cache_of_runs_stops_nothing(root, monkeypatch):
    """It makes the folder, then the file in it."""
    monkeypatch.chdir(root)
    stages = (root / "dvc.yaml").read_text()
    (root / "dvc.yaml").write_text(stages.replace("cat data/raw", "kill -9 $PPID; cat data/raw"))
    with locks.exclusive_lock(root) as descriptor:
        with pytest.raises(UserError, match="a stage failed"):
            dvc.reproduce(root, descriptor)
        for file in (root / ".dvc" / "cache" / "runs").glob("*/*/*"):
            file.unlink()
            os.utime(file.parent, (0, 0))  # not one that another DVC is about to fill
        (root / "dvc.lock").unlink()
        (root / "dvc.yaml").write_text(stages)
        dvc.reproduce(root, descriptor)
    assert dvc.locked_stages(root).keys() == {"fetch", "train"}


def test_a_dvc_lock_that_a_full_disk_has_cut_is_put_right_and_one_with_a_merge_conflict_is_left(root, monkeypatch):
    """DVC ends by itself when the disk is full. What a person has put into the file is not overwritten."""
    monkeypatch.chdir(root)
    lock, whole = root / "dvc.lock", (root / "dvc.lock").read_bytes()
    stages = (root / "dvc.yaml").read_text()
    cut = "> outputs/model; head -c 99 dvc.lock > cut; mv cut dvc.lock; false"
    with locks.exclusive_lock(root) as descriptor:
        (root / "dvc.yaml").write_text(stages.replace("> outputs/model", cut))
        with pytest.raises(UserError, match="a stage failed"):
            dvc.reproduce(root, descriptor)
        assert len(lock.read_bytes()) == 99
        (root / "dvc.yaml").write_text(stages)
        dvc.reproduce(root, descriptor)
        assert lock.read_bytes() == whole
        (root / "work" / "dvc.lock.before").write_bytes(whole)
        lock.write_text("<<<<<<< ours\n=======\n>>>>>>> theirs\n")
        with pytest.raises(UserError, match="a stage failed"):
            dvc.reproduce(root, descriptor)
    assert lock.read_text().startswith("<<<<<<< ours")
