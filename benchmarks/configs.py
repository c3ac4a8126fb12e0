"""Compare our check of keys and types with Axolotl's own on complete Axolotl configs: print a table, and a line for each
file that the two judge differently.

    python benchmarks/configs.py FOLDER

Every *.yml and *.yaml below FOLDER is one config; its model and data need not be here. Axolotl's verdict is its own
`validate_config` for one H100, after the file's plug-ins are registered. A key that Axolotl accepts but never reads counts
as refused: pydantic names such keys when extra keys are forbidden. Our verdict is `config.check` with the schema of the
section `train`; keys that conf/ always sets get the default's values if the file does not have them. We refuse an optimizer
of null on purpose: `validate_config` accepts it, but transformers stops at it once the data are prepared.
"""

import collections
import copy
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tunetrail import UserError
from tunetrail.config import check, schema

ROOT = Path(__file__).parents[1]
# What Axolotl would find on one H100.
GPU = {"bf16": True, "fp8": True, "tf32": True, "n_gpu": 1, "compute_capability": "sm_90"}
BOTH, NEITHER = "accepted by both", "refused by both"
WRONGLY, LATE = (
    "wrongly refused: Axolotl accepts it",
    "left to Axolotl's own validation: Axolotl refuses it, the check does not",
)

Judge = Callable[[dict[str, Any]], str]


def ours(known: schema.Schema, always: dict[str, Any]) -> Judge:
    """Return our verdict on a config: the error, or "". `known` is the schema of params.yaml, `always` has the keys
    that conf/ sets."""
    section = {"properties": {"train": known["properties"]["train"]}, "$defs": known.get("$defs", {})}

    def judge(values: dict[str, Any]) -> str:
        try:
            check.check({"train": always | values}, section)
        except UserError as error:
            return str(error)
        return ""

    return judge


def axolotls() -> Judge:
    """Return Axolotl's verdict in the same way. Importing Axolotl takes half a minute."""
    import torch
    from axolotl.cli.config import prepare_plugins
    from axolotl.integrations.base import PluginManager
    from axolotl.integrations.config import merge_input_args
    from axolotl.utils.config import validate_config
    from axolotl.utils.dict import DictDefault

    logging.disable()
    plugins = PluginManager.get_instance().plugins
    versions = {"torch_version": torch.__version__.partition("+")[0]}

    def judge(values: dict[str, Any]) -> str:
        plugins.clear()
        try:
            cfg = DictDefault(copy.deepcopy(values))
            prepare_plugins(cfg)
            validate_config(cfg, capabilities=GPU, env_capabilities=versions)
        except Exception as error:  # Axolotl's validators raise several kinds of exceptions
            return f"{type(error).__name__}: {error}"
        own = {"capabilities": GPU, "env_capabilities": versions}
        ignored = sorted(_ignored(values, own, merge_input_args()[0]))
        return f"ignores {', '.join(ignored)}" if ignored else ""

    return judge


def _ignored(values: dict[str, Any], own: dict[str, Any], config_class: Any) -> set[str]:
    """Return the keys of a config that have a value but no field in `config_class` or in Axolotl's dataset classes."""
    from axolotl.utils.schemas import datasets
    from pydantic import ValidationError

    def extra(cls: Any, part: dict[str, Any]) -> set[tuple[Any, ...]]:
        try:
            cls.model_validate(copy.deepcopy(part), extra="forbid")
        except ValidationError as error:
            wrong = [fault for fault in error.errors() if fault["type"] == "extra_forbidden" and fault["input"] is not None]
            return {fault["loc"] for fault in wrong if fault["loc"][0] in part}  # a validator adds keys, too
        return set()

    names = {".".join(map(str, location)) for location in extra(config_class, values | own) if "datasets" not in location[0]}
    kinds = (datasets.SFTDataset, datasets.DPODataset, datasets.KTODataset, datasets.StepwiseSupervisedDataset)
    for key in ("datasets", "test_datasets"):  # a union: pydantic names the keys of every other kind as well
        for number, part in enumerate(values.get(key) or []):
            fewest = min((extra(kind, part) for kind in kinds), key=len)
            names |= {".".join(map(str, (key, number, *location))) for location in fewest}
    return names


def compare(files: list[Path], ours: Judge, theirs: Judge) -> tuple[dict[str, int], list[str]]:
    """Return the number of files by who accepts them, and a line with the reasons for each that is judged differently."""
    counts, lines = collections.Counter(dict.fromkeys((BOTH, NEITHER, WRONGLY, LATE), 0)), []
    for file in files:
        values = yaml.safe_load(file.read_text())
        mine, axolotl = ours(values), theirs(values)
        verdict = {(True, True): NEITHER, (False, False): BOTH, (True, False): WRONGLY}.get(
            (bool(mine), bool(axolotl)), LATE
        )
        counts[verdict] += 1
        if verdict in (WRONGLY, LATE):
            lines.append(f"{verdict.partition(':')[0]}: {file}: {' '.join((mine or axolotl).split())}")
    return dict(counts), lines


def main() -> None:
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    files = sorted(file for file in folder.rglob("*") if file.suffix in (".yml", ".yaml"))
    known = schema.params()
    default = yaml.safe_load((ROOT / "params.yaml").read_text())["train"]
    always = {key: default[key] for key in known["properties"]["train"]["required"]}
    counts, lines = compare(files, ours(known, always), axolotls())
    print("\n".join(lines))
    print(f"\n{len(files)} configs")
    for verdict, count in counts.items():
        print(f"{count:5}  {verdict}")


if __name__ == "__main__":
    main()
