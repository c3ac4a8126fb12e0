import pytest

from tunetrail import UserError
from tunetrail.training import checkpoint


def model(folder):
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "generation_config.json"):
        (folder / name).write_text(name)
    (folder / "debug.log").write_text("not the model")
    (folder / "checkpoint-10").mkdir()
    return folder


def test_only_the_models_files_are_copied_and_hashed(tmp_path):
    first = model(tmp_path / "first")
    checkpoint.copy(first, tmp_path / "copy")
    assert sorted(f.name for f in (tmp_path / "copy").iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert checkpoint.digest(first) == checkpoint.digest(tmp_path / "copy")
    (first / "debug.log").write_text("changed")
    assert checkpoint.digest(first) == checkpoint.digest(tmp_path / "copy")
    (first / "model.safetensors").write_text("changed")
    assert checkpoint.digest(first) != checkpoint.digest(tmp_path / "copy")


@pytest.mark.parametrize(
    ("files", "says"),
    [(None, "no such folder"), ([], "no config.json"), (["config.json", "pytorch_model.bin"], "no weights in safetensors")],
)
def test_the_error_for_a_folder_without_a_model_has_a_fix(tmp_path, files, says):
    folder = tmp_path / "model"
    if files is not None:
        folder.mkdir()
        for name in files:
            (folder / name).touch()
    with pytest.raises(UserError, match=says) as error:
        checkpoint.files(folder)
    assert str(folder) in str(error.value)


def test_an_adapter_is_copied_and_recognised(tmp_path):
    for name in ("adapter_config.json", "adapter_model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_text(name)
    assert [file.name for file in checkpoint.files(tmp_path)] == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "tokenizer.json",
    ]
    assert checkpoint.is_adapter(tmp_path)
    assert not checkpoint.is_adapter(model(tmp_path / "whole"))


def test_hub_ids_and_paths_are_distinguished(tmp_path):
    assert checkpoint.is_path(str(tmp_path))
    assert checkpoint.is_path("./model")
    assert checkpoint.is_path("outputs/base/model")
    assert checkpoint.is_path("outputs/model")
    assert not checkpoint.is_path("meta-llama/Meta-Llama-3-8B")
    assert not checkpoint.is_path("gpt2")
