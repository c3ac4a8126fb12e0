"""Words that people know from other tools -> the key that means the same here.

A word that is only spelled like a key is not in here: `check.unknown_key` guesses those. Not covered: words whose values
mean something else there (LLaMA-Factory's lora_target, the share of rows in its val_size).
"""

from collections.abc import Iterable
from typing import Any

_TRAIN = {
    # PEFT's LoraConfig; lora_rank is LLaMA-Factory's
    **dict.fromkeys(("r", "rank", "lora_rank", "lora_dim"), "lora_r"),
    "lora_dropout_p": "lora_dropout",
    "target_modules": "lora_target_modules",
    "target_parameters": "lora_target_parameters",
    "modules_to_save": "lora_modules_to_save",
    "additional_target": "lora_modules_to_save",  # LLaMA-Factory
    "rank_pattern": "lora_rank_pattern",
    "alpha_pattern": "lora_alpha_pattern",
    "fan_in_fan_out": "lora_fan_in_fan_out",
    "use_dora": "peft_use_dora",
    "use_rslora": "peft_use_rslora",
    "init_lora_weights": "peft_init_lora_weights",
    "layers_to_transform": "peft_layers_to_transform",
    "layers_pattern": "peft_layers_pattern",
    "trainable_token_indices": "peft_trainable_token_indices",
    # transformers' TrainingArguments, and what papers and other trainers call the same
    "lr": "learning_rate",
    **dict.fromkeys(("epochs", "n_epochs", "num_train_epochs"), "num_epochs"),
    **dict.fromkeys(("per_device_train_batch_size", "per_gpu_train_batch_size"), "micro_batch_size"),
    "train_micro_batch_size_per_gpu": "micro_batch_size",  # DeepSpeed
    **dict.fromkeys(("per_device_eval_batch_size", "per_gpu_eval_batch_size"), "eval_batch_size"),
    **dict.fromkeys(("gradient_accumulation", "grad_accum", "grad_accum_steps"), "gradient_accumulation_steps"),
    "accumulate_grad_batches": "gradient_accumulation_steps",  # Lightning
    **dict.fromkeys(("scheduler", "scheduler_type", "lr_scheduler_type"), "lr_scheduler"),
    "scheduler_kwargs": "lr_scheduler_kwargs",
    "optim": "optimizer",
    **dict.fromkeys(("num_warmup_steps", "lr_warmup_steps"), "warmup_steps"),
    "warmup_proportion": "warmup_ratio",
    **dict.fromkeys(("max_train_steps", "num_training_steps"), "max_steps"),
    **dict.fromkeys(("gradient_clipping", "gradient_clip_val", "clip_grad_norm"), "max_grad_norm"),
    "adam_eps": "adam_epsilon",
    "beta1": "adam_beta1",
    "beta2": "adam_beta2",
    "wd": "weight_decay",
    "random_seed": "seed",
    "random_state": "seed",  # Unsloth
    "use_gradient_checkpointing": "gradient_checkpointing",  # Unsloth
    "use_bf16": "bf16",
    # lengths and packing: Unsloth and older TRL, TRL, transformers, LLaMA-Factory, torchtune
    **dict.fromkeys(("max_seq_length", "max_length", "model_max_length", "cutoff_len", "max_seq_len"), "sequence_len"),
    **dict.fromkeys(("seq_len", "seq_length", "sequence_length", "block_size"), "sequence_len"),
    "packing": "sample_packing",
    "eval_packing": "eval_sample_packing",
    **dict.fromkeys(("neftune_alpha", "neftune_noise"), "neftune_noise_alpha"),
    # Axolotl's own of before
    "load_4bit": "load_in_4bit",
    "relora_steps": "jagged_restart_steps",
    "relora_warmup_steps": "jagged_restart_warmup_steps",
    "relora_anneal_steps": "jagged_restart_anneal_steps",
    "push_to_hub_model_id": "hub_model_id",
    "model_config_overrides": "model_config",
    "deepspeed_config": "deepspeed",
}
_GENERATION = "task.generation_kwargs"
_EVALUATE = {
    # vLLM and OpenAI say max_tokens, transformers max_new_tokens
    **dict.fromkeys(("max_new_tokens", "max_tokens", "max_gen_toks"), f"{_GENERATION}.max_gen_toks"),
    **dict.fromkeys((f"{_GENERATION}.max_new_tokens", f"{_GENERATION}.max_tokens"), f"{_GENERATION}.max_gen_toks"),
    **{word: f"{_GENERATION}.{word}" for word in ("do_sample", "temperature", "top_k", "top_p", "num_beams", "until")},
    f"{_GENERATION}.stop": f"{_GENERATION}.until",
    **dict.fromkeys(("eval_batch_size", "per_device_eval_batch_size"), "batch_size"),
    **dict.fromkeys(("max_samples", "num_samples"), "limit"),
}
_PREPARE = dict.fromkeys(("max_samples", "num_samples", "max_rows"), "take")
_ACCELERATE = dict.fromkeys(("nproc_per_node", "num_gpus", "gpus", "n_gpu"), "num_processes")  # torchrun, DeepSpeed
_SECTIONS = {
    "train": _TRAIN,
    "base.make.train": _TRAIN,
    "evaluate": _EVALUATE,
    "prepare": _PREPARE,
    "accelerate": _ACCELERATE,
}
# A batch is one device's to some tools and all devices' to others: a hint, and not the same word.
_UNSURE = {
    **dict.fromkeys(("batch_size", "train_batch_size"), "micro_batch_size"),
    "warmup": "warmup_steps",
}
_VALUES = {
    "optimizer": {
        **dict.fromkeys(("adamw", "adam_w", "adamw_hf"), "adamw_torch"),
        "paged_adamw": "paged_adamw_32bit",  # as transformers has it
        "lion": "lion_32bit",
        "paged_lion": "paged_lion_32bit",
    },
    "lr_scheduler": {
        **dict.fromkeys(("cosine_with_warmup", "cosine_annealing"), "cosine"),
        "linear_with_warmup": "linear",
        "wsd": "warmup_stable_decay",
    },
}


def key(typed: str, known: Iterable[str]) -> str | None:
    """The one of the `known` dotted keys that means what `typed` does. A word without its section is looked for in each, and
    where it may mean several keys there is none."""
    keys = _all(typed, known)
    return keys[0] if len(keys) == 1 else None


def unsure(typed: str, known: Iterable[str]) -> list[str]:
    """As `key`, those that it may mean."""
    return _all(typed, known) or _meant(typed, known, {"train": _UNSURE, "base.make.train": _UNSURE})


def value(key: str, typed: Any) -> Any:
    """What the value `typed` of this dotted key is called here; itself where that is all that is known."""
    names = _VALUES.get(key.rpartition(".")[2], {})
    return names.get(typed, typed) if isinstance(typed, str) else typed


def _all(typed: str, known: Iterable[str]) -> list[str]:
    """`_meant`, and for a word without a section the keys that have this name themselves, as train.eval_batch_size."""
    keys = _meant(typed, known, _SECTIONS)
    if not keys or "." in typed:
        return keys
    namesakes = {f"{name}.{typed}" for name in _SECTIONS if "." not in name}
    return list(dict.fromkeys([*keys, *(key for key in known if key in namesakes)]))


def _meant(typed: str, known: Iterable[str], tables: dict[str, dict[str, str]]) -> list[str]:
    section = max((name for name in tables if typed.startswith(f"{name}.")), key=len, default=None)
    if section:
        word = typed.removeprefix(f"{section}.")
        keys = [f"{section}.{tables[section][word]}"] if word in tables[section] else []
    else:
        keys = [f"{name}.{words[typed]}" for name, words in tables.items() if typed in words and "." not in name]
    return [key for key in dict.fromkeys(keys) if key in known]
