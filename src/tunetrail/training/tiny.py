"""Texts -> a byte-level BPE tokenizer; a Llama configuration -> config.json; both saved in one folder.

For experiments with their own base model, which run on two CPU cores and without a download. Axolotl makes the random
weights (its key `reinit_weights`). Transformers is not imported: that alone would take longer than all of this.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Named as Llama 3's special tokens.
BOS, EOS = "<|begin_of_text|>", "<|end_of_text|>"
SPECIAL_TOKENS = {"bos_token": BOS, "eos_token": EOS, "pad_token": EOS}


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> "Tokenizer":
    """Train a tokenizer of at most `vocab_size` tokens that puts BOS before a text, as Llama 3's does."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return tokenizer


def save_tokenizer(texts: Iterable[str], vocab_size: int, folder: Path) -> int:
    """Train a tokenizer and save it as transformers reads it; return its size, at most `vocab_size`."""
    tokenizer = train_tokenizer(texts, vocab_size)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    _write(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"} | SPECIAL_TOKENS)
    return tokenizer.get_vocab_size()


def save_config(llama: dict[str, Any], vocab_size: int, folder: Path) -> None:
    """Save the configuration of a Llama (`llama`: transformers.LlamaConfig's keys) with the tokenizer of this folder."""
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    kind = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    _write(folder / "config.json", kind | llama | {"vocab_size": vocab_size} | ids)


def _write(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n")
