import ast
import importlib.util
import json
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from tunetrail.training import token_cache

SECTION = {
    "base_model": "outputs/base/model",
    "output_dir": "work/train",
    "dataset_prepared_path": "work/train/prepared",
    "datasets": [{"path": "data/prepared/train.jsonl", "type": {"format": "{instruction}"}}],
    "test_datasets": [{"path": "data/prepared/validation.jsonl", "type": {"format": "{instruction}"}}],
    "sequence_len": 512,
    "sample_packing": True,
    "seed": 1,
    "learning_rate": 1e-3,
}
BASE = {"base_model": "outputs/base/model", "revision": None, "sha256": "of the base"}


@pytest.fixture(autouse=True)
def rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = [Path("data/prepared/train.jsonl"), Path("data/prepared/validation.jsonl")]
    files[0].parent.mkdir(parents=True)
    for file in files:
        file.write_text(f"rows of {file}")
    return files


def cache_folder(rows, base=BASE, **changed):
    """Return the folder of the tokenised rows of such a training."""
    section = SECTION | changed
    before = json.dumps(section)
    token_cache.share(section, rows, base)
    assert json.dumps(section) == before
    return Path(section["dataset_prepared_path"]).resolve(strict=True)


def test_trainings_that_tokenise_the_same_share_a_folder(rows):
    first = cache_folder(rows)
    assert first.parent == token_cache.PLACE.resolve()
    other = {
        "learning_rate": 1.0,
        "lr_scheduler": "cosine",
        "adapter": "qlora",
        "lora_r": 8,
        "load_in_4bit": True,
        "micro_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "num_epochs": 9,
        "optimizer": "lion_8bit",
        "warmup_ratio": 0.1,
        "bf16": True,
    }
    for key, value in other.items():
        assert cache_folder(rows, **{key: value}) == first, key


def test_other_rows_another_base_and_other_tokens_have_other_folders(rows):
    folders = {cache_folder(rows)}
    other = {
        "sequence_len": 256,
        "sample_packing": False,
        "seed": 2,
        "special_tokens": {"pad_token": "<pad>"},
        "train_on_inputs": True,
        "eval_sequence_len": 64,
        "datasets": [SECTION["datasets"][0] | {"type": {"format": "{instruction}:"}}],
        "dataset_exact_deduplication": True,
        "base_model": "another",
    }
    for number, (key, value) in enumerate(other.items(), 2):
        folders.add(cache_folder(rows, **{key: value}))
        assert len(folders) == number, key
    folders.add(cache_folder(rows, BASE | {"sha256": "of another"}))
    folders.add(cache_folder(rows, BASE | {"revision": "abc"}))
    rows[1].write_text("other rows under the same name")
    folders.add(cache_folder(rows))
    folders.add(cache_folder(rows[::-1]))
    assert len(folders) == len(other) + 5


def test_incomplete_rows_of_a_killed_run_are_removed_and_complete_ones_stay(rows):
    """As `datasets` writes them: the rows, state.json, and dataset_info.json last; loading takes both."""
    from datasets import Dataset, load_from_disk

    folder = cache_folder(rows)
    for name in ("whole", "no-info", "no-state"):
        Dataset.from_dict({"input_ids": [[1, 2], [3]]}).save_to_disk(folder / name)
    (folder / "no-info" / "dataset_info.json").unlink()
    (folder / "no-state" / "dataset_info.json").unlink()
    (folder / "no-state" / "state.json").unlink()
    (folder / "datasets_ready.flag").touch()
    assert cache_folder(rows) == folder
    assert {file.name for file in folder.iterdir() if file.is_dir()} == {"whole"}
    assert load_from_disk(folder / "whole")["input_ids"] == [[1, 2], [3]]
    assert (folder / "datasets_ready.flag").exists()


def test_a_reader_waits_for_the_lock_of_a_writer(rows):
    folder = cache_folder(rows)
    (folder / "being-written").mkdir()
    with FileLock(folder / "datasets_prep.lock"):  # as Axolotl holds it while it writes
        thread = threading.Thread(target=cache_folder, args=(rows,))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        for name in ("state.json", "dataset_info.json"):
            (folder / "being-written" / name).touch()
    thread.join()
    assert (folder / "being-written").is_dir()


@pytest.mark.parametrize("path", ["prepared", "../elsewhere", None, "work/training"])
def test_the_users_own_path_is_not_changed(rows, path):
    token_cache.share(SECTION | {"dataset_prepared_path": path}, rows, BASE)
    assert not Path("work").exists()
    assert path is None or not Path(path).exists()


def test_the_link_replaces_an_earlier_link_or_folder(rows):
    first = cache_folder(rows)
    (first / "kept").touch()
    assert cache_folder(rows, seed=2) != first
    assert (first / "kept").exists()
    Path("work/train/prepared").unlink()
    Path("work/train/prepared").mkdir()  # from a resumed training of before rows were shared
    Path("work/train/prepared/old").touch()
    assert cache_folder(rows) == first


def constants(module):
    """Return the constants of one of Axolotl's files without its import, which takes ten seconds."""
    axolotl = Path(importlib.util.find_spec("axolotl").origin).parent
    lines = [line for line in ast.parse((axolotl / module).read_text()).body if isinstance(line, ast.Assign)]
    named = {line.targets[0].id: line.value for line in lines if isinstance(line.targets[0], ast.Name)}
    return {name: ast.literal_eval(value) for name, value in named.items() if isinstance(value, ast.Constant | ast.Tuple)}


def test_the_files_that_axolotl_and_datasets_write_have_these_names():
    from datasets import config

    assert constants("utils/data/lock.py")["LOCK_FILE_NAME"] == token_cache._LOCK
    assert config.DATASET_INFO_FILENAME == token_cache._WRITTEN_LAST


def test_no_key_that_axolotl_names_its_rows_by_is_left_out():
    """Axolotl's own names of tokenised rows depend on some keys; each must make another folder here."""
    named = {"sequence_len", "sample_packing", "eval_sample_packing", "group_by_length", "kd_temperature"}
    named |= {"dataset_exact_deduplication", *constants("utils/data/shared.py")["DATASET_HASH_CONFIG_EXTRA_FIELDS"]}
    assert "special_tokens" in named
    assert not [key for key in named if key.startswith(token_cache._NO_TOKEN)]


def test_every_key_that_is_left_out_is_one_of_axolotls():
    from tunetrail.config import schema

    known = schema.params()["properties"]["train"]["properties"]
    assert not [prefix for prefix in token_cache._NO_TOKEN if not any(key.startswith(prefix) for key in known)]


@pytest.mark.parametrize(
    "changed",
    [
        {"tokenizer_config": "tok"},
        {"chat_template": "jinja"},
        {"datasets": [*SECTION["datasets"], {"path": "extra.jsonl", "type": {}}]},
        {"datasets": [{"path": "data/prepared/train.jsonl", "type": "alpaca"}]},
    ],
)
def test_nothing_is_shared_if_rows_depend_on_more_than_the_prepared_files(rows, changed):
    section = SECTION | changed
    token_cache.share(section, rows, BASE)
    assert not Path(section["dataset_prepared_path"]).exists()


def test_another_version_of_a_tool_tokenises_again(rows, monkeypatch):
    first = cache_folder(rows)
    monkeypatch.setattr("importlib.metadata.version", lambda tool: "0.0")
    assert cache_folder(rows) != first


@pytest.mark.parametrize("way", ["work/train/../../precious", "work/train/link/precious", "work/train/../train/prepared"])
def test_a_folder_that_only_seems_to_be_in_output_dir_is_the_users_own(rows, tmp_path, way):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    (tmp_path / "work" / "train").mkdir(parents=True)
    (tmp_path / "work" / "train" / "link").symlink_to(tmp_path)
    section = SECTION | {"dataset_prepared_path": way}
    token_cache.share(section, rows, BASE)
    assert (tmp_path / "precious" / "file").exists()
    assert not Path(way).is_symlink()
