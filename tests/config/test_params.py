import pytest
import yaml

from tunetrail import UserError
from tunetrail.config import params


def test_a_section_is_read_back_as_it_was_written(tmp_path, monkeypatch):
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


def test_all_sections_of_a_file_are_read_back(tmp_path):
    content = {"name": "größe", "train": {"learning_rate": 2e-05, "text": "one\n"}}
    params.write_yaml(tmp_path / "params.yaml", content, "# heading\n")
    assert params.load(tmp_path / "params.yaml") == content


@pytest.mark.parametrize("text", [b"a: [1", b"\xff\xfe\x00", b"- a list", b"", b"word", b"a: !!python/object:os.system {}"])
def test_a_file_that_is_not_a_params_yaml_is_an_error_with_its_name(tmp_path, text):
    (tmp_path / "mine.yaml").write_bytes(text)
    with pytest.raises(UserError, match=r"mine\.yaml: [\s\S]*Give the params\.yaml of a run\."):
        params.load(tmp_path / "mine.yaml")
    with pytest.raises(UserError, match="No such file"):
        params.load(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="directory"):
        params.load(tmp_path)
