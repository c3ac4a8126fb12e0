"""The composed values of a run -> how they differ from those of its experiment."""

from pathlib import Path
from typing import Any

from tunetrail.config import check, compose
from tunetrail.config.overrides import parse

_NOT_SET = "not set"


def from_experiment(root: Path, values: dict[str, Any], overrides: list[str] | None) -> tuple[str, list[Any] | None]:
    """Return the name of the experiment, and [keys, value, default] for each composed value that differs from it.

    Keys that share their last name and their values (`seed`, `train.seed`) are one entry; a value that the experiment leaves
    to the user is "not set". `overrides` are those typed; if they are not known (None), the experiment is the one with the
    run's name, or else the default of conf/config.yaml. The list is None if the experiment cannot be composed.
    """
    if overrides is None:
        known = (root / "conf" / "experiment" / f"{values['name']}.yaml").is_file()
        overrides = [f"experiment={values['name']}"] if known else []
    try:
        chosen = [override.input_line for override in parse(overrides) if override.key_or_group == "experiment"]
        composed = compose.compose(root, chosen, hydra=True)
        experiment = composed.hydra.runtime.choices.get("experiment") or "null"
        defaults = check.flatten(_defaults(composed))
    except compose.errors():
        return values["name"], None
    actual = check.flatten(values)
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for key in sorted(actual.keys() | defaults.keys(), key=lambda key: (key.count("."), key)):
        value, default = str(actual.get(key, _NOT_SET)), str(defaults.get(key, _NOT_SET))
        if value != default:
            name = next(part for part in reversed(key.split(".")) if not part.isdigit())
            grouped.setdefault((name, value, default), []).append(key)
    return experiment, [[keys, value, default] for (_, value, default), keys in grouped.items()]


def _defaults(composed: Any) -> dict[str, Any]:
    """Return the plain values of a composed config without Hydra's section. A value that must be given (`???`), and whatever
    is taken from it, is "not set"."""
    from omegaconf import OmegaConf

    own = OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])
    for key, value in check.flatten(OmegaConf.to_container(own)).items():
        if value == "???":
            OmegaConf.update(own, key, _NOT_SET)
    return OmegaConf.to_container(own, resolve=True)
