import json

from tunetrail.training import tiny

TEXTS = ["The river is wide, calm and cold.", "### Response:\nYes — ünïcode."] * 20


def test_a_tiny_tokenizer_decodes_its_own_text_and_starts_with_bos(tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    vocab_size = tiny.save_tokenizer(TEXTS, 300, tmp_path)
    llama = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    size = tiny.save_model(llama, vocab_size, seed=0, folder=tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for text in (*TEXTS[:2], "never seen: 漢字\n"):
        ids = tokenizer(text).input_ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
        assert ids[0] == tokenizer.bos_token_id != tokenizer.eos_token_id
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|begin_of_text|>", "<|end_of_text|>")
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert model.num_parameters() == size
    again = tmp_path / "again"
    tiny.save_model(llama, vocab_size, seed=0, folder=again)
    assert (again / "model.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()


def test_the_tokenizer_that_is_saved_is_the_one_that_is_trained_in_memory(tmp_path):
    size = tiny.save_tokenizer(TEXTS, 280, tmp_path)
    trained = tiny.train_tokenizer(iter(TEXTS), 280)
    assert json.loads(trained.to_str()) == json.loads((tmp_path / "tokenizer.json").read_text())
    assert trained.get_vocab_size() == size == 280
