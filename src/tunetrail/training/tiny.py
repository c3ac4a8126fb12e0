"""Texts -> a byte-level BPE tokenizer; a Llama configuration and a seed -> an untrained model; both saved in one folder.

For experiments with their own base model, which run on two CPU cores and without a download.
"""

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
    """Train a tokenizer and save it as transformers does; return its size, at most `vocab_size`."""
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(tokenizer_object=train_tokenizer(texts, vocab_size), **SPECIAL_TOKENS)
    fast.save_pretrained(folder)
    return len(fast)


def save_model(llama: dict[str, Any], vocab_size: int, seed: int, folder: Path) -> int:
    """Save a randomly initialised Llama (`llama`: transformers.LlamaConfig's keys); return its number of parameters."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(**llama, vocab_size=vocab_size, bos_token_id=0, eos_token_id=1, pad_token_id=1)
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    return model.num_parameters()
