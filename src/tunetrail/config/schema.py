"""The installed tools' own definitions of their config keys -> one JSON Schema of params.yaml.

    python -m tunetrail.config.schema        prints it

Axolotl silently ignores a misspelled key, so every key is compared with Axolotl's own config class. The imports take half a
minute, so `tool_queries` caches the result.
"""

import json
from typing import Any

from tunetrail import tool_queries
from tunetrail.config import axolotl_schema

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
COUNT: Schema = {"type": "integer", "minimum": 1}
SEED: Schema = {"type": "integer", "minimum": 0}  # numpy takes no other


def closed(required: bool = True, **properties: Schema) -> Schema:
    """Return the schema of an object with these keys and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required else [],
        "additionalProperties": False,
    }


def nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def params() -> Schema:
    """Return the schema of params.yaml, from the cache if it is there."""
    return tool_queries.ask("config.schema", None, "asking Axolotl, transformers and lm-eval which keys they know")()


def answer(_: Any) -> Schema:
    """Make the schema of params.yaml from each tool's keys and ours. Imports all of the tools."""
    axolotl, definitions = _axolotl()
    template = closed(with_input=TEXT, without_input=TEXT)
    hub = nullable(closed(repo_id=TEXT, filename=TEXT, revision={"type": "string", "pattern": "^[0-9a-f]{40}$"}))
    schema = closed(
        name=TEXT,
        seed=SEED,
        accelerate=_accelerate(),
        template=template,
        plan=closed(
            device=nullable(TEXT),
            num_gpus=COUNT,
            price=nullable({"type": "number", "minimum": 0}),
            mfu=nullable({"type": "number", "exclusiveMinimum": 0, "maximum": 1}),
            allow={"type": "array", "items": TEXT},
            default_device=nullable(TEXT),
        ),
        # What conf/ copies from another section is checked there.
        fetch=closed(instructions=closed(path={}, hub={}), prompts=closed(path={}, hub={}), generate={}),
        prepare=closed(
            path=TEXT,
            hub=hub,
            field=nullable(TEXT),
            generate=nullable(closed(rows=COUNT, documents=COUNT, prompts=COUNT, seed=SEED)),
            license=nullable(TEXT),
            expected_rows=nullable(COUNT),
            empty={"enum": ["refuse", "drop"]},
            take=nullable(COUNT),
            validation_rows={"anyOf": [COUNT, {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}]},
            seed=SEED,
        ),
        contract=closed(template={}, sequence_len={}, excess_length_strategy={}, expected_rows={}, license={}, ngram=COUNT),
        base=closed(
            path=TEXT,
            base_model=TEXT,
            revision_of_model=nullable(TEXT),
            license=nullable(TEXT),
            template=template,
            make=nullable(closed(vocab_size=COUNT, llama=_llama(), train=axolotl)),
        ),
        train=axolotl,
        evaluate=_evaluate(template, hub),
        report=closed(stop={"type": "string", "minLength": 1}, samples=COUNT, resamples=COUNT, seed=SEED),
    )
    schema["properties"]["prepare"]["required"].remove("field")  # a file of an earlier version has none
    return schema | {"$defs": definitions}


def _axolotl() -> tuple[Schema, Schema]:
    """Return the schema of an Axolotl config, stricter than Axolotl where Axolotl would fail only after the start."""
    from axolotl.utils.schemas.enums import CustomSupportedOptimizers
    from transformers.trainer_utils import SchedulerType
    from transformers.training_args import OptimizerNames

    schema, definitions = axolotl_schema.make()
    # Axolotl accepts any number, and text as learning rate; at 0 or below it trains nothing, or fails later.
    schema["properties"]["num_epochs"] = {"type": "number", "exclusiveMinimum": 0, "maximum": 10_000}
    schema["properties"]["learning_rate"] = {"type": "number", "exclusiveMinimum": 0}
    whole = ("micro_batch_size", "sequence_len", "gradient_accumulation_steps")
    schema["properties"] |= dict.fromkeys(whole, COUNT) | {"seed": nullable(SEED)}
    counts = ("max_steps", "sample_packing_group_size", "sample_packing_bin_size")
    counts += ("context_parallel_size", "tensor_parallel_size")
    schema["properties"] |= dict.fromkeys(counts, nullable(COUNT))
    schema["required"] = sorted({*schema.get("required", ()), *whole, "num_epochs", "learning_rate", "optimizer"})
    # It accepts any text for these, and fails at an unknown one only when the data are tokenised.
    optimizers = {option.value for option in (*OptimizerNames, *CustomSupportedOptimizers)}
    schedulers = {
        "one_cycle",
        "rex",
        *(option.value for option in SchedulerType),
    }  # two of Axolotl, in core/builders/base.py
    schema["properties"]["optimizer"] = {"enum": sorted(optimizers)}
    schema["properties"]["lr_scheduler"] = {"enum": [*sorted(schedulers), None]}
    return schema | {"lenient": True}, definitions  # as pydantic is; see `canonical`


def _evaluate(template: Schema, hub: Schema) -> Schema:
    import dataclasses
    import inspect

    from lm_eval.config.evaluate_config import EvaluatorConfig
    from lm_eval.config.task import TaskConfig
    from lm_eval.models.huggingface import HFLM
    from pydantic import TypeAdapter
    from transformers import GenerationConfig

    run = TypeAdapter(EvaluatorConfig).json_schema()["properties"]
    axolotl_schema.close(run)
    for key in ("config", "tasks", "include_path", "output_path", "predict_only", "use_cache"):
        del run[key]  # the stage sets them
    backend = {name: {} for name in inspect.signature(HFLM.__init__).parameters} | {"attn_implementation": TEXT}
    run |= {
        "model": {"enum": ["hf"]},
        "model_args": closed(False, **{k: v for k, v in backend.items() if k not in ("self", "kwargs", "pretrained")}),
        "batch_size": {"anyOf": [COUNT, {"type": "string", "pattern": "^auto(:[0-9]+)?$"}]},  # "auto" is documented
        "limit": nullable({"type": "number", "exclusiveMinimum": 0}),
        "log_samples": {"const": True},  # the report recounts the scores from them
    }
    generation = {key: _like(value) for key, value in GenerationConfig().to_dict().items()}
    # lm-eval computes these from max_gen_toks; beside it they would silently win.
    generation = {key: value for key, value in generation.items() if key not in ("max_new_tokens", "max_length")}
    generation |= {"until": {"type": "array", "items": TEXT}, "max_gen_toks": COUNT, "do_sample": {"type": "boolean"}}
    task = {field.name: {} for field in dataclasses.fields(TaskConfig)}
    task |= {"task": TEXT, "generation_kwargs": closed(False, **generation) | {"required": ["max_gen_toks"]}}
    task_schema = closed(False, **task) | {"required": ["task", "generation_kwargs"]}
    schema = closed(False, path=TEXT, hub=hub, template=template, task=task_schema, **run)
    return schema | {"required": ["path", "hub", "template", "task", "model", "model_args", "batch_size"]}


def _like(default: Any) -> Schema:
    """Return the schema of a key by its default: a number, a flag or text; without a default, anything."""
    kinds = {bool: {"type": "boolean"}, int: {"type": "number"}, float: {"type": "number"}, str: TEXT}
    return nullable(kinds[type(default)]) if type(default) in kinds else {}


def _llama() -> Schema:
    from transformers import LlamaConfig

    defaults = LlamaConfig().to_dict()
    sizes = {key: COUNT for key, value in defaults.items() if type(value) is int and "token_id" not in key}
    return closed(False, **({key: _like(value) for key, value in defaults.items()} | sizes))


def _accelerate() -> Schema:
    from accelerate.commands.launch import launch_command_parser

    kinds = {int: nullable(INTEGER), float: nullable({"type": "number"})}
    options = {
        option[2:]: {"type": "boolean"} if action.nargs == 0 else kinds.get(action.type, {})
        for action in launch_command_parser()._actions
        for option in action.option_strings
        if option.startswith("--")
    }
    return closed(False, **options)


if __name__ == "__main__":
    print(json.dumps(answer(None)))
