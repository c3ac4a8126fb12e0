import json

from tests import tiny_models
from tunetrail.training import checkpoint, tiny

TEXTS = ["The river is wide, calm and cold.", "### Response:\nYes — ünïcode."] * 20


def test_a_tiny_tokenizer_decodes_its_own_text_and_starts_with_bos(tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    vocab_size = tiny.save_tokenizer(TEXTS, 300, tmp_path)
    llama = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    llama["tie_word_embeddings"] = True
    tiny.save_config(llama, vocab_size, tmp_path)
    made = tiny_models.add_weights(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for text in (*TEXTS[:2], "never seen: 漢字\n"):
        ids = tokenizer(text).input_ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
        assert ids[0] == tokenizer.bos_token_id != tokenizer.eos_token_id
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|begin_of_text|>", "<|end_of_text|>")
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert model.num_parameters() == made.num_parameters() == checkpoint.parameters(tmp_path)
    assert (model.config.bos_token_id, model.config.eos_token_id) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert type(model).__name__ == "LlamaForCausalLM"


def test_the_tokenizer_that_is_saved_is_the_one_that_is_trained_in_memory(tmp_path):
    size = tiny.save_tokenizer(TEXTS, 280, tmp_path)
    trained = tiny.train_tokenizer(iter(TEXTS), 280)
    assert json.loads(trained.to_str()) == json.loads((tmp_path / "tokenizer.json").read_text())
    assert trained.get_vocab_size() == size == 280
