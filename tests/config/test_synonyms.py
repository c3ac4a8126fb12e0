import pytest

from tunetrail.config import check, synonyms


@pytest.fixture(scope="module")
def keys(known):
    return check.known_keys(known)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("train.lora_rank", "train.lora_r"),
        ("lora_rank", "train.lora_r"),
        ("base.make.train.lr", "base.make.train.learning_rate"),
        ("lr", "train.learning_rate"),
        ("epochs", "train.num_epochs"),
        ("train.per_device_train_batch_size", "train.micro_batch_size"),
        ("train.max_seq_length", "train.sequence_len"),
        ("max_new_tokens", "evaluate.task.generation_kwargs.max_gen_toks"),
        ("evaluate.temperature", "evaluate.task.generation_kwargs.temperature"),
        ("evaluate.max_samples", "evaluate.limit"),
        ("nproc_per_node", "accelerate.num_processes"),
        ("train.learning_rate", None),
        ("evaluate.lr", None),
        ("train.lora_rnk", None),
        ("train.batch_size", None),  # Axolotl's own key, over all devices and accumulation steps
        ("prepare.cutoff_len", None),
    ],
)
def test_a_synonym_is_the_same_with_or_without_its_section(keys, typed, meant):
    assert synonyms.key(typed, keys) == meant


def test_batch_size_is_only_a_hint(keys):
    assert synonyms.key("batch_size", keys) is None
    assert synonyms.unsure("batch_size", keys) == ["train.micro_batch_size"]


@pytest.mark.parametrize(
    ("typed", "meanings"),
    [
        ("max_samples", ["evaluate.limit", "prepare.take"]),  # LLaMA-Factory cuts the training rows
        ("eval_batch_size", ["evaluate.batch_size", "train.eval_batch_size"]),
        ("num_gpus", ["accelerate.num_processes"]),
    ],
)
def test_a_synonym_of_several_keys_is_only_a_hint(keys, typed, meanings):
    assert synonyms.unsure(typed, keys) == meanings
    assert synonyms.key(typed, keys) == (meanings[0] if len(meanings) == 1 else None)
    assert f"Did you mean {' or '.join(meanings)}?" in check.unknown(typed, keys).message


def test_every_synonym_refers_to_a_known_key_and_is_not_a_key_itself(known, keys):
    for section, words in synonyms.SECTIONS.items():
        for synonym, name in words.items():
            assert f"{section}.{name}" in keys, name
            assert synonym == name.rpartition(".")[2] or f"{section}.{synonym}" not in keys, synonym
    for name, values in synonyms.VALUES.items():
        choices = known["properties"]["train"]["properties"][name]["enum"]
        assert set(values.values()) <= set(choices)
        assert not set(values) & set(choices)


def test_a_synonym_of_a_value_is_replaced():
    assert synonyms.value("train.optimizer", "adamw") == "adamw_torch"
    assert synonyms.value("train.optimizer", "adamw_torch") == "adamw_torch"
    assert synonyms.value("train.optimizer", None) is None
    assert synonyms.value("train.adapter", "adamw") == "adamw"
