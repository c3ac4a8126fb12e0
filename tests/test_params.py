import pytest
import yaml

from tunetrail import params


def test_a_section_comes_back_as_it_was_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = {"train": {"learning_rate": 2e-05, "text": "one\n\ntwo\n", "save_strategy": "no", "none": None}, "seed": 1}
    params.write_yaml(params.FILE, content, "# heading\n")
    assert params.read("train") == content["train"]
    assert params.FILE.read_text().startswith("# heading\ntrain:")
    assert "text: |" in params.FILE.read_text()


def test_a_failed_write_leaves_the_old_file(tmp_path):
    file = tmp_path / "params.yaml"
    params.write_yaml(file, {"a": 1})
    with pytest.raises(yaml.representer.RepresenterError):
        params.write_yaml(file, {"a": object()})
    assert yaml.safe_load(file.read_text()) == {"a": 1}
