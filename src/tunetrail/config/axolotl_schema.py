"""Axolotl's own config class -> a JSON Schema of every key that Axolotl reads, under each of its names.

Pydantic's own schema of the class has one name for each field, and lacks names that Axolotl's validators replace. A property
may have two keys besides JSON Schema's, which JSON Schema's validators ignore:

    same_as   the current name of the field, of which this is an older or a second name
    retired   the installed version does not read it; configs of 2023 and 2024 have it, as null

`schema` makes it stricter than Axolotl. Whether values go together is for Axolotl to check.
"""

import contextlib
import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]

# Names that a validator of Axolotl replaces first (axolotl/utils/schemas/validation.py and config.py).
_RENAMED = {
    "evaluation_strategy": "eval_strategy",
    "noisy_embedding_alpha": "neftune_noise_alpha",
    "pretrain_multipack_buffer_size": "streaming_multipack_buffer_size",
    "dataset_processes": "dataset_num_proc",
    "sequence_parallel_degree": "context_parallel_size",
}
_RENAMED_OF_PLUGINS = {"liger_swiglu": "liger_glu_activation"}
# Keys of Axolotl's template and documentation of 2023 and 2024 for which its class has no field.
_RETIRED = (
    *("adam_eps", "base_model_ignore_patterns", "collator_pad_to_longest", "debug", "eval_table_max_new_tokens"),
    *("flash_attn_fuse_qkv", "gptq_disable_exllama", "gptq_groupsize", "gptq_model_v1", "landmark_attention", "load_4bit"),
    *("log_sweep_max_lr", "log_sweep_min_lr", "lora_out_dir", "model_config_overrides", "push_to_hub_model_id"),
    *("relora_anneal_steps", "relora_steps", "relora_warmup_steps", "sample_packing_seq_len_multiplier", "xpos_rope"),
)
# Keys that Axolotl reads only to refuse them if they are switched on.
_SWITCHED_OFF = tuple(
    f"unsloth_{part}" for part in ("cross_entropy_loss", "lora_mlp", "lora_qkv", "lora_o", "rms_norm", "rope")
)


def make() -> tuple[Schema, Schema]:
    """Return the schema of a config, and the definitions that it refers to. Importing Axolotl takes half a minute."""
    from axolotl.utils.schemas.config import AxolotlInputConfig

    schema = AxolotlInputConfig.model_json_schema(schema_generator=_generator())
    definitions = schema.pop("$defs")
    _accept_prefixed_names(definitions["FSDPConfig"])
    for old, name in _RENAMED.items():
        _add_name(schema, old, name, schema["properties"].get(old))
    schema["properties"] |= {name: {"enum": [None], "retired": True} for name in _RETIRED}
    schema["properties"] |= {name: {"enum": [None, False], "retired": True} for name in _SWITCHED_OFF}
    # A plug-in's keys have an effect only if `plugins` names it; otherwise Axolotl silently ignores them.
    base = set(schema["properties"])
    for names, arguments in _plugins():
        extra = arguments.model_json_schema(schema_generator=_generator())
        definitions |= extra.pop("$defs", {})
        for old, name in _RENAMED_OF_PLUGINS.items():
            if name in extra["properties"]:
                _add_name(extra, old, name)
        own = {name: part for name, part in extra["properties"].items() if name not in base}
        schema["properties"] |= own
        named = {"required": ["plugins"], "properties": {"plugins": {"type": "array", "contains": {"enum": names}}}}
        for name in own:
            unless_null = {"if": {"properties": {name: {"type": "null"}}}, "else": named}
            _add_condition(schema, name, extra.get("dependentSchemas", {}).get(name, {}) | unless_null)
    close(schema)
    close(definitions)
    names = ("type", "properties", "required", "additionalProperties", "dependentSchemas")
    return {name: schema[name] for name in names if name in schema}, definitions


def close(schema: Any) -> None:
    """Forbid unknown keys wherever keys are declared, and drop the tools' descriptions and defaults."""
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
            schema.setdefault("additionalProperties", False)
        for key in ("description", "title", "default"):
            if isinstance(schema.get(key), str | int | float | bool | None):
                schema.pop(key, None)
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        close(part)


def _generator() -> type:
    from pydantic.json_schema import GenerateJsonSchema
    from pydantic_core import PydanticSerializationError

    class Generator(GenerateJsonSchema):
        """Axolotl's own `config-schema` fails at fields of type torch.dtype; here they take anything."""

        def enum_schema(self, schema):
            try:
                return super().enum_schema(schema)
            except PydanticSerializationError:
                return {}

        def handle_invalid_for_json_schema(self, schema, error_info):
            return {}

        def encode_default(self, default):
            return None

        def model_schema(self, schema):
            result = super().model_schema(schema)
            for name, field in schema["cls"].model_fields.items():
                names = _names(name, field, schema["cls"].model_config)
                main = next((name for name in names if name in result.get("properties", {})), None)
                for other in names:
                    if main and other != main:
                        _add_name(result, other, main)
            return result

    return Generator


def _names(name: str, field: Any, settings: dict[str, Any]) -> list[str]:
    """Return the names by which pydantic takes a field."""
    alias = field.validation_alias or field.alias
    names = [choice for choice in getattr(alias, "choices", [alias]) if isinstance(choice, str)]
    by_name = not names or settings.get("populate_by_name") or settings.get("validate_by_name")
    return [*names, name] if by_name and name not in names else names


def _add_name(schema: Schema, other: str, name: str, part: Schema | None = None) -> None:
    """Accept the field `name` under an `other` name too, but not under both at once."""
    schema["properties"][other] = (part or schema["properties"][name]) | {"same_as": name}
    _add_condition(schema, other, {"not": {"required": [name]}})


def _add_condition(schema: Schema, name: str, condition: Schema) -> None:
    schema.setdefault("dependentSchemas", {})[name] = condition


def _accept_prefixed_names(fsdp: Schema) -> None:
    """Accept the fields of `fsdp_config` under their names in Accelerate's files, whose prefix Axolotl drops."""
    for name in list(fsdp["properties"]):
        if not name.startswith("fsdp_") and f"fsdp_{name}" not in fsdp["properties"]:
            _add_name(fsdp, f"fsdp_{name}", name)


def _plugins() -> Iterator[tuple[list[str], Any]]:
    """Yield the plug-ins of Axolotl that have keys: the names by which `plugins` takes one, and the class of its keys."""
    from axolotl import integrations
    from axolotl.integrations.base import BasePlugin

    for package in pkgutil.iter_modules(integrations.__path__, f"{integrations.__name__}."):
        with contextlib.suppress(ImportError):  # what it integrates is not installed
            for name, plugin in list(vars(importlib.import_module(package.name)).items()):
                if isinstance(plugin, type) and issubclass(plugin, BasePlugin) and (path := plugin().get_input_args()):
                    module, _, arguments = path.rpartition(".")
                    names = dict.fromkeys(f"{prefix}.{name}" for prefix in (package.name, plugin.__module__))
                    yield list(names), getattr(importlib.import_module(module), arguments)
