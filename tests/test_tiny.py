from tunetrail import tiny


def test_a_tiny_model_reads_its_own_text_back_and_begins_with_bos(tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    texts = ["The river is wide, calm and cold.", "### Response:\nYes — ünïcode."] * 20
    vocab_size = tiny.save_tokenizer(texts, 300, tmp_path)
    llama = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    size = tiny.save_model(llama, vocab_size, seed=0, folder=tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for text in (*texts[:2], "never seen: 漢字\n"):
        ids = tokenizer(text).input_ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
        assert ids[0] == tokenizer.bos_token_id != tokenizer.eos_token_id
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|begin_of_text|>", "<|end_of_text|>")
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert model.num_parameters() == size
    again = tmp_path / "again"
    tiny.save_model(llama, vocab_size, seed=0, folder=again)
    assert (again / "model.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()
