"""The Axolotl configs of a run, and a device -> Axolotl's own errors about them, before anything runs.

Axolotl validates its config when a training starts, which is after the base model was made and evaluated; the same
validation is called here, for the planned device instead of this machine's. It reads neither the model nor the data, so what
Axolotl checks against the model's own config is not checked.
"""

import copy
import hashlib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunetrail import tool_queries
from tunetrail.plan.estimate.hardware import Device

# Keys that a fix never leaves out: without one it would be another run, or none.
_KEPT = {"adapter", "base_model", "datasets", "learning_rate", "num_epochs", "optimizer", "output_dir", "plugins"}
_KEPT |= {"gradient_accumulation_steps", "micro_batch_size", "sequence_len", "test_datasets"}
_CHECKED = {"learning_rate": 1e-4, "seed": 42}  # the schema checks every value of these
_SHOWN = 3  # errors of one config
_NOISE = re.compile(r"^(Value error|Assertion failed), ")


def ask(values: dict[str, Any], root: Path, device: Device, origin: str) -> Callable[[], dict[str, Any]]:
    """Start to ask whether Axolotl accepts the `values` on `device`, and return a function that waits for the answer.

    The answer has an entry for each section that Axolotl refuses ("train", "base.make.train"): its `message`; the `key`
    without which it would accept the section, or None; whether only a `package` is missing here; and whether the refusal is
    `lasting`. A package may be installed later, and an unexpected error may be this machine's: that answer is not cached.

    The returned function raises:
        UserError: Axolotl cannot be asked.
    """
    configs = {"train": values["train"]}
    if values["base"]["make"]:
        configs["base.make.train"] = values["base"]["make"]["train"]
    configs = {name: _normalised(config, root) for name, config in configs.items()}
    present = origin == "this machine" and device.name != "cpu"
    question = {
        "configs": configs,
        "capabilities": {"n_gpu": values["plan"]["num_gpus"]} | ({} if present else device.capabilities()),
        "device": device.name,
        "files": sorted(hashlib.sha256(file.read_bytes()).hexdigest() for file in _files(configs)),
    }
    subject = "asking Axolotl whether it takes this config"
    return tool_queries.ask(
        "plan.acceptance", question, subject, lambda answer: all(refusal["lasting"] for refusal in answer.values())
    )


def _normalised(config: dict[str, Any], root: Path) -> dict[str, Any]:
    """Return the config with the values of `_CHECKED`, so that jobs which differ only there share an answer."""
    deepspeed = config.get("deepspeed")
    file = {"deepspeed": str(root / deepspeed)} if isinstance(deepspeed, str) else {}
    return config | {key: value for key, value in _CHECKED.items() if key in config} | file


def _files(configs: dict[str, dict[str, Any]]) -> list[Path]:
    """Return the files that the answer depends on: DeepSpeed's config, and the source of the user's own plug-ins."""
    files = []
    for config in configs.values():
        if isinstance(config.get("deepspeed"), str):
            files.append(Path(config["deepspeed"]))
        for plugin in config.get("plugins") or []:
            names = str(plugin).split(".")[:-1]
            packages = [Path(*names[:count]) / "__init__.py" for count in range(1, len(names))]
            for folder in (Path(entry) for entry in sys.path if "site-packages" not in entry):
                files += [folder / file for file in (*packages, Path(*names).with_suffix(".py"))]
                files += (folder / Path(*names)).glob("*.py") if names else []
    return sorted({file for file in files if file.is_file()})


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to `ask`. Imports Axolotl; `tool_queries` calls it in a process of its own."""
    refused = {}
    for name, config in question["configs"].items():
        if error := _error(config, question["capabilities"]):
            key = _without(config, question["capabilities"])
            refused[name] = {
                "message": _message(error, config),
                "key": key,
                "package": isinstance(error, ImportError),
                "lasting": isinstance(error, ValueError | NotImplementedError),
            }
    return refused


def _error(config: dict[str, Any], capabilities: dict[str, Any]) -> Exception | None:
    """Return the error that axolotl.cli.config.load_cfg raises for these capabilities, or None."""
    from axolotl.cli.config import gpu_capabilities, prepare_plugins
    from axolotl.integrations.base import PluginManager
    from axolotl.utils.config import validate_config
    from axolotl.utils.dict import DictDefault

    here, environment = gpu_capabilities()
    before, plugins = dict(os.environ), PluginManager.get_instance().plugins
    plugins.clear()  # those of the previous config
    try:
        loaded = DictDefault(copy.deepcopy(config))
        prepare_plugins(loaded)
        if lacking := [name for name in config.get("plugins") or [] if name not in plugins]:
            return ImportError(f"plugins: {lacking[0]} cannot be imported, and Axolotl would train without it")
        validate_config(loaded, capabilities=here | capabilities, env_capabilities=environment)
    except Exception as error:
        return error
    finally:
        os.environ.clear()
        os.environ.update(before)
    return None


def _without(config: dict[str, Any], capabilities: dict[str, Any]) -> str | None:
    """Return the key without which Axolotl accepts the config: the last one if there are several, None if there is none."""
    for key in reversed(config):
        if key not in _KEPT and config[key] is not None and not _error(config | {key: None}, capabilities):
            return key
    return None


def _message(error: Exception, config: dict[str, Any]) -> str:
    """Return Axolotl's own messages, each with its key, without what pydantic adds (the input, links)."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        named = "" if isinstance(error, ValueError | NotImplementedError | ImportError) else f"{type(error).__name__}: "
        return f"{named}{' '.join(str(error).split())}"
    faults: dict[str, str] = {}
    for fault in error.errors(include_url=False, include_input=False):
        key = _key(fault["loc"], config)
        text = " ".join(_NOISE.sub("", fault["msg"]).split())
        faults.setdefault(key, f"{key}: {text}" if key not in text else text)
    if error.title.endswith("Dataset"):
        faults = {key: f"datasets: {text}" for key, text in faults.items()}
    more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    return "; ".join([*faults.values()][:_SHOWN]) + more


def _key(location: tuple[str | int, ...], config: Any) -> str:
    """Return the dotted key of a pydantic location, which also names the alternatives of a union."""
    parts: list[str] = []
    for part in location:
        inside = part in config if isinstance(config, dict) else isinstance(config, list) and isinstance(part, int)
        if inside or not parts:
            parts.append(str(part))
            config = config[part] if inside else None
    return ".".join(parts)
