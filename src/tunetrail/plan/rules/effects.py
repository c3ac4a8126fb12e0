"""Composed values -> keys that have no effect, lose to another key, read a file that is not recorded, or send data away.

One function per rule; its name in capitals is the finding's code. What Axolotl itself refuses is in `acceptance`, keys of an
adapter without an adapter are in `stops`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunetrail.config import contradictions
from tunetrail.config.check import flatten
from tunetrail.plan.facts import Facts
from tunetrail.plan.rules.finding import Problem, Values, error, warning

# Read by prompt_strategies/chat_template.py alone, as keys of the config and of a data set.
_OF_CHATS = ("chat_template", "default_system_message", "roles_to_train", "train_on_eos", "train_on_eot", "eot_tokens")
_OF_CHATS += ("field_messages", "message_property_mappings", "message_field_", "roles")
# Keys by their prefix, the keys of which one must be set for them to have an effect, and its name in the message.
_NEED = (
    (("dpo_", "kto_", "rl_beta", "orpo_alpha", "simpo_gamma", "cpo_alpha", "trl"), ("rl",), "train.rl"),
    (("sample_packing_",), ("sample_packing", "eval_sample_packing"), "train.sample_packing"),
    (("wandb_",), ("use_wandb", "wandb_project"), "train.use_wandb"),
    (("comet_",), ("use_comet", "comet_project_name"), "train.use_comet"),
    (("trackio_",), ("use_trackio", "trackio_project_name"), "train.use_trackio"),
    (("mlflow_", "hf_mlflow_"), ("use_mlflow", "mlflow_experiment_name"), "train.use_mlflow"),
    (
        ("eval_table_size",),
        ("use_wandb", "wandb_project", "use_comet", "comet_project_name", "use_mlflow", "mlflow_experiment_name"),
        "a tracker that takes tables, as train.use_wandb",
    ),
    (("relora_",), ("relora",), "train.relora"),
    (("jagged_restart_",), ("jagged_restart_steps",), "train.jagged_restart_steps"),
    (("hub_",), ("hub_model_id",), "train.hub_model_id"),
    (("torch_compile_",), ("torch_compile",), "train.torch_compile"),
)
# Settings that only keep data here, so they do no harm without the key that they need.
_PRECAUTIONS = (("wandb_mode", "disabled"), ("wandb_mode", "offline"))
# The key that Axolotl follows, the one that it ignores, and whether their values contradict each other.
_PAIRS = (
    (
        "saves_per_epoch",
        "save_strategy",
        lambda followed, ignored: ignored != "steps",
    ),  # utils/config: it becomes save_steps
    (
        "lora_target_linear",
        "lora_target_modules",
        lambda followed, ignored: ignored != "all-linear",
    ),  # loaders/adapter.py: both
    ("bf16", "fp16", lambda followed, ignored: followed is True),  # utils/config: resolve_dtype
)
_WANDB, _HUB = "Weights & Biases (WANDB_BASE_URL, else wandb.ai)", "huggingface.co"
# Keys of which each starts the sending, what is sent, and where to.
_SENT = (
    (("use_wandb", "wandb_project"), "losses, the config and the machine's load", _WANDB),
    (("use_comet", "comet_project_name"), "losses, the config and the machine's load", "comet.com"),
    (("use_swanlab", "swanlab_project"), "losses and the config", "swanlab.cn, or its host"),
    (("use_mlflow", "mlflow_experiment_name"), "losses and the config", "Axolotl's own MLflow run (mlflow_tracking_uri)"),
    (("trackio_space_id",), "losses and the config", f"a Space of {_HUB}"),
    (("hub_model_id",), "the model, at every save", _HUB),
    (("push_dataset_to_hub",), "the tokenised rows", _HUB),
)


def _sections(values: Values) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "train", values["train"]
    if values["base"]["make"]:
        yield "base.make.train", values["base"]["make"]["train"]


def _set(config: dict[str, Any], key: str) -> bool:
    return config.get(key) not in (None, False, "", [], {})


@error
def keys_unused(values: Values, facts: Facts) -> Problem | None:
    """Keys are set that have an effect only for chats, or only with another key, which is not set. Keys of packing are
    accepted with `sample_packing: false`, as in a comparison with and without packing."""
    unused: dict[str, str] = {}
    for section, config in _sections(values):
        datasets = config.get("datasets") or []
        if not config.get("rl") and not any("chat_template" in str(dataset.get("type")) for dataset in datasets):
            mappings = {section: config}
            mappings |= {f"{section}.datasets.{number}": dataset for number, dataset in enumerate(datasets)}
            for name, mapping in mappings.items():
                keys = [key for key in mapping if key.startswith(_OF_CHATS) and _set(mapping, key)]
                unused |= {f"{name}.{key}": "a data set of chats" for key in keys}
        for prefixes, needed, name in _NEED:
            unpacked = needed[0] == "sample_packing" and config.get("sample_packing") is False
            if not unpacked and not any(_set(config, key) for key in needed):
                keys = [key for key in config if key.startswith(prefixes) and _set(config, key)]
                unused |= {f"{section}.{key}": name for key in keys if (key, config[key]) not in _PRECAUTIONS}
    if not unused:
        return None
    problem = "; ".join(f"{key} has no effect without {name}" for key, name in unused.items())
    return problem, "Axolotl accepts the keys and trains as if they were not set.", dict.fromkeys(unused)


@error
def no_checkpoint(values: Values, facts: Facts) -> Problem | None:
    """`resume_from_checkpoint` names a folder that is not a checkpoint of the trainer."""
    for section, config in _sections(values):
        key, folder = f"{section}.resume_from_checkpoint", config.get("resume_from_checkpoint")
        if folder and not (Path(str(folder)) / "trainer_state.json").is_file():
            problem = f"{key}={folder} is not a checkpoint: it has no trainer_state.json"
            return problem, "Training would fail at its start, after the base model was made and evaluated.", {key: None}
    return None


@warning
def resumes(values: Values, facts: Facts) -> Problem | None:
    """Training resumes from a checkpoint that was typed, and which no stage depends on."""
    key = "resume_from_checkpoint"
    resuming = [f"{section}.{key}" for section, config in _sections(values) if _set(config, key)]
    if not resuming:
        return None
    problem = f"training resumes from a checkpoint: {', '.join(resuming)}"
    why = "Nothing compares the checkpoint with this run: it may be of other rows or keys, and is recorded as this run's."
    return problem, why, dict.fromkeys(resuming)


@warning
def key_overridden(values: Values, facts: Facts) -> Problem | None:
    """Two keys contradict each other, and Axolotl follows one of them without a message."""
    ignored = {}
    for section, config in _sections(values):
        for key, other, differ in _PAIRS:
            if _set(config, key) and _set(config, other) and differ(config[key], config[other]):
                line = f"{section}.{key}={config[key]} wins over {section}.{other}={config[other]}"
                ignored[f"{section}.{other}"] = line
    if not ignored:
        return None
    return "; ".join(ignored.values()), "Axolotl follows the first and ignores the second.", dict.fromkeys(ignored)


@warning
def sent_elsewhere(values: Values, facts: Facts) -> Problem | None:
    """Training sends its figures, the model or the rows to a service."""
    sent, off = [], {}
    for section, config in _sections(values):
        for keys, data, service in _SENT:
            on = [key for key in keys if _set(config, key)]
            if not on or (on[0] in ("use_wandb", "wandb_project") and config.get("wandb_mode") in ("offline", "disabled")):
                continue
            sent.append(f"{section}.{on[0]} sends {data} to {service}")
            off |= {f"{section}.{key}": None for key in on}
    if not sent:
        return None
    return "; ".join(sent), "It is sent during training, with whatever credentials the environment has.", off


@warning
def file_unrecorded(values: Values, facts: Facts) -> Problem | None:
    """A key names a file or folder of this machine that no stage depends on, such as `deepspeed=zero3.json`."""
    recorded = {values["base"]["base_model"], values["base"]["path"], values["evaluate"]["path"]}
    outputs = (*contradictions.OUTPUTS, "work")
    files = {}
    for section in ("train", "base", "evaluate", "accelerate"):
        for key, value in flatten(values[section], section).items():
            if not isinstance(value, str) or "\n" in value or not ("/" in value or Path(value).suffix):
                continue
            if value not in recorded and not any(map(Path(value).is_relative_to, outputs)) and Path(value).exists():
                files[key] = value
    if not files:
        return None
    return (
        "; ".join(f"{key}={value}" for key, value in files.items()),
        "No stage depends on its content and it is not recorded: a change of it changes the run unnoticed. Where the tool "
        "takes it, write the content under the key itself, as conf/hardware/zero3.yaml does.",
        dict.fromkeys(files),
    )


ERRORS = (keys_unused, no_checkpoint)
WARNINGS = (resumes, key_overridden, file_unrecorded, sent_elsewhere)
