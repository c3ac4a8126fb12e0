"""A model's shape, compared with transformers' own count of such a model."""

import json

import pytest

from tests.conftest import ROOT
from tunetrail import UserError
from tunetrail.plan.estimate import architecture

RECORDED = {
    "meta-llama/Meta-Llama-3-8B": 8_030_261_248,
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-3.2-3B": 3_212_749_824,
    "HuggingFaceTB/SmolLM2-135M": 134_515_008,
}


def read(name, **more):
    base = {"make": None, "base_model": name, "revision_of_model": None}
    return architecture.read(base | more, ROOT)


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_shape_has_as_many_weights_as_the_model_is_known_for(name, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    shape, origin = read(name)
    assert shape.parameters == RECORDED[name]
    assert "record" in origin


def test_every_model_of_conf_has_a_recorded_shape(composed):
    models = [
        file.stem for file in (ROOT / "conf" / "model").glob("*.yaml") if not file.stem.startswith(("hub", "local", "tiny"))
    ]
    assert len(models) == 7
    for model in models:
        values = composed("experiment=smollm2_135m_alpaca_lora", f"model={model}")
        assert read(values["base"]["base_model"])[0].parameters > 10**8


@pytest.mark.stage
def test_a_shape_has_the_weights_and_the_adapter_that_the_tools_count():
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    config = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4}
    config |= {"num_key_value_heads": 2, "vocab_size": 300, "tie_word_embeddings": False}
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**config))
        shape = architecture.from_config(LlamaConfig(**config).to_dict())
        assert shape.parameters == model.num_parameters()
        adapted = get_peft_model(model, LoraConfig(r=8, target_modules="all-linear"))
    train = {"adapter": "lora", "lora_r": 8, "lora_target_linear": True}
    assert shape.adapter_parameters(train) == sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
    assert shape.adapter_parameters({"adapter": None}) == 0


def test_a_token_of_llama_3_takes_15_gflop_forward():
    """docs/recipe-notes.md: 15.1 GFLOP a token forward in rows of 193 tokens."""
    assert read("meta-llama/Meta-Llama-3-8B")[0].forward_flops(193) == pytest.approx(15.1e9, rel=0.005)


def test_a_config_of_another_build_is_refused_by_name(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mamba", "hidden_size": 8}))
    with pytest.raises(UserError, match="mamba has no intermediate_size"):
        read(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"hidden_size":', r"config\.json: not JSON"),
        ("[1]", r"config\.json: not an object"),
        ("\xff", r"config\.json: not JSON"),
        ("[" * 100_000, r"config\.json: not JSON"),
        ('{"hidden_size": "4096"}', "hidden_size is '4096' in the model's config, not a number above 0"),
        ('{"num_attention_heads": 0}', "num_attention_heads is '0'"),
        ('{"num_hidden_layers": true}', "num_hidden_layers is 'True'"),
    ],
)
def test_a_damaged_config_is_refused_by_name(tmp_path, text, says):
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=says):
        read(str(tmp_path))


def test_a_folder_without_a_config_is_refused_by_name(tmp_path):
    with pytest.raises(UserError, match=r"config\.json: no such file"):
        read(str(tmp_path))
