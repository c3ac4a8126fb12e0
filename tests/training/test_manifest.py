"""A checkpoint is whole, or it is not taken."""

import json

import pytest

from tunetrail.training import manifest


@pytest.fixture
def checkpoint(tmp_path):
    (tmp_path / "optimizer_0").mkdir()
    for name in ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "optimizer_0/shard"):
        (tmp_path / name).write_bytes(name.encode() * 1000)
    manifest.write(tmp_path)
    return tmp_path


def test_a_checkpoint_with_all_its_files_is_whole(checkpoint):
    assert manifest.fault(checkpoint) == ""
    assert set(json.loads((checkpoint / manifest.FILE).read_text())["files"]) == {
        *("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "optimizer_0/shard")
    }


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "optimizer_0/shard"])
@pytest.mark.parametrize("damage", ["missing", "cut", "damaged"])
def test_a_file_that_is_not_as_it_was_written_is_named(checkpoint, name, damage):
    file = checkpoint / name
    content = file.read_bytes()
    file.unlink()
    if damage != "missing":
        file.write_bytes(content[:-1] if damage == "cut" else b"?" + content[1:])
    assert manifest.fault(checkpoint) == f"{name} is {damage}"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"files": []}', '{"files": {"a": 1}}', '{"files": {"a": {}}}'])
def test_a_manifest_that_is_not_ours_is_damage(checkpoint, text):
    (checkpoint / manifest.FILE).write_text(text)
    assert manifest.fault(checkpoint) == "its manifest.json is damaged"


def test_a_checkpoint_is_not_whole_before_its_manifest(checkpoint):
    (checkpoint / manifest.FILE).rename(checkpoint / f"{manifest.FILE}.partial")
    assert manifest.fault(checkpoint) == "it has no manifest.json, which is written last"
