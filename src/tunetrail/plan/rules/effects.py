"""Composed values -> keys of a tool that have no effect, lose to another key, read what no record has, or send something
elsewhere.

One function a rule; its name in capitals is the finding's code. What Axolotl refuses itself is not repeated here: it is
asked (`acceptance`). Not covered: adapters' keys without an adapter (`stops`).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunetrail.config import contradictions
from tunetrail.config.check import flatten
from tunetrail.plan.rules.finding import ERROR, WARNING, Finding, overrides

Values = dict[str, Any]
Facts = dict[str, Any]

# Read by prompt_strategies/chat_template.py alone, as keys of the config and of a data set.
_OF_CHATS = ("chat_template", "default_system_message", "roles_to_train", "train_on_eos", "train_on_eot", "eot_tokens")
_OF_CHATS += ("field_messages", "message_property_mappings", "message_field_", "roles")
# Keys by their beginning, the keys of which one must be set for them to have an effect, and what that is called.
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
# Settings that send nothing anywhere, also where nobody has asked for it.
_PRECAUTIONS = (("wandb_mode", "disabled"), ("wandb_mode", "offline"))
# The key that holds, the one that does not, and whether their two values are at odds.
_PAIRS = (
    ("saves_per_epoch", "save_strategy", lambda kept, lost: lost != "steps"),  # utils/config: it becomes save_steps
    ("lora_target_linear", "lora_target_modules", lambda kept, lost: lost != "all-linear"),  # loaders/adapter.py: both
    ("bf16", "fp16", lambda kept, lost: kept is True),  # utils/config: resolve_dtype
)
_WANDB, _HUB = "Weights & Biases (WANDB_BASE_URL, else wandb.ai)", "huggingface.co"
# Keys of which one turns it on, what it sends, and where to.
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
    """The Axolotl configs of a run."""
    yield "train", values["train"]
    if values["base"]["make"]:
        yield "base.make.train", values["base"]["make"]["train"]


def _set(config: dict[str, Any], key: str) -> bool:
    return config.get(key) not in (None, False, "", [], {})


def keys_unused(values: Values, facts: Facts) -> Finding | None:
    """Keys are set that have an effect only for chats, or beside another key, which is not set. Keys of packing where
    packing is off by its own key are a normal comparison."""
    loose: dict[str, str] = {}
    for section, config in _sections(values):
        rows = config.get("datasets") or []
        if not config.get("rl") and not any("chat_template" in str(one.get("type")) for one in rows):
            places = {section: config} | {f"{section}.datasets.{place}": one for place, one in enumerate(rows)}
            for place, keys in places.items():
                alone = [key for key in keys if key.startswith(_OF_CHATS) and _set(keys, key)]
                loose |= {f"{place}.{key}": "a data set of chats" for key in alone}
        for beginnings, needed, name in _NEED:
            unpacked = needed[0] == "sample_packing" and config.get("sample_packing") is False
            if not unpacked and not any(_set(config, key) for key in needed):
                alone = [key for key in config if key.startswith(beginnings) and _set(config, key)]
                alone = [key for key in alone if (key, config[key]) not in _PRECAUTIONS]
                loose |= {f"{section}.{key}": name for key in alone}
    if not loose:
        return None
    return Finding(
        "KEYS_UNUSED",
        ERROR,
        "; ".join(f"{key} has no effect without {name}" for key, name in loose.items()),
        "Axolotl accepts the keys, says nothing, and trains as if they were not there.",
        overrides(values, dict.fromkeys(loose)),
    )


def no_checkpoint(values: Values, facts: Facts) -> Finding | None:
    """`resume_from_checkpoint` names no checkpoint that the trainer has left."""
    for section, config in _sections(values):
        place = config.get("resume_from_checkpoint")
        if place and not (Path(str(place)) / "trainer_state.json").is_file():
            return Finding(
                "NO_CHECKPOINT",
                ERROR,
                f"{section}.resume_from_checkpoint={place} is no folder of a checkpoint: it has no trainer_state.json",
                "Training would stop as it begins, after the base model was made and evaluated.",
                overrides(values, {f"{section}.resume_from_checkpoint": None}),
            )
    return None


def resumes(values: Values, facts: Facts) -> Finding | None:
    """Training goes on from a checkpoint, which no stage depends on."""
    keys = ("resume_from_checkpoint", "auto_resume_from_checkpoints")
    on = [f"{section}.{key}" for section, config in _sections(values) for key in keys if _set(config, key)]
    if not on:
        return None
    return Finding(
        "RESUMES",
        WARNING,
        f"training goes on from a checkpoint: {', '.join(on)}",
        "Nothing compares it with this run: one of other rows or keys is continued, and recorded as this run's.",
        overrides(values, dict.fromkeys(on)),
    )


def key_overridden(values: Values, facts: Facts) -> Finding | None:
    """Two keys say different things, and Axolotl follows one of them without a word."""
    lost = {}
    for section, config in _sections(values):
        for kept, other, differ in _PAIRS:
            if _set(config, kept) and _set(config, other) and differ(config[kept], config[other]):
                lost[f"{section}.{other}"] = f"{section}.{kept}={config[kept]} wins over {section}.{other}={config[other]}"
    if not lost:
        return None
    return Finding(
        "KEY_OVERRIDDEN",
        WARNING,
        "; ".join(lost.values()),
        "Axolotl follows the first and does not mention the second.",
        overrides(values, dict.fromkeys(lost)),
    )


def sent_elsewhere(values: Values, facts: Facts) -> Finding | None:
    """Training sends its figures, the model or the rows to a service."""
    sent, off = [], {}
    for section, config in _sections(values):
        for keys, what, place in _SENT:
            on = [key for key in keys if _set(config, key)]
            if not on or (on[0] in ("use_wandb", "wandb_project") and config.get("wandb_mode") in ("offline", "disabled")):
                continue
            sent.append(f"{section}.{on[0]} sends {what} to {place}")
            off |= {f"{section}.{key}": None for key in on}
    if not sent:
        return None
    return Finding(
        "SENT_ELSEWHERE",
        WARNING,
        "; ".join(sent),
        "It leaves this machine while training goes on, under whatever key is in the environment.",
        overrides(values, off),
    )


def file_unrecorded(values: Values, facts: Facts) -> Finding | None:
    """A key names a file or folder of this machine that no stage depends on, as `deepspeed=zero3.json`."""
    known = {values["base"]["base_model"], values["base"]["path"], values["evaluate"]["path"]}
    made = (*contradictions.OUTPUTS, "work")
    files = {}
    for section in ("train", "base", "evaluate", "accelerate"):
        for key, value in flatten(values[section], section).items():
            if not isinstance(value, str) or "\n" in value or not ("/" in value or Path(value).suffix):
                continue
            if value not in known and not any(map(Path(value).is_relative_to, made)) and Path(value).exists():
                files[key] = value
    if not files:
        return None
    return Finding(
        "FILE_UNRECORDED",
        WARNING,
        "; ".join(f"{key}={value}" for key, value in files.items()),
        "No stage depends on its content and no record has it: the run would change with it unnoticed. Where the tool takes "
        "it, write the content under the key itself, as conf/hardware/zero3.yaml does.",
        overrides(values, dict.fromkeys(files)),
    )


ERRORS = (keys_unused, no_checkpoint)
WARNINGS = (resumes, key_overridden, file_unrecorded, sent_elsewhere)
