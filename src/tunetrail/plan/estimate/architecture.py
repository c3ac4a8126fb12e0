"""A model's config.json -> its shape, how many weights it has, and the FLOP of a token.

For decoders like Llama: grouped-query attention and a gated MLP, without biases, and not for mixtures of experts. If neither
a file nor the hub's cache has the config, `recorded/models.yaml` has the shapes of the models in conf/model.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from tunetrail import UserError
from tunetrail.data import hub
from tunetrail.plan.estimate.known import NotKnown, recorded
from tunetrail.training import checkpoint


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A decoder's shape, under the names of its config in transformers."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int
    tie_word_embeddings: bool

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """The linear maps of one layer: name -> (inputs, outputs)."""
        hidden, heads = self.hidden_size, self.num_attention_heads * self.head_dim
        groups, gated = self.num_key_value_heads * self.head_dim, self.intermediate_size
        return {
            "q_proj": (hidden, heads),
            "k_proj": (hidden, groups),
            "v_proj": (hidden, groups),
            "o_proj": (heads, hidden),
            "gate_proj": (hidden, gated),
            "up_proj": (hidden, gated),
            "down_proj": (gated, hidden),
        }

    @property
    def linear_parameters(self) -> int:
        """Weights of all layers' linear maps, which 4-bit loading quantises."""
        return self.num_hidden_layers * sum(inputs * outputs for inputs, outputs in self.projections.values())

    @property
    def embedding_parameters(self) -> int:
        """Weights of the embedding; the head has as many, unless the two are tied."""
        return self.vocab_size * self.hidden_size

    @property
    def parameters(self) -> int:
        """All weights: embedding, head, linear maps, two norms a layer and the last one."""
        embeddings = self.embedding_parameters * (1 if self.tie_word_embeddings else 2)
        return embeddings + self.linear_parameters + (2 * self.num_hidden_layers + 1) * self.hidden_size

    def adapter_parameters(self, train: dict[str, Any]) -> int:
        """Return the number of weights of the LoRA adapter of the Axolotl config `train`; 0 without one.

        Raises:
            UserError: the adapter has no rank.
            NotKnown: its modules are a pattern.
        """
        if not train.get("adapter"):
            return 0
        if not train.get("lora_r"):
            raise UserError(f"train.adapter={train['adapter']} needs a rank. Add method=lora, or train.lora_r=16.")
        modules = train.get("lora_target_modules") or ()
        if isinstance(modules, str) and modules != "all-linear":
            raise NotKnown(f"train.lora_target_modules={modules}: a plan cannot count a pattern. Give a list of names.")
        all_linear = train.get("lora_target_linear") or modules == "all-linear"
        pairs = [shape for name, shape in self.projections.items() if all_linear or name in modules]
        saved_modules = {"embed_tokens", "lm_head"} & set(train.get("lora_modules_to_save") or ())
        linear = self.num_hidden_layers * train["lora_r"] * sum(inputs + outputs for inputs, outputs in pairs)
        return linear + len(saved_modules) * self.embedding_parameters

    def forward_flops(self, context: float) -> float:
        """Return the FLOP of one token's forward pass: two for each weight that is multiplied, and attention over `context`
        tokens, of which a token sees half on average (PaLM, arXiv:2204.02311, appendix B)."""
        heads = self.num_attention_heads * self.head_dim
        return 2 * (self.linear_parameters + self.embedding_parameters) + 2 * self.num_hidden_layers * heads * context


_NUMBERS = {field.name for field in dataclasses.fields(Architecture) if field.type in ("int", int)}


def from_config(config: dict[str, Any]) -> Architecture:
    """Return the shape that a transformers config describes.

    Raises:
        NotKnown: it is not a decoder like Llama.
    """
    for key, value in config.items():
        if key in _NUMBERS and value is not None and (type(value) is not int or value < 1):
            raise NotKnown(
                f"{key} is {str(value)[:40]!r} in the model's config, not a number above 0: it cannot be planned."
            )
    heads = config.get("num_attention_heads")
    shape = {field.name: config.get(field.name) for field in dataclasses.fields(Architecture)}
    shape["num_key_value_heads"] = shape["num_key_value_heads"] or heads
    shape["head_dim"] = shape["head_dim"] or (config.get("hidden_size") or 0) // (heads or 1)
    shape["tie_word_embeddings"] = bool(shape["tie_word_embeddings"])
    if missing := [name for name, value in shape.items() if value is None]:
        kind = config.get("model_type", "this model")
        raise NotKnown(f"{kind} has no {missing[0]} in its config: it cannot be planned. Take a Llama-like model.")
    return Architecture(**shape)


def _config(file: Path) -> dict[str, Any]:
    """Return the content of a config.json.

    Raises:
        UserError: it is not a JSON object.
    """
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: not JSON ({str(error)[:200]}). Save the model again, or fetch it again.") from None
    if not isinstance(config, dict):
        raise UserError(f"{file}: not an object, as a model's config is. Save the model again, or fetch it again.")
    return config


def puts_bos(base_model: str) -> bool | None:
    """Return whether a recorded model's tokenizer puts BOS before a text; None if that is not recorded."""
    return recorded("models").get(base_model, {}).get("puts_bos")


def read(base: dict[str, Any], root: Path) -> tuple[Architecture, str]:
    """Return the shape of the model that the section `base` of params.yaml names, and where it comes from.

    Raises:
        UserError: the folder has no config.
        NotKnown: neither this machine nor the hub has its config, or the model is not like Llama.
    """
    if base["make"]:
        return from_config(base["make"]["llama"] | {"vocab_size": base["make"]["vocab_size"]}), "base.make"
    name = base["base_model"]
    if checkpoint.is_path(name) or (root / name / "config.json").is_file():
        file = root / name / "config.json"
        if not file.is_file():
            raise UserError(f"{file}: no such file. Give base.base_model=FOLDER with a model in the transformers format.")
        return from_config(_config(file)), str(file)
    if file := hub.cached(name, "config.json", base["revision_of_model"]):
        return from_config(_config(file)), "the hub's cache"
    if name in recorded("models"):
        return from_config(recorded("models")[name]), f"a record of {name}'s config"
    try:
        file = hub.fetch(name, "config.json", base["revision_of_model"])
    except UserError as error:  # without a network; the stage `base` asks again
        raise NotKnown(str(error)) from error
    return from_config(_config(file)), "the hub"
