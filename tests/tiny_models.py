"""Untrained tiny models that really answer."""

from tunetrail.training import tiny

TEMPLATE = {"with_input": "Do {instruction} with {input}:\n", "without_input": "Do {instruction}:\n"}
EVALUATE = {"device": "cpu", "model_args": {"dtype": "float32"}}
LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 4096,
}
TEXTS = ["The river is wide, calm and cold. It has many stones.", "Do ünïcode with 漢字:\n", *TEMPLATE.values()]


def add_weights(folder, seed=0):
    """Save random weights for the config.json of the folder; return the model."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    model.save_pretrained(folder)
    return model


def save(folder, seed=1):
    """Save a Llama with its tokenizer in the folder; return the folder."""
    size = tiny.save_tokenizer(TEXTS * 20, 320, folder)
    tiny.save_config(LLAMA, size, folder)
    add_weights(folder, seed)
    return folder


def save_all(folder):
    """Save base/ and tuned/, two different models, and adapter/, a LoRA on the base; return the folder."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    for seed, name in enumerate(("base", "tuned")):
        save(folder / name, seed)
    base = AutoModelForCausalLM.from_pretrained(folder / "base")
    config = LoraConfig(r=4, init_lora_weights=False, target_modules="all-linear", task_type="CAUSAL_LM")
    get_peft_model(base, config).save_pretrained(folder / "adapter")
    return folder
