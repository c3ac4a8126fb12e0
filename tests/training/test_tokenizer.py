"""The tokenizer as `plan` reads it, compared with transformers' own; test_workload compares it with Axolotl's."""

import json

import pytest

from tunetrail import UserError
from tunetrail.data import template
from tunetrail.training import tiny, tokenizer

TEXTS = ["Name 3 rivers in 1999.\n", "### Response:\nYes — ünïcode <|end_of_text|> <|extra|> [X] </s>", " two  spaces\t漢字"]


@pytest.fixture
def folder(tmp_path):
    """Return a function that saves a tokenizer with changed keys in its two files."""

    def save(file=(), config=(), **others):
        saved = json.loads(tiny.train_tokenizer(TEXTS * 9, 400).to_str()) | dict(file)
        (tmp_path / "tokenizer.json").write_text(json.dumps(saved))
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(tiny.SPECIAL_TOKENS | dict(config)))
        for name, content in others.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        return tmp_path

    return save


def ids(encoder, *texts):
    return encoder(list(texts))["input_ids"]


def test_a_prompt_starts_with_bos_and_an_answer_ends_with_eos(folder):
    encoder = tokenizer.read(folder(), {})
    assert (encoder.bos_token_id, encoder.eos_token_id, encoder.pad_token_id) == (0, 1, 1)
    assert encoder.puts_bos
    ((first, *_),) = template.token_ids(encoder, ["Name"])
    ((*answer, last),) = template.answer_ids(encoder, ["Name"])
    assert (first, last) == (0, 1)
    assert answer == ids(encoder, "Name")[0][1:]


def test_a_tokenizer_that_has_bos_but_adds_none_is_recognised(folder):
    encoder = tokenizer.read(folder({"post_processor": None}), {})
    assert encoder.bos_token_id == 0
    assert not encoder.puts_bos
    assert not tokenizer.read(folder(config={"bos_token": None}), {}).puts_bos


def test_axolotls_special_tokens_are_single_tokens_and_new_ones_extend_the_vocabulary(folder):
    plain = tokenizer.read(folder(), {})
    special = {"eos_token": "</s>", "pad_token": "[PAD]", "additional_special_tokens": ["<|extra|>"]}
    encoder = tokenizer.read(folder(), {"special_tokens": special, "tokens": ["[X]"]})
    assert encoder.vocab_size == plain.vocab_size + 4
    assert encoder.eos_token_id not in (None, plain.eos_token_id)
    assert encoder.pad_token_id not in (None, encoder.eos_token_id)
    for token in ("</s>", "[PAD]", "<|extra|>", "[X]"):
        assert len(ids(encoder, token)[0]) == 2, token  # with BOS
        assert len(ids(plain, token)[0]) > 2, token


def test_eos_is_the_padding_token_if_none_is_named(folder):
    encoder = tokenizer.read(folder(config={"pad_token": None}), {})
    assert encoder.pad_token_id == encoder.eos_token_id


FOLDERS = {
    "as it is saved": {},
    "no BOS": {"file": {"post_processor": None}},
    "a flag that is older than the file's post-processor": {"config": {"add_bos_token": False, "add_eos_token": True}},
    "new tokens in the config": {"config": {"eos_token": "</s>", "extra_special_tokens": ["<|extra|>"], "x_token": "[X]"}},
    "new tokens, by an older name": {"config": {"additional_special_tokens": ["<|extra|>"]}},
    "a token with its flags": {"config": {"eos_token": {"__type": "AddedToken", "content": "</s>", "lstrip": True}}},
    "new tokens by their ids": {"config": {"added_tokens_decoder": {"999": {"content": "[X]", "special": False}}}},
    "an older folder": {"config": {"eos_token": None}, "special_tokens_map": {"eos_token": "</s>"}},
    "cut and filled up": {
        "file": {
            "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
            "padding": {
                **{"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": None},
                **{"pad_id": 1, "pad_type_id": 0, "pad_token": tiny.EOS},
            },
        }
    },
    "a class that builds it anew": {"config": {"tokenizer_class": "GPT2Tokenizer", "unk_token": tiny.EOS}},
}


@pytest.mark.stage
@pytest.mark.parametrize("changed", FOLDERS.values(), ids=FOLDERS)
def test_the_ids_are_those_of_transformers(folder, changed):
    from transformers import AutoTokenizer

    path = folder(**changed)
    encoder, real = tokenizer.read(path, {}), AutoTokenizer.from_pretrained(path)
    assert ids(encoder, *TEXTS) == real(TEXTS)["input_ids"]
    assert (encoder.bos_token_id, encoder.eos_token_id) == (real.bos_token_id, real.eos_token_id)
    assert encoder.vocab_size == len(real)


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """Make an empty hub cache in a folder of its own."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_tokenizer_is_found_in_its_folder(folder):
    path = folder()
    base = {"base_model": path.name, "revision_of_model": None, "make": None}
    encoder = tokenizer.find(base, {"base_model": path.name}, None, path.parent)
    assert ids(encoder, *TEXTS) == ids(tokenizer.read(path, {}), *TEXTS)
    (path / "tokenizer.json").unlink()
    assert tokenizer.find(base, {"base_model": path.name}, None, path.parent) is None


def test_a_tokenizer_is_found_in_the_hubs_cache_only_if_its_revision_is_complete(folder, hub_cache):
    path = folder()
    commit = "a" * 40
    base = {"base_model": "org/name", "revision_of_model": commit, "make": None}
    train = {"base_model": "org/name"}
    snapshot = hub_cache / "models--org--name" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    assert tokenizer.find(base, train, None, path) is None
    (path / "tokenizer.json").rename(snapshot / "tokenizer.json")
    assert tokenizer.find(base, train, None, path) is None
    (path / "tokenizer_config.json").rename(snapshot / "tokenizer_config.json")
    assert tokenizer.find(base, train, None, path).eos_token_id == 1
    assert tokenizer.find(base | {"revision_of_model": "b" * 40}, train, None, path) is None
    assert tokenizer.find(base, {"base_model": "other", "tokenizer_config": "org/name"}, None, path)


def test_the_tokenizer_of_a_model_that_is_made_is_trained_on_its_texts(tmp_path):
    base = {"base_model": "outputs/base/model", "revision_of_model": None, "make": {"vocab_size": 290}}
    encoder = tokenizer.find(base, {"base_model": "outputs/base/model"}, TEXTS * 9, tmp_path)
    assert encoder.vocab_size == 290
    assert encoder.puts_bos
    assert tokenizer.find(base, {"base_model": "outputs/base/model"}, None, tmp_path) is None


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_file_that_is_not_a_tokenizers_is_named_in_the_error(folder, name):
    path = folder()
    (path / name).write_text("{")
    with pytest.raises(UserError, match=r"tokenizer\.json.* Save or fetch it again"):
        tokenizer.read(path, {})
